"""Cutting and joining streams keeps every symbol, and says what does not fit; `info --frames` lists
chunks.
"""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from ravecodec import concat_files, cut_file, decode, inspect_file, verify_file
from ravecodec.bitstream import StaticModel, StreamReader, StreamWriter
from ravecodec.cli import main
from ravecodec.codec import stream_info
from ravecodec.errors import FormatError, ModelError, UsageError
from ravecodec.models.package import Model

pytestmark = pytest.mark.usefixtures("installed")

SIZES = (5, 8, 1, 9, 7, 10, 6, 4)  # frames of chunks
STEPS = (0, 0, 8, 0, 24, 0, 0, 8)
SILENT = 4  # the chunk that is
FRAMES = sum(SIZES)
RATE = 48_000
Symbols = NDArray[np.int32]


def tables(model: Model) -> StaticModel:
    return StaticModel(model.coding.shapes, model.coding.scales)


def write(
    path: Path, model: Model, draw: int = 0, meta: dict[str, Any] | None = None, **info: Any
) -> Path:
    """A stream of random symbols in chunks of all kinds, with a lead-in."""
    rng = np.random.default_rng(draw)
    with path.open("wb") as file:
        header = replace(stream_info(model, RATE, 2, 6, 0), **info)
        writer = StreamWriter(file, header, tables(model))
        if meta:
            writer.write_meta(meta)
        writer.write_lead_in(rng.integers(-2, 3, (1, header.dims)))
        for number, (size, step) in enumerate(zip(SIZES, STEPS, strict=True)):
            dims = header.dims - (number == 2)
            writer.write_chunk(rng.integers(-2, 3, (size, dims)), step, silent=number == SILENT)
        writer.close((FRAMES * 2048 - 100) * header.sample_rate // RATE)
    return path


def told(path: Path, model: Model) -> tuple[list[tuple[Any, ...]], tuple[Any, ...] | None, int]:
    """What a decoder is told of each frame (symbols, step, silence), of the lead-in, and the
    total.
    """
    reader, static = StreamReader(io.BytesIO(path.read_bytes())), tables(model)
    frames = [
        (*map(int, row), chunk.step_index, chunk.silent)
        for chunk in reader.chunks()
        for row in reader.decode_chunk(chunk, static)
    ]
    lead = reader.lead_in
    before = (
        (*map(int, reader.decode_chunk(lead, static)[0]), lead.step_index, False) if lead else None
    )
    assert reader.total_samples is not None
    return frames, before, reader.total_samples


def test_a_cut_has_the_symbols_of_its_frames(stereo_model: Model, tmp_path: Path) -> None:
    meta = {"tags": {"title": "x"}}
    source = write(tmp_path / "x.rvc", stereo_model, meta=meta, draw=1)
    frames, lead, total = told(source, stereo_model)
    for start, end in [
        (0, None),
        (0, 10**9),
        (1, 2),
        (2047, 2049),
        (2048 * 5, 2048 * 13),
        (30_000, 70_001),
        (total - 1, None),
    ]:
        out = tmp_path / f"{start}-{end}.rvc"
        done = cut_file(source, out, start=f"{start}s", end=None if end is None else f"{end}s")
        first, stop = start // 2048, total if end is None else min(end, total)
        found, before, samples = told(out, stereo_model)
        assert found == frames[first : -(-stop // 2048)]
        assert samples == stop - first * 2048
        before_first = frames[first - 1][:-1] if first else None
        assert (
            before == lead
            if before_first is None
            else before is not None and before[:-1] == before_first
        )
        assert done.start == first * 2048
        assert verify_file(out).ok
        inspected = inspect_file(out)
        assert inspected.meta == meta
        assert done.stream == inspected.stream
        assert decode(out.read_bytes(), stereo_model)[0].shape == (2, samples)


def test_parts_joined_are_the_whole(stereo_model: Model, tmp_path: Path) -> None:
    source = write(tmp_path / "x.rvc", stereo_model)
    borders = [0, 2048 * 3, 2048 * 13, 2048 * 32, None]
    parts = [tmp_path / f"{number}.rvc" for number in range(4)]
    for part, start, end in zip(parts, borders, borders[1:], strict=False):
        cut_file(source, part, start=f"{start}s", end=end and f"{end}s")
    concat_files(parts, tmp_path / "joined.rvc")
    assert told(tmp_path / "joined.rvc", stereo_model) == told(source, stereo_model)
    whole, joined = (
        decode(path.read_bytes(), stereo_model)[0] for path in (source, tmp_path / "joined.rvc")
    )
    assert np.array_equal(whole, joined)


def test_a_cut_at_another_rate_begins_at_most_a_frame_early(
    stereo_model: Model, tmp_path: Path
) -> None:
    source = write(tmp_path / "x.rvc", stereo_model, sample_rate=44_100)
    frames, _, _ = told(source, stereo_model)
    done = cut_file(source, tmp_path / "y.rvc", start="0:00.75", end=1.25)
    found, _, samples = told(tmp_path / "y.rvc", stereo_model)
    assert found == frames[17:30]  # 0.75 * 48000 / 2048 = 17.6, 1.25: 29.3
    assert 0 <= 33_075 - done.start <= 2048 * 44_100 / 48_000 + 1
    assert done.start + samples == 55_125


def test_joined_streams_follow_each_other(stereo_model: Model, tmp_path: Path) -> None:
    metas = [
        {"tags": {"album": "a", "title": "1"}, "key": 1},
        {"tags": {"album": "a", "title": "2"}, "key": 1},
    ]
    first = write(tmp_path / "a.rvc", stereo_model, 1, metas[0], seed=7)
    second = write(tmp_path / "b.rvc", stereo_model, 2, metas[1], dims=8)
    done = concat_files([first, second], tmp_path / "c.rvc")
    (one, lead, _), (two, _, total), (both, before, samples) = (
        told(path, stereo_model) for path in (first, second, tmp_path / "c.rvc")
    )
    assert both == one + two
    assert before == lead
    assert samples == FRAMES * 2048 + total == done.stream.samples
    (tmp_path / "chained.rvc").write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(FormatError, match=r"a second stream begins .*concat"):
        inspect_file(tmp_path / "chained.rvc")
    concat_files([tmp_path / "chained.rvc"], tmp_path / "d.rvc")
    assert (tmp_path / "d.rvc").read_bytes() == (tmp_path / "c.rvc").read_bytes()
    found = inspect_file(tmp_path / "c.rvc")
    assert found.meta == {"tags": {"album": "a"}, "key": 1}
    assert (found.seed, found.stream.dims, found.stream.chunks) == (7, 8, 2 * len(SIZES))
    assert verify_file(tmp_path / "c.rvc").ok


def test_joining_needs_no_model_and_cutting_says_so(
    stereo_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "x.rvc", stereo_model)
    monkeypatch.setenv("RAVECODEC_MODELS", str(tmp_path / "none"))
    concat_files([source, source], tmp_path / "two.rvc")
    cut_file(source, tmp_path / "head.rvc", end=f"{2048 * 13}s")
    with pytest.raises(
        ModelError, match=r"x\.rvc: model .* is needed to code anew what is cut through"
    ):
        cut_file(source, tmp_path / "part.rvc", end=f"{2048 * 12}s")
    assert not (tmp_path / "part.rvc").exists()
    monkeypatch.undo()
    frames, _, _ = told(source, stereo_model)
    assert told(tmp_path / "two.rvc", stereo_model)[0] == frames * 2
    assert told(tmp_path / "head.rvc", stereo_model)[0] == frames[:13]


def test_what_does_not_fit_is_refused_by_name(stereo_model: Model, tmp_path: Path) -> None:
    source = write(tmp_path / "x.rvc", stereo_model)
    for field, value, words in [
        ("model_id", bytes(8), "model is 0000000000000000"),
        ("sample_rate", 44_100, "rate is 44100"),
        ("channels", 1, "number of channels is 1"),
    ]:
        other = write(tmp_path / f"{field}.rvc", stereo_model, **{field: value})
        with pytest.raises(FormatError, match=rf"{field}\.rvc: its {words}, that of .*x\.rvc is "):
            concat_files([source, other], tmp_path / "out.rvc")
    with pytest.raises(UsageError, match="expected files"):
        concat_files([source, "-"], tmp_path / "out.rvc")
    with pytest.raises(UsageError, match="expected more up to the start"):
        cut_file(source, tmp_path / "out.rvc", start=3)
    assert not (tmp_path / "out.rvc").exists()


def test_commands(stereo_model: Model, tmp_path: Path) -> None:
    source, part, joined = (str(tmp_path / name) for name in ("x.rvc", "part.rvc", "joined.rvc"))
    write(Path(source), stereo_model)
    done = CliRunner().invoke(main, ["cut", source, part, "--start", "10240s", "--duration", "0.5"])
    assert (
        done.exit_code,
        "0.500 s of" in done.stderr,
        "0.213 s of the original" in done.stderr,
    ) == (0, True, True)
    assert CliRunner().invoke(main, ["cut", source, part]).exit_code == 8
    done = CliRunner().invoke(main, ["concat", source, part, joined, "--json"])
    assert json.loads(done.stdout)["stream"]["frames"] == FRAMES + 12
    assert CliRunner().invoke(main, ["concat", source]).exit_code == 2
    assert CliRunner().invoke(main, ["concat", source, part, source, "-f"]).exit_code == 2


def test_frames_are_listed(stereo_model: Model, tmp_path: Path) -> None:
    source = write(tmp_path / "x.rvc", stereo_model)
    listed = json.loads(
        CliRunner().invoke(main, ["info", str(source), "--frames", "--json"]).stdout
    )["chunks"]
    assert [(chunk["frame"], chunk["frames"]) for chunk in listed] == [(-1, 1)] + [
        (sum(SIZES[:number]), size) for number, size in enumerate(SIZES)
    ]
    data = source.read_bytes()
    for chunk in listed:
        assert data[chunk["offset"] : chunk["offset"] + 2] == b"\xc7\x9a"
        assert abs(chunk["seconds"] - chunk["frame"] * 2048 / 48_000) < 1e-9
    assert [chunk["silent"] for chunk in listed].index(True) == SILENT + 1
    assert [chunk["step_index"] for chunk in listed[1:]] == list(STEPS)
    plain = CliRunner().invoke(main, ["info", str(source), "--frames"]).stdout.splitlines()
    assert len(plain) == len(
        CliRunner().invoke(main, ["info", str(source)]).stdout.splitlines()
    ) + 1 + len(listed)
    assert any(line.endswith("silent") for line in plain)
    assert (
        json.loads(CliRunner().invoke(main, ["info", str(source), "--json"]).stdout)["chunks"]
        is None
    )
