"""Scores against values that were computed otherwise: by hand, by scipy, by the packages that
define them.
"""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import signal as scipy_signal

from ravecodec.errors import InputError
from ravecodec.evaluate.measures import level, perceptual, spectral
from ravecodec.evaluate.measures.scores import METRICS, aligned, find_delay, score

RATE = 48_000
PERCEPTUAL = {"visqol", "zimtohrli"}  # of packages that not every machine has


def noise(
    seconds: float = 1.0, channels: int = 2, seed: int = 0, amplitude: float = 0.1
) -> np.ndarray:
    return amplitude * np.random.default_rng(seed).standard_normal(
        (channels, round(seconds * RATE))
    )


def sine(hertz: float, seconds: float = 1.0, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


def scores_of(reference: np.ndarray, decoded: np.ndarray, **options: bool) -> dict[str, float]:
    return score(reference, decoded, RATE, skip=PERCEPTUAL, **options)[0]


# ---- all together --------------------------------------------------------------------------------


def test_an_identical_signal_gets_the_best_of_every_metric() -> None:
    audio = np.rint(noise(2.0) * 32768) / 32768
    audio -= np.rint(audio.mean(1, keepdims=True) * 32768) / 32768
    values = scores_of(audio, audio)
    best = {metric.id: metric.best for metric in METRICS}
    elsewhere = {"visqol_speech", "pesq_wb", "estoi", "symbols_kept"}
    assert set(values) == {m.id for m in METRICS} - PERCEPTUAL - elsewhere
    for name, value in values.items():
        assert value == pytest.approx(best[name], abs=1e-6), name


def test_every_metric_feels_a_distortion() -> None:
    """One tone of two is out of tune, and there is noise, louder on the left."""
    audio = np.stack(
        [
            sine(440) + sine(1330, amplitude=0.2),
            sine(440, amplitude=0.3) + sine(1330, amplitude=0.1),
        ]
    )
    wrong = np.stack(
        [
            sine(440) + sine(1400, amplitude=0.2),
            sine(440, amplitude=0.3) + sine(1400, amplitude=0.1),
        ]
    )
    worse = wrong + noise(seed=1, amplitude=0.1) * [[1.0], [0.2]]
    values = scores_of(audio, worse)
    for metric in METRICS:
        if metric.id in values:
            assert metric.best is not None
            gap = values[metric.id] - metric.best
            assert (
                gap < -1e-3
                if metric.better == "higher"
                else gap > 1e-3
                if metric.better
                else abs(gap) > 1e-3
            ), metric


@pytest.mark.parametrize(
    ("audio", "missing"),
    [
        (np.zeros((2, RATE)), None),
        (noise(0.1), None),
        (noise(1.0, channels=1), {"stereo_level_error", "log_mel_left", "peak_f1_right"}),
    ],
)
def test_metrics_that_say_nothing_are_missing(audio: np.ndarray, missing: set[str] | None) -> None:
    values = scores_of(audio, 0.5 * audio)
    assert all(np.isfinite(value) for value in values.values())
    assert values == {} if missing is None else not missing & set(values) and "log_mel" in values


def test_a_silent_result_is_scored_where_a_score_is_defined() -> None:
    values = scores_of(noise(), np.zeros((2, RATE)))
    assert {"log_mel", "spectral_floored", "peak_f1", "lsd_low"} <= set(values)
    assert not {"loudness_error", "si_sdr", "si_sdr_aligned"} & set(values)


@pytest.mark.parametrize("bad", [np.full((2, RATE), np.nan), noise(channels=1), np.zeros((2, 0))])
def test_what_cannot_be_scored_is_an_input_error(bad: np.ndarray) -> None:
    with pytest.raises(InputError):
        score(noise(), bad, RATE)


def test_speech_scores_are_those_of_pystoi() -> None:
    pystoi = pytest.importorskip("pystoi")
    words = noise(2.0, channels=1) * np.repeat(
        np.random.default_rng(3).uniform(0, 1, 40), RATE // 20
    )
    worse = words + noise(2.0, channels=1, seed=5, amplitude=0.05)
    values = scores_of(words, worse, speech=True)
    x, y, _ = aligned(words, worse, RATE)
    wanted = pystoi.stoi(
        *(scipy_signal.resample_poly(a[0], 1, 3) for a in (x, y)), 16000, extended=True
    )
    assert values["estoi"] == pytest.approx(wanted, abs=0.02) and values["estoi"] < 0.95
    assert "estoi" not in scores_of(words, worse)


def test_intelligibility_of_too_little_sound_is_missing() -> None:
    """pystoi says 1e-5 then, which is no score."""
    pytest.importorskip("pystoi")
    blip = np.pad(noise(0.05, 1), ((0, 0), (0, RATE)))
    assert np.isnan(perceptual.estoi(blip[0], blip[0], RATE))
    assert "estoi" not in scores_of(blip, blip, speech=True)


def test_each_side_has_its_own_scores() -> None:
    audio = noise()
    values = scores_of(audio, audio + noise(seed=1) * [[0.0], [1.0]])
    assert values["log_mel_left"] < 0.1 < 2 < values["log_mel_right"]


def test_si_sdr_is_taken_before_and_after_alignment() -> None:
    """48 samples late white noise is another waveform, and 300 samples more at the end do not
    matter.
    """
    audio = noise(1.0, 1)
    late = np.pad(audio, ((0, 0), (48, 300)))
    values = scores_of(audio, late)
    assert values["si_sdr"] < -20 and values["si_sdr_aligned"] > 60


def test_one_channel_with_and_without_its_axis() -> None:
    audio, worse = noise(1.0, 1), noise(1.0, 1) + noise(1.0, 1, seed=1, amplitude=0.05)
    assert scores_of(audio, worse) == scores_of(audio[0], worse[0])


# ---- packages that not every machine has ---------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "measure", "best"),
    [("visqol", perceptual.visqol_audio, 4.732), ("zimtohrli", perceptual.zimtohrli, 5.0)],
)
def test_perceptual_scores_know_the_original_and_its_order(
    package: str, measure: Callable[..., float], best: float
) -> None:
    pytest.importorskip(package)
    music = sum(sine(220 * n, 1.5, 0.3 / n) for n in range(1, 12)) * np.hanning(72_000)
    scores = [
        measure(music, music + noise(1.5, 1, amplitude=a)[0], RATE) for a in (0.0, 1e-3, 1e-1)
    ]
    assert scores[0] == pytest.approx(best, abs=0.01) and scores[0] > scores[1] > scores[2] + 0.2


def test_too_short_and_silent_audio_has_no_visqol() -> None:
    pytest.importorskip("visqol")
    for audio, decoded in ((noise(0.6, 1), noise(0.6, 1)), (noise(1.5, 1), np.zeros((1, 72_000)))):
        values = score(audio, decoded, RATE, skip={"zimtohrli"})[0]
        assert "visqol" not in values and "log_mel" in values


def test_pesq_knows_the_original_and_refuses_silence() -> None:
    pytest.importorskip("pesq")
    words = noise(2.0, 1)[0] * np.repeat(np.random.default_rng(3).uniform(0, 1, 40), RATE // 20)
    assert perceptual.pesq_wb(words, words, RATE) == pytest.approx(4.644, abs=0.001)
    assert perceptual.pesq_wb(words, words + noise(2.0, 1, seed=1)[0], RATE) < 4
    for decoded in (words[:4800], 0 * words):
        assert np.isnan(perceptual.pesq_wb(words[: len(decoded)], decoded, RATE))


# ---- alignment -----------------------------------------------------------------------------------


def test_a_delay_is_found_and_undone(subtests: pytest.Subtests) -> None:
    for delay in [-4800, -7, 0, 7, 480, 20_000]:
        with subtests.test(delay=delay):
            audio = noise(2.0)
            moved = np.roll(audio, delay, axis=1)
            assert find_delay(audio.mean(0), moved.mean(0)) == delay
            x, y, found = aligned(audio, moved, RATE)
            assert found == delay
            inside = slice(abs(delay), x.shape[1] - abs(delay) or None)
            assert np.abs(x[:, inside] - y[:, inside]).max() < 1e-4


def test_the_end_of_a_late_output_is_kept() -> None:
    """A decoder that is 1105 samples late and gives as many more has lost nothing."""
    audio = noise(1.0, 1)
    x, y, delay = aligned(audio, np.pad(audio, ((0, 0), (1105, 0))), RATE)
    assert delay == 1105 and np.abs(x - y).max() < 1e-4


def test_audio_shorter_than_the_longest_delay_is_aligned(subtests: pytest.Subtests) -> None:
    for samples in [1, 2, 480, 4800, 12_000, 16_320]:
        with subtests.test(samples=samples):
            audio = noise(samples / RATE, 1)
            assert aligned(audio, audio, RATE)[2] == 0
            if samples > 400:
                assert find_delay(audio[0], np.pad(audio[0], (100, 0))) == 100
                assert find_delay(audio[0], audio[0, 100:]) == -100


def test_no_delay_is_believed_where_waveforms_differ() -> None:
    """What has other phases has a maximum of correlation somewhere, and it means nothing."""
    spectrum = np.fft.rfft(noise(2.0, 1)[0])
    turned = np.fft.irfft(
        spectrum * np.exp(2j * np.pi * np.random.default_rng(1).random(len(spectrum)))
    )
    assert find_delay(noise(2.0, 1)[0], turned) == 0
    assert find_delay(np.zeros(RATE), np.zeros(RATE)) == 0


def test_what_is_compared_has_no_dc_16_bits_48_khz_and_one_length() -> None:
    audio = noise(1.0, 1)[0, :44_100]
    x, y, _ = aligned(audio + 0.3, audio[:-500] + 0.2, 44_100)
    assert x.shape == y.shape == (1, RATE)
    assert abs(x.mean()) < 1e-9 and abs(y.mean()) < 1e-3
    quiet = np.full((1, RATE), 1e-6) * np.sign(noise(1.0, 1))
    assert not aligned(noise(1.0, 1), quiet, RATE)[1].any()
    loud = 2.0 * np.sign(sine(50))[None]
    top, bottom = aligned(loud, loud, RATE)[1].max(), aligned(loud, loud, RATE)[1].min()
    assert top - bottom == pytest.approx(65535 / 32768, abs=1e-12)


# ---- spectra -------------------------------------------------------------------------------------


def test_the_multiscale_distance_of_a_change_of_level_is_known() -> None:
    """Half the level: each of five windows gives 1/2 + ln 2."""
    audio = noise(channels=1)[0]
    assert spectral.multiscale(audio, audio / 2) == pytest.approx(5 * (0.5 + np.log(2)), rel=1e-9)
    assert spectral.multiscale(audio, audio / 2, added=1e-7) == pytest.approx(
        5 * (0.5 + np.log(2)), rel=1e-3
    )


def test_the_floor_hides_what_lies_below_it() -> None:
    audio = sine(1000)
    faint = audio + 1e-6 * noise(channels=1, amplitude=1.0)[0]
    assert spectral.multiscale(audio, faint, floor=1e-4) < 0.01
    assert spectral.multiscale(audio, faint, added=1e-7) > 0.5


def test_the_multiscale_distance_agrees_with_the_trainers() -> None:
    """Written twice, in torch and in numpy."""
    torch = pytest.importorskip("torch")
    from ravecodec.models.losses import multiscale_distance

    one, other = noise(channels=1), noise(channels=1, seed=1)
    pair = [torch.from_numpy(x)[None].float() for x in (one, other)]
    wanted = float(multiscale_distance(*pair, floor=1e-7))
    assert spectral.multiscale(one[0], other[0], added=1e-7) == pytest.approx(wanted, rel=1e-4)


def test_magnitudes_are_those_of_scipy() -> None:
    audio = noise(0.2, 1)[0]
    _, _, wanted = scipy_signal.stft(
        audio,
        window="hann",
        nperseg=512,
        noverlap=384,
        boundary=None,
        padded=False,
        scaling="spectrum",
    )
    assert np.allclose(spectral.magnitudes(audio, 512, 128), np.abs(wanted).T, atol=1e-12)


def test_dac_mel_distance_of_a_change_of_level() -> None:
    """A tenth of the level is one decade in each of seven windows, in bands that hold a bin."""
    audio = noise(channels=1)[0]
    filters = [
        spectral.slaney_filters(RATE, window, bands) for window, bands in spectral.DAC_MELS.items()
    ]
    heard = sum(float(bank.any(0).mean()) for bank in filters)
    assert 6 < heard < 7
    assert spectral.dac_mel_distance(audio, audio / 10, RATE) == pytest.approx(heard, rel=0.01)


def test_dac_mel_distance_is_that_of_librosa() -> None:
    """0.77165148 is what librosa 0.11's filters and torch.stft (centred, reflected) say of these
    two.
    """
    random = np.random.default_rng(0)
    one = 0.1 * random.standard_normal(RATE)
    other = one + 0.05 * random.standard_normal(RATE)
    assert spectral.dac_mel_distance(one, other, RATE) == pytest.approx(0.77165148, abs=2e-8)


def test_slaney_filters_stand_where_slaney_put_them() -> None:
    """Below 1 kHz the peaks are equally far apart, above by equal factors, and each has area 1."""
    filters = spectral.slaney_filters(RATE, 1 << 15, 40)
    peaks = filters.argmax(0) * RATE / (1 << 15)
    low, high = peaks[peaks < 900], peaks[peaks > 1100]
    assert np.ptp(np.diff(low)) < 3 and np.ptp(high[1:] / high[:-1]) < 0.002
    assert high[1] / high[0] == pytest.approx(
        6.4 ** (np.diff(low).mean() / (200 / 3) / 27), rel=1e-3
    )
    assert np.allclose(filters.sum(0) * RATE / (1 << 15), 1, atol=0.02)


def test_log_spectral_distance_knows_the_band() -> None:
    """6.02 dB in one band, nothing elsewhere."""
    audio = noise(channels=1)[0]
    spectrum = np.fft.rfft(audio)
    hertz = np.fft.rfftfreq(len(audio), 1 / RATE)
    half = np.fft.irfft(np.where((hertz > 3900) & (hertz < 12100), spectrum / 2, spectrum))
    found = spectral.log_spectral_distance(audio, half, RATE)
    assert found["high"] == pytest.approx(20 * np.log10(2), abs=0.05)
    assert found["low"] < 0.05 and found["top"] < 1


# ---- level, waveform, stereo ---------------------------------------------------------------------


def test_loudness_is_that_of_bs1770() -> None:
    """A full-scale sine of 997 Hz on one channel has -3.01 LUFS (BS.1770-4, annex 1)."""
    pytest.importorskip("pyloudnorm")
    tone = sine(997, 2.0, amplitude=1.0)[None]
    assert level.loudness(tone, RATE) == pytest.approx(-3.01, abs=0.05)
    assert level.loudness_error(tone, tone / 2, RATE) == pytest.approx(-6.02, abs=0.02)
    assert np.isnan(level.loudness_error(tone, 0 * tone, RATE)) and np.isnan(
        level.loudness(tone[:, :9000], RATE)
    )


def test_a_mid_channel_is_compared_with_a_mid_channel() -> None:
    """Two sides that have nothing in common: their mid, on both sides, is 3 dB quieter than they
    are, and no error.
    """
    pytest.importorskip("pyloudnorm")
    reference = 0.1 * noise()
    sent = np.repeat(reference.mean(0, keepdims=True), 2, axis=0)
    skip = {metric.id for metric in METRICS} - {"loudness_error"}
    assert score(reference, sent, RATE, skip=skip)[0]["loudness_error"] == pytest.approx(
        -3.0, abs=0.2
    )
    assert score(reference, sent, RATE, mid=True, skip=skip)[0]["loudness_error"] == pytest.approx(
        0, abs=0.01
    )


def test_si_sdr_is_the_ratio_that_was_made() -> None:
    """Orthogonal noise at -20 dB, at any scale."""
    target = sine(1000)
    error = noise(channels=1)[0]
    error -= (error @ target) / (target @ target) * target
    error -= error.mean()
    error *= 0.1 * np.linalg.norm(target) / np.linalg.norm(error)
    assert level.si_sdr(target, 3 * (target + error)) == pytest.approx(20, abs=0.01)
    assert level.si_sdr(target, -target) == 100 and np.isnan(level.si_sdr(target, 0 * target))


def test_stereo_errors_are_the_changes_that_were_made() -> None:
    """The right channel 12 dB down: 12 dB of level, the same correlation.

    One source to two: correlation 1 to 0.
    """
    one, two = noise(2.0, seed=1)
    pair = level.stereo_errors(np.stack([one, one]), np.stack([one, one * 10 ** (-12 / 20)]), RATE)
    assert pair[0] == pytest.approx(12, abs=0.01) and pair[1] == pytest.approx(0, abs=1e-6)
    pair = level.stereo_errors(np.stack([one, one]), np.stack([one, two]), RATE)
    assert 0.85 < pair[1] <= 1.2
    pair = level.stereo_errors(np.stack([one, one]), np.stack([one, -one]), RATE)
    assert pair == (pytest.approx(0, abs=1e-9), pytest.approx(2, abs=1e-6))
    assert np.isnan(
        level.stereo_errors(np.zeros((2, RATE)), np.stack([one, two])[:, :RATE], RATE)
    ).all()


def test_metrics_are_explained() -> None:
    assert len({metric.id for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert (
            metric.better in ("higher", "lower", "")
            and len(metric.about) > 20
            and metric.about.endswith(".")
        ), metric
