"""The header of a model file: read once, and checked against itself and its own config before
anything is built of it.

A model file may come from anyone. `read_header` costs no more than the header, a mebibyte at most;
what it returns says of every tensor where it lies, and that there are exactly those that the config
asks for, in sizes that a machine can bear. Tensors are read by `Header.arrays`, which refuses
values that no model can have. torch is not needed; `zoo.py` and `package.py` both read through
here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ravecodec.errors import ModelError
from ravecodec.models.coding import PREDICTION
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

DTYPES = {
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "U8": "u1",
    "I16": "<i2",
}  # safetensors' names and numpy's
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
    `info` provenance, licence and credits; `stamp` changes when the file does."""

    path: Path
    size: int  # bytes of the file
    version: int
    name: str
    config: ModelConfig
    point: Mapping[str, Any]
    info: Mapping[str, Any]
    tensors: Mapping[str, TensorHeader]
    stamp: tuple[int, ...]

    def arrays(self, names: Iterable[str]) -> dict[str, NDArray[Any]]:
        """These tensors, each in a copy of its own; ModelError if the file cannot be read, or a
        value is not finite or out of its range."""
        found = {}
        try:
            with self.path.open("rb") as file:
                for name in names:
                    tensor = self.tensors[name]
                    file.seek(tensor.start)
                    found[name] = np.fromfile(
                        file, DTYPES[tensor.dtype], prod(tensor.shape)
                    ).reshape(tensor.shape)
        except (OSError, ValueError) as error:  # ValueError: it has become shorter meanwhile
            raise ModelError(f"{self.path}: cannot be read ({brief(error, plain=True)})") from error
        for name, array in found.items():
            _check_values(self.path, name, array)
        return found

    def digest(self) -> bytes:
        """SHA-256 of the file, a model's identity; a file that has not changed is hashed once in a
        process.
        """
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
    header, begin, size = read_json(path)
    metadata = _metadata(path, header.pop("__metadata__", {}))
    try:
        tensors = {name: tensor_header(name, entry, begin) for name, entry in header.items()}
        check_layout(tensors, begin, size)
        config = ModelConfig.from_json(metadata["config"])
        version = int(metadata["version"])
        _check_tensors(tensors, config, version)
        point, info = json_object(metadata, "point"), json_object(metadata, "info")
        _check_point(point, config.latent)
        check_name(metadata["name"])
    except (ModelError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {error}") from error
    return Header(path, size, version, metadata["name"], config, point, info, tensors, stamp)


# ---- structure -----------------------------------------------------------------------------------


def read_json(path: Path) -> tuple[dict[str, Any], int, int]:
    """The JSON of a safetensors header, where the tensors begin, and the size of the file."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
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
    return header, 8 + length, size


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


def expected_tensors(
    config: ModelConfig, version: int
) -> dict[str, tuple[tuple[int, ...], tuple[str, ...]]]:
    """Name -> shape and dtypes that are allowed, of everything in a package of this config and
    version.
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
    return found


def _check_tensors(tensors: Mapping[str, TensorHeader], config: ModelConfig, version: int) -> None:
    """ValueError unless there are exactly the tensors that the config asks for."""
    expected = expected_tensors(config, version)
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
    if not isinstance(point.get("fill"), bool):
        raise ValueError(
            f"fill of the operating point is {brief(point.get('fill'))}, expected true or false"
        )


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
