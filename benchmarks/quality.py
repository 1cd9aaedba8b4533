#!/usr/bin/env python3
"""Score ravecodec against Opus and low-pass anchors on the fixed set of evaluation excerpts.

    python benchmarks/quality.py --corpus CORPUS/eval --cache CACHE --out OUT                        # anchors only
    python benchmarks/quality.py ... --model M.safetensors [--dims N] [--step G] [--name NAME]       # a model as well
    python benchmarks/quality.py ... --decoded NAME=DIR                # any folder of decoded WAV files named as items

Needs opus-tools (apt), the extra `ravecodec[eval]` and a folder made by scripts/corpus.py. Excerpts, anchors and
their scores are kept in CACHE, so that a further model costs only its own coding and scoring (some 5 s an item); every
scored codec is kept by name in OUT/scores and stands in the table from then on. OUT receives quality.csv (every item),
quality.md (means with 95 % bootstrap intervals by item, and differences to --base paired by item) and decoded/.

All codecs are scored on the mid channel, (left + right) / 2. The Opus anchors code that mid channel alone, which is the
stronger anchor: every bit goes to the signal that is scored. ravecodec (and `opus-stereo-24`) code the stereo excerpt;
below that rate libopus 1.3.1 folds stereo to mono by itself. Rates are bytes of the real files over the excerpt's
length, all headers included.

`opus-N` is `opusenc --bitrate N --hard-cbr` with 20 ms frames; VBR, --music, --speech, 40 and 60 ms frames score about
the same at nominal 8. Two settings do better there, and the comparison is with the first (--base): `opus-9-60ms` is
nominal 9, just above the rate where the encoder widens its band, with packets of 8.0 kbit/s in a smaller file than that
of `opus-8`; `opus-8-wide` forces wideband at nominal 8 against the encoder's own choice. Both were found among some
twenty settings tried on half of these very excerpts, a choice that favours Opus.

Read the controls before the scores. `noise-vocoded` (noise in the reference's third-octave envelope, no tone at all)
and `another-excerpt` (different music in place of the reference) say what a score cannot tell apart: where they reach
or beat an anchor, a codec that beats the anchor has proved nothing about tones. Only peak F1 puts both at the bottom.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from excerpts import RATE, SECONDS, Audio, low_pass, prepare

from ravecodec.evaluate import metrics

OPUS_SPECIAL = {
    "vbr-8": "--bitrate 8",
    "vbr-12": "--bitrate 12",
    "9-60ms": "--bitrate 9 --framesize 60",
    "8-wide": "--bitrate 8 --framesize 60 --set-ctl-int 4008=1103",
}
MEASURES = ("visqol", "zimtohrli", "mel", "peak_f1", "peak_precision", "peak_recall")
SHOWN = {"visqol": "ViSQOL", "zimtohrli": "Zimtohrli", "mel": "log-mel dB (less is better)", "peak_f1": "peak F1"}
FIELDS = ("codec", "item", "package", "kbps", "payload_kbps", *MEASURES)
Row = dict[str, str | float]


@dataclass(frozen=True)
class Decoded:
    """What a codec made of an excerpt: the mid channel at 48 kHz and the rate in kbit/s (0 where nothing is coded)."""

    mid: Audio
    kbps: float = 0.0
    payload_kbps: float = 0.0


Codec = Callable[[dict, Path], Decoded]


# ------------------------------------------------------------------------------------------------ codecs


def mid_of(path: Path) -> Audio:
    """Mid channel of a 48 kHz file, (samples,)."""
    audio, rate = soundfile.read(path, always_2d=True)
    if rate != RATE:
        raise SystemExit(f"{path}: expected {RATE} Hz, found {rate}")
    return audio.mean(axis=1)


def call(command: list[str]) -> None:
    """Run a program; ends this one with its message where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}: exit {done.returncode}: {done.stderr.strip()}")


def kbps(count: int) -> float:
    """Rate of `count` bytes over one excerpt."""
    return count * 8 / SECONDS / 1000


def opus(item: dict, work: Path, options: str, stereo: bool = False) -> Decoded:
    """opusenc with `options`, and opusdec."""
    source, coded, decoded = work / "in.wav", work / "coded.opus", work / "out.wav"
    if stereo:
        shutil.copyfile(item["path"], source)
    else:
        soundfile.write(source, mid_of(item["path"]), RATE, "PCM_24")
    call(["opusenc", "--quiet", *options.split(), str(source), str(coded)])
    call(["opusdec", "--quiet", "--float", "--rate", str(RATE), str(coded), str(decoded)])
    return Decoded(mid_of(decoded), kbps(coded.stat().st_size), kbps(ogg_payload(coded.read_bytes())))


def ogg_payload(data: bytes) -> int:
    """Bytes of the audio packets in an Ogg Opus file: all page bodies but those of the two header packets."""
    total, position, page = 0, 0, 0
    while position < len(data):
        count = data[position + 26]
        body = sum(data[position + 27 : position + 27 + count])
        total += body if page >= 2 else 0
        position, page = position + 27 + count + body, page + 1
    return total


def ravecodec(item: dict, work: Path, options: list[str]) -> Decoded:
    """The installed command line: stereo excerpt to .rvc and back."""
    program = shutil.which("ravecodec", path=str(Path(sys.executable).parent)) or "ravecodec"
    coded, decoded = work / "coded.rvc", work / "out.wav"
    model = options[:2] if options[:1] == ["--model"] else []
    call([program, "encode", item["path"], str(coded), "-f", *options])
    call([program, "decode", str(coded), str(decoded), "-f", *model])
    return Decoded(mid_of(decoded), kbps(coded.stat().st_size))


def filtered(item: dict, work: Path, cut: float) -> Decoded:
    """A low-pass anchor as in MUSHRA tests."""
    return Decoded(low_pass(mid_of(item["path"]), cut))


def folder(item: dict, work: Path, path: Path) -> Decoded:
    """A decoded file that something else made."""
    return Decoded(mid_of(path / f"{item['name']}.wav"))


def vocoded(item: dict, work: Path) -> Decoded:
    """Noise with the reference's third-octave envelope: what a codec without any tones would give."""
    return Decoded(noise_like(mid_of(item["path"])))


def other(item: dict, work: Path) -> Decoded:
    """Another excerpt of the set in this one's place: the level of chance."""
    return Decoded(mid_of(item["next"]))


def noise_like(signal: Audio, size: int = 1024) -> Audio:
    """Noise whose power spectrum, smoothed over a third of an octave, follows that of `signal` every 5 ms."""
    hop, window, padded = size // 4, np.hanning(size + 1)[:-1], np.pad(signal, size)
    view = np.lib.stride_tricks.sliding_window_view
    noise = np.random.default_rng(0).standard_normal(len(padded))
    power = np.abs(np.fft.rfft(view(padded, size)[::hop] * window)) ** 2
    bins = np.arange(size // 2 + 1)
    low = np.maximum(0, np.minimum(bins - 3, bins * 2 ** (-1 / 6))).astype(int)
    high = np.minimum(size // 2, np.maximum(bins + 3, bins * 2 ** (1 / 6))).astype(int)
    sums = np.pad(np.cumsum(power, axis=1), ((0, 0), (1, 0)))
    envelope = np.sqrt((sums[:, high + 1] - sums[:, low]) / (high + 1 - low))
    frames = np.fft.irfft(np.fft.rfft(view(noise, size)[::hop] * window) * envelope, axis=1) * window
    out = np.zeros(len(padded))
    for index, frame in enumerate(frames):
        out[index * hop : index * hop + size] += frame
    out = out[size:-size]
    return out * np.std(signal) / (np.std(out) + 1e-12)


def anchors(rates: list[float]) -> dict[str, Codec]:
    """The codecs that every table holds."""
    cbr = "--bitrate {:g} --hard-cbr"
    codecs: dict[str, Codec] = {f"opus-{rate:g}": partial(opus, options=cbr.format(rate)) for rate in rates}
    codecs |= {f"opus-{name}": partial(opus, options=options) for name, options in OPUS_SPECIAL.items()}
    codecs["opus-stereo-24"] = partial(opus, options=cbr.format(24), stereo=True)
    codecs |= {"lowpass-3.5k": partial(filtered, cut=3500.0), "lowpass-7k": partial(filtered, cut=7000.0)}
    return codecs | {"noise-vocoded": vocoded, "another-excerpt": other}


# ------------------------------------------------------------------------------------------------ scores


def score(name: str, codec: Codec, item: dict, kept: Path) -> Row:
    """Code one excerpt and score the result; the decoded mid channel is kept as a WAV file."""
    kept.mkdir(parents=True, exist_ok=True)
    work = kept / f".{item['name']}"
    work.mkdir(exist_ok=True)
    decoded = codec(item, work)
    shutil.rmtree(work)
    reference = mid_of(item["path"])
    if len(decoded.mid) != len(reference):
        raise SystemExit(f"{name}, {item['name']}: expected {len(reference)} samples, found {len(decoded.mid)}")
    soundfile.write(kept / f"{item['name']}.wav", decoded.mid, RATE, "FLOAT")
    peaks = metrics.peak_score(reference, decoded.mid, RATE)
    values = (
        metrics.visqol_audio(reference, decoded.mid, RATE),
        metrics.zimtohrli(reference, decoded.mid, RATE),
        metrics.log_mel_distance(reference, decoded.mid, RATE),
        peaks.f1,
        peaks.precision,
        peaks.recall,
    )
    scores = {key: round(value, 4) for key, value in zip(MEASURES, values, strict=True)}
    rates = {"kbps": round(decoded.kbps, 3), "payload_kbps": round(decoded.payload_kbps, 3)}
    return {"codec": name, "item": item["name"], "package": item["package"], **rates, **scores}


def score_all(name: str, codec: Codec, items: list[dict], home: Path, known: bool) -> None:
    """Score the items of one codec into home/scores/NAME.json; with `known`, those scored before are left alone."""
    path = home / "scores" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = load(path) if known else {}
    for item in items:
        if item["name"] not in rows:
            rows[item["name"]] = score(name, codec, item, home / "decoded" / name)
            print(
                f"{name:20} {item['name']:60} "
                + " ".join(f"{rows[item['name']][key]:6.3f}" for key in ("kbps", *SHOWN)),
                file=sys.stderr,
                flush=True,
            )
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(list(rows.values()), indent=1))
            temporary.replace(path)


def load(path: Path) -> dict[str, Row]:
    """Rows of a scores file by item."""
    return {str(row["item"]): row for row in json.loads(path.read_text())} if path.exists() else {}


# ------------------------------------------------------------------------------------------------ tables


def interval(values: list[float], rounds: int = 10000) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval over items."""
    data = np.asarray(values)
    picks = np.random.default_rng(0).integers(0, len(data), (rounds, len(data)))
    low, high = np.percentile(data[picks].mean(axis=1), [2.5, 97.5])
    return float(data.mean()), float(low), float(high)


def cell(values: list[float], sign: str = "") -> str:
    """'mean [low, high]'."""
    mean, low, high = interval(values)
    return f"{mean:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


def means_table(table: dict[str, list[Row]]) -> list[str]:
    """One line per codec: measured rate and the mean of every measure."""
    lines = [
        "| codec | kbit/s, file (range) | payload | " + " | ".join(SHOWN.values()) + " |",
        "|---|---|---|" + "---|" * len(SHOWN),
    ]
    for name, rows in table.items():
        rates = [float(row["kbps"]) for row in rows]
        rate = f"{np.mean(rates):.2f} ({min(rates):.1f}-{max(rates):.1f})" if max(rates) else "-"
        payload = float(np.mean([float(row["payload_kbps"]) for row in rows]))
        cells = [cell([float(row[key]) for row in rows]) for key in SHOWN]
        lines.append(f"| {name} | {rate} | {f'{payload:.2f}' if payload else '-'} | " + " | ".join(cells) + " |")
    return lines


def paired_table(table: dict[str, list[Row]], base: str) -> list[str]:
    """One line per codec: mean difference to `base` by item, its interval, and on how many items it is better."""
    lines = [f"| codec minus {base} | " + " | ".join(SHOWN.values()) + " |", "|---|" + "---|" * len(SHOWN)]
    for name, rows in table.items():
        if name == base:
            continue
        cells = []
        for key in SHOWN:
            gaps = [float(row[key]) - float(other[key]) for row, other in zip(rows, table[base], strict=True)]
            better = sum(gap < 0 if key == "mel" else gap > 0 for gap in gaps)
            cells.append(f"{cell(gaps, '+')}, {better}/{len(gaps)}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def write_tables(table: dict[str, list[Row]], base: str, out: Path) -> str:
    """quality.csv and quality.md; returns the latter."""
    with (out / "quality.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for rows in table.values():
            writer.writerows(rows)
    count = len(table[base])
    text = [
        f"{count} excerpts of {SECONDS} s, 48 kHz, mid channel. Mean [95 % bootstrap interval over items].",
        "`opus-N`: opusenc --bitrate N --hard-cbr of the mid channel alone; `vbr`: its default mode; `9-60ms`: VBR",
        "at 9 with 60 ms frames; `8-wide`: wideband forced at 8. Rates are real file bytes, `payload` without the Ogg.",
        "Controls: `noise-vocoded` has the right envelope and no tone, `another-excerpt` is different music (chance).",
        "",
        *means_table(table),
        "",
        f"Paired by item against {base}; behind the comma the items on which the codec is better.",
        "",
        *paired_table(table, base),
    ]
    (out / "quality.md").write_text("\n".join(text) + "\n")
    return "\n".join(text)


# ------------------------------------------------------------------------------------------------ command line


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="evaluation folder of scripts/corpus.py")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the excerpts and the anchors' scores")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables and the models' scores")
    parser.add_argument("--items", type=int, help="only the first N excerpts (6 sees every package)")
    parser.add_argument("--opus", default="6,8,12,16", help="nominal Opus rates")
    parser.add_argument("--base", default="opus-9-60ms", help="codec that the others are compared with")
    parser.add_argument("--model", help="score this model by the ravecodec command line")
    parser.add_argument("--dims", help="passed to `ravecodec encode`")
    parser.add_argument("--step", help="passed to `ravecodec encode`")
    parser.add_argument("--fidelity", help="passed to `ravecodec encode`")
    parser.add_argument("--name", help="name of the model in the tables (default: the options)")
    parser.add_argument("--decoded", action="append", default=[], metavar="NAME=DIR", help="score DIR/<item>.wav")
    return parser.parse_args()


def contenders(args: argparse.Namespace) -> dict[str, Codec]:
    """The codecs that this call asks for beside the anchors."""
    codecs: dict[str, Codec] = {}
    for entry in args.decoded:
        name, _, path = entry.partition("=")
        codecs[name] = partial(folder, path=Path(path))
    if args.model:
        pairs = [(key, getattr(args, key)) for key in ("model", "dims", "step", "fidelity") if getattr(args, key)]
        options = [word for key, value in pairs for word in (f"--{key}", value)]
        label = "-".join([Path(args.model).stem, *(f"{key}{value}" for key, value in pairs[1:])])
        codecs[args.name or label] = partial(ravecodec, options=options)
    return codecs


def main() -> int:
    """Prepare, score what is new, write the tables."""
    args = arguments()
    items = prepare(args.corpus, args.cache)[: args.items]
    fixed, asked = anchors([float(rate) for rate in args.opus.split(",")]), contenders(args)
    for name, codec in fixed.items():
        score_all(name, codec, items, args.cache, known=True)
    for name, codec in asked.items():
        score_all(name, codec, items, args.out, known=False)
    sources = {name: args.cache / "scores" / f"{name}.json" for name in fixed}
    sources |= {path.stem: path for path in sorted((args.out / "scores").glob("*.json"))}
    loaded = {name: load(path) for name, path in sources.items()}
    names = [item["name"] for item in items]
    table = {name: [rows[key] for key in names] for name, rows in loaded.items() if all(key in rows for key in names)}
    args.out.mkdir(parents=True, exist_ok=True)
    print(write_tables(table, args.base, args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
