"""What TensorBoard shows of a run, if it is installed (extra `tensorboard`); pictures need
matplotlib as well.

    stage N/...                what the log holds, and the KL per latent
    stage N, HOW/excerpt I     validation audio, before and after: to listen to, and as a picture
    finished, HOW/excerpt I    the same through the network that is packed
    latents/fidelity           how much of the latents the first dims carry, over their number

HOW is `posterior means, not quantised` in stage 1, where there are no tables yet to quantise with,
and `quantised at the default point` from then on: the latents go through the codec's own quantiser.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from ravecodec.errors import OutputError
from ravecodec.evaluate.page.charts import spectrograms
from ravecodec.models.latent import LatentSpace
from ravecodec.train import figures
from ravecodec.train.stages import ACTIVE_BITS
from ravecodec.train.validation import Reconstruction

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVERY = 64  # every so many validations one has excerpts, and those whose number is a power of two
POSTERIOR = "posterior means, not quantised"
QUANTISED = "quantised at the default point"

Crop = tuple[NDArray[np.float32], NDArray[np.float32]]  # original and decoded, [channels, samples]


class Board:
    """Writes TensorBoard's files into the folder `tensorboard` of a run; where it is not installed,
    nothing.

    excerpts: how many validation crops are shown. pictures: whether there are any, if matplotlib
    is installed. Every method raises OutputError if the files cannot be written.
    """

    def __init__(self, run: Path, excerpts: int = 3, *, pictures: bool = True) -> None:
        self._folder, self._excerpts = run / "tensorboard", excerpts
        self._pictures = pictures and find_spec("matplotlib") is not None

    def log(self, values: Mapping[str, Any]) -> None:
        """A line of the log: numbers as scalars, sentences as text."""
        self._write(_add_log, values)

    def validation(
        self,
        stage: int,
        step: int,
        number: int,
        last: bool,
        rate: int,
        batches: list[Reconstruction],
    ) -> None:
        """The `number`th validation of a stage (1, 2, ...), of audio at `rate` Hz: the KL per
        latent as a histogram; for some numbers (`is_shown`) and the `last` one as a curve, too, and
        excerpts."""
        self._write(_add_bits, stage, step, batches)
        if last or is_shown(number):
            how = POSTERIOR if stage == 1 else QUANTISED
            if self._pictures:
                self._write(_add_curve, stage, step, batches)
            self._add_excerpts(f"stage {stage}, {how}", step, rate, batches, how)

    def latents(self, latent: LatentSpace, default_dims: int) -> None:
        """The fidelity curve."""
        self._write(_add_fidelity, latent)
        if self._pictures:
            self._write(_add_fidelity_curve, latent, default_dims)

    def finished(self, step: int, rate: int, batches: Iterable[Reconstruction]) -> None:
        """Excerpts through the network that is packed; takes no more of `batches` than it shows."""
        self._add_excerpts(f"finished, {QUANTISED}", step, rate, batches, QUANTISED)

    def _add_excerpts(
        self, tag: str, step: int, rate: int, batches: Iterable[Reconstruction], how: str
    ) -> None:
        crops = islice(_crops(batches), self._excerpts)
        self._write(_add_excerpts, tag, step, rate, crops, how, self._pictures)

    def _write(self, add: Callable[..., None], *what: Any) -> None:
        if self._writer is None:
            return
        try:
            add(self._writer, *what)
            self._writer.flush()
        except OSError as error:
            why = f"cannot be written ({error.strerror}); free some space and call again"
            raise OutputError(f"{self._folder}: {why}") from error

    @cached_property
    def _writer(self) -> SummaryWriter | None:
        if find_spec("tensorboard") is None:
            return None
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder))


def is_shown(number: int) -> bool:
    """Whether the `number`th validation of a stage has pictures and audio: 1, 2, 4, 8, ... and
    every EVERYth.

    A network changes fast at first; and a megabyte at each of the paper recipe's 6000 validations
    would fill a disk.
    """
    return number & (number - 1) == 0 or number % EVERY == 0


def _add_log(writer: SummaryWriter, values: Mapping[str, Any]) -> None:
    for key in values.keys() - {"stage", "step"}:
        add = writer.add_text if isinstance(values[key], str) else writer.add_scalar
        add(f"stage {values['stage']}/{key}", values[key], values["step"])


def _bits(batches: list[Reconstruction]) -> NDArray[np.floating]:
    return torch.stack([part.bits for part in batches]).mean(0).cpu().numpy()


def _add_bits(writer: SummaryWriter, stage: int, step: int, batches: list[Reconstruction]) -> None:
    writer.add_histogram(f"stage {stage}/KL per latent, bits", _bits(batches), step)


def _add_curve(writer: SummaryWriter, stage: int, step: int, batches: list[Reconstruction]) -> None:
    chart = figures.bits_per_latent(_bits(batches), ACTIVE_BITS)
    writer.add_figure(f"stage {stage}/KL per latent", chart.figure(), step)


def _add_fidelity(writer: SummaryWriter, latent: LatentSpace) -> None:
    for dims in range(1, len(latent.mean) + 1):
        writer.add_scalar("latents/fidelity", latent.fidelity(dims), dims)


def _add_fidelity_curve(writer: SummaryWriter, latent: LatentSpace, default_dims: int) -> None:
    writer.add_figure("latents/fidelity curve", figures.fidelity(latent, default_dims).figure())


def _add_excerpts(
    writer: SummaryWriter,
    tag: str,
    step: int,
    rate: int,
    crops: Iterable[Crop],
    how: str,
    pictures: bool,
) -> None:
    for i, (original, output) in enumerate(crops, 1):
        _add_audio(writer, f"{tag}/excerpt {i}, original", original, rate, step)
        _add_audio(writer, f"{tag}/excerpt {i}, decoded", output, rate, step)
        if pictures:
            mids = {"original": original.mean(0), f"decoded: {how}": output.mean(0)}
            picture = spectrograms(mids, rate)
            writer.add_figure(f"{tag}/excerpt {i}", picture, step)


def _crops(batches: Iterable[Reconstruction]) -> Iterator[Crop]:
    """(original, output) of one crop after the other, [channels, samples]."""
    for part in batches:
        both = [audio.float().cpu().numpy() for audio in (part.original, part.output)]
        yield from zip(*both, strict=True)


def _add_audio(
    writer: SummaryWriter, tag: str, audio: NDArray[np.float32], rate: int, step: int
) -> None:
    """Audio [channels, samples] as 16-bit WAV with all its channels, of which `add_audio` takes
    only one.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary

    file = io.BytesIO()
    soundfile.write(file, audio.T, rate, format="WAV", subtype="PCM_16")
    sound = Summary.Audio(
        sample_rate=rate,
        num_channels=len(audio),
        length_frames=audio.shape[1],
        encoded_audio_string=file.getvalue(),
        content_type="audio/wav",
    )
    files: Any = writer.file_writer  # a FileWriter, as long as the writer is open
    files.add_summary(Summary(value=[Summary.Value(tag=tag, audio=sound)]), step)
