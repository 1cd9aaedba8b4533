"""Many files in one call: names, what is refused, one bad file among good ones, and calls that are
interrupted.
"""

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from ravecodec.batch import work
from ravecodec.batch.items import DONE, Item, Outcome, Totals
from ravecodec.batch.manifest import MANIFEST
from ravecodec.bitstream.container import MAGIC
from ravecodec.cli import main
from ravecodec.cli.progress import Overview
from ravecodec.errors import CorruptError

pytestmark = pytest.mark.usefixtures("installed")

Music = Callable[..., NDArray[np.float32]]
RATE = 22_050


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no --jobs is given."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def call(line: str) -> Result:
    return CliRunner().invoke(main, shlex.split(line))


def good(line: str) -> Result:
    done = call(line)
    assert done.exit_code == 0, done.output
    return done


def tree(folder: str | Path = ".") -> dict[str, bytes]:
    """Every file in and below a folder, manifests excepted."""
    files = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != MANIFEST]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path, music: Music, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with music/{1.wav,2.flac,sub/3.wav} of different lengths and things that
    are no audio.
    """
    monkeypatch.chdir(tmp_path)
    Path("music/sub").mkdir(parents=True)
    for number, name in enumerate(("1.wav", "2.flac", "sub/3.wav")):
        channels = 1 + number % 2
        soundfile.write(
            f"music/{name}", music(9_000 + 1_000 * number, channels, RATE, number).T, RATE
        )
    Path("music/notes.txt").write_text("no audio")
    Path("music/.hidden.wav").write_bytes(b"no audio")
    Path("music/.git").mkdir()
    Path("music/.git/4.wav").write_bytes(b"no audio")
    return tmp_path


# ---- there and back ------------------------------------------------------------------------------


def test_folders_keep_their_structure_and_every_file_is_what_a_call_of_its_own_makes(
    folder: Path,
) -> None:
    done = good("encode -r music -o out --seed 3")
    names = {"1.rvc": "1.wav", "2.rvc": "2.flac", "sub/3.rvc": "sub/3.wav"}
    assert set(tree("out")) == set(names)
    assert len(re.findall(r"^ravecodec: out/.* kbit/s", done.stderr, re.MULTILINE)) == 3
    assert done.stderr.splitlines()[-1].startswith("ravecodec: 3 of 3 files; 0.000 h of audio in ")
    for made, source in names.items():
        good(f"encode music/{source} alone.rvc -f --seed 3")
        assert Path("alone.rvc").read_bytes() == tree("out")[made]
    good("decode -r out -o back --to flac")
    assert set(tree("back")) == {"1.flac", "2.flac", "sub/3.flac"}
    for made, source in names.items():
        before, after = soundfile.info(f"music/{source}"), soundfile.info(f"back/{made[:-4]}.flac")
        assert (before.frames, before.samplerate, before.channels) == (
            after.frames,
            after.samplerate,
            after.channels,
        )
        good(f"decode out/{made} alone.flac -f")
        assert Path("alone.flac").read_bytes() == Path(f"back/{made[:-4]}.flac").read_bytes()


def test_outputs_stand_beside_their_inputs_without_a_folder(folder: Path) -> None:
    before = set(tree())
    good("encode -r music")
    assert set(tree()) - before == {"music/1.rvc", "music/2.rvc", "music/sub/3.rvc"}
    assert len(records("music/manifest.jsonl")) == 6
    good("encode music/1.wav music/2.flac music/sub/3.wav -f")  # three names need no folder
    good("encode music/1.wav music/2.flac -f")  # nor do two, because an audio file is no output
    good("encode music/1.wav music/2.flac -o here/ --no-manifest")
    assert {path.name for path in Path("here").iterdir()} == {"1.rvc", "2.rvc"}


def test_one_input_with_output(folder: Path) -> None:
    good("encode music/1.wav -o a.rvc")
    good("encode music/1.wav --output new/")
    good("encode music/1.wav -o music")
    good("decode a.rvc -o b.flac")
    expected = Path("a.rvc").read_bytes()
    assert Path("new/1.rvc").read_bytes() == Path("music/1.rvc").read_bytes() == expected
    assert soundfile.info("b.flac").frames == 9_000
    assert not list(Path().rglob(MANIFEST))


def test_info_and_verify_go_through_folders(folder: Path) -> None:
    good("encode -r music -o out")
    info, verify = good("info -r out"), good("verify -r out")
    assert [line.split(": ")[0] for line in info.stdout.splitlines()] == [
        "out/1.rvc",
        "out/2.rvc",
        "out/sub/3.rvc",
    ]
    assert verify.stdout.count(": ok, ") == 3
    assert info.stderr.startswith("ravecodec: 3 of 3 files; ") and verify.stderr.startswith(
        "ravecodec: 3 of 3 files; "
    )
    Path("out/2.rvc").write_bytes(Path("out/2.rvc").read_bytes()[:-1])
    done = call("verify -r out")
    assert (done.exit_code, done.stdout.count(": ok, ")) == (6, 2)
    assert call("info -r out").exit_code == 6
    Path("out/4.rvc").write_text("no stream")
    assert call("verify -r out").exit_code == 1
    assert "chunks" not in call("info -r out --frames").stderr


def test_json_is_one_object_per_line_and_the_totals_are_their_sum(folder: Path) -> None:
    Path("music/bad.wav").write_text("no audio")
    for line, code in (("encode -r music -o out", 3), ("decode -r out -o back", 0)):
        done = call(f"{line} --json")
        assert done.exit_code == code
        *files, last = [json.loads(each) for each in done.stdout.splitlines()]
        streams = [each["summary"]["stream"] for each in files if each["verdict"] == "done"]
        totals = last["totals"]
        assert (totals["files"], totals["done"], totals["failed"]) == (
            len(files),
            3,
            len(files) - 3,
        )
        assert totals["bytes"] == sum(stream["total_bytes"] for stream in streams)
        assert totals["audio_seconds"] == pytest.approx(
            sum(stream["duration"] for stream in streams)
        )
        assert totals["kbps"] == pytest.approx(totals["bytes"] * 8 / 1000 / totals["audio_seconds"])
        for each in files:
            data = Path(each["output"]).read_bytes() if each["verdict"] == "done" else b""
            assert each["sha256"] == (hashlib.sha256(data).hexdigest() if data else "")
    for command in ("info", "verify"):
        *files, last = [
            json.loads(each) for each in good(f"{command} -r out --json").stdout.splitlines()
        ]
        assert [each["name"] for each in files] == ["out/1.rvc", "out/2.rvc", "out/sub/3.rvc"]
        assert last["totals"]["bytes"] == sum(each["stream"]["total_bytes"] for each in files)


# ---- what is refused -----------------------------------------------------------------------------

REFUSED = {
    "encode music/1.wav new.wav": (2, "`ravecodec encode music/1.wav -o NAME.rvc`"),
    "encode music/1.wav music": (8, "`ravecodec encode music/1.wav -o music`"),
    "encode music/1.wav new/": (8, "`ravecodec encode music/1.wav -o new/`"),
    "encode music/1.wav music/2.flac new.rvc": (2, "`ravecodec encode IN new.rvc`"),
    "encode music": (3, "-r"),
    "encode -r music new": (2, "`ravecodec encode -r music -o new`"),
    "encode music/1.wav -o new": (2, "expected new.rvc or new/"),
    "encode music/1.wav -o new.flac": (2, "expected .rvc"),
    "encode music/1.wav music/1.wav": (2, "is named twice"),
    "encode music/1.wav music/../music/1.wav -o new": (2, "is named twice"),
    "encode - music/1.wav -o new": (2, "- is one of several files"),
    "encode -r music -o -": (2, "standard output takes one file"),
    "encode music/1.wav music/2.flac --stdout": (2, "standard output takes one file"),
    "encode music/1.wav -c -o new.rvc": (2, "--stdout and --output"),
    "encode music/1.wav -c new.rvc": (2, "standard output takes one file"),
    "encode music/1.wav -c --json": (2, "both want standard output"),
    "encode music/1.wav -c --rm": (2, "--rm"),
    "encode music/1.wav new.rvc --rm --ignore-length": (2, "--rm and --ignore-length"),
    "encode -r music -o new --rm --ignore-length": (2, "--rm and --ignore-length"),
    "encode - new.rvc --rm": (2, "--rm"),
    "encode -r music -o music/1.wav": (8, "expected one for the outputs of several files"),
    "encode -r music -o new --newer --skip-existing": (2, "expected one of them"),
    "encode -r music -o new -f --newer": (2, "expected one of them"),
    "encode -r music -o new --manifest x --no-manifest": (2, "expected one of them"),
    "encode -r music -o new --manifest music/notes.txt": (8, "is no manifest of ravecodec"),
    "encode -r music -o new --dims 99": (2, "model default has 1 to 16"),
    "encode -r music -o new --bitrate 0": (2, "expected more than 0"),
    "encode -r music -o new -q 11": (2, "quality is '11', expected one of 0 to 10, small"),
    "encode -q music/1.wav": (2, "--quiet is -Q"),
    "encode -r music -o new -q best --step 2": (2, "quality and step are both given"),
    "encode -r music -o new --quality 3 --bitrate 2": (2, "quality and bitrate are both given"),
    "encode -r music -o new --cbr": (2, "cbr is given without bitrate"),
    "encode music/1.wav new.rvc --cbr --step 2": (2, "cbr is given without bitrate"),
    "encode -r music -o new --model missing": (7, "no model called 'missing'"),
    "encode -r music -o new --device toaster": (2, "toaster"),
    "encode - --skip-existing": (2, "is a pipe"),
    "decode -r music": (3, "holds no streams"),
    "decode one.rvc new.rvc": (2, "`ravecodec decode one.rvc -o NAME.wav`"),
    "decode one.rvc music": (8, "`ravecodec decode one.rvc -o music`"),
    "decode one.rvc -r new": (2, "`ravecodec decode -r one.rvc -o new`"),
    "verify music": (3, "-r"),
    "info music": (3, "folder"),
}


def test_what_is_not_certain_is_refused_with_the_call_that_is(folder: Path) -> None:
    good("encode music/1.wav one.rvc")
    before = tree()
    for line, (code, words) in REFUSED.items():
        done = call(line)
        assert (done.exit_code, done.stdout) == (code, ""), f"{line}: {done.output}"
        (sentence,) = done.stderr.splitlines()
        assert words in sentence, f"{line}: {sentence}"
        assert tree() == before, line
        assert not Path("new").exists()


def test_a_quality_and_a_constant_rate_hold_for_many_files(folder: Path) -> None:
    """As for one; what was chosen is in every line, and in the manifest."""
    done = good("encode music/1.wav music/2.flac -o new -q small")
    assert done.stderr.count("quality 2: ") == 2 and done.stderr.count(", step ") == 2
    good("encode music/1.wav alone.rvc --quality 2")
    assert Path("new/1.rvc").read_bytes() == Path("alone.rvc").read_bytes()
    points = [r["point"] for r in records("new/manifest.jsonl") if "point" in r]
    assert [point["quality"] for point in points] == [2, 2]
    good("encode music/1.wav music/2.flac -o steady --bitrate 20 --cbr")
    points = [r["point"] for r in records("steady/manifest.jsonl") if "point" in r]
    assert [(point["bitrate"], point["cbr"]) for point in points] == [(20.0, True)] * 2
    found = json.loads(good("encode music/1.wav -o x.rvc -q best --json").stdout)
    assert found["quality"] == 10 and found["steps"] == [found["stream"]["step_index"]] * 2


def test_outputs_that_would_collide_are_refused_before_anything_is_written(
    folder: Path, music: Music
) -> None:
    soundfile.write("music/sub/3.flac", music(9_000, 1, RATE).T, RATE)
    before = tree()
    for line in (
        "encode -r music -o out",
        "encode -r music",
        "encode music/sub/3.flac music/sub/3.wav",
    ):
        done = call(line)
        assert done.exit_code == 2
        assert "music/sub/3.flac and music/sub/3.wav would both become " in done.stderr
        assert tree() == before
    Path("other").mkdir()
    Path("music/1.wav").rename("other/2.wav")
    assert "would both become out/2.rvc" in call("encode music/2.flac other/2.wav -o out").stderr
    good("encode music/2.flac other/2.wav")


# ---- one bad file --------------------------------------------------------------------------------


def test_a_bad_file_does_not_stop_the_others_and_is_listed_at_the_end(folder: Path) -> None:
    Path("music/0.wav").write_text("no audio")
    soundfile.write("music/1b.wav", np.full(100, np.nan), RATE, subtype="FLOAT")
    done = call("encode -r music -o out")
    assert done.exit_code == 3
    assert set(tree("out")) == {"1.rvc", "2.rvc", "sub/3.rvc"}
    *_, head, first, second = done.stderr.splitlines()
    assert head == "ravecodec: 2 of 5 files failed:"
    assert "music/0.wav" in first and "music/1b.wav" in second
    quiet = call("encode -r music -o out --quiet")
    assert [line.split(":")[2].strip() for line in quiet.stderr.splitlines()] == [
        "music/0.wav",
        "music/1b.wav",
    ]
    Path("music/sub/0.rvc").write_bytes(b"RVC")
    done = call("encode music/0.wav music/1.wav music/2.flac missing.wav -o out --no-manifest")
    assert done.exit_code == 1  # two cannot be read (3), two exist already (8)
    assert done.stderr.count("exists already") == 2 + 2


def test_damage_that_is_concealed_is_told_and_remembered(folder: Path) -> None:
    good("encode -r music -o out")
    Path("out/1.rvc").write_bytes(Path("out/1.rvc").read_bytes()[:-3])
    assert call("decode -r out -o back").exit_code == 6
    assert set(tree("back")) == {"2.wav", "sub/3.wav"}
    for _ in range(2):
        done = call("decode -r out -o held --salvage")
        assert done.exit_code == 5
        assert "out/1.rvc: 1 damaged place, the sound was held" in done.stderr
        assert set(tree("held")) == {"1.wav", "2.wav", "sub/3.wav"}


# ---- habits --------------------------------------------------------------------------------------


def test_inputs_are_removed_after_a_verified_encode_and_not_before(
    folder: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good("encode music/1.wav one.rvc --rm -k")  # the last one counts
    good("encode music/1.wav --rm")
    assert (
        not Path("music/1.wav").exists()
        and Path("music/1.rvc").read_bytes() == Path("one.rvc").read_bytes()
    )
    soundfile.write("music/4.wav", np.full(100, np.nan), RATE, subtype="FLOAT")
    Path("out/sub").mkdir(parents=True)
    Path("out/sub/3.rvc").write_bytes(b"old")
    audio = {"2.flac", "4.wav", "sub/3.wav"}

    def left() -> set[str]:
        return audio & set(tree("music"))

    assert call("encode -r music -o out --rm --dry-run").exit_code == 8
    assert left() == audio
    assert call("encode -r music -o out --rm").exit_code == 1
    assert left() == {"4.wav", "sub/3.wav"}  # one is no audio, the other's output existed
    (done,) = [each for each in records("out/manifest.jsonl") if each["verdict"] == "done"]
    assert done["input"].endswith("2.flac") and done["input_bytes"] > 0

    def fail(*_: object) -> None:
        raise CorruptError("not what was written")

    monkeypatch.setattr("ravecodec.pipeline.EncodePipeline.check_written", fail)
    for line in ("encode music/sub/3.wav new.rvc --rm", "encode -r music/sub -o new --rm"):
        assert call(line).exit_code == 5
        assert Path("music/sub/3.wav").exists()


def test_standard_output_by_its_option(folder: Path) -> None:
    good("encode music/1.wav one.rvc")
    command = [sys.executable, "-m", "ravecodec", "encode", "music/1.wav", "--stdout", "--quiet"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == (Path("one.rvc").read_bytes(), b"", 0)


def test_every_format_that_is_listed_can_be_written_and_read(folder: Path) -> None:
    shown = good("--list-formats").stdout
    good("encode music/1.wav one.rvc")
    written = re.findall(r"^ +\.(\w+) .* ((?:16|24|float|Vorbis).*)$", shown, re.MULTILINE)
    assert len(written) >= 8
    for name, samples in written:
        for bits in samples.split(", "):
            choice = "" if bits == "Vorbis" else f"--bits {bits}"
            good(f"decode one.rvc x.{name} -f {choice}")
            good(f"encode x.{name} y.rvc -f")
    assert "ravecodec[formats]" in shown


# ---- what exists already -------------------------------------------------------------------------


def test_skip_existing_and_newer(folder: Path) -> None:
    good("encode -r music -o out --no-manifest")
    assert call("encode -r music -o out --no-manifest").exit_code == 8
    before = tree("out")
    Path("out/1.rvc").write_bytes(b"kept")
    os.utime("out/2.rvc", (0, 0))
    Path("out/sub/3.rvc").unlink()
    done = good("encode -r music -o out --no-manifest --skip-existing --step 5")
    assert done.stderr.count(": skipped, ") == 2
    assert tree("out")["1.rvc"] == b"kept" and tree("out")["2.rvc"] == before["2.rvc"]
    assert tree("out")["sub/3.rvc"] != before["sub/3.rvc"]
    good("encode -r music -o out --no-manifest --newer --step 5")
    assert tree("out")["1.rvc"] == b"kept" and tree("out")["2.rvc"] != before["2.rvc"]
    good("encode -r music -o out --no-manifest -f")
    assert tree("out") == before
    good("encode music/1.wav out/1.rvc --skip-existing")
    assert call("encode music/1.wav out/1.rvc").exit_code == 8


def test_a_dry_run_tells_the_same_and_writes_nothing(folder: Path) -> None:
    Path("music/0.wav").write_bytes(MAGIC)
    Path("out").mkdir()
    Path("out/2.rvc").touch()
    before = tree()
    done = call("encode -r music -o out --dry-run")
    assert tree() == before and not Path("out/manifest.jsonl").exists()
    assert done.exit_code == 1
    assert "music/0.wav: is an .rvc stream already" in done.stderr
    assert "music/1.wav would become out/1.rvc" in done.stderr
    assert "music/sub/3.wav would become out/sub/3.rvc" in done.stderr
    assert "out/2.rvc: exists already" in done.stderr
    assert "would become out/2.rvc" not in done.stderr
    *files, _ = [
        json.loads(each)
        for each in call("encode -r music -o out --dry-run --json").stdout.splitlines()
    ]
    assert [each["verdict"] for each in files] == ["failed", "planned", "failed", "planned"]


# ---- the manifest --------------------------------------------------------------------------------


def test_the_manifest_has_all_of_every_file(folder: Path) -> None:
    Path("music/0.wav").write_text("no audio")
    call("encode -r music -o out --step 3 --effort 0")
    found = records("out/manifest.jsonl")
    assert [each["verdict"] for each in found] == ["started", "failed", *["started", "done"] * 3]
    assert "0.wav" in found[1]["error"] and found[1]["exit_code"] == 3
    for each in found[3::2]:
        data = Path("out", each["output"]).read_bytes()
        assert each["sha256"] == hashlib.sha256(data).hexdigest()
        shown = json.loads(good(f"info out/{each['output']} --json").stdout)["stream"]
        assert each["model"] == shown["model_id"]
        assert each["point"] == {"dims": shown["dims"], "step_index": 3, "effort": 0}
        assert each["audio_seconds"] == soundfile.info(each["input"]).duration
        assert each["seconds"] > 0


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The inputs that are encoded, in order; at one called STOP the user presses Ctrl-C when its
    output is in place.
    """
    seen: list[str] = []
    whole = work.encode_file

    def encode(source: str, target: str, **options: Any) -> Any:
        seen.append(source)
        done = whole(source, target, **options)
        if source == os.environ.get("STOP"):
            monkeypatch.delenv("STOP")
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(work, "encode_file", encode)
    yield seen


def test_an_interrupted_call_goes_on(
    folder: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good("encode -r music -o whole")
    everything, expected = list(encoded), tree("whole")
    for stop in everything:
        encoded.clear()
        monkeypatch.setenv("STOP", stop)
        done = call(f"encode -r music -o {stop}.out")
        assert done.exit_code == 130
        assert "the same call goes on" in done.stderr
        with Path(f"{stop}.out/manifest.jsonl").open("a") as file:
            file.write('{"ravecodec": "0')  # a line that was cut off
        good(f"encode -r music -o {stop}.out")
        assert tree(f"{stop}.out") == expected
        assert sorted(encoded) == sorted([*everything, stop])  # only the one in hand twice
        encoded.clear()
        done = good(f"encode -r music -o {stop}.out")
        assert not encoded
        assert done.stderr.count("was made by an earlier call") == 3
        for path in Path().glob("music/**/*.out"):
            path.rename(folder / f"done {path.name}")


def test_what_was_there_before_an_interrupted_call_is_never_replaced_by_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    Path("out").mkdir()
    Path("out/1.rvc").write_bytes(b"precious")
    with monkeypatch.context() as patch:
        patch.setattr(work, "encode_file", stop)
        for _ in range(2):
            assert call("encode -r music -o out").exit_code == 130
    done = call("encode -r music -o out")
    assert done.exit_code == 8 and "out/1.rvc: exists already" in done.stderr
    assert tree("out")["1.rvc"] == b"precious"
    assert set(tree("out")) == {"1.rvc", "2.rvc", "sub/3.rvc"}


def test_only_what_the_same_call_made_of_the_same_file_is_done(
    folder: Path, encoded: list[str]
) -> None:
    good("encode -r music -o out")
    for line in (
        "encode -r music -o out --step 5",
        "encode -r music -o out --tag a=b",
        "encode -r music -o out --verify",
    ):
        assert call(line).exit_code == 8, line
    os.utime("music/1.wav")
    assert "out/1.rvc: exists already" in call("encode -r music -o out").stderr
    Path("out/2.rvc").unlink()
    Path("out/sub/3.rvc").write_bytes(b"x" * len(tree("out")["sub/3.rvc"]))
    encoded.clear()
    done = call("encode -r music -o out")
    assert "music/2.flac" in encoded and Path("out/2.rvc").exists()
    assert "out/sub/3.rvc: exists already" in done.stderr
    Path("moved").mkdir()
    for name, data in tree("out").items():
        (Path("moved") / name).parent.mkdir(exist_ok=True)
        (Path("moved") / name).write_bytes(data)  # another time, the same bytes
    Path("out/manifest.jsonl").rename("moved/manifest.jsonl")
    assert "music/2.flac: skipped, moved/2.rvc" in call("encode -r music -o moved").stderr


# ---- processes -----------------------------------------------------------------------------------

POOL = """
import os, signal, sys, time
from ravecodec.pool import Died, run_tasks

class Work:
    def __init__(self, broken=False):
        self.broken = broken
    def start(self):
        if self.broken:
            raise ValueError("broken")
        return self.do
    def do(self, task, hear):
        if task == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "leave":
            os._exit(3)
        held = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return task.upper(), os.getpid(), os.environ["OMP_NUM_THREADS"], signal.SIGINT in held

if __name__ == "__main__":
    tasks = ["a", "die", "b", "leave", "die", "c", "d"]
    begun = []
    found = list(run_tasks(Work(), tasks, jobs=2, begin=begun.append))
    assert begun == tasks
    assert sorted(task for task, _ in found) == sorted(tasks)
    died = sorted(str(result) for _, result in found if isinstance(result, Died))
    killed = ["its process was ended by SIGKILL"] * 2
    assert died == ["its process ended with exit status 3", *killed], died
    done = [(task, *result) for task, result in found if not isinstance(result, Died)]
    assert all(upper == task.upper() and threads == "1" for task, upper, _, threads, _ in done)
    assert all(pid != os.getpid() for _, _, pid, _, _ in done)
    assert all(held for *_, held in done)  # Ctrl-C is for the calling process, from the first on
    here = list(run_tasks(Work(), ["a"], jobs=1))
    assert here[0][1][1] == os.getpid()
    try:
        list(run_tasks(Work(broken=True), tasks, jobs=2))
    except ValueError as error:
        assert str(error) == "broken"
    else:
        raise AssertionError
"""


def test_the_death_of_a_process_costs_its_task_and_no_other(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(POOL)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


ENDING = """
import os, signal
from multiprocessing import get_context
from ravecodec import pool

class Work:
    def start(self):
        return None

def serve(pipe, answers):
    pool._serve(pipe, Work(), False)
    os.kill(os.getpid(), signal.SIGTERM)  # as a calling process does that ends meanwhile
    answers.send("still here")

if __name__ == "__main__":
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    answers, sender = context.Pipe()
    process = context.Process(target=serve, args=(theirs, sender))
    process.start()
    theirs.close()
    assert ours.recv() == ("started", None)
    ours.close()
    process.join()
    assert process.exitcode == 0 and answers.recv() == "still here"
"""


def test_a_process_that_is_ending_hears_no_signal(tmp_path: Path) -> None:
    script = tmp_path / "ending.py"
    script.write_text(ENDING)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and not run.stderr, run.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_several_processes_make_the_same_and_ctrl_c_leaves_no_half_file(
    folder: Path, music: Music
) -> None:
    for number in range(4):
        soundfile.write(f"music/long{number}.wav", music(12 * RATE, 2, RATE, number).T, RATE)
    line = "encode -r music -o out --jobs 2"
    command = [sys.executable, "-m", "ravecodec", *line.split()]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    for _ in range(6000):
        if any(
            path.name.endswith(".part") and "long" in path.name for path in Path().glob("out/.*")
        ):
            break
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGINT)
    error = run.communicate(timeout=120)[1].decode()
    assert run.returncode == 130, error
    assert error.splitlines()[-1] == "ravecodec: error: interrupted"
    assert "Traceback" not in error
    assert not [name for name in tree("out") if not name.endswith(".rvc")]
    good(line)
    good("encode -r music -o here --jobs 1 --threads 1")
    assert tree("out") == tree("here")
    assert len(tree("out")) == 7


# ---- progress ------------------------------------------------------------------------------------


def test_progress_over_all_files_counts_bytes(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [Item("a", "a.rvc", 999), Item("b", "b.rvc", 2_999)]
    for shown in (False, True):
        totals = Totals(skipped=7)  # which were never waited for
        monkeypatch.setattr(sys.stderr, "isatty", lambda shown=shown: shown)
        with Overview("encode", items, quiet=False) as overview:
            overview.hear(items[1], 0.5)
            totals.add(Outcome(items[0], DONE), 1.0)
            overview.add(items[0], totals)
            with overview.aside():
                print("a line", file=sys.stderr)
        out, err = capfd.readouterr()
        assert out == ""
        assert (" 62 % " in err and "1 of 2 files" in err and " left" in err) == shown
        assert "a line\n" in err
