"""PQMF: the 16-band, critically sampled, near-perfect-reconstruction filter bank under both networks (RAVE, section 4.1, App. B).

Analysis filter k is the prototype p (385 taps, symmetric) on a cosine: h_k[n] = 2 p[n] cos((2k+1) pi/32 (n - 192) +- pi/4);
synthesis filters are the time-reversed ones. The prototype comes out of scripts/design_pqmf.py: distortion plus aliasing at
-129 dB in float64. Odd bands come out of such a bank with their spectrum mirrored; they are multiplied by (-1)^n, so that
frequency rises with frequency in every band. The bank has zero delay: band sample j belongs to audio sample 16 j.
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


class PQMF(nn.Module):
    """Audio [batch, channels, samples] <-> bands [batch, channels * 16, ceil(samples / 16)].

    A band sample near an end also depends on samples beyond it (taken as zero); with `margin` >= `PQMF.MARGIN` the bands that
    reach beyond the ends are kept too, and the round trip is exact up to the last sample.
    """

    MARGIN = 12  # band samples: half a filter

    def __init__(self) -> None:
        super().__init__()
        filters = torch.from_numpy(analysis_filters()).float()
        self.half = filters.shape[1] // 2
        self.register_buffer("filters", filters[:, None], persistent=False)
        self.filters: Tensor

    @property
    def analysis_layer(self) -> Layer:
        return Layer(2 * self.half + 1, BANDS, padding=self.half)

    @property
    def synthesis_layer(self) -> Layer:
        return Layer(2 * self.half + 1, BANDS, padding=self.half, transposed=True)

    @staticmethod
    def _unmirror(bands: Tensor, first: int) -> Tensor:
        """Odd bands times (-1)^n; n counts from `first`, the index of the first band sample."""
        signs = torch.ones(BANDS, bands.shape[-1], device=bands.device, dtype=bands.dtype)
        signs[1::2, (1 + first) % 2 :: 2] = -1
        return bands * signs

    def analysis(self, audio: Tensor, margin: int = 0) -> Tensor:
        """[batch, channels, samples] -> [batch, channels * 16, ceil(samples / 16) + 2 * margin]."""
        batch, channels, samples = audio.shape
        flat = audio.reshape(batch * channels, 1, samples)
        flat = F.pad(flat, (self.half + margin * BANDS, -samples % BANDS + self.half + margin * BANDS - BANDS + 1))
        bands = self._unmirror(F.conv1d(flat, self.filters, stride=BANDS), -margin)
        return bands.reshape(batch, channels * BANDS, -1)

    def synthesis(self, bands: Tensor, samples: int | None = None, margin: int = 0) -> Tensor:
        """Inverse of `analysis` with the same margin; `samples` trims to the original length."""
        batch, rows, frames = bands.shape
        flat = self._unmirror(bands.reshape(batch * rows // BANDS, BANDS, frames), -margin)
        audio = F.conv_transpose1d(flat, self.filters, stride=BANDS)
        start = self.half + margin * BANDS
        stop = start + (samples if samples is not None else (frames - 2 * margin) * BANDS)
        audio = F.pad(audio, (0, max(0, stop - audio.shape[-1])))[..., start:stop]
        return audio.reshape(batch, rows // BANDS, -1)
