"""The prior: its likelihoods are those of what it draws, its file is checked like a model's, and a
training that was stopped ends as one that was not."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from ravecodec import installing, zoo
from ravecodec.cli import main
from ravecodec.errors import InputError, ModelError, OutputError, UsageError
from ravecodec.models.package import Model, load_package
from ravecodec.models.prior import Prior, load_prior, prior_package
from ravecodec.models.prior_file import PriorConfig, read_prior_header, weight_shapes
from ravecodec.train import prior as stage
from ravecodec.train.pieces import Piece, split_pieces
from ravecodec.train.prior import PriorRecipe, bits_per_frame, crops, train_prior

Music = Callable[..., np.ndarray]

SMALL = PriorConfig(dims=6, step_index=0, hidden=8, units=12, groups=3, mixture=2)
QUICK = PriorRecipe(
    frames=300, seconds=5, batch=2, steps=6, validate_every=3, hidden=8, units=12, groups=3
)


def make_prior(config: PriorConfig = SMALL, seed: int = 0) -> Prior:
    """A random prior whose distributions are wide, narrow, shifted, and depend on everything."""
    torch.manual_seed(seed)
    prior = Prior(config, np.linspace(1, 0.5, config.dims), np.linspace(3, 0.5, config.dims))
    with torch.no_grad():
        for weight in prior.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return prior.eval()


def test_weights_are_those_that_a_file_must_have() -> None:
    for config in (SMALL, PriorConfig(5, groups=1), PriorConfig(334, -4), PriorConfig(7, groups=7)):
        prior = Prior(config, np.ones(config.dims), np.ones(config.dims))
        found = {name: tuple(value.shape) for name, value in prior.state_dict().items()}
        assert found == weight_shapes(config)
        for bounds, total in ((config.bounds(), config.dims), (config.unit_bounds(), config.units)):
            assert bounds[0] == 0 and bounds[-1] == total and len(bounds) == config.groups + 1
            assert all(a < b for a, b in pairwise(bounds))


def test_probabilities_of_an_axis_sum_to_one() -> None:
    prior = make_prior()
    values = torch.arange(-400, 401)
    past = torch.randint(-4, 5, (2, SMALL.dims))
    for axis in range(SMALL.dims):
        frame = torch.randint(-4, 5, (SMALL.dims,)).repeat(len(values), 1)
        frame[:, axis] = values
        symbols = torch.cat([past.expand(len(values), -1, -1), frame[:, None]], dim=1)
        with torch.no_grad():
            bits = prior.code_lengths(symbols)[:, -1, axis]
        assert math.isclose(float((2.0 ** -bits.double()).sum()), 1, abs_tol=2e-4)


def test_a_symbol_is_judged_by_those_before_it_alone() -> None:
    """By changing one symbol: earlier frames, and in its frame the groups up to its own, keep their
    bits; later ones and later groups do not."""
    prior, bounds = make_prior(), SMALL.bounds()
    symbols = torch.randint(-3, 4, (1, 5, SMALL.dims))
    with torch.no_grad():
        before = prior.code_lengths(symbols)[0]
        for group in range(SMALL.groups):
            changed = symbols.clone()
            changed[0, 2, bounds[group]] += 2
            moved = prior.code_lengths(changed)[0] != before
            own = torch.arange(SMALL.dims) == bounds[group]
            assert not moved[:2].any()
            assert not moved[2, : bounds[group + 1]][~own[: bounds[group + 1]]].any()
            assert moved[2, bounds[group]]
            assert moved[2, bounds[group + 1] :].all()
            assert moved[3:].any(1).all()


def test_draws_follow_the_likelihoods() -> None:
    """The oracle is `code_lengths`: shares of 500 draws of a frame against its probabilities, and
    the mean bits of draws against the entropy that they estimate."""
    prior = make_prior()
    past = torch.randint(-3, 4, (4, SMALL.dims))
    heard = prior.listen(past)
    drawn = torch.stack([prior.draw(heard, seed, 7)[0] for seed in range(500)]).long()
    with torch.no_grad():
        both = torch.cat([past.expand(len(drawn), -1, -1), drawn[:, None]], dim=1)
        bits = prior.code_lengths(both)[:, -1]
        first = torch.arange(-60, 61)
        frame = torch.zeros(len(first), SMALL.dims, dtype=torch.long)
        frame[:, 0] = first
        every = torch.cat([past.expand(len(first), -1, -1), frame[:, None]], dim=1)
        share = 2.0 ** -prior.code_lengths(every)[:, -1, 0].double()
    counts = (drawn[:, :1] == first).double().mean(0)
    assert float((counts - share).abs().max()) < 0.1
    entropy = -(share * share.clamp(min=1e-30).log2()).sum()
    assert abs(float(bits[:, 0].mean() - entropy)) < 0.3


def test_drawing_is_reproducible_and_remembers() -> None:
    """Frame by frame gives what listening to the whole gives; seed, position and past count."""
    prior = make_prior()
    past = torch.randint(-3, 4, (3, SMALL.dims))
    heard, frames = prior.listen(past), []
    for position in range(4):
        symbols, heard = prior.draw(heard, 5, position)
        frames.append(symbols)
    again = prior.listen(torch.cat([past, torch.stack(frames).long()]))
    assert torch.equal(again.state, heard.state) and torch.equal(again.before, heard.before)
    start = prior.listen(past)
    draws = [prior.draw(start, *at)[0] for at in ((5, 0), (5, 0), (6, 0), (5, 1))]
    assert torch.equal(draws[0], draws[1]) and torch.equal(draws[0], frames[0])
    assert not torch.equal(draws[0], draws[2]) and not torch.equal(draws[0], draws[3])


def test_temperature_narrows_and_widens() -> None:
    prior = make_prior()
    heard = prior.listen(torch.zeros(0, SMALL.dims))
    spread = []
    for temperature in (0.0, 0.5, 1.0, 2.0):
        drawn = [prior.draw(heard, seed, 0, temperature)[0][0] for seed in range(60)]
        spread.append(float(torch.stack(drawn).std()))
    assert spread[0] == 0 and spread == sorted(spread) and spread[3] > 2 * spread[1]


# ---- its file ------------------------------------------------------------------------------------


def write_prior(path: Path, model: Model, seed: int = 0, dims: int | None = None) -> None:
    """A random prior for a model."""
    dims = dims or model.coding.dims
    config = replace(SMALL, dims=dims, step_index=model.coding.step_index)
    torch.manual_seed(seed)
    base = model.coding.base
    step = base[:dims] if dims <= len(base) else np.ones(dims)
    prior = Prior(config, step, 3 * step)
    path.write_bytes(prior_package(prior, model.name, model.id, {"licence": "CC0-1.0"}))


def test_a_file_holds_the_prior_and_is_the_same_for_the_same_one(tmp_path: Path) -> None:
    prior = make_prior()
    path = tmp_path / "a.prior.safetensors"
    path.write_bytes(prior_package(prior, "a", b"12345678", {"x": 1}))
    assert path.read_bytes() == prior_package(make_prior(), "a", b"12345678", {"x": 1})
    found = load_prior(path)
    assert (found.header.model_id, found.header.config) == (b"12345678", SMALL)
    assert found.header.info == {"x": 1} and found.header.size == path.stat().st_size
    for name, value in prior.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], value.half().float())
    assert torch.equal(found.network.step, prior.step)
    with torch.no_grad():
        prior.out.bias[0] = 1e6
    with pytest.raises(ModelError, match="diverged"):
        prior_package(prior, "a", b"12345678", {})


def rewrite(path: Path, change: Callable[[dict], None], body: bytes | None = None) -> None:
    """The file with another header, and perhaps another body."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    rest = data[8 + size :] if body is None else body
    path.write_bytes(len(text).to_bytes(8, "little") + text + rest)


def test_a_hostile_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.prior.safetensors"
    good = prior_package(make_prior(), "a", b"12345678", {})

    def config(**values: object) -> Callable[[dict], None]:
        def change(header: dict) -> None:
            found = json.loads(header["__metadata__"]["config"]) | values
            header["__metadata__"]["config"] = json.dumps(found)

        return change

    def meta(**values: str) -> Callable[[dict], None]:
        return lambda header: header["__metadata__"].update(values)

    def lacks(header: dict) -> None:
        del header["step"]

    def wrong_shape(header: dict) -> None:
        header["step"]["shape"] = [2, 3]

    cases = [
        (config(hidden=1 << 40), "hidden of the prior"),
        (config(dims=0), "dims of the prior"),
        (config(dims=True), "dims of the prior"),
        (config(hidden=9), "expected F16 or F32"),
        (config(groups=7), "7 groups"),
        (config(step_index=10**6), "step_index of the prior"),
        (config(odd=1), "other keys"),
        (meta(config="[]"), "expected an object"),
        (meta(config="{"), "not JSON"),
        (meta(format="ravecodec-model"), "expected ravecodec-prior"),
        (meta(version="2"), "expected ravecodec-prior version 1"),
        (meta(model="xyz"), "16 hex digits"),
        (meta(model="ab"), "16 hex digits"),
        (meta(info="7"), "expected an object"),
        (meta(name=""), "printable"),
        (lacks, "overlap or leave gaps|partial|lacks"),
        (wrong_shape, "expected F32"),
    ]
    for change, sentence in cases:
        path.write_bytes(good)
        rewrite(path, change)
        with pytest.raises(ModelError, match=sentence) as caught:
            read_prior_header(path)
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    for cut in (b"", good[:7], good[:100], good[:-1], good + b"x"):
        path.write_bytes(cut)
        with pytest.raises(ModelError):
            read_prior_header(path)
    with pytest.raises(ModelError, match="no such prior"):
        read_prior_header(tmp_path / "none.prior.safetensors")


def test_values_that_no_prior_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.prior.safetensors"
    for name, value in (("step", 0.0), ("deviation", -1.0), ("out", math.nan), ("step", math.inf)):
        prior = make_prior()
        with torch.no_grad():
            (prior.out.bias if name == "out" else getattr(prior, name))[0] = 1.0
        data = prior_package(prior, "a", b"12345678", {})
        path.write_bytes(data)
        header = read_prior_header(path)
        tensor = header.tensors["weights.out.bias" if name == "out" else name]
        kind = "<f2" if tensor.dtype == "F16" else "<f4"
        changed = bytearray(data)
        changed[tensor.start : tensor.start + int(kind[2])] = np.array(value, kind).tobytes()
        path.write_bytes(changed)
        with pytest.raises(ModelError, match=name):
            load_prior(path)


# ---- where it is found ---------------------------------------------------------------------------


def test_a_prior_is_found_beside_its_model_and_is_no_model(
    installed: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "zoo"
    folder.mkdir()
    for name in ("default", "paper"):
        (folder / f"{name}.safetensors").write_bytes(
            (model_folder / f"{name}.safetensors").read_bytes()
        )
    monkeypatch.setenv("RAVECODEC_MODELS", str(folder))
    entry, paper = zoo.find_model("default"), zoo.find_model("paper")
    with pytest.raises(ModelError, match="has no prior"):
        zoo.find_prior(entry)
    beside = folder / "default.prior.safetensors"
    write_prior(beside, load_package(entry.path))
    assert zoo.find_prior(entry).path == beside
    assert [found.name for found in zoo.scan_models()[0]] == ["default", "paper"]
    assert not zoo.scan_models()[1]
    shown = CliRunner().invoke(main, ["model", "list"]).stdout.splitlines()
    assert "prior" in shown[0] and "prior" not in shown[1].replace(str(folder), "")

    (folder / "paper.prior.safetensors").write_bytes(beside.read_bytes())
    with pytest.raises(ModelError, match="is a prior for model"):
        zoo.find_prior(paper)
    with pytest.raises(ModelError, match="is a prior for model"):
        zoo.find_prior(paper, beside)
    beside.unlink()
    assert zoo.find_prior(entry).path.name == "paper.prior.safetensors"  # by id
    write_prior(beside, load_package(entry.path), dims=entry.config.latent + 1)
    with pytest.raises(ModelError, match="axes"):
        zoo.find_prior(entry)


def test_add_takes_the_prior_along(
    installed: Path, model_folder: Path, tmp_path: Path, stereo_model: Model
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    path, prior = run / "mine.safetensors", run / "mine.prior.safetensors"
    path.write_bytes((model_folder / "default.safetensors").read_bytes())
    write_prior(prior, stereo_model)
    entry = installing.add_model(path, "ours")
    target = entry.path.with_name("ours.prior.safetensors")
    assert target.read_bytes() == prior.read_bytes()
    assert installing.add_model(path, "ours").path == entry.path  # what is there is no error

    write_prior(prior, stereo_model, seed=1)
    with pytest.raises(OutputError):
        installing.add_prior(prior, entry)
    done = CliRunner().invoke(main, ["model", "add", str(prior), "-f"])
    assert done.exit_code == 0, done.stderr
    with pytest.raises(UsageError, match="prior at its end"):
        installing.add_model(path, "a.prior")
    done = CliRunner().invoke(main, ["model", "add", str(prior), "--name", "x"])
    assert done.exit_code == 2 and "named after its model" in done.stderr
    stranger = tmp_path / "x.prior.safetensors"
    stranger.write_bytes(prior_package(make_prior(), "x", b"12345678", {}))
    with pytest.raises(ModelError, match="not installed"):
        installing.add_prior(stranger)


# ---- training ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, music: Music) -> Path:
    """Eleven pieces, and a file that is none."""
    folder = tmp_path_factory.mktemp("records")
    for seed in range(11):
        soundfile.write(folder / f"{seed}.wav", music(48_000 * 2, 2, 48_000, seed).T, 48_000)
    (folder / "none.wav").write_bytes(b"RIFF")
    return folder


def test_training_can_be_stopped_and_equal_ones_give_equal_files(
    records: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, said = model_folder / "default.safetensors", []
    first = train_prior(records, model, tmp_path / "a", recipe=QUICK, report=said.append)
    assert first == tmp_path / "a" / "default.prior.safetensors"
    assert any("none.wav" in line for line in said) and any("under the tables" in s for s in said)
    header = read_prior_header(first)
    assert header.info["files"] == 10 and header.info["held_out_files"] == 1
    assert header.info["licence"] == "CC0-1.0"
    assert header.model_id == zoo.read_entry(model).id
    assert header.config.dims == load_package(model).coding.dims

    learn = stage._Learning.learn

    def stopping(self: stage._Learning, batch: tuple) -> float:
        if self.step == 4:
            raise KeyboardInterrupt
        bits = learn(self, batch)
        return bits

    monkeypatch.setattr(stage._Learning, "learn", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_prior(records, model, tmp_path / "b", recipe=QUICK, checkpoint_seconds=0)
    assert not (tmp_path / "b" / "default.prior.safetensors").exists()
    monkeypatch.setattr(stage._Learning, "learn", learn)
    second = train_prior(records, model, tmp_path / "b", recipe=QUICK)
    assert second.read_bytes() == first.read_bytes()

    stamp = first.stat().st_mtime_ns
    train_prior(records, model, tmp_path / "a", recipe=QUICK)
    assert first.stat().st_mtime_ns == stamp
    with pytest.raises(UsageError, match="other settings"):
        train_prior(records, model, tmp_path / "a", recipe=replace(QUICK, seed=1))
    checkpoint = tmp_path / "b" / "prior" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    second.unlink()
    with pytest.raises(ModelError, match="checkpoint"):
        train_prior(records, model, tmp_path / "b", recipe=QUICK)


def test_train_refuses_what_it_cannot_mean(
    records: Path, model_folder: Path, tmp_path: Path
) -> None:
    model = str(model_folder / "default.safetensors")
    call = ["train", str(records), "--stage", "prior", "--out", str(tmp_path / "run")]
    cases = [
        ([], "--init-from"),
        (["--init-from", model, "--cache", "x"], "--cache"),
        (["--init-from", model, "--recipe", "paper"], "--recipe"),
        (["--init-from", model, "--steps1", "3"], "--steps1"),
    ]
    for more, sentence in cases:
        done = CliRunner().invoke(main, [*call, *more])
        assert done.exit_code == 2 and sentence in done.stderr
    done = CliRunner().invoke(
        main, ["train", str(records), "--out", str(tmp_path / "run"), "--steps-prior", "3"]
    )
    assert done.exit_code == 2 and "--stage prior" in done.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError):
        train_prior(empty, model, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_learnt_is_worth_bits() -> None:
    """On symbols that repeat, a few steps bring the bits of others down."""
    pieces = [np.tile(np.array([[3, 0, 1], [-3, 1, 0]], np.int32), (15, 1)) for _ in range(3)]
    config = PriorConfig(3, hidden=8, units=9, groups=3)
    torch.manual_seed(0)
    prior = Prior(config, np.ones(3), np.full(3, 2.0))
    recipe = replace(QUICK, steps=40, rate=2e-2, dropout=0.0)
    learning = stage._Learning(prior, recipe, None)
    before = bits_per_frame(prior, pieces)
    for step in range(40):
        learning.learn(crops(pieces, 20, 2, 0, step))
    assert bits_per_frame(prior, pieces) < 0.5 * before


def test_files_are_held_out_whole_or_their_ends() -> None:
    def piece(name: str, frames: int = 40) -> Piece:
        return Piece(name, np.arange(frames, dtype=np.float32)[:, None])

    many = [piece(f"{i}.wav") for i in range(20)] + [piece("empty.wav", 0)]
    training, held = split_pieces(many)
    assert len(training) == 18 and len(held) == 2
    assert not {p.path for p in training} & {p.path for p in held}
    assert {p.path for p in split_pieces(many[::-1])[1]} == {p.path for p in held}
    training, held = split_pieces([piece("a.wav"), piece("b.wav")])
    for before, behind in zip(training, held, strict=True):
        joined = np.concatenate([before.values, behind.values])[:, 0]
        assert len(behind.values) == 4 and np.array_equal(joined, np.arange(40))
