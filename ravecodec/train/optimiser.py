"""The optimisers that a recipe can choose: Adam, or Muon for the matrices and Adam for the rest.

Muon (K. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) replaces the momentum of a
weight matrix by the nearest matrix whose singular values are all about one, found by a
Newton-Schulz iteration. Every direction of a layer then moves equally far in a step, however seldom
the gradient points there. `torch.optim.Muon` is not used because it takes two-dimensional weights
only and iterates in bfloat16, which most CPUs emulate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

OPTIMISERS = ("adam", "muon")
LEAST = 16  # rows and columns from which a weight counts as a matrix
MOMENTUM = 0.95
ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # of the odd polynomial a x + b x^3 + c x^5 (Jordan et al.)
# size of an entry of Adam's typical step, in learning rates (Liu et al. 2025, arXiv 2502.16982)
ADAM_RMS = 0.2


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices [count, rows, columns] with their singular values brought near one (0.7 to 1.2)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        square = x @ x.transpose(1, 2)
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum over weights of two or more dimensions, seen as [outputs, rest].

    The step is scaled so that its entries are as large as Adam's at the same learning rate.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 1e-3) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Moves every weight that has a gradient.

        Matrices of the same shape are worked on together.
        """
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes[weight.flatten(1).shape].append(weight)
            for (rows, columns), weights in shapes.items():
                moves = orthogonalised(torch.stack([self._momentum(w).flatten(1) for w in weights]))
                scale = ADAM_RMS * max(rows, columns) ** 0.5
                for weight, move in zip(weights, moves, strict=True):
                    weight.add_(move.reshape(weight.shape), alpha=-group["lr"] * scale)

    def _momentum(self, weight: nn.Parameter) -> Tensor:
        """The Nesterov momentum of a weight, of its shape; remembers its gradient."""
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(weight.grad, 1 - MOMENTUM)  # type: ignore[arg-type]
        return torch.lerp(weight.grad, momentum, MOMENTUM)  # type: ignore[arg-type]


class Joined:
    """Several optimisers that step as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)


Optimiser = torch.optim.Optimizer | Joined


def build_optimiser(kind: str, network: nn.Module, betas: tuple[float, float]) -> Optimiser:
    """The optimiser of a recipe for all weights of `network`; `betas` are Adam's."""
    if kind == "adam":
        return torch.optim.Adam(network.parameters(), betas=betas)
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in network.named_parameters():
        (matrices if _is_matrix(name, weight) else rest).append(weight)
    return Joined(Muon(matrices), torch.optim.Adam(rest, betas=betas))


def _is_matrix(name: str, weight: Tensor) -> bool:
    """Whether Muon takes it: not a bias, a norm, a small weight or a depthwise filter."""
    if name.endswith("bias") or weight.dim() < 2 or weight.shape[1] == 1:
        return False
    return min(len(weight), weight.numel() // len(weight)) >= LEAST
