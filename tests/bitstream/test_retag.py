"""Metadata is replaced and nothing else: audio chunks byte for byte, and the chain, INDEX and
trailer hold."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ravecodec.bitstream import StreamInfo, StreamReader, StreamWriter, find_index, replace_meta
from ravecodec.bitstream.container import encode_chunk
from ravecodec.errors import CorruptError, FormatError, RavecodecError, UsageError

VECTORS = sorted((Path(__file__).parents[1] / "vectors").glob("*/*.rvc"))
INFO = StreamInfo(b"8 bytes!", 48_000, 2, 2048, 3)
METAS: tuple[dict[str, Any], ...] = ({}, {"tags": {"TITLE": "x"}}, {"a": "0123456789" * 90})


def stream(chunks: int, meta: dict[str, Any], *, foreign: bool = False) -> bytes:
    """Raw chunks with a lead-in and a silent one; foreign: unknown ancillary chunks between."""
    rng, file = np.random.default_rng(chunks), io.BytesIO()
    writer = StreamWriter(file, INFO)
    if meta:
        writer.write_meta(meta)
    put = writer._put
    if foreign:
        put(encode_chunk(0x41, 0, b"before"))
    if chunks:
        writer.write_lead_in(rng.integers(-9, 9, (1, 3)))
    for number in range(chunks):
        writer.write_chunk(rng.integers(-9, 9, (number % 5 + 1, 3)), silent=number == 2)
        if foreign:
            put(encode_chunk(0x30, writer.frames, b"between"))
    writer.close(writer.frames * 2048)
    return file.getvalue()


def replaced(data: bytes, meta: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    replace_meta(io.BytesIO(data), out, lambda _: meta)
    return out.getvalue()


def audio_chunks(data: bytes) -> list[bytes]:
    """Bytes of the AUDIO chunks of a stream that is checked to its end, END's chain included."""
    return [data[c.offset : c.offset + c.size] for c in StreamReader(io.BytesIO(data)).chunks()]


def test_a_stream_becomes_what_its_writer_would_have_made_with_other_metadata() -> None:
    for chunks in (0, 1, 8, 9, 40):
        for foreign in (False, True):
            for old in METAS:
                for new in METAS:
                    data = stream(chunks, old, foreign=foreign)
                    assert replaced(data, new) == stream(chunks, new, foreign=foreign)


def test_golden_streams_keep_their_audio_and_their_index_and_come_back() -> None:
    tried = 0
    for path in VECTORS:
        data = path.read_bytes()
        try:
            meta = StreamReader(io.BytesIO(data)).meta
            before = audio_chunks(data)
        except RavecodecError:  # one that must be refused
            continue
        tried += 1
        changed = replaced(data, {"tags": {"N": "x" * 200}})
        assert audio_chunks(changed) == before, path
        for entry in find_index(io.BytesIO(changed)) or []:
            assert changed[entry.offset :].startswith(b"\xc7\x9a\x81")
        again = replaced(changed, meta)
        assert audio_chunks(again) == before
        assert StreamReader(io.BytesIO(again)).meta == meta
    assert tried


def test_the_change_sees_the_old_metadata() -> None:
    seen: list[dict[str, Any]] = []
    data = stream(2, {"tags": {"A": "b"}})
    replace_meta(io.BytesIO(data), io.BytesIO(), lambda meta: seen.append(meta) or {})
    assert seen == [{"tags": {"A": "b"}}]


def test_a_damaged_stream_is_refused() -> None:
    data = stream(12, METAS[1])
    for place in (9, 40, len(data) // 2, len(data) - 2):
        bad = bytearray(data)
        bad[place] ^= 0x10
        with pytest.raises(CorruptError):
            replaced(bytes(bad), {})
    for end in (len(data) - 1, len(data) - 13, 50):
        with pytest.raises(CorruptError):
            replaced(data[:end], {})
    with pytest.raises(FormatError, match="second stream"):
        replaced(data + data, {})


def test_metadata_that_no_stream_can_hold_is_refused() -> None:
    for meta in ({"a": float("nan")}, {"a": "x" * 2**20}, {"a": "\ud800"}):
        with pytest.raises(UsageError):
            replaced(stream(1, {}), meta)
