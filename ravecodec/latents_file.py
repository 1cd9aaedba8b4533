"""Latents in files: .npz, which holds everything, and .npy and .csv for other programs."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ravecodec.bitstream import StreamInfo
from ravecodec.bitstream.source import ByteSource
from ravecodec.errors import InputError, UsageError
from ravecodec.examine import open_stream
from ravecodec.files import check_output, is_stdio, open_binary_output
from ravecodec.latents import Latents

NPZ, NPY, CSV = ".npz", ".npy", ".csv"
VERSION = 1  # of the layout of an npz
MOST_BYTES = 2**31  # of the arrays of an npz; an hour of the default model's latents takes 30 MB


def save(latents: Latents, target: str | Path, *, force: bool) -> None:
    """As `Latents.save`."""
    write = _writer_for(target)
    with open_binary_output(target, force=force) as file:
        write(latents, file)


def load(source: str | Path) -> Latents:
    """As `Latents.load`."""
    with open_stream(source) as file:
        data, name = _whole_file(file), file.name
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise InputError(f"{name}: holds {size} bytes of arrays, expected at most {MOST_BYTES}")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {key: np.asarray(arrays[key]) for key in arrays.files}
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        OSError,
        EOFError,
        MemoryError,
        NotImplementedError,
    ) as error:
        raise InputError(f"{name}: is no npz file of latents ({error})") from error
    try:
        return _from_arrays(found)
    except (InputError, UsageError) as error:
        raise InputError(f"{name}: {error}") from error


def _writer_for(target: str | Path) -> Callable[[Latents, BinaryIO], None]:
    suffix = NPZ if is_stdio(target) else Path(target).suffix.lower()
    if suffix not in _WRITERS:
        expected = ", ".join(_WRITERS)
        raise UsageError(f"{target}: has the extension {suffix!r}, expected one of {expected}")
    return _WRITERS[suffix]


def check_latents_output(target: str | Path, *, force: bool, source: str | Path) -> None:
    """Raises now what would make `save` fail later."""
    _writer_for(target)
    check_output(target, force=force, source=source)


def _whole_file(source: ByteSource) -> bytes:
    """All bytes that are left; InputError if they are more than a file of latents can have."""
    parts, size = [], 0
    while part := source.fileobj.read(1 << 20):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise InputError(
                f"{source.name}: has more than {MOST_BYTES} bytes, expected a file of latents"
            )
    return b"".join(parts)


def _write_npz(latents: Latents, file: BinaryIO) -> None:
    buffer, info = io.BytesIO(), latents.info
    chunks: dict[str, Any] = {} if latents.chunks is None else {"chunks": latents.chunks}
    np.savez(
        buffer,
        version=VERSION,
        values=latents.values,
        silent=latents.silent,
        lead=latents.lead,
        **chunks,
        frame_rate=latents.frame_rate,
        samples=latents.samples,
        model_id=info.model_id.hex(),
        sample_rate=info.sample_rate,
        channels=info.channels,
        hop=info.hop,
        step_index=info.step_index,
        noise_fill=info.noise_fill,
        seed=info.seed,
        model_rate=info.model_rate,
        meta=json.dumps(dict(latents.meta)),
    )
    file.write(buffer.getvalue())


def _write_npy(latents: Latents, file: BinaryIO) -> None:
    buffer = io.BytesIO()
    np.save(buffer, latents.values)
    file.write(buffer.getvalue())


def _write_csv(latents: Latents, file: BinaryIO) -> None:
    seconds = np.arange(len(latents)) / latents.frame_rate
    table = np.column_stack([seconds, latents.silent, latents.values])
    names = ["seconds", "silent", *(f"axis {d}" for d in range(latents.info.dims))]
    formats = ["%.6f", "%d", *["%.9g"] * latents.info.dims]
    np.savetxt(file, table, formats, delimiter=",", header=",".join(names), comments="")


_WRITERS = {NPZ: _write_npz, NPY: _write_npy, CSV: _write_csv}


def _from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Latents:
    """From what `_write_npz` wrote; `frame_rate` is for people and not read."""
    if (version := _number(arrays, "version")) != VERSION:
        raise InputError(f"is version {version} of latents, this ravecodec reads version {VERSION}")
    if missing := {"values", "silent", "lead"} - set(arrays):
        raise InputError(f"has no array {sorted(missing)[0]!r}, expected one of latents")
    values = arrays["values"]
    info = StreamInfo(
        model_id=_model_id(_text(arrays, "model_id")),
        sample_rate=_number(arrays, "sample_rate"),
        channels=_number(arrays, "channels"),
        hop=_number(arrays, "hop"),
        dims=values.shape[1] if values.ndim == 2 else 0,
        step_index=_number(arrays, "step_index"),
        noise_fill=bool(_number(arrays, "noise_fill")),
        seed=_number(arrays, "seed"),
        model_rate=_number(arrays, "model_rate"),
    )
    return Latents(
        values=values,
        samples=_number(arrays, "samples"),
        info=info,
        silent=arrays["silent"],
        lead=arrays["lead"],
        chunks=arrays.get("chunks"),
        meta=_meta(_text(arrays, "meta")),
    )


def _number(arrays: Mapping[str, NDArray[Any]], key: str) -> int:
    """A whole number, also one that was kept as a float."""
    array = arrays.get(key, np.array(""))
    if array.shape == () and array.dtype.kind in "iubf" and float(array).is_integer():
        return int(array)
    raise InputError(f"{key} is {array if key in arrays else 'missing'}, expected a whole number")


def _text(arrays: Mapping[str, NDArray[Any]], key: str) -> str:
    array = arrays.get(key, np.array(0))
    if array.shape == () and array.dtype.kind == "U":
        return str(array)
    raise InputError(f"{key} is {array if key in arrays else 'missing'}, expected text")


def _model_id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InputError(f"model_id is {text!r}, expected hex digits") from error


def _meta(text: str) -> dict[str, Any]:
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"meta is no JSON ({error})") from error
    if not isinstance(meta, dict):
        raise InputError("meta is no JSON object, expected one")
    return meta
