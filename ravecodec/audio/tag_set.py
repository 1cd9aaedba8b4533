"""Tags as they are taken from files that nobody vouches for: `TagSet` cleans and bounds them.

A tag is a name and one or more texts. Names are upper case, without control characters and "=".
Texts are Unicode that can be encoded, with tabs and line ends but no other control characters.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from ravecodec.audio.tag_names import PICTURE, marked

MOST_TAGS = 1000  # texts in all
MOST_NAME = 200  # characters
MOST_TEXT = 1 << 16  # bytes of one text and its name as JSON
MOST_TEXTS = 1 << 18  # bytes of all of them
MOST_PICTURES = 1 << 19  # bytes of all pictures in base64; all of META has at most 2^20


class TagSet:
    """Tags that are being collected. What cannot be carried is counted, by reason.

    pictures: whether pictures are carried. tags: texts by name, in the order in which they came.
    """

    def __init__(self, *, pictures: bool = False) -> None:
        self.tags: dict[str, list[str]] = {}
        self._pictures = pictures
        self._settled: set[str] = set()
        self._count = self._size = self._picture_size = 0
        self._left_out: dict[str, int] = {}
        self._sentences: list[str] = []

    def next_source(self) -> None:
        """What comes from here on has another place in the file: names that are known already stay
        as they are.
        """
        self._settled = set(self.tags)

    def add(self, name: str, text: object) -> None:
        """A text, or a number, of the original; it is marked where it describes the original's
        samples.
        """
        self.put(marked(clean_name(name)), str(text))

    def put(self, name: str, text: str) -> None:
        """The same without a mark."""
        text = clean_text(text)
        if not name or not text or name in self._settled or text in self.tags.get(name, ()):
            return
        size = len(json.dumps(text)) + len(json.dumps(name))
        if self._count >= MOST_TAGS:
            self.leave_out(f"texts beyond the first {MOST_TAGS}")
        elif size > MOST_TEXT or self._size + size > MOST_TEXTS:
            self.leave_out(f"texts of more than {MOST_TEXT >> 10} kB, or {MOST_TEXTS >> 10} in all")
        else:
            self._count += 1
            self._size += size
            self.tags.setdefault(name, []).append(text)

    def add_picture(self, block: bytes) -> None:
        """A picture block of FLAC."""
        size = len(block) * 4 // 3 + 4
        if not self._pictures:
            self.leave_out("pictures, which --pictures would carry")
        elif PICTURE in self._settled:
            return
        elif self._picture_size + size > MOST_PICTURES:
            self.leave_out(f"pictures of more than {MOST_PICTURES * 3 // 4 >> 10} kB in all")
        else:
            self._picture_size += size
            self.tags.setdefault(PICTURE, []).append(base64.b64encode(block).decode())

    def leave_out(self, what: str, count: int = 1) -> None:
        """Counts what is not carried."""
        self._left_out[what] = self._left_out.get(what, 0) + count

    def say(self, sentence: str) -> None:
        """A remark, once."""
        if sentence not in self._sentences:
            self._sentences.append(sentence)

    def remarks(self) -> list[str]:
        """Sentences on what was left out, if anything was."""
        parts = [f"{what} ({count})" for what, count in self._left_out.items()]
        left_out = (
            [f"not all of its tags are carried, left out are {', '.join(parts)}"] if parts else []
        )
        return [*self._sentences, *left_out]


def clean_name(name: object) -> str:
    """A name in upper case, without what a Vorbis comment's name cannot hold; perhaps ""."""
    kept = "".join(c for c in str(name)[: 2 * MOST_NAME] if c.isprintable() and c != "=")
    return encodable(kept).strip()[:MOST_NAME].upper()


def clean_text(text: str) -> str:
    """A text with line ends as "\\n", without other control characters than tabs."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return encodable("".join(c for c in text if c in "\n\t" or not _is_control(c)))


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character <= "\x9f"


def encodable(text: str) -> str:
    """The text with "?" for lone surrogates, which UTF-8 does not have."""
    return text.encode("utf-8", "replace").decode()


def decoded(data: bytes) -> str:
    """Text of bytes whose encoding no one says: UTF-8 if it is, else Windows-1252 or Latin-1; up to
    the first NUL.
    """
    data = data.partition(b"\0")[0]
    for encoding in ("utf-8", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def listed(names: Iterable[str]) -> str:
    """Some names for a message."""
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
