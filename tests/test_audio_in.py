"""Audio in: everything libsndfile reads, from files and pipes, the same samples for any block size,
clear refusals.
"""

import itertools
import os
import subprocess
import sys
import threading
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from ravecodec.audio import AudioInput, open_input
from ravecodec.errors import InputError, UsageError

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_24"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"),
    "caf": ("CAF", "PCM_24"),
    "w64": ("W64", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "au": ("AU", "PCM_16"),
}
NOT_EMPTY = {"flac", "opus", "mp3"}  # libsndfile cannot write these without samples


def write(path: Path, samples: int, channels: int = 2, rate: int = 48000) -> NDArray[np.float32]:
    container, subtype = FORMATS[path.suffix[1:]]
    signal = np.random.default_rng(samples).uniform(-0.5, 0.5, (samples, channels))
    soundfile.write(path, signal, rate, format=container, subtype=subtype)
    return soundfile.read(path, samples, dtype="float32", always_2d=True)[0].T


def joined(source: AudioInput, size: int = 1000) -> NDArray[np.float32]:
    blocks = list(source.blocks(size))
    assert all(block.dtype == np.float32 and block.flags["C_CONTIGUOUS"] for block in blocks)
    assert all(block.shape == (source.channels, size) for block in blocks[:-1])
    assert all(block.shape[1] > 0 for block in blocks)
    return np.concatenate([np.zeros((source.channels, 0), np.float32), *blocks], axis=1)


@pytest.mark.parametrize("samples", [0, 1, 4801])
def test_formats(samples: int, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for suffix, channels in itertools.product(FORMATS, [1, 2]):
        if not samples and suffix in NOT_EMPTY:
            continue
        with subtests.test(suffix=suffix, channels=channels):
            path = tmp_path / f"x.{suffix}"
            expected = write(path, samples, channels)
            with open_input(path) as source:
                found = (source.sample_rate, source.channels, source.frames, source.subtype)
                assert found == (48000, channels, samples, FORMATS[suffix][1])
                assert np.array_equal(joined(source), expected)


def test_any_block_size_gives_the_same_samples(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for suffix in FORMATS:
        with subtests.test(suffix=suffix):
            path = tmp_path / f"x.{suffix}"
            expected = write(path, 4801)
            for size in (1, 7, 1152, 4800, 4801, 4802, 100_000):
                with open_input(path) as source:
                    assert np.array_equal(joined(source, size), expected)


def test_rates(tmp_path: Path) -> None:
    for rate in (8000, 11025, 192000):
        write(tmp_path / "x.flac", 100, rate=rate)
        with open_input(tmp_path / "x.flac") as source:
            assert source.sample_rate == rate


READ_STDIN = """
import sys, numpy as np
from ravecodec.audio import open_input
kwargs = eval(sys.argv[1])
with open_input("-", **kwargs) as source:
    blocks = list(source.blocks(777))
    sys.stdout.buffer.write(np.concatenate(blocks, axis=1).tobytes())
"""


def through_stdin(data: bytes, channels: int, **kwargs: int) -> NDArray[np.float32]:
    done = subprocess.run(
        [sys.executable, "-c", READ_STDIN, repr(kwargs)], input=data, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return np.frombuffer(done.stdout, np.float32).reshape(channels, -1)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_standard_input(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    expected = write(path, 40_001)
    assert np.array_equal(through_stdin(path.read_bytes(), 2), expected)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for suffix in FORMATS:
        with subtests.test(suffix=suffix):
            path, pipe = tmp_path / f"x.{suffix}", tmp_path / "pipe"
            expected = write(path, 4801)
            os.mkfifo(pipe)
            writer = threading.Thread(target=pipe.write_bytes, args=(path.read_bytes(),))
            writer.start()
            with open_input(pipe) as source:
                assert np.array_equal(joined(source), expected)
            writer.join()
            pipe.unlink()


def test_raw_pcm_from_file_and_pipe(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-32768, 32768, (2000, 2)).astype("<i2")
    expected = (values / 32768).astype(np.float32).T
    path = tmp_path / "x.raw"
    path.write_bytes(values.tobytes())
    with open_input(path, raw_rate=44100, raw_channels=2) as source:
        assert (source.sample_rate, source.channels, source.frames, source.container) == (
            44100,
            2,
            None,
            "RAW",
        )
        assert np.array_equal(joined(source), expected)
    assert np.array_equal(
        through_stdin(values.tobytes(), 2, raw_rate=44100, raw_channels=2), expected
    )
    with open_input(path, raw_rate=8000) as source:
        assert source.channels == 1


def test_a_file_with_a_header_is_not_raw_pcm(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for form in ["wav", "flac", "ogg", "aiff"]:
        with subtests.test(form=form):
            path = tmp_path / f"x.{form}"
            soundfile.write(path, np.zeros((4800, 2)), 48_000)
            with pytest.raises(InputError, match="a header; expected headerless PCM"):
                open_input(path, raw_rate=48_000)
            (tmp_path / "short.raw").write_bytes(b"RI")
            with open_input(tmp_path / "short.raw", raw_rate=48_000) as source:
                assert sum(block.shape[1] for block in source.blocks(100)) == 1


def test_raw_pcm_that_ends_inside_a_sample(tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(bytes(4003))
    with (
        open_input(tmp_path / "x.raw", raw_rate=8000, raw_channels=2) as source,
        pytest.raises(InputError, match=r"x\.raw: ends inside a sample \(3 bytes left\)"),
    ):
        joined(source)
    with pytest.raises(UsageError, match="raw rate"):
        open_input(tmp_path / "x.raw", raw_channels=2)


def test_flac_of_unknown_length(tmp_path: Path) -> None:
    """As `flac -` and ffmpeg write it into a pipe: no total in STREAMINFO."""
    path = tmp_path / "x.flac"
    expected = write(path, 20_011)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    for size in (1000, 4096, 20_011, 30_000):
        with open_input(path) as source:
            assert source.frames is None
            assert np.array_equal(joined(source, size), expected)


def test_what_is_no_number_is_refused_with_its_place(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for value, suffix in itertools.product([np.nan, np.inf, -np.inf, 1e30], ["wav", "aiff"]):
        with subtests.test(value=value, suffix=suffix):
            signal = np.zeros((5000, 2), np.float32)
            signal[4321, 1] = value
            path = tmp_path / f"x.{suffix}"
            soundfile.write(path, signal, 8000, subtype="FLOAT")
            place = r"at sample 4321 \(0\.540 s\) of channel 2"
            with (
                open_input(path) as source,
                pytest.raises(InputError, match=rf"x\.{suffix}: holds .* {place}"),
            ):
                joined(source)


def test_more_than_two_channels_are_refused(tmp_path: Path) -> None:
    for suffix in ("wav", "flac"):
        path = tmp_path / f"x.{suffix}"
        soundfile.write(path, np.zeros((10, 6)), 48000)
        with pytest.raises(InputError, match=rf"x\.{suffix}: has 6 channels, expected 1 or 2"):
            open_input(path)


def test_absurd_rate_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros((10, 1)), 10)
    with pytest.raises(InputError, match="rate of 10 Hz"):
        open_input(tmp_path / "x.wav")


M4A = bytes.fromhex("0000001c667479704d344120000000004d344120") + b"mp42isom" + bytes(200)


def test_what_is_not_audio(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for content, sentence in [
        (b"", r"is empty \(0 bytes\)"),
        (
            b"hello, this is text\n" * 20,
            "cannot be read as audio .*Format not recognised.*WAV, FLAC, Ogg",
        ),
        (M4A, "cannot be read as audio .*WAV, FLAC, Ogg"),
        (b"RIFF\0\0\0\0WAVEfmt ", "cannot be read as audio"),
    ]:
        with subtests.test(content=content, sentence=sentence):
            path = tmp_path / "x.m4a"
            path.write_bytes(content)
            with pytest.raises(InputError, match=r"x\.m4a: " + sentence):
                open_input(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        open_input(tmp_path / "no.wav")
    with pytest.raises(InputError, match="is a folder"):
        open_input(tmp_path)


@pytest.mark.parametrize("suffix", ["flac", "mp3"])
def test_truncated_file_is_an_error(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    write(path, 50_000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with (
        pytest.raises(InputError, match=rf"x\.{suffix}: is (damaged|truncated) after"),
        open_input(path) as source,
    ):
        joined(source)


class Announcing:
    """A reader that announces more samples than it has."""

    sample_rate, channels, subtype = 48000, 1, "any"
    order, order_known = None, False

    def __init__(self, container: str, frames: int, real: int) -> None:
        self.container, self.frames, self._left = container, frames, real

    def read(self, n: int) -> NDArray[np.float32]:
        n = min(n, self._left)
        self._left -= n
        return np.zeros((n, 1), np.float32)


@pytest.mark.parametrize(
    ("container", "missing", "fine"), [("OGG", 104, True), ("OGG", 9999, False), ("FLAC", 1, False)]
)
def test_only_lossy_containers_may_announce_a_little_too_much(
    container: str, missing: int, fine: bool
) -> None:
    """Tracks of hyperrogue-music announce 104 samples more than libsndfile decodes; a truncated
    file lacks far more.
    """
    source = AudioInput("x", Announcing(container, 50_000, 50_000 - missing), ExitStack())
    if fine:
        assert joined(source).shape == (1, 50_000 - missing)
    else:
        with pytest.raises(
            InputError, match=f"x: is truncated after {50_000 - missing} samples, expected 50000"
        ):
            joined(source)


def test_flipped_bit_in_flac_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    write(path, 50_000)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    with (
        open_input(path) as source,
        pytest.raises(InputError, match=r"x\.flac: is damaged after sample \d+ \(.+\)"),
    ):
        joined(source)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_memory_does_not_grow_with_length(suffix: str, tmp_path: Path) -> None:
    def peak(samples: int) -> int:
        path = tmp_path / f"{samples}.{suffix}"
        write(path, samples)
        tracemalloc.start()
        with open_input(path) as source:
            assert sum(block.shape[1] for block in source.blocks(8192)) == samples
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(1_000_000) < peak(100_000) * 1.2


def test_files_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    write(path, 100)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208
    for _ in range(5):
        with open_input(path) as source:
            joined(source)
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208
    assert after == before


def test_integers_kept_as_floats_are_named_and_mended(tmp_path: Path) -> None:
    """Full scale is 1; what is far above it is told with the option that mends it, and is scaled by
    it.
    """
    whole = np.random.default_rng(0).uniform(-0.5, 0.5, (5_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", whole * 32_768, 44_100, subtype="FLOAT")
    with (
        open_input(tmp_path / "x.wav") as source,
        pytest.raises(
            InputError, match=r"x\.wav: holds .* dB over full scale, .*--full-scale 32768"
        ),
    ):
        list(source.blocks(1_000))
    with open_input(tmp_path / "x.wav", full_scale=32_768) as source:
        assert np.array_equal(np.concatenate(list(source.blocks(700)), axis=1), whole.T)
    for wrong in (0, -1, np.nan, np.inf):
        with pytest.raises(UsageError, match="full scale"):
            open_input(tmp_path / "x.wav", full_scale=wrong)
    soundfile.write(tmp_path / "hot.wav", whole * 5, 44_100, subtype="FLOAT")
    with open_input(tmp_path / "hot.wav") as source:
        assert len(list(source.blocks(10_000))) == 1
