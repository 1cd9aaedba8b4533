"""Counter-based noise: every random number of the decoder is a pure function of (seed, stream, position).

So the fill of cropped latents and the noise heads do not depend on chunk borders, seeking or threads: the same file
always decodes to the same sound. The mixing function is the 32-bit finaliser of MurmurHash3 (public domain, A. Appleby)
on int64 tensors; integer arithmetic only, modulo 2^32: int64 products wrap, and their low 32 bits are right all the
same.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
LATENT_STREAM, NOISE_STREAM, LINE_STREAM = 1, 2, 3


def _mix(x: Tensor) -> Tensor:
    x = x ^ (x >> 16)
    x = (x * 0x85EBCA6B) & _MASK
    x = x ^ (x >> 13)
    x = (x * 0xC2B2AE35) & _MASK
    return x ^ (x >> 16)


def bits(seed: Tensor, stream: int, position: Tensor, lane: Tensor) -> Tensor:
    """Integers in [0, 2^32), int64, of the broadcast shape of the int64 tensors `seed`, `position` and `lane`."""
    keyed = _mix((seed & _MASK) ^ _mix(torch.as_tensor(stream * 0x9E3779B1 & _MASK, device=seed.device)))
    placed = _mix((keyed + (position & _MASK) * 0x9E3779B1) & _MASK)
    return _mix((placed + lane * 0x85EBCA77) & _MASK)


def uniform(seed: Tensor, stream: int, position: Tensor, lane: Tensor) -> Tensor:
    """float32 in [-1, 1), exact multiples of 2^-23."""
    return (bits(seed, stream, position, lane) >> 8).float() * 2.0**-23 - 1


def normal(seed: Tensor, stream: int, position: Tensor, lane: Tensor) -> Tensor:
    """Standard normal float32 (Box-Muller on two lanes)."""
    radius = ((bits(seed, stream, position, 2 * lane) >> 8).double() + 0.5) * 2.0**-24
    angle = (bits(seed, stream, position, 2 * lane + 1) >> 8).double() * (2.0**-23 * torch.pi)
    return (torch.sqrt(-2 * torch.log(radius)) * torch.cos(angle)).float()
