"""The numpy measures of ravecodec.evaluate: ends of the scale, order, invariances, refusals."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ravecodec.errors import InputError, UsageError
from ravecodec.evaluate.measures.peaks import peak_f1, peak_score
from ravecodec.evaluate.measures.perceptual import visqol_audio, zimtohrli
from ravecodec.evaluate.measures.spectral import log_mel_distance

RATE = 48000


def music(seconds: float = 2.0, rate: int = RATE, seed: int = 0, tune: float = 1.0) -> np.ndarray:
    """Three harmonic voices that change pitch every half second, over quiet noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    out = 0.003 * rng.standard_normal(len(time))
    for start in np.arange(0, seconds, 0.5):
        note = (time >= start) & (time < start + 0.5)
        for pitch in 110 * 2 ** (rng.integers(0, 36, 3) / 12) * tune:
            for partial in range(1, 9):
                out[note] += 0.2 / partial * np.sin(2 * np.pi * pitch * partial * time[note])
    return (0.3 * out).astype(np.float32)


def noise_like(signal: np.ndarray, seed: int = 1, size: int = 1024) -> np.ndarray:
    """Noise with the signal's third-octave envelope: right in every band, without a single tone."""
    hop = size // 4
    window = np.hanning(size + 1)[:-1]
    padded = np.pad(signal, size)
    noise = np.random.default_rng(seed).standard_normal(len(padded))
    frames = np.lib.stride_tricks.sliding_window_view
    power = np.abs(np.fft.rfft(frames(padded, size)[::hop] * window)) ** 2
    carrier = np.fft.rfft(frames(noise, size)[::hop] * window)
    bins = np.arange(size // 2 + 1)
    low = np.maximum(0, np.minimum(bins - 3, bins * 0.89)).astype(int)
    high = np.minimum(size // 2, np.maximum(bins + 3, bins * 1.12)).astype(int)
    sums = np.pad(np.cumsum(power, axis=1), ((0, 0), (1, 0)))
    envelope = np.sqrt((sums[:, high + 1] - sums[:, low]) / (high + 1 - low))
    out = np.zeros(len(padded))
    for index, frame in enumerate(np.fft.irfft(carrier * envelope, axis=1) * window):
        out[index * hop : index * hop + size] += frame
    out = out[size:-size]
    return (out * np.std(signal) / np.std(out)).astype(np.float32)


def test_peaks_of_identical_signals_score_one():
    score = peak_score(music(), music(), RATE)
    assert score.f1 == 1.0
    assert score.reference > 200
    assert score.found == score.right == score.reference == score.decoded


def test_noise_with_the_same_envelope_has_no_tones():
    signal = music()
    noise = noise_like(signal)
    assert log_mel_distance(signal, noise, RATE) < 12  # the envelope is right, and
    assert peak_f1(signal, noise, RATE) < 0.05  # yet nothing tonal is there


def test_other_music_scores_at_chance():
    assert peak_f1(music(seed=0), music(seed=7), RATE) < 0.35


def test_a_quarter_tone_off_is_wrong():
    assert peak_f1(music(), music(tune=2 ** (50 / 1200)), RATE) < 0.35


def test_more_noise_means_fewer_peaks():
    signal, noise = music(), np.random.default_rng(3).standard_normal(2 * RATE).astype(np.float32)
    scores = [peak_f1(signal, signal + gain * noise, RATE) for gain in (0.001, 0.01, 0.1, 1.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.8
    assert scores[-1] < 0.3


def test_added_tones_cost_precision_and_missing_tones_cost_recall():
    signal, extra = music(seed=0), music(seed=7)
    more = peak_score(signal, signal + extra, RATE)
    fewer = peak_score(signal + extra, signal, RATE)
    assert more.recall > more.precision + 0.1
    assert fewer.precision > fewer.recall + 0.1
    assert more.f1 == pytest.approx(fewer.f1)


def test_gain_and_polarity_do_not_matter_to_peaks():
    assert peak_f1(music(), -0.1 * music(), RATE) > 0.999


def test_peaks_at_other_rates(subtests: pytest.Subtests) -> None:
    for rate in [16000, 32000, 44100, 96000]:
        with subtests.test(rate=rate):
            signal = music(rate=rate)
            assert peak_f1(signal, signal, rate) == 1.0
            assert peak_f1(signal, noise_like(signal), rate) < 0.1


def test_short_and_silent_signals(subtests: pytest.Subtests) -> None:
    for samples in [1, 100, 8191, 8193]:
        with subtests.test(samples=samples):
            silence = np.zeros(samples, dtype=np.float32)
            assert peak_f1(silence, silence, RATE) == 1.0
            assert log_mel_distance(silence, silence, RATE) == 0.0


def test_silence_for_music_finds_nothing():
    score = peak_score(music(), np.zeros(2 * RATE), RATE)
    assert (score.decoded, score.found, score.f1) == (0, 0, 0.0)


def test_log_mel_distance_is_a_level_difference_in_db():
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1
    assert log_mel_distance(noise, noise, RATE) == 0.0
    assert log_mel_distance(noise, 10 ** (-6 / 20) * noise, RATE) == pytest.approx(6.0, abs=0.01)


def test_log_mel_distance_stops_at_the_floor():
    quiet = np.random.default_rng(0).standard_normal(RATE) * 1e-9
    assert log_mel_distance(quiet, np.zeros(RATE), RATE) == 0.0


def test_what_cannot_be_scored_is_refused(subtests: pytest.Subtests) -> None:
    for measure, (reference, decoded) in itertools.product(
        [peak_f1, log_mel_distance, visqol_audio],
        [
            (np.zeros(10), np.zeros(9)),
            (np.zeros((10, 2)), np.zeros((10, 2))),
            (np.zeros(10), np.full(10, np.nan)),
            (np.full(10, np.inf), np.zeros(10)),
            (np.zeros(0), np.zeros(0)),
        ],
    ):
        with (
            subtests.test(measure=measure, reference=reference, decoded=decoded),
            pytest.raises(InputError),
        ):
            measure(reference, decoded, RATE)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "zimtohrli", None)
    with pytest.raises(UsageError, match=r"ravecodec\[eval\]"):
        zimtohrli(np.zeros(10), np.zeros(10), RATE)


@pytest.mark.parametrize(
    ("module", "measure"), [("zimtohrli", zimtohrli), ("visqol", visqol_audio)]
)
def test_what_is_too_short_never_reaches_a_library(monkeypatch, module, measure):
    """Zimtohrli damages its memory on 60 ms, ViSQOL needs 45 frames: neither may be called."""
    monkeypatch.setitem(sys.modules, module, object())
    with pytest.raises(InputError, match="or more, found 2880 samples at 48000 Hz"):
        measure(np.zeros(2880), np.zeros(2880), RATE)


def test_metrics_do_not_import_torch_or_the_extra():
    heavy = "('torch', 'visqol', 'zimtohrli', 'scipy', 'pyloudnorm', 'pystoi')"
    code = (
        f"import sys, ravecodec.evaluate.measures.scores; print([name for name in {heavy} if name "
        "in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.home()
    )
    assert result.stdout.strip() == "[]"
