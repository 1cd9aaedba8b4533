"""Training with a refiner and with faint crops: it learns to correct, and quiet crops count as loud
ones do.
"""

import dataclasses

import numpy as np
import pytest
import torch

from ravecodec.errors import ModelError, UsageError
from ravecodec.models.clock import Clock
from ravecodec.models.config import ModelConfig
from ravecodec.models.grow import adopt
from ravecodec.models.losses import FAINT_RMS, MOST_LIFT, lift
from ravecodec.models.rave import Rave
from ravecodec.train import stages
from ravecodec.train.parallel import World
from ravecodec.train.recipe import Recipe, load_recipe
from ravecodec.train.trainer import Trainer, stage1_step

CPU = torch.device("cpu")


def recipe(**changes: object) -> Recipe:
    tiny = load_recipe("tiny")
    model = dataclasses.replace(tiny.model, refiner=8, faint=True)
    return tiny.replace(model=model, refine=(1,), **changes)


def chords(batch: int, samples: int) -> torch.Tensor:
    time = torch.arange(samples) / 48_000
    hertz = 110 + 40 * np.arange(batch)
    voices = [
        sum(torch.sin(2 * torch.pi * f * (k + 1) * time) / 20 for k in range(4)) for f in hertz
    ]
    return torch.stack([torch.stack([voice, 0.5 * voice]) for voice in voices])


def test_the_refiner_learns() -> None:
    """After some steps of stage 1 its correction is no longer nothing, and it has been trained with
    the rest.
    """
    trainer = Trainer(recipe(), World(CPU))
    audio = chords(2, trainer.recipe.crop_frames * trainer.recipe.model.hop)
    refiner = trainer.model.refiner
    assert refiner is not None
    for _ in range(3):
        stage1_step(trainer, audio)
        trainer.step += 1
    assert refiner.head.weight.abs().max() > 0
    with torch.no_grad():
        clock = Clock(torch.tensor([3, 4]), torch.tensor([5, 6]))
        plain, spread = stages.posterior(trainer.model, trainer.valid, audio, clock, 0)
        refined, same = stages.posterior(trainer.model, trainer.valid, audio, clock, 1)
    assert torch.equal(spread, same)
    assert not torch.equal(plain, refined)


def test_the_number_of_corrections_is_drawn_from_the_list() -> None:
    drawn = [
        stages.pick_refinement(
            recipe().replace(refine=(1, 1, 0, 2)), torch.Generator().manual_seed(seed)
        )
        for seed in range(200)
    ]
    assert set(drawn) == {0, 1, 2}
    assert 80 < drawn.count(1) < 120
    assert stages.pick_refinement(recipe(), torch.Generator()) == 1


def test_bad_lists_of_corrections_are_refused(subtests: pytest.Subtests) -> None:
    for refine in [[], [-1], [1.5], ["1"]]:
        with subtests.test(refine=refine), pytest.raises(UsageError, match="refine"):
            Recipe.from_dict({"refine": refine})


def test_lift_brings_quiet_items_to_one_level() -> None:
    loud = torch.randn(1, 2, 4_000, generator=torch.Generator().manual_seed(0))
    items = torch.cat([loud * gain for gain in (0.3, 0.01, 0.002, 0.0001, 1e-6, 0.0)])
    gains = lift(items).flatten()
    level = loud.square().mean().sqrt()
    assert gains[:2].tolist() == pytest.approx([1.0, max(1.0, FAINT_RMS / (0.01 * level.item()))])
    assert (gains[2:4] * items[2:4].square().mean((1, 2)).sqrt()).tolist() == pytest.approx(
        [FAINT_RMS] * 2, rel=1e-4
    )
    assert gains[4:].tolist() == pytest.approx([MOST_LIFT] * 2)


def test_with_faint_crops_a_quiet_error_costs_what_a_loud_one_costs() -> None:
    """Without, the floor of the logarithm hides it."""
    audio = chords(2, 14 * 4_096)
    wrong = audio.roll(1, 0)

    def cost(share: float, gain: float) -> float:
        wanted = recipe(faint=share)
        model = Rave(wanted.model)
        objective = stages.Objective(wanted, stages.Valid.of(model, wanted.crop_frames))
        decoded = stages.Decoded(wrong[:, :1], gain * wrong)
        spectra = objective.all_spectra()
        return objective.distance(model, gain * audio, decoded, spectra).item()

    assert cost(0.1, 1e-3) == pytest.approx(cost(0.1, 0.02), rel=0.05)
    assert cost(0.0, 1e-3) < 0.8 * cost(0.0, 0.02)


def test_the_image_sees_below_its_floor() -> None:
    """A tone at -90 dBFS is in the planes for it and nowhere else; a loud one leaves them at zero
    where it is.
    """
    config = recipe().model
    spectrum = Rave(config).encoder.spectrum
    time = torch.arange(16 * 2_048) / 48_000
    tone = torch.sin(2 * torch.pi * 440 * time).expand(1, 2, -1)
    quiet, quieter, loud = (spectrum(gain * tone) for gain in (10**-4.5, 10**-4.7, 0.1))
    names = [name for name, count in spectrum.planes.items() for _ in range(count)]
    faint = [i for i, name in enumerate(names) if name == "faint"]
    level = [i for i, name in enumerate(names) if name == "level"]
    assert (quiet[:, level] - quieter[:, level]).abs().max() < 0.1
    assert (quiet[:, faint] - quieter[:, faint]).abs().max() == pytest.approx(0.2, abs=0.05)
    row = loud[0, level[0], :, 8].argmax()
    assert loud[0, faint[0], row, 8] == 0
    assert quiet[0, faint[0], row, 8] < -0.05


def test_an_image_with_more_planes_starts_as_without_them() -> None:
    plain = dataclasses.replace(recipe().model, faint=False, refiner=0)
    donor, network = Rave(plain).eval(), Rave(recipe().model).eval()
    new = adopt(network, donor)
    assert all("refiner" in name for name in new)
    audio = chords(1, 16 * plain.hop)
    with torch.no_grad():
        for one, other in zip(donor.encode(audio), network.encode(audio), strict=True):
            assert torch.allclose(one, other, atol=1e-5)


def test_planes_need_the_spectral_encoder() -> None:
    with pytest.raises(ModelError, match="faint"):
        ModelConfig(faint=True)
