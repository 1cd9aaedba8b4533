"""Faults from outside: processes that are killed, full and read-only disks, inputs that shrink, clocks and locales.

The rule: a target is what it was or what it should become, never in between; what was interrupted can be called again.
Signals are sent for real, to forked processes, at random moments of a fixed seed; disks are small tmpfs mounts, and
those tests are skipped where mounting is not allowed.
"""

import contextlib
import os
import random
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

from ravecodec import transcode, zoo
from ravecodec.cli import main
from ravecodec.errors import OutputError
from ravecodec.train import loop
from ravecodec.train.recipe import Stage, load_recipe

Audio = Callable[..., np.ndarray]

pytestmark = [
    pytest.mark.usefixtures("installed"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
OLD = b"what was there before"
QUICK = load_recipe("tiny").replace(
    stage1=Stage(3, 5e-3), stage2=Stage(2, 5e-4), batch=1, warmup=1, validate_every=2, rate_kbps=0
)


@pytest.fixture(autouse=True, scope="module")
def light() -> Iterator[None]:
    """Little analysis, no pictures, checkpoints at every step, small blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ravecodec.train.finish.ANALYSIS_FRAMES", 60)
        patch.setattr("ravecodec.train.board._has_matplotlib", lambda: False)
        patch.setattr("ravecodec.train.board._has_tensorboard", lambda: False, raising=False)
        patch.setattr(loop, "write_report", lambda run: run / "report.html")
        patch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr("ravecodec.analysis.BLOCK_SAMPLES", 1 << 15)
        yield


@pytest.fixture
def song(tmp_path: Path, music: Audio) -> Path:
    path = tmp_path / "song.wav"
    soundfile.write(path, music(44_100 * 4).T, 44_100)
    return path


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, music: Audio) -> Path:
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
    """The model of this run, on one thread: sums differ in their last bit with the number of threads."""
    torch.set_num_threads(1)
    return loop.train(records, QUICK, out, device="cpu")


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


# ---- killed ----------------------------------------------------------------------------------------------------------


def test_a_target_survives_every_kill(song: Path, tmp_path: Path, model_folder: Path) -> None:
    """encode, decode and model add: the old file, or the new one whole; only SIGKILL and SIGHUP leave a .part."""
    stream, sound = tmp_path / "song.rvc", tmp_path / "out" / "song.wav"
    sound.parent.mkdir()
    assert call("encode", song, stream).exit_code == 0
    added = zoo.user_folder() / "mine.safetensors"
    works = {
        tmp_path / "out" / "song.rvc": ("encode", song, tmp_path / "out" / "song.rvc", "-f", "-q"),
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
            assert target.read_bytes() == (whole if code == 0 else target.read_bytes()) in (OLD, whole), command
            parts = list(target.parent.glob(".*.part"))
            assert not parts or number in (signal.SIGKILL, signal.SIGHUP), (command, number)
            for part in parts:
                part.unlink()


def test_training_killed_again_and_again_ends_with_the_same_model(records: Path, whole: bytes, tmp_path: Path) -> None:
    """Byte for byte, and with the id, of a run that nobody disturbed."""
    draw, out = random.Random(7), tmp_path / "run"
    work = partial(trained, records, out)
    for number in SIGNALS:
        struck(work, number, draw.uniform(0.05, 1))
    assert work().read_bytes() == whole
    assert not list(out.glob("*.part"))


# ---- disks -----------------------------------------------------------------------------------------------------------


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
        assert done.exit_code == 8 and "cannot be written (No space left on device)" in done.stderr, done.stderr
    monkeypatch.setenv("XDG_DATA_HOME", str(disk))
    done = call("model", "add", model_folder / "paper.safetensors")
    assert done.exit_code == 8 and done.stderr.count("\n") == 1, done.stderr
    left = [path for path in disk.rglob("*") if path.is_file()]
    assert left == [disk / "old"] and (disk / "old").read_bytes() == OLD

    (disk / "old").unlink()
    small_disk("size=700k")
    with pytest.raises(OutputError, match="cannot be written"):
        trained(records, disk / "run")
    small_disk("size=60m")
    assert trained(records, disk / "run").read_bytes() == whole


def test_a_disk_that_may_only_be_read_is_told(
    song: Path, records: Path, model_folder: Path, small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk("size=1m")
    small_disk("size=1m,ro")
    monkeypatch.setenv("XDG_DATA_HOME", str(disk))
    for command in (
        ("encode", song, disk / "x.rvc"),
        ("model", "add", model_folder / "paper.safetensors"),
        ("train", records, "--recipe", "tiny", "--out", disk / "run"),
    ):
        done = call(*command)
        assert done.exit_code == 8 and done.stderr.count("\n") == 1, (command, done.stderr)
    assert not list(disk.iterdir())


# ---- inputs and targets that change under the work -------------------------------------------------------------------


def test_a_stream_that_shrinks_while_it_is_decoded_is_an_error(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = tmp_path / "song.rvc"
    long = "note=" + random.Random(0).randbytes(200_000).hex()
    assert call("encode", song, stream, "--tag", long).exit_code == 0
    load = transcode._model_to_decode

    def shrink(*args: object) -> object:
        os.truncate(stream, stream.stat().st_size // 2)  # after it was checked to its end
        return load(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(transcode, "_model_to_decode", shrink)
    done = call("decode", stream, tmp_path / "out.wav")
    assert done.exit_code in (5, 6), done.stderr
    assert not list(tmp_path.glob("out.wav")) and not list(tmp_path.glob(".*.part"))


def test_two_processes_with_one_target_leave_one_of_both(song: Path, tmp_path: Path, model_folder: Path) -> None:
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
    assert sorted(ended(child) for child in children) in ([0, 0], [0, 1])  # one waited for nothing, or came too late
    assert work().read_bytes() == whole


# ---- clock and locale ------------------------------------------------------------------------------------------------


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
        assert call("encode", song, tmp_path / "back.rvc", "-f", "--tag", "title=Meander").exit_code == 0
        assert (tmp_path / "back.rvc").read_bytes() == wanted
    odd = {"LC_ALL": "tr_TR.ISO-8859-9", "LANG": "C", "TZ": "Asia/Kathmandu", "PYTHONUTF8": "0", "OMP_NUM_THREADS": "1"}
    code = (
        "import sys; from ravecodec import analysis; analysis.BLOCK_SAMPLES = 1 << 15\n"
        "import torch; torch.set_num_threads(1)\nfrom ravecodec.cli import main; main(sys.argv[1:])"
    )
    name = str(tmp_path / "ü-é.rvc")
    command = [sys.executable, "-c", code, "encode", str(song), name, "--tag", "title=Meander"]
    done = subprocess.run(command, env=os.environ | odd, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert Path(name).read_bytes() == wanted
