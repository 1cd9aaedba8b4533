"""What the encoder is shown: audio mirrored at both ends, high-passed; and what becomes of
silence.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ravecodec import decode, encode, encode_file
from ravecodec.analysis import Analyser
from ravecodec.audio import Audio
from ravecodec.bitstream import Chunk, StreamReader, StreamWriter
from ravecodec.bitstream.container import ChunkType, encode_chunk
from ravecodec.codec import SILENCE_COARSER, Decoder, silence_step, stream_info
from ravecodec.errors import CorruptError, InputError, UsageError
from ravecodec.highpass import HighPass
from ravecodec.models.package import Model, load_package
from ravecodec.windows import MirroredWindows
from ravecodec.zoo import shipped_folder

Music = Callable[..., Audio]
COARSE = 24  # a step index of silent chunks
RATE = 44_100


@pytest.fixture(scope="module")
def shipped() -> Model:
    """The model that ships."""
    return load_package(shipped_folder() / "default.safetensors")


def cut(audio: Audio, sizes: Iterable[int]) -> Iterator[Audio]:
    edges = [0, *np.cumsum(list(sizes)).clip(max=audio.shape[1]), audio.shape[1]]
    return (audio[:, start:stop] for start, stop in pairwise(edges))


def level(audio: Audio) -> float:
    """RMS in dB of full scale."""
    return float(10 * np.log10(np.mean(audio.astype(np.float64) ** 2) + 1e-30))


def chord(samples: int, start: int = 0) -> Audio:
    """Four tones of -18 dB."""
    time = np.arange(start, start + samples) / RATE
    return sum(0.12 * np.sin(2 * np.pi * hertz * time) for hertz in (220, 277.2, 329.6, 440))[
        None
    ].astype(np.float32)


def there_and_back(model: Model, audio: Audio) -> Audio:
    return decode(encode(audio, RATE, model), model)[0]


# ---- windows -------------------------------------------------------------------------------------


def mirror_by_walking(audio: Audio, before: int, after: int) -> Audio:
    """The reflection, sample by sample: walk on, and turn round at both ends."""
    last = audio.shape[1] - 1

    def walk(steps: int, at: int, direction: int) -> list[int]:
        places = []
        for _ in range(steps):
            if not 0 <= at + direction <= last:
                direction = -direction
            at = at + direction if last else 0
            places.append(at)
        return places

    places = walk(before, 0, -1)[::-1] + list(range(last + 1)) + walk(after, last, 1)
    return audio[:, places]


def test_windows_are_those_of_the_mirrored_stream(subtests: pytest.Subtests) -> None:
    for sizes in [[], [1] * 40, [3, 0, 50], [7] * 9]:
        with subtests.test(sizes=sizes):
            for step, past, future, unit in [
                (8, 3, 2, 1),
                (8, 20, 11, 4),
                (4, 0, 0, 4),
                (16, 1, 40, 8),
            ]:
                for samples in [0, 1, 2, 3, 4, 5, 8, 9, 31, 32, 33, 64, 90]:
                    audio = (
                        np.random.default_rng(samples)
                        .standard_normal((2, samples))
                        .astype(np.float32)
                    )
                    windows = MirroredWindows(2, step, past, future, unit)
                    found = [
                        pair for piece in cut(audio, sizes) for pair in windows.process(piece)
                    ] + list(windows.flush())
                    assert [count for _, count in found] == [
                        min(step, samples - i) for i in range(0, samples, step)
                    ]
                    endless = mirror_by_walking(audio, past, step + future) if samples else audio
                    for i, (window, count) in enumerate(found):
                        assert window.shape == (2, past + step + future)
                        defined = past + -(-count // unit) * unit + future
                        assert np.array_equal(
                            window[:, :defined], endless[:, i * step : i * step + defined]
                        )


# ---- high-pass -----------------------------------------------------------------------------------


def high_passed(audio: Audio, sizes: Iterable[int] = (), rate: int = 48_000) -> Audio:
    filtered = HighPass(rate, len(audio))
    pieces = [part for piece in cut(audio, sizes) for part in filtered.process(piece)] + list(
        filtered.flush()
    )
    return np.concatenate([np.zeros((len(audio), 0), np.float32), *pieces], axis=1)


def test_high_pass_does_not_depend_on_how_audio_is_cut(music: Music) -> None:
    audio = music(200_000) + 0.2
    whole = high_passed(audio)
    assert whole.shape == audio.shape
    for sizes in ([1, 2, 0, 3], [77_777], [49_120, 1, 65_536]):
        assert np.array_equal(high_passed(audio, sizes), whole)


def test_high_pass_takes_off_what_is_not_heard_and_nothing_else() -> None:
    for rate in (1_000, 16_000, 44_100, 192_000):
        time = np.arange(6 * rate) / rate
        inner = slice(2 * rate, 4 * rate)
        for hertz, most, least in [
            (3, -45, -300),
            (10, -45, -300),
            (20, 0.05, -0.05),
            (30, 0.05, -0.05),
            (0.47 * rate, 0.01, -0.01),
        ]:
            tone = 0.5 * np.sin(2 * np.pi * hertz * time + 1)[None].astype(np.float32)
            assert (
                least
                <= level(high_passed(tone, rate=rate)[:, inner]) - level(tone[:, inner])
                <= most
            )


def test_an_offset_leaves_nothing_behind(music: Music) -> None:
    """No thump at the start either, at any length; other sound does not notice that it was
    there.
    """
    for samples in (1, 2, 960, 5_000, 60_000):
        assert np.abs(high_passed(np.full((2, samples), 0.3, np.float32))).max() < 1e-6
    audio = music(100_000)
    assert np.abs(high_passed(audio + np.float32(0.3)) - high_passed(audio)).max() < 1e-6


# ---- mirrored ends -------------------------------------------------------------------------------


def test_the_analyser_sees_the_mirrored_audio(any_model: Model, music: Music) -> None:
    """An oracle of its own: the whole signal mirrored and padded first, then cut into the blocks'
    windows.
    """
    reach, hop, rate = (
        any_model.network.encoder_reach,
        any_model.config.hop,
        any_model.config.sample_rate,
    )
    channels, window = (
        any_model.config.channels,
        ((1 << 18) // hop + reach.past + reach.future) * hop,
    )
    longest = (1 << 18) + 3 * hop + 1
    noise = np.random.default_rng(0).standard_normal((channels, longest)).astype(np.float32)
    for samples in (1, 500, hop, 3 * hop + 5, longest):
        audio = music(samples, channels, rate) + noise[:, :samples]  # nowhere faint
        analyser = Analyser(any_model, rate)
        blocks = [*analyser.process(audio), *analyser.flush()]
        frames = -(-samples // hop)
        assert [len(block) - block.lead for block in blocks] == [
            min((1 << 18) // hop, frames - i) for i in range(0, frames, (1 << 18) // hop)
        ]
        end = (frames + reach.future) * hop - samples
        endless = mirror_by_walking(high_passed(audio, rate=rate), reach.past * hop, end)
        for i, block in enumerate(blocks):
            seen = endless[:, i << 18 :][:, :window]
            # What lies there is out of reach.
            seen = np.pad(seen, ((0, 0), (0, window - seen.shape[1])))
            own = slice(reach.past - block.lead, reach.past - block.lead + len(block))
            with torch.no_grad():
                both = any_model.network.encode(torch.from_numpy(seen)[None])
            for found, expected in zip((block.means, block.spreads), both, strict=True):
                assert np.allclose(found, expected[0, :, own].T, atol=1e-5)
            assert np.array_equal(block.audio, seen[:, own.start * hop : own.stop * hop])


def test_short_sounds_keep_their_level(shipped: Model) -> None:
    """Zeros outside made a bang of 14.7 dB of a chord of 0.2 s, and nearly nothing of one of 20
    ms.
    """
    inside = level(there_and_back(shipped, chord(2 * RATE))) - level(chord(2 * RATE))
    for milliseconds in (20, 50, 100, 200, 350, 1000):
        audio = chord(RATE * milliseconds // 1000)
        change = level(there_and_back(shipped, audio)) - level(audio)
        assert abs(change - inside) < 1.5, f"{milliseconds} ms"
    audio = chord(RATE // 5)
    assert abs(level(there_and_back(shipped, audio)) - level(audio)) < 1.5


def test_music_cut_in_the_middle_begins_and_ends_at_its_level(shipped: Model) -> None:
    """On average over cuts of a dense chord: in 20 ms much depends on phases, which are not
    kept.
    """
    changes = []
    time = np.arange(3 * RATE) / RATE
    dense = sum(0.03 * np.sin(2 * np.pi * 110 * 2 ** (i / 7) * time + i) for i in range(24))[
        None
    ].astype(np.float32)
    for start in range(5):
        audio = dense[:, 5117 * start :][:, : RATE // 2 + 1311 * start]
        output = there_and_back(shipped, audio)
        assert np.abs(output).max() < 1
        parts = (slice(RATE // 5, RATE // 3), slice(0, RATE // 50), slice(-RATE // 50, None))
        changes.append([level(output[:, part]) - level(audio[:, part]) for part in parts])
    inside, first, last = np.mean(changes, axis=0)
    assert abs(first - inside) < 3
    assert abs(last - inside) < 3


def test_an_attack_on_the_first_sample_is_heard(shipped: Model) -> None:
    """A short burst at the very start lies in two frames of the mirrored audio: without the one
    before the first its level fell by 30 dB."""
    time = np.arange(RATE // 4) / RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    for decay in (60, 150):
        for carrier in (noise, np.sin(2 * np.pi * 400 * time) + np.sin(2 * np.pi * 1000 * time)):
            audio = (0.3 * np.exp(-decay * time) * carrier)[None].astype(np.float32)
            output = there_and_back(shipped, audio)
            for part in (slice(None), slice(0, RATE // 50)):
                assert abs(level(output[:, part]) - level(audio[:, part])) < 8


def lead_in_of(data: bytes) -> Chunk | None:
    reader = StreamReader(io.BytesIO(data))
    list(reader.chunks())
    return reader.lead_in


def test_the_lead_in_is_not_heard_itself(any_model: Model, music: Music) -> None:
    """It is one frame before the first, costs no time, and touches only what the generator sees of
    it.
    """
    audio = music(3 * RATE)
    for bitrate in (None, 30):
        data = encode(audio, RATE, any_model, bitrate=bitrate)
        reader = StreamReader(io.BytesIO(data))
        decoder, blocks = Decoder(any_model, reader.info), []
        for chunk in reader.chunks():
            blocks += decoder.process(
                reader.decode_chunk(chunk, decoder.static), chunk.step_index, chunk.silent
            )
        assert reader.lead_in is not None
        assert reader.lead_in.frames == 1
        plain = np.concatenate([*blocks, *decoder.flush(audio.shape[1])], axis=1)
        output, _ = decode(data, any_model)
        assert output.shape == plain.shape == audio.shape
        different = (
            np.flatnonzero((plain != output).any(axis=0)) * any_model.config.sample_rate / RATE
        )
        assert different.size
        assert different.max() < (any_model.network.decoder_reach.past + 1) * any_model.config.hop
    assert lead_in_of(encode(np.zeros((2, RATE), np.float32), RATE, any_model)) is None
    assert lead_in_of(encode(np.zeros((2, 0), np.float32), RATE, any_model)) is None


def test_lead_in_in_the_stream(stereo_model: Model) -> None:
    info = stream_info(stereo_model, RATE, 2, 14, 0)
    frame = np.arange(14, dtype=np.int32)[None]
    out = io.BytesIO()
    writer = StreamWriter(out, info)
    with pytest.raises(UsageError, match="expected 1 behind none"):
        writer.write_lead_in(np.ones((2, 14), np.int32))
    writer.write_lead_in(frame)
    size = writer.write_chunk(frame)
    with pytest.raises(UsageError, match="expected 1 behind none"):
        writer.write_lead_in(frame)
    writer.close(100)
    reader = StreamReader(io.BytesIO(out.getvalue()))
    (chunk,) = reader.chunks()
    assert reader.lead_in is not None
    assert np.array_equal(reader.decode_chunk(reader.lead_in, None), frame)
    assert (chunk.first_frame, reader.frames, reader.bytes.total) == (0, 1, len(out.getvalue()))
    start = reader.lead_in.offset
    piece = out.getvalue()[start : start + reader.lead_in.size]
    assert chunk.size == size
    for wrong in (out.getvalue()[:start] + piece + out.getvalue()[start:],):
        with pytest.raises(CorruptError, match="a lead-in at byte"):
            list(StreamReader(io.BytesIO(wrong)).chunks())


def test_an_offset_is_no_sound(shipped: Model) -> None:
    sound = np.repeat(0.05 * chord(2 * RATE), 2, axis=0)
    offset = np.array([[0.3], [0.0]], np.float32)
    heard = there_and_back(shipped, sound + offset)
    assert np.abs(heard - there_and_back(shipped, sound)).max() < 0.01
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(heard.shape[1]))) / heard.shape[1]
    assert spectrum[:, : 2 * 100].max() < 0.1 * spectrum.max()  # below 100 Hz
    alone = there_and_back(shipped, np.full((2, RATE), 0.3, np.float32))
    assert not alone.any()


# ---- silence -------------------------------------------------------------------------------------


def test_silence_is_coarser_than_the_model_wherever_its_own_step_lies(stereo_model: Model) -> None:
    for own, stream, expected in (
        (0, 0, SILENCE_COARSER),
        (11, 0, 11 + SILENCE_COARSER),
        (-4, 60, 60),
        (500, 0, 512),
    ):
        model = replace(stereo_model, coding=replace(stereo_model.coding, step_index=own))
        assert silence_step(model, stream_info(model, RATE, 2, 14, stream)) == expected


def test_silence_costs_next_to_nothing_and_is_exact(shipped: Model) -> None:
    for seconds, kbps in ((0.02, 40), (3, 0.35), (60, 0.15)):
        audio = np.zeros((2, int(seconds * RATE)), np.float32)
        data = encode(audio, RATE, shipped)
        assert len(data) * 8 / seconds / 1000 < kbps
        output, _ = decode(data, shipped)
        assert output.shape == audio.shape
        assert not output.any()
    assert not there_and_back(shipped, np.full((1, RATE), 1e-6, np.float32)).any()


def pause(music: Music) -> Audio:
    """Two seconds of sound, three of silence, two of sound."""
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 2 * RATE)).astype(np.float32)
    return np.concatenate([sound, np.zeros((2, 3 * RATE), np.float32), sound], axis=1)


def test_a_pause_is_silent_and_what_is_around_it_is_not(any_model: Model, music: Music) -> None:
    for bitrate in (None, 20):
        output, _ = decode(encode(pause(music), RATE, any_model, bitrate=bitrate), any_model)
        assert not output[:, int(2.8 * RATE) : int(4.2 * RATE)].any()
        loud = np.abs(output).max(axis=0) > 0
        assert loud[: 2 * RATE].mean() > 0.999
        assert loud[5 * RATE :].mean() > 0.999


def test_a_reader_that_knows_no_silence_hears_the_same_around_it(
    stereo_model: Model, music: Music
) -> None:
    """Symbols alone, without the flag; only at the very start, which has no lead-in either there,
    is there more.
    """
    audio = pause(music)
    data = encode(audio, RATE, stereo_model)
    reader = StreamReader(io.BytesIO(data))
    decoder, blocks, silent = Decoder(stereo_model, reader.info), [], []
    for chunk in reader.chunks():
        blocks += decoder.process(reader.decode_chunk(chunk, decoder.static), chunk.step_index)
        silent += [chunk.silent] * chunk.frames
    assert reader.total_samples is not None
    plain = np.concatenate([*blocks, *decoder.flush(reader.total_samples)], axis=1)
    output, _ = decode(data, stereo_model)
    assert plain[:, 3 * RATE : 4 * RATE].any()
    different = (
        np.flatnonzero((plain != output).any(axis=0)) * 48_000 / RATE / stereo_model.config.hop
    )
    different = different[different > stereo_model.network.decoder_reach.past + 1]
    first, last = np.flatnonzero(silent)[[0, -1]]
    assert first - 1 < different.min()
    assert different.max() < last + 2


def test_silence_in_the_stream(stereo_model: Model) -> None:
    info = stream_info(stereo_model, RATE, 2, 14, 0)
    out = io.BytesIO()
    writer = StreamWriter(out, info)
    ones = np.ones((5, 14), np.int32)
    writer.write_chunk(ones)
    size = writer.write_chunk(ones, COARSE, silent=True)
    assert size > writer.write_chunk(ones)
    writer.close(15 * 1000)
    chunks = list(StreamReader(io.BytesIO(out.getvalue())).chunks())
    assert [chunk.silent for chunk in chunks] == [False, True, False]
    assert [replace(chunk, silent=False).step_index for chunk in chunks] == [0, COARSE, 0]
    assert out.getvalue().count(encode_chunk(ChunkType.SILENCE, 5, b"")) == 1
    damaged = bytearray(out.getvalue())
    damaged[chunks[1].offset + 20] ^= 1
    found = list(StreamReader(io.BytesIO(damaged)).chunks("skip"))
    assert [getattr(item, "silent", None) for item in found] == [False, None, False]


def test_a_gap_after_silence_is_silent(stereo_model: Model) -> None:
    decoder = Decoder(stereo_model, stream_info(stereo_model, 48_000, 2, 14, 0))
    zeros = np.zeros((40, 14), np.int32)
    blocks = [*decoder.process(zeros, COARSE, True), *decoder.skip(40), *decoder.process(zeros)]
    output = np.concatenate([*blocks, *decoder.flush(120 * 2048)], axis=1)
    assert not output[:, : 80 * 2048].any()
    assert output[:, 80 * 2048 :].any()


# ---- absurd level --------------------------------------------------------------------------------


def test_integers_kept_as_floats(stereo_model: Model, music: Music, tmp_path: Path) -> None:
    audio = music(30_000)
    with pytest.raises(InputError, match=r"audio: holds .* dB over full scale.*--full-scale 32768"):
        encode(audio * 32_768, RATE, stereo_model)
    data = encode(audio, RATE, stereo_model)
    assert encode(audio * 32_768, RATE, stereo_model, full_scale=32_768) == data
    soundfile.write(tmp_path / "x.wav", audio.T * 32_768, RATE, subtype="FLOAT")
    encode_file(tmp_path / "x.wav", tmp_path / "x.rvc", model=stereo_model, full_scale=32_768)
    assert (tmp_path / "x.rvc").read_bytes() == data
