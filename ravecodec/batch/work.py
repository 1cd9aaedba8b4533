"""What is done with one file, as the work of a process: `encode_file` and its like, with what goes
wrong told as an `Outcome`.

Nothing here imports torch; `start` does, where the work is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ravecodec.audio import HEADERS
from ravecodec.batch.items import DONE, FAILED, Item, Outcome, digest_of
from ravecodec.bitstream import StreamReader
from ravecodec.bitstream.container import MAGIC
from ravecodec.decoding import decode_file
from ravecodec.encoding import encode_file
from ravecodec.errors import CorruptError, FormatError, InputError, OutputError, RavecodecError
from ravecodec.examine import inspect_file, open_stream, verify_file
from ravecodec.files import check_output, check_source, is_stdio
from ravecodec.loading import load_entry, load_model
from ravecodec.pool import Hear
from ravecodec.tagging import tag_file
from ravecodec.timbre import transfer_file
from ravecodec.zoo import Embedded, model_in

if TYPE_CHECKING:  # these import torch
    from ravecodec.models.package import Model
    from ravecodec.pipeline import Progress

LOADED = 4  # models that a process keeps while it decodes streams of several


def check_kind(source: str, *, stream: bool) -> None:
    """Refuses what an input cannot be: nothing, a folder, what the other command takes.

    Raises:
        InputError, FormatError.
    """
    check_source(source)
    if is_stdio(source):
        return
    try:
        if Path(source).is_dir():
            expected = "an .rvc file" if stream else "an audio file"
            raise InputError(
                f"{source}: is a folder, expected {expected} (-r goes through folders)"
            )
        if not Path(source).is_file():
            return  # missing, or a pipe: who opens it will say
        with Path(source).open("rb") as file:
            start = file.read(len(MAGIC))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source}: cannot be read ({getattr(error, 'strerror', error)})"
        ) from error
    if start == MAGIC and not stream:
        raise InputError(
            f"{source}: is an .rvc stream already, expected audio (`ravecodec decode` makes audio "
            "of it)"
        )
    if stream and (start in HEADERS or start[:3] == b"ID3"):
        expected = "expected the magic of an .rvc stream (`ravecodec encode` makes one of it)"
        raise FormatError(
            f"{source}: not an .rvc file but audio that begins with {start.decode('latin-1')!r}, "
            f"{expected}"
        )


def outcome_of(item: Item, do: Callable[[], Outcome]) -> Outcome:
    """What `do` returns, or what it raised as an outcome, with the time that it took."""
    began = time.perf_counter()
    try:
        done = do()
    except RavecodecError as error:
        done = Outcome(item, FAILED, str(error), error.exit_code)
    except Exception as error:
        what = " ".join(str(error).split()) or "no message"
        sentence = f"{item.source}: {type(error).__name__}: {what}"
        hint = " (a bug? -v shows where, for this file alone)"
        done = Outcome(item, FAILED, sentence + hint, 1)
    return replace(done, seconds=time.perf_counter() - began)


def concealed(source: str, places: int) -> str:
    """The sentence on a stream that was decoded in spite of its damage."""
    damaged = "1 damaged place" if places == 1 else f"{places} damaged places"
    return f"{source}: {damaged}, the sound was held meanwhile"


def make_folder(target: str) -> None:
    """The folder of a file, and those above it; OutputError if it cannot be."""
    folder = os.path.dirname(target)
    try:
        os.makedirs(folder or ".", exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be created ({error.strerror})") from error


def remove_source(source: str) -> None:
    """Removes an input that was encoded and verified; OutputError if it cannot be."""
    try:
        os.unlink(source)
    except OSError as error:
        raise OutputError(
            f"{source}: was encoded, but cannot be removed ({error.strerror})"
        ) from error


def _written(
    do: Callable[..., Any], item: Item, model: Model, options: Mapping[str, Any], hear: Hear
) -> Any:
    """The summary of `encode_file` or its like, into a folder that is made."""
    assert item.target is not None
    make_folder(item.target)
    options = {**options, "force": item.replace}

    def share(progress: Progress) -> None:
        hear(progress.share or 0.0)

    return do(item.source, item.target, model=model, progress=share, **options)


def _done(item: Item, summary: Any, error: str = "") -> Outcome:
    """Of a file whose target is in place."""
    assert item.target is not None
    code = CorruptError.exit_code if error else 0
    return Outcome(item, DONE, error, code, digest_of(item.target), summary=summary)


@dataclass(frozen=True)
class ModelWork:
    """What is done with every file and one model, by `do`. options: of the function that does it,
    but for those below.
    """

    model: Path | str | None
    options: Mapping[str, Any]
    device: str = "auto"
    threads: int | None = None

    def start(self) -> Callable[[Item, Hear], Outcome]:
        """Loads the model."""
        model = load_model(self.model, device=self.device, threads=self.threads)
        return lambda item, hear: outcome_of(item, lambda: self.do(item, model, hear))

    def do(self, item: Item, model: Model, hear: Hear) -> Outcome:
        """One file."""
        raise NotImplementedError


@dataclass(frozen=True)
class EncodeWork(ModelWork):
    """`encode_file` of every file. remove: the source, when its stream is in place."""

    remove: bool = False

    def do(self, item: Item, model: Model, hear: Hear) -> Outcome:
        """One file."""
        check_kind(item.source, stream=False)
        done = _written(encode_file, item, model, self.options, hear)
        if self.remove and done.verified:
            remove_source(item.source)
        return _done(item, done)


class TransferWork(ModelWork):
    """`transfer_file` of every file."""

    def do(self, item: Item, model: Model, hear: Hear) -> Outcome:
        """One file."""
        return _done(item, _written(transfer_file, item, model, self.options, hear))


class DecodeWork(ModelWork):
    """`decode_file` of every file, each with the model that made it."""

    def start(self) -> Callable[[Item, Hear], Outcome]:
        """Models are loaded when a stream needs them, and kept."""
        loaded: dict[bytes, Model] = {}  # by id, or by hash of a decoder that a stream brings along
        return lambda item, hear: outcome_of(item, lambda: self._decode(item, loaded, hear))

    def _decode(self, item: Item, loaded: dict[bytes, Model], hear: Hear) -> Outcome:
        assert item.target is not None
        check_kind(item.source, stream=True)
        make_folder(item.target)
        check_output(item.target, force=item.replace, source=item.source)
        model = self._model(item.source, loaded)
        done = _written(decode_file, item, model, self.options, hear)
        return _done(item, done, concealed(item.source, len(done.damage)) if done.damage else "")

    def _model(self, source: str, loaded: dict[bytes, Model]) -> Model:
        """The model of a stream, loaded once."""
        with open_stream(source) as file:
            reader = StreamReader(file)
            key = reader.info.model_id
            if key in loaded:
                return loaded[key]
            entry = model_in(reader, self.model)
        if isinstance(entry, Embedded):  # it speaks for this stream, not for others of its id
            key = entry.sha256
        if key not in loaded:
            while len(loaded) >= LOADED:
                del loaded[next(iter(loaded))]
            loaded[key] = load_entry(entry, self.device, self.threads)
        return loaded[key]


class FileWork:
    """What is done with every file by `do`, without a model that is loaded."""

    def start(self) -> Callable[[Item, Hear], Outcome]:
        """Loads nothing."""
        return lambda item, hear: outcome_of(item, lambda: self.do(item))

    def do(self, item: Item) -> Outcome:
        """One file."""
        raise NotImplementedError


@dataclass(frozen=True)
class InspectWork(FileWork):
    """`inspect_file` of every file. frames: list the chunks as well."""

    frames: bool = False

    def do(self, item: Item) -> Outcome:
        """One file."""
        check_kind(item.source, stream=True)
        return Outcome(item, DONE, summary=inspect_file(item.source, frames=self.frames))


@dataclass(frozen=True)
class VerifyWork(FileWork):
    """`verify_file` of every file. model: as there."""

    model: str | None = None

    def do(self, item: Item) -> Outcome:
        """One file."""
        found = verify_file(item.source, model=self.model)
        verdict = DONE if found.ok else FAILED
        return Outcome(item, verdict, found.error, found.exit_code, summary=found)


@dataclass(frozen=True)
class TagWork(FileWork):
    """`tag_file` of every file, in its place. options: of `tag_file`."""

    options: Mapping[str, Any]

    def do(self, item: Item) -> Outcome:
        """One file."""
        return Outcome(item, DONE, summary=tag_file(item.source, **self.options))
