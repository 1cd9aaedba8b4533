"""Finds a model by name, by path or by its id. A file is read whole once, for its SHA-256, and of
its content only the header is looked at: no tensor is made and torch is not loaded.

Looked through, in this order: the folders of $RAVECODEC_MODELS, the user's data folder, the models
shipped with ravecodec. A model is one .safetensors file (`models/package.py`); its name is the
file's name without that extension, its id the first 8 bytes of the file's SHA-256, as every stream
header carries it. A prior (`models/prior_file.py`) lies beside its model as NAME.prior.safetensors
and names the model's id.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from ravecodec.bitstream import EmbeddedModel, StaticModel, StreamInfo, StreamReader
from ravecodec.errors import CorruptError, ModelError, OutputError
from ravecodec.models.coding import Prediction
from ravecodec.models.config import ModelConfig, brief
from ravecodec.models.header import Header, decoder_part, read_decoder, read_header
from ravecodec.models.prior_file import SUFFIX as PRIOR_SUFFIX
from ravecodec.models.prior_file import PriorHeader, read_prior_header
from ravecodec.tables import plays, static_model

ENVIRONMENT = "RAVECODEC_MODELS"
DEFAULT = "default"
MODEL_KEY = "model"  # of META: the name of the model that made the stream
SUFFIX = ".safetensors"
_ID = re.compile(r"[0-9a-f]{8,64}")
DIGEST_DIGITS = 64
_LISTED = 8  # models that an error message names at most


@dataclass(frozen=True)
class ModelEntry:
    """A model file, as far as its header tells.

    digest: SHA-256 of the file. size: bytes. point: the default operating point (dims, step_index,
    fill). info: provenance, licence, credits.
    """

    name: str
    path: Path
    digest: bytes
    size: int
    config: ModelConfig = field(repr=False)
    point: Mapping[str, Any] = field(repr=False)
    info: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> bytes:
        """The 8 bytes that a stream header carries."""
        return self.digest[:8]

    def plays(self, model_id: bytes) -> bool:
        """Whether it decodes streams that name this id."""
        return plays(self.id, self.info, model_id)

    def __str__(self) -> str:
        return f"{self.name} ({self.id.hex()})"


@dataclass(frozen=True)
class Embedded:
    """A decoder that came with a stream: checked as far as its header goes.

    sha256: of its file, as the stream announces it and as was found.
    """

    header: Header
    sha256: bytes

    @property
    def name(self) -> str:
        """What the model is called that it is the decoder of."""
        return self.header.name


# ---- where ---------------------------------------------------------------------------------------


def user_folder() -> Path:
    """Where `model add` puts models. OutputError for a user without a home."""
    try:
        folder = user_data_path("ravecodec") / "models"
    except (RuntimeError, KeyError):  # no HOME, and no entry in passwd
        folder = Path("~")
    if not folder.is_absolute():  # what platformdirs made of "~"
        raise OutputError(
            "this user has no folder for models (no HOME); name one in RAVECODEC_MODELS"
        )
    return folder


def shipped_folder() -> Path:
    """The models that came with ravecodec."""
    return Path(str(resources.files("ravecodec.models.pretrained")))


def folders() -> list[Path]:
    """All folders in the order of lookup; those that do not exist are passed over."""
    listed = os.environ.get(ENVIRONMENT, "").split(os.pathsep)
    return [
        *(Path(folder) for folder in listed if folder),
        *_searchable_user_folder(),
        shipped_folder(),
    ]


def _searchable_user_folder() -> list[Path]:
    """The user's folder, where there is one that may be searched; everything but `model add` does
    without.
    """
    try:
        folder = user_folder()
        return [folder] if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK) else []
    except (OutputError, OSError):
        return []


def model_files() -> Iterator[Path]:
    """Every model file in the order of lookup, each once."""
    seen: set[Path] = set()
    for folder in folders():
        for path in _files(folder):
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _files(folder: Path) -> list[Path]:
    """Model files of a folder; none where it does not exist, ModelError where it may not be looked
    into.
    """
    return [path for path in _packages(folder) if not path.name.endswith(PRIOR_SUFFIX)]


def _packages(folder: Path) -> list[Path]:
    """Models and priors of a folder, as for `_files`."""
    try:
        return (
            sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))
            if folder.is_dir()
            else []
        )
    except OSError as error:
        raise ModelError(
            f"{folder}: the folder of models cannot be read ({error.strerror})"
        ) from error


# ---- one file ------------------------------------------------------------------------------------


def read_entry(path: Path) -> ModelEntry:
    """The entry of a model file; ModelError if it is missing, damaged, or no ravecodec model."""
    header = read_header(path)
    name = path.name.removesuffix(SUFFIX)
    return ModelEntry(
        name, path, header.digest(), header.size, header.config, header.point, header.info
    )


def check_values(path: Path) -> None:
    """ModelError, naming the tensor, if a model file holds values that no model can have."""
    header = read_header(path)
    header.arrays(header.tensors)


def read_tables(entry: ModelEntry | Embedded, model_id: bytes | None = None) -> StaticModel:
    """The entropy tables of a model, enough to check a stream's symbols without the network;
    model_id: which the stream names, if that may be an earlier one (see `tables_for`)."""
    header = entry.header if isinstance(entry, Embedded) else read_header(entry.path)
    arrays = header.arrays(name for name in header.tensors if name.startswith("coding."))
    prediction = Prediction.of(arrays) if model_id in (None, header.digest()[:8]) else None
    return static_model(arrays["coding.shapes"], arrays["coding.scales"], prediction)


# ---- lookup --------------------------------------------------------------------------------------


def list_models() -> list[ModelEntry]:
    """All models that are installed or came with ravecodec, in the order of lookup, as far as their
    headers tell: name, id, path, size, config, operating point, licence and credits (`info`). Files
    that are no models are left out, as are priors.
    """
    return scan_models()[0]


def scan_models() -> tuple[list[ModelEntry], list[ModelError]]:
    """All models in the order of lookup, and what is wrong with files that are none."""
    entries, problems = [], []
    for path in model_files():
        try:
            entries.append(read_entry(path))
        except ModelError as error:
            problems.append(error)
    return entries, problems


def find_model(wanted: str | Path | None = None) -> ModelEntry:
    """The model of this name, path or id (hex, at least 8 digits); None: the default one.

    The default is the model called "default", else the only one there is. ModelError if none or
    several fit.
    """
    if wanted is None:
        return _find_default()
    text = str(wanted)
    if isinstance(wanted, Path) or text.endswith(SUFFIX) or Path(text).name != text:
        return read_entry(Path(wanted))
    for path in model_files():
        if path.name == text + SUFFIX:
            return read_entry(path)
    return find_id(text)


def _find_default() -> ModelEntry:
    for path in model_files():
        if path.name == DEFAULT + SUFFIX:
            return read_entry(path)
    entries, _ = scan_models()
    if len({entry.digest for entry in entries}) == 1:
        return entries[0]
    if entries:
        raise ModelError(f"no default model; choose one of {_names(entries)} with --model")
    raise ModelError(
        "no model is installed; give a file with --model, or install one with `ravecodec model add "
        "FILE`"
    )


def find_id(text: str) -> ModelEntry:
    """The model whose id begins like this.

    All 64 digits name one file, so the first that has them is enough.
    """
    if len(text) == DIGEST_DIGITS and _ID.fullmatch(text):
        found = next((entry for entry in _entries_for_ids() if entry.digest.hex() == text), None)
        if found is not None:
            return found
    entries, _ = scan_models()
    matches = {
        e.digest: e
        for e in reversed(entries)
        if _ID.fullmatch(text) and e.digest.hex().startswith(text)
    }
    if len(matches) == 1:
        return next(iter(matches.values()))
    if matches:
        raise ModelError(f"model id {text} fits {_names(list(matches.values()))}; give more digits")
    if Path(text).is_file():
        raise ModelError(f"{text}: is a file, but a model's file is called *{SUFFIX}")
    raise ModelError(f"no model called {brief(text)}; known are {_names(entries)}")


def _entries_for_ids() -> Iterator[ModelEntry]:
    """Every model that can be read, one at a time, the shipped default first: it made most streams,
    and where the looking ends, no other file is hashed. Equal ids are equal files, so the order
    decides nothing else."""
    files = list(model_files())
    files.sort(key=lambda path: path != shipped_folder() / (DEFAULT + SUFFIX))
    for path in files:
        try:
            yield read_entry(path)
        except ModelError:
            continue


def _names(entries: list[ModelEntry]) -> str:
    shown = [str(entry) for entry in entries[:_LISTED]]
    more = len(entries) - len(shown)
    return (", ".join(shown) or "none") + (f" and {more} more" if more else "")


def installed(model_id: bytes) -> ModelEntry | None:
    """The model of these 8 bytes, or else the first that was refit of it, or None; files behind a
    model of this id are not looked at."""
    refit = None
    for entry in _entries_for_ids():
        if entry.id == model_id:
            return entry
        if refit is None and entry.plays(model_id):
            refit = entry
    return refit


def model_for_stream(
    info: StreamInfo, name: str, wanted: str | Path | None = None, *, called: str = ""
) -> ModelEntry:
    """The model that made the stream called `name`: found by id among all, or `wanted` if that is
    the one. called: what whoever made the stream called the model, if that is known.

    ModelError, naming both ids, otherwise.
    """
    if wanted is not None:
        entry = find_model(wanted)
        if not entry.plays(info.model_id):
            raise ModelError(
                f"{name}: was made with model {info.model_id.hex()}, but --model is {entry}"
            )
        return entry
    if (found := installed(info.model_id)) is not None:
        return found
    entries, _ = scan_models()
    who = f"model {info.model_id.hex()}" + (f", called {brief(called)} there" if called else "")
    raise ModelError(
        f"{name}: was made with {who}, which is not installed (there is {_names(entries)}); give "
        f"its file with --model, install it with `ravecodec model add FILE`, or name its folder in "
        f"{ENVIRONMENT}"
    )


def model_in(reader: StreamReader, wanted: str | Path | None = None) -> ModelEntry | Embedded:
    """What decodes a stream: `wanted` if it is given and the one, else the installed model of its
    id, else the decoder that the stream brings along.

    ModelError if there is none of them, or the decoder is none. CorruptError if what is before the
    first AUDIO chunk is damaged and had to be read.
    """
    info = reader.info
    if wanted is None and (found := installed(info.model_id)) is not None:
        return found
    if wanted is None and (model := reader.model) is not None:
        return embedded(model, reader)
    return model_for_stream(info, reader.name, wanted, called=_called(reader))


def embedded(model: EmbeddedModel, reader: StreamReader) -> Embedded:
    """The decoder that a stream brings along, unpacked and looked at like a model file from
    anywhere; nothing is built.

    CorruptError if it is not what its hash says. ModelError if it is no decoder, or not the one
    that the stream names.
    """
    name = f"{reader.name}: the embedded model"
    header = read_decoder(model.unpack(reader.name), name)
    if header.digest()[:8] != reader.info.model_id:
        own, expected = header.digest()[:8].hex(), reader.info.model_id.hex()
        raise ModelError(
            f"{name}: is the decoder of {own}, but the stream was made with {expected}"
        )
    return Embedded(header, model.sha256)


def to_embed(path: Path) -> EmbeddedModel:
    """The decoder of a model file, as a stream can bring it along; made once in a process."""
    return _to_embed(path, read_header(path).stamp)


@lru_cache(maxsize=2)
def _to_embed(path: Path, stamp: tuple[int, ...]) -> EmbeddedModel:
    return EmbeddedModel.of(decoder_part(path))


def _called(reader: StreamReader) -> str:
    """What the maker of a stream called its model, or ""."""
    with suppress(CorruptError):  # that the model is missing is the first thing to know
        found = reader.meta.get(MODEL_KEY)
        return found if isinstance(found, str) else ""
    return ""


# ---- priors --------------------------------------------------------------------------------------


def prior_beside(entry: ModelEntry) -> PriorHeader | None:
    """The prior that lies beside a model's file, or None; ModelError if it is damaged or for
    another model."""
    path = entry.path.with_name(entry.name + PRIOR_SUFFIX)
    if not path.exists():
        return None
    return fitting(read_prior_header(path), entry)


def find_prior(entry: ModelEntry, wanted: Path | None = None) -> PriorHeader:
    """The prior of a model: the file `wanted`, else the one beside the model, else the first one in
    the folders of lookup that is for it. ModelError if there is none, or it is for another
    model."""
    if wanted is not None:
        return fitting(read_prior_header(wanted), entry)
    beside = prior_beside(entry)
    found = beside if beside is not None else next(_priors(entry), None)
    if found is None:
        raise ModelError(
            f"model {entry} has no prior; `ravecodec train DATA --stage prior --init-from "
            f"{entry.name} --out RUN` makes one"
        )
    return found


def _priors(entry: ModelEntry) -> Iterator[PriorHeader]:
    """Priors in the folders of lookup that are for a model; damaged ones are passed over."""
    for folder in folders():
        for path in _packages(folder):
            if path.name.endswith(PRIOR_SUFFIX):
                try:
                    yield fitting(read_prior_header(path), entry)
                except ModelError:
                    continue


def fitting(prior: PriorHeader, entry: ModelEntry) -> PriorHeader:
    """The prior, if it speaks a model's latents: of its id, or of one that it was refit of."""
    if not entry.plays(prior.model_id):
        raise ModelError(
            f"{prior.path}: is a prior for model {prior.model_id.hex()}, expected one for {entry}"
        )
    if prior.config.dims > entry.config.latent:
        raise ModelError(
            f"{prior.path}: is a prior of {prior.config.dims} axes, but model {entry} has "
            f"{entry.config.latent}"
        )
    return prior
