"""The pages of an Ogg file (RFC 3533): the streams that are chained in it, and whether each is
whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ravecodec.views import Bytes

_MAGIC = b"OggS"
_BEGIN, _END = 2, 4  # flags of a stream's first and last page
FLAC_MAPPING = 9  # bytes before "fLaC" in the first packet of FLAC in Ogg


@dataclass
class Link:
    """One of the streams that follow each other, with those that play at the same time (`serials`).

    start, stop: bytes. codec: the first bytes of its first packet. ended: serials whose last page
    was seen.
    lost: pages whose number was skipped. bodies: where the pages' contents lie, for FLAC only.
    """

    start: int
    stop: int
    codec: bytes
    serials: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    numbers: dict[int, int] = field(default_factory=dict)
    lost: int = 0
    bodies: list[tuple[int, int]] = field(default_factory=list)

    @property
    def is_flac(self) -> bool:
        """Whether it is FLAC."""
        return self.codec.startswith(b"\x7fFLAC")

    @property
    def whole(self) -> bool:
        """Whether every stream in it has its last page."""
        return self.serials == self.ended


@dataclass
class Ogg:
    """A file: its links, and bytes that are no pages."""

    links: list[Link]
    junk: int
    cut: bool  # within a page


def scan(data: Bytes, start: int, stop: int) -> Ogg:
    """Every page from the one at `start` on."""
    layout = Ogg([], 0, False)
    place, beginning = start, False
    while place < stop:
        head = data.at(place, 27)
        if head[:4] != _MAGIC:
            following = data.find(_MAGIC, place + 1, stop)
            layout.junk += (stop if following < 0 else following) - place
            place = stop if following < 0 else following
            continue
        table = data.at(place + 27, head[26]) if len(head) == 27 else b""
        body = place + 27 + len(table)
        end = body + sum(table)
        if len(head) < 27 or len(table) < head[26] or end > stop:
            layout.cut = True
            break
        if head[5] & _BEGIN and not beginning:
            layout.links.append(Link(place, end, data.at(body, 8)))
        beginning = bool(head[5] & _BEGIN)
        if layout.links:
            _add(layout.links[-1], head, body, end)
        place = end
    return layout


def _add(link: Link, head: bytes, body: int, end: int) -> None:
    serial, number = int.from_bytes(head[14:18], "little"), int.from_bytes(head[18:22], "little")
    link.stop = end
    link.serials.add(serial)
    link.lost += max(0, number - link.numbers.get(serial, number - 1) - 1)
    link.numbers[serial] = number
    if head[5] & _END:
        link.ended.add(serial)
    if link.is_flac and end > body:
        link.bodies.append((body, end))
