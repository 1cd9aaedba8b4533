"""`Live` against the network as a whole and the codec's own decoder, in pieces of any size, saved
and restored; `ravecodec live` on pipes, and on sound devices that are stubs of their streams.
"""

import re
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from ravecodec.audio import Audio
from ravecodec.cli import main
from ravecodec.codec import Decoder
from ravecodec.errors import InputError, UsageError
from ravecodec.live import OFFSET_HZ, Live, LiveFrames
from ravecodec.models.clock import Clock
from ravecodec.models.config import ModelConfig
from ravecodec.models.live import LiveDecoder, LiveEncoder
from ravecodec.models.package import Model, load_package
from ravecodec.quantize import Quantizer

Music = Callable[..., Audio]

SMALL = {
    "encoder": "spectrogram",
    "generator": "istft",
    "capacity": 4,
    "latent": 16,
    "lines": 128,
}
CONFIGS = {
    "causal": ModelConfig(channels=2, causal=True, lookahead=700, **SMALL),
    "causal-mono": ModelConfig(causal=True, noise=False, **SMALL),
    "spectral": ModelConfig(channels=2, **SMALL),
    "slow": ModelConfig(channels=2, ratios=(4, 4, 4, 4), **SMALL),
    "paper": ModelConfig(capacity=4, latent=8),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., None]) -> Any:
    """The configs' models by name, loaded, with loud heads."""
    folder, found = tmp_path_factory.mktemp("live"), {}
    for name, config in CONFIGS.items():
        make_model(folder / f"{name}.safetensors", config)
        found[name] = load_package(folder / f"{name}.safetensors")
        generator = found[name].network.generator
        if config.generator == "istft":
            torch.nn.init.normal_(generator.line_head.weight, std=0.3)
            torch.nn.init.constant_(generator.line_head.bias, -3.0)
    return found


def in_pieces(audio: Audio, sizes: list[int]) -> list[Audio]:
    """Cut at sizes that are gone through again and again."""
    places = np.cumsum(np.resize(sizes, 1 + audio.shape[1] // max(1, min(s for s in sizes if s))))
    return np.split(audio, places[places < audio.shape[1]], axis=1)


def played(live: Live, audio: Audio, sizes: list[int]) -> Audio:
    parts = [live.process(piece) for piece in in_pieces(audio, sizes)]
    lengths = [part.shape[1] for part in parts]
    assert lengths == [piece.shape[1] for piece in in_pieces(audio, sizes)]
    return np.concatenate(parts, axis=1)


def without_offset(audio: Audio, rate: int) -> Audio:
    """The high-pass, sample by sample."""
    decay, mean, out = np.exp(-2 * np.pi * OFFSET_HZ / rate), np.zeros(len(audio)), []
    for x in audio.T.astype(np.float64):
        mean = decay * mean + (1 - decay) * x
        out.append(x - mean)
    return np.array(out, np.float32).T


def whole(live: Live, audio: Audio) -> Audio:
    """What the model makes of audio at once: zeros before it, the first frame held before that, and
    no sound behind it."""
    network, model, hop = live.model.network, live.model, live.model.config.hop
    audio = without_offset(audio, live.sample_rate)
    reach, past = network.encoder_reach, network.decoder_reach.past
    padded = np.pad(audio, ((0, 0), (reach.past * hop, (reach.future + 4) * hop)))
    padded = padded[:, : padded.shape[1] // hop * hop]
    with torch.inference_mode():
        means = network.encode(torch.from_numpy(padded)[None])[0][0].T.numpy()[reach.past :]
        point = (live.info.dims, live.info.step_index, live.info.noise_fill)
        quantizer = Quantizer(model.latent, model.coding, *point)
        values = quantizer.axes(means).astype(np.float32).astype(np.float64)
        latents = quantizer.filled(values, 0, live.info.seed)
        latents = np.concatenate([np.repeat(latents[:1], past, axis=0), latents])
        z = torch.from_numpy(np.ascontiguousarray(latents.T))[None]
        sound = network.decode(z, Clock.at(-past, live.info.seed))[0].numpy()
    return np.asarray(sound[:, past * hop :][:, : audio.shape[1]])


def close(a: Audio, b: Audio) -> bool:
    return bool(np.abs(a - b).max() <= 1e-4 * max(1.0, np.abs(b).max()))


def test_it_is_the_model_delayed_by_its_latency(models: dict[str, Model], music: Music) -> None:
    """For networks that look ahead and such that do not, and for blocks of several frames."""
    for name, model in models.items():
        hop = model.config.hop
        audio = music(9 * hop + 123, model.config.channels, 48_000)
        for block in (hop, 2 * hop):
            live = Live(model, block=block, seed=7)
            late = live.latency
            silence = np.zeros((model.config.channels, late), np.float32)
            heard = played(live, np.concatenate([audio, silence], axis=1), [1000, 1, 3000])
            assert not heard[:, :late].any(), name
            wanted = whole(live, audio)
            assert np.abs(wanted).max() > 1e-3
            # beyond the end the two see different silence
            same = 8 * hop - model.network.encoder_lookahead
            assert close(heard[:, late : late + same], wanted[:, :same]), (name, block)


def test_latency_is_the_block_and_what_the_networks_look_ahead(models: dict[str, Model]) -> None:
    live = Live(models["causal"])
    assert (live.block, live.encoder_latency, live.decoder_latency) == (2048, 2047 + 700, 432)
    assert live.latency == 2047 + 700 + 432
    assert live.latency_ms == pytest.approx(1000 * live.latency / 48_000)
    assert Live(models["causal"], block=8192).latency == live.latency + 6144
    assert Live(models["causal-mono"]).latency == 2047 + 432
    ahead = 4 * 2048 + 432  # its generator sees four frames ahead
    assert Live(models["spectral"]).latency == 2047 + 3584 + ahead


def test_a_change_is_heard_as_soon_as_its_frame_is_known(
    models: dict[str, Model], music: Music
) -> None:
    """No sample before a change differs; where it is the last one that a frame sees, those that
    come right behind it do."""
    live = Live(models["causal"])
    hop, audio = 2048, music(10 * 2048, 2, 48_000)
    before = played(live, audio, [hop])
    first = 5 * hop + 700 - 1  # the last sample that frame 4 sees
    changed = audio.copy()
    changed[:, first:] *= -0.5
    live.reset()
    after = played(live, changed, [hop])
    moved = int((before != after).any(0).argmax())
    assert first <= moved <= first + 300  # windows and filters begin faintly


def test_samples_do_not_depend_on_how_the_audio_is_cut(
    models: dict[str, Model], music: Music
) -> None:
    for name in ("causal", "slow", "paper"):
        model = models[name]
        live = Live(model)
        audio = music(5 * model.config.hop + 77, live.channels, 48_000)
        once = live.process(audio)
        for sizes in ([1, 0, 4096, 17], [64], [2048], [2047, 2049]):
            live.reset()
            assert np.array_equal(played(live, audio, sizes), once), (name, sizes)


def test_encode_and_decode_are_the_halves_of_process(
    models: dict[str, Model], music: Music
) -> None:
    for name in ("causal", "slow"):
        live = Live(models[name], block=2 * models[name].config.hop)
        audio = music(9 * live.block, 2, 48_000)
        whole = live.process(audio)
        live.reset()
        parts = [live.encode(piece) for piece in in_pieces(audio, [3000, 5])]
        values, silent = (np.concatenate(part) for part in zip(*parts, strict=True))
        assert values.dtype == np.float32 and values.shape == (len(silent), live.dims)
        done = live.decode(values[:1], silent[:1]), live.decode(values[1:], silent[1:])
        assert done[0].shape == (2, 0)  # half a block
        begun = live.encoder_latency
        assert np.array_equal(done[1][:, : audio.shape[1] - begun], whole[:, begun:])


def test_decoding_is_the_codecs_own(models: dict[str, Model]) -> None:
    """Frames as `Decoder` plays them, without a lead-in: it holds the first one too."""
    random = np.random.default_rng(3)
    for name, model in models.items():
        live = Live(model, seed=5)
        values = random.standard_normal((12, live.dims)).astype(np.float32)
        values *= model.latent.deviation[: live.dims].astype(np.float32)
        decoder = Decoder(model, live.info)
        info = live.info
        point = (info.dims, info.step_index, info.noise_fill)
        quantizer = Quantizer(model.latent, model.coding, *point)
        latents = quantizer.filled(values.astype(np.float64), 0, info.seed)
        length = 12 * model.config.hop
        parts = [*decoder.process_latents(latents), *decoder.flush(length)]
        wanted = np.concatenate(parts, axis=1)
        heard = np.concatenate([live.decode(row[None]) for row in values], axis=1)
        late = live.decoder_latency
        known = (11 - model.network.decoder_reach.future) * model.config.hop
        assert heard.shape == wanted.shape
        assert not heard[:, :late].any()
        assert close(heard[:, late : late + known], wanted[:, :known]), name


def test_going_on_is_decoding_again(models: dict[str, Model]) -> None:
    """A causal generator that goes on from its columns does what decoding windows does."""
    for name in ("causal", "causal-mono"):
        network = models[name].network
        for frames in (1, 3):
            onwards, again = (LiveDecoder(network, frames, 2) for _ in range(2))
            again._generator = None
            for seed in range(4):
                random = torch.Generator().manual_seed(seed)
                z = torch.randn(1, network.config.latent, frames, generator=random)
                with torch.inference_mode():
                    one, other = onwards.audio(z), again.audio(z)
                assert float((one - other).abs().max()) < 1e-4 * float(other.abs().max()), name


def test_the_encoder_sees_as_much_as_it_says(models: dict[str, Model]) -> None:
    for name, model in models.items():
        encoder = LiveEncoder(model.network, 2)
        hop = model.config.hop
        audio = torch.randn(1, model.config.channels, encoder.samples + 8 * hop)
        start = (hop - encoder.past) % hop  # so that the frames lie on whole hops
        window = audio[..., start : start + encoder.samples]
        frames = slice((start + encoder.past) // hop, (start + encoder.past) // hop + 2)
        with torch.inference_mode():
            cut = audio[..., : audio.shape[2] // hop * hop]
            wanted = model.network.encode(cut)[0][..., frames]
            found = encoder.means(window)
        assert float((found - wanted).abs().max()) < 1e-4 * float(wanted.abs().max()), name


def test_state_is_saved_and_restored(
    models: dict[str, Model], music: Music, tmp_path: Path
) -> None:
    """Through a file, in another object, at any place: before the first block, within one."""
    for name in ("causal", "spectral"):
        model = models[name]
        audio = music(7 * 2048, 2, 48_000)
        first = Live(model)
        whole = first.process(audio)
        for place in (0, 100, 3 * 2048 + 5):
            first.reset()
            first.process(audio[:, :place])
            np.savez(tmp_path / "state.npz", **first.state())
            second = Live(model)
            with np.load(tmp_path / "state.npz") as state:
                second.restore(state)
            for live in (first, second):
                assert np.array_equal(live.process(audio[:, place:]), whole[:, place:]), name


def test_states_of_others_are_refused(models: dict[str, Model], music: Music) -> None:
    live = Live(models["causal"])
    live.process(music(5000, 2, 48_000))
    state = live.state()
    others = [Live(models["spectral"]), Live(models["causal"], block=4096)]
    others += [Live(models["causal"], seed=1), Live(models["causal"], channels=1)]
    for other in others:
        with pytest.raises(UsageError, match="the state is of model"):
            other.restore(state)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"window": np.zeros((2, 3), np.float32)}, "the state's window is float32 of shape"),
        ({"queue": state["queue"].astype(np.float64)}, "the state's queue is float64 of shape"),
        ({"more": np.zeros(1)}, "more is one"),
        ({"numbers": np.array([1, 2, 3, 4, 5])}, "numbers do not fit"),
        ({"decoder.level0": np.zeros(3, np.float32)}, "the state's decoder.level0 is"),
    ]
    for changes, said in bad:
        with pytest.raises(UsageError, match=said):
            live.restore(state | changes)
    with pytest.raises(UsageError, match="other entries than expected: window"):
        live.restore({name: array for name, array in state.items() if name != "window"})


def test_silence_is_silent_and_sound_comes_back(models: dict[str, Model], music: Music) -> None:
    live = Live(models["causal"])
    hop = 2048
    sound = music(4 * hop, 2, 48_000)
    silence = np.zeros((2, 40 * hop), np.float32)
    heard = live.process(np.concatenate([sound, silence, sound, sound], axis=1))
    assert heard[:, live.latency : 4 * hop].any()
    assert not heard[:, 40 * hop : 44 * hop].any()
    assert np.abs(heard[:, -2 * hop :]).max() > 1e-3


def test_mono_and_stereo_fit_each_other(models: dict[str, Model], music: Music) -> None:
    audio = music(8 * 2048, 1, 48_000)
    mono = Live(models["causal"], channels=1).process(audio)
    stereo = Live(models["causal"]).process(np.repeat(audio, 2, axis=0))
    assert mono.shape == audio.shape
    assert np.array_equal(mono[0], stereo.mean(0, dtype=np.float32))
    both = Live(models["paper"], channels=2).process(np.repeat(audio, 2, axis=0))
    assert np.array_equal(both[0], both[1])


def test_what_is_held_does_not_grow(models: dict[str, Model], music: Music) -> None:
    """Bytes of Python and numpy after 4 and after 28 blocks."""
    for name in ("causal", "spectral"):
        live, audio = Live(models[name]), music(2048, 2, 48_000)
        sizes = []
        tracemalloc.start()
        for count in (4, 24):
            for _ in range(count):
                live.process(audio)
            sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        held = sum(array.nbytes for array in live.state().values())
        assert sizes[1] - sizes[0] < 20_000, name
        live.process(audio)
        assert sum(array.nbytes for array in live.state().values()) == held


def test_what_it_cannot_be_or_take(models: dict[str, Model], music: Music) -> None:
    model = models["causal"]
    options: list[tuple[dict[str, Any], str]] = [
        ({"block": 1000}, "the block is 1000 samples, expected a multiple of the model's hop"),
        ({"block": 0}, "the block is 0 samples"),
        ({"block": 1 << 19}, "the block is 524288 samples"),
        ({"block": 2048.0}, "the block is 2048.0, expected a whole number"),
        ({"channels": 3}, "channels are 3, expected 1 or 2"),
        ({"dims": 0}, "dims is 0"),
        ({"dims": 4, "fidelity": 0.5}, "fidelity and dims are both given"),
        ({"seed": -1}, "the seed is -1"),
    ]
    for changes, said in options:
        with pytest.raises(UsageError, match=said):
            Live(model, **changes)
    with pytest.raises(UsageError, match="model is of type int"):
        Live(3)  # type: ignore[arg-type]
    live = Live(model)
    good = music(100, 2, 48_000)
    audio: list[tuple[Any, str]] = [
        (good[:1], "has 1 channels, expected 2"),
        (good.astype(np.int16), "int16, expected floats"),
        (np.full((2, 9), np.nan), "holds nan at sample 0"),
        (np.zeros((2, 2, 2)), "of shape"),
    ]
    for samples, said in audio:
        with pytest.raises(InputError, match=said):
            live.process(samples)
    live.process(torch.from_numpy(good))
    with pytest.raises(UsageError, match="encode and decode after process"):
        live.encode(good)
    live.reset()
    rows = np.zeros((2, live.dims), np.float32)
    frames: list[tuple[Any, Any, str]] = [
        (rows[:, :3], None, "expected real numbers"),
        (rows + np.nan, None, "holds nan at frame 0, axis 0"),
        (rows, np.zeros(3, np.bool_), "silent is bool of shape"),
        (rows, np.zeros(2), "silent is float64"),
    ]
    for values, silent, said in frames:
        with pytest.raises(InputError, match=said):
            live.decode(values, silent)
    assert isinstance(live.encode(good), LiveFrames)
    with pytest.raises(UsageError, match="process after encode and decode"):
        live.process(good)


def test_fewer_axes_are_filled_with_noise(models: dict[str, Model], music: Music) -> None:
    audio = music(8 * 2048, 2, 48_000)
    heard = [Live(models["causal"], dims=3, seed=seed).process(audio) for seed in (0, 0, 1)]
    assert np.array_equal(heard[0], heard[1]) and not np.array_equal(heard[0], heard[2])


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture
def live_model(tmp_path: Path, make_model: Callable[..., None]) -> Path:
    path = tmp_path / "back.safetensors"
    make_model(path, CONFIGS["causal"])
    return path


def cli(*args: object, data: bytes = b"") -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], input=data)


def test_pcm_goes_through_a_pipe(live_model: Path, music: Music) -> None:
    """The bytes are those of `process`, in both formats; the last line is true."""
    audio = music(9 * 2048 + 100, 2, 48_000)
    live = Live(live_model)
    integers = np.rint(audio * 32768).clip(-32768, 32767).astype("<i2")
    for form, data, given in (
        ("16", integers.T.tobytes(), integers / np.float32(32768)),
        ("float", audio.T.astype("<f4").tobytes(), audio),
    ):
        done = cli("live", "--model", live_model, "--format", form, data=data)
        assert done.exit_code == 0, done.stderr
        live.reset()
        wanted = live.process(given)
        if form == "16":
            wanted = np.rint(wanted * 32768).clip(-32768, 32767).astype("<i2")
        assert done.stdout_bytes == wanted.T.tobytes()
        assert f"latency {live.latency_ms:.1f} ms ({live.latency} samples)" in done.stderr
        assert "longest block" in done.stderr and "0 underruns" in done.stderr


def test_pipes_that_end_where_they_should_not_or_are_told_to(live_model: Path) -> None:
    call = ("live", "--model", live_model)
    done = cli(*call, data=bytes(4000 * 4 + 3))
    assert done.exit_code == 3
    assert "standard input: ends 3 bytes into a sample of 4" in done.stderr
    assert len(done.stdout_bytes) == 4000 * 4  # what was whole is played
    done = cli(*call, "--duration", "3000s", "--raw-channels", 1, "-q", data=bytes(9000))
    assert (done.exit_code, len(done.stdout_bytes), done.stderr) == (0, 6000, "")
    for option, value, said in (
        ("--raw-rate", 44_100, "the raw rate is 44100 Hz, expected 48000 Hz"),
        ("--block", 100, "the block is 100 samples"),
        ("--duration", "x", "the duration is 'x'"),
        ("--raw-channels", 3, "channels are 3"),
    ):
        done = cli(*call, option, value)
        assert done.exit_code == 2 and said in done.stderr
    infinite = np.full(8, np.inf, "<f4").tobytes()
    done = cli(*call, "--format", "float", data=infinite)
    assert done.exit_code == 3 and "holds inf" in done.stderr


class PortAudioError(Exception):
    """As sounddevice has it."""


class Stream:
    """What is used of sounddevice.Stream: it hears `sound`, and keeps what it plays. It runs dry at
    its third block."""

    sound: Audio
    opened: dict[str, Any]
    played: list[Audio]
    ends = False  # with Ctrl-C, at the end of the sound
    latency = (0.01, 0.02)

    def __init__(self, **options: Any) -> None:
        if options["device"][0] == "no such":
            raise ValueError("No input device matching 'no such'")
        if options["device"][0] == 99:
            raise PortAudioError("Invalid device", -9996)
        type(self).opened, type(self).played = options, []
        self._at = 0

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, count: int) -> tuple[Audio, bool]:
        if self._at + count > self.sound.shape[1] and self.ends:
            raise KeyboardInterrupt
        part = self.sound[:, self._at : self._at + count]
        self._at += count
        return part.T, False

    def write(self, audio: Audio) -> bool:
        self.played.append(audio.copy())
        return len(self.played) == 3


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch, music: Music) -> type[Stream]:
    """A stub in place of the package sounddevice."""
    package = ModuleType("sounddevice")
    package.PortAudioError, package.Stream = PortAudioError, Stream  # type: ignore[attr-defined]
    package.query_devices = lambda: "  0 Stub, (2 in, 2 out)"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", package)
    Stream.sound, Stream.ends = music(6 * 2048, 2, 48_000), False
    return Stream


def test_sound_devices_are_played(live_model: Path, devices: type[Stream]) -> None:
    """With a stub of the stream of sounddevice: no device is opened here."""
    live = Live(live_model)
    wanted = live.process(Stream.sound).clip(-1, 1)
    call = ("live", "--model", live_model, "--audio-in", "3")
    for more, ends in ((("--duration", f"{6 * 2048}s"), False), ((), True)):
        devices.ends = ends
        done = cli(*call, *more)
        assert done.exit_code == 0, done.stderr
        assert devices.opened["device"] == (3, None)
        assert (devices.opened["samplerate"], devices.opened["channels"]) == (48_000, 2)
        assert not devices.played[0].any()
        assert np.array_equal(np.concatenate(devices.played[1:]).T, wanted)
        assert "and 30.0 ms of the devices" in done.stderr
        assert re.search(r"\b1 underrun\b", done.stderr)
    assert "0 Stub" in cli("live", "--list-audio").stdout


def test_devices_that_are_not_there(
    live_model: Path, devices: type[Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, said in (("no such", "No input device matching"), ("99", "Invalid device")):
        done = cli("live", "--model", live_model, "--audio-in", name)
        assert done.exit_code == 2 and said in done.stderr
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    done = cli("live", "--audio-out", "default")
    assert done.exit_code == 2 and "pip install 'ravecodec[live]'" in done.stderr
