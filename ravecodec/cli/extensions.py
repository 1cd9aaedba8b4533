"""What names of files tell: which are audio, which are streams, and how an output is called."""

from __future__ import annotations

from pathlib import Path

from ravecodec.audio import AUDIO_SUFFIXES

STREAM = ".rvc"
AUDIO = (AUDIO_SUFFIXES | {".m4a"}) - {".aifc", ".oga"}
HEADERLESS = frozenset((".pcm", ".raw"))
VIDEO = frozenset((".3gp", ".avi", ".mkv", ".mov", ".mp4", ".webm"))  # mostly
OTHERS = ".aac .ac3 .aifc .ape .dts .eac3 .m4b .mka .mp2 .oga .snd .spx .tta .wma .wv"
# Taken off a name as AUDIO is, but not refused as OUT.
OTHER_AUDIO = HEADERLESS | VIDEO | frozenset(OTHERS.split())
IN_FOLDERS = (AUDIO | OTHER_AUDIO) - HEADERLESS - VIDEO


def extension(name: str) -> str:
    """That of a name, in lower case."""
    return Path(name).suffix.lower()


def named_after(source: str, suffix: str) -> str:
    """The default output: the input with another extension.

    Only an extension of a known kind is taken off: "Vol.1 No.2" becomes "Vol.1 No.2.rvc".
    """
    path = Path(source)
    known = {STREAM} if suffix != STREAM else AUDIO | OTHER_AUDIO
    return str(
        path.with_suffix(suffix)
        if extension(source) in known
        else path.with_name(path.name + suffix)
    )
