"""SPEC.md against the code, and a second reader written from SPEC.md alone, in plain Python,
against the vectors.
"""

import binascii
import hashlib
import json
import re
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import ravecodec.bitstream
from ravecodec.bitstream import MAJOR, MINOR, TABLES_SHA256, limits, tables
from ravecodec.bitstream.coder import PYTHON

FOLDER = Path(ravecodec.bitstream.__file__).parent
SPEC = (FOLDER / "SPEC.md").read_text(encoding="utf-8")
VECTORS = Path(__file__).parents[1] / "vectors"


# ---- a second reader, section by section ---------------------------------------------------------


class Bytes:
    """Section 2."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        self.at += count
        assert self.at <= len(self.data)
        return self.data[self.at - count : self.at]

    def uvarint(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def svarint(self) -> int:
        value = self.uvarint()
        return value // 2 if value % 2 == 0 else -(value + 1) // 2


@cache
def table_family() -> dict[tuple[int, int, int], tuple[int, ...]]:
    """Section 6."""
    data, at, family = (FOLDER / "tables.bin").read_bytes(), 0, {}
    for shape in range(5):
        for scale in range(96):
            for offset in range(9 if scale < 64 else 1):
                count = 2 * reach(scale) + 2
                family[shape, scale, offset] = struct.unpack_from(f"<{count}I", data, at)
                at += 4 * count
    assert at == len(data) == 409_800
    return family


def reach(scale: int) -> int:
    return next(r for r in range(4, 999) if scale <= 24 or r**8 >= 2 ** (scale - 24))


class Decoder:
    """Section 5."""

    def __init__(self, message: bytes) -> None:
        self.rest = Bytes(message + bytes(10**6))
        self.d, self.r = int.from_bytes(self.rest.take(8), "big"), 2**64 - 1

    def index(self, p: tuple[int, ...]) -> int:
        s = self.r >> 24
        t = self.d // s
        assert t < 2**24
        i = c = 0
        while c + p[i] <= t:
            c, i = c + p[i], i + 1
        self.d, self.r = self.d - s * c, s * p[i]
        if self.r < 2**32:
            self.r, self.d = self.r << 32, self.d << 32 | int.from_bytes(self.rest.take(4), "big")
        return i

    def bit(self) -> int:
        return self.index((2**23, 2**23))


def encode(pairs: list[tuple[int, tuple[int, ...]]]) -> bytes:
    """Section 5, with unbounded integers."""
    low, r, b = 0, 2**64 - 1, 0
    for i, p in pairs:
        s = r >> 24
        low, r = low + s * sum(p[:i]), s * p[i]
        if r < 2**32:
            low, r, b = low << 32, r << 32, b + 4
    for length in range(b + 9):
        unit = 256 ** (b + 8 - length)
        value = -(-low // unit)
        if value * unit < low + r:
            return value.to_bytes(length, "big")
    raise AssertionError


def decode_static(
    message: bytes, static: dict[str, list[int]], g: int, frames: int, dims: int
) -> list[list[int]]:
    """Section 7.2."""
    coder, columns = Decoder(message), []
    for d in range(dims):
        scale = min(max(static["scales"][d] - g, 0), 95)
        r = reach(scale)
        column = [
            coder.index(table_family()[static["shapes"][d], scale, 0]) - r for _ in range(frames)
        ]
        columns.append(
            [escape(coder, r, max(0, (scale - 40) // 8)) if q > r else q for q in column]
        )
    return (
        [list(frame) for frame in zip(*columns, strict=True)]
        if dims
        else [[] for _ in range(frames)]
    )


def decode_predicted(
    message: bytes, model: dict[str, Any], g: int, frames: int, dims: int
) -> list[list[int]]:
    """Section 7.3."""
    coder, symbols = Decoder(message), [[0] * dims, [0] * dims]
    scales = [min(max(j - g, 0), 95) for j in model["scales"][:dims]]
    order = sorted(range(dims), key=lambda d: (reach(scales[d]), d))
    for _ in range(frames):
        before, earlier = symbols[-1], symbols[-2]
        means = [
            (a * p + b * q + 128) >> 8
            for (a, b), p, q in zip(model["weights"], before, earlier, strict=False)
        ]
        whole = [(m + 8) // 16 for m in means]
        offset = [m - 16 * w for m, w in zip(means, whole, strict=True)]
        residual = [0] * dims
        for d in order:
            shared = 0 if scales[d] >= 64 else abs(offset[d])
            residual[d] = coder.index(
                table_family()[model["shapes"][d], scales[d], shared]
            ) - reach(scales[d])
        for d in order:
            if residual[d] > reach(scales[d]):
                residual[d] = escape(coder, reach(scales[d]), max(0, (scales[d] - 40) // 8))
        symbols.append(
            [w - r if o < 0 else w + r for w, o, r in zip(whole, offset, residual, strict=True)]
        )
    return symbols[2:]


def escape(coder: Decoder, r: int, k: int) -> int:
    sign, n = coder.bit(), 0
    while not coder.bit():
        n += 1
    x = 1
    for _ in range(n):
        x = 2 * x + coder.bit()
    e = x - 1
    for _ in range(k):
        e = 2 * e + coder.bit()
    return -(e + r + 1) if sign else e + r + 1


def decode_raw(payload: bytes, frames: int, dims: int) -> list[list[int]]:
    """Section 7.1."""
    w, bits = payload[0], "".join(f"{byte:08b}" for byte in payload[1:])
    values = [int(bits[n * w : (n + 1) * w] or "0", 2) for n in range(frames * dims)]
    symbols = [v // 2 if v % 2 == 0 else -(v + 1) // 2 for v in values]
    return [symbols[f * dims : (f + 1) * dims] for f in range(frames)]


def read_header(data: bytes) -> tuple[dict[str, Any], int]:
    """Section 3.1."""
    size = data[6]
    assert data[:5] == b"\x89RVC\x01"
    assert struct.unpack("<I", data[size - 4 : size])[0] == zlib.crc32(data[: size - 4])
    fields = Bytes(data[7 : size - 4])
    info: dict[str, Any] = {"model_id": fields.take(8).hex(), "minor": data[5]}
    assert fields.uvarint() == 0
    for name in ("channels", "sample_rate", "hop", "dims"):
        info[name] = fields.uvarint()
    more = lambda read: read() if fields.at < len(fields.data) else 0  # noqa: E731
    info["step_index"] = more(fields.svarint)
    info["noise_fill"] = bool(more(fields.uvarint) & 1)
    info["seed"] = more(fields.uvarint)
    info["model_rate"] = more(fields.uvarint) or 48_000
    return info, size


def read_chunks(data: bytes, at: int) -> Iterator[tuple[int, int, bytes, int]]:
    """Section 3.2: (type, position, body, offset) up to END."""
    chain = data[at - 4 : at]
    while True:
        head = Bytes(data[at:])
        assert head.take(2) == b"\xc7\x9a"
        (kind,) = head.take(1)
        position, length = head.uvarint(), head.uvarint()
        crc = binascii.crc_hqx(data[at : at + head.at], 0xFFFF)
        assert head.take(2) == struct.pack("<H", crc)
        end = at + head.at + length
        covered = data[at:end] if kind != 0x82 else chain + data[at:end]
        closing = data[end : end + 4]
        assert closing == struct.pack("<I", zlib.crc32(covered))
        yield kind, position, data[at + head.at : end], at
        chain, at = chain + closing, end + 4
        if kind == 0x82:
            return


def read_stream(data: bytes, static: dict[str, Any] | None) -> dict[str, Any]:
    """Section 4."""
    info, size = read_header(data)
    chunks: list[dict[str, Any]] = []
    found: dict[str, Any] = {"info": info, "meta": {}, "chunks": chunks, "model": None}
    frames_so_far = 0
    for kind, position, body, offset in read_chunks(data, size):
        fields = Bytes(body)
        assert position == frames_so_far
        if kind == 0x01:
            size = fields.uvarint()
            text = zstandard.ZstdDecompressor().decompress(body[fields.at :])
            assert len(text) == size
            found["meta"] = json.loads(text)
        elif kind == 0x03:
            assert fields.take(2) == b"\0\1"  # all in one part
            size, digest = fields.uvarint(), fields.take(32)
            file = zstandard.ZstdDecompressor().decompress(body[fields.at :])
            assert (len(file), hashlib.sha256(file).digest()) == (size, digest)
            found["model"] = digest.hex()
        elif kind == 0x82:
            found["total_samples"] = fields.uvarint()
        elif kind == 0x81:
            frames, (mode,) = fields.uvarint(), fields.take(1)
            dims, g = (
                (fields.uvarint(), fields.svarint())
                if mode & 16
                else (info["dims"], info["step_index"])
            )
            (crc,), payload = struct.unpack("<I", fields.take(4)), body[fields.at :]
            if mode & 15 == 0:
                profile, symbols = "RAW", decode_raw(payload, frames, dims)
            elif mode & 15 == 1:
                assert static is not None
                profile, symbols = "STATIC", decode_static(payload, static, g, frames, dims)
            else:
                assert static is not None
                profile, symbols = (
                    "PREDICTED",
                    decode_predicted(payload, static["predictor"], g, frames, dims),
                )
            assert crc == zlib.crc32(
                b"".join(struct.pack(f"<{dims}h", *frame) for frame in symbols)
            )
            chunks.append(
                {"profile": profile, "step_index": g, "offset": offset, "symbols": symbols}
            )
            frames_so_far += frames
    return found


def test_a_reader_written_from_the_specification_reads_the_vectors(
    subtests: pytest.Subtests,
) -> None:
    for path in sorted(VECTORS.glob("*/*.rvc")):
        with subtests.test(path=path):
            expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            found = read_stream(path.read_bytes(), expected["static"])
            assert found == {name: expected.get(name) for name in found}
            assert {"info", "meta", "chunks", "model", "total_samples"} == set(found)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_the_coder_of_the_specification_writes_the_same_messages(data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.sampled_from(sorted(table_family())), max_size=25))
    pairs, encoder = [], PYTHON.encoder()
    for shape, scale, offset in rows:
        p = table_family()[shape, scale, offset]
        index = data.draw(
            st.sampled_from([0, len(p) // 2 - 1, len(p) - 1]) | st.integers(0, len(p) - 1)
        )
        pairs.append((index, p))
        encoder.encode(
            np.array([index], dtype=np.int32), int(tables.row_index(shape, scale, offset))
        )
    message = encode(pairs)
    assert encoder.finish() == message
    decoder = Decoder(message)
    assert [decoder.index(p) for _, p in pairs] == [i for i, _ in pairs]


# ---- the text against the code -------------------------------------------------------------------


def test_version_hash_and_size_of_the_tables() -> None:
    assert f"Version {MAJOR}.{MINOR}, 20" in SPEC
    assert TABLES_SHA256 in SPEC
    assert f"{tables.TABLES_PATH.stat().st_size} bytes" in SPEC


def test_printed_reach_and_rows() -> None:
    middle = re.search(r"j 41 \.\. 63: ([\d ]+)\n", SPEC)
    upper = re.search(r"j 64 \.\. 95: ([\d ]+)\n", SPEC)
    assert middle is not None
    assert upper is not None
    values = [4] * 41 + [int(v) for v in f"{middle[1]} {upper[1]}".split()]
    assert values == list(tables.REACH)
    text = " ".join(SPEC.split())
    for row in (0, 360, 2096):
        assert " ".join(map(str, tables.frequencies(row).tolist())) in text


def test_printed_limits() -> None:
    printed = {
        "channels": limits.MAX_CHANNELS,
        "sample rate, model rate": limits.MAX_RATE,
        "hop": limits.MAX_HOP,
        "dims": limits.MAX_DIMS,
        "step index": limits.MAX_STEP_INDEX,
        "frames per chunk": limits.MAX_CHUNK_FRAMES,
        "symbols per chunk": limits.MAX_CHUNK_SYMBOLS,
        "body of a chunk": limits.MAX_BODY,
        "JSON of META": limits.MAX_META,
        "decoder in MODEL, unpacked": limits.MAX_MODEL,
        "parts of MODEL": limits.MAX_MODEL_PARTS,
        "position": limits.MAX_POSITION,
        "total samples": limits.MAX_TOTAL_SAMPLES,
        "symbol": limits.MAX_SYMBOL,
    }
    section = SPEC[SPEC.index("## 8. Limits") : SPEC.index("## 9.")]
    rows = dict(re.findall(r"^\| ([^|]+) \| (\d[\d^ -]*)", section, flags=re.M))
    assert {what: _number(text) for what, text in rows.items()} == printed


def _number(text: str) -> int:
    base, _, power = text.strip().removesuffix("- 1").strip().partition("^")
    return (int(base) ** int(power) if power else int(base)) - ("- 1" in text)


def test_the_worked_example_is_the_vector() -> None:
    block = re.search(r"```\n(89 52.*?)```", SPEC, flags=re.S)
    assert block is not None
    lines = [line.split("  ")[0] for line in block[1].splitlines()]
    assert bytes.fromhex("".join(lines)) == (VECTORS / "1.0" / "one_chunk.rvc").read_bytes()


def test_the_predicted_example_is_the_vector() -> None:
    chunk = json.loads((VECTORS / "1.1" / "predicted.json").read_text(encoding="utf-8"))["chunks"][
        0
    ]
    rows = re.findall(
        r"^\| (\d) \| (-?\d+) \| (-?\d+) \| (-?\d+) \| (-?\d+) \| (-?\d+) \|$", SPEC, flags=re.M
    )
    assert len(rows) == 6 and chunk["step_index"] == 2
    before = earlier = 0
    for frame, row in enumerate(rows):
        t, q, m, w, o, residual = map(int, row)
        assert t == frame and q == chunk["symbols"][t][0]
        assert m == (2800 * before + 200 * earlier + 128) // 256
        assert m == 16 * w + o and -8 <= o < 8
        assert residual == (w - q if o < 0 else q - w)
        before, earlier = q, before


def test_the_message_by_hand() -> None:
    parts = [
        ((0, 0, 0), [4, 4, 3]),
        ((1, 41, 1), [2, 5, 1]),
        (None, [1, 0, 1, 1]),
        ((4, 82, 0), [30, 90]),
    ]
    rows = [int(tables.row_index(*key)) for key, _ in parts if key]
    assert rows == [0, 1234, 4194]  # row 4200 has offset 6, but scale 82 has one table for all
    pairs = [
        (i, table_family()[key] if key else (2**23, 2**23))
        for key, indices in parts
        for i in indices
    ]
    assert encode(pairs).hex() in SPEC


def test_check_values_of_the_crcs() -> None:
    assert f"{zlib.crc32(b'123456789'):08X}" in SPEC
    assert f"{binascii.crc_hqx(b'123456789', 0xFFFF):04X}" in SPEC
