"""float32 or bfloat16: what the layers of a network compute in, and which of the two is faster
here.

Some processors compute faster in bfloat16, others, without any instruction for it, much slower; and
what a processor says about itself does not tell how fast it is. So `auto` times a few layers.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch is not imported before it is needed
    import torch
    from torch import Tensor, nn

PRECISIONS = ("float32", "bfloat16")
AUTO = "auto"
# Of the network that is timed: a middle level of the default preset.
LAYERS, CHANNELS, ROWS, COLUMNS = 4, 96, 32, 64
ROUNDS = 3
WORTHWHILE = 1.15  # times faster, before bfloat16 is preferred


def resolved(precision: str, device: torch.device, *, training: bool = False) -> str:
    """float32 or bfloat16: `precision`, or for "auto" the faster one on this device.

    training: backward passes are timed too.
    """
    if precision != AUTO:
        return precision
    exact, fast = (_seconds(name, device, training) for name in PRECISIONS)
    return PRECISIONS[1] if fast * WORTHWHILE < exact else PRECISIONS[0]


def _seconds(precision: str, device: torch.device, training: bool) -> float:
    """The shortest time that a few pointwise convolutions take."""
    import torch
    from torch import nn

    layers = [nn.Conv2d(CHANNELS, CHANNELS, 1) for _ in range(LAYERS)]
    network = nn.Sequential(*layers).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    shape = (1, CHANNELS, ROWS, COLUMNS)
    audio = torch.zeros(shape, device=device).to(memory_format=torch.channels_last)
    return min(_timed(network, audio, precision, training) for _ in range(ROUNDS))


def _timed(network: nn.Module, x: Tensor, precision: str, training: bool) -> float:
    import torch

    began = time.perf_counter()
    enabled = precision == "bfloat16"
    with (
        torch.set_grad_enabled(training),
        torch.autocast(x.device.type, torch.bfloat16, enabled=enabled),
    ):
        total = network(x).float().sum()
    if training:
        total.backward()
    total.item()  # waits for a GPU
    return time.perf_counter() - began
