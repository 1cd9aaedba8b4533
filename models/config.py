"""ModelConfig: everything that defines a network, as one frozen value with a JSON form.

Every class of this package is built from it and from nothing else; it travels in the metadata of a
model package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any

from ravecodec.errors import ModelError
from ravecodec.models.size import check_size

PACKAGE_FORMAT = "ravecodec-model"  # what a model file calls itself
PACKAGE_VERSION = 4  # what is written of a model without prediction
PREDICTION_SINCE = 5  # and of one with it
MOST_EFFORT = 5  # the highest level of `ravecodec.effort`
PACKAGE_VERSIONS = ("1", "2", "3", "4", "5")  # what is read

ENCODERS = ("multiband", "spectrogram")
GENERATORS = ("conv", "istft")
STEP = 2048  # samples per column of features in the spectrogram and istft families
LISTS = ("ratios", "dilations", "frequency_ratios", "blocks")
NOISE_BLOCK = 64  # band samples that share one filter of the conv generator's noise head
MOST_LOOKAHEAD = 3584  # samples: what the longest window, of 8192, looks ahead where it is centred
LOWEST_SPECTRAL_RATE = 40_000  # Hz; the warped spectrum goes up to 20 kHz

# What no network goes beyond. Rate, hop and latents are bounded by what a stream can name (SPEC
# section 8); the others keep sums from growing without bounds before `check_size` looks at what
# they add up to.
MOST = {
    "sample_rate": 768_000,
    "capacity": 1 << 16,
    "latent": 1024,
    "lines": 1 << 16,
    "sinusoids_per_line": 1 << 10,
}
MOST_HOP = 65_536
MOST_LEVELS, MOST_ENTRY = 16, 1 << 16  # of a list
BRIEF = 80  # characters of a value in an error message


@dataclass(frozen=True)
class ModelConfig:
    """A network.

    `encoder` and `generator` choose the family: ("multiband", "conv") is the network of the RAVE
    paper, ("spectrogram", "istft") the default preset. `ratios` are the strides at band rate: hop =
    bands * prod(ratios) for both families. The spectrogram and istft families work on steps of 2048
    samples; a hop of 2048 * 2^k halves time on the way into each of the k deepest levels. Raises
    ModelError for values that no network can be built from, and for networks that are larger than
    any model may be (`size.py`).
    """

    sample_rate: int = 48000
    channels: int = 1
    bands: int = 16
    encoder: str = "multiband"
    generator: str = "conv"
    capacity: int = 64  # width of the first level; deeper levels are multiples of it
    ratios: tuple[int, ...] = (4, 4, 4, 2)
    latent: int = 128
    dilations: tuple[int, ...] = (1, 3, 9)  # residual stack of the conv generator
    noise: bool = True  # noise head of either generator
    # rows of the warped spectrum that the spectrogram encoder sees and the istft generator draws
    lines: int = 512
    # istft: how many sinusoids share a row, so that pitch can be finer than the image
    sinusoids_per_line: int = 1
    # spectrogram/istft: how the rows shrink from level to level
    frequency_ratios: tuple[int, ...] = (4, 2, 2, 1)
    blocks: tuple[int, ...] = (1, 1, 2, 2)  # spectrogram/istft: residual blocks per level
    # spectrogram: more planes of the image, for what lies below the floor of the others
    faint: bool = False
    # spectrogram/istft: width of the network that corrects latents by a gradient; 0: there is none
    refiner: int = 0
    # spectrogram/istft: no layer looks ahead, so that a stream can be followed live; and by how
    # many samples the windows of the encoder may all the same look beyond the end of their column
    causal: bool = False
    lookahead: int = 0

    def __post_init__(self) -> None:
        for name in LISTS:
            self._check(isinstance(getattr(self, name), (list, tuple)), name, "a list")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_values()
        if self.generator == "conv" and self.noise:
            whole = self.hop % (self.bands * NOISE_BLOCK) == 0
            self._check(
                whole,
                "ratios",
                f"a product that is a multiple of {NOISE_BLOCK}, as the noise head needs",
            )
        both = self.encoder == "spectrogram" and self.generator == "istft"
        self._check(
            self.encoder == "spectrogram" or not self.faint,
            "faint",
            "false unless the encoder is spectrogram",
        )
        self._check(
            both or not self.refiner, "refiner", "0 unless the families are spectrogram and istft"
        )
        if self.encoder == "spectrogram" or self.generator == "istft":
            self._check_spectral()
        self._check_causal(both)
        check_size(self)

    def _check_values(self) -> None:
        self._check(_is_count(self.channels) and self.channels <= 2, "channels", "1 or 2")
        self._check(self.encoder in ENCODERS, "encoder", f"one of {ENCODERS}")
        self._check(self.generator in GENERATORS, "generator", f"one of {GENERATORS}")
        width = _is_count(self.refiner) or (
            self.refiner == 0 and not isinstance(self.refiner, bool)
        )
        self._check(width and self.refiner <= MOST_ENTRY, "refiner", f"a width, 0 to {MOST_ENTRY}")
        self._check(
            _is_count(self.bands) and self.bands == 16,
            "bands",
            "16, the bank that pqmf_prototype.npy is designed for",
        )
        for name in ("noise", "faint", "causal"):
            self._check(isinstance(getattr(self, name), bool), name, "true or false")
        for name, most in MOST.items():
            self._check(_is_count(getattr(self, name)), name, "a positive integer")
            self._check(getattr(self, name) <= most, name, f"at most {most}")
        for name in LISTS:
            values = getattr(self, name)
            self._check(len(values) > 0 and all(map(_is_count, values)), name, "positive integers")
            short = len(values) <= MOST_LEVELS and max(values) <= MOST_ENTRY
            self._check(short, name, f"at most {MOST_LEVELS} integers of at most {MOST_ENTRY}")
        self._check(
            _all_even(self.ratios),
            "ratios",
            "even, so that a transposed convolution keeps the length",
        )
        self._check(self.hop <= MOST_HOP, "ratios", f"a hop of at most {MOST_HOP} samples")

    def _check_spectral(self) -> None:
        """What the spectrogram encoder and the istft generator need."""
        fast = self.sample_rate >= LOWEST_SPECTRAL_RATE
        self._check(
            fast,
            "sample_rate",
            f"at least {LOWEST_SPECTRAL_RATE} Hz for the spectrogram and istft families",
        )
        halvings = (self.hop // STEP).bit_length() - 1
        good = self.hop == STEP << max(0, halvings) and halvings < len(self.frequency_ratios)
        self._check(
            good, "ratios", f"a hop of {STEP} * 2^k samples, k less than the levels of this family"
        )
        self._check(
            self.lines % prod(self.frequency_ratios) == 0,
            "lines",
            "divisible by all frequency_ratios",
        )
        self._check(self.lines > 1, "lines", "at least 2")
        deepest = self.lines // prod(self.frequency_ratios)
        self._check(
            self.latent % deepest == 0,
            "latent",
            f"a multiple of the {deepest} rows of the deepest level",
        )
        self._check(len(self.frequency_ratios) > 1, "frequency_ratios", "at least two levels")
        if self.generator == "istft" and self.noise:
            full = halvings < len(self.frequency_ratios) - 1
            self._check(
                full,
                "ratios",
                f"a hop below {STEP << halvings}: the noise head's level is not halved in time",
            )
        self._check(
            len(self.blocks) == len(self.frequency_ratios),
            "blocks",
            "one count per entry of frequency_ratios",
        )

    def _check_causal(self, both: bool) -> None:
        """What a network that looks only back needs; both: its families are the spectral ones."""
        whole = isinstance(self.lookahead, int) and not isinstance(self.lookahead, bool)
        most = MOST_LOOKAHEAD if self.causal else 0
        expected = f"0 to {most} samples" if self.causal else "0 unless causal"
        self._check(whole and 0 <= self.lookahead <= most, "lookahead", expected)
        if self.causal:
            self._check(both, "causal", "false unless the families are spectrogram and istft")
            self._check(self.hop == STEP, "ratios", f"a hop of {STEP} samples, where causal")
            self._check(not self.refiner, "refiner", "0 where causal: its gradient looks ahead")

    def _check(self, good: bool, name: str, expected: str) -> None:
        if not good:
            raise ModelError(
                f"model config: {name} is {brief(getattr(self, name))}, expected {expected}"
            )

    @property
    def hop(self) -> int:
        """Samples per latent frame."""
        return self.bands * prod(self.ratios)

    @property
    def sinusoids(self) -> int:
        """istft: sinusoids of the generator."""
        return self.lines * self.sinusoids_per_line

    @property
    def time_ratios(self) -> tuple[int, ...]:
        """Spectrogram/istft: by how much time shrinks on the way into each level, 1 or 2."""
        levels, halvings = len(self.frequency_ratios), (self.hop // STEP).bit_length() - 1
        return (1,) * (levels - halvings) + (2,) * halvings

    @property
    def frame_rate(self) -> float:
        """Latent frames per second (paper preset: 23.4375 Hz)."""
        return self.sample_rate / self.hop

    def to_json(self) -> str:
        """Without the fields of causal networks for other ones, so that their packages stay what
        they are, byte for byte, and older readers take them."""
        values = asdict(self)
        if not self.causal:
            del values["causal"], values["lookahead"]
        return json.dumps(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Raises ModelError for keys it does not know: a newer model must not be half
        understood.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            found, expected = brief(", ".join(unknown), plain=True), ", ".join(sorted(known))
            raise ModelError(f"model config: unknown key {found}; expected {expected}")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Inverse of `to_json`; ModelError if it is not the JSON of a config."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"model config: not JSON ({error})") from error
        if not isinstance(values, dict):
            raise ModelError(f"model config: found {type(values).__name__}, expected an object")
        return cls.from_dict(values)


def brief(value: object, *, plain: bool = False) -> str:
    """A value as an error message shows it: `repr`, or with `plain` the text itself, on one line
    and cut in the middle where it is long."""
    text = repr(value)[1:-1] if plain else repr(value)
    return text if len(text) <= BRIEF else f"{text[: BRIEF // 2]} ... {text[-BRIEF // 4 :]}"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _all_even(values: tuple[int, ...]) -> bool:
    return all(value % 2 == 0 for value in values)
