"""Muon: matrices get near-orthogonal steps of the size of Adam's, all other weights are Adam's."""

import copy

import pytest
import torch
from torch import nn

from ravecodec.models.config import ModelConfig
from ravecodec.models.rave import Rave
from ravecodec.train.optimiser import ADAM_RMS, Joined, Muon, build_optimiser, orthogonalised

STEREO = ModelConfig(
    channels=2, encoder="spectrogram", generator="istft", capacity=16, latent=64, lines=128
)


@pytest.mark.parametrize("shape", [(1, 20, 20), (3, 16, 64), (2, 64, 16)])
def test_singular_values_become_one(shape: tuple[int, int, int]) -> None:
    """Whatever they were before, over three orders of magnitude; directions stay."""
    torch.manual_seed(0)
    u, _, vh = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.logspace(0, -2, u.shape[-1])
    found = orthogonalised(u * values @ vh)
    _, sizes, _ = torch.linalg.svd(found)
    assert sizes.min() > 0.5
    assert sizes.max() < 1.3
    diagonal = u.transpose(1, 2) @ found @ vh.transpose(1, 2)
    assert (
        diagonal - torch.diag_embed(torch.diagonal(diagonal, dim1=1, dim2=2))
    ).abs().max() < 1e-3


def test_a_step_is_as_large_as_adams() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(64, 32, 3, 1))
    weight.grad = torch.randn_like(weight)
    Muon([weight], lr=0.01).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(ADAM_RMS * 0.01, rel=0.2)


def test_the_momentum_remembers() -> None:
    """A gradient that changes its sign every step moves the weight less than one that keeps it."""
    moved = []
    for signs in ((1, 1, 1, 1), (1, -1, 1, -1)):
        torch.manual_seed(0)
        weight, gradient = nn.Parameter(torch.zeros(16, 16)), torch.randn(16, 16)
        optimiser = Muon([weight], lr=0.01)
        for sign in signs:
            weight.grad = sign * gradient
            optimiser.step()
        moved.append(weight.norm().item())
    assert moved[1] < 0.6 * moved[0]


def test_every_weight_has_one_optimiser() -> None:
    network = Rave(STEREO)
    joined = build_optimiser("muon", network, (0.9, 0.99))
    assert isinstance(joined, Joined)
    muon, adam = (
        {id(p) for group in part.param_groups for p in group["params"]} for part in joined.parts
    )
    named = dict(network.named_parameters())
    assert not muon & adam
    assert muon | adam == {id(weight) for weight in named.values()}
    for name, weight in named.items():
        small = "bias" in name or "norm" in name or ".filter." in name or weight.dim() < 2
        if small or ".widen.weight" in name:
            assert (id(weight) in muon) != small, name


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_state_survives(kind: str) -> None:
    """Two steps in a row are a step, a saved and restored state, and a step."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 16))
    x = torch.randn(8, 32)

    def step(model: nn.Module, optimiser: torch.optim.Optimizer | Joined) -> None:
        for group in optimiser.param_groups:
            group["lr"] = 0.01
        optimiser.zero_grad()
        model(x).square().mean().backward()
        optimiser.step()

    optimiser = build_optimiser(kind, network, (0.9, 0.99))
    step(network, optimiser)
    other, state = copy.deepcopy(network), copy.deepcopy(optimiser.state_dict())
    resumed = build_optimiser(kind, other, (0.9, 0.99))
    resumed.load_state_dict(state)
    step(network, optimiser)
    step(other, resumed)
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
