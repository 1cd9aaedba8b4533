"""Encoder and Decoder: the same symbols and samples however the audio is cut, exact lengths, memory
flat in length.
"""

import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ravecodec.analysis import SILENCE_SAMPLES
from ravecodec.audio import Audio, match_channels
from ravecodec.bitstream import StreamInfo
from ravecodec.codec import Decoder, Encoder, check_model, stream_info
from ravecodec.errors import ModelError
from ravecodec.highpass import HALF_SECONDS
from ravecodec.models.package import Model
from ravecodec.precision import PRECISIONS

Symbols = NDArray[np.int32]
Music = Callable[..., Audio]
Blocks = Callable[[int], None]

SMALL = 1 << 16  # samples of a block where many lengths or pieces are tried: 32 frames of 2048


def make_info(model: Model, rate: int = 44_100, channels: int = 2, **fields: int) -> StreamInfo:
    dims, step_index = (
        fields.pop("dims", model.coding.dims),
        fields.pop("step_index", model.coding.step_index),
    )
    return stream_info(model, rate, channels, dims, step_index, **fields)


def cut(array: Audio, sizes: Iterable[int], axis: int) -> Iterator[Audio]:
    """The array in pieces of these sizes, then the rest."""
    start, total = 0, array.shape[axis]
    for size in sizes:
        yield array.take(range(start, min(start + size, total)), axis)
        start = min(start + size, total)
    yield array.take(range(start, total), axis)


def encode(model: Model, info: StreamInfo, audio: Audio, sizes: Iterable[int] = ()) -> Symbols:
    encoder = Encoder(model, info)
    chunks = [chunk for block in cut(audio, sizes, 1) for chunk in encoder.process(block)]
    chunks += encoder.flush()
    assert encoder.samples == audio.shape[1]
    symbols = [chunk.symbols for chunk in chunks if not chunk.lead_in]
    return np.concatenate([np.zeros((0, info.dims), np.int32), *symbols])


def decode(
    model: Model,
    info: StreamInfo,
    symbols: Symbols,
    samples: int,
    sizes: Iterable[int] = (),
    **options: Any,
) -> Audio:
    decoder = Decoder(model, info, **options)
    blocks = [block for chunk in cut(symbols, sizes, 0) for block in decoder.process(chunk)]
    return np.concatenate([*blocks, *decoder.flush(samples)], axis=1)


SIZES = {
    "tiny": [1, 2, 0, 3],
    "around a hop": [2047, 1, 2048, 2049] * 9,
    "odd": [77_777] * 2,
    "the block": [SMALL] * 4,
}


def test_symbols_do_not_depend_on_how_audio_is_cut(
    any_model: Model, music: Music, small_blocks: Blocks, subtests: pytest.Subtests
) -> None:
    small_blocks(SMALL)
    info, audio = make_info(any_model), music(44_100 * 4 + 77)
    whole = encode(any_model, info, audio)
    assert len(np.unique(whole)) > 5, "the model of this test codes nothing"
    for name, sizes in SIZES.items():
        with subtests.test(name):
            assert np.array_equal(encode(any_model, info, audio, sizes), whole)


def test_samples_do_not_depend_on_how_symbols_are_cut(
    any_model: Model, music: Music, small_blocks: Blocks, subtests: pytest.Subtests
) -> None:
    small_blocks(SMALL)
    info, audio = make_info(any_model, seed=5), music(44_100 * 4 + 77)
    symbols = encode(any_model, info, audio)
    for precision in PRECISIONS:
        decoded = partial(decode, any_model, info, symbols, audio.shape[1], precision=precision)
        whole = decoded()
        assert whole.std() > 1e-3, "the model of this test decodes to silence"
        for sizes in ([1] * 20, [17] * 4, [31, 1, 32, 29], [0, 90]):
            with subtests.test(precision=precision, sizes=sizes):
                assert np.array_equal(decoded(sizes), whole)


def test_bfloat16_is_float32_within_two_percent(any_model: Model, music: Music) -> None:
    """Two percent of the level is some 34 dB below it."""
    info, audio = make_info(any_model), music(44_100 * 14 + 77)
    symbols = encode(any_model, info, audio)
    exact, fast = (
        decode(any_model, info, symbols, audio.shape[1], precision=name) for name in PRECISIONS
    )
    assert fast.shape == exact.shape
    assert np.isfinite(fast).all()
    assert 0 < (fast - exact).std() < 0.02 * exact.std()


def test_bfloat16_ends_with_the_network(any_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Excitations, bands and audio have digits that bfloat16 has not: what makes sound computes in
    float32.
    """
    generator, pqmf = any_model.network.generator, any_model.network.pqmf
    seen: list[torch.Tensor] = []

    def watched(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def call(*args: Any) -> torch.Tensor:
            seen.append(function(*args))
            return seen[-1]

        return call

    for module in {"lines", "shaped", "noise"} & set(dict(generator.named_children())):
        monkeypatch.setattr(
            getattr(generator, module), "forward", watched(getattr(generator, module).forward)
        )
    monkeypatch.setattr(generator, "forward", watched(generator.forward))
    monkeypatch.setattr(pqmf, "synthesis", watched(pqmf.synthesis))
    decode(
        any_model,
        make_info(any_model),
        np.ones((9, any_model.coding.dims), np.int32),
        15_000,
        precision="bfloat16",
    )
    assert len(seen) == (4 if any_model.name == "default" else 3)
    for tensor in seen:
        assert tensor.dtype == torch.float32
        assert float((tensor != tensor.bfloat16()).float().mean()) > 0.9


def test_symbols_depend_only_on_audio_within_reach(any_model: Model, music: Music) -> None:
    """The real context on both sides is enough: what lies further away changes nothing, even across
    blocks.
    """
    info, audio = make_info(any_model, any_model.config.sample_rate), music(1 << 20)
    reach, hop = any_model.network.encoder_reach, any_model.config.hop
    # High-pass, groups of silent frames.
    around = int(HALF_SECONDS * info.sample_rate + SILENCE_SAMPLES) // hop + 2
    first, last = 200, 300  # these frames' audio stays
    other = music(1 << 20, seed=1)
    other[:, first * hop : last * hop] = audio[:, first * hop : last * hop]
    same = slice(first + reach.past + around, last - reach.future - around)
    a, b = encode(any_model, info, audio), encode(any_model, info, other)
    assert np.array_equal(a[same], b[same])
    assert not np.array_equal(a[: same.start], b[: same.start])


def test_frames_cover_the_audio(
    any_model: Model, music: Music, small_blocks: Blocks, subtests: pytest.Subtests
) -> None:
    small_blocks(SMALL)
    for frames in [0, 1, 31, 32, 33, 64]:
        with subtests.test(frames=frames):
            rate, hop = any_model.config.sample_rate, any_model.config.hop
            info = make_info(any_model, rate)
            for samples in {max(0, frames * hop - 1), frames * hop, frames * hop + 1}:
                symbols = encode(any_model, info, music(samples))
                assert len(symbols) == -(-samples // hop)
                assert decode(any_model, info, symbols, samples).shape == (2, samples)


def test_every_rate_gives_back_the_exact_count(
    stereo_model: Model, music: Music, small_blocks: Blocks, subtests: pytest.Subtests
) -> None:
    small_blocks(SMALL)
    for rate in [1_000, 8_000, 22_050, 44_100, 48_000, 192_000]:
        with subtests.test(rate=rate):
            info = make_info(stereo_model, rate)
            for samples in (0, 1, 2, rate // 2 + 1, 3 * rate - 1):
                symbols = encode(stereo_model, info, music(samples, rate=rate))
                assert decode(stereo_model, info, symbols, samples).shape == (2, samples)


SIGNALS = {
    "silence": np.zeros((2, 70_000), np.float32),
    "dc": np.full((2, 70_000), 0.7, np.float32),
    "full scale": np.sign(np.sin(np.arange(140_000, dtype=np.float32))).reshape(2, 70_000),
    "an impulse": np.eye(2, 70_000, 30_000, dtype=np.float32),
    "far too loud": np.full((2, 70_000), 65_536, np.float32),
}


def test_extreme_signals_stay_finite(any_model: Model, subtests: pytest.Subtests) -> None:
    for name in SIGNALS:
        with subtests.test(name=name):
            info, audio = make_info(any_model), SIGNALS[name]
            symbols = encode(any_model, info, audio)
            output = decode(any_model, info, symbols, audio.shape[1])
            assert np.isfinite(output).all()
            assert np.array_equal(encode(any_model, info, audio), symbols)


def test_mono_is_stereo_of_equal_sides(stereo_model: Model, music: Music) -> None:
    audio = music(100_000, channels=1)
    mono, both = make_info(stereo_model, channels=1), make_info(stereo_model, channels=2)
    symbols = encode(stereo_model, mono, audio)
    assert np.array_equal(symbols, encode(stereo_model, both, np.repeat(audio, 2, axis=0)))
    sides = decode(stereo_model, replace(both, sample_rate=48_000), symbols, 100_000)
    middle = decode(stereo_model, replace(mono, sample_rate=48_000), symbols, 100_000)
    assert np.array_equal(middle, match_channels(sides, 1))


def test_stereo_through_a_mono_model_is_its_mean(mono_model: Model, music: Music) -> None:
    audio = music(100_000)
    stereo, mono = make_info(mono_model, 48_000), make_info(mono_model, 48_000, channels=1)
    symbols = encode(mono_model, stereo, audio)
    assert np.array_equal(symbols, encode(mono_model, mono, match_channels(audio, 1)))
    output = decode(mono_model, stereo, symbols, 100_000)
    assert np.array_equal(output[0], output[1])


def test_seed_changes_the_noise_and_nothing_else(stereo_model: Model, music: Music) -> None:
    audio = music(100_000)
    one, two = make_info(stereo_model, seed=1), make_info(stereo_model, seed=2)
    symbols = encode(stereo_model, one, audio)
    assert np.array_equal(symbols, encode(stereo_model, two, audio))
    first, second = (decode(stereo_model, info, symbols, 100_000) for info in (one, two))
    assert np.array_equal(first, decode(stereo_model, one, symbols, 100_000))
    assert not np.array_equal(first, second)


def test_a_coarser_step_gives_smaller_symbols(stereo_model: Model, music: Music) -> None:
    audio = music(200_000)
    sizes = [
        np.abs(encode(stereo_model, make_info(stereo_model, step_index=g), audio)).sum()
        for g in (-8, 0, 8, 80)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] == 0


def test_fewer_dims_are_the_first_of_all(stereo_model: Model, music: Music) -> None:
    audio = music(100_000)
    everything = encode(stereo_model, make_info(stereo_model, dims=16), audio)
    assert np.array_equal(
        encode(stereo_model, make_info(stereo_model, dims=3), audio), everything[:, :3]
    )


def test_a_chunk_may_have_its_own_dims_and_step(stereo_model: Model) -> None:
    decoder = Decoder(stereo_model, make_info(stereo_model))
    blocks = [
        *decoder.process(np.zeros((5, 0), np.int32)),
        *decoder.process(np.ones((6, 2), np.int32), 9),
    ]
    blocks += decoder.flush(20_000)
    assert sum(block.shape[1] for block in blocks) == 20_000
    assert all(np.isfinite(block).all() for block in blocks)


def test_a_concealed_gap_leaves_the_rest_as_it_was(any_model: Model, music: Music) -> None:
    rate, hop = any_model.config.sample_rate, any_model.config.hop
    info = make_info(any_model, rate)
    samples = 500 * hop
    symbols = encode(any_model, info, music(samples, rate=rate))
    whole = decode(any_model, info, symbols, samples)
    decoder = Decoder(any_model, info)
    blocks = [*decoder.process(symbols[:200]), *decoder.skip(50), *decoder.process(symbols[250:])]
    patched = np.concatenate([*blocks, *decoder.flush(samples)], axis=1)
    reach = any_model.network.decoder_reach
    before, after = (200 - reach.future) * hop, (250 + reach.past) * hop
    assert patched.shape == whole.shape
    assert np.array_equal(patched[:, :before], whole[:, :before])
    assert np.array_equal(patched[:, after:], whole[:, after:])
    assert np.isfinite(patched).all()


def test_a_stream_may_begin_with_a_gap(stereo_model: Model) -> None:
    decoder = Decoder(stereo_model, make_info(stereo_model, 48_000))
    blocks = [
        *decoder.skip(10),
        *decoder.process(np.ones((5, 14), np.int32)),
        *decoder.flush(15 * 2048),
    ]
    assert sum(block.shape[1] for block in blocks) == 15 * 2048


def peak_of(run: Callable[[], None]) -> int:
    """Bytes of Python and numpy at the highest point."""
    tracemalloc.start()
    run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_length(stereo_model: Model, music: Music) -> None:
    info, block = make_info(stereo_model), music(65_536)
    chunk = np.ones((256, 14), np.int32)

    def encode_blocks(count: int) -> None:
        encoder = Encoder(stereo_model, info)
        for _ in range(count):
            for _ in encoder.process(block):
                pass
        list(encoder.flush())

    def decode_chunks(count: int) -> None:
        decoder = Decoder(stereo_model, info)
        for _ in range(count):
            for _ in decoder.process(chunk):
                pass
        list(decoder.flush(count * 256 * 2048 * 441 // 480))

    encode_blocks(1)  # caches and imports are not what is measured
    decode_chunks(1)
    assert peak_of(lambda: encode_blocks(80)) < 1.1 * peak_of(lambda: encode_blocks(20))
    assert peak_of(lambda: decode_chunks(12)) < 1.1 * peak_of(lambda: decode_chunks(3))


def test_only_the_model_that_made_a_stream_decodes_it(
    stereo_model: Model, mono_model: Model
) -> None:
    info = make_info(stereo_model)
    check_model(stereo_model, info, "x.rvc")
    with pytest.raises(
        ModelError, match=f"x.rvc: .*{stereo_model.id.hex()}.*{mono_model.id.hex()}"
    ):
        check_model(mono_model, info, "x.rvc")
    for wrong in ({"hop": 1024}, {"model_rate": 44_100}, {"dims": 17}):
        with pytest.raises(ModelError, match=r"x.rvc: its header does not fit"):
            check_model(stereo_model, replace(info, **wrong), "x.rvc")
