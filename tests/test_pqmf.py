"""The filter bank: near-perfect reconstruction for every kind of signal, zero delay, bands in order
of frequency.
"""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ravecodec.models.pqmf import BANDS, PQMF, analysis_filters

RATE = 48000
BAND_HZ = RATE / (2 * BANDS)


@pytest.fixture(scope="module")
def bank() -> PQMF:
    return PQMF()


def snr(reference: Tensor, output: Tensor) -> float:
    """dB, in float64."""
    error = (reference.double() - output.double()).square().sum()
    return float(10 * torch.log10(reference.double().square().sum() / error))


def round_trip(bank: PQMF, audio: Tensor) -> Tensor:
    """Of audio between zeros, whose bands beyond both ends are kept."""
    beyond = BANDS * PQMF.HALF
    output = bank.synthesis(bank.analysis(F.pad(audio, (beyond, beyond + BANDS))))
    return output[..., beyond : beyond + audio.shape[-1]]


def tone(hertz: float, samples: int = 1 << 14) -> Tensor:
    phase = 2 * np.pi * hertz / RATE * np.arange(samples) + 1.0
    return torch.from_numpy(np.sin(phase)).float()[None, None]


def test_white_noise_comes_back(bank: PQMF) -> None:
    audio = torch.randn(2, 2, 1 << 15, generator=torch.Generator().manual_seed(0))
    assert snr(audio, round_trip(bank, audio)) >= 100


def test_sines_at_and_around_every_band_edge_come_back(
    bank: PQMF, subtests: pytest.Subtests
) -> None:
    for edge in range(BANDS + 1):
        with subtests.test(edge=edge):
            for offset in (-40.0, 0.0, 40.0):
                hertz = edge * BAND_HZ + offset
                if 0 <= hertz <= RATE / 2:
                    audio = tone(hertz)
                    assert snr(audio, round_trip(bank, audio)) >= 100, hertz


def test_impulses_at_all_phases_come_back_in_place(bank: PQMF, subtests: pytest.Subtests) -> None:
    for phase in range(BANDS):
        with subtests.test(phase=phase):
            audio = torch.zeros(1, 1, 1024)
            audio[..., 512 + phase] = 1
            output = round_trip(bank, audio)
            assert snr(audio, output) >= 100
            assert int(output.abs().argmax()) == 512 + phase  # zero delay


def test_any_length_comes_back_exactly_as_long(bank: PQMF, subtests: pytest.Subtests) -> None:
    for samples in [0, 1, 2, 15, 16, 17, 31, 32, 33, 385, 1000, 4097]:
        with subtests.test(samples=samples):
            audio = torch.randn(1, 2, samples, generator=torch.Generator().manual_seed(samples))
            assert bank.analysis(audio).shape == (1, 2 * BANDS, -(-samples // BANDS))
            assert bank.synthesis(bank.analysis(audio), samples).shape == audio.shape
            output = round_trip(bank, audio)
            assert output.shape == audio.shape
            assert samples == 0 or snr(audio, output) >= 100  # up to the very ends


def test_without_the_bands_beyond_only_the_ends_differ(bank: PQMF) -> None:
    audio = torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(3))
    output = bank.synthesis(bank.analysis(audio), 4096)
    assert snr(audio[..., 400:-400], output[..., 400:-400]) >= 100


def test_a_tone_lands_in_its_band_and_rises_with_frequency(
    bank: PQMF, subtests: pytest.Subtests
) -> None:
    for band in range(BANDS):
        with subtests.test(band=band):
            peaks = []
            for share in (0.25, 0.5, 0.75):
                # Away from the clicks at the ends.
                bands = bank.analysis(tone((band + share) * BAND_HZ))[0, :, 20:-20]
                energy = bands.square().sum(-1)
                assert int(energy.argmax()) == band
                others = energy.sum() - energy[max(0, band - 1) : band + 2].sum()
                assert others < 1e-6 * energy.sum()
                window = torch.hann_window(bands.shape[-1])
                spectrum = torch.fft.rfft(bands[band] * window).abs()
                peaks.append(int(spectrum.argmax()) / (len(spectrum) - 1))
            # Also in odd bands: they are not mirrored.
            assert peaks == pytest.approx([0.25, 0.5, 0.75], abs=0.01)


def test_gain_is_one_in_energy(bank: PQMF) -> None:
    audio = torch.randn(1, 1, 1 << 15, generator=torch.Generator().manual_seed(5))
    assert float(bank.analysis(audio).square().sum() / audio.square().sum()) == pytest.approx(
        1, abs=0.01
    )


def test_band_samples_keep_their_parity_wherever_a_window_begins(bank: PQMF) -> None:
    """Analysis from frame n on gives the same band samples: blocks of the streaming codec start at
    multiples of 32.
    """
    audio = torch.randn(1, 1, 8192, generator=torch.Generator().manual_seed(6))
    whole, part = bank.analysis(audio), bank.analysis(audio[..., 2048:])
    assert torch.allclose(whole[..., 128 + 12 :], part[..., 12:], atol=1e-6)


def test_prototype_is_as_good_as_its_design_says() -> None:
    """Distortion plus aliasing of the stored filters in float64: sum_l E_l^T E_(l+m) is I for m =
    0, else 0.
    """
    filters = analysis_filters()
    taps = filters.shape[1]
    assert taps == 385
    blocks = -(-taps // BANDS)
    polyphase = (
        np.pad(filters, ((0, 0), (0, blocks * BANDS - taps)))
        .reshape(BANDS, blocks, BANDS)
        .transpose(1, 0, 2)
    )
    total = 0.0
    for lag in range(blocks):
        gram = np.einsum("lki,lkj->ij", polyphase[: blocks - lag], polyphase[lag:])
        error = gram - (np.eye(BANDS) if lag == 0 else 0)
        total += (1 if lag == 0 else 2) * float((error**2).sum())
    assert -10 * np.log10(total / BANDS) > 120


def test_prototype_is_symmetric_and_stops_beyond_its_band() -> None:
    filters = analysis_filters()
    n = np.arange(385) - 192
    prototype = filters[0] / (2 * np.cos(np.pi / (2 * BANDS) * n + np.pi / 4))
    assert np.allclose(prototype, prototype[::-1], atol=1e-12)
    response = np.abs(np.fft.rfft(prototype, 1 << 14))
    beyond = response[(1 << 14) // (2 * BANDS) :]
    assert 20 * np.log10(beyond.max() / response.max()) < -40
