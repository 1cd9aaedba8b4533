"""The losses of both stages: what they say about equal, silent and hard signals, and their values
by hand.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ravecodec.models import losses
from ravecodec.models.discriminator import (
    SpectrumDiscriminator,
    WaveformDiscriminator,
)

torch.set_num_threads(1)

SAMPLES = 8192
WINDOWS = (2048, 512, 128)
Distance = Callable[[Tensor, Tensor], Tensor]


def paper(target: Tensor, output: Tensor) -> Tensor:
    return losses.multiscale_distance(target, output, WINDOWS)


def stereo(target: Tensor, output: Tensor) -> Tensor:
    return losses.stereo_distance(target, output, WINDOWS, 48000)


def by_octaves(target: Tensor, output: Tensor) -> Tensor:
    return losses.stereo_distance(target, output, WINDOWS, 48000, transport=2.0, level=0.2)


ALL = pytest.mark.parametrize("distance", [paper, stereo, by_octaves])
BOTH = pytest.mark.parametrize("distance", [paper, stereo])


def plain_scale(
    target: Tensor, output: Tensor, window: int, floor: float, weights: Tensor, sides: bool
) -> Tensor:
    """`losses.spectral_distance` as it is defined, for autograd to differentiate."""

    def magnitudes(audio: Tensor) -> Tensor:
        x = losses.spectrum(audio, window)
        if sides:
            x = torch.cat([x, x.mean(1, keepdim=True), x.diff(dim=1) / 2], 1)
        return (x.real.square() + x.imag.square() + 1e-14).sqrt()

    real, fake = magnitudes(target), magnitudes(output)
    error = ((weights * (real - fake).square()).mean((1, 2, 3)) + 1e-14).sqrt()
    size = (weights * real.square()).mean((1, 2, 3)).sqrt()
    logs = weights * ((real + floor).log() - (fake + floor).log()).abs()
    return (error / (size + floor / 10)).mean() + logs.mean()


def noise(seed: int = 0, channels: int = 2) -> Tensor:
    return 0.1 * torch.randn(2, channels, SAMPLES, generator=torch.Generator().manual_seed(seed))


def hard_signals() -> dict[str, Tensor]:
    square = torch.sign(torch.sin(2 * torch.pi * 100 / 48000 * torch.arange(SAMPLES) + 0.1))
    impulse = torch.zeros(SAMPLES)
    impulse[SAMPLES // 2] = 1
    signals = {
        "silence": torch.zeros(SAMPLES),
        "dc": torch.ones(SAMPLES),
        "square": square,
        "impulse": impulse,
    }
    return {name: signal.expand(2, 2, SAMPLES).clone() for name, signal in signals.items()}


HARD = hard_signals()


@ALL
def test_equal_signals_are_at_distance_zero(distance: Distance) -> None:
    audio = noise()
    assert float(distance(audio, audio.clone())) < 1e-4


@ALL
def test_hard_signals_give_finite_losses_and_gradients(
    distance: Distance, subtests: pytest.Subtests
) -> None:
    for target, output in itertools.product(HARD, HARD):
        with subtests.test(target=target, output=output):
            heard = HARD[output].clone().requires_grad_()
            loss = distance(HARD[target], heard)
            loss.backward()
            value = float(loss.detach())
            assert np.isfinite(value) and value >= 0
            assert heard.grad is not None and heard.grad.isfinite().all()
            if target == output:
                assert value < len(WINDOWS)  # silence: the floors compared with themselves
            elif output != "silence":  # where a magnitude has its minimum, and gradient 0
                assert float(heard.grad.abs().max()) > 0


@ALL
def test_distance_grows_with_the_error(distance: Distance) -> None:
    audio, error = noise(), noise(1)
    sizes = [float(distance(audio, audio + share * error)) for share in (0.01, 0.1, 1.0)]
    assert sizes[0] < sizes[1] < sizes[2]


@BOTH
def test_distance_is_blind_to_polarity_and_feels_level(distance: Distance) -> None:
    audio = noise()
    assert float(distance(audio, -audio)) < 1e-4
    louder = float(distance(audio, 2 * audio))
    scales = {paper: len(WINDOWS), stereo: 1}[distance]  # paper: a sum over scales; stereo: a mean
    assert louder == pytest.approx(scales * (1 + np.log(2)), rel=0.02)


def test_the_written_gradient_is_the_one_of_the_definition(
    monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    """In float64, for two items that differ and that no number of windows fills, cut into chunks of
    any size.
    """
    for sides, window, chunk in itertools.product([False, True], WINDOWS, [1, 1000, 1 << 30]):
        with subtests.test(sides=sides, window=window, chunk=chunk):
            monkeypatch.setattr(losses, "CHUNK", chunk)
            samples = SAMPLES - 100 if chunk > 1 else 2 * window + 7
            target, output = (
                noise(seed).double()[..., :samples] * torch.tensor([1.0, 0.01])[:, None, None]
                for seed in (0, 1)
            )
            weights = losses.octave_weights(window, 48000, target.device).double()
            results = []
            for distance in (plain_scale, losses.spectral_distance):
                heard = output.clone().requires_grad_()
                value = distance(target, heard, window, 3e-5, weights, sides)
                (gradient,) = torch.autograd.grad(3 * value, heard)
                results.append((value.detach(), gradient))
            (wanted, slope), (value, gradient) = results
            assert torch.allclose(value, wanted, rtol=1e-9)
            assert torch.allclose(gradient, slope, rtol=1e-6, atol=1e-9 * float(slope.abs().max()))


def test_scales_that_do_not_fit_are_left_out() -> None:
    audio, other = noise()[..., :600], noise(1)[..., :600]
    assert float(losses.multiscale_distance(audio, other, (2048, 512))) == pytest.approx(
        float(losses.multiscale_distance(audio, other, (512,)))
    )


def test_stereo_distance_hears_the_mid() -> None:
    """Left and right may be right while their sum is not: one of them inverted."""
    audio = noise()[:, :1].expand(2, 2, SAMPLES)
    inverted = audio * torch.tensor([1.0, -1.0])[:, None]
    assert float(stereo(audio, inverted)) > 1


def test_a_full_scale_sine_has_magnitude_one_half() -> None:
    sine = torch.sin(2 * torch.pi * 3000 / 48000 * torch.arange(SAMPLES))
    assert float(losses.spectrum(sine, 2048).abs().max()) == pytest.approx(0.5, rel=1e-3)
    assert losses.spectrum(sine, 2048).shape == (1 + (SAMPLES - 2048) // 512, 1025)


def test_transport_says_how_far_within_an_octave() -> None:
    """A tone that is moved within 1000 to 2000 Hz, above noise that stays, at any level."""

    def tone(hertz: float) -> Tensor:
        return torch.sin(2 * torch.pi * hertz / 48000 * torch.arange(SAMPLES)).expand(1, 2, SAMPLES)

    still = 0.2 * noise()[:1]
    target = still + tone(1300)
    for hertz in (1300, 1400, 1600, 1750):
        moved = losses.octave_transport(target, 0.5 * (still + tone(hertz)), 48000)
        assert float(moved) * 6 == pytest.approx((hertz - 1300) / 1000, abs=0.02)  # six octaves


def test_level_says_how_much_louder_each_octave_is() -> None:
    """Noise that is 6 dB fainter from 1 to 2 kHz, and noise that is so everywhere."""
    target = noise(channels=1)
    spectrum = torch.fft.rfft(target)
    hertz = torch.arange(spectrum.shape[-1]) * 48000 / SAMPLES
    inside = (hertz > 1000) & (hertz < 2000)
    one_octave = torch.fft.irfft(torch.where(inside, 0.5, 1.0) * spectrum, SAMPLES)
    off = float(losses.octave_level(target, one_octave, 48000))
    wanted = pytest.approx(np.log(4), rel=1e-3)  # not quite, for the floor
    assert off * 8 == pytest.approx(np.log(4), rel=0.1)  # eight octaves
    assert float(losses.octave_level(target, 0.5 * target, 48000)) == wanted
    # At 192 kHz the lowest octave has no bin.
    assert float(losses.octave_level(target, 0.5 * target, 192000)) == wanted


def test_audio_shorter_than_the_window_of_octaves_is_compared_without_them() -> None:
    short = noise()[..., :600], noise(1)[..., :600], (512,), 48000
    with_octaves = losses.stereo_distance(*short, transport=1.0, level=1.0)
    assert with_octaves == losses.stereo_distance(*short)


def test_octaves_weigh_alike() -> None:
    weights = losses.octave_weights(2048, 48000, torch.device("cpu")).double()
    hertz = torch.arange(1025) * 48000 / 2048
    octaves = [float(weights[(hertz >= low) & (hertz < 2 * low)].sum()) for low in (3000, 6000)]
    assert octaves[0] == pytest.approx(octaves[1], rel=0.1)
    assert float(weights.mean()) == pytest.approx(1)


def test_kl_in_bits_is_torchs_in_nats() -> None:
    random = torch.Generator().manual_seed(0)
    mean = torch.randn(3, 5, 7, generator=random)
    spread = torch.rand(3, 5, 7, generator=random) + 0.05
    wanted = kl_divergence(Normal(mean, spread), Normal(torch.zeros(()), torch.ones(()))).mean(
        (0, 2)
    ) / np.log(2)
    assert torch.allclose(losses.kl_bits(mean, spread), wanted, atol=1e-5)
    assert losses.kl_bits(torch.zeros(1, 2, 3), torch.ones(1, 2, 3)).tolist() == pytest.approx(
        [0, 0], abs=1e-6
    )


def test_hinge_by_hand() -> None:
    real = [torch.tensor([2.0, 0.5]), torch.tensor([-1.0])]
    fake = [torch.tensor([-3.0, 0.5]), torch.tensor([0.0])]
    # scale 1: mean(0, 0.5) + mean(0, 1.5) = 1; scale 2: 2 + 1 = 3
    assert float(losses.discriminator_hinge(real, fake)) == pytest.approx(2)
    assert float(losses.generator_hinge(fake)) == pytest.approx((1.25 + 0) / 2)


def test_feature_matching_by_hand() -> None:
    real = [[torch.tensor([1.0, -3.0]), torch.tensor([2.0])], [torch.tensor([4.0])]]
    fake = [[torch.tensor([2.0, -3.0]), torch.tensor([2.0])], [torch.tensor([2.0])]]
    # 0.5 / 2, 0, 2 / 4
    assert float(losses.feature_matching(real, fake)) == pytest.approx(0.25, rel=1e-3)


@pytest.mark.parametrize("last", [False, True])
def test_feature_matching_has_the_gradient_of_its_definition_in_the_layout_of_the_features(
    last: bool,
) -> None:
    layout = torch.channels_last if last else torch.contiguous_format
    random = torch.Generator().manual_seed(0)
    real, fake = (
        torch.randn(2, 3, 5, 7, generator=random).to(memory_format=layout) for _ in range(2)
    )
    slopes = []
    for plain in (True, False):
        x = fake.clone().requires_grad_()
        loss = (real - x).abs().mean() / (real.abs().mean() + 1e-4)
        (slope,) = torch.autograd.grad(
            loss if plain else losses.feature_matching([[real]], [[x]]), x
        )
        slopes.append(slope)
    assert torch.allclose(*slopes)
    assert slopes[1].is_contiguous(memory_format=layout)


def test_feature_matching_moves_only_the_fake() -> None:
    real, fake = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    losses.feature_matching([[real]], [[fake]]).backward()
    assert real.grad is None and fake.grad is not None


DISCRIMINATORS = {
    "waveform": lambda: WaveformDiscriminator(2, capacity=4),
    "spectrum": lambda: SpectrumDiscriminator(2, (1024, 256), width=4),
}


def test_discriminators_are_finite_on_hard_signals(subtests: pytest.Subtests) -> None:
    for kind, name in itertools.product(DISCRIMINATORS, HARD):
        with subtests.test(kind=kind, name=name):
            torch.manual_seed(0)
            discriminator = DISCRIMINATORS[kind]()
            audio = HARD[name].clone().requires_grad_()
            scales = discriminator(audio)
            assert len(scales) == {"waveform": 3, "spectrum": 2}[kind]
            losses.generator_hinge([features[-1] for features in scales]).backward()
            assert all(map.isfinite().all() for features in scales for map in features)
            assert audio.grad is not None and audio.grad.isfinite().all()


def test_the_waveform_discriminator_has_the_size_of_the_paper() -> None:
    count = sum(p.numel() for p in WaveformDiscriminator(1).parameters())
    assert count == pytest.approx(16.9e6, rel=0.01)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_a_discriminator_learns_to_tell_noise_from_tone(kind: str) -> None:
    torch.manual_seed(0)
    discriminator = DISCRIMINATORS[kind]()
    optimiser = torch.optim.Adam(discriminator.parameters(), 1e-2)
    tone = 0.1 * torch.sin(2 * torch.pi * 440 / 48000 * torch.arange(2048)).expand(2, 2, 2048)
    history = []
    for step in range(12):
        pair = [
            [features[-1] for features in discriminator(x)] for x in (tone, noise(step)[..., :2048])
        ]
        loss = losses.discriminator_hinge(*pair)
        history.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert history[0] > 1.8  # undecided
    assert history[-1] < 1.5
