"""Audio in and out, one door: `open_input`, `Resampler`, `open_output`.

    with open_input("x.flac") as source:
        blocks = source.blocks(65536)
        for block in resample_blocks(blocks, source.sample_rate, 48000, source.channels):
            ...                                             # float32 [channels, n]

The work is done in `input.py` with `opening.py`, which knows the formats, `resample.py`,
`output.py` and `wav.py`, of tags in `tag_reading.py` and `tag_writing.py`. None of them knows a
model, a bitstream or torch.
"""

import numpy as np

from ravecodec.audio.channels import Mix
from ravecodec.audio.decoders import READABLE, has_av
from ravecodec.audio.input import (
    AUDIO_SUFFIXES,
    MAX_AMPLITUDE,
    MAX_RATE,
    MIN_RATE,
    AudioInput,
    audio_files,
    check_full_scale,
    expected_amplitude,
    open_input,
)
from ravecodec.audio.magic import HEADERS
from ravecodec.audio.opening import MAX_CHANNELS
from ravecodec.audio.output import WRITABLE, WRITABLE_SUBTYPES, AudioOutput, open_output
from ravecodec.audio.resample import Resampler, resample_blocks, resampled_length
from ravecodec.audio.riff_tags import TIME_REFERENCE
from ravecodec.audio.samples import Audio
from ravecodec.audio.tag_names import PICTURE
from ravecodec.audio.tag_reading import has_mutagen
from ravecodec.audio.tag_set import TagSet, clean_name

__all__ = [
    "AUDIO_SUFFIXES",
    "HEADERS",
    "MAX_AMPLITUDE",
    "MAX_CHANNELS",
    "MAX_RATE",
    "MIN_RATE",
    "PICTURE",
    "READABLE",
    "TIME_REFERENCE",
    "WRITABLE",
    "WRITABLE_SUBTYPES",
    "Audio",
    "AudioInput",
    "AudioOutput",
    "Mix",
    "Resampler",
    "TagSet",
    "audio_files",
    "check_full_scale",
    "clean_name",
    "expected_amplitude",
    "has_av",
    "has_mutagen",
    "match_channels",
    "open_input",
    "open_output",
    "resample_blocks",
    "resampled_length",
]


def match_channels(block: Audio, channels: int) -> Audio:
    """float32 [1 or 2, n] -> [channels, n]: mono is sent to both sides, stereo becomes its mean.

    Mono -> stereo -> mono is exact, bit for bit.
    """
    if block.shape[0] == channels:
        return block
    if channels == 1:
        return block.mean(axis=0, keepdims=True, dtype=np.float32)
    return np.repeat(block, channels, axis=0)
