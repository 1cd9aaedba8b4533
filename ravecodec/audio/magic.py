"""By which bytes an audio file is recognised."""

import io

from ravecodec.audio import mpeg
from ravecodec.views import Bytes

# What files begin with that libsndfile reads.
HEADERS = (b"RIFF", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS", b"caff", b".snd")
ALSO_RIFF = (b"RIFX", b"BW64")
_FOREIGN = {  # what PyAV reads and libsndfile does not: place and bytes -> name
    (4, b"ftyp"): "MPEG-4 (M4A, MP4)",
    (0, b"\x1a\x45\xdf\xa3"): "Matroska or WebM",
    (0, bytes.fromhex("3026b2758e66cf11")): "ASF (WMA)",
    (0, b"MAC "): "Monkey's Audio",
    (0, b"wvpk"): "WavPack",
    (0, b"TTA1"): "True Audio",
    (0, b"MPCK"): "Musepack",
    (0, b"#!AMR"): "AMR",
    (0, b"FLV\x01"): "Flash video",
    (0, b"\x00\x00\x01\xba"): "an MPEG program stream",
    (0, b"\x0b\x77"): "AC-3",
    (0, b"\x7f\xfe\x80\x01"): "DTS",
    (0, b".RMF"): "RealMedia",
    (0, b"Creative Voice"): "VOC",  # libsndfile takes the heads of its blocks for sound
    (4, b"moov"): "QuickTime",
    (4, b"mdat"): "QuickTime",
    (4, b"wide"): "QuickTime",
    (8, b"AVI "): "AVI",
    (0, b"\xff\xf1"): "AAC (ADTS)",
    (0, b"\xff\xf9"): "AAC (ADTS)",
}


def foreign_format(start: bytes, second_packet: bytes) -> str:
    """The name of a format that only PyAV reads; "" for any other. second_packet: the byte at which
    the second packet of an MPEG transport stream begins.
    """
    if start[:1] == second_packet == b"G":
        return "an MPEG transport stream"
    return next(
        (what for (at, magic), what in _FOREIGN.items() if start[at:].startswith(magic)), ""
    )


def begins_like_audio(start: bytes) -> bool:
    """Whether a pipe is worth being spooled; everything else would fill the disk before it is
    refused.
    """
    known = (
        start[:4] in (*HEADERS, *ALSO_RIFF)
        or start[:3] == b"ID3"
        or bool(foreign_format(start, start[188:189]))
    )
    if known:
        return True
    bytes_at = Bytes(io.BytesIO(start))
    return mpeg.find_first(bytes_at, 0, len(start)) is not None
