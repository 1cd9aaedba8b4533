"""The prior: a small autoregressive network that knows what latents come next (RAVE, section 3.1,
where it stands for the WaveNet-like prior of other models).

It speaks symbols: axis vectors on the grid of one step index. A recurrent network (GRU) reads the
frames so far; of the next one it gives every axis a mixture of logistics, discretised on the grid.
Axes are taken in groups, the first ones first, and a group is told the groups before it in the same
frame (masks as in MADE, Germain et al. 2015), for axes that are uncorrelated are not independent: a
loud frame is loud in all. It is used to make latents and to say how likely some are, never to code
them: no float of it reaches a stream.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from ravecodec.errors import ModelError
from ravecodec.models import noise
from ravecodec.models.package import canonical
from ravecodec.models.prior_file import (
    FORMAT,
    VERSION,
    WEIGHTS,
    PriorConfig,
    PriorHeader,
    read_prior_header,
)

FURTHEST = 16.0  # deviations: what lies beyond is taken for this when it is looked back to
WIDTHS = (-7.0, 4.0)  # natural logarithms of a distribution's width in deviations
LOCATIONS = 64.0  # deviations that a distribution's middle may be away from zero


class Prior(nn.Module):
    """The network of a config. step, deviation: float [dims] each, the grid's steps and what an
    axis' values are divided by on the way in."""

    step: Tensor
    deviation: Tensor
    from_frame_mask: Tensor
    out_mask: Tensor

    def __init__(
        self,
        config: PriorConfig,
        step: NDArray[np.floating],
        deviation: NDArray[np.floating],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = config
        dims, units = config.dims, config.units
        self.memory = nn.GRU(dims, config.hidden, batch_first=True)
        self.from_memory = nn.Linear(config.hidden, units)
        self.from_frame = nn.Linear(2 * dims, units, bias=False)
        self.out = nn.Linear(units, 2 * dims)
        self.past = nn.Parameter(torch.zeros(2, dims))
        self.shape = nn.Parameter(torch.zeros(3, dims, config.mixture))
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("step", torch.tensor(step, dtype=torch.float32), persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(deviation, dtype=torch.float32), persistent=False
        )
        for name, mask in _masks(config).items():
            self.register_buffer(name, mask, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """To begin with, every axis is a mixture of a narrow and a wide bell around zero."""
        with torch.no_grad():
            self.out.weight.mul_(0.1)
            self.out.bias.zero_()
            self.out.bias[self.config.dims :] = -1.0
            if self.config.mixture > 1:
                self.shape[2] = torch.linspace(-0.7, 0.7, self.config.mixture)

    # ---- all frames at once ----

    def code_lengths(self, symbols: Tensor) -> Tensor:
        """Bits of every symbol, given all before it: whole numbers [batch, frames, dims] -> float
        of the same shape. Before the first frame zeros are assumed."""
        x = self._inputs(symbols.float())
        before = F.pad(x, (0, 0, 1, 0))[:, :-1]
        earlier = F.pad(x, (0, 0, 2, 0))[:, :-2]
        state, _ = self.memory(self.dropout(before))
        frame = torch.cat([x, x.abs()], dim=-1)
        seen = F.linear(self.dropout(frame), self.from_frame.weight * self.from_frame_mask)
        units = self.dropout(F.silu(self.from_memory(self.dropout(state)) + seen))
        raw = F.linear(units, self.out.weight * self.out_mask, self.out.bias)
        location, width = self._distribution(raw, before, earlier, slice(None))
        return self._bits(symbols.float(), location, width)

    def _inputs(self, symbols: Tensor) -> Tensor:
        """Symbols as values in deviations."""
        return (symbols * (self.step / self.deviation)).clamp(-FURTHEST, FURTHEST)

    def _distribution(
        self, raw: Tensor, before: Tensor, earlier: Tensor, axes: slice
    ) -> tuple[Tensor, Tensor]:
        """Middle and width in steps of the distributions of some axes, from the network's raw
        output [..., 2 * axes] for them."""
        offset, width = raw.chunk(2, dim=-1)
        location = offset + self.past[0, axes] * before + self.past[1, axes] * earlier
        unit = (self.deviation / self.step)[axes]
        return location.clamp(-LOCATIONS, LOCATIONS) * unit, width.clamp(*WIDTHS).exp() * unit

    def _bits(self, symbols: Tensor, location: Tensor, width: Tensor) -> Tensor:
        """-log2 of what the discretised mixture gives each symbol: sigmoid(a) - sigmoid(b) is
        sigmoid(a) sigmoid(-b) (1 - exp(b - a)), which stays exact in the tails."""
        weights, shifts, ratios = self.shape
        middle = location[..., None] + width[..., None] * shifts
        scale = width[..., None] * ratios.exp()
        above = (symbols[..., None] + 0.5 - middle) / scale
        below = above - 1 / scale
        inside = torch.log(-torch.expm1(-1 / scale) + 1e-12)
        logs = F.logsigmoid(above) + F.logsigmoid(-below) + inside
        return -torch.logsumexp(logs + weights.log_softmax(-1), dim=-1) / math.log(2)

    # ---- frame by frame ----

    @torch.no_grad()
    def listen(self, symbols: Tensor) -> Memory:
        """What remains in memory of whole numbers [frames, dims]."""
        x = F.pad(self._inputs(symbols.float()), (0, 0, 2, 0))
        state = torch.zeros(1, 1, self.config.hidden, device=x.device)
        if len(symbols):
            # one frame at a time, as when it makes them itself: rounding does not depend on length
            for frame in x[1:-1]:
                _, state = self.memory(frame[None, None], state)
        return Memory(state, x[-1], x[-2])

    @torch.no_grad()
    def draw(
        self, memory: Memory, seed: int, position: int, temperature: float = 1.0
    ) -> tuple[Tensor, Memory]:
        """The next frame's symbols, whole numbers float [dims], and memory with that frame.

        They depend on nothing but the arguments: chance is a function of seed, position (of the
        frame) and axis. temperature: times the deviation from what is expected.
        """
        _, state = self.memory(memory.before[None, None], memory.state)
        from_memory = self.from_memory(state[0, 0])
        chance = self._chance(seed, position)
        frame = torch.zeros_like(memory.before)
        symbols, units = torch.zeros_like(frame), torch.zeros_like(from_memory)
        for group in range(self.config.groups):
            axes, own = self._slices(group)
            both = torch.cat([frame, frame.abs()])
            weight = (self.from_frame.weight * self.from_frame_mask)[own]
            units[own] = F.silu(from_memory[own] + F.linear(both, weight))
            location, width = self._of_group(units, memory, axes)
            symbols[axes] = self._drawn(location, width, chance[axes], axes, temperature)
            frame = self._inputs(symbols)
        return symbols, Memory(state, frame, memory.before)

    def _slices(self, group: int) -> tuple[slice, slice]:
        """The axes and the units of a group."""
        axes, units = self.config.bounds(), self.config.unit_bounds()
        return slice(axes[group], axes[group + 1]), slice(units[group], units[group + 1])

    def _of_group(self, units: Tensor, memory: Memory, axes: slice) -> tuple[Tensor, Tensor]:
        rows = self.out.weight * self.out_mask
        parts = [slice(axes.start + at, axes.stop + at) for at in (0, self.config.dims)]
        raw = torch.cat([F.linear(units, rows[part], self.out.bias[part]) for part in parts])
        return self._distribution(raw, memory.before[axes], memory.earlier[axes], axes)

    def _chance(self, seed: int, position: int) -> Tensor:
        """Numbers in (0, 1), float64 [dims, 2]."""
        lane = torch.arange(2 * self.config.dims).reshape(-1, 2)
        drawn = noise.uniform(torch.tensor(seed), noise.PRIOR_STREAM, torch.tensor(position), lane)
        return (drawn.double() + 1) / 2 + 2.0**-25

    def _drawn(
        self, location: Tensor, width: Tensor, chance: Tensor, axes: slice, temperature: float
    ) -> Tensor:
        """One symbol of each axis' distribution."""
        weights, shifts, ratios = self.shape[:, axes].double()
        shares = weights.softmax(-1)
        which = (shares.cumsum(-1) < chance[:, :1]).sum(-1, keepdim=True)
        which = which.clamp(max=self.config.mixture - 1)
        expected = (shares * shifts).sum(-1)
        shift, ratio = (each.gather(-1, which)[:, 0] for each in (shifts, ratios.exp()))
        away = shift - expected + ratio * torch.logit(chance[:, 1])
        return (location + width * (expected + temperature * away)).round().float()


@dataclass(frozen=True)
class Memory:
    """What a prior remembers. state: of its GRU, after all frames but the last; before, earlier:
    the last frame and the one before it, in deviations."""

    state: Tensor
    before: Tensor
    earlier: Tensor


def _masks(config: PriorConfig) -> dict[str, Tensor]:
    """Ones where a weight may be: units see axes of earlier groups, axes units of their own and of
    earlier ones."""
    axis, unit = (
        torch.repeat_interleave(torch.arange(config.groups), torch.tensor(bounds).diff())
        for bounds in (config.bounds(), config.unit_bounds())
    )
    sees = (axis[None] < unit[:, None]).float()
    hears = (unit[None] <= axis[:, None]).float()
    return {"from_frame_mask": sees.repeat(1, 2), "out_mask": hears.repeat(2, 1)}


# ---- files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadedPrior:
    """A prior in eval mode, and what its file says."""

    network: Prior
    header: PriorHeader


def prior_package(prior: Prior, name: str, model_id: bytes, info: Mapping[str, Any]) -> bytes:
    """The bytes of a prior's file, weights in float16; equal priors give equal bytes.

    ModelError if a weight is not finite in float16.
    """
    tensors = {}
    for key, value in prior.state_dict().items():
        tensors[WEIGHTS + key] = value.cpu().half().contiguous()
        if not tensors[WEIGHTS + key].isfinite().all():
            raise ModelError(f"prior {name}: weight {key} is not finite; its training has diverged")
    tensors |= {"step": prior.step.cpu(), "deviation": prior.deviation.cpu()}
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "model": model_id.hex(),
        "config": prior.config.to_json(),
        "info": json.dumps(dict(info)),
    }
    return canonical(save(tensors, metadata))


def load_prior(path: Path, device: torch.device | str = "cpu") -> LoadedPrior:
    """Reads a prior's file; ModelError if it is missing, damaged or of another version."""
    header = read_prior_header(path)
    arrays = header.arrays()
    network = Prior(header.config, arrays.pop("step"), arrays.pop("deviation"))
    weights = {
        name.removeprefix(WEIGHTS): torch.from_numpy(array) for name, array in arrays.items()
    }
    network.load_state_dict(weights)
    return LoadedPrior(network.to(device).eval().requires_grad_(False), header)
