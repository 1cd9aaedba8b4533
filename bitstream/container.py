"""Byte layout of an .rvc stream: header, chunk framing, INDEX, END and trailer (SPEC sections 3 and
4).

Pure functions between bytes and small dataclasses; `writer` and `reader` move them in and out of
files. Reading functions are bounded by what the format allows and raise errors that name the stream
and the byte.
"""

import binascii
import zlib
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from ravecodec.bitstream import limits as lim
from ravecodec.bitstream.entropy import Profile
from ravecodec.bitstream.limits import Limits
from ravecodec.bitstream.varint import Cursor, encode_svarint, encode_uvarint
from ravecodec.errors import CorruptError, FormatError, TruncatedError, UsageError

MAGIC = b"\x89RVC"
MAJOR, MINOR = 1, 2
MODEL_ID_BYTES = 8
CRC_BYTES = 4
PREFIX_BYTES = len(MAGIC) + 3  # magic, major, minor, header length
DEFAULT_MODEL_RATE = 48_000

SYNC = b"\xc7\x9a"
MIN_CHUNK_BYTES = 11  # sync 2, type 1, position 1, length 1, header CRC 2, closing CRC 4
MAX_CHUNK_HEADER_BYTES = 15  # sync 2, type 1, position 6, length 4, header CRC 2
CRITICAL = 0x80
OWN_PARAMETERS = 0x10  # bit of an AUDIO chunk's mode byte

TRAILER_MAGIC = b"RVCE"
TRAILER_BYTES = 12
INDEX_THRESHOLD = 8  # a stream of more AUDIO chunks gets INDEX and trailer


class ChunkType(IntEnum):
    """Known chunk types; bit 7 says critical: a reader that does not know the type must refuse the
    stream.
    """

    META = 0x01
    INDEX = 0x02
    MODEL = 0x03
    SILENCE = 0x53  # this and LEAD_IN: private use (SPEC section 12)
    LEAD_IN = 0x54
    AUDIO = 0x81
    END = 0x82


def crc32_bytes(data: bytes, start: int = 0) -> bytes:
    """CRC-32 (IEEE 802.3, zlib.crc32), little-endian."""
    return zlib.crc32(data, start).to_bytes(CRC_BYTES, "little")


def header_crc(data: bytes) -> bytes:
    """CRC-16/IBM-3740 of a chunk header, little-endian.

    Distance 4: no 3 wrong bits and no burst of 16 pass it.
    """
    return binascii.crc_hqx(data, 0xFFFF).to_bytes(2, "little")


def symbol_crc(symbols: NDArray[np.int32]) -> int:
    """CRC-32 of symbols [frames, dims] as int16 little-endian, frame by frame."""
    return zlib.crc32(symbols.astype("<i2").tobytes())


@dataclass
class ByteCount:
    """Where a stream's bytes went.

    payload: coded symbols; meta: the META chunk; model: the MODEL chunks; framing: the rest, damage
    too.
    """

    payload: int = 0
    meta: int = 0
    framing: int = 0
    model: int = 0

    @property
    def total(self) -> int:
        """All bytes."""
        return self.payload + self.meta + self.framing + self.model

    def add(self, size: int, payload: int = 0, meta: int = 0, model: int = 0) -> None:
        """Count `size` bytes, of which some are payload, meta or model."""
        self.payload += payload
        self.meta += meta
        self.model += model
        self.framing += size - payload - meta - model


# ---- stream header -------------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamInfo:
    """What the stream header says.

    model_id: first 8 bytes of the model file's SHA-256. sample_rate (Hz) and channels: of the
    original audio.
    dims: latent dims coded (the first ones of the model's basis). hop: samples at model_rate per
    frame.
    step_index g: the quantiser's step is 2^(g/8) times the model's base step. noise_fill: dims that
    are not coded are drawn from the prior (keyed by seed), not zero. minor: the format's minor
    version that the stream needs or, read, that its writer said.
    """

    model_id: bytes
    sample_rate: int
    channels: int
    hop: int
    dims: int
    step_index: int = 0
    noise_fill: bool = False
    seed: int = 0
    model_rate: int = DEFAULT_MODEL_RATE
    minor: int = 0

    @property
    def frame_rate(self) -> float:
        """Latent frames per second."""
        return self.model_rate / self.hop

    def samples(self, frames: int) -> int:
        """Whole samples at sample_rate that so many frames last."""
        return frames * self.hop * self.sample_rate // self.model_rate

    def max_samples(self, frames: int) -> int:
        """Most samples at sample_rate that a stream of `frames` frames may claim: one frame more
        than it holds.
        """
        return self.samples(frames + 1)


def check_info(info: StreamInfo) -> None:
    """UsageError unless every field can be written."""
    bounds = {
        "sample_rate": (info.sample_rate, 1, lim.MAX_RATE),
        "channels": (info.channels, 1, lim.MAX_CHANNELS),
        "hop": (info.hop, 1, lim.MAX_HOP),
        "dims": (info.dims, 0, lim.MAX_DIMS),
        "step_index": (info.step_index, -lim.MAX_STEP_INDEX, lim.MAX_STEP_INDEX),
        "seed": (info.seed, 0, lim.MAX_SEED),
        "model_rate": (info.model_rate, 1, lim.MAX_RATE),
        "minor": (info.minor, 0, MINOR),
    }
    for name, (value, low, high) in bounds.items():
        if not low <= value <= high:
            raise UsageError(f"{name} is {value}, expected {low} to {high}")
    if len(info.model_id) != MODEL_ID_BYTES:
        raise UsageError(f"model_id has {len(info.model_id)} bytes, expected {MODEL_ID_BYTES}")


def encode_header(info: StreamInfo) -> bytes:
    """Stream header; fields at the end that have their default value are left out."""
    check_info(info)
    fixed = info.model_id + b"".join(
        map(encode_uvarint, (0, info.channels, info.sample_rate, info.hop, info.dims))
    )
    optional = [
        encode_svarint(info.step_index),
        encode_uvarint(int(info.noise_fill)),
        encode_uvarint(info.seed),
        encode_uvarint(0 if info.model_rate == DEFAULT_MODEL_RATE else info.model_rate),
    ]
    while optional and optional[-1] == b"\0":
        optional.pop()
    body = fixed + b"".join(optional)
    head = MAGIC + bytes([MAJOR, info.minor, PREFIX_BYTES + len(body) + CRC_BYTES]) + body
    return head + crc32_bytes(head)


def header_size(prefix: bytes, offset: int, name: str) -> int:
    """Length of the header that begins with these 7 bytes (or fewer at the end of the file).

    FormatError if it is not an .rvc stream or of another major version.
    """
    if prefix[: len(MAGIC)] != MAGIC[: len(prefix)]:
        raise FormatError(
            f"{name}: not an .rvc file, begins with {prefix[: len(MAGIC)].hex(' ')} at byte "
            f"{offset}, expected the magic 89 52 56 43"
        )
    if len(prefix) > len(MAGIC) and prefix[4] != MAJOR:
        raise FormatError(f"{name}: format version {prefix[4]}, this reader knows version {MAJOR}")
    if len(prefix) < PREFIX_BYTES:
        raise TruncatedError(
            f"{name}: ends at byte {offset + len(prefix)}, within the stream header"
        )
    return prefix[6]


def decode_header(data: bytes, offset: int, name: str, limits: Limits) -> StreamInfo:
    """A whole header -> its info.

    CorruptError if damaged, FormatError if it needs a newer reader.
    """
    if len(data) < PREFIX_BYTES + CRC_BYTES or crc32_bytes(data[:-CRC_BYTES]) != data[-CRC_BYTES:]:
        raise CorruptError(f"{name}: the stream header at byte {offset} does not match its CRC")
    cursor = Cursor(data[PREFIX_BYTES:-CRC_BYTES], offset + PREFIX_BYTES, name)
    model_id = cursor.take(MODEL_ID_BYTES, "the model id")
    needs = cursor.uvarint(2**32 - 1, "the feature set")
    if needs:
        raise FormatError(
            f"{name}: needs features {needs:#x} that format {MAJOR}.{MINOR} does not have"
        )
    channels = positive(cursor, lim.MAX_CHANNELS, "channels")
    sample_rate = positive(cursor, lim.MAX_RATE, "the sample rate")
    hop = positive(cursor, lim.MAX_HOP, "the hop")
    dims = cursor.uvarint(limits.dims, "dims")
    step_index = cursor.svarint(lim.MAX_STEP_INDEX, "the step index") if cursor.left else 0
    flags = cursor.uvarint(2**32 - 1, "the flags") if cursor.left else 0
    seed = cursor.uvarint(lim.MAX_SEED, "the seed") if cursor.left else 0
    model_rate = (
        cursor.uvarint(lim.MAX_RATE, "the model rate") if cursor.left else 0
    ) or DEFAULT_MODEL_RATE
    return StreamInfo(
        model_id,
        sample_rate,
        channels,
        hop,
        dims,
        step_index,
        bool(flags & 1),
        seed,
        model_rate,
        minor=data[5],
    )


def positive(cursor: Cursor, maximum: int, what: str) -> int:
    """A uvarint in 1 .. maximum."""
    value = cursor.uvarint(maximum, what)
    if not value:
        raise cursor.fail(f"{what} is 0")
    return value


# ---- chunks --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChunkHeader:
    """kind: type byte.

    position: frames before this chunk. length: bytes of body. size: bytes of header.
    """

    kind: int
    position: int
    length: int
    size: int
    offset: int

    @property
    def total(self) -> int:
        """Bytes of the whole chunk: header, body, closing CRC."""
        return self.size + self.length + CRC_BYTES

    @property
    def critical(self) -> bool:
        """Whether a reader that does not know the type must refuse the stream."""
        return bool(self.kind & CRITICAL)


def encode_chunk(kind: int, position: int, body: bytes, chain: int = 0) -> bytes:
    """A whole chunk. chain: start value of the closing CRC, which only END uses."""
    head = SYNC + bytes([kind]) + encode_uvarint(position) + encode_uvarint(len(body))
    data = head + header_crc(head) + body
    return data + crc32_bytes(data, chain)


def decode_chunk_header(data: bytes, offset: int, name: str, limits: Limits) -> ChunkHeader:
    """Up to 15 bytes -> chunk header, whose length may then be believed."""
    cursor = Cursor(data, offset, name, open_ended=True)
    if (sync := cursor.take(len(SYNC), "a chunk")) != SYNC:
        raise CorruptError(
            f"{name}: {sync.hex(' ')} at byte {offset}, expected the sync bytes of a chunk c7 9a"
        )
    kind = cursor.u8("the chunk type")
    position = cursor.uvarint(lim.MAX_POSITION, "the chunk's position")
    length = cursor.uvarint(limits.body, "the chunk's length")
    head = data[: cursor.pos]
    if cursor.take(2, "the chunk header's CRC") != header_crc(head):
        raise CorruptError(f"{name}: the chunk header at byte {offset} does not match its CRC")
    return ChunkHeader(kind, position, length, cursor.pos, offset)


@dataclass(frozen=True)
class Chunk:
    """One AUDIO chunk whose CRCs hold. Its symbols are int32 [frames, dims], quantised at its own
    step_index.

    first_frame: frames of the stream before it. offset, size: where and how large the whole chunk
    is, in bytes. silent: a SILENCE chunk came directly before it, so its symbols stand for zeros.
    """

    first_frame: int
    frames: int
    dims: int
    step_index: int
    profile: Profile
    symbol_crc: int
    payload: bytes = field(repr=False)
    offset: int
    size: int
    silent: bool = False


@dataclass(frozen=True)
class LeadIn:
    """A LEAD_IN chunk: `chunk` is one frame, that before the stream's first."""

    chunk: Chunk


def encode_audio(
    info: StreamInfo, profile: Profile, step_index: int, symbols: NDArray[np.int32], payload: bytes
) -> bytes:
    """Body of an AUDIO chunk; dims and step are written only where they differ from the
    stream's.
    """
    frames, dims = symbols.shape
    return _audio_body(
        info,
        profile=profile,
        step_index=step_index,
        frames=frames,
        dims=dims,
        crc=symbol_crc(symbols),
        payload=payload,
    )


def encode_copy(info: StreamInfo, chunk: Chunk) -> bytes:
    """Body of an AUDIO chunk of this stream that holds the symbols of another stream's chunk, coded
    as they are.
    """
    return _audio_body(
        info,
        profile=chunk.profile,
        step_index=chunk.step_index,
        frames=chunk.frames,
        dims=chunk.dims,
        crc=chunk.symbol_crc,
        payload=chunk.payload,
    )


def _audio_body(
    info: StreamInfo,
    *,
    profile: Profile,
    step_index: int,
    frames: int,
    dims: int,
    crc: int,
    payload: bytes,
) -> bytes:
    own = (dims, step_index) != (info.dims, info.step_index)
    parameters = encode_uvarint(dims) + encode_svarint(step_index) if own else b""
    mode = bytes([profile | (OWN_PARAMETERS if own else 0)])
    return encode_uvarint(frames) + mode + parameters + crc.to_bytes(CRC_BYTES, "little") + payload


def decode_audio(
    head: ChunkHeader, body: bytes, info: StreamInfo, limits: Limits, name: str
) -> Chunk:
    """Body of an AUDIO chunk -> Chunk, all sizes checked."""
    cursor = Cursor(body, head.offset + head.size, name)
    frames = positive(cursor, limits.chunk_frames, "the chunk's frames")
    mode = cursor.u8("the chunk's mode")
    if mode & ~OWN_PARAMETERS not in list(Profile):
        raise FormatError(
            f"{name}: chunk mode {mode:#04x} at byte {head.offset} needs a newer reader"
        )
    own = mode & OWN_PARAMETERS
    dims = cursor.uvarint(info.dims, "the chunk's dims") if own else info.dims
    step_index = (
        cursor.svarint(lim.MAX_STEP_INDEX, "the chunk's step index") if own else info.step_index
    )
    if own and (dims, step_index) == (info.dims, info.step_index):
        raise cursor.fail("the chunk repeats the stream's parameters")
    if frames * dims > limits.chunk_symbols:
        raise cursor.fail(
            f"{frames} frames of {dims} dims are above the limit of {limits.chunk_symbols} symbols"
        )
    if (head.position + frames) * info.hop > limits.seconds * info.model_rate:
        raise cursor.fail(f"the stream is longer than the limit of {limits.seconds:g} s")
    crc, profile = cursor.u32("the symbol CRC"), Profile(mode & ~OWN_PARAMETERS)
    return Chunk(
        head.position,
        frames,
        dims,
        step_index,
        profile,
        crc,
        cursor.rest(),
        head.offset,
        head.total,
    )


# ---- index and trailer ---------------------------------------------------------------------------


@dataclass(frozen=True)
class IndexEntry:
    """Where an AUDIO chunk is: absolute byte offset, first frame, frames."""

    offset: int
    first_frame: int
    frames: int


def encode_index_entry(delta: int, frames: int) -> bytes:
    """delta: bytes from the sync of the AUDIO chunk before (or the stream's magic) to this
    one's.
    """
    return encode_uvarint(delta) + encode_uvarint(frames)


def encode_index(distance: int, count: int, entries: bytes) -> bytes:
    """Body of INDEX. distance: bytes from the stream's magic to INDEX's sync."""
    return encode_uvarint(distance) + encode_uvarint(count) + entries


def decode_index(head: ChunkHeader, body: bytes, limits: Limits, name: str) -> list[IndexEntry]:
    """Body of INDEX -> entries with absolute offsets."""
    cursor = Cursor(body, head.offset + head.size, name)
    offset = head.offset - cursor.uvarint(head.offset, "the index's distance")
    count = cursor.uvarint(cursor.left // 2, "the index's count")
    entries, frame = [], 0
    for _ in range(count):
        offset += cursor.uvarint(head.offset - offset, "an index offset")
        frames = positive(cursor, limits.chunk_frames, "an index entry's frames")
        entries.append(IndexEntry(offset, frame, frames))
        frame += frames
    cursor.end("the index")
    return entries


def encode_trailer(distance: int) -> bytes:
    """The last 12 bytes of a stream with INDEX.

    distance: bytes from INDEX's sync to the trailer.
    """
    head = distance.to_bytes(4, "little") + TRAILER_MAGIC
    return head + crc32_bytes(head)


def decode_trailer(data: bytes, offset: int, name: str) -> int:
    """12 bytes -> distance back to INDEX."""
    if len(data) < TRAILER_BYTES:
        raise TruncatedError(f"{name}: ends at byte {offset + len(data)}, within the trailer")
    if data[4:8] != TRAILER_MAGIC or crc32_bytes(data[:8]) != data[8:]:
        raise CorruptError(f"{name}: the trailer at byte {offset} is damaged")
    return int.from_bytes(data[:4], "little")
