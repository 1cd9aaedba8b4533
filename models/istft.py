"""The default preset's generator: latents in, 16 PQMF bands out, every band by an inverse
short-time Fourier transform.

A deterministic network fed by slow latents has no oscillator: it cannot keep the phase of a partial
from frame to frame, and what should be a tone comes out as noise or as a comb at the frame rate. So
this generator only says *how loud*; phase comes from two excitations that it modulates:

- sinusoids at `config.sinusoids` fixed frequencies whose phase is a function of absolute time. A
  line that stays on is a pure tone, however many frames and chunks it crosses. Its spectrum is
  placed in the bands whose filters pass it, with their gain and phase, so that the bank cancels the
  alias at band edges. Amplitudes move at 93.75 Hz (Hann window of 64 band samples, hop 32).
  In stereo a line has three amplitudes: left and right in phase, which pan it, and a side part a
  quarter of a turn ahead on the left and behind on the right, which widens it without moving it.
  The first latent of every row moves left and right apart by itself (constant power); the network
  adds what it likes.
- noise with a seeded, counter-based phase per bin: windows of 32 band samples, hop 16 (5.3 ms), 17
  bins in each band. In stereo it has the same three amplitudes: left and right of one source, and a
  side part that is a second source.

Both are functions of the absolute frame number, never of a state, so decoding may start anywhere.
The idea of modulated sinusoids and filtered noise is DDSP's (Engel et al. 2020), the inverse
transform per band MB-iSTFT-VITS's (Kawamura et al. 2023).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ravecodec.models import noise
from ravecodec.models.blocks import RowBias, SpectralBlock
from ravecodec.models.clock import Clock
from ravecodec.models.config import STEP, ModelConfig
from ravecodec.models.pqmf import BANDS, analysis_filters
from ravecodec.models.reach import Layer, Reach, backward, decoder_lookahead, decoder_reach, same
from ravecodec.models.spectrogram import TIME_KERNEL, rows, warped_frequencies, widths

# A line's frequency is an integer multiple of rate / PHASE_STEPS: its phase is exact at any time.
PHASE_STEPS = 1 << 20
LINE_COLUMNS, LINE_WINDOW = 4, 64  # amplitudes per step of 2048 samples; window in band samples
NOISE_COLUMNS, NOISE_WINDOW = 8, 32
STEREO_MAPS = 3  # amplitudes of stereo lines and noise: left, right, side
LOUDEST = 3.0  # log amplitude limit: e^3 is 26 dB over full scale
QUIET = -6.0  # log amplitude at the start of training
LN2 = math.log(2)

# by level of a causal generator, the columns [batch, channels, rows, 2] that its first block saw
# last
Past = dict[int, Tensor]


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """[..., steps, 2 hop] -> [..., steps * hop]; frame i is centred on the middle of its hop."""
    # [..., steps + 1, hop].
    whole = F.pad(frames[..., :hop], (0, 0, 0, 1)) + F.pad(frames[..., hop:], (0, 0, 1, 0))
    return whole.flatten(-2)[..., hop // 2 : -hop // 2]


class Lines(nn.Module):
    """Amplitudes [batch, maps, lines, steps] -> bands [batch, channels * 16, samples]; 4 steps per
    2048 samples.

    maps: 1 for mono; left, right and side for stereo.
    """

    AUDIBLE = 1e-4  # a band is left out of a line where its filter's gain is below -80 dB

    advance: Tensor
    offset: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.hop = STEP // BANDS // LINE_COLUMNS
        self.per_frame = config.hop // STEP * LINE_COLUMNS
        steps = np.rint(
            warped_frequencies(config.sinusoids) * PHASE_STEPS / config.sample_rate
        ).astype(np.int64)
        self.register_buffer(
            "advance", torch.from_numpy(steps * self.hop * BANDS % PHASE_STEPS), persistent=False
        )
        scrambled = noise.bits(
            torch.tensor(0), noise.LINE_STREAM, torch.arange(config.sinusoids), torch.tensor(0)
        )
        # ordered phases would add up to a chirp
        self.register_buffer("offset", scrambled % PHASE_STEPS, persistent=False)
        self.slices: list[slice] = []
        omega = 2 * np.pi * steps / PHASE_STEPS
        filters = analysis_filters()
        taps = np.arange(filters.shape[1]) - filters.shape[1] // 2
        gains = filters @ np.exp(1j * np.outer(taps, omega))  # [bands, lines]
        # band samples of one window, counted from the step's own sample 0
        n = np.arange(LINE_WINDOW) - self.hop // 2
        window = np.hanning(LINE_WINDOW + 1)[:-1]
        for band in range(BANDS):
            audible = np.flatnonzero(np.abs(gains[band]) > self.AUDIBLE * np.abs(gains).max())
            # No line above 20 kHz.
            part = slice(int(audible[0]), int(audible[-1]) + 1) if audible.size else slice(0, 0)
            sign = (-1.0) ** n if band % 2 else 1.0
            wave = (
                gains[band, part, None]
                * np.exp(1j * np.outer(omega[part], n * BANDS))
                * window
                * sign
            )
            # [2 * audible, window].
            basis = np.concatenate([wave.real, -wave.imag]).astype(np.float32)
            self.slices.append(part)
            self.register_buffer(f"basis{band}", torch.from_numpy(basis), persistent=False)

    def forward(self, amplitude: Tensor, clock: Clock) -> Tensor:
        steps = amplitude.shape[-1]
        position = clock.frame[:, None] * self.per_frame + torch.arange(
            steps, device=amplitude.device
        )
        turns = (self.offset[:, None] + self.advance[:, None] * position[:, None, :]) % PHASE_STEPS
        angle = turns.float() * (2 * torch.pi / PHASE_STEPS)  # [batch, lines, steps]
        bases = [getattr(self, f"basis{band}") for band in range(BANDS)]
        # [batch, channels, steps, bands, window].
        frames = _Modulated.apply(amplitude, angle, self.slices, bases)
        batch, channels = frames.shape[:2]
        return _overlap_add(frames.transpose(2, 3), self.hop).reshape(batch, channels * BANDS, -1)


class _Modulated(torch.autograd.Function):
    """Amplitudes [batch, maps, lines, steps] on sinusoids at angles [batch, lines, steps], by each
    band's basis: frames [batch, channels, steps, bands, window].

    Linear in the amplitudes; the gradient is its transpose, written out. Autograd's own clears and
    adds up a whole spectrum for each of the 16 slices of lines.
    """

    @staticmethod
    def forward(
        ctx: Any, amplitude: Tensor, angle: Tensor, slices: list[slice], bases: list[Tensor]
    ) -> Tensor:
        level = amplitude.transpose(2, 3).contiguous()  # lines innermost, as the products want them
        turn = angle.transpose(1, 2)[:, None].contiguous()
        cos, sin = turn.cos(), turn.sin_()
        ctx.cos, ctx.sin, ctx.slices, ctx.bases = cos, sin, slices, bases
        real, imag = level[:, :2] * cos, level[:, :2] * sin
        if (
            level.shape[1] == STEREO_MAPS
        ):  # a side part turned ahead on the left, behind on the right
            across, along = level[:, 2] * sin[:, 0], level[:, 2] * cos[:, 0]
            real[:, 0] -= across
            real[:, 1] += across
            imag[:, 0] += along
            imag[:, 1] -= along
        frames = level.new_empty(*real.shape[:3], BANDS, LINE_WINDOW)
        for band, (part, basis) in enumerate(zip(slices, bases, strict=True)):
            both = torch.cat([real[..., part], imag[..., part]], -1)
            frames[..., band, :] = both @ basis
        return frames

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.cos, ctx.sin
        real = gradient.new_zeros(*gradient.shape[:3], cos.shape[-1])
        imag = torch.zeros_like(real)
        for band, (part, basis) in enumerate(zip(ctx.slices, ctx.bases, strict=True)):
            both = gradient[..., band, :] @ basis.T
            count = both.shape[-1] // 2
            real[..., part] += both[..., :count]
            imag[..., part] += both[..., count:]
        level = [real * cos + imag * sin]
        if real.shape[1] == 2:
            level.append((real[:, 1:] - real[:, :1]) * sin + (imag[:, :1] - imag[:, 1:]) * cos)
        return torch.cat(level, 1).transpose(2, 3), None, None, None


class ShapedNoise(nn.Module):
    """Log amplitudes [batch, maps, rows, steps] -> bands [batch, channels * 16, samples]; 8 steps
    per 2048 samples.

    maps: 1 for mono; left and right of one source of noise, and side, an independent source, for
    stereo.
    """

    spread: Tensor
    window: Tensor

    def __init__(self, config: ModelConfig, count: int) -> None:
        super().__init__()
        self.hop = NOISE_WINDOW // 2
        self.per_frame = config.hop // STEP * NOISE_COLUMNS
        bins = NOISE_WINDOW // 2 + 1
        centres = np.arange(BANDS)[:, None] * 1.0 + np.arange(bins) / (bins - 1)
        hertz = centres.reshape(-1) * config.sample_rate / (2 * BANDS)
        where = np.interp(hertz, warped_frequencies(count), np.arange(count))
        weights = np.maximum(0, 1 - np.abs(where - np.arange(count)[:, None]))
        self.register_buffer(
            "spread", torch.from_numpy(weights.astype(np.float32)), persistent=False
        )
        # power-complementary at hop = window / 2
        window = np.sin(np.pi * (np.arange(NOISE_WINDOW) + 0.5) / NOISE_WINDOW)
        self.register_buffer(
            "window", torch.from_numpy(window.astype(np.float32)), persistent=False
        )

    def _phase(self, shape: tuple[int, int, int], clock: Clock, device: torch.device) -> Tensor:
        """Angles [batch, channels, steps, bins * bands], a function of (seed, absolute step,
        channel, bin).
        """
        channels, steps, lanes = shape
        position = clock.frame[:, None] * self.per_frame + torch.arange(steps, device=device)
        lane = torch.arange(channels * lanes, device=device).reshape(channels, 1, lanes)
        seed, position = clock.seed[:, None, None, None], position[:, None, :, None]
        return torch.pi * noise.uniform(seed, noise.NOISE_STREAM, position, lane)

    def forward(self, level: Tensor, clock: Clock) -> Tensor:
        batch, maps, _, steps = level.shape
        channels = 2 if maps == STEREO_MAPS else 1
        amplitude = (
            level.transpose(2, 3) @ self.spread
        ).exp()  # [batch, maps, steps, bands * bins]
        angle = self._phase((channels, steps, amplitude.shape[-1]), clock, level.device)
        parts = []
        for wave in (
            angle.cos(),
            angle.sin(),
        ):  # real and imaginary; autograd is slow with complex numbers on a CPU
            part = amplitude[:, :channels] * wave[:, :1]
            if channels == 2:
                side = amplitude[:, 2:] * wave[:, 1:]
                part = part + torch.cat([side, -side], 1)
            parts.append(part)
        spectrum = torch.complex(*parts)
        frames = (
            torch.fft.irfft(spectrum.unflatten(-1, (BANDS, -1)), NOISE_WINDOW, norm="ortho")
            * self.window
        )
        bands = _overlap_add(frames.transpose(2, 3), self.hop)
        return bands.reshape(batch, channels * BANDS, -1)


class IstftGenerator(nn.Module):
    """Latents [batch, latent, frames] -> bands [batch, channels * 16, frames * 128]; mirrors
    `SpectrogramEncoder`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        counts, sizes = rows(config), widths(config)
        self.entry = nn.Conv2d(config.latent // counts[-1], sizes[-1], 1)
        self.levels = nn.ModuleList()
        self.ups = nn.ModuleList()
        for level in reversed(range(len(sizes))):
            blocks = [
                SpectralBlock(sizes[level], time, causal=config.causal)
                for time in self._times(level)
            ]
            self.levels.append(nn.Sequential(RowBias(sizes[level], counts[level]), *blocks))
            if level:
                ratio, time = config.frequency_ratios[level], TIME_KERNEL[config.time_ratios[level]]
                kernel, stride = (ratio + 2 * (ratio // 2), time.kernel), (ratio, time.stride)
                padding = (ratio // 2, time.padding)
                self.ups.append(
                    nn.ConvTranspose2d(sizes[level], sizes[level - 1], kernel, stride, padding)
                )
        maps = STEREO_MAPS if config.channels == 2 else 1
        self.fine_rows = config.frequency_ratios[0] * config.sinusoids_per_line
        outputs = self.fine_rows * LINE_COLUMNS * maps
        self.line_head = nn.Conv2d(sizes[0], outputs, (3, 1), padding=(1, 0))
        self.lines = Lines(config)
        self._start_quiet(self.line_head)
        if config.channels == 2:
            self.balance = nn.Parameter(torch.ones(1))  # nepers per latent unit
        if config.noise:
            self.noise_head = nn.Conv2d(sizes[1], NOISE_COLUMNS * maps, 1)
            self.shaped = ShapedNoise(config, counts[1])
            self._start_quiet(self.noise_head)

    @staticmethod
    def _start_quiet(head: nn.Conv2d) -> None:
        nn.init.normal_(head.weight, std=0.01)
        nn.init.constant_(head.bias, QUIET)  # type: ignore[arg-type]

    def _times(self, level: int) -> list[int]:
        """Time kernels of a level's blocks: the first looks at 3 columns, the others at one."""
        return [3] + [1] * (self.config.blocks[level] - 1)

    @torch.no_grad()
    def turn_up(self, gain: float) -> None:
        """Changes the weights so that all output is multiplied by `gain`."""
        for head in (self.line_head, *([self.noise_head] if self.config.noise else [])):
            assert head.bias is not None
            head.bias += math.log(gain)

    def amplitudes(self, z: Tensor, past: Past | None = None) -> tuple[Tensor, Tensor | None]:
        """Log amplitudes of the lines [batch, maps, lines, 4 steps] and, if there is a noise head,
        of the noise [batch, maps, rows, 8 steps].

        past: of a causal generator, what its levels saw last before these frames, brought up to
        date here; an empty one to begin with zeros. None: the frames stand for themselves.
        """
        count = rows(self.config)[-1]
        z = z.reshape(len(z), -1, count, z.shape[-1])
        x = self.entry(z.contiguous(memory_format=torch.channels_last))
        noise_level = None
        for i, level in enumerate(self.levels):
            x = level(x) if past is None else self._continued(i, x, past)
            if self.config.noise and i == len(self.levels) - 2:
                noise_level = self._placed(
                    self._unfold(self.noise_head(x).float(), 1, NOISE_COLUMNS), z
                )
            if i < len(self.ups):
                x = self.ups[i](x)
        lines = self._unfold(self.line_head(x).float(), self.fine_rows, LINE_COLUMNS)
        return self._placed(lines, z), noise_level

    def _continued(self, place: int, x: Tensor, past: Past) -> Tensor:
        """A level whose first block, the only one that looks back, sees what came before x."""
        level = self.levels[place]
        assert isinstance(level, nn.Sequential)
        first = level[1]
        assert isinstance(first, SpectralBlock)
        x = level[0](x)
        before = past.get(place)
        seen = x if before is None else torch.cat([before, x], 3)
        past[place] = F.pad(seen, (max(0, first.past - seen.shape[3]), 0))[..., -first.past :]
        x = first(x, before)
        return level[2:](x)

    def _balance(self, z: Tensor, rows_and_columns: torch.Size) -> Tensor:
        """The balance latents of z, spread over an image: linearly between rows, and between
        frames, or held for a frame where the next one is not known."""
        count, columns = rows_and_columns
        frames = z.shape[-1]
        size = (count, frames if self.config.causal else columns)
        image = F.interpolate(z[:, :1].float(), size, mode="bilinear")
        return image.repeat_interleave(columns // frames, 3) if self.config.causal else image

    def _placed(self, level: Tensor, z: Tensor) -> Tensor:
        """Log amplitudes [batch, maps, rows, columns], left and right moved apart by the balance in
        z.
        """
        if self.config.channels == 1:
            return level
        balance = self.balance * self._balance(z, level.shape[2:])
        # -2 ln of the gain.
        share = torch.cat([F.softplus(-2 * balance), F.softplus(2 * balance)], 1) - LN2
        return torch.cat([level[:, :2] - share / 2, level[:, 2:]], 1)

    def _unfold(self, x: Tensor, fine_rows: int, columns: int) -> Tensor:
        """[batch, maps * fine * columns, rows, steps] -> [batch, maps, rows * fine,
        steps * columns], limited to LOUDEST."""
        batch, _, count, frames = x.shape
        x = x.reshape(batch, -1, fine_rows, columns, count, frames).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(batch, -1, count * fine_rows, frames * columns).clamp(max=LOUDEST)

    def forward(self, z: Tensor, clock: Clock) -> Tensor:
        return self.excited(*self.amplitudes(z), clock)

    def excited(self, line_level: Tensor, noise_level: Tensor | None, clock: Clock) -> Tensor:
        """The second half of `forward`: bands of log amplitudes, the excitations beginning at
        `clock`."""
        with torch.autocast(line_level.device.type, enabled=False):
            bands = self.lines(line_level.exp(), clock)
            return bands if noise_level is None else bands + self.shaped(noise_level, clock)

    @property
    def layers(self) -> list[Layer]:
        """Longest path along time, from frames to band samples."""
        layers: list[Layer] = []
        for level in reversed(range(len(self.config.blocks))):
            layers += [backward(t) if self.config.causal else same(t) for t in self._times(level)]
            time = TIME_KERNEL[self.config.time_ratios[level]]
            layers.append(replace(time, transposed=True))
        hop = STEP // BANDS
        overlap = hop // LINE_COLUMNS
        # The first sample of a window is zero.
        window = Layer(hop + overlap - 1, hop, padding=overlap // 2 - 1, transposed=True)
        return [*layers, window]

    def reach(self, synthesis: Layer) -> Reach:
        return decoder_reach([*self.layers, synthesis], self.config.hop)

    def lookahead(self, synthesis: Layer) -> int:
        """Of the audio behind the filter bank's synthesis; see `decoder_lookahead`."""
        return decoder_lookahead([*self.layers, synthesis], self.config.hop)
