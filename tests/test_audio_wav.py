"""WAV headers from files and pipes: every layout gives the samples that libsndfile gives."""

import io
import itertools
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ravecodec.audio import open_input
from ravecodec.audio.wav import HeaderReader, PcmLayout, WavWriter, read_exactly
from ravecodec.errors import InputError, OutputError

UNKNOWN = 0xFFFFFFFF


class Dribble(io.RawIOBase):
    """A stream that cannot seek and gives at most `most` bytes per read, as pipes do."""

    def __init__(self, data: bytes, most: int = 1) -> None:
        self._file = io.BytesIO(data)
        self._most = most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(self._most if size < 0 else min(size, self._most))


class Stdin:
    """What `sys.stdin` is to the reader."""

    def __init__(self, data: bytes) -> None:
        self.buffer = Dribble(data, most=997)

    def isatty(self) -> bool:
        return False


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    return (
        name
        + struct.pack("<I", len(data) if size is None else size)
        + data
        + b"\0" * (len(data) % 2)
    )


def fmt(
    tag: int, channels: int, rate: int, sample_bytes: int, *, extensible: bool = False
) -> bytes:
    frame = channels * sample_bytes
    head = struct.pack(
        "<HHIIHH",
        0xFFFE if extensible else tag,
        channels,
        rate,
        rate * frame,
        frame,
        8 * sample_bytes,
    )
    if not extensible:
        return chunk(b"fmt ", head)
    guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
    return chunk(b"fmt ", head + struct.pack("<HHI", 22, 8 * sample_bytes, 3) + guid)


def riff(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def from_file(data: bytes, folder: Path) -> NDArray[np.float32]:
    path = folder / "x.wav"
    path.write_bytes(data)
    with open_input(path) as source:
        return joined(source)


def from_pipe(data: bytes, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.float32]:
    monkeypatch.setattr(sys, "stdin", Stdin(data))
    with open_input("-") as source:
        return joined(source)


def joined(source):  # type: ignore[no-untyped-def]
    return np.concatenate([np.zeros((source.channels, 0), np.float32), *source.blocks(100)], axis=1)


SAMPLES = np.array([[0, 1], [-1, 32767], [-32768, 12345], [-12345, 2]], "<i2")
PCM_16 = SAMPLES.tobytes()
EXPECTED = (SAMPLES / 32768).astype(np.float32).T

HEADERS = {
    "plain": riff(fmt(1, 2, 44100, 2), chunk(b"data", PCM_16)),
    "extensible": riff(fmt(1, 2, 44100, 2, extensible=True), chunk(b"data", PCM_16)),
    "odd chunk before": riff(
        chunk(b"JUNK", b"odd"),
        fmt(1, 2, 44100, 2),
        chunk(b"bext", b"x" * 601),
        chunk(b"data", PCM_16),
    ),
    "chunk behind": riff(
        fmt(1, 2, 44100, 2), chunk(b"data", PCM_16), chunk(b"LIST", b"INFOnot audio!!!")
    ),
    "wrong riff size": riff(fmt(1, 2, 44100, 2), chunk(b"data", PCM_16), size=7),
    "unknown (ffmpeg)": riff(fmt(1, 2, 44100, 2), chunk(b"data", PCM_16, UNKNOWN), size=UNKNOWN),
    "zero (wave module)": riff(fmt(1, 2, 44100, 2), chunk(b"data", PCM_16, 0), size=36),
    "zero and zero": riff(fmt(1, 2, 44100, 2), chunk(b"data", PCM_16, 0), size=0),
    "zero and unknown": riff(fmt(1, 2, 44100, 2), chunk(b"data", PCM_16, 0), size=UNKNOWN),
    "2 GiB (sox)": riff(fmt(1, 2, 44100, 2), chunk(b"data", PCM_16, 0x7FFFF000), size=0x7FFFF024),
    "half a sample at the end": riff(fmt(1, 2, 44100, 2), chunk(b"data", PCM_16 + b"abc", UNKNOWN))[
        :-1
    ],
    "rf64": b"RF64"
    + riff(
        chunk(b"ds64", struct.pack("<QQQI", 0, len(PCM_16), 4, 0)),
        fmt(1, 2, 44100, 2),
        chunk(b"data", PCM_16, UNKNOWN),
    )[4:],
}
HEADERS["bw64"] = b"BW64" + HEADERS["rf64"][4:]


def test_every_header_from_file_and_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    for name in HEADERS:
        with subtests.test(name=name):
            assert np.array_equal(from_file(HEADERS[name], tmp_path), EXPECTED)
            assert np.array_equal(from_pipe(HEADERS[name], monkeypatch), EXPECTED)


def test_empty_data_with_a_chunk_behind_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = riff(fmt(1, 2, 44100, 2), chunk(b"data", b""), chunk(b"LIST", b"INFOnot audio!!!"))
    assert from_file(data, tmp_path).shape == (2, 0)
    assert from_pipe(data, monkeypatch).shape == (2, 0)


@pytest.mark.parametrize("extra", [0, 8])
def test_truncated_wav_is_refused(
    extra: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = HEADERS["plain"][: -len(PCM_16) + extra]
    with pytest.raises(
        InputError, match=rf"x\.wav: is truncated after {extra // 4} samples, expected 4"
    ):
        from_file(data, tmp_path)
    with pytest.raises(InputError, match="standard input: is truncated"):
        from_pipe(data, monkeypatch)


def test_same_samples_as_libsndfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    for subtype, container, channels in itertools.product(
        ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "MS_ADPCM"],
        ["WAV", "WAVEX", "RF64"],
        [1, 2],
    ):
        with subtests.test(subtype=subtype, container=container, channels=channels):
            if not soundfile.check_format(container, subtype):
                pytest.skip("no such file")
            path = tmp_path / "y.wav"
            signal = np.random.default_rng(1).uniform(-1, 1, (1013, channels))
            signal[:2] = [[1.0], [-1.0]]
            soundfile.write(path, signal, 22050, subtype=subtype, format=container)
            expected = soundfile.read(path, dtype="float32", always_2d=True)[0].T
            with open_input(path) as source:
                assert (source.sample_rate, source.channels, source.subtype) == (
                    22050,
                    channels,
                    subtype,
                )
            assert np.array_equal(from_file(path.read_bytes(), tmp_path), expected)
            assert np.array_equal(from_pipe(path.read_bytes(), monkeypatch), expected)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_layout_or_none(data: bytes) -> None:
    for start in (
        b"",
        b"RIFF\0\0\0\0WAVE",
        b"RIFF\0\0\0\0WAVE" + fmt(1, 2, 8000, 2),
        b"RF64\xff\xff\xff\xffWAVE",
    ):
        reader = HeaderReader(Dribble(start + data))  # type: ignore[arg-type]
        assert reader.layout() is None or len(reader.seen) >= 44
        assert bytes(reader.seen) == (start + data)[: len(reader.seen)]


def test_huge_chunk_is_not_believed() -> None:
    reader = HeaderReader(io.BytesIO(riff(chunk(b"JUNK", b"", 0xFFFFFFF0), fmt(1, 1, 8000, 2))))
    assert reader.layout() is None
    assert len(reader.seen) < 100


def test_writer_and_reader_agree(subtests: pytest.Subtests) -> None:
    for subtype, frames, total in itertools.product(
        ["PCM_16", "PCM_24", "FLOAT"], [0, 1, 777], [True, False]
    ):
        with subtests.test(subtype=subtype, frames=frames, total=total):
            kind = {"PCM_16": np.int16, "PCM_24": np.int32, "FLOAT": np.float32}[subtype]
            values = (np.arange(frames).reshape(-1, 1) << (8 if subtype == "PCM_24" else 0)).astype(
                kind
            )
            stream = io.BytesIO()
            writer = WavWriter(stream, 48000, 1, subtype, total=frames if total else None)
            writer.write(values)
            writer.close()
            assert len(stream.getvalue()) % 2 == 0
            stream.seek(0)
            layout = HeaderReader(stream).layout()
            assert isinstance(layout, PcmLayout)
            expected = (
                frames if total and frames else None
            )  # a size of 0 may be a stream that did not know
            assert (layout.frames, layout.subtype, layout.channels) == (expected, subtype, 1)
            floats = layout.to_float(read_exactly(stream, frames * layout.frame_bytes))
            scale = {"PCM_16": 2**15, "PCM_24": 2**31, "FLOAT": 1}[subtype]
            assert np.array_equal(floats, (values / scale).astype(np.float32))


def test_a_stream_that_breaks_its_promise_is_an_error() -> None:
    writer = WavWriter(io.BytesIO(), 48000, 1, "PCM_16", total=5)
    writer.write(np.zeros((4, 1), np.int16))
    with pytest.raises(OutputError, match="4 samples written, but its header announced 5"):
        writer.close()


def test_patched_header_has_the_true_size() -> None:
    stream = io.BytesIO()
    writer = WavWriter(stream, 48000, 2, "PCM_24", patch=True)
    writer.write(np.zeros((5, 2), np.int32))
    writer.close()
    data = stream.getvalue()
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert int.from_bytes(data[40:44], "little") == 30
    assert soundfile.info(io.BytesIO(data)).frames == 5
