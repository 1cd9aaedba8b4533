"""ModelConfig: JSON in and out, derived sizes, and that nothing is accepted from which no network
can be built.
"""

import dataclasses
import json

import pytest

from ravecodec.errors import ModelError
from ravecodec.models.config import ModelConfig

SPECTRAL = {"encoder": "spectrogram", "generator": "istft"}
CONFIGS = [
    ModelConfig(),
    ModelConfig(channels=2, capacity=32, ratios=(4, 4, 2, 2), dilations=(1, 3), noise=False),
    ModelConfig(channels=2, capacity=48, ratios=(4, 4, 4, 4, 2), latent=512, **SPECTRAL),
    ModelConfig(causal=True, lookahead=1024, **SPECTRAL),
]


def test_json_round_trip(subtests: pytest.Subtests) -> None:
    for config in CONFIGS:
        with subtests.test(config=config):
            again = ModelConfig.from_json(config.to_json())
            assert again == config
            assert hash(again) == hash(config)  # lists of the JSON became tuples
            assert again.to_json() == config.to_json()


def test_only_causal_configs_have_the_fields_of_causal_ones() -> None:
    """So the packages of other models stay as they are, and older readers take them."""
    for config in CONFIGS:
        fields = set(json.loads(config.to_json()))
        assert config.causal == ("causal" in fields) == ("lookahead" in fields)


def test_what_a_causal_network_cannot_be(subtests: pytest.Subtests) -> None:
    for changes, said in [
        ({"lookahead": 1}, "lookahead is 1, expected 0 unless causal"),
        ({"causal": 1}, "causal is 1, expected true or false"),
        ({"causal": True, "lookahead": -1}, "lookahead is -1, expected 0 to 3584"),
        ({"causal": True, "lookahead": 3585}, "lookahead is 3585, expected 0 to 3584"),
        ({"causal": True, "lookahead": True}, "lookahead is True, expected 0 to 3584"),
        ({"causal": True, "lookahead": 1.0}, "lookahead is 1.0, expected 0 to 3584"),
        ({"causal": True, "encoder": "multiband"}, "causal is True, expected false unless"),
        ({"causal": True, "generator": "conv"}, "causal is True, expected false unless"),
        ({"causal": True, "ratios": (4, 4, 4, 4)}, "expected a hop of 2048 samples, where causal"),
        ({"causal": True, "refiner": 8}, "refiner is 8, expected 0 where causal"),
    ]:
        with subtests.test(changes=changes, said=said), pytest.raises(ModelError, match=said):
            ModelConfig(**(SPECTRAL | changes))


@pytest.mark.parametrize(
    ("ratios", "hop", "rate"),
    [((4, 4, 4, 2), 2048, 23.4375), ((4, 4, 4, 4, 2), 8192, 5.859375), ((4, 4, 4), 1024, 46.875)],
)
def test_hop_and_frame_rate(ratios: tuple[int, ...], hop: int, rate: float) -> None:
    config = ModelConfig(ratios=ratios)
    assert (config.hop, config.frame_rate) == (hop, rate)


def test_time_ratios_halve_the_deepest_levels() -> None:
    for halvings, ratios in enumerate([(4, 4, 4, 2), (4, 4, 4, 4), (4, 4, 4, 4, 2)]):
        config = ModelConfig(ratios=ratios, **SPECTRAL)
        assert config.time_ratios == (1,) * (4 - halvings) + (2,) * halvings


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().capacity = 3  # type: ignore[misc]


def test_unknown_keys_are_rejected_by_name() -> None:
    with pytest.raises(ModelError, match="unknown key atoms, zoom"):
        ModelConfig.from_dict({"zoom": 1, "capacity": 8, "atoms": 2})


def test_what_is_no_config_is_a_model_error(subtests: pytest.Subtests) -> None:
    for text in [
        "",
        "{",
        "[]",
        "3",
        '"capacity"',
        '{"ratios": 4}',
        '{"ratios": "44"}',
        '{"capacity": null}',
    ]:
        with subtests.test(text=text), pytest.raises(ModelError, match="model config"):
            ModelConfig.from_json(text)


def test_bad_values_are_named(subtests: pytest.Subtests) -> None:
    for name, value in [
        ("channels", 0),
        ("channels", 3),
        ("channels", True),
        ("channels", 1.0),
        ("bands", 16.0),
        ("refiner", False),
        ("refiner", -1),
        ("bands", 8),
        ("encoder", "wavelet"),
        ("generator", "wavenet"),
        ("capacity", 0),
        ("capacity", 8.0),
        ("capacity", True),
        ("latent", -1),
        ("sample_rate", "48000"),
        ("noise", 1),
        ("ratios", ()),
        ("ratios", (4, 3)),
        ("ratios", (4, 0)),
        ("ratios", (4, 4, 2)),  # 32 band samples a frame: the noise head's filters last 64
        ("dilations", (1, -3)),
    ]:
        with (
            subtests.test(name=name, value=value),
            pytest.raises(ModelError, match=rf"model config: {name} is .*expected"),
        ):
            ModelConfig.from_dict({name: value})


def test_bad_values_of_the_spectral_families_are_named(subtests: pytest.Subtests) -> None:
    for name, values in [
        ("ratios", {"ratios": (4, 4, 4)}),  # hop 1024
        ("ratios", {"ratios": (4, 4, 4, 2, 6)}),  # no power of two
        # Three halvings of four levels reach the noise head.
        (
            "ratios",
            {"ratios": (4, 4, 4, 4, 4)},
        ),
        ("sample_rate", {"sample_rate": 32000}),  # rows above the Nyquist frequency
        ("lines", {"lines": 500}),
        ("latent", {"latent": 100}),
        ("blocks", {"blocks": (1, 1, 1)}),
        ("frequency_ratios", {"frequency_ratios": (4,), "blocks": (1,)}),
    ]:
        with (
            subtests.test(name=name, values=values),
            pytest.raises(ModelError, match=rf"model config: {name} is .*expected"),
        ):
            ModelConfig.from_dict({**SPECTRAL, **values})


def test_every_field_travels() -> None:
    values = json.loads(ModelConfig(causal=True, **SPECTRAL).to_json())
    assert set(values) == {field.name for field in dataclasses.fields(ModelConfig)}
