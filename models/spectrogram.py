"""The default preset's encoder: a warped log spectrogram in, a small map of latents out.

Pitch is plain in a long-window spectrum and hidden in strided convolutions (docs/experiments.md has
the measurement), so each latent frame sees an image of `lines` rows on a scale that is linear below
500 Hz and logarithmic above. Below 3 kHz the rows come from 8192-sample windows (5.9 Hz bins),
above from 2048; 1024-sample windows add onsets. Mid and side are coded, not left and right: most
music is nearly mono. The encoder mirrors `istft.py`, level by level.

Where the config is causal, windows end at most `config.lookahead` samples behind their column. They
are as long as the others, and as high in the middle of their column, but fall faster than they
rise.

In stereo the first latent of every row is the balance of left and right there, measured, not
learnt: a network that starts with balance nowhere in its latents never finds it worth its bits
(docs/experiments.md).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravecodec.models.blocks import RowBias, SpectralBlock
from ravecodec.models.config import STEP, ModelConfig
from ravecodec.models.reach import Layer, Reach, encoder_lookahead, encoder_reach

LOWEST_HZ, HIGHEST_HZ, KNEE_HZ = 30.0, 20000.0, 500.0
# Up to 6 kHz made no difference that a short training could show (docs/experiments.md).
CROSSOVER_HZ = 3000.0
LONG, SHORT, ONSET = 8192, 2048, 1024  # window lengths
COLUMNS, ONSET_COLUMNS = 2, 4  # spectra per step
WINDOWS = (("long", LONG, COLUMNS), ("short", SHORT, COLUMNS), ("onset", ONSET, ONSET_COLUMNS))
# Time side of the convolution into a level, by time ratio.
TIME_KERNEL = {
    1: Layer(1),
    2: Layer(4, 2, padding=1),
}
FLOOR = 1e-8  # power: -74 dB of a full-scale sine, whose power is 1/4
FAINT_FLOOR = 1e-12  # power: -114 dB
BALANCE_FLOOR = 1e-11  # of both channels' power: below it there is no balance
MOST_BALANCE = 0.9999  # 43 dB between left and right
BALANCE_SPREAD = -1.5  # of the balance latents before the softplus, at the start of training: 0.2


def warped_frequencies(rows: int) -> np.ndarray:
    """Centre frequencies in Hz, float64 [rows]: equal steps of log(f + KNEE_HZ)."""
    return (LOWEST_HZ + KNEE_HZ) * ((HIGHEST_HZ + KNEE_HZ) / (LOWEST_HZ + KNEE_HZ)) ** np.linspace(
        0, 1, rows
    ) - KNEE_HZ


def warp_matrix(rows: int, window: int, rate: int) -> np.ndarray:
    """float32 [window // 2 + 1, rows]: triangles around each row's frequency, one FFT bin wide or
    more, of sum 1.
    """
    centres = warped_frequencies(rows) * window / rate  # in bins
    width = np.maximum(np.gradient(centres), 1)
    matrix = np.zeros((window // 2 + 1, rows), np.float32)
    for row in range(rows):
        bins = np.arange(
            max(0, int(centres[row] - width[row])),
            min(window // 2, int(centres[row] + width[row])) + 1,
        )
        weights = np.maximum(0, 1 - np.abs(bins - centres[row]) / width[row])
        matrix[bins, row] = weights / weights.sum()
    return matrix


def window_lookahead(config: ModelConfig, size: int, columns: int) -> int:
    """Samples behind the end of a column that its window of `size` samples reaches."""
    centred = (size - STEP // columns) // 2
    return min(centred, config.lookahead) if config.causal else centred


def skewed_hann(size: int, fall: int) -> np.ndarray:
    """Half a Hann window of 2 (size - fall) samples that rises, then half of one of 2 fall samples;
    float64 [size]. With fall = size / 2, the periodic Hann window."""
    rise = size - fall
    angle = np.concatenate([np.arange(rise) / rise, 1 + np.arange(fall) / fall])
    return 0.5 - 0.5 * np.cos(np.pi * angle)


class WarpedSpectrum(nn.Module):
    """Audio [batch, channels, samples] -> image [batch, features, lines, steps]; features by
    column: mid, side, their onsets, with `faint` what lies below the floor of mid and side, and the
    balance of left and right."""

    long_window: Tensor
    short_window: Tensor
    onset_window: Tensor
    long_warp: Tensor
    short_warp: Tensor
    onset_warp: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.low = int((warped_frequencies(config.lines) < CROSSOVER_HZ).sum())
        self.planes = image_planes(config)
        self.features = sum(self.planes.values())
        self.behind: dict[int, int] = {}  # by size, samples behind a column that its window reaches
        kinds = (
            ("long", LONG, COLUMNS),
            ("short", SHORT, COLUMNS),
            ("onset", ONSET, ONSET_COLUMNS),
        )
        for name, size, columns in kinds:
            matrix = torch.from_numpy(warp_matrix(config.lines, size, config.sample_rate))
            self.register_buffer(f"{name}_warp", matrix, persistent=False)
            self.behind[size] = window_lookahead(config, size, columns)
            fall = self.behind[size] + STEP // columns // 2
            window = torch.from_numpy(skewed_hann(size, fall).astype(np.float32))
            window = torch.hann_window(size) if 2 * fall == size else window
            self.register_buffer(f"{name}_window", window * (2 / size), persistent=False)
        # Bins of the long window that matter.
        used = self.long_warp[:, : self.low].any(1).nonzero()
        self.cut = int(used[-1]) + 1 if len(used) else 1

    def _power(
        self,
        audio: Tensor,
        window: Tensor,
        columns: int,
        cross: bool,
        context: tuple[int, int],
        bins: int | None = None,
    ) -> Tensor:
        """Power spectra [batch, planes, steps * columns, bins], windows highest in the middle of
        each column.

        context: samples of the audio before the first step and behind the last one. Planes: mid,
        side, and with `cross` the real part of their cross spectrum, (|left|^2 - |right|^2) / 4;
        for mono only the one. `bins`: how many of the lowest are wanted.
        """
        step, size = STEP // columns, len(window)
        after = self.behind[size]
        padding = (size - step - after - context[0], after - context[1])  # below 0: cut off
        frames = F.pad(audio, padding).unfold(-1, size, step)
        spectrum = torch.view_as_real(torch.fft.rfft(frames * window)[..., :bins])
        squared = spectrum.square()
        power = squared[..., 0] + squared[..., 1]
        if not cross:
            return power
        product = spectrum[:, :1] * spectrum[:, 1:]
        return torch.cat([power, product[..., 0] + product[..., 1]], 1)

    def forward(self, audio: Tensor, context: tuple[int, int] = (0, 0)) -> Tensor:
        """context: samples before the first step and behind the last one that the audio has; what
        windows see beyond these is zero."""
        channels = audio.shape[1]
        stereo = channels == 2
        if stereo:
            audio = torch.stack([audio.mean(1), (audio[:, 0] - audio[:, 1]) / 2], 1)
        low, cut = self.low, self.cut
        long = self._power(audio, self.long_window, COLUMNS, stereo, context, cut)
        long = long @ self.long_warp[:cut, :low]
        short = self._power(audio, self.short_window, COLUMNS, stereo, context)
        short = short @ self.short_warp[:, low:]
        onset = self._power(audio, self.onset_window, ONSET_COLUMNS, False, context)
        onset = onset @ self.onset_warp
        both = torch.cat([long, short], -1)
        images = [
            self._fold(self._log(both[:, :channels]), COLUMNS),
            self._fold(self._log(onset), ONSET_COLUMNS),
        ]
        if "faint" in self.planes:
            images.append(self._fold(self._below(both[:, :channels]), COLUMNS))
        if stereo:
            # -1: right only, 1: left only.
            balance = 2 * both[:, 2:] / (both[:, :2].sum(1, keepdim=True) + BALANCE_FLOOR)
            images.append(self._fold(balance, COLUMNS))
        return torch.cat(images, 1)

    @staticmethod
    def _log(power: Tensor) -> Tensor:
        """Log magnitude, about -1.5 to 2.5."""
        return (torch.log10(power + FLOOR) + 5) / 2

    @staticmethod
    def _below(power: Tensor) -> Tensor:
        """Log magnitude of what lies below FLOOR, -2 to 0; 0 for all that is louder."""
        return torch.log10((power + FAINT_FLOOR).clamp(max=FLOOR) / FLOOR) / 2

    @staticmethod
    def _fold(image: Tensor, columns: int) -> Tensor:
        """[batch, planes, steps * columns, rows] -> [batch, planes * columns, rows, steps]."""
        batch, planes, steps, rows = image.shape
        image = image.reshape(batch, planes, steps // columns, columns, rows)
        return image.permute(0, 1, 3, 4, 2).reshape(batch, planes * columns, rows, steps // columns)


def image_planes(config: ModelConfig) -> dict[str, int]:
    """How many planes of the image are for what, in their order."""
    planes = {"level": config.channels * COLUMNS, "onset": config.channels * ONSET_COLUMNS}
    if config.faint:
        planes["faint"] = config.channels * COLUMNS
    if config.channels == 2:
        planes["balance"] = COLUMNS
    return planes


def widths(config: ModelConfig) -> list[int]:
    """Channels per level: capacity, 2 capacity, 3 capacity, ..."""
    return [config.capacity * (i + 1) for i in range(len(config.frequency_ratios))]


def rows(config: ModelConfig) -> list[int]:
    """Frequency rows per level."""
    counts, left = [], config.lines
    for ratio in config.frequency_ratios:
        left //= ratio
        counts.append(left)
    return counts


class SpectrogramEncoder(nn.Module):
    """Audio [batch, channels, samples] -> (mean, spread), each [batch, latent, frames]; whole hops
    only.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.spectrum = WarpedSpectrum(config)
        layers: list[nn.Module] = []
        inputs = self.spectrum.features
        ratios = zip(config.frequency_ratios, config.time_ratios, strict=True)
        sizes = zip(widths(config), rows(config), config.blocks, strict=True)
        for (ratio, halve), (width, count, blocks) in zip(ratios, sizes, strict=True):
            time = TIME_KERNEL[halve]
            kernel, stride, padding = (
                (2 * ratio - 1, time.kernel),
                (ratio, time.stride),
                (ratio - 1, time.padding),
            )
            layers += [nn.Conv2d(inputs, width, kernel, stride, padding), RowBias(width, count)]
            layers += [SpectralBlock(width, 1) for _ in range(blocks)]
            inputs = width
        self.levels = nn.Sequential(*layers)
        self.head = nn.Conv2d(inputs, 2 * config.latent // rows(config)[-1], 1)
        if config.channels == 2:
            self.balance = nn.Parameter(torch.ones(1))  # latent units per neper
            with torch.no_grad():
                self.head.bias[config.latent // rows(config)[-1]] = BALANCE_SPREAD  # type: ignore[index]

    def forward(self, audio: Tensor, context: tuple[int, int] = (0, 0)) -> tuple[Tensor, Tensor]:
        """context: samples before the first frame and behind the last one that the audio has."""
        with torch.autocast(audio.device.type, enabled=False):
            image = self.spectrum(audio, context)
        # Several times faster on a CPU.
        x = self.levels(image.contiguous(memory_format=torch.channels_last))
        mean, spread = self.head(x).float().chunk(2, 1)
        if self.config.channels == 2:
            mean = torch.cat(
                [mean[:, :1] + self.balance * self._level_difference(image, mean), mean[:, 1:]], 1
            )
        return mean.flatten(1, 2), F.softplus(spread.flatten(1, 2)) + 1e-4

    @staticmethod
    def _level_difference(image: Tensor, mean: Tensor) -> Tensor:
        """ln(left / right) of amplitudes [batch, 1, rows, frames], averaged over what each latent
        covers.
        """
        balance = image[:, -COLUMNS:].mean(1, keepdim=True)
        lines, steps = (image.shape[i] // mean.shape[i] for i in (2, 3))
        return F.avg_pool2d(balance, (lines, steps)).clamp(-MOST_BALANCE, MOST_BALANCE).atanh()

    def _layers(self, column: int) -> list[Layer]:
        """The longest path along time through this column of a step: the longest window, then the
        strided kernels; the blocks look at one column at a time."""
        ahead = (column + 1) * STEP // COLUMNS + self.spectrum.behind[LONG]
        window = Layer(LONG, STEP, padding=LONG - ahead)
        return [window, *(TIME_KERNEL[halve] for halve in self.config.time_ratios)]

    @property
    def reach(self) -> Reach:
        """Context in frames."""
        first = encoder_reach(self._layers(0), self.config.hop)
        last = encoder_reach(self._layers(COLUMNS - 1), self.config.hop)
        return Reach(first.past, last.future)

    @property
    def lookahead(self) -> int:
        """Samples behind the end of a frame that it depends on."""
        return encoder_lookahead(self._layers(COLUMNS - 1), self.config.hop)
