#!/usr/bin/env python3
"""What timbre transfer keeps of the input and what it takes from the model: docs/latents.md's table
and picture, a part of it in docs/evaluation.md.

    python benchmarks/transfer.py --corpus CORPUS [--model MODEL] [--training DIR] [--sounds DIR]
                                  [--write]

Prints the table, and draws the picture; with --write the pages get the table (see pages.py).
CORPUS is what scripts/corpus.py makes, with its lists train, eval and small; DIR is the audio that
the model was trained on, CORPUS/train if it is not named. Each input is played by `transfer` with
fewer and fewer axes, and measured at 48 kHz on the mid channel:

chroma    correlation of the input's 12 pitch classes with the output's, mean over frames: 1 is
equal, 0 chance. training  how far the mean timbre (12 cepstral coefficients of mel levels) lies
from the training sound, in standard deviations over excerpts of it: about 1 for the training sound
itself.
input     the same distance between output and input.
loudness  of the output minus that of the input, LU (BS.1770, pyloudnorm).

A row of controls sets another of the inputs in place of the output. Needs `ravecodec[eval]`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from pages import Blocks, Found, add_write, show
from pages import table as markdown

from ravecodec import load_model, transfer
from ravecodec.audio import Audio, resample_blocks
from ravecodec.evaluate.filters import Doubles
from ravecodec.evaluate.measures.level import loudness_error
from ravecodec.evaluate.measures.spectral import magnitudes, slaney_filters

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "pictures" / "transfer.png"

RATE = 48_000
SECONDS = 10.0
FIDELITIES = (None, 0.8, 0.5, 0.25)  # None: the model's own number of axes
TRAINING_EXCERPTS = 60
LOWEST, HIGHEST = 100.0, 5_000.0  # Hz, of the bins that pitch classes are made of
COEFFICIENTS = 12
QUIET_DB = 50.0  # frames so far below the loudest do not count


INPUTS = {  # name -> file in the corpus and second where the excerpt starts
    "synth": ("eval/hyperrogue-music/hr-savino-ocean.ogg", 20.0),
    "orchestra": ("eval/unknown-horizons/Peer_Gynt_Suite_No._1,_Op._46_-_I._Morning.ogg", 30.0),
    "electric guitar": ("eval/fretsonfire-songs-sectoid/Feelings-guitar.ogg", 30.0),
    "tabla": ("small/sonic-pi-samples/loop_tabla.flac", 0.0),
    "drum loop": ("small/sonic-pi-samples/loop_amen_full.flac", 0.0),
}
PICTURED = "synthetic voice"
COLUMNS = (
    "input",
    "axes",
    "chroma",
    "timbre: from the training sound",
    "from the input",
    "loudness, LU",
    "unusual frames",
)


@dataclass(frozen=True)
class Row:
    """Of one output; see above. dims: axes kept, 0 for the input itself, -1 for the control.
    outside: share of frames unlike the training audio's."""

    excerpt: str
    dims: int
    outside: float
    chroma: float
    training: float
    input: float
    loudness: float


# ---- sounds --------------------------------------------------------------------------------------


def excerpt(path: Path, start: float, seconds: float = SECONDS) -> Audio:
    """float32 [channels, samples] at 48 kHz."""
    rate = soundfile.info(path).samplerate
    audio, _ = soundfile.read(
        path, round(seconds * rate), round(start * rate), dtype="float32", always_2d=True
    )
    return np.concatenate(
        list(resample_blocks([np.ascontiguousarray(audio.T)], rate, RATE, audio.shape[1])), axis=1
    )


def voice() -> Audio:
    """Ten seconds of a synthetic singer on five vowels: harmonics with vibrato under formants
    (Peterson & Barney).
    """
    formants = [
        (730, 1090, 2440),
        (530, 1840, 2480),
        (270, 2290, 3010),
        (570, 840, 2410),
        (300, 870, 2240),
    ]
    notes = [0, 2, 4, 7, 9]
    parts = []
    for number in range(10):
        time = np.arange(RATE) / RATE
        pitch = 146.8 * 2 ** (notes[number % 5] / 12) * (1 + 0.01 * np.sin(2 * np.pi * 5.5 * time))
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        note = np.zeros(RATE)
        for harmonic in range(1, 40):
            hz = harmonic * pitch
            gain = sum(
                1 / (1 + ((hz - centre) / (60 + 0.05 * centre)) ** 2)
                for centre in formants[number * 3 % 5]
            )
            note += gain / harmonic**0.5 * np.sin(harmonic * phase)
        parts.append(note * np.minimum(1, 20 * np.minimum(time, 1 - time)))
    sung = np.concatenate(parts)
    return np.repeat((0.3 * sung / np.abs(sung).max())[None], 2, axis=0).astype(np.float32)


def training_excerpts(folder: Path) -> Iterator[Audio]:
    """Of the training audio: one of each file, chosen by a hash of their names, or as many of every
    file, if there are few.
    """
    found = [path for path in folder.rglob("*") if path.suffix in (".ogg", ".flac")]
    files = sorted(found, key=lambda p: hashlib.sha256(p.name.encode()).digest())
    each = -(-TRAINING_EXCERPTS // len(files))
    places = (np.arange(each) + 0.5) / each if each > 1 else np.array([0.4])
    for path in files[:TRAINING_EXCERPTS]:
        length = soundfile.info(path).duration
        for place in places.tolist():
            yield excerpt(path, place * max(0.0, length - SECONDS))


# ---- measures ------------------------------------------------------------------------------------


def sounding(spectrum: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which frames [frames, bins] are not far below the loudest."""
    level = np.sum(spectrum**2, axis=1)
    return level > level.max(initial=0.0) * 10 ** (-QUIET_DB / 10)


def chroma(spectrum: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Magnitudes [frames, bins] -> pitch classes [frames, 12] of mean 0 and norm 1, or 0 where
    there is nothing.
    """
    hz = np.arange(1, spectrum.shape[1]) * RATE / window
    within = (hz >= LOWEST) & (hz <= HIGHEST)
    classes = np.rint(12 * np.log2(hz[within] / 440)).astype(int) % 12
    sums = np.stack(
        [spectrum[:, 1:][:, within][:, classes == i].sum(axis=1) for i in range(12)], axis=1
    )
    centred = sums - sums.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def chroma_correlation(one: Doubles, other: Doubles) -> float:
    """Mean over the frames that sound in `one`."""
    window = 8192
    spectra = [magnitudes(signal, window, window // 4) for signal in (one, other)]
    products = np.sum(chroma(spectra[0], window) * chroma(spectra[1], window), axis=1)
    return float(products[sounding(spectra[0])].mean())


def timbre(signal: Doubles) -> NDArray[np.float64]:
    """Cepstral coefficients 1 to 12 of the mean mel levels in dB, frames that sound."""
    window, bands = 2048, 64
    spectrum = magnitudes(signal, window, window // 2)
    mels = spectrum[sounding(spectrum)] @ slaney_filters(RATE, window, bands)
    levels = 20 * np.log10(np.maximum(mels, 1e-7)).mean(axis=0)
    waves = np.cos(
        np.pi / bands * np.arange(1, COEFFICIENTS + 1)[:, None] * (np.arange(bands) + 0.5)
    )
    return waves @ levels / bands


@dataclass(frozen=True)
class Ruler:
    """Timbres of the training sound: their mean and standard deviation by coefficient."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def distance(self, one: NDArray[np.float64], other: NDArray[np.float64] | None = None) -> float:
        """Root mean square over coefficients, in deviations; to the mean where there is no
        other.
        """
        apart = one - (self.mean if other is None else other)
        return float(np.sqrt(np.mean((apart / self.deviation) ** 2)))


def row(ruler: Ruler, name: str, source: Audio, output: Audio, dims: int, outside: float) -> Row:
    length = min(source.shape[1], output.shape[1])
    one, other = (audio[:, :length].astype(np.float64) for audio in (source, output))
    mids, timbres = (
        [one.mean(axis=0), other.mean(axis=0)],
        [timbre(one.mean(axis=0)), timbre(other.mean(axis=0))],
    )
    return Row(
        name,
        dims,
        round(outside, 4),
        round(chroma_correlation(*mids), 3),
        round(ruler.distance(timbres[1]), 3),
        round(ruler.distance(*timbres), 3),
        round(loudness_error(one, other, RATE), 2),
    )


# ---- the measurement -----------------------------------------------------------------------------


def measure(corpus: Path, training: Path, model_name: str, sounds: Path | None) -> Found:
    """All rows, with the model; writes the picture, and the sounds where they are wanted."""
    known = np.stack(
        [timbre(audio.mean(axis=0).astype(np.float64)) for audio in training_excerpts(training)]
    )
    ruler = Ruler(known.mean(axis=0), known.std(axis=0))
    model = load_model(model_name)
    inputs = {name: excerpt(corpus / path, start) for name, (path, start) in INPUTS.items()} | {
        PICTURED: voice()
    }
    rows: list[Row] = []
    for number, (name, source) in enumerate(inputs.items()):
        played = {}
        for fidelity in FIDELITIES:
            dims = model.coding.dims if fidelity is None else model.latent.dims_for(fidelity)
            done = transfer(source, RATE, model, dims=dims)
            played[dims] = done.audio
            if fidelity is None:
                rows.append(row(ruler, name, source, source, 0, done.known.share))
            rows.append(row(ruler, name, source, done.audio, dims, done.known.share))
            if sounds:
                sounds.mkdir(parents=True, exist_ok=True)
                soundfile.write(sounds / f"{name.replace(' ', '-')}-{dims}.wav", done.audio.T, RATE)
        other = list(inputs.values())[(number + 2) % len(inputs)]
        rows.append(row(ruler, name, source, other, -1, 0.0))
        print(name, file=sys.stderr)
        if name == PICTURED:
            picture(source, played)
    spread = float(np.mean([ruler.distance(one) for one in known]))
    return {
        "model": model.name,
        "id": model.id.hex(),
        "training_excerpts": len(known),
        "training_distance": round(spread, 2),
        "rows": [asdict(found) for found in rows],
    }


def picture(source: Audio, played: dict[int, Audio]) -> None:
    """Spectrograms of the input and its outputs."""
    from ravecodec.evaluate.page.charts import spectrograms

    named = {"input": source} | {f"{dims} axes": audio for dims, audio in played.items()}
    sounds = {name: audio[:, : 5 * RATE].mean(axis=0) for name, audio in named.items()}
    spectrograms(sounds, RATE).savefig(PICTURE, dpi=96)


# ---- the page ------------------------------------------------------------------------------------


def rounded(value: float, digits: int, sign: str = "") -> str:
    """Without a minus before nothing."""
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = []
    for found in rows:
        axes = {0: "*the input itself*", -1: "*control: another input*"}.get(
            found.dims, str(found.dims)
        )
        numbers = [rounded(value, 2) for value in (found.chroma, found.training, found.input)]
        numbers.append(rounded(found.loudness, 1, "+"))
        if found.dims == 0:
            numbers[3] = ""
        unusual = f"{100 * found.outside:.0f} %" if found.dims == 0 else ""
        lines.append([found.excerpt if found.dims == 0 else "", axes, *numbers, unusual])
    return markdown(COLUMNS, lines)


def blocks(found: Found) -> Blocks:
    """What is measured, as Markdown by mark: the table, its rows of one input, numbers."""
    rows = [Row(**values) for values in found["rows"]]
    return {
        "transfer": table(rows),
        "transfer-row": table([row for row in rows if row.excerpt == PICTURED]),
        "transfer-model": f"{found['model']} (`{found['id']}`)",
        "transfer-spread": f"{found['training_distance']:.2f}",
        "transfer-excerpts": f"{found['training_excerpts']}",
    }


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", default="default", help="name, file or id")
    parser.add_argument("--training", type=Path, help="folder of what the model was trained on")
    parser.add_argument("--sounds", type=Path, help="folder for what was played")
    add_write(parser)
    args = parser.parse_args()
    training = args.training or args.corpus / "train"
    found = measure(args.corpus, training, args.model, args.sounds)
    show("transfer", found, blocks, args.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
