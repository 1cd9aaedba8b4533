"""Faint sounds keep their level: the encoder is shown them as much louder as the decoder would
play them too quiet.

A network that was trained on music plays faint sounds too quiet (docs/evaluation.md has by how
much). What is lost shows when the latents of a block are decoded; the block is then encoded once
more with that gain. Only the encoder knows of it. It costs time, so it is done in faint passages
alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ravecodec.audio import Audio
from ravecodec.device import device_of
from ravecodec.models.clock import Clock
from ravecodec.models.package import Model

LOUD, FAINT = -40.0, -50.0  # dBFS: no gain above the first, all of it below the second
SILENT = -110.0  # dBFS, below which nothing is worth a gain
ROUNDS = 3  # of decoding and encoding
STEP = 0.7  # share of what is lost that a round gives back
TOLERANCE = 0.25  # dB of difference that are left alone
LEAST, MOST = -3.0, 12.0  # dB of gain

Levels = NDArray[np.float64]  # [frames], dB


def encoded(model: Model, window: Audio) -> tuple[Tensor, Tensor]:
    """Posterior means and spreads [1, latent, frames] of a window, float32 [channels, frames * hop]
    at the model's rate, whose faint passages will be decoded at the level that they have.
    """
    posterior = _encoded(model, window)
    wanted = _levels(window, model.config.hop)
    weight = np.clip((LOUD - wanted) / (LOUD - FAINT), 0, 1) * (wanted > SILENT)
    if not weight.any():
        return posterior
    gain = np.zeros(len(wanted))
    for _ in range(ROUNDS):
        output = decoded(model, posterior[0])[0].float().cpu().numpy()
        lost = wanted - _levels(output, model.config.hop)
        lost = np.sign(lost) * np.maximum(np.abs(lost) - TOLERANCE, 0)
        gain = np.clip(gain + STEP * weight * lost, LEAST, MOST)
        posterior = _encoded(model, window * _curve(gain, model.config.hop))
    return posterior


def _encoded(model: Model, window: Audio) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        audio = torch.from_numpy(window)[None].to(device_of(model.network))
        means, spreads = model.network.encode(audio)
    return means, spreads


def decoded(model: Model, latents: Tensor) -> Tensor:
    """What the generator makes of latents [1, latent, frames], [1, channels, frames * hop]. Beyond
    both ends it sees the outermost ones held, as in a decoder.
    """
    reach, frames, hop = model.network.decoder_reach, latents.shape[-1], model.config.hop
    device = latents.device
    places = torch.arange(-reach.past, frames + reach.future, device=device).clamp(0, frames - 1)
    with torch.inference_mode():
        output = model.network.decode(latents[..., places], Clock.at(-reach.past, 0, device))
    return output[..., reach.past * hop : (reach.past + frames) * hop]


def _levels(audio: Audio, hop: int) -> Levels:
    """Level of each frame with its two neighbours, dBFS."""
    power = np.square(audio, dtype=np.float64).reshape(len(audio), -1, hop).mean((0, 2))
    power = np.pad(power, 1, mode="edge")
    levels: Levels = 10 * np.log10((power[:-2] + power[1:-1] + power[2:]) / 3 + 1e-20)
    return levels


def _curve(gain: Levels, hop: int) -> NDArray[np.float32]:
    """Gains of frames, dB, as factors of samples: straight from one frame's middle to the next."""
    middles = (np.arange(len(gain)) + 0.5) * hop
    curve = 10 ** (np.interp(np.arange(len(gain) * hop), middles, gain) / 20)
    return curve.astype(np.float32)
