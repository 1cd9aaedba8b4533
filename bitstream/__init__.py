"""bytes <-> integers: the .rvc container, its range coder and its frozen tables. SPEC.md is the
normative text.

Knows no tensor and no audio, and works without torch. `StreamWriter` and `StreamReader` are the way
in; a stream is header, META, AUDIO chunks of symbols int32 [frames, dims], INDEX, END.
"""

from ravecodec.bitstream.container import MAJOR, MINOR, ByteCount, Chunk, IndexEntry, StreamInfo
from ravecodec.bitstream.embedded import EmbeddedModel
from ravecodec.bitstream.entropy import (
    Profile,
    decode_raw,
    decode_symbols,
    encode_raw,
    encode_symbols,
    ideal_code_length,
)
from ravecodec.bitstream.index import find_index
from ravecodec.bitstream.limits import Limits
from ravecodec.bitstream.predict import Predictor, fit_predictor
from ravecodec.bitstream.reader import Damage, StreamReader, streams
from ravecodec.bitstream.retag import replace_meta
from ravecodec.bitstream.static import StaticModel, fit_static, static_rows
from ravecodec.bitstream.tables import SCALES, SHAPES, SIGMAS, TABLES_SHA256
from ravecodec.bitstream.writer import StreamWriter

__all__ = [
    "MAJOR",
    "MINOR",
    "SCALES",
    "SHAPES",
    "SIGMAS",
    "TABLES_SHA256",
    "ByteCount",
    "Chunk",
    "Damage",
    "EmbeddedModel",
    "IndexEntry",
    "Limits",
    "Predictor",
    "Profile",
    "StaticModel",
    "StreamInfo",
    "StreamReader",
    "StreamWriter",
    "decode_raw",
    "decode_symbols",
    "encode_raw",
    "encode_symbols",
    "find_index",
    "fit_predictor",
    "fit_static",
    "ideal_code_length",
    "replace_meta",
    "static_rows",
    "streams",
]
