"""The META chunk: a small JSON object, compressed with zstd, read with every bound in place (SPEC
section 4.3).

The trap this module closes: `ZstdDecompressor.decompress(data, max_output_size=n)` ignores n when
the frame declares its own size, so 32 kB can allocate a gigabyte. Here the declared size is checked
first and the frame is fed in slices, so that output beyond the limit is noticed at once.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import zstandard

from ravecodec.bitstream.limits import MAX_META
from ravecodec.bitstream.varint import Cursor, encode_uvarint
from ravecodec.errors import CorruptError, UsageError

ZSTD_LEVEL = 19
MAX_WINDOW = 2**23
MAX_DEPTH = 64  # objects and arrays within each other
# bytes given to zstd at a time: what they can grow to, about 2 MiB, is how far a limit can be
# overrun
_SLICE = 64


def encode_meta(meta: Mapping[str, Any]) -> bytes:
    """Body of META: uvarint size of the JSON, then one zstd frame with checksum. Keys are sorted,
    no time is added.

    UsageError if it is not JSON (NaN and lone surrogates are not) or above 1 MiB.
    """
    try:
        text = json.dumps(
            dict(meta), ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
        )
        data = text.encode()
        _check_depth(meta)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the metadata is not plain JSON: {error}") from error
    if len(data) > MAX_META:
        raise UsageError(f"the metadata has {len(data)} bytes of JSON, expected at most {MAX_META}")
    compressor = zstandard.ZstdCompressor(
        level=ZSTD_LEVEL, write_checksum=True, write_content_size=True
    )
    return encode_uvarint(len(data)) + compressor.compress(data)


def decode_meta(body: bytes, offset: int, name: str, maximum: int = MAX_META) -> dict[str, Any]:
    """Body of META at byte `offset` of the stream -> the object; CorruptError if it is anything
    else.
    """
    cursor = Cursor(body, offset, name)
    size = cursor.uvarint(maximum, "the metadata's size")
    try:
        meta = parse_json(inflate(cursor.rest(), size))
    except (zstandard.ZstdError, ValueError, RecursionError) as error:
        raise CorruptError(
            f"{name}: the metadata at byte {offset} cannot be read: {error}"
        ) from error
    return meta


def inflate(frame: bytes, size: int) -> bytes:
    """One zstd frame, and nothing behind it -> exactly `size` bytes; ZstdError or ValueError
    otherwise.

    Allocates about size + one window.
    """
    parameters = zstandard.get_frame_parameters(frame)
    if parameters.content_size != size:
        raise ValueError(
            f"the zstd frame declares {parameters.content_size} bytes, expected {size}"
        )
    if parameters.window_size > MAX_WINDOW:
        raise ValueError(
            f"the zstd frame wants a window of {parameters.window_size} bytes, expected "
            f"{MAX_WINDOW}"
        )
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    data, place = bytearray(), 0
    while place < len(frame) and not decompressor.eof:
        data += decompressor.decompress(frame[place : place + _SLICE])
        place += _SLICE
        if len(data) > size:
            raise ValueError(f"the zstd frame holds more than {size} bytes, as it declares")
    if not decompressor.eof:
        raise ValueError(f"the zstd frame is cut off after {len(frame)} bytes")
    if behind := len(decompressor.unused_data) + max(0, len(frame) - place):
        raise ValueError(f"{behind} bytes follow the zstd frame, expected none")
    if len(data) != size:
        raise ValueError(f"the zstd frame holds {len(data)} bytes, expected {size}")
    return bytes(data)


def parse_json(data: bytes) -> dict[str, Any]:
    """UTF-8 JSON object without NaN, infinities, lone surrogates or depth above MAX_DEPTH;
    ValueError otherwise.
    """
    meta = json.loads(data.decode(), parse_constant=refuse_constant, parse_float=_finite)
    if not isinstance(meta, dict):
        raise ValueError(f"a JSON {type(meta).__name__}, expected an object")
    _check_depth(meta)
    json.dumps(meta, ensure_ascii=False).encode()  # a lone surrogate has no UTF-8
    return meta


def _check_depth(value: Any) -> None:
    """ValueError if objects and arrays lie deeper within each other than MAX_DEPTH."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, Mapping | list | tuple)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        level = [
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, Mapping) else outer)
        ]


def _finite(text: str) -> float:
    """A JSON number with fraction or exponent; ValueError where it is beyond what a double
    holds.
    """
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is beyond the range of numbers")
    return value


def refuse_constant(text: str) -> None:
    """NaN and Infinity are no JSON."""
    raise ValueError(f"{text} is not JSON")
