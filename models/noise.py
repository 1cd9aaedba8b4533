"""Counter-based noise: every random number of the decoder is a pure function of (seed, stream,
position).

So the fill of cropped latents and the noise heads do not depend on chunk borders, seeking or
threads: the same file always decodes to the same sound. The mixing function is the 32-bit finaliser
of MurmurHash3 (public domain, A. Appleby) on int32 tensors: integer arithmetic only, modulo 2^32,
because sums and products wrap.
"""

from __future__ import annotations

import torch
from torch import Tensor

LATENT_STREAM, NOISE_STREAM, LINE_STREAM, EDIT_STREAM, PRIOR_STREAM = 1, 2, 3, 4, 5


def _signed(x: int) -> int:
    """The int32 of the same low 32 bits."""
    return (x + 2**31) % 2**32 - 2**31


def _shifted(x: Tensor, count: int) -> Tensor:
    """int32 as if unsigned: zeros come in from above."""
    return (x >> count) & (0xFFFFFFFF >> count)


def _mix(x: Tensor) -> Tensor:
    x = x ^ _shifted(x, 16)
    x = x * _signed(0x85EBCA6B)
    x = x ^ _shifted(x, 13)
    x = x * _signed(0xC2B2AE35)
    return x ^ _shifted(x, 16)


def _drawn(seed: Tensor, stream: int, position: Tensor, lane: Tensor) -> Tensor:
    """`bits` as int32.

    Of the int64 arguments only the low 32 bits count, which are all that .int() keeps.
    """
    keyed = _mix(
        seed.int()
        ^ _mix(torch.tensor(_signed(stream * 0x9E3779B1), dtype=torch.int32, device=seed.device))
    )
    placed = _mix(keyed + position.int() * _signed(0x9E3779B1))
    return _mix(placed + lane.int() * _signed(0x85EBCA77))


def bits(seed: Tensor, stream: int, position: Tensor, lane: Tensor) -> Tensor:
    """Integers in [0, 2^32), int64, of the broadcast shape of the int64 tensors `seed`, `position`
    and `lane`.
    """
    return _drawn(seed, stream, position, lane).long() & 0xFFFFFFFF


def uniform(seed: Tensor, stream: int, position: Tensor, lane: Tensor) -> Tensor:
    """float32 in [-1, 1), exact multiples of 2^-23."""
    return _shifted(_drawn(seed, stream, position, lane), 8).float() * 2.0**-23 - 1


def normal(seed: Tensor, stream: int, position: Tensor, lane: Tensor) -> Tensor:
    """Standard normal float32 (Box-Muller on two lanes)."""
    radius = ((bits(seed, stream, position, 2 * lane) >> 8).double() + 0.5) * 2.0**-24
    angle = (bits(seed, stream, position, 2 * lane + 1) >> 8).double() * (2.0**-23 * torch.pi)
    return (torch.sqrt(-2 * torch.log(radius)) * torch.cos(angle)).float()
