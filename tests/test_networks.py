"""Both families behind one interface: sizes, shapes, the reach they claim and the one they have,
chunked == whole.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from ravecodec.errors import UsageError
from ravecodec.models import istft, noise
from ravecodec.models.blocks import TimeConv, TimeUp, channels_last
from ravecodec.models.clock import Clock
from ravecodec.models.config import ModelConfig
from ravecodec.models.pqmf import PQMF
from ravecodec.models.rave import Rave, sample_posterior
from ravecodec.models.reach import Reach
from ravecodec.models.spectrogram import rows, skewed_hann, warped_frequencies

torch.set_num_threads(1)

PAPER = {"capacity": 4, "latent": 16}
SPECTRAL = {
    "encoder": "spectrogram",
    "generator": "istft",
    "capacity": 4,
    "latent": 16,
    "lines": 128,
    "frequency_ratios": (4, 2, 2, 1),
    "blocks": (1, 2, 1, 1),
}
CONFIGS = {
    "paper": ModelConfig(channels=2, **PAPER),
    "paper-short": ModelConfig(ratios=(4, 4, 4), dilations=(1, 3), **PAPER),
    "paper-plain": ModelConfig(noise=False, **PAPER),
    "spectral-2048": ModelConfig(**SPECTRAL),
    "spectral-4096": ModelConfig(channels=2, ratios=(4, 4, 4, 4), **SPECTRAL),
    "spectral-8192": ModelConfig(ratios=(4, 4, 4, 4, 2), **SPECTRAL),
    "mixed": ModelConfig(channels=2, **(SPECTRAL | {"generator": "conv"})),
    "causal": ModelConfig(channels=2, causal=True, lookahead=700, **SPECTRAL),
    "causal-mono": ModelConfig(causal=True, **SPECTRAL),
}


@pytest.fixture(scope="module", params=CONFIGS)
def network(request: pytest.FixtureRequest) -> Rave:
    """An untrained network in eval mode whose batch norms hold statistics and whose heads are
    loud.
    """
    torch.manual_seed(1)
    model = Rave(CONFIGS[request.param])
    if isinstance(model.generator, istft.IstftGenerator):
        for head in (model.generator.line_head, model.generator.noise_head):
            torch.nn.init.normal_(head.weight, std=0.3)
            torch.nn.init.constant_(head.bias, -3.0)
    model.train()
    with torch.no_grad():
        model.encode(noise_audio(model, 4))
    return model.eval()


def noise_audio(model: Rave, frames: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(1, model.config.channels, frames * model.config.hop, generator=random)


def noise_latents(model: Rave, frames: int) -> Tensor:
    return torch.randn(1, model.config.latent, frames, generator=torch.Generator().manual_seed(2))


def close(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) <= 1e-5 * max(1.0, float(b.abs().max()))


def test_the_paper_preset_has_the_size_of_the_paper() -> None:
    config = ModelConfig()
    model = Rave(config)
    count = {
        part: sum(p.numel() for p in getattr(model, part).parameters())
        for part in ("encoder", "generator")
    }
    assert sum(count.values()) == pytest.approx(17.6e6, rel=0.01)
    assert count["encoder"] == pytest.approx(4.8e6, rel=0.01)
    assert count["generator"] == pytest.approx(12.8e6, rel=0.01)
    assert (config.hop, config.latent, config.sample_rate, config.bands) == (2048, 128, 48000, 16)


@pytest.mark.parametrize("kernel, stride, dilation", [(3, 1, 9), (7, 1, 1), (3, 4, 1)])
def test_time_conv_is_conv1d_in_another_layout(kernel: int, stride: int, dilation: int) -> None:
    x, ours = torch.randn(2, 5, 64), TimeConv(5, 6, kernel, stride, dilation)
    padding = dilation * (kernel - 1) // 2
    other = torch.nn.Conv1d(5, 6, kernel, stride, padding, dilation)
    other.load_state_dict(ours.state_dict())
    with torch.no_grad():
        assert close(ours(channels_last(x)).squeeze(2), other(x))


@pytest.mark.parametrize("ratio", [2, 4])
def test_time_up_is_conv_transpose1d_in_another_layout(ratio: int) -> None:
    x, ours = torch.randn(2, 5, 64), TimeUp(5, 6, ratio)
    other = torch.nn.ConvTranspose1d(5, 6, 2 * ratio, ratio, ratio // 2)
    other.load_state_dict(ours.state_dict())
    with torch.no_grad():
        y = ours(channels_last(x)).squeeze(2)
        assert y.shape == (2, 6, 64 * ratio)
        assert close(y, other(x))


def test_shapes(network: Rave) -> None:
    config = network.config
    for frames in (4, 6):  # even: the spectral families halve time
        with torch.no_grad():
            mean, spread = network.encode(noise_audio(network, frames))
            bands = network.decode_bands(mean, Clock.at(0))
            audio = network.decode(mean, Clock.at(0))
        assert mean.shape == spread.shape == (1, config.latent, frames)
        assert float(spread.min()) > 0
        assert bands.shape == (1, config.channels * 16, frames * config.hop // 16)
        assert audio.shape == (1, config.channels, frames * config.hop)
        assert audio.dtype == torch.float32
        assert audio.isfinite().all()


def test_a_batch_is_its_items(network: Rave) -> None:
    audio = torch.cat([noise_audio(network, 4, seed) for seed in (1, 2)])
    clock = Clock(torch.tensor([5, 90_000]), torch.tensor([3, 4]))
    with torch.no_grad():
        mean, _ = network.encode(audio)
        both = network.decode(mean, clock)
        for i in range(2):
            assert close(network.encode(audio[i : i + 1])[0], mean[i : i + 1])
            single = network.decode(
                mean[i : i + 1], Clock(clock.frame[i : i + 1], clock.seed[i : i + 1])
            )
            assert close(single, both[i : i + 1])


def test_audio_that_does_not_fit_is_refused(network: Rave) -> None:
    config = network.config
    for shape in ((1, config.channels, config.hop + 1), (1, config.channels % 2 + 1, config.hop)):
        with pytest.raises(UsageError, match="expected"):
            network.encode(torch.zeros(shape))


def test_silence_and_full_scale_give_finite_results(network: Rave) -> None:
    config = network.config
    audio = torch.ones(1, config.channels, 4 * config.hop)
    for signal in (0 * audio, audio, -audio):
        with torch.no_grad():
            mean, spread = network.encode(signal)
            output = network.decode(mean, Clock.at(0))
        assert all(x.isfinite().all() for x in (mean, spread, output))


def touched(gradient: Tensor, hop: int) -> list[int]:
    """Frames of [1, rows, frames * hop] where a gradient is not exactly zero."""
    return (
        gradient.abs().reshape(gradient.shape[1], -1, hop).amax((0, 2)).nonzero().flatten().tolist()
    )


def measured(frames: list[int], middle: int) -> Reach:
    return Reach(middle - min(frames), max(frames) - middle)


def test_the_encoder_reaches_as_far_as_it_says(network: Rave) -> None:
    reach = network.encoder_reach
    middle = reach.past + 2
    audio = noise_audio(network, middle + reach.future + 3).requires_grad_()
    mean, spread = network.encode(audio)
    (mean[..., middle].sum() + spread[..., middle].sum()).backward()
    assert audio.grad is not None
    assert measured(touched(audio.grad, network.config.hop), middle) == reach


def test_the_decoder_reaches_as_far_as_it_says(network: Rave) -> None:
    reach, hop = network.decoder_reach, network.config.hop
    middle = reach.past + 2
    z = noise_latents(network, middle + reach.future + 3).requires_grad_()
    audio = network.decode(z, Clock.at(7))[..., middle * hop : (middle + 1) * hop]
    audio.square().sum().backward()
    assert z.grad is not None
    assert measured(touched(z.grad, 1), middle) == reach


def test_lookaheads_are_exact_to_the_sample(network: Rave) -> None:
    """By the gradient: the last sample that a frame depends on, and for every sample of the audio
    the last frame."""
    hop, reach = network.config.hop, network.encoder_reach
    audio = noise_audio(network, reach.past + reach.future + 4).requires_grad_()
    (gradient,) = torch.autograd.grad(network.encode(audio)[0][..., reach.past].sum(), [audio])
    last = int(gradient.abs().amax((0, 1)).nonzero().max())
    assert last == (reach.past + 1) * hop - 1 + network.encoder_lookahead
    frame = network.decoder_reach.past + 2
    z = noise_latents(network, frame + 5).requires_grad_()
    sound, ahead = network.decode(z, Clock.at(3)), network.decoder_lookahead
    for sample in (frame * hop - ahead - 1, frame * hop - ahead):  # where the last frame changes
        (gradient,) = torch.autograd.grad(sound[0, :, sample].sum(), [z], retain_graph=True)
        assert int(gradient.abs().amax((0, 1)).nonzero().max()) == (sample + ahead) // hop


def test_a_causal_network_depends_on_nothing_behind_its_latency() -> None:
    """Brute force, through encoder and decoder: what comes later than `lookahead` behind a frame,
    and the decoder's few samples, changes no sample of the output, bit for bit; one earlier does.
    """
    torch.manual_seed(5)
    for lookahead in (0, 700, 3584):
        network = Rave(ModelConfig(channels=2, causal=True, lookahead=lookahead, **SPECTRAL)).eval()
        assert network.encoder_lookahead == lookahead
        assert network.decoder_lookahead == 192 + 240  # half a filter of the bank, half an overlap
        torch.nn.init.normal_(network.generator.line_head.weight, std=0.3)
        hop, frames = network.config.hop, 14
        audio = noise_audio(network, frames)
        known = 9 * hop + lookahead  # all that the first nine frames need
        heard = 9 * hop - network.decoder_lookahead
        with torch.no_grad():
            before = network.decode(network.encode(audio)[0], Clock.at(0))
            for first, same in ((known, True), (known - 1, False)):
                other = audio.clone()
                other[..., first:] += 1e4 * torch.randn(other[..., first:].shape)
                after = network.decode(network.encode(other)[0], Clock.at(0))
                assert torch.equal(before[..., :heard], after[..., :heard]) == same
                near = heard + 100  # windows and filters begin faintly: below a float's last bit
                assert not torch.equal(before[..., :near], after[..., :near])


def test_context_stands_for_what_lies_beside_the_audio() -> None:
    """A spectral encoder that is given samples on both sides, in place of zeros, encodes its frames
    as it does within the whole."""
    for name in ("spectral-2048", "causal", "causal-mono"):
        torch.manual_seed(6)
        network = Rave(CONFIGS[name]).eval()
        hop = network.config.hop
        audio = noise_audio(network, 12)
        with torch.no_grad():
            whole = network.encode(audio)[0][..., 5:7]
            for before, behind in ((5 * hop, 5 * hop), (8192, network.encoder_lookahead)):
                part = audio[..., 5 * hop - before : 7 * hop + behind]
                assert close(network.encoder(part, (before, behind))[0], whole)


def test_a_skewed_window_with_equal_sides_is_the_hann_window() -> None:
    for size in (8192, 2048, 1024):
        window = torch.from_numpy(skewed_hann(size, size // 2)).float()
        assert float((window - torch.hann_window(size)).abs().max()) < 1e-6
        for fall in (256, size // 4):
            skewed = skewed_hann(size, fall)
            assert skewed.argmax() == size - fall
            assert skewed.max() == 1 and skewed[0] == 0 and 0 < skewed[-1] < 1e-4
            assert skewed.sum() == pytest.approx(size / 2)


BLOCK = 6


def test_encoding_in_windows_is_encoding_the_whole(network: Rave) -> None:
    reach, hop = network.encoder_reach, network.config.hop
    first = reach.past
    audio = noise_audio(network, reach.past + 2 * BLOCK + reach.future)
    with torch.no_grad():
        whole = torch.cat(network.encode(audio), 1)
        for start in (first, first + BLOCK):
            window = audio[..., (start - reach.past) * hop : (start + BLOCK + reach.future) * hop]
            part = torch.cat(network.encode(window), 1)[..., reach.past : reach.past + BLOCK]
            assert close(part, whole[..., start : start + BLOCK])


def test_decoding_in_windows_is_decoding_the_whole(
    network: Rave, subtests: pytest.Subtests
) -> None:
    """Noise and phases included: they depend on the absolute frame, not on where a window
    begins.
    """
    for origin in [0, 123_456]:
        with subtests.test(origin=origin):
            reach, hop = network.decoder_reach, network.config.hop
            z = noise_latents(network, reach.past + 2 * BLOCK + reach.future)
            with torch.no_grad():
                whole = network.decode(z, Clock.at(origin, seed=9))
                for start in (reach.past, reach.past + BLOCK):
                    begin = start - reach.past
                    part = network.decode(
                        z[..., begin : start + BLOCK + reach.future],
                        Clock.at(origin + begin, seed=9),
                    )
                    part = part[..., reach.past * hop : (reach.past + BLOCK) * hop]
                    assert close(part, whole[..., start * hop : (start + BLOCK) * hop])


def test_noise_depends_on_seed_and_place(network: Rave) -> None:
    z = noise_latents(network, 4)
    with torch.no_grad():
        at = {place: network.decode(z, Clock.at(*place)) for place in ((0, 0), (0, 1), (1, 0))}
        again = network.decode(z, Clock.at(0, 0))
    assert torch.equal(at[0, 0], again)
    if network.config.noise:
        assert not close(at[0, 0], at[0, 1])
        assert not close(at[0, 0], at[1, 0])


def test_sample_posterior() -> None:
    mean, spread = (
        torch.full((1, 2, 50_000), 3.0),
        torch.tensor([0.5, 2.0])[None, :, None].expand(1, 2, 50_000),
    )
    drawn = sample_posterior(mean, spread, torch.Generator().manual_seed(4))
    assert drawn.mean((0, 2)).tolist() == pytest.approx([3, 3], abs=0.05)
    assert drawn.std((0, 2)).tolist() == pytest.approx([0.5, 2], rel=0.02)
    assert torch.equal(drawn, sample_posterior(mean, spread, torch.Generator().manual_seed(4)))
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(4))
    assert torch.equal(drawn, mean + spread * noise)  # what old runs saw


def spectrum(audio: Tensor) -> np.ndarray:
    samples = audio.double().numpy()
    window = np.blackman(len(samples))
    return np.abs(np.fft.rfft(samples * window)) / window.sum() * 2


@pytest.mark.parametrize("line", [0, 20, 47, 80, 127])
def test_a_line_that_stays_on_is_a_pure_tone_of_its_amplitude(line: int) -> None:
    """Through overlapping windows, frames and band edges: one peak, 60 dB above everything 50 Hz
    away.
    """
    config = CONFIGS["spectral-2048"]
    frames = 24
    amplitude = torch.zeros(1, 1, config.lines, frames * istft.LINE_COLUMNS)
    amplitude[:, :, line] = 0.5
    audio = PQMF().synthesis(istft.Lines(config)(amplitude, Clock.at(1000)))[0, 0, 4096:-4096]
    size = spectrum(audio)
    hertz = np.fft.rfftfreq(len(audio), 1 / config.sample_rate)
    wanted = warped_frequencies(config.lines)[line]
    assert hertz[size.argmax()] == pytest.approx(wanted, abs=2)
    assert float(audio.square().mean().sqrt()) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    assert size[np.abs(hertz - wanted) > 50].max() < 1e-3 * size.max()


def test_tones_at_band_edges_are_pure_too() -> None:
    config = CONFIGS["spectral-2048"]
    hertz = warped_frequencies(config.lines)
    edges = [int(np.abs(hertz - k * 1500).argmin()) for k in (1, 2, 5)]
    for line in edges:
        test_a_line_that_stays_on_is_a_pure_tone_of_its_amplitude(line)


@pytest.mark.parametrize("channels", [1, 2])
def test_flat_noise_is_white_and_as_loud_as_it_says(channels: int) -> None:
    config = ModelConfig(channels=channels, **SPECTRAL)
    maps = istft.STEREO_MAPS if channels == 2 else 1
    level = torch.full((1, maps, 32, 64 * istft.NOISE_COLUMNS), np.log(0.1))
    bands = istft.ShapedNoise(config, 32)(level, Clock.at(50))
    audio = PQMF().synthesis(bands)[0, :, 4096:-4096]
    loud = 0.1 * np.sqrt(channels)  # stereo: source and side
    assert audio.std(-1).tolist() == pytest.approx([loud] * channels, rel=0.03)
    power = torch.fft.rfft(audio[0]).abs().square()
    share = torch.stack([part.mean() for part in power.chunk(24)]) / power.mean()
    assert float(share.min()) > 0.75 and float(share.max()) < 1.25
    if channels == 2:
        # Source and side are independent: wide.
        assert abs(float(torch.corrcoef(audio)[0, 1])) < 0.05


@pytest.mark.parametrize("loud", [0, 1])
def test_noise_and_lines_can_stand_on_one_side(loud: int) -> None:
    config = ModelConfig(channels=2, **SPECTRAL)
    noise, lines = (
        torch.zeros(1, istft.STEREO_MAPS, 32, 64),
        torch.zeros(1, istft.STEREO_MAPS, config.lines, 32),
    )
    noise[:, loud] = lines[:, loud] = 0.1
    shaped = istft.ShapedNoise(config, 32)((noise + 1e-12).log(), Clock.at(0))
    for bands in (shaped, istft.Lines(config)(lines, Clock.at(0))):
        left, right = bands.chunk(2, 1)
        quiet, heard = (right, left) if loud == 0 else (left, right)
        assert float(quiet.abs().max()) < 1e-6 < 1e-3 < float(heard.abs().max())


@pytest.mark.parametrize(("left", "right"), [(1.0, 0.5), (0.3, 1.0), (1.0, 1.0), (1.0, 0.0)])
def test_balance_goes_through_the_first_latent_of_every_row(left: float, right: float) -> None:
    """ln(left / right) in, the same level difference out at constant power, without any
    training.
    """
    torch.manual_seed(0)
    config = ModelConfig(channels=2, ratios=(4, 4, 4, 4), **SPECTRAL)
    network = Rave(config).eval()
    mono = 0.1 * torch.randn(1, 16 * config.hop, generator=torch.Generator().manual_seed(3))
    middle, count = slice(4 * config.hop, -4 * config.hop), rows(config)[-1]

    def balance_latents(audio: Tensor) -> Tensor:
        return network.encode(audio[None])[0].reshape(-1, count, 16)[0, :-1, 4:-4]

    torch.nn.init.zeros_(network.encoder.head.weight)  # leaves the measure alone
    for head in (network.generator.line_head, network.generator.noise_head):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.constant_(head.bias, -3.0)
        head.bias.data[len(head.bias) * 2 // 3 :] = -20.0  # no side part
    with torch.no_grad():
        placed, centre = (
            balance_latents(torch.cat(pair)) for pair in ((left * mono, right * mono), (mono, mono))
        )
        wanted = np.log(left / right) if right else 4.95  # where the measure ends
        assert (placed - centre).mean().item() == pytest.approx(wanted, abs=0.02)
        z = torch.zeros(1, config.latent // count, count, 16)
        quiet = network.decode(z.flatten(1, 2), Clock.at(0))[0, :, middle]
        z[:, 0] = wanted
        audio = network.decode(z.flatten(1, 2), Clock.at(0))[0, :, middle]
    level = audio.square().mean(-1)
    assert 0.5 * float((level[0] / level[1]).log()) == pytest.approx(wanted, abs=0.03)
    assert float(level.sum()) == pytest.approx(float(quiet.square().mean(-1).sum()), rel=0.05)


def test_frequencies_without_lines_are_silent_bands() -> None:
    """At 192 kHz most bands lie above the highest line, 20 kHz."""
    config = ModelConfig(sample_rate=192_000, **SPECTRAL)
    bands = istft.Lines(config)(torch.ones(1, 1, config.lines, 8), Clock.at(0))
    energy = bands[0].square().sum(-1)
    assert float(energy[6:].sum()) < 1e-6 * float(energy.sum())


def test_warped_rows_rise_from_30_hz_to_20_khz() -> None:
    hertz = warped_frequencies(512)
    assert hertz[0] == pytest.approx(30)
    assert hertz[-1] == pytest.approx(20_000)
    steps = np.diff(hertz)
    assert (steps > 0).all() and (np.diff(steps) > 0).all()
    assert steps[0] < 4 < 100 < steps[-1]


def test_streams_of_noise_differ() -> None:
    place = torch.arange(100)
    drawn = [noise.bits(torch.tensor(0), s, place, torch.tensor(0)) for s in (1, 2, 3)]
    assert len(torch.cat(drawn).unique()) == 300


def test_the_spectrogram_encoder_tells_left_from_right() -> None:
    torch.manual_seed(0)
    network = Rave(CONFIGS["spectral-4096"]).eval()
    audio = 0.1 * torch.randn(1, 2, 8 * network.config.hop)
    audio[:, 1] *= 0.3
    with torch.inference_mode():
        (here, _), (swapped, _) = network.encode(audio), network.encode(audio.flip(1))
    assert float((here - swapped).abs().max()) > 1e-3


def test_a_stereo_line_pans_in_phase_and_widens_in_quadrature() -> None:
    config = CONFIGS["spectral-4096"]
    lines, pqmf = istft.Lines(config), PQMF()
    maps = torch.zeros(3, istft.STEREO_MAPS, config.lines, 256)
    maps[0, 0, 60] = maps[1, 2, 60] = maps[2, :2, 60] = 0.1  # left only, side only, centre
    left, side, centre = pqmf.synthesis(
        lines(maps, Clock(torch.zeros(3).long(), torch.zeros(3).long()))
    )
    assert left[1].abs().max() < 1e-6 < left[0].abs().max()
    assert torch.allclose(side[0], -side[1], atol=1e-6)
    assert torch.allclose(centre[0], centre[1], atol=1e-6)
    middle = slice(8192, -8192)
    inner = (centre[0, middle] * side[0, middle]).mean() / (
        centre[0, middle].std() * side[0, middle].std()
    )
    assert abs(float(inner)) < 0.02


@pytest.mark.parametrize("channels", [1, 2])
def test_the_written_gradient_of_the_lines_is_their_transpose(channels: int) -> None:
    """The lines are linear in their amplitudes, so <L a, g> = <a, L' g> for all a and g."""
    config = ModelConfig(**(SPECTRAL | {"channels": channels}))
    lines, random = istft.Lines(config), torch.Generator().manual_seed(0)
    clock = Clock(torch.tensor([7, 9000]), torch.tensor([1, 2]))
    amplitude = torch.randn(
        2, 3 if channels == 2 else 1, config.lines, 8, generator=random
    ).requires_grad_()
    bands = lines(amplitude, clock)
    weight = torch.randn(bands.shape, generator=random)
    (gradient,) = torch.autograd.grad((bands * weight).sum(), amplitude)
    other = torch.randn(amplitude.shape, generator=random)
    wanted = float((lines(other, clock).double() * weight).sum())
    assert float((gradient.double() * other).sum()) == pytest.approx(wanted, rel=1e-4)
