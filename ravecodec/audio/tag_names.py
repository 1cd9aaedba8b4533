"""Names of tags in each format, and the names that ravecodec gives them: those of Vorbis comments.

The tables follow the mapping of MusicBrainz Picard, which most programs know. Names that no table
has are kept as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

ID3_NAMES = {
    "GRP1": "GROUPING",  # iTunes'; TIT1 is written
    "TIT1": "GROUPING",
    "TIT2": "TITLE",
    "TIT3": "SUBTITLE",
    "TPE1": "ARTIST",
    "TPE2": "ALBUMARTIST",
    "TPE3": "CONDUCTOR",
    "TPE4": "REMIXER",
    "TALB": "ALBUM",
    "TCOM": "COMPOSER",
    "TEXT": "LYRICIST",
    "TCON": "GENRE",
    "TDRC": "DATE",
    "TDOR": "ORIGINALDATE",
    "TCOP": "COPYRIGHT",
    "TENC": "ENCODEDBY",
    "TSSE": "ENCODERSETTINGS",
    "TBPM": "BPM",
    "TSRC": "ISRC",
    "TLAN": "LANGUAGE",
    "TPUB": "LABEL",
    "TKEY": "KEY",
    "TMOO": "MOOD",
    "TMED": "MEDIA",
    "TSST": "DISCSUBTITLE",
    "TSOA": "ALBUMSORT",
    "TSOP": "ARTISTSORT",
    "TSOT": "TITLESORT",
    "TSO2": "ALBUMARTISTSORT",
    "TSOC": "COMPOSERSORT",
    "TCMP": "COMPILATION",
    "TOAL": "ORIGINALALBUM",
    "TOPE": "ORIGINALARTIST",
    "TOLY": "ORIGINALLYRICIST",
    "MVNM": "MOVEMENTNAME",
    "MVIN": "MOVEMENT",
    "TRCK": "TRACKNUMBER",
    "TPOS": "DISCNUMBER",
    "WOAR": "WEBSITE",
    "WCOP": "LICENSE",
}
ID3_FRAMES = {name: frame for frame, name in ID3_NAMES.items()}
MP4_NAMES = {
    "\xa9nam": "TITLE",
    "\xa9ART": "ARTIST",
    "aART": "ALBUMARTIST",
    "\xa9alb": "ALBUM",
    "\xa9wrt": "COMPOSER",
    "\xa9day": "DATE",
    "\xa9gen": "GENRE",
    "\xa9cmt": "COMMENT",
    "\xa9lyr": "LYRICS",
    "\xa9grp": "GROUPING",
    "\xa9too": "ENCODER",
    "\xa9mvn": "MOVEMENTNAME",
    "\xa9mvi": "MOVEMENT",
    "desc": "DESCRIPTION",
    "cprt": "COPYRIGHT",
    "tmpo": "BPM",
    "cpil": "COMPILATION",
    "trkn": "TRACKNUMBER",
    "disk": "DISCNUMBER",
    "sonm": "TITLESORT",
    "soar": "ARTISTSORT",
    "soal": "ALBUMSORT",
    "soaa": "ALBUMARTISTSORT",
    "soco": "COMPOSERSORT",
}
ASF_NAMES = {
    "Author": "ARTIST",
    "Description": "COMMENT",
    "WM/AlbumTitle": "ALBUM",
    "WM/Year": "DATE",
    "WM/PartOfSet": "DISCNUMBER",
    "WM/Publisher": "LABEL",
    "WM/Writer": "LYRICIST",
    "WM/BeatsPerMinute": "BPM",
    "WM/InitialKey": "KEY",
    "WM/ContentGroupDescription": "GROUPING",
}
APE_NAMES = {
    "YEAR": "DATE",
    "TRACK": "TRACKNUMBER",
    "DISC": "DISCNUMBER",
    "ALBUM ARTIST": "ALBUMARTIST",
}
MATROSKA_NAMES = {
    "DATE_RELEASED": "DATE",
    "PART_NUMBER": "TRACKNUMBER",
    "TRACK": "TRACKNUMBER",
    "DISC": "DISCNUMBER",
    "TOTAL_PARTS": "TRACKTOTAL",
}
INFO_NAMES = {
    "INAM": "TITLE",
    "IART": "ARTIST",
    "IPRD": "ALBUM",
    "ICMT": "COMMENT",
    "ICRD": "DATE",
    "IGNR": "GENRE",
    "ICOP": "COPYRIGHT",
    "ISFT": "ENCODER",
    "IENG": "ENGINEER",
    "ITCH": "ENCODEDBY",
    "IPRT": "TRACKNUMBER",
    "ILNG": "LANGUAGE",
    "ISBJ": "SUBJECT",
    "IKEY": "KEYWORDS",
    "IMED": "MEDIA",
    "IMUS": "COMPOSER",
    "IWRI": "LYRICIST",
    "IPRO": "PRODUCER",
}
INFO_IDS = {name: key for key, name in INFO_NAMES.items()}
INFO_ALSO = {"ITRK": "TRACKNUMBER", "TRCK": "TRACKNUMBER"}  # what some programs write instead
INFO_OTHER = "INFO_"  # before the four letters of entries that the table lacks
AIFF_NAMES = {b"NAME": "TITLE", b"AUTH": "ARTIST", b"(c) ": "COPYRIGHT", b"ANNO": "COMMENT"}

TOTALS = {"TRACKNUMBER": "TRACKTOTAL", "DISCNUMBER": "DISCTOTAL"}
PICTURE = "METADATA_BLOCK_PICTURE"  # a picture block of FLAC (RFC 9639, 8.8) in base64
OLD_PICTURES = ("COVERART", "COVERARTMIME")
ORIGINAL = "ORIGINAL_"  # before the names of tags that describe the original's samples or bytes
_OF_THE_FILE = re.compile(
    r"REPLAYGAIN_|R128_|RVA2|ITUNNORM|ITUNSMPB|ITUNES_CDDB_1$|MP3GAIN_|LOUDNESS_|AVERAGELEVEL$"
    r"|PEAKVALUE$|WAVEFORMATEXTENSIBLE_CHANNEL_MASK$"
)


def marked(name: str) -> str:
    """The name under which a tag of the original is carried: what says how loud its samples are, or
    how its bytes are laid out, would be untrue of what is decoded, so it is marked as the
    original's.
    """
    name = name.upper()
    bare = name.removeprefix("COMMENT:")  # iTunes keeps its own in comments
    return ORIGINAL + bare if _OF_THE_FILE.match(bare) else name


def parted(name: str, text: str) -> Iterator[tuple[str, str]]:
    """ "3/12" of a track or disc as two tags, as Vorbis comments have them; others as they are."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text) if name in TOTALS else None
    if match is None:
        yield name, text
        return
    yield name, match[1]
    yield TOTALS[name], match[2]


def joined(tags: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The other way about: number and total of a track or disc as one tag, "3/12"."""
    whole = {name: list(values) for name, values in tags.items()}
    for name, total in TOTALS.items():
        if len(tags.get(name, ())) == len(tags.get(total, ())) == 1 and "/" not in tags[name][0]:
            whole[name] = [f"{tags[name][0]}/{whole.pop(total)[0]}"]
    return whole
