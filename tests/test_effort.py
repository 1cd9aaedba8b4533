"""Effort: what an encoder tries lowers the distance, costs no bits, and does not depend on how the
audio was cut.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import ravecodec
from ravecodec.analysis import Analysed, Analyser
from ravecodec.audio import Audio
from ravecodec.bitstream import ideal_code_length
from ravecodec.bitstream.predict import predicted_code_lengths
from ravecodec.codec import Coded, Decoder, Encoder, stream_info
from ravecodec.effort import CORRECTED, SEARCHED, Analysis, Effort, effort_of, level_of
from ravecodec.errors import ModelError, UsageError
from ravecodec.models.clock import Clock
from ravecodec.models.coding import Prediction
from ravecodec.models.config import ModelConfig
from ravecodec.models.losses import lift, stereo_distance
from ravecodec.models.package import Model, load_package
from ravecodec.models.rave import Rave
from ravecodec.models.refine import WINDOWS, distance_gradient
from ravecodec.quantize import Quantizer
from ravecodec.refinement import Correction
from ravecodec.search import BitWeight, Channel, Search, trimmed

Music = Callable[..., Audio]

SMALL = 1 << 15  # samples of a block in these tests
REFINED = ModelConfig(
    channels=2,
    encoder="spectrogram",
    generator="istft",
    capacity=8,
    latent=16,
    lines=128,
    refiner=8,
)


@pytest.fixture(autouse=True)
def blocks(small_blocks: Callable[[int], None]) -> None:
    small_blocks(SMALL)


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., None]) -> Model:
    """A random network with a refiner that does something."""
    path = tmp_path_factory.mktemp("refined") / "refined.safetensors"
    make_model(path, REFINED)
    model = load_package(path)
    torch.manual_seed(1)
    assert model.network.refiner is not None
    torch.nn.init.normal_(model.network.refiner.head.weight, std=0.1)
    return model


def analysed(model: Model, audio: Audio) -> Analysed:
    """All frames of audio at the model's rate."""
    analyser = Analyser(model, model.config.sample_rate)
    first, *others = [*analyser.process(audio), *analyser.flush()]
    for other in others:
        first = first.joined(other)
    return first


def distance(
    model: Model, chunks: list[Coded], info: ravecodec.bitstream.StreamInfo, target: Audio
) -> float:
    """Of what a decoder plays to the audio, with all windows."""
    decoder, pieces = Decoder(model, info), []
    for chunk in chunks:
        if chunk.lead_in:
            decoder.lead_in(chunk.symbols)
        else:
            pieces += decoder.process(chunk.symbols)
    output = np.concatenate([*pieces, *decoder.flush(target.shape[1])], axis=1)
    pair = (torch.from_numpy(np.ascontiguousarray(x))[None] for x in (target, output))
    return stereo_distance(*pair, WINDOWS, model.config.sample_rate).item()


# ---- learned corrections -------------------------------------------------------------------------


def test_a_correction_does_not_depend_on_how_frames_arrive(refined: Model, music: Music) -> None:
    whole = analysed(refined, music(50 * REFINED.hop + 100, 2, 48_000))
    one = Correction(refined, 3)
    expected = np.concatenate([part.means for part in (*one.process(whole), *one.flush())])
    assert not np.allclose(expected, whole.means)
    for size in (1, 7, 16, 33):
        other, found = Correction(refined, 3), []
        for first in range(0, len(whole), size):
            found += other.process(whole.part(first, min(first + size, len(whole))))
        found += other.flush()
        assert np.array_equal(np.concatenate([part.means for part in found]), expected)
        assert np.array_equal(np.concatenate([part.audio for part in found], axis=1), whole.audio)


def test_the_gradient_is_that_of_all_blocks_together(refined: Model, music: Music) -> None:
    """The refiner is replaced by one that hands the gradient on; the oracle decodes everything at
    once.
    """

    class Passing(torch.nn.Module):
        def forward(
            self, gradient: torch.Tensor, mean: torch.Tensor, spread: torch.Tensor
        ) -> torch.Tensor:
            return gradient

    refined = replace(refined, network=copy.deepcopy(refined.network))
    refined.network.refiner = Passing()
    frames, hop, block = 40, REFINED.hop, SMALL // REFINED.hop
    whole = analysed(refined, music(frames * hop, 2, 48_000))
    correction = Correction(refined, 3)
    moved = (
        np.concatenate([part.means for part in (*correction.process(whole), *correction.flush())])
        - whole.means
    )

    reach, lead = refined.network.decoder_reach, whole.lead
    assert lead == 1
    z = torch.from_numpy(whole.means.T.copy())[None].requires_grad_(True)
    held = torch.cat(
        [z[..., :1].expand(-1, -1, reach.past), z, z[..., -1:].expand(-1, -1, reach.future)], -1
    )
    output = refined.network.decode(held, Clock.at(-lead - reach.past, 3))[
        ..., (lead + reach.past) * hop :
    ]
    total = torch.zeros(())
    for first in range(0, frames, block):
        part = slice(first * hop, min(first + block, frames) * hop)
        target = torch.from_numpy(np.ascontiguousarray(whole.audio[:, lead * hop :][:, part]))[None]
        windows = [w for w in WINDOWS if w <= target.shape[-1]]
        gain = lift(target)
        scale = target.shape[-1] / hop
        total = total + scale * stereo_distance(
            gain * target, gain * output[..., part], windows, 48_000
        )
    (expected,) = torch.autograd.grad(total, [z])
    assert np.abs(moved).max() > 0
    assert np.allclose(moved, expected[0].T.numpy(), atol=2e-4 * np.abs(moved).max())


def test_a_quiet_passage_has_the_gradient_of_a_loud_one(refined: Model, music: Music) -> None:
    """Both are lifted to the same level, so a floor in the distance hides nothing."""
    audio = torch.from_numpy(music(12 * REFINED.hop, 2, 48_000))[None]
    network, clock = refined.network, Clock.at(0)
    mean = torch.zeros(1, 16, 12)
    with torch.no_grad():
        found = [
            distance_gradient(network, g * audio, mean, clock, 0).abs().mean() for g in (1e-2, 1e-3)
        ]
    assert 0.05 < found[1] / found[0] < 20


def test_a_refiner_starts_without_effect(music: Music) -> None:
    network = Rave(REFINED).eval()
    audio = torch.from_numpy(music(12 * REFINED.hop, 2, 48_000))[None]
    with torch.no_grad():
        mean, spread = network.encode(audio)
        assert torch.equal(network.refine(audio, mean, spread, Clock.at(0), 2, 0), mean)


def test_a_refiner_belongs_to_the_spectral_families() -> None:
    with pytest.raises(ModelError, match="refiner"):
        ModelConfig(refiner=8)


# ---- search --------------------------------------------------------------------------------------


def test_a_search_lowers_the_distance_at_no_more_bits(
    small_blocks: Callable[[int], None], music: Music
) -> None:
    """Of the model that ships: a random network says next to nothing whatever its latents are."""
    small_blocks(8 * 8_192)
    model = ravecodec.load_model("default")
    audio, point = music(12 * model.config.hop, 2, 48_000), model.coding
    info = stream_info(model, 48_000, 2, point.dims, point.step_index)
    predictor = Quantizer(model.latent, point, info.dims, info.step_index, True).static.predictor
    assert predictor is not None
    bits, distances = [], []
    for iterations in (0, 8):
        encoder = Encoder(model, info, Effort(0, iterations))
        chunks = [*encoder.process(audio), *encoder.flush()]
        symbols = np.concatenate([chunk.symbols for chunk in chunks])
        bits.append(predicted_code_lengths(symbols, predictor, info.step_index).sum())
        distances.append(distance(model, chunks, info, audio))
    assert bits[1] <= bits[0] + 1
    assert distances[1] < 0.99 * distances[0]


def test_the_weight_of_the_bits_holds_them() -> None:
    """From the second block on, whatever weight is right: bits fall by a fiftieth in an iteration
    for a weight e times too large (so measured), and iterations get shorter as in a search.
    """
    for right in (4e-5, 2e-4, 1e-3):
        weight = BitWeight(2e-4)
        for block in range(3):
            bits = 1.0
            for iteration in range(30):
                by = 0.02 * math.cos(math.pi / 2 * iteration / 30)
                bits *= (weight.follow(1000 * bits, 1000) / right) ** -by
                assert abs(bits - 1) < (0.25 if block == 0 else 0.05)
            assert abs(bits - 1) < (0.1 if block == 0 else 0.03)


def test_a_rate_out_of_reach_does_not_carry_the_weight_away() -> None:
    for spent in (900, 1100):
        weight = BitWeight(2e-4)
        far = [weight.follow(spent, 1000) for _ in range(10_000)]
        assert 0 < far[-1] < 1 and far[-1] == far[-2]
        back = [weight.follow(2000 - spent, 1000) for _ in range(200)]
        assert (back[-1] - far[0]) * (spent - 1000) < 0


def test_what_is_compared_is_what_a_decoder_plays(stereo_model: Model, music: Music) -> None:
    """Of a stream of one block, held at both ends: the distance that the search sees is that of the
    decoded file.
    """
    audio = music(10 * stereo_model.config.hop, 2, 48_000)
    info = stream_info(stereo_model, 48_000, 2, 14, 0)
    frames = analysed(stereo_model, audio)
    frames = frames.part(frames.lead, len(frames))  # without a lead-in the first frame is held
    quantizer = Quantizer(stereo_model.latent, stereo_model.coding, 14, 0, True)
    search = Search(stereo_model, quantizer, info.seed, 1)
    assert not [*search.process(frames)]
    excerpt = search._excerpt(0, len(frames))
    symbols = quantizer.symbols(frames.means)
    channel, network = Channel(quantizer, torch.device("cpu")), stereo_model.network
    own = channel.latents(
        channel.send(torch.from_numpy(symbols).float()), excerpt.latents[excerpt.own]
    )
    output = network.decode(own[excerpt.places].T[None], excerpt.clock)[0]
    hop = stereo_model.config.hop
    played = output[:, excerpt.skip * hop :][:, : audio.shape[1]].numpy()
    decoder = Decoder(stereo_model, info)
    expected = np.concatenate([*decoder.process(symbols), *decoder.flush(audio.shape[1])], axis=1)
    assert np.allclose(played, expected, atol=1e-4 * np.abs(expected).max())


def test_both_families_can_be_searched(any_model: Model, music: Music) -> None:
    audio = music(24 * any_model.config.hop, any_model.config.channels, 48_000)
    found = [ravecodec.encode(audio, 48_000, any_model, effort=level) for level in (0, 1)]
    assert found[0] != found[1]


def test_a_search_does_not_depend_on_how_the_audio_was_cut(
    stereo_model: Model, music: Music
) -> None:
    audio = music(70_000, 2, 44_100)
    info = stream_info(stereo_model, 44_100, 2, 14, 0)

    def symbols(size: int) -> NDArray[np.int32]:
        encoder, chunks = Encoder(stereo_model, info, Effort(0, 2)), []
        for first in range(0, audio.shape[1], size):
            chunks += encoder.process(audio[:, first : first + size])
        chunks += encoder.flush()
        assert chunks[0].lead_in
        return np.concatenate([chunk.symbols for chunk in chunks])

    expected = symbols(audio.shape[1])
    for size in (4_097, 30_000):
        assert np.array_equal(symbols(size), expected)


def test_every_length_can_be_searched(refined: Model, music: Music) -> None:
    for samples in (1, 100, 2_048, 8_191, 8_193, SMALL + 1):
        data = ravecodec.encode(music(samples, 1, 48_000), 48_000, refined, effort=3)
        output, rate = ravecodec.decode(data, refined)
        assert output.shape == (1, samples)
        assert rate == 48_000


def test_silence_is_left_alone(stereo_model: Model, music: Music) -> None:
    """Frames that are sent as silence have the symbols that they have without a search."""
    audio = music(60 * stereo_model.config.hop, 2, 48_000)
    audio[:, 20 * 2048 : 50 * 2048] = 0
    info = stream_info(stereo_model, 48_000, 2, 14, 0)
    coded = []
    for iterations in (0, 5):
        encoder = Encoder(stereo_model, info, Effort(0, iterations))
        coded.append([*encoder.process(audio), *encoder.flush()])
    plain, searched = coded
    assert [len(c.symbols) for c in plain] == [len(c.symbols) for c in searched]
    assert any(c.silent for c in plain)
    for one, other in zip(plain, searched, strict=True):
        assert one.silent == other.silent
        assert np.array_equal(one.symbols, other.symbols) == one.silent


def test_a_search_stays_below_a_target_rate_and_uses_it(stereo_model: Model, music: Music) -> None:
    audio = music(5 * 44_100)
    seconds = audio.shape[1] / 44_100
    plain = ravecodec.encode(audio, 44_100, stereo_model, effort=0, bitrate=3.0)
    searched = ravecodec.encode(audio, 44_100, stereo_model, effort=1, bitrate=3.0)
    assert plain != searched
    assert len(searched) * 8 / 1000 / seconds <= 3.0
    assert len(searched) >= 0.9 * len(plain)


def test_the_same_search_gives_the_same_bytes(stereo_model: Model, music: Music) -> None:
    audio = music(30_000)
    assert len({ravecodec.encode(audio, 44_100, stereo_model, effort=1) for _ in range(2)}) == 1


def test_bits_are_those_of_the_tables(stereo_model: Model) -> None:
    quantizer = Quantizer(stereo_model.latent, stereo_model.coding, 14, 0, True)
    channel, past = Channel(quantizer, torch.device("cpu")), torch.zeros(2, 14)
    symbols = np.random.default_rng(0).integers(-40, 41, (30, 14))
    expected = ideal_code_length(symbols, quantizer.static.rows(0)[:14])
    assert channel.cost(torch.from_numpy(symbols), past) == pytest.approx(expected)
    assert channel.bits(torch.from_numpy(symbols).float(), past).item() == pytest.approx(expected)


def test_bits_are_those_of_the_predictor(stereo_model: Model) -> None:
    """Exact where they decide, near enough where they have a gradient, also for what the future
    owes to the past.
    """
    weights = np.tile(np.array([[2600, -300]], np.int16), (16, 1))
    prediction = Prediction(weights, stereo_model.coding.shapes, stereo_model.coding.scales)
    coding = replace(stereo_model.coding, prediction=prediction)
    quantizer = Quantizer(stereo_model.latent, coding, 14, 0, True)
    channel = Channel(quantizer, torch.device("cpu"))
    symbols = np.rint(np.random.default_rng(0).normal(0, 3, (32, 14))).astype(np.int32)
    past, y = torch.from_numpy(symbols[:2]).float(), torch.from_numpy(symbols[2:]).float()
    predictor = quantizer.static.predictor
    assert predictor is not None
    exact = predicted_code_lengths(symbols, predictor, 0)[2:].sum()
    assert channel.cost(y, past) == pytest.approx(exact)
    assert channel.bits(y, past).item() == pytest.approx(exact, rel=0.02)
    moved = y.clone().requires_grad_(True)
    channel.length(moved, channel.foreseen(moved, past))[1].sum().backward()
    assert moved.grad is not None and moved.grad[0].any()
    for share in (0.9, 0.5, 0.0):
        assert channel.cost(trimmed(y, channel, share * exact, past), past) <= max(
            share * exact, channel.cost(0 * y, past)
        )


def test_what_is_sent_is_what_a_decoder_makes_of_it(any_model: Model) -> None:
    dims = any_model.coding.dims
    quantizer = Quantizer(any_model.latent, any_model.coding, dims, 1, True)
    channel = Channel(quantizer, torch.device("cpu"))
    y = 20 * np.random.default_rng(0).standard_normal((30, dims))
    rest = torch.from_numpy(quantizer.latents(np.zeros((30, dims), np.int32), 5, 7))
    found = channel.latents(channel.send(torch.from_numpy(y).float()), rest)
    expected = quantizer.latents(np.rint(y.astype(np.float32)).astype(np.int32), 5, 7)
    assert np.allclose(found.numpy(), expected, atol=1e-4)


def test_trimming_ends_where_it_is_told(stereo_model: Model) -> None:
    quantizer = Quantizer(stereo_model.latent, stereo_model.coding, 14, 0, True)
    channel = Channel(quantizer, torch.device("cpu"))
    y = 3 * torch.from_numpy(np.random.default_rng(0).standard_normal((30, 14))).float()
    past = torch.zeros(2, y.shape[1])
    full = channel.cost(y.round(), past)
    for share in (1.5, 1.0, 0.97, 0.8, 0.5):
        symbols = trimmed(y, channel, share * full, past)
        assert torch.equal(symbols, symbols.round())
        assert (symbols.abs() <= y.round().abs()).all()
        if share >= 1:
            assert torch.equal(symbols, y.round())
        else:
            assert share - 0.02 < channel.cost(symbols, past) / full <= share


# ---- levels --------------------------------------------------------------------------------------


def test_levels(stereo_model: Model, refined: Model) -> None:
    """Models that were trained to encode with corrections have levels of their own; every other
    one searches.
    """
    own = replace(refined, coding=replace(refined.coding, effort=1))
    assert effort_of(own, None) == CORRECTED[1]
    assert effort_of(own, 3) == CORRECTED[3]
    for model in (stereo_model, refined):
        assert effort_of(model, None) == Effort(0, 0)
        assert effort_of(model, 3) == SEARCHED[3]
    for levels in (CORRECTED, SEARCHED):
        work = [(effort.corrections, effort.iterations) for effort in levels]
        assert work == sorted(set(work))
    for level in (-1, len(SEARCHED)):
        with pytest.raises(UsageError, match="effort"):
            ravecodec.encode(np.zeros((1, 100), np.float32), 48_000, stereo_model, effort=level)


def test_a_model_encodes_as_it_was_trained() -> None:
    assert [level_of(corrections) for corrections in (0, 1, 2, 3, 5)] == [0, 1, 1, 2, 2]


def test_corrections_follow_each_other(refined: Model, music: Music) -> None:
    """Two in a chain are the second one fed with what the first made."""
    audio = music(30 * REFINED.hop, 2, 48_000)
    analysis = Analysis(refined, 48_000, 3, 2)
    found = np.concatenate([part.means for part in (*analysis.process(audio), *analysis.flush())])
    frames = analysed(refined, audio)
    for _ in range(2):
        correction = Correction(refined, 3)
        parts = [*correction.process(frames), *correction.flush()]
        frames = parts[0]
        for part in parts[1:]:
            frames = frames.joined(part)
    assert np.array_equal(found, frames.means)


def test_the_default_level_is_kept_in_the_file(tmp_path: Path, refined: Model) -> None:
    path = tmp_path / "model.safetensors"
    coding = replace(refined.coding, effort=2)
    ravecodec.models.package.save_package(
        path, refined.network, refined.latent, coding, "m", {}, torch.float32
    )
    assert load_package(path).coding.effort == 2
