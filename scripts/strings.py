#!/usr/bin/env python3
"""Render string quartets from scores and a free soundfont: the narrow domain of the `strings`
model.

A maintainer's tool outside of the installed package. It needs PyPI's music21 (for its scores),
verovio and mido, Debian's fluidsynth and fluid-soundfont-gm, and soundfile:

    pip install music21 verovio mido
    apt-get download fluidsynth libfluidsynth3 libinstpatch-1.0-2 fluid-soundfont-gm     # then dpkg
    -x each into DEBS python scripts/strings.py --out DIR --debs DEBS [--minutes 30]

Scores are movements of quartets by Haydn, Mozart and Beethoven in MusicXML, four parts each; one
that carries a notice of rights is left out. verovio makes MIDI of them, whose velocities are flat;
dynamics, timing, tempo, the place of the players and the room are drawn from a generator seeded by
the score's name (`humanised`). fluidsynth renders 48 kHz stereo, which is scaled to a peak of -3 dB
and kept as 16-bit FLAC: DIR/train/ and DIR/held-out/, split by work, with manifest.json and
CREDITS.md in both. With --minutes movements are taken by a hash of their names until there are so
many. Notes share their samples, so held-out scores are no held-out recordings.

What exists is kept: a run that was killed goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

RATE = 48_000
PEAK = 10 ** (-3 / 20)
COMPOSERS = ("haydn", "mozart", "beethoven")
HELD_OUT = ("haydn/opus1no1", "mozart/k156", "beethoven/opus59no3")  # works
PROGRAMS = (40, 40, 41, 42)  # General MIDI from 0: violin, violin, viola, cello
PLACES = (44, 56, 74, 86)  # MIDI pan, 64 in the middle, give or take
QUIET, LOUD = 34, 118  # velocities
STEP = 0.05  # seconds between values of a swell
TAIL = 3.0  # seconds behind the last note
SHORTEST = 20.0  # seconds of a movement


@dataclass(frozen=True)
class Note:
    """Times in seconds; part counts from 0, the first violin."""

    start: float
    end: float
    pitch: int
    velocity: int
    part: int


@dataclass(frozen=True)
class Track:
    """A rendered movement, as manifest.json lists it. piece: its work."""

    path: str
    piece: str
    seconds: float
    notes: int


# ---- scores --------------------------------------------------------------------------------------


def scores(corpus: Path) -> Iterator[tuple[str, Path]]:
    """Name (composer/work/movement) and file of every movement in a hashed order."""
    found = {}
    for composer in COMPOSERS:
        for path in (corpus / composer).rglob("*.mxl"):
            found[str(path.relative_to(corpus).with_suffix(""))] = path
    return iter(sorted(found.items(), key=lambda item: hashlib.sha256(item[0].encode()).digest()))


def music_xml(path: Path) -> str:
    """The score inside of an .mxl file, which its container names."""
    with zipfile.ZipFile(path) as archive:
        container = archive.read("META-INF/container.xml").decode("utf-8", "replace")
        named = re.search(r'full-path="([^"]+)"', container)
        if named is None:
            raise SystemExit(f"{path}: its container names no score")
        data = archive.read(named[1])
    for encoding in ("utf-8", "utf-16"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def reason_against(xml: str) -> str:
    """Why a score is left out, or nothing."""
    if re.search(
        r"<rights|copyright|all rights reserved|non.?commercial|creativecommons", xml, re.IGNORECASE
    ):
        return "carries a notice of rights"
    parts = len(re.findall(r"<score-part\b", xml))
    return "" if parts == len(PROGRAMS) else f"has {parts} parts"


def work_of(name: str) -> str:
    """haydn/opus1no1/movement2 -> haydn/opus1no1; a work in one file is its own."""
    return "/".join(name.split("/")[:2])


# ---- performance ---------------------------------------------------------------------------------


def seed_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def walk(rng: np.random.Generator, count: int, pull: float, size: float) -> np.ndarray:
    """A random walk [count] that is pulled back to 0 (Ornstein-Uhlenbeck), of deviation `size`,
    starting within it.
    """
    steps = rng.standard_normal(count) * size * np.sqrt(1 - (1 - pull) ** 2)
    values = np.empty(count)
    value = size * rng.standard_normal()
    for i, step in enumerate(steps):
        value = (1 - pull) * value + step
        values[i] = value
    return values


def humanised(notes: list[Note], seed: int) -> list[Note]:
    """The same notes as if played: one tempo for the piece within 15 % of the score's, which sways
    a little; a common dynamic that swells and fades over some ten seconds, each part's own around
    it; velocities that differ from note to note, and starts that miss the beat by some 8 ms. No
    note begins before 0 or ends before it begins."""
    if not notes:
        return []
    rng = np.random.default_rng(seed)
    length = max(note.end for note in notes)
    count = int(length / STEP) + 2
    slower = np.exp(rng.uniform(-0.15, 0.15) + walk(rng, count, STEP / 4, 0.04))
    times = np.concatenate([[0.0], np.cumsum(slower) * STEP])
    grid = np.arange(count + 1) * STEP
    common = walk(rng, count, STEP / 8, 0.5)
    swells = [common + walk(rng, count, STEP / 3, 0.2) for _ in PROGRAMS]
    middle = rng.uniform(62, 88)
    played = []
    for note in notes:
        start, end = (float(np.interp(t, grid, times)) for t in (note.start, note.end))
        late = float(np.clip(rng.standard_normal() * 0.008, -0.025, 0.025))
        loud = middle + 26 * swells[note.part][int(note.start / STEP)] + 5 * rng.standard_normal()
        begin = max(0.0, start + late)
        velocity = int(np.clip(loud, QUIET, LOUD))
        played.append(replace(note, start=begin, end=max(end, begin + 0.03), velocity=velocity))
    return played


# ---- MIDI ----------------------------------------------------------------------------------------


def score_notes(xml: str, folder: Path) -> list[Note]:
    """The notes of a score, by verovio."""
    import mido
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    if not toolkit.loadData(xml):
        return []
    toolkit.renderToMIDIFile(str(folder / "score.mid"))
    file = mido.MidiFile(folder / "score.mid")
    sounding = [
        track for track in file.tracks if any(message.type == "note_on" for message in track)
    ]
    notes = []
    for part, track in enumerate(sounding[: len(PROGRAMS)]):
        notes += track_notes(file, track, part)
    return sorted(notes, key=lambda note: (note.start, note.part, note.pitch))


def track_notes(file: object, track: object, part: int) -> list[Note]:
    """Of one track, in seconds by the tempi of all tracks."""
    tempi = sorted(
        (tick, message.tempo)
        for other in file.tracks  # type: ignore[attr-defined]
        for tick, message in absolute(other)
        if message.type == "set_tempo"
    )
    changes = [(0, 500_000), *tempi]
    seconds = [0.0]
    for (tick, tempo), (later, _) in pairwise(changes):
        seconds.append(seconds[-1] + (later - tick) * tempo / 1e6 / file.ticks_per_beat)  # type: ignore[attr-defined]
    ticks = np.array([tick for tick, _ in changes])

    def at(tick: int) -> float:
        index = int(np.searchsorted(ticks, tick, "right")) - 1
        beats = (tick - changes[index][0]) / file.ticks_per_beat  # type: ignore[attr-defined]
        return float(seconds[index] + beats * changes[index][1] / 1e6)

    notes, open_at = [], {}
    for tick, message in absolute(track):
        if message.type == "note_on" and message.velocity:
            open_at.setdefault(message.note, (tick, message.velocity))
        elif message.type in ("note_on", "note_off") and message.note in open_at:
            start, velocity = open_at.pop(message.note)
            notes.append(Note(at(start), at(tick), message.note, velocity, part))
    return notes


def absolute(track: object) -> Iterator[tuple[int, object]]:
    """Messages with their ticks from the start."""
    tick = 0
    for message in track:  # type: ignore[attr-defined]
        tick += message.time
        yield tick, message


def write_midi(notes: list[Note], path: Path, seed: int) -> None:
    """A file of one track with a channel for each part; a tick is a millisecond."""
    import mido

    rng = np.random.default_rng(seed + 1)
    file = mido.MidiFile(ticks_per_beat=500)
    track = mido.MidiTrack()
    file.tracks.append(track)
    for part, (program, place) in enumerate(zip(PROGRAMS, PLACES, strict=True)):
        track.append(mido.Message("program_change", channel=part, program=program))
        pan = int(np.clip(place + rng.integers(-8, 9), 0, 127))
        track.append(mido.Message("control_change", channel=part, control=10, value=pan))
        track.append(
            mido.Message(
                "control_change", channel=part, control=91, value=int(rng.integers(20, 70))
            )
        )
    events = [(note.end, 0, note) for note in notes] + [(note.start, 1, note) for note in notes]
    last = 0
    for time, begins, note in sorted(events, key=lambda event: (round(event[0] * 1000), event[1])):
        tick = round(time * 1000)
        kind = "note_on" if begins else "note_off"
        velocity = note.velocity if begins else 0
        track.append(
            mido.Message(
                kind, channel=note.part, note=note.pitch, velocity=velocity, time=tick - last
            )
        )
        last = tick
    track.append(mido.MetaMessage("end_of_track", time=round(TAIL * 1000)))
    file.save(path)


# ---- sound ---------------------------------------------------------------------------------------


def render(midi: Path, target: Path, debs: Path, seed: int) -> float:
    """FLAC of a MIDI file, which appears when it is whole; seconds."""
    rng = np.random.default_rng(seed + 2)
    room, level, damp = rng.uniform(0.3, 0.75), rng.uniform(0.25, 0.6), rng.uniform(0.1, 0.5)
    wav = midi.with_suffix(".wav")
    reverb = {
        "synth.reverb.room-size": room,
        "synth.reverb.level": level,
        "synth.reverb.damp": damp,
    }
    options = [f"-o{key}={value:.3f}" for key, value in reverb.items()]
    options += ["-osynth.chorus.active=0", f"-r{RATE}", "-g0.4", "-Twav", "-Ofloat", f"-F{wav}"]
    soundfont = debs / "usr/share/sounds/sf2/FluidR3_GM.sf2"
    libraries = next(debs.glob("usr/lib/*/libfluidsynth.so.3")).parent
    environment = os.environ | {"LD_LIBRARY_PATH": str(libraries)}
    command = [debs / "usr/bin/fluidsynth", "-niq", *options, soundfont, midi]
    subprocess.run(list(map(str, command)), env=environment, check=True, stdout=subprocess.DEVNULL)
    audio, rate = soundfile.read(wav, dtype="float32", always_2d=True)
    wav.unlink()
    loud = np.flatnonzero(np.abs(audio).max(axis=1) > 1e-4)
    audio = audio[: loud[-1] + 1] if len(loud) else audio[:0]
    if rate != RATE or audio.shape[1] != 2 or not len(audio):
        raise SystemExit(
            f"{midi}: fluidsynth made {audio.shape} at {rate} Hz, expected stereo sound at {RATE} "
            "Hz"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    soundfile.write(part, audio * (PEAK / np.abs(audio).max()), RATE, "PCM_16", format="FLAC")
    part.replace(target)
    return len(audio) / RATE


def credits(tracks: list[Track], debs: Path) -> str:
    """What the sound is made of, and under which licences."""
    soundfont = next((debs / "usr/share/doc/fluid-soundfont-gm").glob("copyright")).read_text(
        "utf-8", "replace"
    )
    authors = re.findall(r"^\s*(Copyright © .*)$", soundfont, re.MULTILINE)
    if "I hereby release Fluid under the MIT license" not in soundfont:
        raise SystemExit("fluid-soundfont-gm: its copyright file does not say MIT as expected")
    works = "\n".join(f"- {piece}" for piece in sorted({track.piece for track in tracks}))
    return f"""# Credits

Rendered by scripts/strings.py; no recording of a performance is in it.

- Music: string quartets by Joseph Haydn, Wolfgang Amadeus Mozart and Ludwig van Beethoven, in the
  public domain.
- Scores: MusicXML files of the corpus of music21 {version("music21")}, "distributed with the
  permission of the encoders"; only files that carry no notice of rights were used, and nothing of
  their text is in the sound.
- Samples: FluidR3 GM (Debian's fluid-soundfont-gm), MIT. {". ".join(authors)}.
- Programs: verovio {version("verovio")}, fluidsynth; they leave no rights in what they make.

Works:

{works}
"""


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the corpus")
    parser.add_argument(
        "--debs", type=Path, required=True, help="folder of the extracted Debian packages"
    )
    parser.add_argument(
        "--scores",
        type=Path,
        help="folder of music21's corpus; default: that of the installed music21",
    )
    parser.add_argument("--minutes", type=float, help="how much to render; default: all")
    args = parser.parse_args()
    corpus = args.scores or installed_scores()
    lists: dict[str, list[Track]] = {"train": [], "held-out": []}
    seconds = 0.0
    for name, path in scores(corpus):
        if args.minutes is not None and seconds >= 60 * args.minutes:
            break
        part = "held-out" if work_of(name) in HELD_OUT else "train"
        track = movement(name, path, args.out / part, args.debs)
        if track is not None:
            lists[part].append(track)
            seconds += track.seconds
            print(
                f"{part}/{track.path}: {track.seconds:.0f} s, {track.notes} notes", file=sys.stderr
            )
    for part, tracks in lists.items():
        (args.out / part).mkdir(parents=True, exist_ok=True)
        listed = json.dumps(
            [asdict(track) for track in sorted(tracks, key=lambda t: t.path)], indent=1
        )
        (args.out / part / "manifest.json").write_text(listed + "\n")
        (args.out / part / "CREDITS.md").write_text(credits(tracks, args.debs))
        print(
            f"{part}: {len(tracks)} movements, {sum(t.seconds for t in tracks) / 60:.1f} min",
            file=sys.stderr,
        )
    (args.out / "STRINGS_READY").touch()
    return 0


def installed_scores() -> Path:
    spec = find_spec("music21")
    if spec is None or spec.origin is None:
        raise SystemExit("music21 is not installed: pip install music21, or give --scores")
    return Path(spec.origin).parent / "corpus"


def movement(name: str, path: Path, out: Path, debs: Path) -> Track | None:
    """Renders one, unless it is there; None where it is left out, which is said."""
    xml = music_xml(path)
    why = reason_against(xml)
    with tempfile.TemporaryDirectory() as folder:
        notes = [] if why else score_notes(xml, Path(folder))
        if not why and (
            not notes
            or notes[-1].end < SHORTEST
            or len({note.part for note in notes}) < len(PROGRAMS)
        ):
            why = "gives too little of four parts"
        if why:
            print(f"{name}: left out, {why}", file=sys.stderr)
            return None
        target = out / f"{name.replace('/', '-')}.flac"
        if not target.exists():
            played = humanised(notes, seed_of(name))
            write_midi(played, Path(folder) / "played.mid", seed_of(name) % 2**32)
            render(Path(folder) / "played.mid", target, debs, seed_of(name) % 2**32)
    length = soundfile.info(target).duration
    return Track(target.name, work_of(name), round(length, 2), len(notes))


if __name__ == "__main__":
    sys.exit(main())
