"""A network that starts from a trained one of another shape: what `ravecodec train --init-from`
does.

Weights are taken over by their place in the network, wherever they fit. A block that the donor
lacks ends in zeros, so it starts as the identity and a deeper network starts out computing what the
donor computes (Chen et al. 2016, Net2Net). Sinusoids that stand between the donor's start QUIETER
than the old one beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ravecodec.errors import ModelError
from ravecodec.models.config import ModelConfig
from ravecodec.models.istft import LINE_COLUMNS
from ravecodec.models.package import fold, load_weights
from ravecodec.models.rave import Rave
from ravecodec.models.spectrogram import image_planes

QUIETER = 3.0  # nepers
LEVELS, LINE_HEAD = "encoder.levels.", "generator.line_head."
FIRST_CONVOLUTION = LEVELS + "0.weight"


def adopt(network: Rave, donor: Rave) -> list[str]:
    """Puts the donor's weights into `network`; returns the names of those that the donor could not
    give.

    Where both have the same config that is none of them. ModelError if the donor could give nothing
    at all.
    """
    weights = fold(network).state_dict()
    given = {_place(donor.config, name): value for name, value in fold(donor).state_dict().items()}
    new = []
    for name, value in weights.items():
        found = given.get(_place(network.config, name))
        if found is not None and name.startswith(LINE_HEAD):
            found = _divided(found, donor.config, network.config)
        if (
            found is not None
            and name == FIRST_CONVOLUTION
            and network.config.encoder == "spectrogram"
        ):
            found = _with_planes(found, donor.config, network.config)
        if found is not None and found.shape == value.shape:
            weights[name] = found
        else:
            new.append(name)
            if ".narrow." in name:  # the last layer of a SpectralBlock
                weights[name] = torch.zeros_like(value)
    if len(new) == len(weights):
        raise ModelError(
            "none of its weights fit this model config; expected a model of the same family"
        )
    load_weights(network, weights)
    return new


def _with_planes(weight: Tensor, donor: ModelConfig, config: ModelConfig) -> Tensor:
    """The encoder's first convolution [width, planes, ...] with planes of zeros where the donor's
    image has none.
    """
    had = image_planes(donor)
    given = dict(zip(had, weight.split([*had.values()], 1), strict=True))
    parts = [
        given.get(name, weight.new_zeros(len(weight), count, *weight.shape[2:]))
        for name, count in image_planes(config).items()
    ]
    return torch.cat(parts, 1)


def _place(config: ModelConfig, name: str) -> str:
    """A weight's name that does not change with the number of blocks: the encoder numbers all its
    layers in one row.
    """
    if config.encoder != "spectrogram" or not name.startswith(LEVELS):
        return name
    number, _, rest = name.removeprefix(LEVELS).partition(".")
    parts = [("in", "bias", *map(str, range(count))) for count in config.blocks]
    places = [f"{level}.{part}" for level, names in enumerate(parts) for part in names]
    return f"{LEVELS}{places[int(number)]}.{rest}"


def _divided(head: Tensor, donor: ModelConfig, config: ModelConfig) -> Tensor:
    """The line head's weight or bias [maps * fine rows * columns, ...] for k times as many
    sinusoids: each fine row becomes itself and k - 1 quieter ones."""
    times, rest = divmod(config.sinusoids_per_line, donor.sinusoids_per_line)
    if rest or times == 1 or config.frequency_ratios[0] != donor.frequency_ratios[0]:
        return head
    fine = donor.frequency_ratios[0] * donor.sinusoids_per_line
    old = head.reshape(-1, fine, LINE_COLUMNS, *head.shape[1:])
    quiet = old - QUIETER if head.dim() == 1 else old
    return torch.stack([old, *[quiet] * (times - 1)], 2).reshape(-1, *head.shape[1:])
