"""Tags into audio files that are being written: `wav_chunks` and `write_tags`.

WAV gets its chunks with the header, before the samples, so that pipes have them too. FLAC, Ogg and
AIFF are complete when mutagen (extra `tags`) puts tags into them, which does not touch their coded
samples.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from ravecodec.audio.riff_tags import BEXT, chunk, info_and_bext
from ravecodec.audio.tag_names import ID3_FRAMES, PICTURE, joined
from ravecodec.audio.tag_reading import PIP, has_mutagen
from ravecodec.audio.tag_set import listed
from ravecodec.errors import OutputError

Tags = Mapping[str, list[str]]
TAGGED = ("FLAC", "OGG", "AIFF")  # containers that `write_tags` knows
_ANY_LANGUAGE = "XXX"  # ID3v2.4, 4: the language is not known


def why_not(container: str, tags: Tags) -> str:
    """ "" where a container gets tags as they are asked for, else a sentence on why it does not."""
    if not tags or container == "WAV":
        return ""
    not_written = "1 tag is not written" if len(tags) == 1 else f"{len(tags)} tags are not written"
    if container not in TAGGED:
        return f"{not_written}: {container} has no place for tags here"
    return "" if has_mutagen() else f"{not_written}: needs mutagen ({PIP})"


def wav_chunks(tags: Tags) -> tuple[bytes, list[str]]:
    """(RIFF chunks that go before the samples, remarks): LIST INFO, bext, and an ID3 chunk with
    everything if those cannot hold it all.
    """
    chunks, others = info_and_bext(tags)
    if not others:
        return chunks, []
    if not has_mutagen():
        without = f"{listed(others)} are not written: WAV's INFO has no place for all of it, and an"
        return chunks, [f"{without} ID3 chunk needs mutagen ({PIP})"]
    id3 = io.BytesIO()
    frames = _id3_tag()
    _fill_id3(frames, {key: values for key, values in tags.items() if not key.startswith(BEXT)})
    frames.save(id3, v2_version=4)
    return chunks + chunk(b"id3 ", id3.getvalue()), []


def write_tags(file: BinaryIO, container: str, name: str, tags: Tags) -> None:
    """Puts tags into a complete FLAC, Ogg Vorbis or AIFF file, which is open for reading and
    writing.

    Raises:
        OutputError: it cannot be done; the file may be damaged then.
    """
    write: Callable[[BinaryIO, Tags], None]
    write = {"FLAC": _write_flac, "OGG": _write_vorbis, "AIFF": _write_aiff}[container]
    file.seek(0)
    try:
        write(file, tags)
    except OutputError:
        raise
    except Exception as error:  # mutagen's, of many types
        what = " ".join(str(error).split()) or type(error).__name__
        raise OutputError(f"{name}: its tags cannot be written ({what}); try --no-tags") from error


def _write_flac(file: BinaryIO, tags: Tags) -> None:
    from mutagen.flac import FLAC, Picture

    flac = FLAC(file)
    if flac.tags is None:
        flac.add_tags()
    for block in tags.get(PICTURE, ()):
        if picture := _parsed(Picture, block):
            flac.add_picture(picture)
    _fill_comments(flac.tags, {key: values for key, values in tags.items() if key != PICTURE})
    file.seek(0)
    flac.save(file)


def _write_vorbis(file: BinaryIO, tags: Tags) -> None:
    from mutagen.oggvorbis import OggVorbis

    vorbis = OggVorbis(file)
    _fill_comments(vorbis.tags, tags)
    file.seek(0)
    vorbis.save(file)


def _write_aiff(file: BinaryIO, tags: Tags) -> None:
    from mutagen.aiff import AIFF

    aiff = AIFF(file)
    aiff.add_tags()
    _fill_id3(aiff.tags, tags)
    file.seek(0)
    aiff.save(file)


def _fill_comments(comments: Any, tags: Tags) -> None:
    """Vorbis comments, in place of any of these names. Names are ASCII from space to "}"; what else
    a name holds becomes "_"."""
    pairs = [
        ("".join(c if " " <= c <= "}" and c != "=" else "_" for c in name), value)
        for name, values in tags.items()
        for value in values
    ]
    for name in {name for name, _ in pairs if name in comments}:
        del comments[name]
    comments.extend(pairs)


def _id3_tag() -> Any:
    from mutagen.id3 import ID3

    return ID3()


def _fill_id3(id3: Any, tags: Tags) -> None:
    """Frames of ID3v2.4; names without a frame of their own go to TXXX."""
    from mutagen import id3 as frames
    from mutagen.flac import Picture

    for name, values in joined(tags).items():
        if name == PICTURE:
            for picture in filter(None, (_parsed(Picture, block) for block in values)):
                words = {"desc": picture.desc, "data": picture.data}
                id3.add(frames.APIC(3, picture.mime, picture.type, **words))
        elif name == "LYRICS":
            id3.add(frames.USLT(3, _ANY_LANGUAGE, "", "\n\n".join(values)))
        elif name == "COMMENT" or name.startswith("COMMENT:"):
            id3.add(frames.COMM(3, _ANY_LANGUAGE, name.partition(":")[2], values))
        elif (kind := ID3_FRAMES.get(name, "")) and (frame := _own_frame(kind, values)):
            id3.add(frame)
        else:
            id3.add(frames.TXXX(3, name, values))


def _own_frame(kind: str, values: list[str]) -> Any:
    """A frame of a kind that says exactly these texts, or None: dates, for one, are not free
    text."""
    from mutagen.id3 import Frames

    if kind.startswith("W"):
        return Frames[kind](url=values[0]) if len(values) == 1 and values[0].isascii() else None
    frame: Any = Frames[kind](encoding=3, text=values)
    return frame if [str(text) for text in frame.text] == values else None


def _parsed(kind: Any, block: str) -> Any:
    """A picture of its block in base64; None where it is none."""
    from mutagen.flac import error

    try:
        return kind(base64.b64decode(block))
    except (error, ValueError):
        return None
