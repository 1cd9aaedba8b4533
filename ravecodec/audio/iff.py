"""Containers made of chunks, walked to the end of the file: RIFF, RF64, AIFF, W64, CAF, and AU that
has but one.

libsndfile forgives these headers: a file that was cut counts as whole, and sound behind a size that
is too small is dropped. Here every chunk must fit and the last one must end where the file does.
Layouts: RIFF as in wav.py, AIFF-C (Apple, 1991), W64 (Sony Pictures Digital), CAF (Apple, Core
Audio Format Specification), AU (Sun).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ravecodec.audio.tags import starts_tag
from ravecodec.views import Bytes

MOST_PADDING = 1 << 16  # zeros behind the last chunk that are no sound
_MOST_CHUNKS = 10_000  # that are looked at in search of tags
# What the names of most chunks of a W64 file end with.
_WAVE64 = bytes.fromhex("f3acd3118cd100c04f8edb8a")


@dataclass(frozen=True)
class Grammar:
    """How chunks lie in a file.

    first: place of the first chunk. name, size: bytes of a chunk's name and size. order: of the
    size's bytes. whole: whether the size counts name and size, too. align: chunks begin at
    multiples of this. sound: name of the chunk with the samples. unknown: sizes from this one on
    say that the writer did not know; so do those in `also`.
    """

    first: int
    name: int
    size: int
    order: str
    whole: bool
    align: int
    sound: bytes
    unknown: int
    also: tuple[int, ...] = ()

    @property
    def head(self) -> int:
        """Bytes of name and size."""
        return self.name + self.size


_RIFF = Grammar(12, 4, 4, "little", False, 2, b"data", 0xFFFFFFFF)
_GRAMMARS = {
    b"RIFF": _RIFF,
    b"RF64": _RIFF,
    b"BW64": _RIFF,
    b"RIFX": Grammar(12, 4, 4, "big", False, 2, b"data", 0xFFFFFFFF),
    b"FORM": Grammar(12, 4, 4, "big", False, 2, b"SSND", 0x7F000000),  # 0x7f000000 is SoX on a pipe
    b"riff": Grammar(40, 16, 8, "little", True, 8, b"data" + _WAVE64, 1 << 62),
    b"caff": Grammar(8, 4, 8, "big", False, 1, b"data", 1 << 63),
}


@dataclass(frozen=True)
class Sound:
    """Where the samples lie: the place of their size field, their first byte, bytes announced, and
    bytes there.

    announced is None where the header does not know. more: the announced bytes are followed by
    others that are no chunk, so `there` (all up to the end of the file) is above `announced`.
    """

    size_at: int
    start: int
    announced: int | None
    there: int
    more: bool = False

    @property
    def cut(self) -> bool:
        """Whether fewer bytes are there than announced."""
        return self.announced is not None and self.there < self.announced


def find_sound(data: Bytes) -> Sound | None:
    """Walks the chunks of a file; None where it is no such container, or has no samples."""
    magic = data.at(0, 4)
    if magic == b".snd":
        return _find_in_au(data)
    if (grammar := _GRAMMARS.get(magic)) is None:
        return None
    large = _size_in_ds64(data) if grammar is _RIFF else None
    place = grammar.first
    while place + grammar.head <= data.size:
        head = data.at(place, grammar.head)
        name, size = head[: grammar.name], int.from_bytes(head[grammar.name :], grammar.order)  # type: ignore[arg-type]
        size -= grammar.head if grammar.whole else 0
        start = place + grammar.head
        if name == grammar.sound:
            return _measured(data, grammar, place + grammar.name, start, size, large)
        if size < 0:
            return None
        place = start + size + -(start + size) % grammar.align
    return None


def chunks(data: Bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte of the body, bytes of the body) of the chunks of a RIFF or AIFF file, as
    far as they make sense; the last one may be longer than what is there.
    """
    grammar = _GRAMMARS.get(data.at(0, 4))
    if grammar is None or grammar.head != 8:
        return
    large = _size_in_ds64(data) if grammar is _RIFF else None
    place = grammar.first
    for _ in range(_MOST_CHUNKS):
        head = data.at(place, grammar.head)
        if len(head) < grammar.head or not _is_name(head[:4]):
            return
        size = int.from_bytes(head[4:], grammar.order)  # type: ignore[arg-type]
        if size == 0xFFFFFFFF and large is not None and head[:4] == grammar.sound:
            size = large
        yield head[:4], place + grammar.head, size
        place += grammar.head + size
        place += place % grammar.align


def _measured(
    data: Bytes, grammar: Grammar, size_at: int, start: int, size: int, large: int | None
) -> Sound:
    if size == 0xFFFFFFFF and large is not None:
        size = large
    there = data.size - start
    if size >= grammar.unknown or size < 0 or size in grammar.also:
        return Sound(size_at, start, None, there)
    if there <= size:
        return Sound(size_at, start, size, there)
    if chunks_to_the_end(data, grammar, start + size):
        return Sound(size_at, start, size, size)
    return Sound(size_at, start, size, there, more=True)


def chunks_to_the_end(data: Bytes, grammar: Grammar, place: int) -> bool:
    """Whether nothing but chunks, tags and a few zeros lies between `place` and the end of the
    file.
    """
    aligned = place + -place % grammar.align
    return any(_only_chunks(data, grammar, start) for start in {aligned, place})


def _only_chunks(data: Bytes, grammar: Grammar, place: int) -> bool:
    while data.size - place >= grammar.head:
        head = data.at(place, grammar.head)
        if starts_tag(head) or _zeros(data, place):
            return True
        size = int.from_bytes(head[grammar.name :], grammar.order)  # type: ignore[arg-type]
        size -= grammar.head if grammar.whole else 0
        stop = place + grammar.head + size
        if not _is_name(head[: grammar.name]) or size < 0 or stop > data.size:
            return False
        place = stop + -stop % grammar.align
    return True  # fewer bytes than a chunk's head


def _is_name(name: bytes) -> bool:
    """Chunks are named in printable ASCII; W64 names go on with 12 fixed bytes or are a GUID that
    is not looked at.
    """
    return all(32 <= byte < 127 for byte in name[:4])


def _zeros(data: Bytes, place: int) -> bool:
    rest = data.size - place
    return rest <= MOST_PADDING and not any(data.at(place, rest))


def is_chunk_head(head: bytes) -> bool:
    """Whether eight bytes may be the name and size of a RIFF chunk."""
    return len(head) == 8 and _is_name(head[:4])


def true_size(data: Bytes, sound: Sound) -> dict[int, bytes]:
    """Bytes to replace (place -> new ones) so that the header announces all that is there."""
    magic = data.at(0, 4)
    if magic == b".snd":
        return {sound.size_at: b"\xff" * 4}
    grammar = _GRAMMARS[magic]
    most = (1 << 8 * grammar.size) - 1
    size = min(sound.there + (grammar.head if grammar.whole else 0), most)
    return {sound.size_at: size.to_bytes(grammar.size, grammar.order)}  # type: ignore[arg-type]


def riff_rest_is_chunks(data: Bytes, place: int) -> bool:
    """`chunks_to_the_end` of a RIFF file."""
    return chunks_to_the_end(data, _RIFF, place)


def _size_in_ds64(data: Bytes) -> int | None:
    head = data.at(12, 8 + 16)
    return (
        int.from_bytes(head[16:24], "little") if head[:4] == b"ds64" and len(head) == 24 else None
    )


def _find_in_au(data: Bytes) -> Sound | None:
    head = data.at(0, 12)
    start, size = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
    if len(head) < 12 or not 24 <= start <= data.size:
        return None
    there = data.size - start
    if size == 0xFFFFFFFF:
        return Sound(8, start, None, there)
    more = there > size and not _zeros(data, start + size) and there - size >= 8
    return Sound(8, start, size, there if more or there < size else size, more)


def mp3_in_wav(data: Bytes, sound: Sound) -> bool:
    """Whether the samples of a RIFF file are MPEG audio (format tags 0x50 and 0x55)."""
    if data.at(0, 4) not in (b"RIFF", b"RF64", b"BW64"):
        return False
    place = 12
    while place + 8 <= sound.start:
        head = data.at(place, 10)
        if head[:4] == b"fmt ":
            return int.from_bytes(head[8:10], "little") in (0x50, 0x55)
        size = int.from_bytes(head[4:8], "little")
        place += 8 + size + size % 2
    return False
