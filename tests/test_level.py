"""Faint sounds keep their level; others are encoded once, as they are."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from ravecodec import decode, encode, load_model
from ravecodec.audio import Audio
from ravecodec.level import FAINT, LOUD, MOST, encoded
from ravecodec.models.package import Model

RATE = 48_000


@pytest.fixture(scope="module")
def shipped() -> Model:
    """The model that ships."""
    return load_model("default")


def level(audio: Audio) -> float:
    """RMS in dB of full scale."""
    return 10 * float(np.log10(np.mean(audio.astype(np.float64) ** 2) + 1e-30))


def at(audio: Audio, wanted: float) -> Audio:
    return audio * np.float32(10 ** ((wanted - level(audio)) / 20))


def sounds() -> Iterator[tuple[str, Audio]]:
    """Sounds that are unlike music, two seconds of each."""
    time = np.arange(2 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * hertz * time) for hertz in (220, 277.2, 329.6, 440))
    yield "chord", np.array([chord, chord], np.float32)
    yield "noise", np.random.default_rng(0).standard_normal((2, len(time))).astype(np.float32)


def test_faint_sound_comes_back_as_faint_as_it_was(shipped: Model) -> None:
    for name, sound in sounds():
        for wanted in (-55, -65, -75):
            audio = at(sound, wanted)
            output, _ = decode(encode(audio, RATE, shipped), shipped)
            assert abs(level(output) - wanted) < 3, (name, wanted, level(output))


def seen(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[Audio]:
    """What the encoder network of a model is shown from now on."""
    shown: list[Audio] = []
    encode = model.network.encode

    def watched(audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shown.append(audio[0].numpy().copy())
        return encode(audio)

    monkeypatch.setattr(model.network, "encode", watched)
    return shown


def test_what_is_loud_or_silent_is_encoded_once(
    any_model: Model, music: Callable[..., Audio], monkeypatch: pytest.MonkeyPatch
) -> None:
    hop, channels = any_model.config.hop, any_model.config.channels
    window = at(music(40 * hop, channels), LOUD + 20)
    means, _ = any_model.network.encode(torch.from_numpy(window)[None])
    shown = seen(any_model, monkeypatch)
    assert torch.equal(encoded(any_model, window)[0], means)
    encoded(any_model, np.zeros_like(window))
    assert len(shown) == 2 and np.array_equal(shown[0], window)


def test_the_gain_follows_the_passage_and_is_bounded(
    any_model: Model, music: Callable[..., Audio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An untrained network plays nothing like what it is shown."""
    hop, channels = any_model.config.hop, any_model.config.channels
    window = music(60 * hop, channels)
    loud, faint = slice(0, 25 * hop), slice(35 * hop, 60 * hop)
    window[:, loud] = at(window[:, loud], LOUD + 20)
    window[:, faint] = at(window[:, faint], FAINT - 20)
    shown = seen(any_model, monkeypatch)
    encoded(any_model, window)
    assert len(shown) > 1
    inner = slice(faint.start + 3 * hop, faint.stop)
    for audio in shown[1:]:
        assert np.array_equal(audio[:, : 20 * hop], window[:, : 20 * hop])
        assert 0 < abs(level(audio[:, inner]) - level(window[:, inner])) <= MOST + 0.01
