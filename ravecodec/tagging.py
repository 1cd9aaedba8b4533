"""Tags in the metadata of a stream: from an audio file into META, from META into an audio file, and
`tag_file`, which edits those of a stream. Never loads torch.

META's `tags` is an object of name to text, or to an array of texts where a name has several (SPEC
section 4.3). Names are compared without regard to case, as those of Vorbis comments are.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravecodec.audio import PICTURE, TagSet, clean_name
from ravecodec.bitstream import replace_meta
from ravecodec.errors import UsageError
from ravecodec.examine import StreamSummary, open_stream, summarise
from ravecodec.files import (
    check_output,
    check_source,
    is_stdio,
    keep_time_of,
    open_binary_output,
    target_name,
)

TAGS = "tags"
Tags = dict[str, list[str]]


@dataclass(frozen=True)
class TagSummary:
    """What `tag_file` did. tags: those of the stream now; remarks: sentences on what is odd."""

    source: str
    target: str
    tags: dict[str, str | list[str]]
    stream: StreamSummary
    remarks: tuple[str, ...] = ()


def tags_in(meta: Mapping[str, Any]) -> Tags:
    """The tags that can be written into an audio file: texts and numbers of META, cleaned and
    bounded; whatever else stands there is passed over.
    """
    found = TagSet(pictures=True)
    tags = meta.get(TAGS)
    for name, value in tags.items() if isinstance(tags, Mapping) else ():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str | int | float):
                _take(found, clean_name(name), str(text))
    return found.tags


def _take(found: TagSet, name: str, text: str) -> None:
    if name != PICTURE:
        found.put(name, text)
    elif picture_form(text):
        found.add_picture(base64.b64decode(text))


def with_tags(
    meta: Mapping[str, Any] | None, carried: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Metadata with the tags of an input; a name that `meta` has already stays as it is there."""
    meta = dict(meta or {})
    given = meta.get(TAGS, {})
    if not isinstance(given, Mapping):  # whatever a caller means by it
        return meta
    known = {str(name).upper() for name in given}
    new = {name: values for name, values in carried.items() if name.upper() not in known}
    tags = {**given, **as_meta(new)}
    return {**meta, TAGS: tags} if tags else meta


def as_meta(tags: Mapping[str, Sequence[str]]) -> dict[str, str | list[str]]:
    """Texts by name as META has them: one as a text, several as an array."""
    return {name: values[0] if len(values) == 1 else list(values) for name, values in tags.items()}


def parse_tags(words: Iterable[str], option: str) -> Tags:
    """KEY=TEXT words, of which several may have one key, as texts by name. UsageError for anything
    else.
    """
    tags: Tags = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not key or not equals:
            raise UsageError(f"{option} {word!r}: expected KEY=TEXT")
        tags.setdefault(key, []).append(text)
    return tags


def changed_tags(
    meta: Mapping[str, Any], assigned: Mapping[str, Sequence[str]], removed: Iterable[str]
) -> dict[str, Any]:
    """Metadata without the tags `removed`, and with those `assigned` in place of any of the same
    names.
    """
    gone = {name.upper() for name in (*removed, *assigned)}
    before = meta.get(TAGS)
    kept = {
        name: value
        for name, value in (before.items() if isinstance(before, Mapping) else ())
        if str(name).upper() not in gone
    }
    tags = {**kept, **as_meta(assigned)}
    rest = {key: value for key, value in meta.items() if key != TAGS}
    return {**rest, TAGS: tags} if tags else rest


def tag_file(
    source: str | Path,
    target: str | Path | None = None,
    *,
    assign: Mapping[str, str | Sequence[str]] | None = None,
    remove: Iterable[str] = (),
    keep_time: bool = False,
    force: bool = False,
) -> TagSummary:
    """Edits the tags of a stream; its audio is copied byte for byte.

    target: where the result goes; None replaces the source, which stays whole until the result is.
    assign: texts by name, in place of those that the name has. remove: names. keep_time: the target
    gets the source's time of change.

    Raises:
        UsageError, InputError, FormatError, CorruptError, OutputError.
    """
    check_source(source)
    in_place = target is None and not is_stdio(source)
    target = source if target is None else target
    check_output(target, force=force or in_place, source=None if in_place else source)
    assigned = {
        name: [texts] if isinstance(texts, str) else list(texts)
        for name, texts in (assign or {}).items()
    }
    tags: dict[str, Any] = {}
    missing: list[str] = []

    def change(meta: dict[str, Any]) -> dict[str, Any]:
        names = {str(name).upper() for name in meta.get(TAGS, ())}
        missing.extend(name for name in remove if name.upper() not in names)
        new = changed_tags(meta, assigned, remove)
        tags.update(new.get(TAGS, {}))
        return new

    with keep_time_of(source, target, wanted=keep_time), ExitStack() as stack:
        file = stack.enter_context(open_stream(source))
        out = stack.enter_context(open_binary_output(target, force=force or in_place))
        copied = replace_meta(file, out, change)
    name = target_name(target)
    reader = copied.reader
    samples = reader.total_samples or 0
    stream = summarise(reader.info, samples, reader.frames, copied.chunks, copied.bytes)
    remarks = tuple(f"{reader.name}: has no tag {each}" for each in missing)
    return TagSummary(reader.name, name, tags, stream, remarks)


def picture_form(text: str) -> tuple[str, int] | None:
    """(MIME type, bytes) of the picture in a METADATA_BLOCK_PICTURE; None where it is none."""
    try:
        block = base64.b64decode(text, validate=True)
        (size,) = struct.unpack_from(">I", block, 4)
        mime = block[8 : 8 + size].decode("ascii")
        (words,) = struct.unpack_from(">I", block, 8 + size)
        (count,) = struct.unpack_from(">I", block, 12 + size + words + 16)
    except (ValueError, struct.error):
        return None
    return mime, count


def shown(name: str, text: Any) -> str:
    """A tag's value for people to read: pictures by their type and size."""
    form = picture_form(text) if name.upper() == PICTURE and isinstance(text, str) else None
    return f"a picture, {form[0]}, {form[1]} bytes" if form else str(text)
