"""PQMF: the 16-band, critically sampled, near-perfect-reconstruction filter bank under both
networks.

RAVE, section 4.1 and App. B. Analysis filter k is the prototype p (385 taps, symmetric) on a
cosine: h_k[n] = 2 p[n] cos((2k+1) pi/32 (n - 192) +- pi/4); synthesis filters are the time-reversed
ones. The prototype comes out of scripts/design_pqmf.py: distortion plus aliasing at -129 dB in
float64. Odd bands come out of such a bank with their spectrum mirrored; they are multiplied by
(-1)^n, so that frequency rises with frequency in every band. The bank has zero delay: band sample j
belongs to audio sample 16 j.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravecodec.models.reach import Layer

BANDS = 16


def analysis_filters() -> np.ndarray:
    """float64 [16, 385], as correlated with the signal."""
    prototype = np.load(Path(__file__).parent / "pqmf_prototype.npy", allow_pickle=False)
    n = np.arange(len(prototype)) - (len(prototype) - 1) / 2
    k = np.arange(BANDS)[:, None]
    phase = np.where(k % 2 == 0, np.pi / 4, -np.pi / 4)
    return 2 * prototype * np.cos((2 * k + 1) * np.pi / (2 * BANDS) * n + phase)


def _convolve(x: Tensor, taps: Tensor) -> Tensor:
    """conv1d that keeps the length, with the 16 channels innermost in memory, as audio has them:
    forward and backward much faster on a CPU."""
    innermost = x[:, :, None].contiguous(memory_format=torch.channels_last)
    return F.conv2d(innermost, taps[:, :, None], padding=(0, taps.shape[-1] // 2))[:, :, 0]


class PQMF(nn.Module):
    """Audio [batch, channels, samples] <-> bands [batch, channels * 16, ceil(samples / 16)].

    A band sample near an end also depends on samples beyond it, which are taken as zero: so are the
    bands beyond the ends, and within `HALF` band samples of an end the round trip is not exact.
    """

    HALF = 12  # band samples: half a filter

    forward_taps: Tensor
    inverse_taps: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = analysis_filters()
        self.radius = filters.shape[1] // 2
        # Polyphase form: the 16 phases of the audio are channels, both directions are dense
        # convolutions of 25 taps. Phase p of block m is sample 16 m + p; tap d (-12..12) joins
        # block j + d with band sample j.
        n = 16 * np.arange(-self.HALF, self.HALF + 1) + np.arange(BANDS)[:, None] + self.radius
        inside = (n >= 0) & (n < filters.shape[1])
        polyphase = np.where(inside, filters[:, n.clip(0, filters.shape[1] - 1)], 0.0)
        taps = torch.from_numpy(polyphase).float()  # [band, phase, tap]
        self.register_buffer("forward_taps", taps, persistent=False)
        self.register_buffer(
            "inverse_taps", taps.flip(2).transpose(0, 1).contiguous(), persistent=False
        )

    @property
    def analysis_layer(self) -> Layer:
        return Layer(2 * self.radius + 1, BANDS, padding=self.radius)

    @property
    def synthesis_layer(self) -> Layer:
        return Layer(2 * self.radius + 1, BANDS, padding=self.radius, transposed=True)

    @staticmethod
    def _unmirror(bands: Tensor) -> Tensor:
        """Odd bands times (-1)^n, where n is the index of the band sample."""
        signs = torch.ones(BANDS, bands.shape[-1], device=bands.device, dtype=bands.dtype)
        signs[1::2, 1::2] = -1
        return bands * signs

    def analysis(self, audio: Tensor) -> Tensor:
        """[batch, channels, samples] -> [batch, channels * 16, ceil(samples / 16)]."""
        batch, channels, samples = audio.shape
        if samples == 0:
            return audio.new_zeros(batch, channels * BANDS, 0)
        whole = F.pad(audio, (0, -samples % BANDS))
        phases = whole.reshape(batch * channels, -1, BANDS).transpose(1, 2)
        bands = _convolve(phases, self.forward_taps)
        return self._unmirror(bands).reshape(batch, channels * BANDS, -1)

    def synthesis(self, bands: Tensor, samples: int | None = None) -> Tensor:
        """Inverse of `analysis`; `samples` trims to the original length."""
        batch, rows, frames = bands.shape
        if frames == 0:
            return bands.new_zeros(batch, rows // BANDS, 0)
        flat = self._unmirror(bands.reshape(batch * rows // BANDS, BANDS, frames))
        phases = _convolve(flat, self.inverse_taps)
        audio = phases.transpose(1, 2).reshape(batch, rows // BANDS, -1)
        return audio[..., :samples]
