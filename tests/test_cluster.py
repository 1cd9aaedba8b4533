"""Many files on a Ray cluster: the same bytes as here, whatever becomes of the workers."""

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from ravecodec.batch.items import DONE, STARTED
from ravecodec.batch.manifest import MANIFEST
from ravecodec.cli import main
from ravecodec.cluster import TRIES, check_address
from ravecodec.errors import UsageError
from ravecodec.pool import Died

pytestmark = pytest.mark.usefixtures("installed")
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or not Path("/proc").is_dir(),
    reason="needs ray, and /proc to find its workers by",
)

Music = Callable[..., NDArray[np.float32]]
RATE = 22_050


def call(line: str) -> Result:
    return CliRunner().invoke(main, shlex.split(line))


def streams(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).rglob("*.rvc")}


def writer_in(folder: Path) -> int | None:
    """The process that has a file open that is not yet complete."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = Path(os.readlink(link))  # noqa: PTH115, a link of /proc need not lead anywhere
        except OSError:
            continue
        if target.parent == folder and target.name.endswith(".part") and "long" in target.name:
            return int(link.parts[2])
    return None


@needs_ray
def test_a_worker_is_killed_and_every_output_is_what_it_is_here(
    tmp_path: Path, music: Music, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("music/sub").mkdir(parents=True)
    for number in range(3):
        soundfile.write(f"music/long{number}.wav", music(40 * RATE, 2, RATE, number).T, RATE)
        soundfile.write(f"music/sub/short{number}.wav", music(RATE, 1, RATE, number).T, RATE)
    Path("music/bad.wav").write_bytes(b"RIFF, but no audio")
    command = "encode -r music -o out --ray=local --jobs 2 --json"
    run = subprocess.Popen(
        [sys.executable, "-m", "ravecodec", *command.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    killed = None
    while run.poll() is None and killed is None:
        if (killed := writer_in(tmp_path / "out")) is not None:
            os.kill(killed, signal.SIGKILL)
        time.sleep(0.01)
    output, error = run.communicate(timeout=300)
    assert run.returncode == 3, error  # bad.wav, and nothing else
    assert killed is not None and "Traceback" not in error
    *files, totals = map(json.loads, output.splitlines())
    assert (totals["totals"]["done"], totals["totals"]["failed"]) == (6, 1)
    assert {Path(each["input"]).name for each in files if each["verdict"] != DONE} == {"bad.wav"}
    here = call("encode -r music -o here --jobs 1 --threads 1")
    assert here.exit_code == 3
    assert streams("out") == streams("here") and len(streams("out")) == 6
    assert not list(Path("out").glob(".*"))
    records = [json.loads(line) for line in Path("out", MANIFEST).read_text().splitlines()]
    assert sum(record["verdict"] == STARTED for record in records) == 7
    again = call("encode -r music -o out --jobs 1 --threads 1 --json")  # it is the same manifest
    *_, totals = map(json.loads, again.stdout.splitlines())
    assert totals["totals"]["skipped"] == 6 and again.exit_code == 3


def test_an_address_is_one() -> None:
    for good in ("auto", "local", "host:6379", "ray://10.0.0.1:10001"):
        check_address(good)
    for bad in ("music", "music/a.wav", "", "host:", "a/b:1", ":6379"):
        with pytest.raises(UsageError, match="is no address"):
            check_address(bad)


def test_calls_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", np.zeros(1000), RATE)
    assert call("encode --ray music a.wav").exit_code == 2
    assert call("encode a.wav --ray=local --rm").exit_code == 2
    assert call("verify - --ray=local").exit_code == 2
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    missing = call("encode a.wav --ray=local --no-manifest")
    assert missing.exit_code == 2 and "pip install 'ravecodec[ray]'" in missing.stderr
    assert not Path("a.rvc").exists()


def test_a_task_that_kills_its_workers_is_told() -> None:
    assert str(Died(None, TRIES)) == "3 workers died of it, one after the other"
    assert "exit status" in str(Died(1))


@needs_ray
def test_an_evaluation_scores_there_what_it_scores_here(
    tmp_path: Path, music: Music, monkeypatch: pytest.MonkeyPatch
) -> None:
    for needed in ("jinja2", "matplotlib", "pyloudnorm", "bjontegaard"):
        pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        soundfile.write(f"{number}.wav", music(2 * RATE, 2, RATE, number).T, RATE)
    line = "eval 0.wav 1.wav --items 2 --seconds 1 --steps 0 --model paper --anchors lowpass"
    scores = []
    for where in ("--ray=local --jobs 2", "--jobs 1"):
        command = f"{line} --no-speed -q {where} --out".split()
        out = f"out{len(scores)}"
        run = subprocess.run(
            [sys.executable, "-m", "ravecodec", *command, out], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        scores.append(json.loads(Path(out, "results.json").read_text())["scores"])
    assert scores[0] == scores[1] and len(scores[0]) >= 2 * 8
