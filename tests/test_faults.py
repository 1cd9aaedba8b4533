"""Faults from outside: processes that are killed, full and read-only disks, inputs that shrink,
clocks and locales.

The rule: a target is what it was or what it should become, never in between; what was interrupted
can be called again. Signals are sent for real, to forked processes, at random moments of a fixed
seed; disks are small tmpfs mounts, and those tests are skipped where mounting is not allowed.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

from ravecodec import decoding, zoo
from ravecodec.audio import input as audio_in
from ravecodec.cli import main
from ravecodec.errors import InputError, OutputError
from ravecodec.evaluate import evaluation, folder, runner
from ravecodec.evaluate.results import Condition, Item, Results
from ravecodec.files import held_folder
from ravecodec.train import cache, loop
from ravecodec.train.overhead import Overhead
from ravecodec.train.recipe import Stage, load_recipe

Music = Callable[..., np.ndarray]

pytestmark = [
    pytest.mark.usefixtures("installed"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
OLD = b"what was there before"
QUICK = load_recipe("tiny").replace(
    stage1=Stage(3, 5e-3), stage2=Stage(2, 5e-4), batch=1, warmup=1, validate_every=2, rate_kbps=0
)

LIGHT = Overhead(
    checkpoint_seconds=0.0,
    validation_crops=2,
    excerpts=1,
    pictures=False,
    analysis_frames=60,
    curve_steps=(12, 0),
    curve_excerpts=2,
)


@pytest.fixture(autouse=True, scope="module")
def light() -> Iterator[None]:
    """Small blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ravecodec.analysis.BLOCK_SAMPLES", 1 << 15)
        yield


@pytest.fixture
def song(tmp_path: Path, music: Music) -> Path:
    path = tmp_path / "song.wav"
    soundfile.write(path, music(44_100 * 4).T, 44_100)
    return path


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, music: Music) -> Path:
    """A folder to train on, with files from the future and from before 1970."""
    folder = tmp_path_factory.mktemp("records")
    for seed in range(3):
        path = folder / f"{seed}.wav"
        soundfile.write(path, music(48_000, 2, 48_000, seed).T, 48_000)
        os.utime(path, ((seed - 1) * 4 * 10**9,) * 2)
    return folder


@pytest.fixture(scope="module")
def whole(records: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model of a training that nothing disturbed, by a clock that runs backwards."""
    with pytest.MonkeyPatch.context() as patch:
        clock = iter(range(10**9, 0, -100))
        patch.setattr(time, "time", lambda: float(next(clock)))
        return trained(records, tmp_path_factory.mktemp("whole")).read_bytes()


def trained(records: Path, out: Path) -> Path:
    """The model of this run, on one thread: sums differ in their last bit with the number of
    threads.
    """
    torch.set_num_threads(1)
    return loop.train(records, QUICK, out, device="cpu", overhead=LIGHT)


EVALUATED = (
    "--items",
    "2",
    "--seconds",
    "1",
    "--jobs",
    "1",
    "--no-speed",
    "--anchors",
    "lowpass",
    "-q",
)


@pytest.fixture
def quick_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations in this process, with real sounds, one cheap score, and a page without
    pictures.
    """
    for needed in ("jinja2", "matplotlib", "pyloudnorm", "bjontegaard"):
        pytest.importorskip(needed)

    def level(
        reference: np.ndarray, audio: np.ndarray, rate: int, **_: object
    ) -> tuple[dict[str, float], int]:
        return {"peak_f1": float(np.abs(audio).mean())}, 0

    def page(results: Results, out: Path, embed: int) -> None:
        (out / "index.html").write_text("page")

    monkeypatch.setattr("ravecodec.evaluate.measures.scores.score", level)
    monkeypatch.setattr("ravecodec.evaluate.page.report.write_page", page)


def many(records: Path, out: Path) -> tuple[object, ...]:
    """Words of a call that encodes a folder, in one process."""
    return ("encode", "-r", records, "-o", out, "-j", 1, "--quiet")


def streams(out: Path) -> dict[str, bytes]:
    """What such a call has made; nothing half-written is among it."""
    assert not list(out.rglob("*.part"))
    return {path.name: path.read_bytes() for path in sorted(out.rglob("*.rvc"))}


def evaluated(out: Path) -> tuple[object, dict[str, bytes]]:
    """What an evaluation has found, and its sounds."""
    found = Results.load(out / "results.json")
    assert not list(out.rglob("*.part"))
    sounds = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.flac")}
    return (found.items, found.scores, found.conditions), sounds


def call(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def forked(work: Callable[[], object]) -> int:
    """The process number of a child that does this work and exits with its code."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        torch.set_num_threads(1)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def tool(*args: object) -> Callable[[], object]:
    return partial(main, [str(arg) for arg in args])


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def struck(work: Callable[[], object], number: int, after: float) -> int:
    """How a child ends that gets this signal after so many seconds, unless it has ended before."""
    child = forked(work)
    time.sleep(after)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)
    return ended(child)


# ---- killed --------------------------------------------------------------------------------------


def test_a_target_survives_every_kill(song: Path, tmp_path: Path, model_folder: Path) -> None:
    """encode, decode, model add: the old file, or the new one whole, and .part of SIGKILL alone."""
    stream, sound = tmp_path / "song.rvc", tmp_path / "out" / "song.wav"
    sound.parent.mkdir()
    assert call("encode", song, stream).exit_code == 0
    added = zoo.user_folder() / "mine.safetensors"
    works = {
        tmp_path / "out" / "song.rvc": (
            "encode",
            song,
            tmp_path / "out" / "song.rvc",
            "-f",
            "--quiet",
        ),
        sound: ("decode", stream, sound, "-f", "-q"),
        added: ("model", "add", model_folder / "paper.safetensors", "--name", "mine", "-f", "-q"),
    }
    draw = random.Random(5)
    for target, command in works.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        assert ended(forked(tool(*command))) == 0
        takes, whole = time.monotonic() - began, target.read_bytes()
        for number in SIGNALS:
            target.write_bytes(OLD)
            code = struck(tool(*command), number, draw.uniform(0, 1.1 * takes))
            assert (
                target.read_bytes() == (whole if code == 0 else target.read_bytes()) in (OLD, whole)
            ), command
            parts = list(target.parent.glob(".*.part"))
            assert not parts or number == signal.SIGKILL, (command, number)
            for part in parts:
                part.unlink()


def test_training_killed_again_and_again_ends_with_the_same_model(
    records: Path, whole: bytes, tmp_path: Path
) -> None:
    """Byte for byte, and with the id, of a run that nobody disturbed."""
    draw, out = random.Random(7), tmp_path / "run"
    work = partial(trained, records, out)
    for number in SIGNALS:
        struck(work, number, draw.uniform(0.05, 1))
    assert work().read_bytes() == whole
    assert not list(out.glob("*.part"))


def test_an_evaluation_killed_again_and_again_finds_the_same(
    records: Path, tmp_path: Path, quick_eval: None
) -> None:
    """Whatever is there at any moment is whole, and what was found is not looked for again."""
    out, draw = tmp_path / "killed", random.Random(11)
    began = time.monotonic()
    assert ended(forked(tool("eval", records, "--out", tmp_path / "whole", *EVALUATED))) == 0
    takes, (found, sounds) = time.monotonic() - began, evaluated(tmp_path / "whole")
    for number in SIGNALS:
        struck(tool("eval", records, "--out", out, *EVALUATED), number, draw.uniform(0, takes))
        for path in out.rglob("*.flac"):
            assert path.read_bytes() == sounds[str(path.relative_to(out))], (path, number)
    assert call("eval", records, "--out", out, *EVALUATED).exit_code == 0
    assert evaluated(out) == (found, sounds)


def test_many_files_killed_again_and_again_end_as_without(
    records: Path, tmp_path: Path, model_folder: Path
) -> None:
    """Whatever is there at any moment is whole, and the same call goes on from there."""
    out, draw = tmp_path / "killed", random.Random(13)
    began = time.monotonic()
    assert ended(forked(tool(*many(records, tmp_path / "whole")))) == 0
    takes, wanted = time.monotonic() - began, streams(tmp_path / "whole")
    assert len(wanted) == 3
    for number in SIGNALS:
        struck(tool(*many(records, out)), number, draw.uniform(0, takes))
        for path in out.rglob("*.rvc"):
            assert path.read_bytes() == wanted[path.name], (path, number)
    assert call(*many(records, out)).exit_code == 0
    assert streams(out) == wanted


def children_of(process: int) -> set[int]:
    """Processes whose parent this is (Linux)."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == process:
                found.add(int(path.parent.name))
    return found


def is_alive(process: int) -> bool:
    """Whether it runs, and is not merely waited for by nobody."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_with_the_process_that_started_them(music: Music, tmp_path: Path) -> None:
    """After kill -9, at once; a Ctrl-C for the whole group is the parent's to hear, and ends them
    as well.
    """
    items = [Item(name, name, 0.0, 1.0, name * 64, 1, 48_000) for name in "ab"]
    runner.write_references(tmp_path, [(item, music(48_000, 1, 48_000)) for item in items])
    condition = Condition("identity", "identity", "control", "", {"do": "identity"})
    tasks = [runner.Task(item, items[0], condition, False, {}, tmp_path) for item in items]
    for number, code in (
        (signal.SIGKILL, -signal.SIGKILL),
        (signal.SIGINT, 130),
        (signal.SIGTERM, -signal.SIGTERM),
    ):
        for path in (tmp_path / "cache").glob("*"):
            path.unlink()
        child = forked(lambda: runner.run_all(tasks, 2, lambda done, total: None))
        end = time.monotonic() + 60
        while (
            len(workers := children_of(child)) < 2 and time.monotonic() < end
        ):  # or one, and what tracks resources
            time.sleep(0.02)
        for process in (child, *workers) if number == signal.SIGINT else (child,):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        assert ended(child) == code
        while any(map(is_alive, workers)) and time.monotonic() < end:
            time.sleep(0.05)
        assert workers and not any(map(is_alive, workers)), number


# ---- disks ---------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs with these options, or mounts it anew with others."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options: str) -> Path:
        again = "remount," if os.path.ismount(disk) else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(disk)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("there is no mount command")
        if done.returncode:
            pytest.skip(f"mounting is not allowed ({done.stderr.strip()})")
        return disk

    yield mount
    if os.path.ismount(disk):
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_loses_nothing(
    song: Path,
    records: Path,
    whole: bytes,
    tmp_path: Path,
    model_folder: Path,
    small_disk: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    quick_eval: None,
) -> None:
    stream = tmp_path / "song.rvc"
    assert call("encode", song, stream).exit_code == 0
    disk = small_disk("size=4k")
    (disk / "old").write_bytes(OLD)
    for command in (
        ("encode", song, disk / "x.rvc"),
        ("decode", stream, disk / "x.wav"),
        ("encode", song, disk / "old", "-f"),
    ):
        done = call(*command)
        assert (
            done.exit_code == 8 and "cannot be written (No space left on device)" in done.stderr
        ), done.stderr
    monkeypatch.setenv("XDG_DATA_HOME", str(disk))
    done = call("model", "add", model_folder / "paper.safetensors")
    assert done.exit_code == 8 and done.stderr.count("\n") == 1, done.stderr
    left = [path for path in disk.rglob("*") if path.is_file()]
    assert left == [disk / "old"] and (disk / "old").read_bytes() == OLD

    (disk / "old").unlink()
    small_disk("size=200k")
    done = call("eval", records, "--out", disk / "report", *EVALUATED)
    assert done.exit_code == 8 and "cannot be written (No space left on device)" in done.stderr, (
        done.stderr
    )
    small_disk("size=20m")
    assert call("eval", records, "--out", disk / "report", *EVALUATED).exit_code == 0
    assert call("eval", records, "--out", tmp_path / "report", *EVALUATED).exit_code == 0
    assert evaluated(disk / "report") == evaluated(tmp_path / "report")
    shutil.rmtree(disk / "report")

    assert call(*many(records, tmp_path / "streams")).exit_code == 0
    decode = ("decode", "-r", tmp_path / "streams", "-q", "-j", 1, "-o")
    assert call(*decode, tmp_path / "sounds").exit_code == 0
    wanted = {path.name: path.read_bytes() for path in (tmp_path / "sounds").glob("*.wav")}
    assert len(wanted) == 3
    small_disk(f"size={sum(map(len, wanted.values())) // 2 >> 10}k")
    assert call(*decode, disk / "sounds").exit_code == 8
    made = {path.name: path.read_bytes() for path in (disk / "sounds").glob("*.wav")}
    assert len(made) < 3 and all(wanted[name] == data for name, data in made.items())
    assert not list(disk.rglob("*.part"))
    small_disk("size=20m")
    assert call(*decode, disk / "sounds").exit_code == 0
    assert {path.name: path.read_bytes() for path in (disk / "sounds").glob("*.wav")} == wanted
    shutil.rmtree(disk / "sounds")

    small_disk("size=700k")
    with pytest.raises(OutputError, match="cannot be written"):
        trained(records, disk / "run")
    small_disk("size=60m")
    assert trained(records, disk / "run").read_bytes() == whole


def test_a_disk_that_may_only_be_read_is_told(
    song: Path,
    records: Path,
    model_folder: Path,
    small_disk: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    quick_eval: None,
) -> None:
    disk = small_disk("size=1m")
    small_disk("size=1m,ro")
    monkeypatch.setenv("XDG_DATA_HOME", str(disk))
    for command in (
        ("encode", song, disk / "x.rvc"),
        ("model", "add", model_folder / "paper.safetensors"),
        ("train", records, "--recipe", "tiny", "--out", disk / "run"),
        ("eval", records, "--out", disk / "report", *EVALUATED),
        ("eval", records, "--out", disk, *EVALUATED),
        many(records, disk / "streams"),
    ):
        done = call(*command)
        said = [line for line in done.stderr.splitlines() if "their scores are missing" not in line]
        assert done.exit_code == 8 and len(said) == 1, (command, done.stderr)
    assert not list(disk.iterdir())


# ---- inputs and targets that change under the work -----------------------------------------------


def test_a_stream_that_shrinks_while_it_is_decoded_is_an_error(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = tmp_path / "song.rvc"
    long = "note=" + random.Random(0).randbytes(200_000).hex()
    assert call("encode", song, stream, "--tag", long).exit_code == 0
    load = decoding.model_of

    def shrink(*args: object, **options: object) -> object:
        os.truncate(stream, stream.stat().st_size // 2)  # after it was checked to its end
        return load(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "model_of", shrink)
    done = call("decode", stream, tmp_path / "out.wav", "--no-tags")  # which are read before
    assert done.exit_code in (5, 6), done.stderr
    assert not list(tmp_path.glob("out.wav")) and not list(tmp_path.glob(".*.part"))


FORM = {
    ".raw": {"format": "RAW", "subtype": "PCM_16"},
    ".opus": {"format": "OGG", "subtype": "OPUS"},
}


@pytest.fixture
def shrinking(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files in this list lose their second half once a first block of them has been read."""
    chosen: list[Path] = []
    read = audio_in.AudioInput._read

    def shrink(self: audio_in.AudioInput, size: int) -> np.ndarray:
        block = read(self, size)
        for path in chosen:
            if self.name == str(path):
                os.truncate(path, path.stat().st_size // 2)
                chosen.remove(path)
        return block

    monkeypatch.setattr(audio_in.AudioInput, "_read", shrink)
    return chosen


def test_audio_that_shrinks_while_it_is_encoded_is_an_error(
    tmp_path: Path, music: Music, shrinking: list[Path]
) -> None:
    """Whatever holds it, nothing that is cut short is written; what is left of a header's sound can
    be asked for.
    """
    sound = music(48_000 * 6, 1, 48_000).T
    for suffix in (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".caf", ".w64", ".opus", ".raw"):
        path, target = tmp_path / f"song{suffix}", tmp_path / "song.rvc"
        soundfile.write(path, sound, 48_000, **FORM.get(suffix, {}))
        shrinking.append(path)
        done = call("encode", path, target, *(("--raw-rate", 48_000) if suffix == ".raw" else ()))
        assert not shrinking, suffix
        assert done.exit_code == 3 and done.stderr.count("\n") == 1, (suffix, done.stderr)
        assert any(word in done.stderr for word in ("truncated", "damaged", "lost")), (
            suffix,
            done.stderr,
        )
        assert [file for file in tmp_path.iterdir() if file.is_file()] == [path], suffix
        path.unlink()


def test_audio_that_shrinks_in_the_middle_of_many_files_stops_no_other(
    tmp_path: Path, music: Music, shrinking: list[Path]
) -> None:
    names = ("a", "b", "c")
    (tmp_path / "sounds").mkdir()
    for seed, name in enumerate(names):
        sound = music(48_000 * 6, 1, 48_000, seed).T
        soundfile.write(tmp_path / "sounds" / f"{name}.wav", sound, 48_000)
    shrinking.append(tmp_path / "sounds" / "b.wav")
    done = call(*many(tmp_path / "sounds", tmp_path / "out"))
    assert not shrinking and done.exit_code == 3
    assert "b.wav" in done.stderr and "a.wav" not in done.stderr
    assert list(streams(tmp_path / "out")) == ["a.rvc", "c.rvc"]


def test_audio_that_shrinks_while_a_training_reads_it_is_left_out_and_named(
    tmp_path: Path, music: Music, shrinking: list[Path]
) -> None:
    """Once it stays what it is, the next call reads it anew."""
    records = tmp_path / "records"
    records.mkdir()
    for name in ("a", "b", "c"):
        soundfile.write(records / f"{name}.wav", music(48_000 * 6, 1, 48_000, ord(name)).T, 48_000)
    shrinking.append(records / "b.wav")
    library = cache.build_cache(records, tmp_path / "cache", 48_000, 1)
    assert [track.path for track in library.tracks] == ["a.wav", "c.wav"]
    assert len(library.unreadable) == 1 and "b.wav: is truncated" in library.unreadable[0]
    assert (tmp_path / "cache" / "audio.i16").stat().st_size == 2 * 2 * 48_000 * 6
    del library
    soundfile.write(records / "b.wav", music(48_000 * 2, 1, 48_000).T, 48_000)
    library = cache.build_cache(records, tmp_path / "cache", 48_000, 1)
    assert sorted((track.path, track.frames) for track in library.tracks)[1] == (
        "b.wav",
        48_000 * 2,
    )
    assert not library.unreadable


def test_audio_that_shrinks_before_an_evaluation_reads_it_is_left_out_and_named(
    tmp_path: Path, music: Music, monkeypatch: pytest.MonkeyPatch, quick_eval: None
) -> None:
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", music(48_000 * 4, 1, 48_000, ord(name)).T, 48_000)
    find, sound = evaluation.find_sources, soundfile.SoundFile.read

    def shrink(paths: list[Path]) -> object:
        found = find(paths)
        os.truncate(tmp_path / "b.wav", (tmp_path / "b.wav").stat().st_size // 3)
        return found

    monkeypatch.setattr(evaluation, "find_sources", shrink)
    done = call(
        "eval", tmp_path / "a.wav", tmp_path / "b.wav", "--out", tmp_path / "report", *EVALUATED
    )
    assert done.exit_code == 1, done.stderr
    results = Results.load(tmp_path / "report" / "results.json")
    assert {item.source for item in results.items} == {"a.wav"}
    assert len(results.unreadable) == 1 and results.unreadable[0].startswith("b.wav: ")
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda self, *rest, **more: sound(self, *rest, **more)[:20_000]
    )
    with pytest.raises(InputError, match=r"b\.wav: ends .* s before it should"):
        from ravecodec.evaluate.excerpts import Source, cut

        soundfile.write(tmp_path / "b.wav", music(48_000 * 4, 1, 48_000).T, 48_000)
        cut(Source(tmp_path / "b.wav", 4.0, ""), 0, 1.0)


def test_two_processes_with_one_target_leave_one_of_both(
    song: Path, tmp_path: Path, model_folder: Path
) -> None:
    target, wanted = tmp_path / "both.rvc", []
    for seed in (1, 2):
        assert call("encode", song, tmp_path / f"{seed}.rvc", "--seed", seed).exit_code == 0
        wanted.append((tmp_path / f"{seed}.rvc").read_bytes())
    children = [forked(tool("encode", song, target, "-f", "--seed", seed)) for seed in (1, 2)]
    assert [ended(child) for child in children] == [0] * 2
    assert target.read_bytes() in wanted
    added = zoo.user_folder() / "mine.safetensors"
    models = [model_folder / f"{name}.safetensors" for name in ("default", "paper")]
    children = [forked(tool("model", "add", model, "--name", "mine", "-f")) for model in models]
    assert [ended(child) for child in children] == [0] * 2
    assert added.read_bytes() in [model.read_bytes() for model in models]
    assert not list(tmp_path.glob(".*.part")) and not list(added.parent.glob(".*.part"))


def test_two_trainings_of_one_run_are_one(records: Path, whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "run"
    work = partial(trained, records, out)
    children = [forked(work), forked(work)]
    # One waited for nothing, or came too late.
    assert sorted(ended(child) for child in children) in (
        [0, 0],
        [0, 1],
    )
    assert work().read_bytes() == whole


def test_two_evaluations_in_one_folder_are_one(
    records: Path, tmp_path: Path, quick_eval: None
) -> None:
    out = tmp_path / "report"
    children = [forked(tool("eval", records, "--out", out, *EVALUATED)) for _ in range(2)]
    # One came too late, or was refused.
    assert sorted(ended(child) for child in children) in (
        [0, 0],
        [0, 8],
    )
    before = evaluated(out)
    with folder.held(out):
        done = call("eval", records, "--out", out, *EVALUATED)
    assert done.exit_code == 8 and "another process evaluates into this folder" in done.stderr
    assert call("eval", records, "--out", out, *EVALUATED).exit_code == 0
    assert evaluated(out) == before


def test_two_calls_on_the_same_files_make_every_stream_once(
    records: Path, tmp_path: Path, model_folder: Path
) -> None:
    """One came too late, or was refused; the same call has nothing left to do."""
    out = tmp_path / "out"
    children = [forked(tool(*many(records, out))) for _ in range(2)]
    assert sorted(ended(child) for child in children) in ([0, 0], [0, 8])
    with held_folder(out, "is in use"):
        done = call(*many(records, out))
    assert done.exit_code == 8 and "another call keeps its manifest" in done.stderr
    assert call(*many(records, tmp_path / "alone")).exit_code == 0
    assert call(*many(records, out)).exit_code == 0
    assert streams(out) == streams(tmp_path / "alone")


# ---- clock and locale ----------------------------------------------------------------------------


def test_neither_clock_nor_locale_changes_a_byte(
    song: Path, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("encode", song, tmp_path / "now.rvc", "--tag", "title=Meander").exit_code == 0
    wanted = (tmp_path / "now.rvc").read_bytes()
    with monkeypatch.context() as patch:
        clock = iter(range(10**9, 0, -1000))
        patch.setattr(time, "time", lambda: float(next(clock)))
        assert call("encode", song, tmp_path / "back.rvc", "--tag", "title=Meander").exit_code == 0
    for year in (-(10**9), 4 * 10**9):  # files of 1938 and 2096
        os.utime(song, (year, year))
        assert (
            call("encode", song, tmp_path / "back.rvc", "-f", "--tag", "title=Meander").exit_code
            == 0
        )
        assert (tmp_path / "back.rvc").read_bytes() == wanted
    odd = {
        "LC_ALL": "tr_TR.ISO-8859-9",
        "LANG": "C",
        "TZ": "Asia/Kathmandu",
        "PYTHONUTF8": "0",
        "OMP_NUM_THREADS": "1",
    }
    code = (
        "import sys; from ravecodec import analysis; analysis.BLOCK_SAMPLES = 1 << 15\n"
        "import torch; torch.set_num_threads(1)\nfrom ravecodec.cli import main; main(sys.argv[1:])"
    )
    name = str(tmp_path / "ü-é.rvc")
    command = [sys.executable, "-c", code, "encode", str(song), name, "--tag", "title=Meander"]
    done = subprocess.run(command, env=os.environ | odd, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert Path(name).read_bytes() == wanted
