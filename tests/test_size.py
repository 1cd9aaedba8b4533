"""What a config says of its network's size is what the network has: shapes exactly, reach and
memory as bounds.
"""

import os
import subprocess
import sys
from math import prod
from typing import Any

import numpy as np
import pytest

from ravecodec import analysis
from ravecodec.bitstream import limits
from ravecodec.errors import ModelError
from ravecodec.models import config as config_module
from ravecodec.models import header, istft, pqmf, size, spectrogram
from ravecodec.models.config import ModelConfig
from ravecodec.models.package import fold
from ravecodec.models.rave import Rave
from ravecodec.train.recipe import load_recipe


def some_config(seed: int) -> ModelConfig:
    """A small network of either family, or of one half of each."""
    random = np.random.default_rng(seed)

    def one_of(*values: Any) -> Any:
        return values[random.integers(len(values))]

    families = one_of(*config_module.ENCODERS), one_of(*config_module.GENERATORS)
    ratios, levels = one_of((4, 4, 4, 2), (2, 4, 4, 4, 2), (4, 4, 4, 4, 2)), 4
    spectral = families == ("spectrogram", "istft")
    causal = spectral and ratios == (4, 4, 4, 2) and one_of(False, True)
    rows = [one_of(1, 2, 3) for _ in range(levels)]
    deepest = one_of(1, 2, 4)
    return ModelConfig(
        channels=one_of(1, 2),
        encoder=families[0],
        generator=families[1],
        refiner=one_of(0, 3) if spectral and not causal else 0,
        causal=causal,
        lookahead=one_of(0, 1000) if causal else 0,
        capacity=one_of(1, 2, 5),
        ratios=ratios,
        latent=deepest * one_of(1, 2, 3),
        dilations=tuple(random.integers(1, 40, random.integers(1, 4)).tolist()),
        noise=one_of(False, True),
        faint=families[0] == "spectrogram" and one_of(False, True),
        lines=prod(rows) * deepest * 8,
        sinusoids_per_line=one_of(1, 2, 3),
        frequency_ratios=(*rows[:-1], rows[-1] * 8),
        blocks=tuple(one_of(1, 2, 3) for _ in range(levels)),
    )


def test_weight_shapes_and_reach_are_the_networks() -> None:
    for config in map(some_config, range(24)):
        network = Rave(config)
        weights = fold(network).state_dict()
        assert size.weight_shapes(config) == {
            name: tuple(value.shape) for name, value in weights.items()
        }, config
        assert size.parameters(config) == sum(value.numel() for value in weights.values())
        for reach, bound in (
            (network.encoder_reach, size.encoder_samples(config)),
            (network.decoder_reach, size.decoder_samples(config)),
        ):
            frames = max(reach.past, reach.future)
            assert frames <= bound // config.hop <= 8 * frames + 16, config


def test_constants_that_are_said_twice_agree() -> None:
    assert size.BLOCK_SAMPLES == analysis.BLOCK_SAMPLES
    assert pqmf.analysis_filters().shape[1] == size.PQMF_TAPS
    assert (size.LINE_COLUMNS, size.NOISE_COLUMNS) == (istft.LINE_COLUMNS, istft.NOISE_COLUMNS)
    windows = [(spectrogram.LONG, spectrogram.COLUMNS), (spectrogram.SHORT, spectrogram.COLUMNS)]
    assert [*size.SPECTRUM] == [*windows, (spectrogram.ONSET, spectrogram.ONSET_COLUMNS)]
    assert (
        config_module.MOST["sample_rate"] == limits.MAX_RATE
        and config_module.MOST["latent"] == limits.MAX_DIMS
    )
    assert (config_module.MOST_HOP, header.MAX_STEP_INDEX) == (
        limits.MAX_HOP,
        limits.MAX_STEP_INDEX,
    )


SPECTRAL = {
    "channels": 2,
    "encoder": "spectrogram",
    "generator": "istft",
    "ratios": (4, 4, 4, 4, 2),
    "latent": 512,
}
TOO_LARGE: dict[str, dict[str, Any]] = {
    "weights": {"capacity": 4096},
    "blocks": {**SPECTRAL, "blocks": (1, 1, 1, 65_536)},
    "sinusoids": {**SPECTRAL, "sinusoids_per_line": 512},
    "lines": {**SPECTRAL, "lines": 65_536, "frequency_ratios": (16, 16, 16, 2), "capacity": 64},
    "reach": {"dilations": (65_536,), "capacity": 8},
    "depth": {"ratios": (2,) * 12, "capacity": 64, "latent": 8},
}


def test_a_network_beyond_all_bounds_is_refused_from_its_config(subtests: pytest.Subtests) -> None:
    for name in TOO_LARGE:
        with (
            subtests.test(name=name),
            pytest.raises(ModelError, match=r"model config: .*expected at most"),
        ):
            ModelConfig.from_dict(TOO_LARGE[name])


def test_twice_the_shipped_networks_would_do() -> None:
    for name in ("default", "paper"):
        config = load_recipe(name).model
        ModelConfig.from_dict(
            {**vars(config), "capacity": 2 * config.capacity, "sinusoids_per_line": 4}
        )


MEASURE = """
import sys
from pathlib import Path
import torch
from ravecodec.models.config import ModelConfig
from ravecodec.models.istft import Clock
from ravecodec.models.package import _Uninitialised, _fold
from ravecodec.models.rave import Rave
from ravecodec.models import size

def kilobytes(field):
    return int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0])

config = ModelConfig.from_json(sys.argv[1])
torch.set_num_threads(1)
with torch.inference_mode():
    Rave(ModelConfig(capacity=1, latent=2)).encode(torch.zeros(1, 1, 2048))
    network = _fold(Rave(config)).to(memory_format=torch.channels_last).eval()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = kilobytes("VmRSS")
    for reach, samples in ((network.encoder_reach, network.encode), (network.decoder_reach, None)):
        frames = size.BLOCK_SAMPLES // config.hop + reach.past + reach.future
        if samples:
            samples(torch.zeros(1, config.channels, frames * config.hop))
        else:
            network.decode(torch.zeros(1, config.latent, frames), Clock.at(0))
print((kilobytes("VmHWM") - before) * 1024, size.block_bytes(config))
"""


@pytest.mark.parametrize(
    "values",
    [
        {"channels": 2, "capacity": 128, "latent": 16, "ratios": (4, 4, 4)},
        {**SPECTRAL, "capacity": 96, "sinusoids_per_line": 4, "blocks": (1, 1, 1, 1)},
    ],
    ids=["wide paper", "rich default"],
)
def test_a_block_takes_no_more_memory_than_its_estimate(values: dict[str, Any]) -> None:
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("needs /proc")
    command = [sys.executable, "-c", MEASURE, ModelConfig(**values).to_json()]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    measured, estimate = map(int, done.stdout.split())
    assert estimate / 6 < measured < estimate, f"{measured >> 20} MiB, estimated {estimate >> 20}"
