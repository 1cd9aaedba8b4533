"""Tags of audio files, by what stands in them: `read_tags`.

mutagen (extra `tags`) reads ID3, Vorbis comments, APE, MP4 and ASF; what WAV and AIFF say in chunks
of their own is read in `riff_tags.py` and here. Whatever is wrong with tags is a remark and no
error, because the audio is what matters.
"""

from __future__ import annotations

import base64
import io
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any, BinaryIO

from ravecodec.audio import iff
from ravecodec.audio.riff_tags import read_bext, read_info
from ravecodec.audio.tag_names import (
    AIFF_NAMES,
    APE_NAMES,
    ASF_NAMES,
    ID3_NAMES,
    MATROSKA_NAMES,
    MP4_NAMES,
    OLD_PICTURES,
    PICTURE,
    parted,
)
from ravecodec.audio.tag_set import TagSet, decoded, listed
from ravecodec.audio.tags import tag_length
from ravecodec.views import Bytes

PIP = "pip install 'ravecodec[tags]'"
_MOST_ID3 = 1 << 25  # bytes of an ID3 tag, covers included
_MOST_CHUNK = 1 << 25
_COMMENT_BLOCK, _PICTURE_BLOCK = 4, 6  # of FLAC
_ASF = bytes.fromhex("3026b2758e66cf11")
_FRAME = re.compile(rb"(?=([A-Z][A-Z0-9]{3}).{5}(.))", re.DOTALL)  # name, last byte of its flags
_ID3V1_COMMENT = "ID3v1 Comment"  # what mutagen calls it
_ABOUT_STREAMS = ("DURATION", "NUMBER_OF_", "_STATISTICS_", "BPS")  # in Matroska
_ROLES = ("arranger", "engineer", "producer", "mix", "DJ-mix")  # of ID3's involved people


def has_mutagen() -> bool:
    """Whether mutagen is installed (extra `tags`)."""
    return find_spec("mutagen") is not None


def read_tags(stream: BinaryIO, tag_set: TagSet) -> None:
    """Takes the tags of a seekable file, whose place is lost. Raises nothing but OSError."""
    data = Bytes(stream)
    start = data.at(0, 12)
    if start[:4] in (b"RIFF", b"RF64", b"BW64"):
        _read_wav(data, tag_set)
    elif start[:4] == b"FORM":
        _read_aiff(data, tag_set)
    elif start[:4] not in (b"riff", b"caff", b".snd", b"RIFX", b"\x1a\x45\xdf\xa3"):
        _read_by_mutagen(stream, data, tag_set)


def read_metadata(metadata: Mapping[str, str], tag_set: TagSet) -> None:
    """What FFmpeg found in Matroska, which mutagen does not know."""
    for key, text in metadata.items():
        if key.upper().startswith(_ABOUT_STREAMS):
            continue
        name = MATROSKA_NAMES.get(key.upper(), key.upper())
        for each, part in parted(name, text):
            tag_set.add(each, part)


# ---- WAV and AIFF --------------------------------------------------------------------------------


def _read_wav(data: Bytes, tag_set: TagSet) -> None:
    """ID3 first, because it can hold what INFO cannot."""
    chunks = list(iff.chunks(data))
    _read_id3_chunks(data, chunks, tag_set)
    for wanted, read in ((b"LIST", read_info), (b"bext", read_bext)):
        tag_set.next_source()
        for name, start, size in chunks:
            if name == wanted:
                read(_body(data, start, size, tag_set), tag_set)


def _read_aiff(data: Bytes, tag_set: TagSet) -> None:
    chunks = list(iff.chunks(data))
    _read_id3_chunks(data, chunks, tag_set)
    tag_set.next_source()
    for name, start, size in chunks:
        if name in AIFF_NAMES:
            tag_set.add(AIFF_NAMES[name], decoded(_body(data, start, size, tag_set)).strip())


def _read_id3_chunks(
    data: Bytes, chunks: Iterable[tuple[bytes, int, int]], tag_set: TagSet
) -> None:
    for name, start, size in chunks:
        if name.upper() == b"ID3 ":
            tag_set.next_source()
            body = _body(data, start, size, tag_set)
            _by_mutagen(tag_set, partial(_read_id3, io.BytesIO(body), tag_set))


def _body(data: Bytes, start: int, size: int, tag_set: TagSet) -> bytes:
    """A chunk's body; b"" of one that is far too large."""
    if size > _MOST_CHUNK:
        tag_set.leave_out("chunks of an absurd size")
        return b""
    return data.at(start, size)


# ---- what mutagen reads --------------------------------------------------------------------------


def _read_by_mutagen(stream: BinaryIO, data: Bytes, tag_set: TagSet) -> None:
    """By what a file begins with, behind an ID3 tag if there is one."""
    before = tag_length(data, 0) if data.at(0, 3) == b"ID3" else 0
    if not before and data.at(0, 4) == b"fLaC" and not _has_comments(data):
        return
    read = _reader_of(data.at(before, 16))
    reads = [read] if read else [_read_id3, _read_ape]  # MPEG audio and others of no container
    if before and read:
        reads.append(_read_id3)
    for read in reads:
        stream.seek(0)
        tag_set.next_source()
        _by_mutagen(tag_set, partial(read, stream, tag_set))


def _has_comments(data: Bytes) -> bool:
    """Whether a FLAC file has comments or pictures (RFC 9639, section 8): most files of studios
    have none, and then a missing package does not matter.
    """
    place = 4
    while len(head := data.at(place, 4)) == 4:
        kind, size = head[0] & 0x7F, int.from_bytes(head[1:], "big")
        if kind == _PICTURE_BLOCK:
            return True
        if kind == _COMMENT_BLOCK:
            vendor = int.from_bytes(data.at(place + 4, 4), "little")
            if any(data.at(place + 8 + vendor, 4)):
                return True
        if head[0] & 0x80:
            break
        place += 4 + size
    return False


def _reader_of(start: bytes) -> Callable[[BinaryIO, TagSet], None] | None:
    if start[:4] == b"OggS":
        return _read_ogg
    if start[:4] == b"fLaC":
        return _read_flac
    if start[4:8] == b"ftyp":
        return _read_mp4
    return _read_asf if start[:8] == _ASF else None


def _by_mutagen(tag_set: TagSet, read: Callable[[], None]) -> None:
    """Reads, or says why not: tags are made by anybody, and mutagen fails on some in ways that it
    does not name.
    """
    if not has_mutagen():
        tag_set.say(f"its tags, if it has any, are not carried: mutagen is not installed ({PIP})")
        return
    try:
        read()
    except OSError:
        raise
    except Exception as error:
        what = " ".join(str(error).split())[:100]
        tag_set.say(f"some of its tags cannot be read ({type(error).__name__}: {what})")


def _read_ogg(stream: BinaryIO, tag_set: TagSet) -> None:
    from mutagen import File
    from mutagen.oggflac import OggFLAC
    from mutagen.oggopus import OggOpus
    from mutagen.oggspeex import OggSpeex
    from mutagen.oggvorbis import OggVorbis

    file = File(stream, options=[OggVorbis, OggOpus, OggFLAC, OggSpeex])
    if file is not None:
        _read_comments(file.tags or (), tag_set)


def _read_flac(stream: BinaryIO, tag_set: TagSet) -> None:
    from mutagen.flac import FLAC

    file = FLAC(stream)
    _read_comments(file.tags or (), tag_set)
    for picture in file.pictures:
        tag_set.add_picture(picture.write())


def _read_comments(comments: Iterable[tuple[str, str]], tag_set: TagSet) -> None:
    """Vorbis comments."""
    for name, text in comments:
        if name.upper() == PICTURE:
            tag_set.add_picture(base64.b64decode(text))
        elif name.upper() in OLD_PICTURES:
            tag_set.leave_out("pictures of a form that is out of use")
        else:
            tag_set.add(name, text)


def _read_mp4(stream: BinaryIO, tag_set: TagSet) -> None:
    from mutagen.mp4 import MP4

    tags: Any = MP4(stream).tags or {}
    for key, values in tags.items():
        if key == "covr":
            for cover in values:
                kind = "image/png" if cover.imageformat == cover.FORMAT_PNG else "image/jpeg"
                tag_set.add_picture(_picture(bytes(cover), kind))
            continue
        for value in values if isinstance(values, list) else [values]:
            _add_mp4(key, value, tag_set)


def _add_mp4(key: str, value: Any, tag_set: TagSet) -> None:
    name = MP4_NAMES.get(key) or key.removeprefix("----:").rpartition(":")[2]
    if isinstance(value, bytes):
        text = decoded(value)
    elif isinstance(value, tuple):  # number and total
        text = f"{value[0]}/{value[1]}" if value[1] else str(value[0])
    else:
        text = str(int(value)) if isinstance(value, bool) else str(value)
    for each, part in parted(name, text):
        tag_set.add(each, part)


def _read_asf(stream: BinaryIO, tag_set: TagSet) -> None:
    from mutagen.asf import ASF

    tags: Any = ASF(stream).tags or ()
    for key, attribute in tags:
        if isinstance(attribute.value, bytes):
            tag_set.leave_out("pictures or other binary values of ASF")
        elif not key.startswith(("WMFSDK", "IsVBR", "DeviceConformance", "AspectRatio")):
            name = ASF_NAMES.get(key) or key.removeprefix("WM/")
            for each, part in parted(name.upper(), str(attribute.value)):
                tag_set.add(each, part)


def _read_ape(stream: BinaryIO, tag_set: TagSet) -> None:
    from mutagen.apev2 import APENoHeaderError, APEv2

    try:
        tags = APEv2(stream)
    except APENoHeaderError:
        return
    for key, value in tags.items():
        if value.kind != 0:  # no text
            _add_ape_binary(key, value, tag_set)
            continue
        name = APE_NAMES.get(key.upper(), key.upper())
        for text in value:
            for each, part in parted(name, text):
                tag_set.add(each, part)


def _add_ape_binary(key: str, value: Any, tag_set: TagSet) -> None:
    if not key.lower().startswith("cover art"):
        tag_set.leave_out("binary values of APE")
        return
    image = bytes(value.value).partition(b"\0")[2]
    kind = "image/png" if image[:4] == b"\x89PNG" else "image/jpeg"
    tag_set.add_picture(_picture(image, kind))


def _picture(image: bytes, kind: str, role: int = 3, words: str = "") -> bytes:
    """A picture block of FLAC (RFC 9639, 8.8), whose dimensions are not known. role: 3 is the front
    cover.
    """
    mime, text = kind.encode("ascii", "replace"), words.encode("utf-8", "replace")
    head = struct.pack(">II", role, len(mime)) + mime + struct.pack(">I", len(text)) + text
    return head + struct.pack(">IIIII", 0, 0, 0, 0, len(image)) + image


# ---- ID3 -----------------------------------------------------------------------------------------


def _read_id3(stream: BinaryIO, tag_set: TagSet) -> None:
    from mutagen.id3 import ID3, ID3NoHeaderError

    _refuse_bombs(Bytes(stream))
    stream.seek(0)
    try:
        frames = ID3(stream)
    except ID3NoHeaderError:
        return
    binary = []
    for frame in frames.values():
        if not _add_frame(frame, tag_set):
            binary.append(frame.FrameID)
    if binary:
        tag_set.leave_out(
            f"frames of ID3 that hold no text ({listed(sorted(set(binary)))})", len(binary)
        )


def _refuse_bombs(data: Bytes) -> None:
    """ValueError for an ID3 tag that is huge, or has a compressed frame, which could unfold to a
    thousand times its size. Next to nothing writes such frames.
    """
    size = tag_length(data, 0) if data.at(0, 3) == b"ID3" else 0
    if size > _MOST_ID3:
        raise ValueError(f"an ID3 tag of {size} bytes, expected at most {_MOST_ID3}")
    tag = data.at(0, size)
    flag = 0x08 if tag[3:4] >= b"\4" else 0x80  # in the second byte of a frame's flags
    for text in {tag, tag.replace(b"\xff\0", b"\xff")}:  # unsynchronised, or not
        for frame in _FRAME.finditer(text, 10):
            if frame[2][0] & flag and frame[1].decode() in _known_frames():
                raise ValueError("an ID3 tag with compressed frames, expected none")


def _known_frames() -> Mapping[str, Any]:
    from mutagen.id3 import Frames

    return Frames


def _add_frame(frame: Any, tag_set: TagSet) -> bool:
    """Takes a frame; False for one that holds no text."""
    from mutagen import id3

    text_frame: Any = id3.TextFrame  # whose attributes are made from their specifications
    url_frame: Any = id3.UrlFrame
    kind = frame.FrameID
    if kind == "APIC":
        tag_set.add_picture(_picture(frame.data, frame.mime, int(frame.type), frame.desc))
    elif kind == "TXXX":
        _add_texts(frame.desc or kind, frame.text, tag_set)
    elif kind == "TCON":
        _add_texts("GENRE", frame.genres, tag_set)
    elif kind == "COMM":
        desc = "" if frame.desc == _ID3V1_COMMENT else frame.desc
        _add_texts(f"COMMENT:{desc}" if desc else "COMMENT", frame.text, tag_set)
    elif kind in ("USLT", "USER"):
        _add_texts("LYRICS" if kind == "USLT" else "TERMSOFUSE", [frame.text], tag_set)
    elif kind in ("TIPL", "TMCL", "IPLS"):
        _add_people(frame.people, tag_set)
    elif kind == "UFID":
        _add_identifier(frame, tag_set)
    elif kind == "RVA2":
        _add_texts(f"RVA2:{frame.desc}", [f"{frame.gain:+.2f} dB"], tag_set)
    elif kind == "POPM":
        _add_texts("RATING", [frame.rating], tag_set)
    elif isinstance(frame, text_frame):
        _add_texts(ID3_NAMES.get(kind, kind), frame.text, tag_set)
    elif isinstance(frame, url_frame):
        _add_texts(getattr(frame, "desc", "") or ID3_NAMES.get(kind, kind), [frame.url], tag_set)
    else:
        return False
    return True


def _add_texts(name: str, texts: Iterable[object], tag_set: TagSet) -> None:
    for text in texts:
        for each, part in parted(name, str(text)):
            tag_set.add(each, part)


def _add_people(people: Iterable[Iterable[str]], tag_set: TagSet) -> None:
    """Pairs of what somebody did and a name."""
    for pair in people:
        role, person = ([*pair, "", ""])[:2]
        if role in _ROLES:
            tag_set.add("MIXER" if role == "mix" else role.replace("-", "").upper(), person)
        else:
            tag_set.add("PERFORMER", f"{person} ({role})" if role else person)


def _add_identifier(frame: Any, tag_set: TagSet) -> None:
    owner = "MUSICBRAINZ_TRACKID" if "musicbrainz.org" in frame.owner else f"UFID:{frame.owner}"
    tag_set.add(owner, decoded(frame.data))
