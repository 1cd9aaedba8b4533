"""`Live`: a model as an effect, sample by sample, for sound that is computed while it is played.

    live = Live("strings-live")               output = live.process(samples)
    frames = live.encode(samples)             output = live.decode(frames.values, frames.silent)

As many samples come out as go in, `live.latency` later. Nothing is quantised and the loudness of
the input is not followed, for that takes a second; otherwise it is timbre transfer. The network
computes blocks at fixed places of the stream, so that the samples do not depend on how the audio
was cut. Memory does not grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ravecodec.arrays import as_audio, as_numpy
from ravecodec.audio import MAX_CHANNELS, Audio, match_channels
from ravecodec.encoding import header_for
from ravecodec.errors import InputError, UsageError
from ravecodec.latents import Values, checked_values
from ravecodec.loading import model_to_encode
from ravecodec.point import Point, whole

if TYPE_CHECKING:  # imports torch
    from ravecodec.models.package import Model

Flags = NDArray[np.bool_]  # [frames]

# An offset is taken off by a high-pass of first order: one of finite length without phase, as
# `encode` has it, would take a third of a second.
OFFSET_HZ = 5.0
MOST_BLOCK = 1 << 18  # samples that the network computes at a time
FORMS = ("", "process", "encode and decode")  # how an object is used


class LiveFrames(NamedTuple):
    """Frames of latents. values: float32 [frames, dims], one column per axis; silent: bool
    [frames], whether all that the encoder saw of a frame is digital silence."""

    values: Values
    silent: Flags

    def part(self, first: int, last: int | None = None) -> LiveFrames:
        """Frames first .. last - 1."""
        return LiveFrames(self.values[first:last], self.silent[first:last])

    def joined(self, other: LiveFrames) -> LiveFrames:
        """These frames and those of `other` behind them."""
        values = np.concatenate([self.values, other.values])
        return LiveFrames(values, np.concatenate([self.silent, other.silent]))


class Live:
    """A model that is played through.

    block: samples that the network computes at a time, a multiple of the model's hop and by default
    one hop; more is faster and later. channels: of the audio that goes in and comes out, by default
    the model's. fidelity or dims, or a point: how many axes are kept, as for `transfer`; the others
    are filled with noise of the prior. seed: of the noise. model, device, threads: as for
    `load_model`.

    Use an object either for `process` or for `encode` and `decode`; `reset` is between them.
    UsageError for options that do not fit the model or each other, ModelError as for `load_model`.
    """

    def __init__(
        self,
        model: str | Path | Model | None = None,
        *,
        block: int | None = None,
        channels: int | None = None,
        fidelity: float | None = None,
        dims: int | None = None,
        point: Point | None = None,
        seed: int = 0,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        from ravecodec.models.live import LiveDecoder, LiveEncoder
        from ravecodec.quantize import quantizer_of

        point = Point.of(point, fidelity=fidelity, dims=dims)
        self.model = model_to_encode(model, point, device, threads)
        config = self.model.config
        self.block = _checked_block(block, config.hop)
        self.channels = _checked_channels(channels, config.channels)
        self.info = header_for(self.model, config.sample_rate, self.channels, point, seed)
        info, frames = self.info, self.block // config.hop
        self._quantizer = quantizer_of(self.model, info)
        self._encoder = LiveEncoder(self.model.network, frames)
        self._decoder = LiveDecoder(self.model.network, frames, info.seed)
        self._pending: LiveFrames  # frames that `decode` was given and that fill no block yet
        self._none = LiveFrames(np.zeros((0, info.dims), np.float32), np.zeros(0, np.bool_))
        self._late = -(-self._decoder.delay // config.hop)  # frames
        decay = np.exp(-2 * np.pi * OFFSET_HZ / config.sample_rate)
        self._decay = decay ** np.arange(self.block + self._encoder.lookahead + 1)
        self._kinds = self._warmed_up()
        self.reset()

    # ---- what it is ------------------------------------------------------------------------------

    @property
    def sample_rate(self) -> int:
        """Hz, of all audio here: the model's."""
        return self.model.config.sample_rate

    @property
    def dims(self) -> int:
        """Axes of a frame of `encode` and `decode`."""
        return self.info.dims

    @property
    def encoder_latency(self) -> int:
        """Samples by which the first sample of a block lies behind the one that completes it."""
        return self.block - 1 + self._encoder.lookahead

    @property
    def decoder_latency(self) -> int:
        """Samples by which what `decode` puts out is behind the frames that it is given."""
        return self._decoder.delay

    @property
    def latency(self) -> int:
        """Samples by which what `process` puts out is behind what goes in, from the block and the
        receptive fields of the network."""
        return self.encoder_latency + self.decoder_latency

    @property
    def latency_ms(self) -> float:
        """`latency` in milliseconds."""
        return 1000 * self.latency / self.sample_rate

    # ---- what it does ----------------------------------------------------------------------------

    def process(self, samples: ArrayLike) -> Audio:
        """Audio float [channels, n] or [n], any n, full scale +-1 -> float32 [channels, n], of what
        came `latency` samples earlier; zeros before the first sample.

        InputError for audio as `encode` refuses it, and where the model makes NaN or infinity of
        it.
        """
        self._use(1)
        audio = self._audio(samples)
        out, done = np.empty_like(audio), 0
        while done < audio.shape[1]:
            taken = self._take(audio[:, done:])
            if self._fill == self._window.shape[1]:
                self._queue_up(self._decoded(*self._encoded()))
            out[:, done : done + taken] = self._queued(taken)
            done += taken
        return out

    def encode(self, samples: ArrayLike) -> LiveFrames:
        """Audio as for `process` -> the frames that became complete, `block / hop` at a time.

        A frame is complete as soon as `encoder_latency` + 1 samples from the first one of its block
        on are there. InputError as for `process`.
        """
        self._use(2)
        audio, done = self._audio(samples), 0
        frames = [self._none]
        while done < audio.shape[1]:
            done += self._take(audio[:, done:])
            if self._fill == self._window.shape[1]:
                frames.append(self._encoded())
        return reduce(LiveFrames.joined, frames)

    def decode(self, values: ArrayLike, silent: ArrayLike | None = None) -> Audio:
        """Frames [n, dims] as `encode` makes them, any n -> float32 [channels, samples], `block`
        samples for every `block / hop` frames that became complete.

        The audio is `decoder_latency` samples behind the frames. silent: bool [n], frames to be
        decoded to zeros, by default none. InputError for other shapes, NaN and infinity.
        """
        self._use(2)
        frames = self._frames(values, silent)
        blocks, count = [np.zeros((self.channels, 0), np.float32)], self.block // self.info.hop
        pending = self._pending.joined(frames)
        while len(pending.values) >= count:
            blocks.append(self._decoded(*pending.part(0, count)))
            pending = pending.part(count)
        self._pending = pending
        return np.concatenate(blocks, axis=1)

    # ---- state -----------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forgets all input: the next sample is the first."""
        channels = self.model.config.channels
        self._form = 0
        self._window = np.zeros((channels, self._encoder.samples), np.float32)
        self._fill = self._encoder.past  # samples of the window that are known
        self._clean = self._fill  # samples of the window that are high-passed
        self._offset = np.zeros((channels, 1))
        self._queue = np.zeros((self.channels, self.encoder_latency + self.block), np.float32)
        self._count = self.encoder_latency  # of the queue's samples
        self._pending = self._none
        self._silence = np.ones(self._late, np.bool_)  # of the frames before the next ones
        self._decoder.reset()

    def state(self) -> dict[str, NDArray[Any]]:
        """All that `process`, `encode` and `decode` remember, as arrays that `numpy.savez` takes.

        With `restore` on an object of the same model and options it goes on from there, bit for
        bit.
        """
        tensors = self._decoder.tensors()
        held = {f"decoder.{name}": tensor.cpu().numpy().copy() for name, tensor in tensors.items()}
        return self._plain_state() | held

    def _plain_state(self) -> dict[str, NDArray[Any]]:
        numbers = (self._form, self._fill, self._clean, self._count, self._decoder.frame)
        return {
            "who": np.array(self._who()),
            "numbers": np.array(numbers, np.int64),
            "window": self._window.copy(),
            "offset": self._offset.copy(),
            "queue": self._queue.copy(),
            "pending": self._pending.values.copy(),
            "pending_silent": self._pending.silent.copy(),
            "silence": self._silence.copy(),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back a state that `state` returned. UsageError for the state of another object."""
        import torch

        given = {name: np.asarray(state[name]) for name in state}
        if (who := str(given.get("who"))) != self._who():
            raise UsageError(f"the state is of {who}, expected {self._who()}")
        self._check_state(given)
        numbers = (int(n) for n in given["numbers"])
        self._form, self._fill, self._clean, self._count, frame = numbers
        for name in ("window", "offset", "queue", "silence"):
            setattr(self, f"_{name}", given[name].copy())
        self._pending = LiveFrames(given["pending"].copy(), given["pending_silent"].copy())
        held = {name: given[f"decoder.{name}"].copy() for name in self._kinds if frame}
        tensors = {name: torch.from_numpy(array) for name, array in held.items()}
        self._decoder.restore(frame, tensors)

    def _who(self) -> str:
        """What two objects have in common that can take over each other's state."""
        info = self.info
        options = f"block {self.block}, channels {self.channels}, dims {info.dims}"
        return f"model {self.model.id.hex()}, {options}, seed {info.seed}"

    def _check_state(self, given: Mapping[str, NDArray[Any]]) -> None:
        kinds = {name: (array.shape, array.dtype) for name, array in self._plain_state().items()}
        begun = given.get("numbers", np.zeros(5))[-1:].any()
        kinds |= {f"decoder.{name}": kind for name, kind in self._kinds.items() if begun}
        if odd := sorted(kinds.keys() ^ given.keys()):
            raise UsageError(f"the state has other entries than expected: {odd[0]} is one")
        for name, (shape, dtype) in kinds.items():
            free = name.startswith("pending")  # of any length
            array = given[name]
            same = array.shape[free:] == shape[free:] and array.ndim == len(shape)
            if not same or array.dtype != dtype:
                what = f"{array.dtype} of shape {array.shape}, expected {dtype} of shape {shape}"
                raise UsageError(f"the state's {name} is {what}")
        form, fill, clean, count, _ = given["numbers"]
        fits = self._encoder.past <= clean <= fill < self._encoder.samples
        if not fits or form not in range(len(FORMS)) or not 0 <= count <= self._queue.shape[1]:
            raise UsageError("the state's numbers do not fit its arrays")

    def _warmed_up(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and dtype of all that the decoder remembers; what torch does at first is done."""
        self.reset()
        self._decoded(*self._encoded())
        return {
            name: (tuple(tensor.shape), tensor.cpu().numpy().dtype)
            for name, tensor in self._decoder.tensors().items()
        }

    # ---- parts -----------------------------------------------------------------------------------

    def _use(self, form: int) -> None:
        if self._form not in (0, form):
            raise UsageError(
                f"{FORMS[form]} after {FORMS[self._form]}, expected the same use up to `reset`"
            )
        self._form = form

    def _audio(self, samples: ArrayLike) -> Audio:
        """float32 [channels, n]."""
        audio = as_audio(as_numpy(samples), self.sample_rate, 1.0)
        if len(audio) != self.channels:
            raise InputError(f"audio: has {len(audio)} channels, expected {self.channels}")
        return audio

    def _frames(self, values: ArrayLike, silent: ArrayLike | None) -> LiveFrames:
        rows = checked_values(values, "frames", self.dims)
        flags = np.zeros(len(rows), np.bool_) if silent is None else np.asarray(as_numpy(silent))
        if flags.shape != (len(rows),) or flags.dtype != np.bool_:
            found = f"{flags.dtype} of shape {flags.shape}"
            raise InputError(f"latents: silent is {found}, expected bool [{len(rows)}]")
        return LiveFrames(rows, flags)

    def _take(self, audio: Audio) -> int:
        """Puts what the window has room for into it; how many samples that is."""
        count = min(audio.shape[1], self._window.shape[1] - self._fill)
        known = match_channels(audio[:, :count], len(self._window))
        self._window[:, self._fill : self._fill + count] = known
        self._fill += count
        return count

    def _encoded(self) -> LiveFrames:
        """The frames of a full window, which then moves on by a block."""
        import torch

        from ravecodec.analysis import SILENCE
        from ravecodec.device import device_of

        new = self._window[:, self._clean :]
        new[:] = self._without_offset(new)
        window = torch.from_numpy(self._window)[None].to(device_of(self.model.network))
        with torch.inference_mode():
            means = self._encoder.means(window)[0].T.float().cpu().numpy()
        loud = np.flatnonzero((np.abs(self._window) > SILENCE).any(0))
        hop, seen = self.model.config.hop, self._encoder.samples - self.block
        starts = hop * np.arange(len(means))
        loud_samples = np.searchsorted(loud, starts + seen + hop) - np.searchsorted(loud, starts)
        self._window[:, : -self.block] = self._window[:, self.block :]
        self._fill -= self.block
        self._clean = self._fill
        return LiveFrames(self._quantizer.axes(means).astype(np.float32), loud_samples == 0)

    def _without_offset(self, audio: Audio) -> NDArray[np.float64]:
        """Less its exponential mean, y[n] = x[n] - m[n] with m[n] = a m[n - 1] + (1 - a) x[n]."""
        powers = self._decay[1 : audio.shape[1] + 1]
        gathered = np.cumsum(audio / powers, axis=1) * (1 - self._decay[1])
        mean = powers * (self._offset + gathered)
        self._offset = mean[:, -1:]
        return audio - mean

    def _decoded(self, values: Values, silent: Flags) -> Audio:
        """Audio float32 [channels, block], `decoder_latency` samples behind these frames."""
        import torch

        from ravecodec.device import device_of

        frame, hop = self._decoder.frame, self.model.config.hop
        latents = self._quantizer.filled(values.astype(np.float64), frame, self.info.seed)
        z = torch.from_numpy(np.ascontiguousarray(latents.T))[None]
        z = z.to(device_of(self.model.network))
        with torch.inference_mode():
            audio = self._decoder.audio(z)[0].float().cpu().numpy()
        flags = np.concatenate([self._silence, silent])
        self._silence = flags[len(silent) :]
        first = self._late * hop - self._decoder.delay
        audio = np.where(np.repeat(flags, hop)[first : first + self.block], np.float32(0), audio)
        if not np.isfinite(audio).all():
            raise InputError("the model makes NaN or infinity of this sound, expected audio")
        return match_channels(audio, self.channels)

    def _queue_up(self, audio: Audio) -> None:
        self._queue[:, self._count : self._count + audio.shape[1]] = audio
        self._count += audio.shape[1]

    def _queued(self, count: int) -> Audio:
        """The next samples of the output."""
        audio = self._queue[:, :count].copy()
        self._count -= count
        self._queue[:, : self._count] = self._queue[:, count : count + self._count]
        return audio


def _checked_block(block: int | None, hop: int) -> int:
    if block is None:
        return hop
    block = whole(block, "the block")
    if block % hop or not 0 < block <= MOST_BLOCK:
        raise UsageError(
            f"the block is {block} samples, expected a multiple of the model's hop of {hop}, at "
            f"most {MOST_BLOCK}"
        )
    return block


def _checked_channels(channels: int | None, own: int) -> int:
    if channels is None:
        return own
    channels = whole(channels, "the number of channels")
    if not 1 <= channels <= MAX_CHANNELS:
        raise UsageError(f"channels are {channels}, expected 1 or {MAX_CHANNELS}")
    return channels
