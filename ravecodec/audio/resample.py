"""Sample-rate conversion of a stream, by soxr, with exact lengths.

Used on both sides of the codec: file rate -> model rate before encoding, model rate -> file rate
after decoding. soxr's stream is already free of delay (output sample 0 is input sample 0) and does
not depend on how the input was cut (tests/test_audio_resample.py proves both); what it leaves open
is the length, because it rounds n * rate_out / rate_in. Here the length is a contract.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from ravecodec.audio.samples import Audio

# input samples, or output samples if those last longer: over twice what was found
# (test_audio_resample)
REACH = 4096
SKIPPED = 65_536  # samples skipped at a time
# pass band and images 50 dB better than HQ at the same speed (1500x real time in stereo on one
# core)
_QUALITY = "VHQ"


def resampled_length(samples: int, rate_in: int, rate_out: int) -> int:
    """ceil(samples * rate_out / rate_in): every input sample is covered.

    Ceiling, not rounding, makes the round trip safe: resampled_length(resampled_length(n, a, b), b,
    a) >= n for all rates, so cutting to n restores the exact count.
    """
    return -(-samples * rate_out // rate_in)


class Resampler:
    """Streaming conversion from `rate_in` to `rate_out`; blocks are float32 [channels, n] with any
    n >= 0.

    The joined output depends only on the joined input, bit for bit, and has exactly `total_out`
    samples: by default `resampled_length` of what came in. Give `total_out` to restore a known
    length; it may be at most one second longer than the default, and is then filled with the
    decaying tail and zeros. Memory does not grow with length.
    """

    def __init__(
        self, rate_in: int, rate_out: int, channels: int, *, total_out: int | None = None
    ) -> None:
        self._rates = (rate_in, rate_out)
        self._channels = channels
        self._total_out = total_out
        self._taken = 0
        self._emitted = 0
        same = rate_in == rate_out
        self._stream = (
            None if same else soxr.ResampleStream(rate_in, rate_out, channels, quality=_QUALITY)
        )

    def process(self, block: Audio) -> Audio:
        """Feed [channels, n] and return what is ready, [channels, m]; m may be 0."""
        self._taken += block.shape[1]
        return self._emit(self._convert(block, last=False))

    @property
    def emitted(self) -> int:
        """Samples of the output so far, per channel."""
        return self._emitted

    @property
    def reach(self) -> int:
        """Samples of the input by which any of its samples may be separated from an output sample
        that it changes.

        soxr filters by Fourier transforms of whole blocks, so that is more than the filter's
        length, in its last bits.
        """
        rate_in, rate_out = self._rates
        return 0 if self._stream is None else REACH * max(1, -(-rate_in // rate_out))

    def skip(self, samples: int) -> None:
        """Take zeros in place of samples whose output nobody wants: it is dropped.

        What comes out from `reach` samples behind them on is what it would be had they been
        processed, bit for bit: soxr's blocks and phases stand where they would.
        """
        if self._stream is None:
            self._taken += samples
            self._emitted += samples
            return
        zeros = np.zeros((self._channels, min(samples, SKIPPED)), np.float32)
        for start in range(0, samples, SKIPPED):
            self.process(zeros[:, : samples - start])

    def flush(self, total_out: int | None = None) -> Audio:
        """Return the rest, [channels, m]. Nothing may be processed afterwards.

        `total_out`: as for the constructor, where the length is known only now; at least what was
        emitted so far.

        Raises:
            ValueError: `total_out` is more than a second longer than the input.
        """
        rate_in, rate_out = self._rates
        if self._total_out is None:
            self._total_out = total_out
        if self._total_out is None:
            self._total_out = resampled_length(self._taken, rate_in, rate_out)
        missing = resampled_length(self._total_out, rate_out, rate_in) + 1 - self._taken
        if missing > rate_in + 1:
            raise ValueError(
                f"total_out {self._total_out} is over a second more than {self._taken} samples can "
                "fill"
            )
        return self._emit(
            self._convert(np.zeros((self._channels, max(missing, 0)), np.float32), last=True)
        )

    def _convert(self, block: Audio, *, last: bool) -> Audio:
        if self._stream is None:
            return block
        return self._stream.resample_chunk(np.ascontiguousarray(block.T), last=last).T

    def _emit(self, block: Audio) -> Audio:
        if self._total_out is not None:
            block = block[:, : self._total_out - self._emitted]
        self._emitted += block.shape[1]
        return block


def resample_blocks(
    blocks: Iterable[Audio],
    rate_in: int,
    rate_out: int,
    channels: int,
    *,
    total_out: int | None = None,
) -> Iterator[Audio]:
    """`Resampler` over an iterable of float32 [channels, n]; yields the non-empty blocks."""
    resampler = Resampler(rate_in, rate_out, channels, total_out=total_out)
    for block in blocks:
        ready = resampler.process(block)
        if ready.shape[1]:
            yield ready
    rest = resampler.flush()
    if rest.shape[1]:
        yield rest
