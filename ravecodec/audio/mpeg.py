"""MPEG audio (MP3) counted frame by frame, because its headers cannot be believed.

Only some encoders say how long a file is, in a first frame that holds no sound ("Xing", "Info" or
"VBRI"); whoever writes into a pipe leaves it empty, joined files have several, and a decoder that
goes by it drops the rest. So the frames are counted here; libsndfile (mpg123) then decodes each
piece from a view whose first frame is true. Frame headers: ISO/IEC 11172-3, 2.4.1 and 13818-3; Xing
and LAME: http://gabriel.mp3-tech.org/mp3infotag.html.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache

from ravecodec.audio.tags import tag_length
from ravecodec.views import Bytes

SEARCH = 1 << 16  # bytes looked through for the first frame behind junk
# samples of a piece that a decoder may rightly leave out: its own delay, the encoder's, the last
# frame
MOST_TRIMMED = 8192
_AGREEING = 3  # frames one behind the other that make a find behind junk no accident
# By version: 1, 2, 2.5.
_RATES = {
    3: (44100, 48000, 32000),
    2: (22050, 24000, 16000),
    0: (11025, 12000, 8000),
}
_KBPS = {  # by (version is 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True)
class Frame:
    """What a frame header says: its form (version, layer, Hz), channels, bytes and samples per
    channel of the frame.
    """

    version: int
    layer: int
    rate: int
    channels: int
    size: int
    samples: int

    @property
    def form(self) -> tuple[int, int, int]:
        """What stays the same within a piece."""
        return self.version, self.layer, self.rate

    @property
    def info_at(self) -> int:
        """Where "Xing" or "Info" stands in the frame: behind header and side information."""
        sides = {(True, 2): 32, (True, 1): 17, (False, 2): 17, (False, 1): 9}
        return 4 + sides[self.version == 3, self.channels]


@lru_cache(maxsize=4096)
def parse_frame(head: bytes) -> Frame | None:
    """The four bytes of a frame header, or None: no header, or of free bit rate, which is not
    supported.
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    kbps, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or kbps in (0, 15) or rate == 3:
        return None
    hertz, bits = _RATES[version][rate], 1000 * _KBPS[version == 3, layer][kbps - 1]
    padding, channels = head[2] >> 1 & 1, 1 if head[3] >> 6 == 3 else 2
    if layer == 1:
        return Frame(version, layer, hertz, channels, (12 * bits // hertz + padding) * 4, 384)
    samples = 576 if layer == 3 and version != 3 else 1152
    size = samples // 8 * bits // hertz + padding
    return Frame(version, layer, hertz, channels, size, samples)


@dataclass
class Piece:
    """Frames that were encoded together. `announced`: frames that its own header promises, None
    where it says nothing.

    `info`: place and size of the frame without sound, "" where there is none; `stretches`: where
    its frames lie.
    """

    first: Frame
    head: bytes
    info: tuple[int, Frame] | None = None
    kind: bytes = b""
    announced: int | None = None
    frames: int = 0
    stretches: list[tuple[int, int]] = field(default_factory=list)
    cut: bool = False

    def add(self, place: int, size: int) -> None:
        """One more frame."""
        self.frames += 1
        if self.stretches and self.stretches[-1][1] == place:
            self.stretches[-1] = (self.stretches[-1][0], place + size)
        else:
            self.stretches.append((place, place + size))

    @property
    def samples(self) -> int:
        """Samples per channel in the frames that are there."""
        return self.frames * self.first.samples

    @property
    def missing(self) -> bool:
        """Whether frames are missing: the header counts more of them (one may be the header's own),
        or one is cut.
        """
        return self.cut if self.announced is None else self.frames < self.announced - 1

    def prefix(self, data: Bytes) -> bytes:
        """A frame without sound that says how many frames follow: the piece's own, made true, or a
        new one.
        """
        if self.first.layer != 3:
            return b""
        if self.info is not None and self.kind in (b"Xing", b"Info") and self.announced is not None:
            place, frame = self.info
            own = bytearray(data.at(place, frame.size))
            at = frame.info_at + 8
            own[at : at + 4] = self.frames.to_bytes(4, "big")
            if own[frame.info_at + 7] & 2:
                total = frame.size + sum(stop - start for start, stop in self.stretches)
                own[at + 4 : at + 8] = min(total, 0xFFFFFFFF).to_bytes(4, "big")
            return bytes(own)
        return _information(self.head, self.frames)


def _information(head: bytes, frames: int) -> bytes:
    """A new Xing frame in the form of a frame with this header."""
    for kbps in range(1, 15):
        own = bytes([0xFF, head[1] | 1, kbps << 4 | head[2] & 0x0C, head[3]])
        frame = parse_frame(own)
        assert frame is not None
        text = own + bytes(frame.info_at - 4) + b"Xing" + struct.pack(">II", 1, frames)
        if frame.size >= len(text) + 160:  # room for what readers expect behind it, all zero
            return text.ljust(frame.size, b"\0")
    raise AssertionError("no frame is large enough")


def find_first(data: Bytes, start: int, stop: int) -> int | None:
    """Where MPEG audio begins, within SEARCH bytes of `start`; None if it does not."""
    last = min(stop, start + SEARCH)
    place = start
    while place < last:
        place = data.find(b"\xff", place, last)
        if place < 0:
            return None
        if _agree(data, place, stop):
            return place
        place += 1
    return None


def _agree(data: Bytes, place: int, stop: int, form: tuple[int, int, int] | None = None) -> bool:
    """Whether frames of one form follow each other from here, as many as must (or up to the end,
    but not one alone).
    """
    for count in range(_AGREEING):
        if place >= stop and count > 1:
            return True
        frame = parse_frame(data.at(place, 4))
        if frame is None or (form is not None and frame.form != form):
            return False
        form, place = frame.form, place + frame.size
    return True


@dataclass
class Mpeg:
    """A file of MPEG audio: its pieces, and stretches of bytes between them that are neither frames
    nor tags.
    """

    pieces: list[Piece]
    junk: list[tuple[int, int]]


def scan(data: Bytes, start: int, stop: int) -> Mpeg:
    """Every frame from the one at `start` on."""
    layout = Mpeg([], [])
    place = start
    while place < stop:
        frame = parse_frame(head := data.at(place, 4))
        if layout.pieces and stop - place < 4 and head[:1] == b"\xff":
            layout.pieces[-1].cut = True
            break
        if frame is None or not _continues(layout, frame, data, place, stop):
            place = _skip(layout, data, place, stop)
        elif place + frame.size > stop:
            if layout.pieces:
                layout.pieces[-1].cut = True
            break
        else:
            _take(layout, frame, head, data, place)
            place += frame.size
    return layout


def _continues(layout: Mpeg, frame: Frame, data: Bytes, place: int, stop: int) -> bool:
    """Whether a frame belongs to what came before it: of the same form, or the first of several of
    another.
    """
    before = layout.pieces[-1].first if layout.pieces else None
    if before is not None and (before.form, before.channels) == (frame.form, frame.channels):
        return True
    return _agree(data, place, stop)


def _take(layout: Mpeg, frame: Frame, head: bytes, data: Bytes, place: int) -> None:
    kind, announced = _announcement(frame, data.at(place, frame.size) if frame.layer == 3 else b"")
    before = layout.pieces[-1].first if layout.pieces else None
    if kind or before is None or (before.form, before.channels) != (frame.form, frame.channels):
        layout.pieces.append(Piece(frame, head))
    piece = layout.pieces[-1]
    if kind:
        piece.info, piece.kind, piece.announced = (place, frame), kind, announced
    else:
        piece.add(place, frame.size)


def _announcement(frame: Frame, content: bytes) -> tuple[bytes, int | None]:
    """Kind of a frame without sound and the number of frames that it announces; b"" for a frame
    with sound.
    """
    at = frame.info_at
    if content[at : at + 4] in (b"Xing", b"Info"):
        flags = int.from_bytes(content[at + 4 : at + 8], "big")
        count = int.from_bytes(content[at + 8 : at + 12], "big") if flags & 1 else 0
        return content[at : at + 4], count or None
    if content[36:40] == b"VBRI":
        return b"VBRI", int.from_bytes(content[50:54], "big") or None
    return b"", None


def _skip(layout: Mpeg, data: Bytes, place: int, stop: int) -> int:
    """The place behind a tag, or behind bytes that are no frames."""
    if length := tag_length(data, place):
        return place + length
    form = layout.pieces[-1].first.form if layout.pieces else None
    begin = place
    while (place := data.find(b"\xff", place + 1, stop)) >= 0:
        if _agree(data, place, stop, form) or tag_length(data, place):
            break
    place = stop if place < 0 else place
    for mark in (b"TAG", b"APETAGEX", b"ID3"):
        tag = data.find(mark, begin, place)
        if tag >= 0 and tag_length(data, tag):
            place = min(place, tag)
    if place > begin:
        layout.junk.append((begin, place))
    return place
