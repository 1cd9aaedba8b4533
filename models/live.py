"""Encoder and generator as streams of short blocks, for sound that is computed while it is played.

`LiveEncoder` has in hand what the encoder sees beside a block, `LiveDecoder` what the generator
sees. A generator that looks only back (`config.causal`) goes on where it stopped: its blocks keep
the columns that they saw last, so that every column is computed once. Another one decodes a window
again for every block. Both give what the whole network gives, up to the rounding of floats.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ravecodec.models.clock import Clock
from ravecodec.models.config import STEP
from ravecodec.models.istft import LINE_COLUMNS, NOISE_COLUMNS, IstftGenerator, Past
from ravecodec.models.rave import Rave
from ravecodec.models.spectrogram import LONG, SpectrogramEncoder


class LiveEncoder:
    """A window of audio [1, channels, past + frames * hop + lookahead] -> posterior means of the
    `frames` frames in it.

    past: samples before the first frame that the encoder may see; lookahead: those behind the last
    one.
    """

    def __init__(self, network: Rave, frames: int) -> None:
        hop, reach = network.config.hop, network.encoder_reach
        self._network = network
        # Without strides along time every frame can be computed by itself.
        spectral = isinstance(network.encoder, SpectrogramEncoder)
        self._alone = spectral and hop == STEP
        self.past = LONG if self._alone else reach.past * hop
        self.lookahead = max(0, network.encoder_lookahead)
        self.samples = self.past + frames * hop + self.lookahead

    def means(self, window: Tensor) -> Tensor:
        """[1, latent, frames]."""
        network, hop = self._network, self._network.config.hop
        if self._alone:
            mean: Tensor = network.encoder(window, (self.past, self.lookahead))[0]
            return mean
        whole = F.pad(window, (0, -self.lookahead % hop))
        first, last = self.past // hop, (window.shape[-1] - self.lookahead) // hop
        return network.encode(whole)[0][..., first:last]


class LiveDecoder:
    """Latents [1, latent, frames] -> audio [1, channels, frames * hop], block by block.

    The audio is `delay` samples behind: it ends so many before the end of the frames that were fed.
    What comes before the first frame is decoded as if that had been held, as the codec's decoder
    does. seed: of the noise.
    """

    def __init__(self, network: Rave, frames: int, seed: int) -> None:
        self._network, self._frames, self._seed = network, frames, seed
        self.delay = network.decoder_lookahead
        self._device = next(network.parameters()).device
        generator = network.generator
        self._generator: IstftGenerator | None = None
        if network.config.causal and isinstance(generator, IstftGenerator):
            self._generator = generator
        self.reset()

    def reset(self) -> None:
        """Forget all; what is fed next is frame 0."""
        self.frame = 0
        self._held: dict[str, Tensor] = {}

    def tensors(self) -> dict[str, Tensor]:
        """With `frame` all that is remembered; empty before the first frame."""
        return self._held

    def restore(self, frame: int, tensors: Mapping[str, Tensor]) -> None:
        """Takes back what `frame` and `tensors` were at some moment."""
        self.frame = frame
        self._held = {name: tensor.to(self._device) for name, tensor in tensors.items()}

    def audio(self, z: Tensor) -> Tensor:
        """Audio of the next `frames` frames."""
        audio = self._again(z) if self._generator is None else self._onwards(self._generator, z)
        self.frame += self._frames
        return audio

    def _again(self, z: Tensor) -> Tensor:
        """Decodes all that the generator sees of a block."""
        hop, past = self._network.config.hop, self._network.decoder_reach.past
        before = past + -(-self.delay // hop)  # frames
        held = self._held.get("latents", z[..., :1].expand(-1, -1, before))
        window = torch.cat([held, z], 2)
        self._held = {"latents": window[..., -before:]}
        audio = self._network.decode(window, self._clock(self.frame - before))
        end = window.shape[2] * hop - self.delay
        return audio[..., end - self._frames * hop : end]

    def _onwards(self, generator: IstftGenerator, z: Tensor) -> Tensor:
        """Computes new columns alone; the excitations begin a frame earlier, because their windows
        overlap."""
        if not self._held:
            first = z[..., :1].expand(-1, -1, self._network.decoder_reach.past)
            self._amplitudes(generator, first)
        before, held = self._held, self._amplitudes(generator, z)
        lines = torch.cat([before["lines"], held["lines"]], 3)
        noise = torch.cat([before["noise"], held["noise"]], 3) if generator.config.noise else None
        bands = generator.excited(lines, noise, self._clock(self.frame - 1))
        hop = self._network.config.hop
        audio = self._network.pqmf.synthesis(bands)
        return audio[..., hop - self.delay : (1 + self._frames) * hop - self.delay]

    def _amplitudes(self, generator: IstftGenerator, z: Tensor) -> dict[str, Tensor]:
        """Log amplitudes of new frames; what is held becomes their last columns."""
        past: Past = {
            int(name.removeprefix("level")): tensor
            for name, tensor in self._held.items()
            if name.startswith("level")
        }
        lines, noise = generator.amplitudes(z, past)
        found = {"lines": lines} if noise is None else {"lines": lines, "noise": noise}
        columns = {"lines": LINE_COLUMNS, "noise": NOISE_COLUMNS}
        self._held = {name: level[..., -columns[name] :] for name, level in found.items()}
        self._held |= {f"level{place}": tensor for place, tensor in past.items()}
        return found

    def _clock(self, frame: int) -> Clock:
        return Clock.at(frame, self._seed, self._device)
