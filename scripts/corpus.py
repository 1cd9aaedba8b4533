#!/usr/bin/env python3
"""Build the training, evaluation and small folders of real audio out of Debian packages.

A maintainer's tool: it stands outside the installed package and needs apt-get, dpkg-deb, soundfile
and PyYAML (in the extras `dev` and `eval`).

    python scripts/corpus.py --out DIR [--list train|eval|small|all] [--debs DIR]

Every package is downloaded once (apt-get download), read in one pass through `dpkg-deb
--fsys-tarfile`, and its tracks are put unchanged (never re-encoded) in DIR/<list>/<package>/. A
package folder appears by one rename and carries a stamp, so a killed run is repeated without harm.
Each list gets manifest.json, CREDITS.md and, when it stands, the mark DIR/<LIST>_READY.

The licence of each track is looked up in the package's own files: debian/copyright (DEP-5, the last
matching paragraph wins), naev's SOUND_LICENSE.yaml, or, where the copyright file is free text, a
stated licence whose wording must be found there. Tracks for training must be CC0, public domain,
MIT, CC-BY or CC-BY-SA in one of their licences at least, stereo, 30 s or longer and sampled at 44.1
kHz or more; what is left out is said on stderr.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import soundfile
import yaml

SPEC_VERSION = 3
MIN_SECONDS, MIN_RATE = 30.0, 44100
FREE = re.compile(r"^(CC0(-[\d.]+)?|PD|public-domain|MIT|CC-BY(-SA)?(-[\d.]+)?)$", re.IGNORECASE)


class CorpusError(Exception):
    """A package could not be fetched or does not hold what this script expects of it."""


@dataclass(frozen=True)
class Package:
    """What to take from one Debian package.

    `tracks` and `leave` are regular expressions on the installed path (or, with `archive`, on
    `archive prefix + name inside the zip`); `root` is cut from the path to name a track; `source`
    replaces `root` to give the path that debian/copyright speaks of. `stated` = (licence, author,
    wording that the copyright file must contain).
    """

    name: str
    folder: str
    root: str
    tracks: str
    source: str = ""
    leave: str = ""
    archive: str = ""
    extra: str = ""
    stated: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Track:
    """One audio file of the corpus, as manifest.json lists it.

    `piece` groups stems and variants of one composition.
    """

    path: str
    package: str
    piece: str
    seconds: float
    rate: int
    channels: int
    licence: str
    author: str


PACKAGES = (
    Package(
        "fretsonfire-songs-muldjord",
        "train",
        "usr/share/games/fretsonfire/data/songs/muldjord/",
        r"\.ogg$",
        stated=("CC-BY-SA-3.0", "El Senator (Muldjord)", "Attribution ShareAlike licence 3.0"),
    ),
    Package(
        "marsshooter-data",
        "train",
        "usr/share/games/marsshooter/",
        r"audio/(music/.*|menu|tutorial)\.ogg$",
        source="data/",
    ),
    Package(
        "singularity-music",
        "train",
        "usr/share/games/singularity/music/",
        r"\.ogg$",
        stated=("CC-BY-SA-3.0", "Max McCracken", "this License: Attribution, ShareAlike."),
    ),
    Package(
        "ufoai-music",
        "train",
        "",
        r"^music/.*\.ogg$",
        source="base/",
        archive="usr/share/games/ufoai/base/0music.pk3",
    ),
    Package(
        "naev-data",
        "train",
        "usr/share/naev/dat/",
        r"snd/music/.*\.ogg$",
        source="dat/",
        extra=r"SOUND_LICENSE\.yaml$",
    ),
    Package(
        "supertuxkart-data",
        "train",
        "usr/share/games/supertuxkart/data/",
        r"(music|tracks)/.*\.ogg$",
        source="data/",
        leave=r"(steamLocomotive|spaceship|speech)",
        extra=r"/data/CREDITS$",
    ),
    Package(
        "0ad-data",
        "train",
        "",
        r"^audio/music/.*\.ogg$",
        source="binaries/data/mods/public/",
        archive="usr/share/games/0ad/mods/public/public.zip",
        extra=r"^audio/LICENSE\.txt$",
    ),
    Package("hyperrogue-music", "eval", "usr/share/hyperrogue/", r"music/.*\.ogg$"),
    Package(
        "unknown-horizons", "eval", "usr/share/unknown-horizons/", r"content/audio/music/.*\.ogg$"
    ),
    Package(
        "freecol", "eval", "usr/share/games/freecol/", r"resources/music/.*\.ogg$", source="data/"
    ),
    Package(
        "fretsonfire-songs-sectoid",
        "eval",
        "usr/share/games/fretsonfire/data/songs/sectoid/",
        r"\.ogg$",
        stated=(
            "MIT",
            "Carlos Viola Iborra (Sectoid)",
            "Permission is hereby granted, free of charge",
        ),
    ),
    Package(
        "extremetuxracer-data",
        "eval",
        "usr/share/games/etr/",
        r"music/.*\.ogg$",
        source="data/",
        extra=r"etr/(credits\.lst|music/readme)$",
    ),
    Package(
        "starfighter-data",
        "eval",
        "usr/share/starfighter/",
        r"music/.*\.ogg$",
        leave=r"through_space\.ogg$",
        extra=r"credits\.txt$",
    ),
    Package(
        "sonic-pi-samples",
        "small",
        "usr/share/sonic-pi/samples/",
        r"\.flac$",
        source="etc/samples/",
        extra=r"README\.md$",
    ),
)


# ---- licences ------------------------------------------------------------------------------------


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Fields (names in lower case) of each paragraph of a DEP-5 file; continuation lines are kept,
    stripped.
    """
    for block in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            head = re.match(r"^([A-Za-z-]+):(.*)$", line)
            if head:
                name = head[1].lower()
                fields[name] = head[2].strip()
            elif name and line[:1].isspace():
                fields[name] += "\n" + line.strip()
        yield fields


def dep5_rules(text: str) -> list[tuple[list[str], str, str]]:
    """(globs, licence, author) of every Files paragraph, in file order; [] where the text is not
    DEP-5.
    """
    rules = []
    for fields in paragraphs(text):
        if "files" in fields and "license" in fields:
            globs = [glob.removeprefix("./") for glob in fields["files"].split()]
            author = "; ".join(
                line.strip() for line in fields.get("copyright", "").splitlines() if line.strip()
            )
            licence = fields["license"].partition("\n")[0].strip() or "unknown"
            rules.append((globs, licence, author))
    return rules


def yaml_rules(text: str) -> list[tuple[list[str], str, str]]:
    """naev's SOUND_LICENSE.yaml, a list of authors, each with `license` and lists of names, as
    rules; [] for an empty text. CorpusError where the text has another form.
    """
    try:
        authors = yaml.safe_load(text) or []
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"SOUND_LICENSE.yaml: is not YAML: {reason}") from error
    if not isinstance(authors, list) or not all(map(is_author, authors)):
        raise CorpusError(
            "SOUND_LICENSE.yaml: expected a list of authors, each with `license` and lists of "
            "names; found another form"
        )
    return [
        (list(globs_of(work)), spdx_like(str(work.get("license", "unknown"))), str(author))
        for entry in authors
        for author, work in entry.items()
    ]


def is_author(entry: object) -> bool:
    """Whether an entry is {author: {"license": text, "music": [name, ...], ...}}."""
    return isinstance(entry, dict) and all(isinstance(work, dict) for work in entry.values())


def globs_of(work: dict[str, Any]) -> Iterator[str]:
    """A glob for every name in the lists of an author: `music`, `sounds` and so on."""
    for names in work.values():
        if isinstance(names, list):
            yield from (f"*/{name}" for name in names)


def spdx_like(licence: str) -> str:
    """'GPLv3 / CC-by 3' -> 'GPL-3 or CC-BY-3.0'."""
    words = re.sub(r"GPLv(\d)", r"GPL-\1", licence.replace(" / ", " or "))
    return re.sub(
        r"CC-by(-sa)? (\d)(\.\d)?",
        lambda m: f"CC-BY{(m[1] or '').upper()}-{m[2]}{m[3] or '.0'}",
        words,
    )


def is_free(licence: str) -> bool:
    """True where one of the offered alternatives ('or') consists of free content licences only
    ('and').
    """
    alternatives = re.split(r"\s+or\s+", licence, flags=re.IGNORECASE)
    return any(
        all(
            FREE.match(part.strip(" ,"))
            for part in re.split(r"\s+and\s+", option, flags=re.IGNORECASE)
        )
        for option in alternatives
    )


def licence_of(package: Package, source_path: str, texts: dict[str, str]) -> tuple[str, str]:
    """(licence, author) of a track by the package's own files; `texts` holds them by file name."""
    if package.stated:
        licence, author, wording = package.stated
        if wording and wording not in texts["copyright"]:
            raise CorpusError(
                f"{package.name}: copyright file: expected the wording {wording!r}, found none"
            )
        return licence, author
    own = yaml_rules(texts.get("SOUND_LICENSE.yaml", ""))
    matches = [
        (licence, author)
        for globs, licence, author in dep5_rules(texts["copyright"]) + own
        if any(fnmatch.fnmatchcase(source_path, glob) for glob in globs)
    ]
    if not matches:
        raise CorpusError(f"{package.name}: no copyright paragraph covers {source_path}")
    return matches[-1]


# ---- packages ------------------------------------------------------------------------------------


def fetch(name: str, debs: Path) -> Path:
    """The newest .deb of `name` in `debs`, downloaded there first if there is none."""
    debs.mkdir(parents=True, exist_ok=True)
    if not list(debs.glob(f"{name}_*.deb")):
        done = subprocess.run(
            ["apt-get", "download", name], cwd=debs, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CorpusError(
                f"apt-get download {name}: {done.stderr.strip() or 'failed'} (apt-get update "
                "first?)"
            )
    return max(debs.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)


def members(deb: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Installed path and content of every file in a .deb, in one pass."""
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as pipe,
        tarfile.open(fileobj=pipe.stdout, mode="r|") as tar,
    ):
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream:
                yield member.name.removeprefix("./"), stream
        pipe.communicate()
    if pipe.returncode:
        raise CorpusError(f"{deb}: dpkg-deb ended with {pipe.returncode}")


def unpack(package: Package, deb: Path, part: Path) -> dict[str, str]:
    """Put the wanted tracks of `deb` under `part`/raw by source path; returns the licence texts by
    file name.
    """
    texts: dict[str, str] = {}
    wanted = re.compile(rf"(/doc/{re.escape(package.name)}/copyright$)|({package.extra or '$^'})")
    for path, stream in members(deb):
        if wanted.search(path):
            texts[Path(path).name] = stream.read().decode("utf-8", "replace")
        elif path == package.archive:
            save(stream, part / "archive.zip")
        elif not package.archive and is_track(package, path):
            save(stream, part / "raw" / source_path(package, path))
    if package.archive:
        texts |= unzip(package, part)
    if "copyright" not in texts:
        raise CorpusError(f"{deb}: holds no copyright file")
    return texts


def unzip(package: Package, part: Path) -> dict[str, str]:
    """The tracks and licence texts inside the package's zip archive, which is deleted
    afterwards.
    """
    texts = {}
    archive = part / "archive.zip"
    if not archive.exists():
        raise CorpusError(f"{package.name}: expected {package.archive} in the package, found none")
    with zipfile.ZipFile(archive) as bundle:
        for name in bundle.namelist():
            if package.extra and re.search(package.extra, name):
                texts[Path(name).name] = bundle.read(name).decode("utf-8", "replace")
            elif is_track(package, name):
                with bundle.open(name) as stream:
                    save(stream, part / "raw" / source_path(package, name))
    archive.unlink()
    return texts


def is_track(package: Package, path: str) -> bool:
    """Whether `path` is one of the audio files that this corpus wants."""
    inside = path.startswith(package.root) and re.search(package.tracks, path)
    return bool(inside) and not (package.leave and re.search(package.leave, path))


def source_path(package: Package, path: str) -> str:
    """The path by which the copyright file knows an installed file."""
    return package.source + path.removeprefix(package.root)


def save(stream: IO[bytes], path: Path) -> None:
    """Copy a byte stream to a new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as target:
        shutil.copyfileobj(stream, target, 1 << 20)


def track_name(package: Package, source: str) -> str:
    """A flat file name: folders that tell tracks apart joined by '-', blanks as '_'."""
    name = source.removeprefix(package.source)
    name = re.sub(
        r"^(content/|default/|base/)?(resources/|audio/|snd/)?(music/|tracks/)?(default/)?",
        "",
        name,
    )
    return name.replace("/", "-").replace(" ", "_")


def piece_of(name: str) -> str:
    """The composition a track belongs to: stems (song, guitar) and fast variants share one."""
    return re.sub(r"(-guitar|-song|-rhythm|_fast|_f)$", "", Path(name).stem)


def build(package: Package, deb: Path, out: Path) -> list[Track]:
    """Unpack one package into out/<folder>/<name> (one rename at the end) and return its tracks."""
    home = out / package.folder / package.name
    part = home.with_name(f".{package.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    texts = unpack(package, deb, part)
    tracks = sorted(place(package, part, texts), key=lambda track: track.path)
    if not tracks:
        raise CorpusError(f"{deb}: expected tracks, found none that may be used")
    shutil.rmtree(part / "raw")
    for name, text in texts.items():
        (part / f"{name}.txt").write_text(text, encoding="utf-8")
    stamp = {
        "version": SPEC_VERSION,
        "deb": deb.name,
        "tracks": [asdict(track) for track in tracks],
    }
    (part / "stamp.json").write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    shutil.rmtree(home, ignore_errors=True)
    part.rename(home)
    return tracks


def place(package: Package, part: Path, texts: dict[str, str]) -> Iterator[Track]:
    """Move the usable tracks of part/raw to part/ and describe them; says what is left out and
    why.
    """
    for path in sorted((part / "raw").rglob("*.*")):
        source = path.relative_to(part / "raw").as_posix()
        licence, author = licence_of(package, source, texts)
        info = soundfile.info(path)
        seconds = info.frames / info.samplerate
        reason = objection(package.folder, licence, seconds, info.samplerate, info.channels)
        if reason:
            print(f"  left out {package.name}/{source}: {reason}", file=sys.stderr)
            continue
        name = track_name(package, source)
        path.rename(part / name)
        yield Track(
            f"{package.name}/{name}",
            package.name,
            f"{package.name}/{piece_of(name)}",
            round(seconds, 3),
            info.samplerate,
            info.channels,
            licence,
            author,
        )


def objection(folder: str, licence: str, seconds: float, rate: int, channels: int) -> str:
    """Why a track may not be used in the list `folder`, or ''.

    Only the training list asks for a free licence.
    """
    if folder == "train" and not is_free(licence):
        return f"licence {licence}"
    if folder != "small" and seconds < MIN_SECONDS:
        return f"{seconds:.1f} s, under {MIN_SECONDS:.0f} s"
    if rate < MIN_RATE:
        return f"{rate} Hz, under {MIN_RATE} Hz"
    if folder == "train" and channels != 2:
        return f"{channels} channel(s), not stereo"
    return ""


def stamped(package: Package, deb: Path, out: Path) -> list[Track] | None:
    """The tracks of a package folder that a former run finished from the same .deb, else None."""
    stamp = out / package.folder / package.name / "stamp.json"
    if not stamp.exists():
        return None
    content = json.loads(stamp.read_text(encoding="utf-8"))
    if (content["version"], content["deb"]) != (SPEC_VERSION, deb.name):
        return None
    tracks = [Track(**track) for track in content["tracks"]]
    return tracks if all((out / package.folder / track.path).exists() for track in tracks) else None


# ---- reports -------------------------------------------------------------------------------------


def credits_text(folder: str, tracks: Iterable[Track]) -> str:
    """CREDITS.md of one list: package by package, every licence with its authors and tracks."""
    lines = [
        f"# Credits of the {folder} list",
        "",
        "Tracks are unchanged copies out of the Debian packages named here.",
    ]
    groups: dict[tuple[str, str, str], list[Track]] = {}
    for track in tracks:
        groups.setdefault((track.package, track.licence, track.author), []).append(track)
    package = ""
    for (name, licence, author), members in sorted(groups.items()):
        if name != package:
            lines += ["", f"## {name}", ""]
            package = name
        titles = ", ".join(Path(track.path).stem for track in members)
        lines.append(f"- {licence}, {author} ({hours(members):.2f} h): {titles}")
    return "\n".join(lines) + "\n"


def hours(tracks: Iterable[Track]) -> float:
    """Sum of the tracks' length in hours."""
    return sum(track.seconds for track in tracks) / 3600


def write_atomically(path: Path, text: str) -> None:
    """Write a text file by way of a temporary one beside it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def report(folder: str, tracks: list[Track], out: Path) -> None:
    """Write manifest.json, CREDITS.md and the READY mark of a finished list; print the hours per
    package.
    """
    manifest = {
        "list": folder,
        "hours": round(hours(tracks), 4),
        "tracks": [asdict(track) for track in tracks],
    }
    write_atomically(out / folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    write_atomically(out / folder / "CREDITS.md", credits_text(folder, tracks))
    print(f"{'package':32}{'tracks':>7}{'hours':>8}")
    for name in dict.fromkeys(track.package for track in tracks):
        members = [track for track in tracks if track.package == name]
        print(f"{name:32}{len(members):7}{hours(members):8.2f}")
    print(f"{'all of ' + folder:32}{len(tracks):7}{hours(tracks):8.2f}", flush=True)
    write_atomically(
        out / f"{folder.upper()}_READY", f"{len(tracks)} tracks, {hours(tracks):.2f} h\n"
    )


def build_list(folder: str, out: Path, debs: Path) -> None:
    """Bring one list up to date."""
    tracks: list[Track] = []
    for package in PACKAGES:
        if package.folder == folder:
            deb = fetch(package.name, debs)
            known = stamped(package, deb, out)
            tracks += build(package, deb, out) if known is None else known
            print(
                f"{folder}/{package.name}: {'built' if known is None else 'up to date'}", flush=True
            )
    report(folder, tracks, out)


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="corpus folder to build")
    parser.add_argument(
        "--list",
        choices=["train", "eval", "small", "all"],
        default="all",
        help="which list (default all)",
    )
    parser.add_argument("--debs", type=Path, help="folder of .deb files (default OUT/debs)")
    args = parser.parse_args()
    try:
        for folder in ["train", "eval", "small"] if args.list == "all" else [args.list]:
            build_list(folder, args.out, args.debs or args.out / "debs")
    except (
        CorpusError,
        OSError,
        soundfile.LibsndfileError,
        tarfile.TarError,
        zipfile.BadZipFile,
    ) as error:
        print(f"corpus.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
