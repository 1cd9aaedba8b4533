"""A network that starts from a trained one of another shape computes what that one computes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ravecodec.errors import ModelError
from ravecodec.models.config import ModelConfig
from ravecodec.models.grow import QUIETER, adopt
from ravecodec.models.istft import LINE_COLUMNS, STEREO_MAPS, Clock
from ravecodec.models.package import fold
from ravecodec.models.rave import Rave

SMALL = ModelConfig(
    channels=2, encoder="spectrogram", generator="istft", capacity=4, latent=16, lines=128
)
PAPER = ModelConfig(capacity=4, latent=8)
DEEP = dataclasses.replace(SMALL, blocks=(2, 1, 3, 5))
FINE = dataclasses.replace(SMALL, sinusoids_per_line=2)


def trained(config: ModelConfig) -> Rave:
    """Weights that are far from an initialisation, biases too."""
    torch.manual_seed(1)
    network = Rave(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def heard(network: Rave) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior mean of a fixed sound, and what the network makes of fixed latents."""
    random = torch.Generator().manual_seed(2)
    config = network.config
    audio = 0.1 * torch.randn(1, config.channels, 8 * config.hop, generator=random)
    z = torch.randn(1, config.latent, 8, generator=random)
    with torch.no_grad():
        return network.encode(audio)[0], network.decode(z, Clock.at(5))


@pytest.mark.parametrize("config", [SMALL, PAPER], ids=["default", "paper"])
def test_the_same_config_takes_everything_over(config: ModelConfig) -> None:
    donor, network = trained(config), Rave(config).eval()
    assert adopt(network, fold(donor)) == []
    for mine, theirs in zip(heard(network), heard(donor), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_a_deeper_network_starts_with_the_same_output() -> None:
    donor, network = trained(SMALL), Rave(DEEP).eval()
    new = adopt(network, donor)
    assert new
    assert len(network.state_dict()) - len(donor.state_dict()) == len(new)
    for mine, theirs in zip(heard(network), heard(donor), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_new_blocks_learn() -> None:
    network = Rave(DEEP)
    new = adopt(network, trained(SMALL))
    mean, _ = network.encode(0.1 * torch.randn(1, 2, 8 * DEEP.hop))
    network.decode(mean, Clock.at(0)).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    last = [gradients[name] for name in new if name.endswith("narrow.weight")]
    assert len(last) == 2 * (sum(DEEP.blocks) - sum(SMALL.blocks))
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in last)


def test_sinusoids_between_the_old_ones_start_quieter() -> None:
    donor, network = trained(SMALL), Rave(FINE).eval()
    torch.nn.init.zeros_(donor.generator.balance)  # which is interpolated between rows
    assert adopt(network, donor) == []
    z = torch.randn(1, SMALL.latent, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        coarse, fine = donor.generator.amplitudes(z)[0], network.generator.amplitudes(z)[0]
    assert fine.shape == (1, STEREO_MAPS, FINE.sinusoids, coarse.shape[-1])
    assert coarse.shape[-1] % LINE_COLUMNS == 0
    assert torch.allclose(fine[:, :, 0::2], coarse, atol=1e-5)
    assert torch.allclose(fine[:, :, 1::2], coarse - QUIETER, atol=1e-5)


def test_a_wider_network_keeps_what_it_cannot_take_over() -> None:
    wide = Rave(dataclasses.replace(SMALL, capacity=8))
    before = {name: value.clone() for name, value in fold(wide).state_dict().items()}
    new = adopt(wide, trained(SMALL))
    assert 0 < len(new) < len(before)
    after = fold(wide).state_dict()
    kept = [name for name in new if ".narrow." not in name]
    assert kept
    assert all(torch.equal(after[name], before[name]) for name in kept)


def test_another_family_is_refused() -> None:
    with pytest.raises(ModelError, match="none of its weights fit"):
        adopt(Rave(PAPER), trained(SMALL))
