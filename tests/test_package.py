"""The model package: folding changes nothing that is heard, a file comes back as saved, damage is a
ModelError.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ravecodec.bitstream import fit_static
from ravecodec.errors import ModelError
from ravecodec.models.blocks import TimeConv, TimeUp
from ravecodec.models.clock import Clock
from ravecodec.models.config import ModelConfig
from ravecodec.models.latent import LatentSpace, analyse
from ravecodec.models.package import Coding, fold, load_package, load_weights, save_package
from ravecodec.models.rave import Rave

torch.set_num_threads(1)

CONFIGS = {
    "paper": ModelConfig(channels=2, capacity=4, latent=16),
    "default": ModelConfig(
        channels=2, encoder="spectrogram", generator="istft", capacity=4, latent=16, lines=128
    ),
}
INFO = {"licence": "CC0-1.0", "credits": "J. Müller ♪", "hours_of_audio": 1.5}
Parts = tuple[Rave, LatentSpace, Coding]


def sound(config: ModelConfig, frames: int = 4, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return 0.2 * torch.randn(1, config.channels, frames * config.hop, generator=random)


def trained_a_little(config: ModelConfig, seed: int = 0) -> Rave:
    """A network whose batch norms have statistics and weights of their own, and whose weight norms
    are not 1.
    """
    torch.manual_seed(seed)
    network = Rave(config).train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d):
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.uniform_(module.bias, -0.5, 0.5)
        for i in range(3):
            network.encode(sound(config, seed=i))
        for name, parameter in network.named_parameters():
            if name.endswith("weight.original0"):
                parameter *= 1.3
    return network.eval()


def outputs(network: Rave, seed: int = 5) -> list[Tensor]:
    with torch.no_grad():
        mean, spread = network.encode(sound(network.config, seed=seed))
        return [mean, spread, network.decode(mean, Clock.at(3, seed=1))]


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    """Largest difference, relative to the largest value."""
    return max(float((x - y).abs().max() / y.abs().max()) for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module", params=CONFIGS)
def parts(request: pytest.FixtureRequest) -> Parts:
    network = trained_a_little(CONFIGS[request.param])
    random = np.random.default_rng(0)
    means = random.normal(size=(200, 16)) * np.linspace(2, 0.01, 16)
    latent = analyse(means, 0.1 + random.random((200, 16)))
    base = np.sqrt(12) * latent.spread
    static = fit_static(np.rint(latent.project(means) / base).astype(np.int32))
    return network, latent, Coding(base, static.shapes, static.scales, 9, -3, True)


@pytest.fixture
def package(parts: Parts, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_package(path, *parts, "nightingale", INFO)
    return path


def test_folding_changes_nothing_that_is_heard(parts: Parts) -> None:
    network = parts[0]
    folded = fold(network)
    assert distance(outputs(folded), outputs(network)) <= 1e-5
    assert not any(
        isinstance(m, nn.BatchNorm1d) or parametrize.is_parametrized(m) for m in folded.modules()
    )
    assert not folded.training


def test_folding_leaves_the_network_as_it_was(parts: Parts) -> None:
    network = parts[0]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fold(network.train())
    assert network.training
    network.eval()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_package_comes_back(parts: Parts, tmp_path: Path, dtype: torch.dtype) -> None:
    network, latent, coding = parts
    path = tmp_path / "model.safetensors"
    save_package(path, network, latent, coding, "nightingale", INFO, dtype)
    model = load_package(path)
    assert model.config == network.config
    assert (model.name, dict(model.info)) == ("nightingale", INFO)
    for field in dataclasses.fields(LatentSpace):
        stored = np.asarray(getattr(latent, field.name), dtype=np.float32)
        assert np.array_equal(getattr(model.latent, field.name), stored), field.name
    for field in dataclasses.fields(Coding):
        assert np.array_equal(getattr(model.coding, field.name), getattr(coding, field.name)), (
            field.name
        )
    assert model.coding.shapes.dtype == np.uint8 and model.coding.scales.dtype == np.int16
    assert distance(outputs(model.network), outputs(network)) <= (
        1e-5 if dtype == torch.float32 else 0.02
    )
    assert not model.network.training
    assert not any(p.requires_grad for p in model.network.parameters())


def test_loaded_weights_lie_as_their_convolution_wants_them(package: Path) -> None:
    for module in load_package(package).network.modules():
        if isinstance(module, TimeConv | TimeUp):
            assert module.weight[:, :, None].is_contiguous(memory_format=torch.channels_last)


def test_half_precision_halves_the_file(parts: Parts, package: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.safetensors"
    save_package(whole, *parts, "nightingale", INFO, torch.float32)
    weights = sum(p.numel() for p in fold(parts[0]).parameters())
    assert whole.stat().st_size - package.stat().st_size == pytest.approx(2 * weights, abs=200)


def test_identity_is_the_hash_of_the_file(parts: Parts, package: Path, tmp_path: Path) -> None:
    model = load_package(package)
    assert model.digest == hashlib.sha256(package.read_bytes()).digest()
    assert model.id == model.digest[:8]
    other = tmp_path / "other.safetensors"
    save_package(other, *parts, "nightingale", INFO | {"note": "x"})
    assert load_package(other).id != model.id
    save_package(other, *parts, "nightingale", INFO)
    assert load_package(other).id == model.id  # the same model packed again is the same file


def test_nothing_in_it_is_a_pickle(package: Path) -> None:
    data = package.read_bytes()
    size = int.from_bytes(data[:8], "little")
    # a safetensors file: length, JSON, raw arrays and nothing else.
    header = json.loads(data[8 : 8 + size])
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    assert 8 + size + max(ends) == len(data)
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} <= {
        "F16",
        "F32",
        "F64",
        "U8",
        "I16",
    }


def test_load_weights_is_the_inverse_of_fold(parts: Parts) -> None:
    network = parts[0]
    weights = fold(network).state_dict()
    other = trained_a_little(network.config, seed=9)
    assert distance(outputs(other), outputs(network)) > 1e-2
    load_weights(other, weights)
    assert distance(outputs(other), outputs(network)) <= 1e-5
    again = fold(other).state_dict()
    assert all(torch.allclose(again[key], value, atol=1e-6) for key, value in weights.items())


def test_load_weights_takes_half_precision(parts: Parts) -> None:
    other = trained_a_little(parts[0].config, seed=9)
    load_weights(other, {key: value.half() for key, value in fold(parts[0]).state_dict().items()})
    assert all(p.dtype == torch.float32 for p in other.parameters())
    assert distance(outputs(other), outputs(parts[0])) <= 0.02


def test_loaded_weights_can_be_trained(parts: Parts) -> None:
    network = trained_a_little(parts[0].config, seed=9)
    load_weights(network, fold(parts[0]).state_dict())
    network.train()
    mean, spread = network.encode(sound(network.config))
    (network.decode(mean, Clock.at(0)).square().sum() + spread.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_weights_of_another_network_are_refused() -> None:
    networks = {name: fold(Rave(config)) for name, config in CONFIGS.items()}
    with pytest.raises(ModelError, match="names differ"):
        load_weights(Rave(CONFIGS["paper"]), networks["default"].state_dict())
    wide = dataclasses.replace(CONFIGS["paper"], capacity=8)
    with pytest.raises(ModelError, match=r"is \[4, .*expected \[8, "):
        load_weights(Rave(wide), networks["paper"].state_dict())


def test_weights_that_are_not_finite_are_refused(parts: Parts, tmp_path: Path) -> None:
    for value in (float("nan"), 1e6):  # 1e6 is no float16
        network = trained_a_little(parts[0].config)
        with torch.no_grad():
            next(p for p in network.encoder.parameters()).fill_(value)
        with pytest.raises(ModelError, match="not finite"):
            save_package(tmp_path / "bad.safetensors", network, *parts[1:], "bad", {})
    assert not (tmp_path / "bad.safetensors").exists()


def test_a_missing_file_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        load_package(tmp_path / "nothing.safetensors")


def test_truncation_anywhere_is_a_model_error(package: Path) -> None:
    data = package.read_bytes()
    for size in [0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1]:
        package.write_bytes(data[:size])
        with pytest.raises(ModelError, match=r"model\.safetensors"):
            load_package(package)


def test_a_damaged_header_is_a_model_error_or_the_same_model(package: Path) -> None:
    """Bytes of the JSON header are replaced one by one; what still loads is a model, never a
    traceback.
    """
    data = package.read_bytes()
    size = int.from_bytes(data[:8], "little")
    for place in range(0, 8 + size, 211):
        package.write_bytes(data[:place] + bytes([data[place] ^ 0x04]) + data[place + 1 :])
        try:
            model = load_package(package)
        except ModelError as error:
            assert "model.safetensors" in str(error) or "model config" in str(error)
        else:
            assert model.digest != hashlib.sha256(data).digest()


def tampered(package: Path, change: Callable[[dict[str, Tensor], dict[str, str]], object]) -> None:
    with safe_open(package, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    change(tensors, metadata)
    save_file(tensors, package, metadata)


def _point(metadata: dict[str, str], **values: object) -> None:
    metadata["point"] = json.dumps(json.loads(metadata["point"]) | values)


def _config(metadata: dict[str, str], **values: object) -> None:
    metadata["config"] = json.dumps(json.loads(metadata["config"]) | values)


TAMPERINGS: dict[str, Callable[[dict[str, Tensor], dict[str, str]], object]] = {
    "no metadata": lambda tensors, metadata: metadata.clear(),
    "other format": lambda tensors, metadata: metadata.update(format="onnx"),
    "newer version": lambda tensors, metadata: metadata.update(version="5"),
    "no config": lambda tensors, metadata: metadata.pop("config"),
    "config is no JSON": lambda tensors, metadata: metadata.update(config="{"),
    "config is a list": lambda tensors, metadata: metadata.update(config="[]"),
    "unknown key": lambda tensors, metadata: _config(metadata, zoom=1),
    "wrong type": lambda tensors, metadata: _config(metadata, ratios=4),
    "other size": lambda tensors, metadata: _config(metadata, capacity=6),
    "point is no JSON": lambda tensors, metadata: metadata.update(point="?"),
    "point is a list": lambda tensors, metadata: metadata.update(point="[]"),
    "no dims": lambda tensors, metadata: metadata.update(point="{}"),
    "dims is 0": lambda tensors, metadata: _point(metadata, dims=0),
    "dims is 17": lambda tensors, metadata: _point(metadata, dims=17),
    "dims is text": lambda tensors, metadata: _point(metadata, dims="nine"),
    "info is no JSON": lambda tensors, metadata: metadata.update(info="-"),
    "no latent mean": lambda tensors, metadata: tensors.pop("latent.mean"),
    "short basis": lambda tensors, metadata: tensors.update(
        {"latent.analysis": torch.eye(15).double()}
    ),
    "short steps": lambda tensors, metadata: tensors.update(
        {"coding.base": torch.ones(15).double()}
    ),
    "short tables": lambda tensors, metadata: tensors.update(
        {"coding.scales": torch.zeros(3, dtype=torch.int16)}
    ),
    "no weights": lambda tensors, metadata: [
        tensors.pop(k) for k in list(tensors) if k.startswith("weights.")
    ],
    "one weight more": lambda tensors, metadata: tensors.update({"weights.zoom": torch.zeros(1)}),
}


def test_what_does_not_fit_together_is_a_model_error(
    package: Path, subtests: pytest.Subtests
) -> None:
    whole = package.read_bytes()
    for name in TAMPERINGS:
        with subtests.test(name=name):
            package.write_bytes(whole)
            load_package(package)
            tampered(package, TAMPERINGS[name])
            with pytest.raises(ModelError):
                load_package(package)


def test_version_1_shaped_stereo_noise_as_mid_and_side(package: Path) -> None:
    if load_package(package).config.generator != "istft":
        pytest.skip("version 2 changed the other generator")
    left, _, side = load_package(package).network.generator.noise_head.weight.chunk(3)

    def older(tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        metadata["version"] = "1"
        for name in ("weights.generator.noise_head.weight", "weights.generator.noise_head.bias"):
            left, _, side = tensors[name].chunk(3)
            tensors[name] = torch.cat([left, side])
        del tensors["weights.encoder.balance"], tensors["weights.generator.balance"]

    tampered(package, older)
    network = load_package(package).network
    assert torch.equal(network.generator.noise_head.weight, torch.cat([left, left, side]))
    assert network.encoder.balance.item() == network.generator.balance.item() == 0
