"""Tags in WAV: the INFO list of RIFF (Microsoft, Multimedia Programming Interface) and the `bext`
chunk of the Broadcast Wave Format (EBU Tech 3285), both read and written here, because mutagen
knows neither.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from ravecodec.audio.tag_names import (
    INFO_ALSO,
    INFO_IDS,
    INFO_NAMES,
    INFO_OTHER,
    ORIGINAL,
    joined,
    parted,
)
from ravecodec.audio.tag_set import TagSet, decoded

BEXT = "BEXT_"  # before the names of fields of `bext`
TIME_REFERENCE = f"{BEXT}TIME_REFERENCE"  # samples from midnight to the first one
_MOST_INFO = 1 << 20  # bytes of an INFO list that are looked at
_TEXTS = {  # field of bext -> bytes; in the order in which they stand
    "DESCRIPTION": 256,
    "ORIGINATOR": 32,
    "ORIGINATOR_REFERENCE": 32,
    "ORIGINATION_DATE": 10,
    "ORIGINATION_TIME": 8,
}
_FIXED = struct.Struct("<QH64s5h180x")  # time reference, version, UMID, loudness, reserved
_LOUDNESS = (
    "LOUDNESS_VALUE",
    "LOUDNESS_RANGE",
    "MAX_TRUE_PEAK_LEVEL",
    "MAX_MOMENTARY_LOUDNESS",
    "MAX_SHORT_TERM_LOUDNESS",
)
_NO_LOUDNESS = 0x7FFF
_HISTORY = "CODING_HISTORY"
_MOST_TIME = (1 << 64) - 1


def read_info(body: bytes, tag_set: TagSet) -> None:
    """The entries of a LIST chunk's body, if it is an INFO list."""
    if body[:4] != b"INFO":
        return
    place, body = 4, body[:_MOST_INFO]
    while place + 8 <= len(body):
        key = body[place : place + 4].decode("latin-1")
        size = int.from_bytes(body[place + 4 : place + 8], "little")
        text = decoded(body[place + 8 : place + 8 + size]).strip()
        name = INFO_NAMES.get(key) or INFO_ALSO.get(key) or INFO_OTHER + key
        for each, part in parted(name, text):
            tag_set.add(each, part)
        place += 8 + size + size % 2


def read_bext(body: bytes, tag_set: TagSet) -> None:
    """The fields of a bext chunk's body. Loudness is that of the original, and marked so."""
    place = 0
    for name, size in _TEXTS.items():
        tag_set.add(BEXT + name, decoded(body[place : place + size]).strip())
        place += size
    if len(body) < place + _FIXED.size:
        return
    time, version, umid, *loudness = _FIXED.unpack_from(body, place)
    if time:
        tag_set.add(TIME_REFERENCE, time)
    if version >= 1 and any(umid):
        tag_set.add(f"{BEXT}UMID", umid.hex())
    for name, value in zip(_LOUDNESS, loudness, strict=True):
        if version >= 2 and value != _NO_LOUDNESS:
            tag_set.add(f"{ORIGINAL}{BEXT}{name}", f"{value / 100:.2f}")
    tag_set.add(BEXT + _HISTORY, decoded(body[place + _FIXED.size :]).strip())


def info_and_bext(tags: Mapping[str, list[str]]) -> tuple[bytes, list[str]]:
    """(chunks LIST INFO and bext, where there is something for them; names of tags that neither can
    hold in full).
    """
    entries, others = b"", []
    for name, values in joined(tags).items():
        key = INFO_IDS.get(name) or _other_id(name)
        if key:
            entries += chunk(key.encode("latin-1"), values[0].encode() + b"\0")
        if not (key or name.startswith(BEXT)) or len(values) > 1:
            others.append(name)
    chunks = chunk(b"LIST", b"INFO" + entries) if entries else b""
    body = _bext(tags)
    return chunks + (chunk(b"bext", body) if body else b""), others


def _other_id(name: str) -> str:
    """The four letters of an entry that was kept under its own name; "" for any other."""
    key = name.removeprefix(INFO_OTHER)
    fits = name.startswith(INFO_OTHER) and len(key) == 4 and key.isascii() and key.isprintable()
    return key if fits else ""


def _bext(tags: Mapping[str, list[str]]) -> bytes:
    """Body of a bext chunk, version 1; b"" where no tag belongs into one."""
    fields = {n.removeprefix(BEXT): v[0] for n, v in tags.items() if n.startswith(BEXT)}
    if not fields:
        return b""
    texts = b"".join(_padded(fields.get(name, ""), size) for name, size in _TEXTS.items())
    time = fields.get("TIME_REFERENCE", "")
    digits = time.isascii() and time.isdigit() and len(time) <= len(str(_MOST_TIME))
    reference = min(int(time), _MOST_TIME) if digits else 0
    fixed = _FIXED.pack(reference, 1, _umid(fields.get("UMID", "")), *[0] * len(_LOUDNESS))
    history = fields.get(_HISTORY, "").replace("\n", "\r\n").encode()
    return texts + fixed + (history + b"\r\n" if history else b"")


def _padded(text: str, size: int) -> bytes:
    """UTF-8 of a text, cut between characters to `size` bytes, filled up with NUL."""
    return text.encode()[:size].decode("utf-8", "ignore").encode().ljust(size, b"\0")


def _umid(text: str) -> bytes:
    try:
        return bytes.fromhex(text)[:64]
    except ValueError:
        return b""


def chunk(name: bytes, body: bytes) -> bytes:
    """A whole RIFF chunk, padded to an even size."""
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
