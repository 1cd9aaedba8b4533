"""How large a network is, told from its config alone: the shapes of its weights and the memory of
one block.

Nothing is built and torch is not loaded, so that a model file can be judged before it costs
anything. `weight_shapes` says again what the networks' constructors do; `tests/test_size.py`
compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

from ravecodec.errors import ModelError

if TYPE_CHECKING:
    from ravecodec.models.config import ModelConfig

MAX_PARAMETERS = 100_000_000  # five times the RAVE paper's network: 400 MB in float32
MAX_BLOCKS = 1 << 11  # residual blocks; a header of a mebibyte could not name more
MAX_BLOCK_BYTES = 3 << 29  # 1.5 GiB, of a block as `block_bytes` estimates it
BLOCK_SAMPLES = 1 << 18  # what `codec.py` computes at a time

PQMF_TAPS = 385
# Windows of the spectrogram encoder, and their columns per step.
SPECTRUM = (
    (8192, 2),
    (2048, 2),
    (1024, 4),
)
LINE_COLUMNS, NOISE_COLUMNS = 4, 8  # amplitudes per step of the istft generator
FLOAT = 4  # bytes
REFINER_BLOCKS, REFINER_TIME = 2, 3
# arrays of the size of its widest layer that a network holds at a time, scratch memory of kernels
# included
COPIES = 8

Shape = tuple[int, ...]


def check_size(config: ModelConfig) -> None:
    """ModelError if the network has more weights, or a block of it needs more memory, than any
    model may.
    """
    blocks = sum(config.blocks) + len(config.ratios) * len(config.dilations)
    if blocks > MAX_BLOCKS:  # weights are not even counted
        raise ModelError(f"model config: {blocks} residual blocks, expected at most {MAX_BLOCKS}")
    if (count := parameters(config)) > MAX_PARAMETERS:
        raise ModelError(
            f"model config: a network of {count} weights, expected at most {MAX_PARAMETERS}"
        )
    if (size := block_bytes(config)) > MAX_BLOCK_BYTES:
        most = f"expected at most {MAX_BLOCK_BYTES >> 20} MiB"
        raise ModelError(
            f"model config: computing a block would need about {size >> 20} MiB of memory, {most}"
        )


def parameters(config: ModelConfig) -> int:
    """Number of weights of the folded network."""
    return sum(map(prod, weight_shapes(config).values()))


# ---- weights -------------------------------------------------------------------------------------


def weight_shapes(config: ModelConfig, version: int = 4) -> dict[str, Shape]:
    """Name -> shape of every weight of the folded network, as a package of this version holds
    them.
    """
    encoder = _multiband(config) if config.encoder == "multiband" else _spectrogram(config, version)
    generator = _conv(config) if config.generator == "conv" else _istft(config, version)
    shapes = _within("encoder", encoder) | _within("generator", generator)
    return shapes | (_within("refiner", _refiner(config)) if config.refiner else {})


def _within(name: str, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    return {f"{name}.{key}": shape for key, shape in shapes.items()}


def _layer(name: str, outputs: int, inputs: int, *kernel: int) -> dict[str, Shape]:
    """A convolution with its bias."""
    return {f"{name}.weight": (outputs, inputs, *kernel), f"{name}.bias": (outputs,)}


def _layer_up(name: str, inputs: int, outputs: int, *kernel: int) -> dict[str, Shape]:
    """A transposed convolution with its bias."""
    return {f"{name}.weight": (inputs, outputs, *kernel), f"{name}.bias": (outputs,)}


def _multiband(config: ModelConfig) -> dict[str, Shape]:
    width = config.capacity
    shapes = _layer("network.0", width, config.channels * config.bands, 7)
    for i, ratio in enumerate(config.ratios):
        shapes |= _layer(f"network.{3 * i + 3}", 2 * width, width, 2 * ratio + 1)
        width *= 2
    return shapes | _layer(
        f"network.{3 * len(config.ratios) + 2}", 2 * config.latent, width // 2, 5
    )


def _conv(config: ModelConfig) -> dict[str, Shape]:
    width, outputs = config.capacity << len(config.ratios), config.channels * config.bands
    shapes = _layer("trunk.0", width, config.latent, 7)
    place = 1
    for ratio in config.ratios:
        shapes |= _layer_up(f"trunk.{place + 1}", width, width // 2, 2 * ratio)
        width //= 2
        place += 2
        for _ in config.dilations:
            for conv in (1, 3):
                shapes |= _layer(f"trunk.{place}.net.{conv}", width, width, 3)
            place += 1
    shapes |= _layer("waveform", outputs, width, 7) | _layer("loudness", config.channels, width, 3)
    if config.noise:
        for i, maps in enumerate((width, width, 5 * outputs)):
            shapes |= _layer(f"noise.network.{2 * i}", maps, width, 3)
    return shapes


def _levels(config: ModelConfig) -> list[tuple[int, int]]:
    """(channels, rows) of each level of the spectral families."""
    counts = [
        config.lines // prod(config.frequency_ratios[: i + 1])
        for i in range(len(config.frequency_ratios))
    ]
    return [(config.capacity * (i + 1), count) for i, count in enumerate(counts)]


def _block(name: str, width: int, time: int) -> dict[str, Shape]:
    """A `SpectralBlock`."""
    shapes = _layer(f"{name}.filter", width, 1, 7, time) | {
        f"{name}.norm.{key}": (width,) for key in ("weight", "bias")
    }
    return (
        shapes
        | _layer(f"{name}.widen", 2 * width, width, 1, 1)
        | _layer(f"{name}.narrow", width, 2 * width, 1, 1)
    )


def _time_kernel(halve: int) -> int:
    return 4 if halve == 2 else 1


def _features(config: ModelConfig) -> int:
    """Planes of the image that the spectrogram encoder sees."""
    faint = 2 * config.channels if config.faint else 0
    return 6 * config.channels + faint + (2 if config.channels == 2 else 0)


def _spectrogram(config: ModelConfig, version: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    inputs, place = _features(config), 0
    for level, (width, count) in enumerate(_levels(config)):
        ratio, time = config.frequency_ratios[level], _time_kernel(config.time_ratios[level])
        shapes |= _layer(f"levels.{place}", width, inputs, 2 * ratio - 1, time)
        shapes[f"levels.{place + 1}.bias"] = (width, count, 1)
        for i in range(config.blocks[level]):
            shapes |= _block(f"levels.{place + 2 + i}", width, 1)
        inputs, place = width, place + 2 + config.blocks[level]
    shapes |= _layer("head", 2 * config.latent // _levels(config)[-1][1], inputs, 1, 1)
    return shapes | _balance(config, version)


def _istft(config: ModelConfig, version: int) -> dict[str, Shape]:
    levels = _levels(config)
    shapes = _layer("entry", levels[-1][0], config.latent // levels[-1][1], 1, 1)
    for place, level in enumerate(reversed(range(len(levels)))):
        width, count = levels[level]
        shapes[f"levels.{place}.0.bias"] = (width, count, 1)
        for i in range(config.blocks[level]):
            shapes |= _block(f"levels.{place}.{i + 1}", width, 1 if i else 3)
        if level:
            ratio, time = config.frequency_ratios[level], _time_kernel(config.time_ratios[level])
            shapes |= _layer_up(
                f"ups.{place}", width, levels[level - 1][0], ratio + 2 * (ratio // 2), time
            )
    maps = 3 if config.channels == 2 else 1
    fine = config.frequency_ratios[0] * config.sinusoids_per_line
    shapes |= _layer("line_head", fine * LINE_COLUMNS * maps, levels[0][0], 3, 1)
    if config.noise:
        noise_maps = 2 if version == 1 and config.channels == 2 else maps
        shapes |= _layer("noise_head", NOISE_COLUMNS * noise_maps, levels[1][0], 1, 1)
    return shapes | _balance(config, version)


def _refiner(config: ModelConfig) -> dict[str, Shape]:
    count = _levels(config)[-1][1]
    width, per_row = config.refiner, config.latent // count
    shapes = _layer("network.0", width, 3 * per_row, 1, 1) | {"network.1.bias": (width, count, 1)}
    for i in range(REFINER_BLOCKS):
        shapes |= _block(f"network.{i + 2}", width, REFINER_TIME)
    return shapes | _layer("head", per_row, width, 1, 1)


def _balance(config: ModelConfig, version: int) -> dict[str, Shape]:
    return {"balance": (1,)} if config.channels == 2 and version > 1 else {}


# ---- memory --------------------------------------------------------------------------------------


def block_bytes(config: ModelConfig) -> int:
    """Bytes that encoding or decoding one block takes, whichever is more, with the constant tables
    of the networks:
    an estimate from above, within a factor of about four."""
    return max(_encoding_bytes(config), _decoding_bytes(config))


def _encoding_bytes(config: ModelConfig) -> int:
    samples = BLOCK_SAMPLES + 2 * encoder_samples(config)
    if config.encoder == "multiband":
        return _conv_bytes(config, samples)
    plain = _level_bytes(config, samples) + _spectrum_bytes(config, samples)
    return max(plain, _refining_bytes(config, samples)) if config.refiner else plain


def _refining_bytes(config: ModelConfig, samples: int) -> int:
    """A decode that keeps the activations of all its blocks, for the gradient at the latents."""
    samples += 2 * (decoder_samples(config) + REFINER_BLOCKS * REFINER_TIME * config.hop)
    sizes = zip(_levels(config), _columns(config), config.blocks, strict=True)
    kept = sum(
        (blocks + 1) * width * count * (samples // column)
        for (width, count), column, blocks in sizes
    )
    refiner = 2 * config.refiner * _levels(config)[-1][1] * (samples // config.hop)
    return FLOAT * COPIES * (kept + refiner) + _lines_bytes(config, samples)


def _decoding_bytes(config: ModelConfig) -> int:
    samples = BLOCK_SAMPLES + 2 * decoder_samples(config)
    if config.generator == "conv":
        return _conv_bytes(config, samples)
    return _level_bytes(config, samples) + _lines_bytes(config, samples)


def encoder_samples(config: ModelConfig) -> int:
    """Samples, at most, that an encoder needs on each side of what it encodes, in whole frames."""
    if config.encoder == "multiband":
        reach = PQMF_TAPS + 3 * config.bands + sum(_durations(config)) + 2 * config.hop
    else:
        reach = SPECTRUM[0][0] + 4 * sum(_columns(config))
    return _whole_frames(config, reach)


def decoder_samples(config: ModelConfig) -> int:
    """Samples, at most, that a generator needs on each side of what it decodes, in whole frames."""
    if config.generator == "conv":
        stack = sum(dilation + 2 for dilation in config.dilations)
        reach = PQMF_TAPS + 256 * config.bands + 4 * config.hop
        reach += sum(
            (2 * ratio + stack) * time
            for ratio, time in zip(config.ratios, _durations(config), strict=True)
        )
    else:
        reach = PQMF_TAPS + 4 * sum(_columns(config))
    return _whole_frames(config, reach)


def _whole_frames(config: ModelConfig, samples: int) -> int:
    return (-(-samples // config.hop) + 1) * config.hop


def _durations(config: ModelConfig) -> list[int]:
    """Samples per column behind each stride of the conv generator, from the deepest outwards."""
    return [config.hop // prod(config.ratios[: i + 1]) for i in range(len(config.ratios))]


def _columns(config: ModelConfig) -> list[int]:
    """Samples per column of each level of the spectral families."""
    step = config.hop // prod(config.time_ratios)
    return [step * prod(config.time_ratios[: i + 1]) for i in range(len(config.time_ratios))]


def _conv_bytes(config: ModelConfig, samples: int) -> int:
    """Activations of the paper's families: the widest level, and audio or bands in several
    forms.
    """
    widths = [config.capacity << i for i in range(len(config.ratios) + 1)]
    times = [config.bands * prod(config.ratios[:i]) for i in range(len(config.ratios) + 1)]
    mirrored = [
        config.bands * prod(config.ratios[len(config.ratios) - i :])
        for i in range(len(config.ratios) + 1)
    ]
    widest = max(
        width * (samples // min(pair)) for width, *pair in zip(widths, times, mirrored, strict=True)
    )
    return FLOAT * COPIES * (widest + 4 * config.channels * samples)


def _level_bytes(config: ModelConfig, samples: int) -> int:
    """Activations of the widest level of a spectral family, whose blocks are twice as wide
    inside.
    """
    levels = zip(_levels(config), _columns(config), strict=True)
    return (
        2
        * FLOAT
        * COPIES
        * max(width * count * (samples // column) for (width, count), column in levels)
    )


def _spectrum_bytes(config: ModelConfig, samples: int) -> int:
    """Spectra of the spectrogram encoder, the image, and the matrices that warp it."""
    steps, planes = samples // (config.hop // prod(config.time_ratios)), config.channels
    spectra = max(columns * window for window, columns in SPECTRUM) * steps * planes * 4
    image = _features(config) * config.lines * steps * 3
    matrices = config.lines * sum(window // 2 + 1 for window, _ in SPECTRUM)
    return FLOAT * (spectra + image + matrices)


def _lines_bytes(config: ModelConfig, samples: int) -> int:
    """Amplitudes and angles of all sinusoids, what their tables are made of, and the bands."""
    steps = samples // (config.hop // prod(config.time_ratios))
    maps = 3 if config.channels == 2 else 1
    amplitudes = 2 * COPIES * maps * config.sinusoids * LINE_COLUMNS * steps
    tables = config.sinusoids * PQMF_TAPS * 4 * 3
    return FLOAT * (amplitudes + tables + COPIES * config.channels * samples)
