"""Clock: where decoded frames stand in their stream. Excitations and noise are functions of it."""

from __future__ import annotations

import torch
from torch import Tensor


class Clock:
    """Where a batch stands in its streams: `frame` and `seed` are int64 [batch]."""

    def __init__(self, frame: Tensor, seed: Tensor) -> None:
        self.frame, self.seed = frame, seed

    @classmethod
    def at(cls, frame: int, seed: int = 0, device: torch.device | str = "cpu") -> Clock:
        return cls(torch.tensor([frame], device=device), torch.tensor([seed], device=device))
