#!/usr/bin/env python3
"""What a prior knows of the latents of a model, and what it makes: docs/latents.md's tables and
picture.

    python benchmarks/prior.py DATA --cache DIR [--model MODEL] [--prior FILE] [--whole]
                               [--sounds DIR] [--write]

DATA is the folder that the prior was trained on, of which the files that it held out are taken, or
with --whole one of other files, of which all are. DIR keeps their latents (that of the training,
RUN/prior/latents, has them already). Printed are, and with --write put into docs/latents.md (see
pages.py):

bits       mean bits of a frame of held-out audio under the model's tables, by its predictor, by the
           prior; and by the prior for the same frames, told only so many seconds before them.
sound      of pieces of 20 s that the prior made, beside held-out ones, and a control: held-out
           frames in random order. All are decoded alike, from symbols on the prior's grid.
  level    standard deviation over time of the level in windows of 0.17 s, dB
  held     correlation of that level with itself a second later
  onsets   per second: peaks of spectral flux that stand out of what is around them
  pulse    highest correlation of the flux with itself 0.25 to 2 s later: 0 none, 1 a machine
  timbre   distance of the mean timbre from that of the held-out pieces, dB (root mean square over
           12 cepstral coefficients of mel levels)

Levels below -70 dBFS count as that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from pages import Blocks, Found, add_write, joined, show, table

from ravecodec import Latents, generate, load_model
from ravecodec.codec import stream_info
from ravecodec.evaluate.filters import Doubles
from ravecodec.evaluate.measures.spectral import magnitudes, slaney_filters
from ravecodec.models.package import Model
from ravecodec.models.prior import LoadedPrior, load_prior
from ravecodec.quantize import Quantizer, Symbols
from ravecodec.train.pieces import collect, split_pieces
from ravecodec.train.prior import bits_per_frame, grid, on_grid, other_costs
from ravecodec.zoo import find_model, find_prior

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"

SECONDS = 20.0
PIECES = 3  # of each kind
EVERY = 6  # frames: one of so many is coded with less and less before it
PAST = (0.0, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)  # seconds before it
FLOOR_DB = -70.0
WINDOW, FLUX_WINDOW, BANDS = 8192, 2048, 64
SOUND_COLUMNS = ("20 s", "level, dB", "held", "onsets / s", "pulse", "timbre, dB")
OUT_OF = 1.5  # times the mean flux of the second around it is an onset


# ---- bits ----------------------------------------------------------------------------------------


@torch.no_grad()
def bits_by_past(prior: LoadedPrior, pieces: Sequence[Symbols], rate: float) -> list[float]:
    """Mean bits of the same frames, told only so many frames before them: one number for each of
    PAST seconds."""
    counts = [round(seconds * rate) for seconds in PAST]
    found = []
    for count in counts:
        windows = [
            piece[at - count : at + 1]
            for piece in pieces
            for at in range(max(counts), len(piece), EVERY)
        ]
        bits = prior.network.code_lengths(torch.from_numpy(np.stack(windows)))
        found.append(float(bits[:, -1].sum(-1).mean()))
    return found


# ---- sound ---------------------------------------------------------------------------------------


def level(signal: Doubles) -> Doubles:
    """dBFS in windows of WINDOW samples."""
    whole = signal[: len(signal) // WINDOW * WINDOW].reshape(-1, WINDOW)
    power = 10 * np.log10(np.mean(whole**2, axis=1) + 1e-12)
    return np.maximum(power, FLOOR_DB)


def flux(signal: Doubles, rate: int) -> tuple[Doubles, float]:
    """Sum over mel bands of what becomes louder, dB, and how many of it come a second."""
    hop = FLUX_WINDOW // 4
    spectrum = magnitudes(signal, FLUX_WINDOW, hop)
    mels = 20 * np.log10(spectrum @ slaney_filters(rate, FLUX_WINDOW, BANDS) + 1e-4)
    rising: Doubles = np.maximum(np.diff(mels, axis=0), 0).mean(axis=1)
    return rising, rate / hop


def lagged(values: Doubles, lag: int) -> float:
    """Correlation with itself so much later; 0 where nothing changes."""
    one, other = values[:-lag], values[lag:]
    if min(one.std(), other.std()) < 1e-9:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def timbre(signal: Doubles, rate: int) -> Doubles:
    """Cepstral coefficients 1 to 12 of the mean mel levels in dB."""
    spectrum = magnitudes(signal, FLUX_WINDOW, FLUX_WINDOW // 2)
    mels = spectrum @ slaney_filters(rate, FLUX_WINDOW, BANDS)
    levels = 20 * np.log10(np.maximum(mels, 1e-4)).mean(axis=0)
    waves = np.cos(np.pi / BANDS * np.arange(1, 13)[:, None] * (np.arange(BANDS) + 0.5))
    return np.asarray(waves @ levels / BANDS)


def measures(signal: Doubles, rate: int) -> list[float]:
    """level, held, onsets, pulse."""
    levels = level(signal)
    rising, per_second = flux(signal, rate)
    around = np.convolve(rising, np.ones(round(per_second)) / round(per_second), "same")
    inner = rising[1:-1]
    peaks = (inner > rising[:-2]) & (inner >= rising[2:]) & (inner > OUT_OF * around[1:-1])
    pulse = max(lagged(rising, n) for n in range(round(per_second / 4), round(2 * per_second)))
    held = lagged(levels, max(1, round(rate / WINDOW)))
    return [float(levels.std()), held, peaks.sum() / len(signal) * rate, pulse]


def sounds(
    model: Model, prior: LoadedPrior, pieces: Sequence[Symbols], seed: int = 1
) -> dict[str, list[Latents]]:
    """Latents of 20 s each, by kind."""
    config, length = prior.header.config, round(SECONDS * model.config.frame_rate)
    point = (config.dims, config.step_index)
    quantizer = Quantizer(model.latent, model.coding, *point, model.coding.fill)
    rate, channels = model.config.sample_rate, model.config.channels
    info = stream_info(model, rate, channels, *point, seed)

    def played(symbols: Symbols) -> Latents:
        values = quantizer.values(symbols[:length]).astype(np.float32)
        return Latents(values, len(values) * info.hop, info)

    random = np.random.default_rng(seed)
    long = [piece for piece in pieces if len(piece) >= length][:PIECES]
    made = [generate(model, SECONDS, seed=seed + i, prior=prior.header.path) for i in range(PIECES)]
    return {
        "held out": [played(piece) for piece in long],
        "made": made,
        "control": [played(random.permutation(piece)) for piece in long],
    }


def sound_scores(
    kinds: dict[str, list[Latents]], model: Model, folder: Path | None, target: Path | None
) -> dict[str, list[float]]:
    """The numbers of the table of sounds by kind; writes the sounds and the picture where they are
    wanted."""
    audio = {
        kind: [each.synthesise(model)[0].astype(np.float64) for each in found]
        for kind, found in kinds.items()
    }
    rate = model.config.sample_rate
    timbres = {
        kind: np.stack([timbre(one.mean(axis=0), rate) for one in found])
        for kind, found in audio.items()
    }
    mean = timbres["held out"].mean(axis=0)
    scores = {}
    for kind, found in audio.items():
        values = np.mean([measures(one.mean(axis=0), rate) for one in found], axis=0)
        apart = np.sqrt(np.mean((timbres[kind] - mean) ** 2, axis=1)).mean()
        scores[kind] = [*values, apart]
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, found in audio.items():
            for number, one in enumerate(found):
                name = f"{kind.replace(' ', '-')}-{number}.wav"
                soundfile.write(folder / name, one.T.clip(-1, 1), rate)
    if target:
        from ravecodec.evaluate.page.charts import spectrograms

        firsts = {kind: found[0].mean(axis=0) for kind, found in audio.items()}
        spectrograms(firsts, rate).savefig(target, dpi=72)
    return scores


def blocks(found: Found) -> Blocks:
    """What is measured, as Markdown by mark."""
    coders = ("tables", "predictor", "prior")
    costs = [f"{found['bits'][name]:.1f}" if name in found["bits"] else "" for name in coders]
    spans = [f"{float(seconds):g}" for seconds in found["past"]]
    bits = [
        table(
            [f"model `{found['model']}`", *coders],
            [[f"{found['files']} files, {found['minutes']:.1f} min", *costs]],
        ),
        table(
            ["seconds before", *spans],
            [["prior", *(f"{value:.0f}" for value in found["past"].values())]],
        ),
    ]
    rows = [[kind, *(f"{x:.2f}" for x in values)] for kind, values in found["sounds"].items()]
    return {
        f"prior-bits {found['name']}": joined(*bits),
        f"prior-sounds {found['name']}": table(SOUND_COLUMNS, rows),
    }


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder of latents")
    parser.add_argument("--model", default="default", help="name, file or id")
    parser.add_argument("--prior", type=Path, help="its file; default: the model's")
    parser.add_argument("--whole", action="store_true", help="all files of DATA were held out")
    parser.add_argument("--sounds", type=Path, help="folder for what is decoded, and the picture")
    add_write(parser)
    args = parser.parse_args()
    entry = find_model(args.model)
    model, prior = load_model(entry.path), load_prior(find_prior(entry, args.prior).path)
    config, info = prior.header.config, prior.header.info
    frames = info["recipe"]["frames"]
    pieces = collect(
        model, args.data, args.cache, frames, lambda text: print(text, file=sys.stderr)
    )
    held = pieces if args.whole else split_pieces(pieces)[1]
    symbols = [on_grid(piece, grid(model, config)) for piece in held]
    costs = other_costs(model, config, symbols) | {"prior": bits_per_frame(prior.network, symbols)}
    rate = model.config.frame_rate
    past = bits_by_past(prior, symbols, rate)
    target = args.sounds / "generated.png" if args.sounds else None
    target = PICTURES / f"generated-{entry.name}.png" if args.write else target
    scores = sound_scores(sounds(model, prior, symbols), model, args.sounds, target)
    found = {
        "name": entry.name,
        "model": entry.id.hex(),
        "files": len(held),
        "minutes": sum(map(len, symbols)) / rate / 60,
        "bits": costs,
        "past": dict(zip(map(str, PAST), past, strict=True)),
        "sounds": scores,
    }
    show(f"prior-{entry.name}", found, blocks, args.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
