"""The header of a model file: read once, and checked against itself and its own config before
anything is built of it.

A model file may come from anyone. `read_header` costs no more than the header, a mebibyte at most;
what it returns says of every tensor where it lies, and that there are exactly those that the config
asks for, in sizes that a machine can bear. Tensors are read by `Header.arrays`, which refuses
values that no model can have. torch is not needed; `zoo.py` and `package.py` both read through
here.

`decoder_part` makes of a model the file that a stream can bring along: the same package without
what only an encoder needs. `read_decoder` checks such a file, in memory, as any other.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from ravecodec.errors import ModelError
from ravecodec.models.coding import PREDICTION, QUALITIES
from ravecodec.models.config import (
    MOST_EFFORT,
    PACKAGE_FORMAT,
    PACKAGE_VERSIONS,
    PREDICTION_SINCE,
    ModelConfig,
    brief,
)
from ravecodec.models.size import weight_shapes

MAX_HEADER = 2**20  # bytes of JSON; a package of 10 MB has about 36 KiB
WEIGHTS = "weights."
LATENT_ARRAYS = ("mean", "analysis", "synthesis", "deviation", "spread")
MAX_STEP_INDEX = 512  # of a stream (SPEC section 8)
MAX_NAME = 255  # characters of a model's name
ENCODING = ("weights.encoder.", "weights.refiner.", "latent.analysis")  # what only encoders need
DECODER_OF = "decoder_of"  # in a decoder's metadata: SHA-256, hex, of the model it is made from
HEX_DIGEST = re.compile("[0-9a-f]{64}")

# Safetensors' names and numpy's.
DTYPES = {
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "U8": "u1",
    "I16": "<i2",
}
ALLOWED = {
    "weights": ("F16", "F32"),
    "latent": ("F32", "F64"),
    "base": ("F64",),
    "shapes": ("U8",),
    "scales": ("I16",),
}
TINY, HUGE = 1e-30, 1e30  # far from where products of a few values overflow or vanish
RANGES = {  # of values; weights have only to be finite
    "latent.spread": (TINY, HUGE),
    "latent.deviation": (0.0, HUGE),
    "coding.base": (TINY, HUGE),
    "coding.shapes": (0, 4),  # the shapes of the frozen table family
    "coding.scales": (-MAX_STEP_INDEX, 95 + MAX_STEP_INDEX),  # its scales, shifted by the step
    PREDICTION + "shapes": (0, 4),
    PREDICTION + "scales": (-MAX_STEP_INDEX, 95 + MAX_STEP_INDEX),
}


@dataclass(frozen=True)
class TensorHeader:
    """What a header says of a tensor: safetensors' name of its dtype, shape, and the bytes of the
    file that hold it.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """A checked header. `point` is the default operating point (dims, step_index, fill, frames),
    `info` provenance, licence and credits; `stamp` changes when the file does. metadata: all of it
    as the file has it. decoder_of: SHA-256 of the model that this is the decoder of, None for whole
    models; data: the file, where it is in memory, and then `path` is only a name."""

    path: Path
    size: int  # bytes of the file
    version: int
    name: str
    config: ModelConfig
    point: Mapping[str, Any]
    info: Mapping[str, Any]
    tensors: Mapping[str, TensorHeader]
    stamp: tuple[int, ...]
    metadata: Mapping[str, str] = field(repr=False)
    decoder_of: bytes | None = None
    data: bytes | None = field(default=None, repr=False)

    def arrays(self, names: Iterable[str]) -> dict[str, NDArray[Any]]:
        """These tensors, each in a copy of its own; ModelError if the file cannot be read, or a
        value is not finite or out of its range."""
        found = {}
        try:
            with self._open() as file:
                for name in names:
                    tensor = self.tensors[name]
                    values = np.empty(tensor.shape, DTYPES[tensor.dtype])
                    file.seek(tensor.start)
                    if file.readinto(values.reshape(-1).view(np.uint8).data) != values.nbytes:
                        raise ValueError("it has become shorter")
                    found[name] = values
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.path}: cannot be read ({brief(error, plain=True)})") from error
        for name, array in found.items():
            _check_values(self.path, name, array)
        return found

    def _open(self) -> io.BufferedReader | io.BytesIO:
        return self.path.open("rb") if self.data is None else io.BytesIO(self.data)

    def digest(self) -> bytes:
        """SHA-256 of the file, a model's identity; a file that has not changed is hashed once in a
        process. That of a decoder is the one of the model that it says it belongs to.
        """
        if self.decoder_of is not None:
            return self.decoder_of
        try:
            return _digest(self.path, self.stamp)
        except OSError as error:
            raise ModelError(f"{self.path}: cannot be read ({error.strerror})") from error


def read_header(path: Path) -> Header:
    """The header of a model file; ModelError if it is missing, no model package, damaged, or too
    large to be used.

    A file that has not changed is looked at once in a process.
    """
    try:
        if not path.is_file():
            raise ModelError(f"{path}: no such model file")
        status = path.stat()
        return _read(
            path,
            (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
        )
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=256)
def _digest(path: Path, stamp: tuple[int, ...]) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@lru_cache(maxsize=256)
def _read(path: Path, stamp: tuple[int, ...]) -> Header:
    with path.open("rb") as file:
        return _checked(path, file, os.fstat(file.fileno()).st_size, stamp, decoder=False)


def read_decoder(data: bytes, name: str) -> Header:
    """The header of a decoder that is in memory, called `name` in messages; ModelError as for
    `read_header`.
    """
    header = _checked(Path(name), io.BytesIO(data), len(data), (), decoder=True)
    return replace(header, data=data)


def _checked(
    path: Path, file: BinaryIO, size: int, stamp: tuple[int, ...], *, decoder: bool
) -> Header:
    header, begin = read_json(path, file, size)
    metadata = _metadata(path, header.pop("__metadata__", {}))
    try:
        tensors = {name: tensor_header(name, entry, begin) for name, entry in header.items()}
        check_layout(tensors, begin, size)
        config = ModelConfig.from_json(metadata["config"])
        version = int(metadata["version"])
        _check_tensors(tensors, expected_tensors(config, version, decoder=decoder))
        decoder_of = _decoder_of(metadata) if decoder else None
        point, info = json_object(metadata, "point"), json_object(metadata, "info")
        _check_point(point, config.latent)
        check_name(metadata["name"])
    except (ModelError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {error}") from error
    return Header(
        path=path,
        size=size,
        version=version,
        name=metadata["name"],
        config=config,
        point=point,
        info=info,
        tensors=tensors,
        stamp=stamp,
        metadata=metadata,
        decoder_of=decoder_of,
    )


# ---- structure -----------------------------------------------------------------------------------


def read_json(path: Path, file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The JSON of a safetensors header of a file of this size, and where the tensors begin."""
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or not 2 <= length <= min(MAX_HEADER, size - 8):
        raise ModelError(f"{path}: is not a model package, expected a .safetensors file")
    text = file.read(length)
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: the header of the model file is damaged") from error
    if not isinstance(header, dict):
        raise ModelError(f"{path}: the header of the model file is damaged")
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; ValueError if a key comes twice, which readers understand in different
    ways.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _metadata(path: Path, found: Any) -> dict[str, str]:
    """The metadata, with all that a package of a known version has."""
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ModelError(f"{path}: the header of the model file is damaged")
    if found.get("format") != PACKAGE_FORMAT or found.get("version") not in PACKAGE_VERSIONS:
        is_what = brief(found["format"], plain=True) if found.get("format") else "no model package"
        version = brief(found.get("version"), plain=found.get("version") is not None)
        expected = f"{PACKAGE_FORMAT} version {' or '.join(PACKAGE_VERSIONS)}"
        raise ModelError(f"{path}: is {is_what} version {version}, expected {expected}")
    for key in ("config", "point", "info", "name"):
        if key not in found:
            raise ModelError(f"{path}: the model's metadata has no {key}")
    return found


def tensor_header(name: str, entry: Any, begin: int) -> TensorHeader:
    """One entry of a header whose tensors begin at byte `begin`; ValueError unless it is in order
    by itself.
    """
    what = f"tensor {brief(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{what} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{what} is of type {brief(dtype)}, expected one of {', '.join(DTYPES)}")
    if not (_whole(shape) and len(shape) <= 8 and _whole(offsets) and len(offsets) == 2):
        raise ValueError(
            f"{what} has shape {brief(shape)} at {brief(offsets)}, expected whole numbers"
        )
    start, stop = offsets
    if stop - start != (size := prod(shape) * np.dtype(DTYPES[dtype]).itemsize):
        raise ValueError(
            f"{what}, {dtype} {brief(shape)}, takes {stop - start} bytes, expected {brief(size)}"
        )
    return TensorHeader(dtype, tuple(shape), begin + start, begin + stop)


def _whole(values: Any) -> bool:
    """Whether this is a list of whole numbers from 0 that fit into 64 bits."""
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 1 << 63 for value in values
    )


def check_layout(tensors: Mapping[str, TensorHeader], begin: int, size: int) -> None:
    """ValueError unless the tensors follow each other without gaps from `begin` to the end of the
    file.
    """
    ordered = sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.stop))
    end = ordered[-1].stop if ordered else begin
    if size != end:
        raise ValueError(
            f"has {size} bytes, expected {brief(end)} as its header says (a partial download?)"
        )
    if ordered and (
        ordered[0].start != begin or any(a.stop != b.start for a, b in pairwise(ordered))
    ):
        raise ValueError("the tensors of the model file overlap or leave gaps")


# ---- contents ------------------------------------------------------------------------------------


Expected = dict[str, tuple[tuple[int, ...], tuple[str, ...]]]


def expected_tensors(config: ModelConfig, version: int, *, decoder: bool = False) -> Expected:
    """Name -> shape and dtypes that are allowed, of everything in a package of this config and
    version, or in the decoder's part of it.
    """
    size = config.latent
    found = {
        WEIGHTS + name: (shape, ALLOWED["weights"])
        for name, shape in weight_shapes(config, version).items()
    }
    for key in LATENT_ARRAYS:
        shape = (size, size) if key in ("analysis", "synthesis") else (size,)
        found[f"latent.{key}"] = (shape, ALLOWED["latent"])
    found |= {f"coding.{key}": ((size,), ALLOWED[key]) for key in ("base", "shapes", "scales")}
    if version >= PREDICTION_SINCE:
        found |= {PREDICTION + key: ((size,), ALLOWED[key]) for key in ("shapes", "scales")}
        found[PREDICTION + "weights"] = ((size, 2), ALLOWED["scales"])
    return {name: form for name, form in found.items() if not (decoder and _encodes(name))}


def _encodes(name: str) -> bool:
    """Whether only an encoder needs the tensor of this name."""
    return name.startswith(ENCODING)


def _decoder_of(metadata: Mapping[str, str]) -> bytes:
    """What a decoder says it belongs to; ValueError if it does not say."""
    found = metadata.get(DECODER_OF, "")
    if not HEX_DIGEST.fullmatch(found):
        raise ValueError(f"{DECODER_OF} is {brief(found)}, expected the SHA-256 of a model")
    return bytes.fromhex(found)


def _check_tensors(tensors: Mapping[str, TensorHeader], expected: Expected) -> None:
    """ValueError unless there are exactly the tensors that the config asks for."""
    if odd := sorted(tensors.keys() ^ expected.keys()):
        first = f"{'has' if odd[0] in tensors else 'lacks'} {brief(odd[0])}"
        raise ValueError(
            f"the model's tensors do not fit its config: it {first} ({len(odd)} such tensors)"
        )
    for name, (shape, dtypes) in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype not in dtypes:
            found = f"{name} is {tensor.dtype} {brief(list(tensor.shape))}"
            raise ValueError(
                f"{found}, expected {' or '.join(dtypes)} {list(shape)} as the model's config says"
            )


def json_object(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        value = json.loads(metadata[key], parse_constant=_no_constant)
    except ValueError as error:
        raise ValueError(f"the model's {key} is not JSON ({brief(error, plain=True)})") from error
    if not isinstance(value, dict):
        raise ValueError(f"the model's {key} is {type(value).__name__}, expected an object")
    return value


def _check_point(point: Mapping[str, Any], latent: int) -> None:
    """ValueError unless the operating point has all its values, of the right types and in range."""
    bounds = {
        "dims": (1, latent),
        "step_index": (-MAX_STEP_INDEX, MAX_STEP_INDEX),
        "frames": (1, 1 << 53),
    }
    if "effort" in point:  # since version 4
        bounds["effort"] = (0, MOST_EFFORT)
    for key, (low, high) in bounds.items():
        value = point.get(key)
        if type(value) is not int or not low <= value <= high:
            expected = f"an integer from {low} to {high}"
            raise ValueError(f"{key} of the operating point is {brief(value)}, expected {expected}")
    usual = point.get("usual", [0.0, 0.0])  # models have it since there is timbre transfer
    numbers = (
        isinstance(usual, list) and len(usual) == 2 and all(type(x) in (int, float) for x in usual)
    )
    if not numbers or not 0 <= usual[0] <= usual[1] <= HUGE:
        raise ValueError(
            f"usual of the operating point is {brief(usual)}, expected two rising numbers from 0"
        )
    _check_ladder(point.get("ladder", []), latent)
    if not isinstance(point.get("fill"), bool):
        raise ValueError(
            f"fill of the operating point is {brief(point.get('fill'))}, expected true or false"
        )


def _check_ladder(ladder: Any, latent: int) -> None:
    """ValueError unless this is nothing, or a row of dims, step, kbit/s and distance for every
    quality, whose rates do not fall. Models have it since there are qualities.
    """
    rows = isinstance(ladder, list) and len(ladder) in (0, QUALITIES)
    if not rows or not all(_is_rung(row, latent) for row in ladder):
        expected = f"{QUALITIES} rows of dims, step, kbit/s and distance"
        raise ValueError(f"ladder of the operating point is {brief(ladder)}, expected {expected}")
    if any(finer[2] < coarser[2] for coarser, finer in pairwise(ladder)):
        raise ValueError("ladder of the operating point has falling rates, expected rising ones")


def _is_rung(row: Any, latent: int) -> bool:
    if not (isinstance(row, list) and len(row) == 4 and all(type(x) in (int, float) for x in row)):
        return False
    dims, step_index, kbps, distance = row
    whole = type(dims) is int and type(step_index) is int
    point = 1 <= dims <= latent and -MAX_STEP_INDEX <= step_index <= MAX_STEP_INDEX
    return whole and point and 0 <= kbps <= HUGE and 0 <= distance <= HUGE


def check_name(name: str) -> None:
    if not (0 < len(name) <= MAX_NAME and name.isprintable()):
        raise ValueError(
            f"the model's name is {brief(name)}, expected 1 to {MAX_NAME} printable characters"
        )


def _check_values(path: Path, name: str, array: NDArray[Any]) -> None:
    """ModelError, naming the tensor, if a value is not finite or out of its range."""
    if not np.isfinite(array).all():
        raise ModelError(f"{path}: {name} holds NaN or infinity; the model is damaged")
    if name.startswith(WEIGHTS):
        return
    low, high = RANGES.get(name, (-HUGE, HUGE))
    if array.min() < low or array.max() > high:
        raise ModelError(
            f"{path}: {name} has values from {array.min()} to {array.max()}, expected {low} to "
            f"{high}"
        )


# ---- the decoder's part --------------------------------------------------------------------------


def decoder_part(path: Path) -> bytes:
    """The decoder of the model in a file, as a file: the same tensors bit for bit without those
    that only an encoder needs, the metadata as it is, and the model's SHA-256. The same model
    always gives the same bytes. ModelError as for `read_header`, and for values that no model can
    have.
    """
    header = read_header(path)
    arrays = header.arrays(name for name in sorted(header.tensors) if not _encodes(name))
    metadata = {**header.metadata, DECODER_OF: header.digest().hex()}
    entries: dict[str, Any] = {"__metadata__": metadata}
    body = bytearray()
    for name in sorted(arrays, key=lambda name: (-arrays[name].itemsize, name)):  # stays aligned
        tensor = header.tensors[name]
        place = [len(body), len(body) + arrays[name].nbytes]
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": place}
        body += arrays[name].tobytes()
    text = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body
