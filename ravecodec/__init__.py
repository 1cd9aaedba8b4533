"""ravecodec: a neural audio codec built on RAVE (Caillon & Esling 2021).

Files, and bytes in memory:

    encode_file("x.flac", "x.rvc")      decode_file("x.rvc", "x.wav")
    data = encode(audio, 44100)         audio, rate = decode(data)
    inspect(data), inspect_file         what is in a stream
    verify_file                         whether all of it is whole
    cut_file, concat_files              parts and joins of streams, without a loss
    tag_file                            tags of a stream, its audio left as it is
    Point(bitrate=2)                    what to spend and how to try, for `encode`

Latents in hand, and other sounds through a model (`ravecodec.edits` has what changes them):

    latents = analyse(audio, 44100)     Latents.from_stream("x.rvc").synthesise()
    audio, rate, known = transfer(audio, 44100, model)
    live = Live("strings-live")         output = live.process(samples), in real time
    latents = generate(model, 20, seed=1)                   new sound, from a prior
    transfer_file, generate_file        the same from and to files

Audio is float, [channels, samples] or [samples], full scale +-1. A model is a name, a path, an id,
or what `load_model` returns, which saves loading it again; `list_models` tells which there are.
Errors of an input are those of `ravecodec.errors`. docs/cli.md and docs/latents.md in the
repository have more.

Three packages: `ravecodec.bitstream` (bytes <-> integers), `ravecodec.models` (tensors <-> tensors)
and this package, which joins them. Importing it is cheap: torch is loaded by the calls that need
it, never here.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ravecodec.decoding import decode, decode_file
    from ravecodec.encoding import encode, encode_file
    from ravecodec.examine import inspect, inspect_file, verify_file
    from ravecodec.generating import generate, generate_file
    from ravecodec.latents import Latents, analyse
    from ravecodec.live import Live
    from ravecodec.loading import load_model
    from ravecodec.point import Point
    from ravecodec.splice import concat_files, cut_file
    from ravecodec.tagging import tag_file
    from ravecodec.timbre import transfer, transfer_file
    from ravecodec.zoo import list_models

__version__ = "0.1.0"
__all__ = [
    "Latents",
    "Live",
    "Point",
    "analyse",
    "concat_files",
    "cut_file",
    "decode",
    "decode_file",
    "encode",
    "encode_file",
    "generate",
    "generate_file",
    "inspect",
    "inspect_file",
    "list_models",
    "load_model",
    "tag_file",
    "transfer",
    "transfer_file",
    "verify_file",
]
_HOMES = {
    "decode": "ravecodec.decoding",
    "decode_file": "ravecodec.decoding",
    "encode": "ravecodec.encoding",
    "encode_file": "ravecodec.encoding",
    "load_model": "ravecodec.loading",
    "concat_files": "ravecodec.splice",
    "cut_file": "ravecodec.splice",
    "generate": "ravecodec.generating",
    "generate_file": "ravecodec.generating",
    "inspect": "ravecodec.examine",
    "inspect_file": "ravecodec.examine",
    "list_models": "ravecodec.zoo",
    "tag_file": "ravecodec.tagging",
    "verify_file": "ravecodec.examine",
    "Latents": "ravecodec.latents",
    "Live": "ravecodec.live",
    "Point": "ravecodec.point",
    "analyse": "ravecodec.latents",
    "transfer": "ravecodec.timbre",
    "transfer_file": "ravecodec.timbre",
}

# In a checkout, bitstream/ and models/ lie beside this folder: Python finds them there as well.
_CHECKOUT = Path(__file__).resolve().parent.parent
if not (Path(__file__).parent / "bitstream").exists() and (_CHECKOUT / "bitstream").is_dir():
    __path__.append(str(_CHECKOUT))


def __getattr__(name: str) -> Any:
    """The functions above, each imported when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'ravecodec' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """So that `help(ravecodec)` has them too."""
    return sorted({*globals(), *__all__})
