"""Hard maxima of the format and the limits a reader checks before it allocates (SPEC section 8).

The maxima bind every writer. A reader may lower any of them; only the playing time may be raised,
because it bounds what a small hostile file can cost, not what the layout can express.
"""

from dataclasses import dataclass

MAX_CHANNELS = 8
MAX_RATE = 768_000
MAX_HOP = 65_536
MAX_DIMS = 1_024
MAX_STEP_INDEX = 512  # 2**(512/8) = 2**64 in either direction
MAX_SEED = 2**32 - 1
MAX_CHUNK_FRAMES = 4_096
MAX_CHUNK_SYMBOLS = 2**20
MAX_BODY = 2**22
MAX_META = 2**20
MAX_MODEL = 2**28  # bytes of an embedded decoder, unpacked
MAX_MODEL_PARTS = 64  # of at most MAX_BODY bytes: as many as MAX_MODEL has, compressed
MAX_POSITION = 2**40 - 1
MAX_TOTAL_SAMPLES = 2**56 - 1
MAX_SYMBOL = 32_767  # |symbol|, so that the symbol CRC can run over int16
DAY_S = 86_400


@dataclass(frozen=True)
class Limits:
    """What a reader accepts; a stream beyond it is refused with CorruptError before anything is
    allocated.

    dims, chunk_frames, chunk_symbols, body (bytes of one chunk), meta (bytes of JSON), model (bytes
    of an embedded decoder, unpacked): at most the format's maxima. seconds: playing time of the
    whole stream; a raised value admits longer streams.
    """

    dims: int = MAX_DIMS
    chunk_frames: int = MAX_CHUNK_FRAMES
    chunk_symbols: int = MAX_CHUNK_SYMBOLS
    body: int = MAX_BODY
    meta: int = MAX_META
    model: int = MAX_MODEL
    seconds: float = DAY_S
