"""Tags that people put before and behind audio and that belong to no container: ID3, APE,
Lyrics3.
"""

from __future__ import annotations

from ravecodec.views import Bytes

_ID3V1 = 128
_MOST_LYRICS = 1 << 20  # bytes: Lyrics3 has six digits for its size
_STARTS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")


def starts_tag(data: bytes) -> bool:
    """Whether these bytes begin one of the tags."""
    return data.startswith(_STARTS)


def tag_length(data: Bytes, place: int) -> int:
    """Bytes of the tag that begins at a place; 0 for none."""
    head = data.at(place, 32)
    if head[:3] == b"TAG" and data.size - place >= _ID3V1:
        return _ID3V1
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 0x80:
        size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        return 10 + size + 10 * bool(head[5] & 0x10)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        size, is_header = int.from_bytes(head[12:16], "little"), head[23] & 0x20
        return size + 32 if is_header else 32
    if head[:11] == b"LYRICSBEGIN":
        end = data.find(b"LYRICS200", place, min(data.size, place + _MOST_LYRICS))
        return end + 9 - place if end >= 0 else 0
    return 0


def without_tags(data: Bytes) -> tuple[int, int]:
    """(start, stop) of what lies between the tags at both ends of a file."""
    start, stop = 0, data.size
    while (
        data.at(start, 3) == b"ID3" and 0 < (length := tag_length(data, start)) <= data.size - start
    ):
        start += length
    if stop - start >= _ID3V1 and data.at(stop - _ID3V1, 3) == b"TAG":
        stop -= _ID3V1
    footer = data.at(stop - 32, 32) if stop - start >= 32 else b""
    if footer[:8] == b"APETAGEX":
        length = int.from_bytes(footer[12:16], "little") + 32 * bool(footer[23] & 0x80)
        stop = max(start, stop - length)
    return start, stop
