"""What a training does beside its steps."""

from __future__ import annotations

from dataclasses import dataclass

from ravecodec import curve
from ravecodec.train.trainer import BETA_WARMUP


@dataclass(frozen=True)
class Overhead:
    """How often a training reports, saves and advises, and how much audio it measures itself on.
    The defaults are for models that are to be used; a test takes less of everything.

    report_seconds: between two lines of the log. checkpoint_seconds: between two checkpoints.
    advice_after: steps of stage 1 before which a collapsed posterior is not told.
    validation_crops: crops that a validation decodes. excerpts: how many of them TensorBoard gets,
    as sounds and, if `pictures` is set, as pictures. analysis_frames: frames of training audio
    behind latent space and tables. rate_frames: frames of validation audio behind the default
    point. curve_steps: steps of the quantiser, relative to the model's own, at which the curve of
    rate and quality is measured, on curve_excerpts crops of validation audio.
    """

    report_seconds: float = 15.0
    checkpoint_seconds: float = 120.0
    advice_after: int = BETA_WARMUP
    validation_crops: int = 12
    excerpts: int = 3
    pictures: bool = True
    analysis_frames: int = 20_000
    rate_frames: int = 4_000
    curve_steps: tuple[int, ...] = curve.STEPS
    curve_excerpts: int = curve.EXCERPTS


USUAL = Overhead()
