"""ModelConfig: everything that defines a network, as one frozen value with a JSON form.

Every class of this room is built from it and from nothing else; it travels in the metadata of a model package.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from math import prod

from ravecodec.errors import ModelError

ENCODERS = ("multiband", "spectrogram")
GENERATORS = ("conv", "istft")


@dataclass(frozen=True)
class ModelConfig:
    """A network.

    `encoder` and `generator` choose the family: ("multiband", "conv") is the network of the RAVE paper, ("spectrogram", "istft")
    the default preset. `ratios` are the strides at band rate: hop = bands * prod(ratios) for both families.
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
    lines: int = 512  # rows of the warped spectrum: the spectrogram encoder's input, the istft generator's sinusoids
    frequency_ratios: tuple[int, ...] = (4, 2, 2, 2)  # spectrogram/istft: how the rows shrink from level to level
    blocks: tuple[int, ...] = (1, 1, 2, 2)  # spectrogram/istft: residual blocks per level

    def __post_init__(self) -> None:
        for name in ("ratios", "dilations", "frequency_ratios", "blocks"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check(self.channels in (1, 2), "channels", "1 or 2")
        self._check(self.encoder in ENCODERS, "encoder", f"one of {ENCODERS}")
        self._check(self.generator in GENERATORS, "generator", f"one of {GENERATORS}")
        self._check(self.bands == 16, "bands", "16, the bank that pqmf_prototype.npy is designed for")
        for name in ("sample_rate", "capacity", "latent", "lines"):
            value = getattr(self, name)
            self._check(isinstance(value, int) and value > 0, name, "a positive integer")
        for name in ("ratios", "dilations", "frequency_ratios", "blocks"):
            values = getattr(self, name)
            self._check(len(values) > 0 and all(isinstance(v, int) and v > 0 for v in values), name, "positive integers")
        self._check(all(r % 2 == 0 for r in self.ratios), "ratios", "even, so that a transposed convolution keeps the length")
        if "spectrogram" == self.encoder or "istft" == self.generator:
            self._check(self.hop == 2048, "ratios", "a hop of 2048 samples for the spectrogram and istft families")
            self._check(self.lines % prod(self.frequency_ratios) == 0, "lines", "divisible by all frequency_ratios")
            self._check(len(self.blocks) == len(self.frequency_ratios), "blocks", "one count per entry of frequency_ratios")

    def _check(self, good: bool, name: str, expected: str) -> None:
        if not good:
            raise ModelError(f"model config: {name} is {getattr(self, name)!r}, expected {expected}")

    @property
    def hop(self) -> int:
        """Samples per latent frame."""
        return self.bands * prod(self.ratios)

    @property
    def frame_rate(self) -> float:
        """Latent frames per second (paper preset: 23.4375 Hz)."""
        return self.sample_rate / self.hop

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_dict(cls, values: dict) -> ModelConfig:
        """Raises ModelError for keys it does not know: a newer model must not be half understood."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ModelError(f"model config: unknown key {', '.join(unknown)}; expected {', '.join(sorted(known))}")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        return cls.from_dict(json.loads(text))
