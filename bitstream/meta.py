"""The META chunk: a small JSON object, compressed with zstd, read with every bound in place (SPEC section 4.3).

The trap this module closes: `ZstdDecompressor.decompress(data, max_output_size=n)` ignores n when the frame declares
its own size, so 32 kB can allocate a gigabyte. Here the declared size is checked first and the output is read through
a stream that stops one byte after the limit.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import zstandard

from ravecodec.bitstream.limits import MAX_META
from ravecodec.bitstream.varint import Cursor, encode_uvarint
from ravecodec.errors import CorruptError, UsageError

ZSTD_LEVEL = 19
MAX_WINDOW = 2**23


def encode_meta(meta: Mapping[str, Any]) -> bytes:
    """Body of META: uvarint size of the JSON, then one zstd frame with checksum. Keys are sorted, no time is added.

    UsageError if it is not JSON (NaN and lone surrogates are not) or above 1 MiB.
    """
    try:
        text = json.dumps(dict(meta), ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
        data = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the metadata is not plain JSON: {error}") from error
    if len(data) > MAX_META:
        raise UsageError(f"the metadata has {len(data)} bytes of JSON, expected at most {MAX_META}")
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True, write_content_size=True)
    return encode_uvarint(len(data)) + compressor.compress(data)


def decode_meta(body: bytes, offset: int, name: str, maximum: int = MAX_META) -> dict[str, Any]:
    """Body of META at byte `offset` of the stream -> the object; CorruptError if it is anything else."""
    cursor = Cursor(body, offset, name)
    size = cursor.uvarint(maximum, "the metadata's size")
    try:
        meta = parse_json(inflate(cursor.rest(), size))
    except (zstandard.ZstdError, ValueError, RecursionError) as error:
        raise CorruptError(f"{name}: the metadata at byte {offset} cannot be read: {error}") from error
    return meta


def inflate(frame: bytes, size: int) -> bytes:
    """One zstd frame -> exactly `size` bytes; ZstdError or ValueError otherwise. Allocates about size + one window."""
    declared = zstandard.get_frame_parameters(frame).content_size
    if declared != size:
        raise ValueError(f"the zstd frame declares {declared} bytes, expected {size}")
    with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(io.BytesIO(frame)) as reader:
        data = reader.read(size + 1)
    if len(data) != size:
        raise ValueError(f"the zstd frame holds {len(data)} bytes, expected {size}")
    return data


def parse_json(data: bytes) -> dict[str, Any]:
    """UTF-8 JSON object without NaN, infinities or lone surrogates; ValueError otherwise."""
    meta = json.loads(data.decode(), parse_constant=refuse_constant)
    if not isinstance(meta, dict):
        raise ValueError(f"a JSON {type(meta).__name__}, expected an object")
    json.dumps(meta, ensure_ascii=False).encode()  # a lone surrogate has no UTF-8
    return meta


def refuse_constant(text: str) -> None:
    """NaN and Infinity are no JSON."""
    raise ValueError(f"{text} is not JSON")
