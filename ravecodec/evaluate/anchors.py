"""Other codecs and distortions that a model is measured against: audio float32 [channels, samples]
at 48 kHz in, what comes back out, and the bytes of the real file between.

Opus and MP3 are those inside libsndfile (soundfile's wheel: libopus 1.4, LAME). Codecs of the extra
`ravecodec[anchors]` come from PyAV's FFmpeg. Files hold what an encoder writes by itself; rates are
always measured.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ravecodec.audio import Audio
from ravecodec.errors import UsageError
from ravecodec.evaluate.filters import RATE, Doubles, Floats, correlation
from ravecodec.evaluate.sounds import fitted

OPUS_LEVELS = 6.0, 256.0  # kbit/s a channel: libsndfile's compression levels 1 and 0
MP3_LOWEST = 32.0  # kbit/s of MPEG-1 layer III
# Samples: less is no priming (a filter moves the maximum by a few), more is no codec.
PRIMING, MOST_LATE = 64, 8192
MP3_SLOW_RATE = 16_000  # Hz below that: MPEG-2, as encoders do by themselves


@dataclass(frozen=True)
class Outcome:
    """audio float32 [channels, samples] at 48 kHz; bytes of the file and of its coded audio, None
    where nothing is coded; kept: share of the symbols of the first pass that the last one of
    several sent again; static: bytes of the file if its symbols were coded with static tables
    alone, None where they are."""

    audio: Audio
    bytes: int | None = None
    payload: int | None = None
    kept: float | None = None
    static: int | None = None


def opus(audio: Audio, kbps: float) -> Outcome:
    """libsndfile's Opus at a nominal rate, 6 to 256 kbit/s a channel."""
    low, high = (level * len(audio) for level in OPUS_LEVELS)
    if not low <= kbps <= high:
        raise UsageError(
            f"Opus at {kbps:g} kbit/s: libsndfile takes {low:g} to {high:g} "
            f"for {len(audio)} channels"
        )
    level = (high - kbps) / (high - low)
    options = {"format": "OGG", "subtype": "OPUS", "compression_level": level}
    data, decoded = _by_libsndfile(audio.T, RATE, **options)
    return Outcome(_like(audio, decoded, RATE), len(data), ogg_payload(data))


def mp3(audio: Audio, kbps: float) -> Outcome:
    """LAME at a constant rate, 8 to 320 kbit/s; below 32 kbit/s at 16 kHz."""
    slow = kbps < MP3_LOWEST
    rate, low, high = (MP3_SLOW_RATE, 8.0, 160.0) if slow else (RATE, 32.0, 320.0)
    if not low <= kbps <= high:
        raise UsageError(f"MP3 at {kbps:g} kbit/s: expected 8 to 320")
    samples = soxr.resample(audio.T, RATE, rate, quality="VHQ") if slow else audio.T
    level = min(0.99, (high - kbps) / (high - low))
    options = {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": level}
    data, decoded = _by_libsndfile(samples, rate, bitrate_mode="CONSTANT", **options)
    return Outcome(_like(audio, decoded, rate), len(data), len(data))


def _by_libsndfile(samples: Floats, rate: int, **options: Any) -> tuple[bytes, NDArray[np.float32]]:
    """(a file of samples [samples, channels], what it decodes to at the same rate)."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **options)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32", always_2d=True)
    return file.getvalue(), decoded


def av_codec(
    audio: Audio, codec: str, container: str, kbps: float, options: dict[str, str]
) -> Outcome:
    """A codec of PyAV's FFmpeg, e.g. "libopus" in "ogg" or "aac" in "adts". Needs
    `ravecodec[anchors]`."""
    try:
        import av
    except ImportError as error:
        raise UsageError("this anchor needs PyAV: `pip install 'ravecodec[anchors]'`") from error
    file = io.BytesIO()
    layout = "mono" if len(audio) == 1 else "stereo"
    payload = 0
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=RATE, layout=layout, options=options)
        stream.bit_rate = round(kbps * 1000)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(audio), format="fltp", layout=layout
        )
        frame.sample_rate = RATE
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=RATE)
        converted = [*resampler.resample(frame), None]
        for packet in (packet for piece in converted for packet in stream.encode(piece)):
            payload += packet.size
            output.mux(packet)
    data = file.getvalue()
    source: Any
    with av.open(io.BytesIO(data), "r") as source:
        decoder = av.AudioResampler(format="fltp", layout=layout, rate=RATE)
        frames = [piece for frame in source.decode(audio=0) for piece in decoder.resample(frame)]
        frames += decoder.resample(None)
    decoded = np.concatenate([frame.to_ndarray() for frame in frames], axis=1).T
    return Outcome(_like(audio, decoded, RATE), len(data), payload)


def noise_vocoded(audio: Audio, size: int = 1024) -> Outcome:
    """Noise whose power spectrum, smoothed over a third of an octave, follows that of each channel
    every 5 ms: rhythm and timbre without a tone. The same noise for all channels, so that the
    stereo image stays."""
    channels = [_noise_like(channel, size) for channel in audio.astype(np.float64)]
    return Outcome(np.stack(channels).astype(np.float32))


def _noise_like(signal: Doubles, size: int) -> Doubles:
    hop, window, padded = size // 4, np.hanning(size + 1)[:-1], np.pad(signal, size)
    view = np.lib.stride_tricks.sliding_window_view
    noise = np.random.default_rng(0).standard_normal(len(padded))
    power = np.abs(np.fft.rfft(view(padded, size)[::hop] * window)) ** 2
    bins = np.arange(size // 2 + 1)
    low = np.maximum(0, np.minimum(bins - 3, bins * 2 ** (-1 / 6))).astype(int)
    high = np.minimum(size // 2, np.maximum(bins + 3, bins * 2 ** (1 / 6))).astype(int)
    sums = np.pad(np.cumsum(power, axis=1), ((0, 0), (1, 0)))
    envelope = np.sqrt(np.maximum(0, sums[:, high + 1] - sums[:, low]) / (high + 1 - low))
    frames = (
        np.fft.irfft(np.fft.rfft(view(noise, size)[::hop] * window) * envelope, axis=1) * window
    )
    out = np.zeros(len(padded))
    for index, frame in enumerate(frames):
        out[index * hop : index * hop + size] += frame
    out = out[size:-size]
    return out * np.std(signal) / (np.std(out) + 1e-12)


def ogg_payload(data: bytes) -> int:
    """Bytes of the packets in an Ogg Opus file (RFC 3533, RFC 7845): the bodies of all pages but
    the first two, which hold the headers."""
    total = position = page = 0
    while position < len(data):
        count = data[position + 26]
        body = sum(data[position + 27 : position + 27 + count])
        total += body if page >= 2 else 0
        position, page = position + 27 + count + body, page + 1
    return total


def _like(original: Audio, decoded: Floats, rate: int) -> Audio:
    """Decoded [samples, channels] -> float32 of the original's shape, in time with it: what an
    encoder put before the first sample (MP3 and AAC do, and say nothing) and behind the last is
    left out."""
    audio = decoded if rate == RATE else soxr.resample(decoded, rate, RATE, quality="VHQ")
    mids = original.mean(0, dtype=np.float64), audio.mean(1, dtype=np.float64)
    lag = int(correlation(*mids, range(MOST_LATE)).argmax())
    late = lag if lag >= PRIMING else 0
    return np.ascontiguousarray(fitted(audio.T, original.shape[1], late), dtype=np.float32)
