"""WAV without seeking: the header read from and written to a pipe, and the samples as numpy arrays.

libsndfile wants to seek and gives up on the lengths that pipes carry, so WAV, the one format that
everything pipes, is read and written here, from files too, so that the same bytes always give the
same samples. Everything else goes through libsndfile (`input.py`, `output.py`). Layout: RIFF
as in Microsoft's Multimedia Programming Interface, RF64 as in EBU Tech 3306, BW64 as in ITU-R
BS.2088.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ravecodec.audio.samples import Interleaved
from ravecodec.errors import OutputError

UNKNOWN_SIZE = 0xFFFFFFFF
# Into pipes, by SoX and ALSA; ffmpeg.
_UNKNOWN_SIZES = (
    (0x7FFFEF00, 0x80000000),
    (0xFFFFEF00, UNKNOWN_SIZE),
)
# Bytes read in search of the samples (an id3 chunk may hold a cover); libsndfile may try more.
_MAX_HEADER = 16 << 20
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE

# (format tag, bytes per sample) -> (libsndfile's name of the subtype, numpy dtype or None for 3
# bytes, full scale)
_SUBTYPES: dict[tuple[int, int], tuple[str, str | None, float]] = {
    (_PCM, 1): ("PCM_U8", "u1", 2.0**7),
    (_PCM, 2): ("PCM_16", "<i2", 2.0**15),
    (_PCM, 3): ("PCM_24", None, 2.0**31),
    (_PCM, 4): ("PCM_32", "<i4", 2.0**31),
    (_FLOAT, 4): ("FLOAT", "<f4", 1.0),
    (_FLOAT, 8): ("DOUBLE", "<f8", 1.0),
}


@dataclass(frozen=True)
class PcmLayout:
    """How interleaved samples lie in the stream.

    `frames` is the number of samples per channel, None where the header does not know. Without
    `exact` it is a size that programs write into pipes, where they cannot know it: fewer or more
    samples are no error. mask: which channels they are, as WAVEFORMATEXTENSIBLE has it; 0 where it
    does not say.
    """

    tag: int
    sample_bytes: int
    channels: int
    rate: int
    frames: int | None
    exact: bool
    mask: int = 0

    @property
    def subtype(self) -> str:
        """libsndfile's name: PCM_U8, PCM_16, PCM_24, PCM_32, FLOAT or DOUBLE."""
        return _SUBTYPES[self.tag, self.sample_bytes][0]

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.sample_bytes * self.channels

    def to_float(self, data: bytes) -> Interleaved:
        """Whole interleaved frames -> float32 [n, channels], integers divided by 2^(bits-1) as
        libsndfile does.
        """
        _, dtype, scale = _SUBTYPES[self.tag, self.sample_bytes]
        values = _from_24_bit(data) if dtype is None else np.frombuffer(data, dtype)
        floats = values.astype(np.float32).reshape(-1, self.channels)
        if dtype == "u1":
            floats -= np.float32(128)
        return floats if scale == 1.0 else floats * np.float32(1 / scale)


def raw_16_bit(rate: int, channels: int) -> PcmLayout:
    """Headerless 16-bit little-endian PCM of unknown length."""
    return PcmLayout(_PCM, 2, channels, rate, None, exact=False)


def _from_24_bit(data: bytes) -> NDArray[np.int32]:
    """Three little-endian bytes -> the upper three of an int32, so that the sign is right without
    any arithmetic.
    """
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return wide.view("<i4")[:, 0]


def to_24_bit(values: NDArray[np.int32]) -> bytes:
    """The upper three bytes of each int32, little-endian."""
    return np.ascontiguousarray(values, "<i4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()


def read_exactly(stream: BinaryIO, count: int) -> bytes:
    """`count` bytes, or fewer at the end of the stream; short reads, as pipes give them, are
    joined.
    """
    parts = []
    while count and (part := stream.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


class HeaderReader:
    """Parses a WAV header from any stream and remembers the bytes it took, so that another reader
    can have them.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seen = bytearray()

    def layout(self) -> PcmLayout | None:
        """The layout of the samples that follow, or None: not WAV, damaged, or a coding that is
        left to libsndfile.
        """
        head = self._take(12)
        if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
            return None
        chunks: dict[bytes, bytes] = {}
        while len(chunk := self._take(8)) == 8 and len(self.seen) < _MAX_HEADER:
            name, size = chunk[:4], int.from_bytes(chunk[4:], "little")
            if name == b"data":
                return self._with_data(chunks, int.from_bytes(head[4:8], "little"), size)
            if len(self.seen) + size > _MAX_HEADER:
                return None
            chunks[name] = self._take(size + size % 2)
        return None

    def _take(self, count: int) -> bytes:
        data = read_exactly(self._stream, count)
        self.seen += data
        return data

    def _with_data(self, chunks: dict[bytes, bytes], riff_size: int, size: int) -> PcmLayout | None:
        form = _parse_fmt(chunks.get(b"fmt ", b""))
        if form is None:
            return None
        tag, channels, rate, sample_bytes, mask = form
        if size == UNKNOWN_SIZE and len(chunks.get(b"ds64", b"")) >= 16:
            size = int.from_bytes(chunks[b"ds64"][8:16], "little")
        elif size == UNKNOWN_SIZE or (size == 0 and self._claims_nothing_more(riff_size)):
            return PcmLayout(tag, sample_bytes, channels, rate, None, exact=False, mask=mask)
        streaming = any(low <= size <= high for low, high in _UNKNOWN_SIZES)
        return PcmLayout(
            tag,
            sample_bytes,
            channels,
            rate,
            size // (channels * sample_bytes),
            exact=not streaming,
            mask=mask,
        )

    def _claims_nothing_more(self, riff_size: int) -> bool:
        """A data size of 0 means "unknown" unless the RIFF size says that other chunks follow the
        empty one.
        """
        return not len(self.seen) - 8 < riff_size < _UNKNOWN_SIZES[0][0]


def _parse_fmt(fmt: bytes) -> tuple[int, int, int, int, int] | None:
    """(tag, channels, rate, bytes per sample, channel mask or 0) of a `fmt ` chunk, or None where
    the coding is not plain PCM or float.
    """
    if len(fmt) < 16:
        return None
    tag, channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", fmt)
    mask = 0
    if tag == _EXTENSIBLE and len(fmt) >= 40:
        tag = int.from_bytes(fmt[24:26], "little")
        mask = int.from_bytes(fmt[20:24], "little")
    sample_bytes = frame_bytes // channels if channels else 0
    plain = (
        sample_bytes * channels == frame_bytes
        and sample_bytes * 8 == bits
        and (tag, sample_bytes) in _SUBTYPES
    )
    return (tag, channels, rate, sample_bytes, mask) if plain else None


class WavWriter:
    """Writes WAV to any binary file. `subtype`: PCM_16, PCM_24 or FLOAT.

    The header carries the size of `total` samples, or 0xFFFFFFFF where that is unknown or above 4
    GiB; a seekable file (`patch=True`) gets the true size at `close`. chunks: whole RIFF chunks
    that go before the samples.
    """

    def __init__(
        self,
        stream: BinaryIO,
        rate: int,
        channels: int,
        subtype: str,
        *,
        total: int | None = None,
        patch: bool = False,
        chunks: bytes = b"",
    ) -> None:
        self._stream = stream
        self._chunks = chunks
        self._tag, self._sample_bytes = next(
            key for key, value in _SUBTYPES.items() if value[0] == subtype
        )
        self._form = (channels, rate)
        self._total = total
        self._patch = patch
        self._written = 0
        self._stream.write(self._header(total))

    def write(self, frames: NDArray[np.generic]) -> None:
        """Write [n, channels]: int16 (PCM_16), int32 with the value in its upper 24 bits (PCM_24),
        float32 (FLOAT).
        """
        _, dtype, _ = _SUBTYPES[self._tag, self._sample_bytes]
        data = (
            to_24_bit(frames.astype(np.int32)) if dtype is None else frames.astype(dtype).tobytes()
        )
        self._stream.write(data)
        self._written += len(frames)

    def close(self) -> None:
        """Pad to an even size and make the header true.

        Raises:
            OutputError: the stream cannot seek and its header announced another number of samples.
        """
        if self._data_bytes(self._written) % 2:
            self._stream.write(b"\0")
        if self._patch:
            self._stream.seek(0)
            self._stream.write(self._header(self._written))
        elif self._total not in (None, self._written):
            raise OutputError(
                f"WAV stream: {self._written} samples written, but its header announced "
                f"{self._total}"
            )

    def _data_bytes(self, frames: int) -> int:
        return frames * self._form[0] * self._sample_bytes

    def _header(self, frames: int | None) -> bytes:
        channels, rate = self._form
        frame_bytes = channels * self._sample_bytes
        fmt = struct.pack(
            "<HHIIHH",
            self._tag,
            channels,
            rate,
            rate * frame_bytes,
            frame_bytes,
            8 * self._sample_bytes,
        )
        size = UNKNOWN_SIZE if frames is None else self._data_bytes(frames)
        if (
            self._tag == _FLOAT
        ):  # everything but integer PCM needs the extension size and a fact chunk
            fmt += struct.pack("<H", 0)
            fact = b"fact" + struct.pack(
                "<II", 4, UNKNOWN_SIZE if frames is None else min(frames, UNKNOWN_SIZE)
            )
        else:
            fact = b""
        body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + fact + self._chunks + b"data"
        riff = len(body) + 4 + size + size % 2
        if riff >= UNKNOWN_SIZE:
            riff = size = UNKNOWN_SIZE
        return b"RIFF" + struct.pack("<I", riff) + body + struct.pack("<I", size)
