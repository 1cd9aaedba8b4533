"""Lengths that headers tell wrongly: all of the audio, or an error that names both numbers; never a
silent part.
"""

import io
import os
import struct
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ravecodec.audio import open_input
from ravecodec.errors import InputError, OutputError, UsageError
from ravecodec.train.cache import build_cache
from ravecodec.views import Bytes, View

RATE = 44_100
PCM = np.random.default_rng(0).integers(-9000, 9000, RATE).astype("<i2").tobytes()


def wav(size: int, data: bytes, riff: int | None = None) -> bytes:
    """Mono PCM whose data chunk says `size` and whose RIFF header says `riff` (default: the
    truth).
    """
    fmt = struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    riff = 36 + len(data) if riff is None else riff
    return (
        b"RIFF"
        + struct.pack("<I", riff)
        + b"WAVEfmt "
        + fmt
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def counted(path: Path, **options: bool) -> tuple[int, list[str]]:
    with open_input(path, **options) as source:
        return sum(block.shape[1] for block in source.blocks(65_536)), source.remarks


READ_STDIN = """
import sys
from ravecodec.audio import open_input
from ravecodec.errors import RavecodecError
try:
    with open_input("-", ignore_length="ignore" in sys.argv) as source:
        print(sum(block.shape[1] for block in source.blocks(1 << 20)), *source.remarks)
except RavecodecError as error:
    sys.exit(f"{error.exit_code} {error}")
"""


def through_pipe(data: bytes, *args: str, **environment: str) -> tuple[str, str]:
    command = [sys.executable, "-c", READ_STDIN, *args]
    done = subprocess.run(
        command, input=data, capture_output=True, timeout=120, env=os.environ | environment
    )
    return done.stdout.decode().strip(), done.stderr.decode().strip()


LIES = {
    "size of nothing": (
        wav(0, PCM),
        "announces 0 samples of sound, but they are followed by 88200 bytes",
    ),
    "size of a half": (wav(len(PCM) // 2, PCM), "announces 22050 samples of sound, but"),
    "size modulo 2^32": (wav(44, PCM, 0xFFFFFFFF), "announces 22 samples of sound, but"),
    "cut": (wav(2 * len(PCM), PCM), "is truncated after 44100 samples, expected 88200"),
    "cut, 3 GB": (
        wav(3_000_000_000, PCM, 3_000_000_036),
        "is truncated after 44100 samples, expected 1500000000",
    ),
}


def test_wav_that_lies_is_refused_and_can_be_taken(
    tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for name in LIES:
        with subtests.test(name=name):
            data, sentence = LIES[name]
            path = tmp_path / "x.wav"
            path.write_bytes(data)
            with pytest.raises(
                InputError, match=rf"x\.wav: {sentence}.*; --ignore-length takes what is there"
            ):
                counted(path)
            samples, remarks = counted(path, ignore_length=True)
            assert samples == RATE
            assert len(remarks) == 1
            assert sentence in remarks[0]
            out, error = through_pipe(data)
            assert error.startswith("3 standard input: "), (out, error)
            assert through_pipe(data, "ignore")[0].startswith(str(RATE))


OPEN = {
    "ffmpeg": (0xFFFFFFFF, 0xFFFFFFFF),
    "SoX": (0x7FFFF000, 0x7FFFF024),
    "ALSA": (0x7FFFFFFF, 0x7FFFFFFF),
    "wave module": (0, 36),
}


def test_a_length_left_open_is_no_lie(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for name in OPEN:
        with subtests.test(name=name):
            size, riff = OPEN[name]
            path = tmp_path / "x.wav"
            path.write_bytes(wav(size, PCM, riff))
            assert counted(path) == (RATE, [])
            assert through_pipe(wav(size, PCM, riff)) == (str(RATE), "")


def test_more_than_2_gib_from_sox_on_a_pipe(tmp_path: Path) -> None:
    """SoX writes 0x7FFFF000 into a pipe and goes on; here from a sparse file, in flat memory."""
    length = 0x7FFFF000 + 10_000_000
    path = tmp_path / "x.wav"
    path.write_bytes(wav(0x7FFFF000, b"", 0x7FFFF024))
    os.truncate(path, 44 + length)
    with open_input(path) as source:
        assert source.frames == length // 2
        tracemalloc.start()
        blocks = source.blocks(1 << 16)
        assert sum(next(blocks).shape[1] for _ in range(100)) == 100 << 16
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()


def test_more_than_sox_announces_on_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with a small number in the place of 2 GiB."""
    monkeypatch.setattr("ravecodec.audio.wav._UNKNOWN_SIZES", ((1000, 1000),))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(wav(1000, PCM),))
    writer.start()
    assert counted(pipe) == (RATE, [])
    writer.join()


def test_more_than_4_gib_with_a_size_modulo_2_to_the_32(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(wav(10_000_000, b"", 10_000_036))
    os.truncate(path, 44 + 2**32 + 10_000_000)
    with pytest.raises(InputError, match="announces 5000000 samples of sound, but"):
        open_input(path)
    with open_input(path, ignore_length=True) as source:
        assert source.frames == (2**32 + 10_000_000) // 2


def test_what_rightly_follows_the_samples(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for tail in [
        b"",
        b"\0",
        bytes(500),
        b"TAG" + bytes(125),
        b"LIST" + struct.pack("<I", 4) + b"INFO",
    ]:
        with subtests.test(tail=tail):
            path = tmp_path / "x.wav"
            path.write_bytes(wav(len(PCM), PCM + tail))
            assert counted(path) == (RATE, [])
            assert through_pipe(path.read_bytes()) == (str(RATE), "")


def test_header_only_is_remarked(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(wav(0xFFFFFFFF, b"", 0xFFFFFFFF))
    samples, remarks = counted(path)
    assert (samples, remarks) == (0, [f"{path}: holds no sound (0 samples)"])


def test_other_containers_that_lie(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """The size field of the samples is halved, doubled, or the file is cut: refused, and all is
    read if asked for.
    """
    for form in ["AIFF", "W64", "CAF", "AU", "RF64"]:
        with subtests.test(form=form):
            good, path = tmp_path / "good", tmp_path / "x"
            soundfile.write(good, np.frombuffer(PCM, "<i2"), RATE, format=form, subtype="PCM_16")
            data = bytearray(good.read_bytes())
            with good.open("rb") as file:
                from ravecodec.audio.iff import find_sound

                sound = find_sound(Bytes(file))
            assert sound is not None
            total = sound.there
            # AIFF and CAF have some bytes before the samples.
            assert sound.announced == total == pytest.approx(len(PCM), abs=8)
            at, width, order = {
                "AIFF": (sound.size_at, 4, "big"),
                "W64": (sound.size_at, 8, "little"),
                "CAF": (sound.size_at, 8, "big"),
                "AU": (8, 4, "big"),
                "RF64": (28, 8, "little"),
            }[form]
            size = int.from_bytes(data[at : at + width], order)  # type: ignore[arg-type]
            half = (
                bytes(data[:at])
                + (size - total // 2).to_bytes(width, order)
                + bytes(data[at + width :])
            )  # type: ignore[arg-type]
            for changed, sentence in (
                (half, "followed by"),
                (bytes(data[: -total // 2]), "is truncated after"),
            ):
                path.write_bytes(changed)
                with pytest.raises(InputError, match=sentence):
                    counted(path)
            assert counted(path, ignore_length=True)[0] == pytest.approx(RATE / 2, abs=20)


def test_flac_of_wrong_length(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, np.frombuffer(PCM, "<i2"), RATE)
    data = bytearray(path.read_bytes())
    form = int.from_bytes(data[18:26], "big")
    for total, sentence in (
        (RATE // 3, "goes on behind the 14700 samples"),
        (2 * RATE, "is truncated after 44100"),
    ):
        data[18:26] = (form - RATE + total).to_bytes(8, "big")
        path.write_bytes(data)
        with pytest.raises(InputError, match=sentence):
            counted(path)
        assert counted(path, ignore_length=True)[0] == RATE


def test_joined_files_of_two_forms_are_refused(tmp_path: Path) -> None:
    for suffix, container, subtype in (
        ("mp3", "MP3", "MPEG_LAYER_III"),
        ("ogg", "OGG", "VORBIS"),
        ("flac", "FLAC", None),
    ):
        parts = []
        for rate in (44_100, 22_050):
            soundfile.write(
                tmp_path / "part",
                np.frombuffer(PCM, "<i2"),
                rate,
                format=container,
                subtype=subtype,
            )
            parts.append((tmp_path / "part").read_bytes())
        path = tmp_path / f"x.{suffix}"
        path.write_bytes(b"".join(parts))
        with pytest.raises(
            InputError, match=r"goes on with 22050 Hz and 1 after 44100 Hz and 1 channel"
        ):
            open_input(path)


def test_mp3_behind_junk_and_in_wav(tmp_path: Path) -> None:
    soundfile.write(
        tmp_path / "x", np.frombuffer(PCM, "<i2"), RATE, format="MP3", subtype="MPEG_LAYER_III"
    )
    data = (tmp_path / "x").read_bytes()
    whole, _ = counted(tmp_path / "x")
    (tmp_path / "junk.mp3").write_bytes(b"no audio " * 300 + data)
    samples, remarks = counted(tmp_path / "junk.mp3")
    assert samples == whole
    assert remarks == [
        f"{tmp_path / 'junk.mp3'}: 2700 bytes at byte 0 are no MPEG audio, passed over"
    ]
    fmt = struct.pack("<IHHIIHHH", 18, 0x55, 1, RATE, 16_000, 1, 0, 0)
    (tmp_path / "x.wav").write_bytes(
        b"RIFF"
        + struct.pack("<I", 38 + len(data))
        + b"WAVEfmt "
        + fmt
        + b"data"
        + struct.pack("<I", len(data))
        + data
    )
    assert counted(tmp_path / "x.wav") == (whole, [])


def test_a_page_of_ogg_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "x.ogg"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE), RATE)
    data = path.read_bytes()
    pages = [i for i in range(len(data)) if data.startswith(b"OggS", i)]
    path.write_bytes(data[: pages[5]] + data[pages[6] :])
    with pytest.raises(InputError, match="is damaged: 1 of its pages are missing"):
        open_input(path)


def test_what_needs_the_extra_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ravecodec.audio.opening.has_av", lambda: False)
    for start, what in (
        (b"\0\0\0\x20ftypM4A ", "MPEG-4"),
        (b"\x1aE\xdf\xa3", "Matroska"),
        (b"wvpk", "WavPack"),
    ):
        (tmp_path / "x").write_bytes(start + bytes(100))
        with pytest.raises(
            InputError, match=rf"is {what}.*; to read it, `pip install 'ravecodec\[formats\]'`"
        ):
            open_input(tmp_path / "x")


def test_a_pipe_is_looked_at_before_it_is_spooled(tmp_path: Path) -> None:
    with Path("/dev/zero").open("rb") as endless:
        done = subprocess.run(
            [sys.executable, "-c", READ_STDIN], stdin=endless, capture_output=True, timeout=60
        )
    assert done.stderr.startswith(b"3 standard input: cannot be read as audio")


def test_a_temporary_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.flac", np.zeros(100), RATE)
    _, error = through_pipe((tmp_path / "x.flac").read_bytes(), TMPDIR=str(tmp_path / "none"))
    assert error.startswith(f"8 TMPDIR: is {tmp_path / 'none'}, expected a folder")


def test_impossible_raw_values(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for rate, channels in [(0, 1), (44_100, 0), (44_100, 3), (10**12, 1), (-1, 1)]:
        with subtests.test(rate=rate, channels=channels):
            (tmp_path / "x").write_bytes(PCM)
            with pytest.raises(UsageError, match="raw"):
                open_input(tmp_path / "x", raw_rate=rate, raw_channels=channels)


def test_training_leaves_out_what_is_truncated_unless_told(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "good.wav").write_bytes(wav(len(PCM), PCM))
    (folder / "bad.wav").write_bytes(wav(len(PCM), PCM[: RATE // 2 * 2]))
    lines: list[str] = []
    library = build_cache(folder, tmp_path / "one", RATE, 1, lines.append)
    assert [track.path for track in library.tracks] == ["good.wav"]
    assert any("left out: " in line and "is truncated" in line for line in lines)
    library = build_cache(folder, tmp_path / "two", RATE, 1, lines.append, ignore_length=True)
    assert {track.path: track.frames for track in library.tracks} == {
        "good.wav": RATE,
        "bad.wav": RATE // 2,
    }
    assert any("warning: " in line and "is truncated" in line for line in lines)
    with pytest.raises(InputError, match=r"good\.wav: is a file; expected a folder"):
        build_cache(folder / "good.wav", tmp_path / "three", RATE, 1)


def test_a_view_is_its_bytes() -> None:
    """Against slices of bytes, for reads of every length from every place."""
    data = bytes(range(200))
    view = View(
        io.BytesIO(data), [(10, 20), (50, 51), (90, 150)], b"prefix", {4: b"XY", 15: b"abc"}
    )
    expected = bytearray(b"prefix" + data[10:20] + data[50:51] + data[90:150])
    expected[4:6], expected[15:18] = b"XY", b"abc"
    assert len(view) == len(expected)
    for start in range(len(expected) + 1):
        for count in (-1, 0, 1, 2, 9, 70, 500):
            view.seek(start)
            stop = len(expected) if count < 0 else start + count
            assert view.read(count) == expected[start:stop]
            assert view.tell() == min(stop, len(expected))


def test_a_full_temporary_folder_is_named() -> None:
    from ravecodec.files import temporary_file

    sentence = (
        r"TMPDIR: the temporary file for a test .* cannot be written \(No space left on device\)"
    )
    with pytest.raises(OutputError, match=sentence), temporary_file("a test") as file:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, file.fileno())
        os.close(full)
        file.write(bytes(1 << 20))
        file.flush()


def test_damaged_files_are_audio_or_a_sentence(tmp_path: Path) -> None:
    """Bytes changed, cut out and repeated, most of them in headers: nothing but InputError comes of
    it.
    """
    rng, path, goods = np.random.default_rng(0), tmp_path / "x", [wav(len(PCM), PCM)[:20_000]]
    for form, subtype in (
        ("MP3", "MPEG_LAYER_III"),
        ("OGG", "VORBIS"),
        ("FLAC", None),
        ("AIFF", None),
        ("W64", None),
    ):
        soundfile.write(
            path, np.frombuffer(PCM, "<i2")[:20_000], RATE, format=form, subtype=subtype
        )
        goods.append(path.read_bytes())
    outcomes = {True: 0, False: 0}
    for number in range(240):
        data = bytearray(goods[number % len(goods)])
        for _ in range(rng.integers(1, 6)):
            place = int(rng.integers(min(120, len(data)) if rng.random() < 0.5 else len(data)))
            piece = bytes(data[place : place + int(rng.integers(1, 2000))])
            kind = rng.integers(3)
            data[place : place + (1 if kind == 0 else len(piece) if kind == 1 else 0)] = (
                bytes([rng.integers(256)]) if kind == 0 else b"" if kind == 1 else piece
            )
            data = data or bytearray(b"x")
        path.write_bytes(data)
        try:
            counted(path, ignore_length=bool(number % 2))
            outcomes[True] += 1
        except InputError as error:
            assert str(path) in str(error)
            outcomes[False] += 1
    assert min(outcomes.values()) > 20, outcomes
