"""All scores of one decoded excerpt: `score`; what each of them means: `METRICS`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import soxr
from numpy.typing import ArrayLike

from ravecodec.errors import InputError
from ravecodec.evaluate.filters import RATE, Doubles, correlation
from ravecodec.evaluate.measures import level, peaks, perceptual, spectral
from ravecodec.evaluate.results import Metric
from ravecodec.evaluate.sounds import fitted

MOST_DELAY = 0.5  # seconds either way that are looked at
LEAST_CORRELATION = 0.5  # normalised; below it the two signals do not correlate
# What a delay must gain over none: the maximum of a filtered signal may lie a few samples aside.
LEAST_GAIN = 0.01
SILENT = 1e-5  # RMS of an excerpt that nothing can be said about
SHORTEST = 0.5  # seconds


METRICS: tuple[Metric, ...] = (
    Metric(
        "visqol", "ViSQOL", "MOS-LQO", "higher", 4.73,
        "ViSQOL in audio mode (Hines et al. 2015; visqol-python), mid channel, 1 to 4.73. It "
        "follows bandwidth and envelopes: noise with the right envelope scores high. A prediction"
        " by a model, not the opinion of listeners.",
        headline=True,
    ),
    Metric(
        "zimtohrli", "Zimtohrli", "", "higher", 5.0,
        "Google's psychoacoustic distance, mapped to 1 to 5, mid channel. Smoother"
        " than ViSQOL at low rates; it hardly sees harmonics either.", headline=True,
    ),
    Metric(
        "peak_f1", "Peak F1", "", "higher", 1.0,
        "Share of prominent spectral peaks between 50 and 5000 Hz that are where they belong, "
        "both ways (harmonic mean of precision and recall). Noise with the right envelope scores "
        "next to nothing.",
        headline=True,
    ),
    Metric(
        "symbols_kept", "Symbols kept", "", "higher", 1.0,
        "Of audio that went through the codec several times: share of the symbols of the first "
        "pass that the last one sends at the same place.",
    ),
    Metric(
        "peak_precision", "Peak precision", "", "higher", 1.0,
        "Share of the decoded peaks that the original has.",
    ),
    Metric(
        "peak_recall", "Peak recall", "", "higher", 1.0,
        "Share of the original's peaks that are still there.",
    ),
    Metric(
        "log_mel", "Log-mel distance", "dB", "lower", 0.0,
        "Mean absolute level difference of two mel spectrograms (128 bands, Hann "
        "2048, hop 512, clamped at -100 dB), mid channel.", headline=True,
    ),
    Metric(
        "mel_dac", "Mel distance of DAC", "", "lower", 0.0,
        "Sum over seven windows (32 to 2048) of the mean |log10| difference of mel magnitudes, as"
        " the paper of the Descript Audio Codec defines it (there at 44.1 kHz; its evaluation "
        "script has other settings).",
    ),
    Metric(
        "spectral_paper", "Spectral distance, paper", "", "lower", 0.0,
        "The multiscale distance of the RAVE paper with its 1e-7 inside the logarithm, which "
        "measures the noise floor of a decoder as much as the codec.",
    ),
    Metric(
        "spectral_floored", "Spectral distance, floored", "", "lower", 0.0,
        "The same with magnitudes not below 1e-4 (-74 dB of a full-scale sine).",
    ),
    *(
        Metric(
            f"lsd_{name}", f"Log-spectral distance {low / 1000:g}-{high / 1000:g} kHz",
            "dB", "lower", 0.0,
            "Root mean square level difference over the bins of the band, averaged over frames.",
        )
        for name, (low, high) in spectral.LSD_BANDS.items()
    ),
    Metric(
        "loudness_error", "Loudness error", "LU", "", 0.0,
        "Integrated loudness (ITU-R BS.1770) of the decoded audio minus that of the original (of "
        "the mid channels, where only that was sent); 0 is right.",
    ),
    Metric(
        "stereo_level_error", "Stereo level error", "dB", "lower", 0.0,
        "Mean |difference| of the level between left and right, by octave and 0.1 s, weighted by "
        "energy.",
    ),
    Metric(
        "stereo_correlation_error", "Stereo correlation error", "", "lower", 0.0,
        "Mean |difference| of the correlation between left and right, by octave and 0.1 s, "
        "weighted by energy.",
    ),
    *(
        Metric(
            f"{name}_{side}", f"{label}, {side}", unit, better, best,
            f"The same of the {side} channel alone.",
        )
        for name, label, unit, better, best in (
            ("log_mel", "Log-mel distance", "dB", "lower", 0.0),
            ("peak_f1", "Peak F1", "", "higher", 1.0),
        )
        for side in ("left", "right")
    ),
    Metric(
        "visqol_speech", "ViSQOL, speech", "MOS-LQO", "higher", None,
        "ViSQOL in speech mode at 16 kHz; an identical signal scores about 4.5 to 5. Never to be "
        "averaged with the audio mode.",
    ),
    Metric(
        "pesq_wb", "PESQ wideband", "MOS-LQO", "higher", 4.64,
        "ITU-T P.862.2 at 16 kHz, where the package pesq is installed.",
    ),
    Metric(
        "estoi", "ESTOI", "", "higher", 1.0,
        "Extended short-time objective intelligibility (Jensen & Taal 2016; pystoi) at 10 kHz.",
    ),
    Metric(
        "si_sdr", "SI-SDR, as it is", "dB", "higher", 100.0,
        "Scale-invariant signal-to-distortion ratio of the waveforms, before "
        "alignment. No measure of quality: codecs that do not keep phases are "
        "below 0, and a 3.5 kHz low-pass beats Opus.", diagnostic=True,
    ),
    Metric(
        "si_sdr_aligned", "SI-SDR, aligned", "dB", "higher", 100.0,
        "The same after the delay is undone.", diagnostic=True,
    ),
)  # fmt: skip


def aligned(reference: ArrayLike, decoded: ArrayLike, rate: int) -> tuple[Doubles, Doubles, int]:
    """(reference, decoded, delay): both float64 [channels, samples] at 48 kHz, ready to be
    compared.

    Both are resampled by soxr (VHQ) if need be and freed from DC; the decoded one is rounded to 16
    bits, so that no score sees what a file would not hold, its delay (samples by which it is late;
    negative: early) is undone, and it is cut or padded to the reference's length. A delay is
    believed only where the waveforms are alike: codecs that make up phases have none that could be
    measured so. InputError for different numbers of channels, NaN or empty audio.
    """
    pair = _as_arrays(reference, decoded)
    if len(pair[0]) != len(pair[1]) or min(audio.size for audio in pair) == 0:
        raise InputError(
            "scores take audio of the same channels, "
            f"found shapes {pair[0].shape} and {pair[1].shape}"
        )
    if not all(np.isfinite(audio).all() for audio in pair):
        raise InputError("scores take finite samples, found NaN or infinity")
    if rate != RATE:
        pair = _as_arrays(*(soxr.resample(audio.T, rate, RATE, quality="VHQ").T for audio in pair))
    x, y = pair[0], np.clip(np.rint(pair[1] * 32768), -32768, 32767) / 32768
    x, y = (audio - audio.mean(axis=1, keepdims=True) for audio in (x, y))
    delay = find_delay(x.mean(0), y.mean(0))
    return x, fitted(y, x.shape[1], delay), delay


def find_delay(reference: Doubles, decoded: Doubles) -> int:
    """By how many samples `decoded` is late, within half a second: the maximum of the normalised
    cross-correlation if it is at least 0.5 and clearly above that of no delay, else 0."""
    scale = np.linalg.norm(reference) * np.linalg.norm(decoded)
    if scale < 1e-9:
        return 0
    most = min(round(MOST_DELAY * RATE), max(len(reference), len(decoded)) - 1)
    around = correlation(reference, decoded, range(-most, most + 1)) / scale
    best = int(around.argmax())
    enough = max(LEAST_CORRELATION, around[most] + LEAST_GAIN)
    return best - most if around[best] >= enough else 0


def score(
    reference: ArrayLike,
    decoded: ArrayLike,
    rate: int,
    *,
    speech: bool = False,
    mid: bool = False,
    skip: Collection[str] = (),
) -> tuple[dict[str, float], int]:
    """(values by metric id, delay in samples at 48 kHz) of audio [channels, samples] or [samples].

    Metrics that say nothing about this pair (silence; less than half a second, for ViSQOL a second)
    are missing, as are those in `skip`, those of packages that are not installed (`absent`), and
    without `speech` those of speech. With `mid`, only the mid channel was sent, so its loudness is
    what is compared, not that of both sides. Raises InputError as `aligned` does, UsageError
    without pyloudnorm (`ravecodec[eval]`).
    """
    x, y, delay = aligned(reference, decoded, rate)
    values: dict[str, float] = {}
    if x.shape[1] >= SHORTEST * RATE and np.sqrt((x**2).mean()) > SILENT:
        for names, compute in _measures(x, y, speech, mid):
            if not set(names) <= set(skip):
                with suppress(InputError):  # too short for this one
                    values |= dict(zip(names, np.atleast_1d(compute()).tolist(), strict=True))
        values["si_sdr"] = _si_sdr_as_it_is(*_as_arrays(reference, decoded))
    wanted = [metric.id for metric in METRICS if metric.id not in skip]
    return {name: values[name] for name in wanted if np.isfinite(values.get(name, np.nan))}, delay


def _si_sdr_as_it_is(reference: Doubles, decoded: Doubles) -> float:
    """SI-SDR of the mid channels with nothing undone; the decoded one is cut or padded to the
    reference's length."""
    samples = reference.shape[1]
    return level.si_sdr(reference.mean(0), fitted(decoded, samples).mean(0))


def _as_arrays(*pair: ArrayLike) -> list[Doubles]:
    """float64 [channels, samples] each."""
    return [np.atleast_2d(np.asarray(audio, dtype=np.float64)) for audio in pair]


def absent() -> list[str]:
    """Packages of `ravecodec[eval]` that are not installed and whose scores are therefore left
    out."""
    return [name for name in ("visqol", "zimtohrli", "pystoi") if find_spec(name) is None]


Measure = tuple[tuple[str, ...], Callable[[], Any]]
PairScore = Callable[..., float]  # of (reference, decoded, rate)

# Scores of the mid channel: the function, and the packages that it needs.
MID: dict[str, tuple[PairScore, tuple[str, ...]]] = {
    "visqol": (perceptual.visqol_audio, ("visqol",)),
    "zimtohrli": (perceptual.zimtohrli, ("zimtohrli",)),
    "log_mel": (spectral.log_mel_distance, ()),
    "mel_dac": (spectral.dac_mel_distance, ()),
}
SPEECH: dict[str, tuple[PairScore, tuple[str, ...]]] = {
    # Without ai_edge_litert ViSQOL's speech mode says one or two points too much.
    "visqol_speech": (perceptual.visqol_speech, ("visqol", "ai_edge_litert")),
    "estoi": (perceptual.estoi, ("pystoi",)),
    "pesq_wb": (perceptual.pesq_wb, ("pesq",)),
}


def _measures(x: Doubles, y: Doubles, speech: bool, mid: bool) -> Iterator[Measure]:
    """Names and functions that compute their values, of prepared audio."""
    a, b = x.mean(0), y.mean(0)
    missing = absent()
    for name, (function, packages) in (MID | SPEECH if speech else MID).items():
        if all(package not in missing and find_spec(package) for package in packages):
            yield (name,), partial(function, a, b, RATE)
    yield ("peak_f1", "peak_precision", "peak_recall"), lambda: _peaks(a, b)
    yield ("spectral_paper",), lambda: spectral.multiscale(a, b, added=1e-7)
    yield ("spectral_floored",), lambda: spectral.multiscale(a, b, floor=1e-4)
    bands = tuple(f"lsd_{name}" for name in spectral.LSD_BANDS)
    yield bands, lambda: list(spectral.log_spectral_distance(a, b, RATE).values())
    sent = (a[None], b[None]) if mid else (x, y)
    yield ("loudness_error",), lambda: level.loudness_error(sent[0], sent[1], RATE)
    yield ("si_sdr_aligned",), lambda: level.si_sdr(a, b)
    if len(x) == 2:
        stereo = ("stereo_level_error", "stereo_correlation_error")
        yield stereo, lambda: level.stereo_errors(x, y, RATE)
        for side, one, other in (("left", x[0], y[0]), ("right", x[1], y[1])):
            yield (f"log_mel_{side}",), partial(spectral.log_mel_distance, one, other, RATE)
            yield (f"peak_f1_{side}",), partial(peaks.peak_f1, one, other, RATE)


def _peaks(a: Doubles, b: Doubles) -> list[float]:
    peak = peaks.peak_score(a, b, RATE)
    return [peak.f1, peak.precision, peak.recall]
