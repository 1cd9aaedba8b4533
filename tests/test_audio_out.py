"""Audio out: exact integers, counted clipping, the same file for any cutting, whole files or
none.
"""

import itertools
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from ravecodec.audio import open_input, open_output
from ravecodec.audio.output import SOFT_KNEE, empty_flac, soft_clip, to_integers
from ravecodec.errors import OutputError, UsageError

LINEAR = ["wav", "aiff", "aif", "caf", "w64", "rf64"]
CASES = [(s, t) for s in LINEAR for t in ("PCM_16", "PCM_24", "FLOAT")]
CASES += [("flac", "PCM_16"), ("flac", "PCM_24"), ("ogg", None)]


def noise(samples: int, channels: int = 2, peak: float = 0.9) -> NDArray[np.float32]:
    return (
        np.random.default_rng(samples).uniform(-peak, peak, (channels, samples)).astype(np.float32)
    )


def write(path: Path, signal: NDArray[np.float32], size: int = 1000, rate: int = 44100, **kwargs):  # type: ignore[no-untyped-def]
    with open_output(path, rate, len(signal), **kwargs) as target:
        for start in range(0, signal.shape[1], size):
            target.write(signal[:, start : start + size])
    return target


def read(path: Path) -> NDArray[np.float32]:
    with open_input(path) as source:
        return np.concatenate(
            [np.zeros((source.channels, 0), np.float32), *source.blocks(5000)], axis=1
        )


def test_formats(tmp_path: Path, subtests: pytest.Subtests) -> None:
    sizes = [(0, 2), (1, 1), (777, 1), (40_001, 2)]
    for (suffix, subtype), (samples, channels) in itertools.product(CASES, sizes):
        with subtests.test(suffix=suffix, subtype=subtype, samples=samples, channels=channels):
            path, signal = tmp_path / f"x.{suffix}", noise(samples, channels)
            target = write(path, signal, subtype=subtype)
            assert (target.frames, target.clipped) == (samples, 0)
            back = read(path)
            assert back.shape == signal.shape
            steps = {"PCM_16": 2.0**-15, "PCM_24": 2.0**-23, "FLOAT": 0.0}
            if subtype is not None and samples:
                assert np.abs(back - signal).max() <= steps[subtype] / 2
                assert soundfile.info(path).subtype == subtype
            assert [p.name for p in tmp_path.iterdir()] == [path.name]
            path.unlink()


def test_integers_survive_reading_and_writing(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """Every 16-bit value, extremes included, comes back as itself."""
    for suffix, subtype in [("wav", "PCM_16"), ("wav", "PCM_24"), ("flac", "PCM_24")]:
        with subtests.test(suffix=suffix, subtype=subtype):
            signal = (np.arange(-32768, 32768).reshape(2, -1) / 32768).astype(np.float32)
            write(tmp_path / f"x.{suffix}", signal, subtype=subtype, force=True)
            assert np.array_equal(read(tmp_path / f"x.{suffix}"), signal)


def test_any_cutting_gives_the_same_file(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for suffix, soft in itertools.product(["wav", "flac", "aiff"], [False, True]):
        with subtests.test(suffix=suffix, soft=soft):
            signal = noise(40_001, peak=1.3)
            files = []
            for size in (1, 999, 16_384, 50_000):
                path = tmp_path / f"{size}.{suffix}"
                short = signal[:, :3000] if size == 1 else signal
                write(path, short, size, soft_clip=soft, force=True)
                files.append(read(path)[:, :3000])
                if size > 1:
                    assert path.read_bytes() == (tmp_path / f"999.{suffix}").read_bytes()
            assert all(np.array_equal(file, files[0]) for file in files)


def test_default_subtype_is_16_bit(tmp_path: Path) -> None:
    write(tmp_path / "x.wav", noise(10))
    assert soundfile.info(tmp_path / "x.wav").subtype == "PCM_16"


def test_clipping_is_counted_and_hard(tmp_path: Path) -> None:
    signal = np.array([[0.5, 1.0, 1.001, -1.0, -2.0, 0.0]], np.float32)
    target = write(tmp_path / "x.wav", signal, size=2)
    assert target.clipped == 2
    expected = np.array([16384, 32767, 32767, -32768, -32768, 0]) / 32768
    assert np.array_equal(read(tmp_path / "x.wav")[0], expected.astype(np.float32))


def test_float_files_are_not_clipped(tmp_path: Path) -> None:
    signal = np.array([[3.5, -1.001]], np.float32)
    assert write(tmp_path / "x.wav", signal, subtype="FLOAT").clipped == 0
    assert np.array_equal(read(tmp_path / "x.wav"), signal)


def test_soft_clip_is_gentle_monotonic_and_odd() -> None:
    x = np.linspace(-3, 3, 60_001, dtype=np.float32)
    y = soft_clip(x)
    below = np.abs(x) <= SOFT_KNEE
    assert np.array_equal(y[below], x[below])
    assert np.abs(y).max() <= 1
    assert np.abs(y[np.abs(x) < 1.2]).max() < 1
    assert (np.diff(y) >= 0).all()
    assert np.array_equal(y, -soft_clip(-x))
    slope = np.diff(y.astype(np.float64)) / np.diff(x.astype(np.float64))
    assert np.abs(np.diff(slope)).max() < 0.02, "a corner"


def test_soft_clip_counts_too(tmp_path: Path) -> None:
    target = write(tmp_path / "x.wav", np.array([[0.95, 1.2, -1.2]], np.float32), soft_clip=True)
    assert target.clipped == 2
    assert np.abs(read(tmp_path / "x.wav")).max() < 1


def test_rounding_is_to_nearest() -> None:
    values = np.array([[0.49, 0.51, -0.49, -0.51, 1.49, -32767.6]], np.float32) / 32768
    assert to_integers(values, "PCM_16").tolist() == [[0, 1, 0, -1, 1, -32768]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_not_written(value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite"):
        write(tmp_path / "x.wav", np.array([[0, value]], np.float32))
    assert not list(tmp_path.iterdir())


def test_wrong_shape_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="expected"),
        open_output(tmp_path / "x.wav", 48000, 2) as target,
    ):
        target.write(noise(10, channels=1))


def test_failure_leaves_the_old_file(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for suffix, error in itertools.product(["wav", "flac", "ogg"], [KeyboardInterrupt, ValueError]):
        with subtests.test(suffix=suffix, error=error):
            path = tmp_path / f"x.{suffix}"
            path.write_bytes(b"old")
            with pytest.raises(error), open_output(path, 48000, 2, force=True) as target:
                target.write(noise(10_000))
                raise error
            assert path.read_bytes() == b"old"
            assert [p.name for p in tmp_path.iterdir()] == [path.name]
            path.unlink()


def test_existing_file_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"old")
    with (
        pytest.raises(OutputError, match="exists already"),
        open_output(path, 48000, 2) as target,
    ):
        target.write(noise(100))
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x.wav"]


def test_unknown_forms(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for name, subtype, sentence in [
        ("x.m4a", None, "extension '.m4a', expected one of .wav, .flac, .ogg"),
        ("x", None, "extension '', expected"),
        ("x.flac", "FLOAT", "FLAC cannot hold FLOAT, expected PCM_16 or PCM_24"),
        ("x.ogg", "PCM_16", "OGG cannot hold PCM_16, expected VORBIS"),
    ]:
        with (
            subtests.test(name=name, subtype=subtype, sentence=sentence),
            pytest.raises(UsageError, match=sentence),
        ):
            open_output(tmp_path / name, 48000, 2, subtype=subtype)


def test_rate_that_the_container_cannot_hold(tmp_path: Path) -> None:
    for suffix, rate in (("flac", 655_360), ("flac", 65_537), ("ogg", 200_001), ("ogg", 768_000)):
        with pytest.raises(UsageError, match=rf"x\.{suffix}: .* cannot hold {rate} Hz"):
            write(tmp_path / f"x.{suffix}", noise(100), rate=rate)
    assert not list(tmp_path.iterdir())


def test_more_than_4_gib_is_refused_at_once(tmp_path: Path) -> None:
    hours_7 = 48000 * 3600 * 7
    for suffix in ("wav", "aiff"):
        with pytest.raises(OutputError, match=r"4 GiB of .* expected \.rf64"):
            open_output(tmp_path / f"x.{suffix}", 48000, 2, total=hours_7)
    for suffix in ("rf64", "w64", "caf", "flac"):
        open_output(tmp_path / f"x.{suffix}", 48000, 2, total=hours_7)
    open_output("-", 48000, 2, total=hours_7, force=True)


WRITE_STDOUT = """
import numpy as np
from ravecodec.audio import open_output
with open_output("-", 44100, 2, total={total}) as target:
    for start in range(0, 5000, 1000):
        target.write(np.full((2, 1000), start / 32768, np.float32))
"""


@pytest.mark.parametrize("total", [None, 5000])
def test_standard_output_is_a_wav_stream(total: int | None, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITE_STDOUT.format(total=total)], capture_output=True
    )
    assert done.stderr == b""
    assert len(done.stdout) == 44 + 5000 * 4
    size = int.from_bytes(done.stdout[40:44], "little")
    assert size == (0xFFFFFFFF if total is None else 20_000)
    (tmp_path / "x.wav").write_bytes(done.stdout)
    back = read(tmp_path / "x.wav")
    assert np.array_equal(back[0] * 32768, np.repeat(np.arange(0, 5000, 1000), 1000))


FULL_DISK = """
import resource, signal, sys
import numpy as np
from ravecodec.audio import open_output
from ravecodec.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    with open_output(sys.argv[1], 44100, 2, force=True) as target:
        for _ in range(10):
            target.write(np.random.default_rng(0).uniform(-1, 1, (2, 5000)).astype(np.float32))
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX file size limits")
def test_full_disk_is_one_sentence_and_leaves_the_old_file(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for suffix in ["wav", "flac", "ogg", "aiff"]:
        with subtests.test(suffix=suffix):
            name = f"x.{suffix}"
            (tmp_path / name).write_bytes(b"old")
            done = subprocess.run(
                [sys.executable, "-c", FULL_DISK, name],
                capture_output=True,
                text=True,
                cwd=tmp_path,
            )
            assert done.stdout.startswith(f"{name}: cannot be written"), done
            assert done.stdout.count("\n") == 1
            assert done.stderr == ""
            assert (tmp_path / name).read_bytes() == b"old"
            assert [p.name for p in tmp_path.iterdir()] == [name]
            (tmp_path / name).unlink()


def test_empty_flac_is_what_the_flac_format_says() -> None:
    data = empty_flac(44100, 2, "PCM_16")
    assert data[:8] == b"fLaC" + bytes([0x80, 0, 0, 34])
    assert len(data) == 8 + 34
    form = int.from_bytes(data[18:26], "big")
    assert (form >> 44, (form >> 41 & 7) + 1, (form >> 36 & 31) + 1, form & (1 << 36) - 1) == (
        44100,
        2,
        16,
        0,
    )


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    def peak(blocks: int) -> int:
        block = noise(8192)
        tracemalloc.start()
        with open_output(tmp_path / f"{blocks}.wav", 48000, 2) as target:
            for _ in range(blocks):
                target.write(block)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(100) < peak(10) * 1.2
