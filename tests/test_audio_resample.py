"""Sample-rate conversion: exact lengths, no delay, and no dependence on how the audio was cut."""

import itertools
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ravecodec.audio import Resampler, match_channels, resample_blocks, resampled_length

RATES = [8000, 11025, 16000, 22050, 32000, 44100, 47999, 48000, 88200, 96000, 192000]
MODEL_RATE = 48000


def noise(channels: int, samples: int) -> NDArray[np.float32]:
    return np.random.default_rng(samples).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


def cut(signal: NDArray[np.float32], sizes: list[int]) -> Iterator[NDArray[np.float32]]:
    start = 0
    for size in sizes:
        yield signal[:, start : start + size]
        start += size
    yield signal[:, start:]


def convert(signal, rate_in, rate_out, sizes=(), total_out=None):  # type: ignore[no-untyped-def]
    blocks = cut(signal, list(sizes))
    parts = list(resample_blocks(blocks, rate_in, rate_out, len(signal), total_out=total_out))
    return np.concatenate(parts, axis=1) if parts else signal[:, :0]


def test_round_trip_restores_the_exact_number_of_samples(subtests: pytest.Subtests) -> None:
    for rate, samples in itertools.product(RATES, [0, 1, 3, 20011]):
        with subtests.test(rate=rate, samples=samples):
            there = convert(noise(2, samples), rate, MODEL_RATE)
            assert there.shape == (2, resampled_length(samples, rate, MODEL_RATE))
            back = convert(there, MODEL_RATE, rate, total_out=samples)
            assert back.shape == (2, samples)
            assert back.dtype == np.float32


@given(st.integers(0, 10**12), st.integers(1000, 768000), st.integers(1000, 768000))
def test_length_there_and_back_never_falls_short(samples: int, rate_a: int, rate_b: int) -> None:
    there = resampled_length(samples, rate_a, rate_b)
    assert (there - 1) * rate_a < samples * rate_b <= there * rate_a
    assert resampled_length(there, rate_b, rate_a) >= samples


@pytest.mark.parametrize(
    "rates", [(44100, 48000), (48000, 44100), (48000, 48000), (192000, 48000), (48000, 11025)]
)
@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(0, 5000), max_size=12))
def test_any_cutting_gives_the_same_bits(rates: tuple[int, int], sizes: list[int]) -> None:
    signal = noise(2, 16001)
    whole = convert(signal, *rates)
    assert np.array_equal(convert(signal, *rates, sizes=sizes), whole)


def test_single_samples_give_the_same_bits() -> None:
    signal = noise(1, 1500)
    assert np.array_equal(
        convert(signal, 44100, 48000, sizes=[1] * 1500), convert(signal, 44100, 48000)
    )


def band_limited(rate: int, samples: int) -> NDArray[np.float32]:
    """Tones from 100 Hz to 3.3 kHz under a smooth window: representable at every rate tested."""
    t = np.arange(samples) / rate
    tones = sum(np.sin(2 * np.pi * f * t + f) for f in (100.0, 441.7, 1234.5, 3300.0))
    return (0.2 * tones * np.hanning(samples))[None].astype(np.float32)


def test_round_trip_is_aligned_and_transparent(subtests: pytest.Subtests) -> None:
    for rate in RATES:
        with subtests.test(rate=rate):
            signal = band_limited(rate, rate)
            back = convert(convert(signal, rate, MODEL_RATE), MODEL_RATE, rate, total_out=rate)
            spectrum = np.fft.rfft(signal[0], 2 * rate) * np.conj(np.fft.rfft(back[0], 2 * rate))
            assert np.argmax(np.fft.irfft(spectrum)) == 0, "cross-correlation peaks away from lag 0"
            error = back - signal
            assert (error**2).sum() < 1e-10 * (signal**2).sum(), "less than 100 dB"


def test_one_way_keeps_the_time_of_everything(subtests: pytest.Subtests) -> None:
    """The converted tones equal the tones computed at the other rate: no delay, not even a fraction
    of a sample.
    """
    for rate in RATES:
        with subtests.test(rate=rate):
            there = convert(band_limited(rate, rate), rate, MODEL_RATE)[0]
            expected = band_limited(MODEL_RATE, MODEL_RATE)[0]
            # np.hanning(n) ends at n - 1, so the two windows differ by a sample: bounded by
            # the slope of the window
            assert np.abs(there - expected).max() < 0.8 * 4 / min(rate, MODEL_RATE)


def test_known_total_cuts_and_fills() -> None:
    signal = noise(2, 4410)
    full = convert(signal, 44100, 48000)
    assert np.array_equal(convert(signal, 44100, 48000, total_out=4000), full[:, :4000])
    longer = convert(signal, 44100, 48000, total_out=30_000)
    assert longer.shape == (2, 30_000)
    assert not longer[:, -10_000:].any()
    assert convert(signal, 48000, 48000, total_out=5000).shape == (2, 5000)
    with pytest.raises(ValueError, match="more than"):
        convert(signal, 44100, 48000, total_out=10**9)


def test_memory_does_not_grow_with_length() -> None:
    def peak(blocks: int) -> int:
        resampler = Resampler(44100, 48000, 2)
        block = noise(2, 8192)
        tracemalloc.start()
        for _ in range(blocks):
            resampler.process(block)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(100) < peak(10) * 1.2


def test_mono_and_stereo() -> None:
    mono, stereo = noise(1, 100), noise(2, 100)
    assert np.array_equal(match_channels(match_channels(mono, 2), 1), mono)
    assert match_channels(mono, 2).shape == (2, 100)
    assert np.allclose(match_channels(stereo, 1), stereo.mean(axis=0))
    assert match_channels(stereo, 2) is stereo
