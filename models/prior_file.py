"""The file of a prior: read once, and checked against itself before anything is built of it.

A prior (`prior.py`) speaks the latents of one model and lies beside it as NAME.prior.safetensors:
weights, the quantiser's steps and the deviation of each axis; config, the model's id and where it
comes from as JSON in the file's metadata. The model's own file stays as it is, and with it its id.
Like a model, a prior may come from anyone. No torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ravecodec.errors import ModelError
from ravecodec.models.config import brief
from ravecodec.models.header import (
    DTYPES,
    HUGE,
    MAX_STEP_INDEX,
    TINY,
    TensorHeader,
    check_layout,
    check_name,
    json_object,
    read_json,
    tensor_header,
)

SUFFIX = ".prior.safetensors"
FORMAT = "ravecodec-prior"  # what the file calls itself
VERSION = "1"
WEIGHTS = "weights."
SCALES = ("step", "deviation")  # float32 [dims] each, beside the weights
ID_BYTES = 8

# What no prior goes beyond: a few megabytes, and a moment for a second of sound.
MOST = {"dims": 1024, "hidden": 2048, "units": 2048, "groups": 64, "mixture": 16}


@dataclass(frozen=True)
class PriorConfig:
    """A prior's network.

    dims: axes it speaks of, the first ones of its model. step_index: of the grid that they lie on.
    hidden: width of the recurrent state. units: of the hidden layer behind it. groups: of axes, of
    which each is told the ones before it in the same frame; 1: all axes of a frame are independent
    given the past. mixture: logistics that an axis' distribution is made of. ModelError for values
    that no network can have.
    """

    dims: int
    step_index: int = 0
    hidden: int = 256
    units: int = 256
    groups: int = 8
    mixture: int = 3

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise ModelError(f"{name} of the prior is {brief(value)}, expected 1 to {most}")
        index = self.step_index
        if type(index) is not int or not -MAX_STEP_INDEX <= index <= MAX_STEP_INDEX:
            raise ModelError(
                f"step_index of the prior is {brief(index)}, expected {-MAX_STEP_INDEX} to "
                f"{MAX_STEP_INDEX}"
            )
        if self.groups > min(self.dims, self.units):
            raise ModelError(
                f"the prior has {self.groups} groups of {self.dims} axes and {self.units} units, "
                "expected as many axes and units or more"
            )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PriorConfig:
        """ModelError for unknown and missing keys."""
        found = json_object({"config": text}, "config")
        names = {field.name for field in fields(cls)}
        if odd := sorted(found.keys() ^ names):
            raise ModelError(f"the prior's config has other keys than expected: {brief(odd[0])}")
        return cls(**found)

    def bounds(self) -> list[int]:
        """Where groups begin and end, groups + 1 numbers: small ones first, for the first axes say
        most."""
        return _rising(self.dims, self.groups, 2)

    def unit_bounds(self) -> list[int]:
        """The same of the units."""
        return _rising(self.units, self.groups, 1)


def _rising(total: int, parts: int, power: int) -> list[int]:
    """parts + 1 numbers from 0 to `total`, each larger than the one before."""
    found = [round(total * (i / parts) ** power) for i in range(parts + 1)]
    for i in range(1, parts):
        found[i] = min(max(found[i], found[i - 1] + 1), total - (parts - i))
    return found


def weight_shapes(config: PriorConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight of the network."""
    dims, hidden, units = config.dims, config.hidden, config.units
    return {
        "memory.weight_ih_l0": (3 * hidden, dims),
        "memory.weight_hh_l0": (3 * hidden, hidden),
        "memory.bias_ih_l0": (3 * hidden,),
        "memory.bias_hh_l0": (3 * hidden,),
        "from_memory.weight": (units, hidden),
        "from_memory.bias": (units,),
        "from_frame.weight": (units, 2 * dims),
        "out.weight": (2 * dims, units),
        "out.bias": (2 * dims,),
        "past": (2, dims),
        "shape": (3, dims, config.mixture),
    }


@dataclass(frozen=True)
class PriorHeader:
    """A checked header. model_id: the 8 bytes that name the model whose latents it speaks; info:
    where it comes from, its licence, and what it does to held-out audio."""

    path: Path
    size: int  # bytes of the file
    name: str
    model_id: bytes
    config: PriorConfig
    info: Mapping[str, Any]
    tensors: Mapping[str, TensorHeader]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All tensors as float32; ModelError if the file cannot be read or a value is not finite or
        out of its range."""
        found = {}
        try:
            with self.path.open("rb") as file:
                for name, tensor in self.tensors.items():
                    file.seek(tensor.start)
                    array = np.fromfile(file, DTYPES[tensor.dtype], prod(tensor.shape))
                    found[name] = array.reshape(tensor.shape).astype(np.float32)
        except (OSError, ValueError) as error:  # ValueError: it has become shorter meanwhile
            raise ModelError(f"{self.path}: cannot be read ({brief(error, plain=True)})") from error
        for name, array in found.items():
            _check_values(self.path, name, array)
        return found


def _check_values(path: Path, name: str, array: NDArray[np.float32]) -> None:
    if not np.isfinite(array).all():
        raise ModelError(f"{path}: {name} holds NaN or infinity; the prior is damaged")
    if name in SCALES and not (array.min() >= TINY and array.max() <= HUGE):
        raise ModelError(
            f"{path}: {name} has values from {array.min()} to {array.max()}, expected {TINY} to "
            f"{HUGE}"
        )


def read_prior_header(path: Path) -> PriorHeader:
    """The header of a prior's file; ModelError if it is missing, no prior, or damaged."""
    try:
        if not path.is_file():
            raise ModelError(f"{path}: no such prior file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            header, begin = read_json(path, file, size)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    metadata = _metadata(path, header.pop("__metadata__", {}))
    try:
        tensors = {name: tensor_header(name, entry, begin) for name, entry in header.items()}
        check_layout(tensors, begin, size)
        config = PriorConfig.from_json(metadata["config"])
        _check_tensors(tensors, config)
        check_name(metadata["name"])
        model_id, info = _id(metadata["model"]), json_object(metadata, "info")
    except (ModelError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {error}") from error
    return PriorHeader(path, size, metadata["name"], model_id, config, info, tensors)


def _metadata(path: Path, found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ModelError(f"{path}: the header of the prior is damaged")
    if found.get("format") != FORMAT or found.get("version") != VERSION:
        is_what = brief(found["format"], plain=True) if found.get("format") else "no prior"
        version = brief(found.get("version"), plain=found.get("version") is not None)
        raise ModelError(
            f"{path}: is {is_what} version {version}, expected {FORMAT} version {VERSION}"
        )
    for key in ("config", "model", "info", "name"):
        if key not in found:
            raise ModelError(f"{path}: the prior's metadata has no {key}")
    return found


def _check_tensors(tensors: Mapping[str, TensorHeader], config: PriorConfig) -> None:
    """ValueError unless there are exactly the tensors that the config asks for."""
    expected = {WEIGHTS + name: shape for name, shape in weight_shapes(config).items()}
    expected |= dict.fromkeys(SCALES, (config.dims,))
    if odd := sorted(tensors.keys() ^ expected.keys()):
        first = f"{'has' if odd[0] in tensors else 'lacks'} {brief(odd[0])}"
        raise ValueError(
            f"the prior's tensors do not fit its config: it {first} ({len(odd)} such tensors)"
        )
    for name, shape in expected.items():
        tensor = tensors[name]
        dtypes = ("F32",) if name in SCALES else ("F16", "F32")
        if tensor.shape != shape or tensor.dtype not in dtypes:
            found = f"{name} is {tensor.dtype} {brief(list(tensor.shape))}"
            raise ValueError(f"{found}, expected {' or '.join(dtypes)} {list(shape)}")


def _id(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != ID_BYTES or found.hex() != text:
        raise ValueError(f"the id of the prior's model is {brief(text)}, expected 16 hex digits")
    return found
