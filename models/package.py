"""The model package: one .safetensors file that is a model.

Weights (float16 by default, weight norm and batch norm folded), the latent space, the quantiser's
units and the row indices of the entropy tables; config, provenance and licence as JSON in the
file's metadata. No pickle. Its identity is the SHA-256 of the file: two files with one bit of
difference are two models.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval, parametrize
from torch.overrides import TorchFunctionMode

from ravecodec.errors import ModelError
from ravecodec.models.blocks import arrange
from ravecodec.models.coding import Coding, Prediction, Rung
from ravecodec.models.config import PACKAGE_FORMAT, PACKAGE_VERSION, PREDICTION_SINCE, ModelConfig
from ravecodec.models.header import LATENT_ARRAYS, WEIGHTS, Header, read_header
from ravecodec.models.latent import USUAL, LatentSpace
from ravecodec.models.rave import Rave


@dataclass(frozen=True, repr=False)
class Model:
    """A loaded package: network in eval mode, latent space, coding, and who it is."""

    network: Rave
    latent: LatentSpace
    coding: Coding
    name: str
    digest: bytes  # SHA-256 of the file
    info: Mapping[str, Any] = field(default_factory=dict)  # provenance, licence, credits
    path: Path | None = None  # of the file; None for a decoder that came with a stream

    @property
    def config(self) -> ModelConfig:
        return self.network.config

    @property
    def id(self) -> bytes:
        """The 8 bytes that a stream header carries."""
        return self.digest[:8]

    def __repr__(self) -> str:
        config = self.config
        form = f"{config.sample_rate} Hz, channels={config.channels}, latent={config.latent}"
        return f"<Model {self.name} ({self.id.hex()}), {form}>"


def fold(network: Rave) -> Rave:
    """A copy in eval mode whose weight norm is multiplied out and whose batch norms are merged into
    the convolutions before them."""
    return _fold(copy.deepcopy(network))


def _fold(network: Rave) -> Rave:
    """The same, in place."""
    network.eval()
    for module in network.modules():
        if parametrize.is_parametrized(module):
            _own_class(module)
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name)
    for sequence in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(sequence) - 1):
            conv, norm = sequence[i], sequence[i + 1]
            if isinstance(conv, nn.Conv1d) and isinstance(norm, nn.BatchNorm1d):
                sequence[i] = fuse_conv_bn_eval(conv, norm)
                sequence[i + 1] = nn.Identity()
    return network


class _Uninitialised(TorchFunctionMode):
    """Networks built within have arbitrary weights: to draw random ones takes a good part of the
    time of loading a model.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function in (nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_):
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **(kwargs or {}))


def _own_class(module: nn.Module) -> None:
    """Removing a parametrisation edits the class that torch made for the module, which a copy
    shares with the original: without a class of its own, folding the copy would break the original.
    """
    shared = type(module)
    module.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))


def load_weights(network: Rave, weights: Mapping[str, Tensor]) -> None:
    """Puts folded weights into an unfolded network: the inverse of `fold`, up to the statistics
    that were merged away.

    Weight norm takes the weight as its direction and length; batch norms become the identity (in
    eval mode). ModelError if they do not fit.
    """
    named = dict(network.named_modules())
    for module in named.values():
        if isinstance(module, nn.BatchNorm1d):
            module.reset_parameters()
            nn.init.constant_(module.running_var, 1 - module.eps)  # type: ignore[arg-type]
    owned = {name for name, _ in fold(network).named_parameters()}
    if owned != set(weights):
        odd = sorted(owned ^ set(weights))
        raise ModelError(
            f"weights do not fit this model config: {len(odd)} names differ, the first is {odd[0]}"
        )
    with torch.no_grad():
        for name, value in weights.items():
            owner, _, leaf = name.rpartition(".")
            target = getattr(named[owner], leaf)
            if target.shape != value.shape:
                shapes = f"{name} is {list(value.shape)}, expected {list(target.shape)}"
                raise ModelError(f"weights do not fit this model config: {shapes}")
            if parametrize.is_parametrized(named[owner], leaf):
                setattr(named[owner], leaf, value.to(target))
            else:
                target.copy_(value)


def save_package(
    path: Path,
    network: Rave,
    latent: LatentSpace,
    coding: Coding,
    name: str,
    info: Mapping[str, Any],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Writes a package; `info` is any JSON: provenance, licence, credits, numbers.

    ModelError if a weight is not finite in `dtype`: such a model could only make silence or noise.
    """
    tensors: dict[str, Tensor] = {}
    for key, value in fold(network).state_dict().items():
        tensors[WEIGHTS + key] = value.to(dtype).contiguous()
        if not tensors[WEIGHTS + key].isfinite().all():
            raise ModelError(
                f"{path}: weight {key} is not finite as {dtype}; the training run has diverged"
            )
    for key in LATENT_ARRAYS:
        tensors[f"latent.{key}"] = torch.from_numpy(
            np.ascontiguousarray(getattr(latent, key), dtype=np.float32)
        )
    tensors["coding.base"] = torch.from_numpy(np.asarray(coding.base, dtype=np.float64))
    tensors["coding.shapes"] = torch.from_numpy(np.asarray(coding.shapes, dtype=np.uint8))
    tensors["coding.scales"] = torch.from_numpy(np.asarray(coding.scales, dtype=np.int16))
    for key, array in coding.prediction.arrays().items() if coding.prediction else ():
        tensors[key] = torch.from_numpy(np.array(array))
    point: dict[str, Any] = {
        "dims": coding.dims,
        "step_index": coding.step_index,
        "fill": coding.fill,
    }
    point |= {"effort": coding.effort}
    point |= {
        "frames": latent.frames,
        "usual": [float(np.float32(value)) for value in latent.usual],
    }
    if coding.ladder:
        point |= {"ladder": [list(astuple(rung)) for rung in coding.ladder]}
    metadata = {
        "format": PACKAGE_FORMAT,
        "version": str(PREDICTION_SINCE if coding.prediction else PACKAGE_VERSION),
        "name": name,
        "config": network.config.to_json(),
        "point": json.dumps(point),
        "info": json.dumps(dict(info)),
    }
    path.write_bytes(canonical(save(tensors, metadata)))


def package_with(
    path: Path,
    info: Mapping[str, Any],
    *,
    prediction: Prediction | None = None,
    ladder: Sequence[Rung] | None = None,
) -> bytes:
    """The bytes of a package that is this one with more info, and with another prediction or
    ladder, where one is given; weights stay bit for bit.

    ModelError for a package of version 1, whose weights are read differently.
    """
    header = read_header(path)
    if header.version == 1:
        raise ModelError(f"{path}: is of version 1, expected a later one")
    arrays = header.arrays(header.tensors) | (prediction.arrays() if prediction else {})
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()
    }
    point = dict(header.point)
    if ladder is not None:
        point["ladder"] = [list(astuple(rung)) for rung in ladder]
    metadata = {
        "format": PACKAGE_FORMAT,
        "version": str(PREDICTION_SINCE if prediction else header.version),
        "name": header.name,
        "config": header.config.to_json(),
        "point": json.dumps(point),
        "info": json.dumps(dict(header.info) | dict(info)),
    }
    return canonical(save(tensors, metadata))


def canonical(data: bytes) -> bytes:
    """The same safetensors file with a sorted header, so that the same model is always the same
    bytes and identity.
    """
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(
        json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")
    ).encode()
    header += b" " * (-len(header) % 8)  # tensors stay aligned
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def load_package(path: Path, device: torch.device | str = "cpu") -> Model:
    """Reads a package; ModelError if it is missing, damaged, of another version, or larger than a
    model may be.
    """
    return replace(_load(read_header(path), device), path=path)


def load_decoder(header: Header, device: torch.device | str = "cpu") -> Model:
    """A decoder that came with a stream, from the header that `read_decoder` checked; ModelError as
    for `load_package`. It has no encoder, and its digest is what it says it is.
    """
    return _load(header, device)


def _load(header: Header, device: torch.device | str) -> Model:
    digest = header.digest()
    arrays = header.arrays(header.tensors)
    weights = {
        name.removeprefix(WEIGHTS): torch.from_numpy(arrays.pop(name)).float()
        for name in _weights(header)
    }
    if header.version == 1:
        _upgrade(header.config, weights)
    network = _build(header, weights).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    arrange(network)
    axes = {
        key: arrays.get(f"latent.{key}", np.zeros((0, 0))).astype(np.float64)
        for key in LATENT_ARRAYS
    }
    point = header.point
    latent = LatentSpace(**axes, frames=point["frames"], usual=tuple(point.get("usual", USUAL)))
    coding = Coding(
        base=arrays["coding.base"],
        shapes=arrays["coding.shapes"],
        scales=arrays["coding.scales"],
        dims=point["dims"],
        step_index=point["step_index"],
        fill=point["fill"],
        effort=point.get("effort", 0),
        prediction=Prediction.of(arrays),
        ladder=tuple(Rung(*row) for row in point.get("ladder", [])),
    )
    return Model(network, latent, coding, header.name, digest, header.info)


def _weights(header: Header) -> list[str]:
    return [name for name in header.tensors if name.startswith(WEIGHTS)]


def _build(header: Header, weights: dict[str, Tensor]) -> Rave:
    """The folded network with these weights, which it takes over without a copy; without an encoder
    where the header is a decoder's.
    """
    with _Uninitialised():
        network = Rave(header.config)
        if header.decoder_of is not None:
            for name in ("encoder", "refiner"):
                setattr(network, name, None)
                weights = {key: w for key, w in weights.items() if not key.startswith(name)}
        network = _fold(network)
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False)


def _upgrade(config: ModelConfig, weights: dict[str, Tensor]) -> None:
    """Version 1 had no balance latents (now of no effect), and shaped stereo noise as mid and side:
    left, right and side say the same with left = right = mid."""
    if config.channels == 2 and config.encoder == "spectrogram":
        weights["encoder.balance"] = torch.zeros(1)
    if config.channels == 2 and config.generator == "istft":
        weights["generator.balance"] = torch.zeros(1)
    for key in ("generator.noise_head.weight", "generator.noise_head.bias"):
        if config.channels == 2 and config.generator == "istft" and key in weights:
            mid, side = weights[key].chunk(2)
            weights[key] = torch.cat([mid, mid, side])
