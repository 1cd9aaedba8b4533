"""The command line: exit codes, pipes, signals, names, JSON; one sentence on standard error and
never a traceback.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from ravecodec.audio import Audio
from ravecodec.cli import main
from ravecodec.cli.options import threads_or_default
from ravecodec.cli.progress import Meter
from ravecodec.encoding import encode
from ravecodec.models.package import Model

pytestmark = pytest.mark.usefixtures("installed")

Music = Callable[..., Audio]


def call(*args: object, stdin: bytes | None = None) -> Result:
    """A command in this process."""
    return CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)


def process(*args: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "ravecodec", *map(str, args)]
    return subprocess.run(command, capture_output=True, timeout=120, **options)


def sentence(result: Result, code: int) -> str:
    """The one line of an error, with the expected exit code and nothing on standard output."""
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("ravecodec: error: ")
    assert result.stdout == ""
    return line


@pytest.fixture
def folder(tmp_path: Path, music: Music, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with tune.wav (3 s) and its stream tune.rvc."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("tune.wav", music(132_300).T, 44_100)
    assert call("encode", "tune.wav", "--quiet").exit_code == 0
    return tmp_path


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


# ---- the main path -------------------------------------------------------------------------------


def test_encode_decode_info_verify(folder: Path) -> None:
    done = call("encode", "tune.wav", "new.rvc", "--verify")
    assert done.exit_code == 0
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("ravecodec: new.rvc: 3.000 s")
    for words in (
        "44100 Hz stereo",
        r"in \d+ bytes, [\d.]+ kbit/s",
        r"payload [\d.]+ %, container [\d.]+ %",
        "14 dims, step 0",
        r"model default \([0-9a-f]{16}\)",
        r"[\d.]+x real time",
        "read back",
    ):
        assert re.search(words, done.stderr), (words, done.stderr)
    assert Path("new.rvc").read_bytes() == Path("tune.rvc").read_bytes()
    done = call("decode", "new.rvc")
    assert re.search(r"new\.wav: 3\.000 s .*WAV PCM_16.* \d+ bytes", done.stderr)
    assert soundfile.info("new.wav").frames == 132_300
    done = call("info", "new.rvc")
    assert "44100 Hz stereo, 3.000 s, 132300 samples" in done.stdout
    assert "(default)" in done.stdout
    assert done.stderr == ""
    done = call("verify", "new.rvc", "tune.rvc")
    assert done.stdout.count(": ok, 3.000 s in 1 chunk, symbols checked with model default") == 2


def test_one_thing_is_said_in_the_singular(folder: Path) -> None:
    """Of a stream of one chunk, one dim and one tag, by every command that counts."""
    soundfile.write("one.wav", np.full(1, 0.5, np.float32), 44_100)
    said = ""
    for line in [
        "encode one.wav -o out/ --dims 1 --tag A=b",
        "info out/one.rvc",
        "info out/one.rvc out/one.rvc",
        "verify out/one.rvc",
        "tag out/one.rvc --set A=c",
        "cut out/one.rvc cut.rvc",
        "encode -r out --raw-rate 44100",
        "decode -r out -o caf --to caf",
        "decode -r out -o caf --dry-run",
        "decode -r out -o caf",
        "latents export out/one.rvc one.npz",
    ]:
        done = call(*line.split())
        said += done.stdout + done.stderr
    nouns = r"chunks?|dims?|ax[ie]s|samples?|tags?|files?"
    counts = re.findall(rf"(?<![\d.])\b1 ({nouns})\b", said)
    assert {"chunk", "dim", "axis", "sample", "tag", "file"} <= set(counts), said
    assert not set(counts) & {"chunks", "dims", "axes", "samples", "tags", "files"}, said


def test_options_reach_the_stream(folder: Path) -> None:
    call(
        "encode",
        "tune.wav",
        "x.rvc",
        "--dims",
        5,
        "--step",
        -3,
        "--seed",
        7,
        "--model",
        "default",
        "--tag",
        "title=A=B",
    )
    found = json.loads(call("info", "x.rvc", "--json").stdout)
    assert (found["stream"]["dims"], found["stream"]["step_index"], found["seed"]) == (5, -3, 7)
    assert found["meta"] == {"tags": {"title": "A=B"}}
    assert "title = A=B" in call("info", "x.rvc").stdout
    call("encode", "tune.wav", "y.rvc", "--fidelity", "0", "--model", "paper")
    found = json.loads(call("info", "y.rvc", "--json").stdout)
    assert (found["model"], found["stream"]["dims"]) == ("paper", 1)
    assert (
        call(
            "decode",
            "y.rvc",
            "y.flac",
            "--bits",
            "24",
            "--rate",
            8_000,
            "--soft-clip",
            "--device",
            "cpu",
        ).exit_code
        == 0
    )
    header = soundfile.info("y.flac")
    assert (header.subtype, header.samplerate, header.frames) == ("PCM_24", 8_000, 24_000)
    assert call("decode", "y.rvc", "z.wav", "--format", "float").exit_code == 0
    assert soundfile.info("z.wav").subtype == "FLOAT"


def test_precision_is_an_option_of_decode(folder: Path) -> None:
    def decoded(*options: str) -> Audio:
        assert (
            call("decode", "tune.rvc", "x.wav", "-f", "--format", "float", *options).exit_code == 0
        )
        return soundfile.read("x.wav")[0]

    exact, fast = decoded("--precision", "float32"), decoded("--precision", "bfloat16")
    assert np.array_equal(decoded(), exact)
    assert not np.array_equal(fast, exact)
    assert fast == pytest.approx(exact, abs=0.1 * np.abs(exact).max())


def test_json_of_every_command(folder: Path) -> None:
    encoded = json.loads(call("encode", "tune.wav", "x.rvc", "--json").stdout)
    decoded = json.loads(call("decode", "x.rvc", "x.wav", "--json").stdout)
    shown = json.loads(call("info", "x.rvc", "--json").stdout)
    verified = json.loads(call("verify", "x.rvc", "--json").stdout)
    assert encoded["stream"] == decoded["stream"] == shown["stream"] == verified["stream"]
    stream = encoded["stream"]
    assert (
        stream["total_bytes"]
        == stream["payload_bytes"] + stream["framing_bytes"] + stream["meta_bytes"]
    )
    assert (decoded["clipped"], decoded["samples"], verified["ok"]) == (0, 132_300, True)
    models = json.loads(call("model", "list", "--json").stdout)
    assert [model["name"] for model in models] == ["default", "paper"]
    assert json.loads(call("model", "show", "--json").stdout) == models[0]
    broken = call("verify", "tune.wav", "--json")
    assert (broken.exit_code, json.loads(broken.stdout)["exit_code"]) == (4, 4)


def test_quiet_is_silent(folder: Path) -> None:
    for args in (
        ["encode", "tune.wav", "x.rvc"],
        ["decode", "x.rvc"],
        ["info", "x.rvc"],
        ["verify", "x.rvc"],
        ["model", "list"],
    ):
        assert call(*args, "--quiet").output == ""


def test_default_names_stay_beside_the_input(folder: Path) -> None:
    (folder / "sub").mkdir()
    Path("tune.wav").rename("sub/my.song.wav")
    assert call("encode", "sub/my.song.wav").exit_code == 0
    Path("sub/my.song.wav").unlink()
    assert call("decode", "sub/my.song.rvc").exit_code == 0
    assert files(folder / "sub") == {"my.song.rvc", "my.song.wav"}


# ---- exit codes ----------------------------------------------------------------------------------


def test_usage_is_2(folder: Path, model_folder: Path, subtests: pytest.Subtests) -> None:
    (folder / "default.safetensors").symlink_to(model_folder / "default.safetensors")
    before = files(folder)
    for args in [
        ["encode"],
        ["nonsense"],
        ["encode", "tune.wav", "--nonsense"],
        ["encode", "tune.wav", "x.rvc", "extra"],
        ["encode", "tune.wav", "other.wav"],
        ["encode", "tune.wav", "OTHER.FLAC"],
        ["encode", "tune.wav", "tune.wav", "-f"],
        ["encode", "tune.wav", "x.rvc", "--dims", "0"],
        ["encode", "tune.wav", "x.rvc", "--dims", "many"],
        ["encode", "tune.wav", "x.rvc", "--step", "513"],
        ["encode", "tune.wav", "x.rvc", "--seed", "-1"],
        ["encode", "tune.wav", "x.rvc", "--fidelity", "2"],
        ["encode", "tune.wav", "x.rvc", "--fidelity", "nan"],
        ["encode", "tune.wav", "x.rvc", "--fidelity", "0.5", "--dims", "3"],
        ["encode", "tune.wav", "x.rvc", "--raw-channels", "2"],
        ["encode", "tune.wav", "x.rvc", "--tag", "novalue"],
        ["encode", "tune.wav", "x.rvc", "--device", "toaster"],
        ["encode", "tune.wav", "-", "--json"],
        ["decode", "tune.rvc", "tune.rvc", "-f"],
        ["decode", "tune.rvc", "x.rvc"],
        ["decode", "tune.rvc", "x.mp3"],
        ["decode", "tune.rvc", "x.wav", "--bits", "8"],
        ["decode", "tune.rvc", "x.flac", "--bits", "float"],
        ["decode", "tune.rvc", "x.wav", "--precision", "float16"],
        ["decode", "tune.rvc", "x.wav", "--rate", "5"],
        ["verify"],
        ["train", ".", "--out", "run", "--recipe", "nonsense"],
        ["model", "add", "default.safetensors", "--name", "a/b"],
    ]:
        with subtests.test(args=args):
            sentence(call(*args), 2)
            assert files(folder) == before


def test_no_command_is_help_and_2() -> None:
    for args in ([], ["model"]):
        done = call(*args)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "Commands:" in done.stderr


def test_input_is_3(folder: Path, music: Music) -> None:
    soundfile.write("three.wav", music(100, 3).T, 44_100)
    soundfile.write("nan.wav", np.full(100, np.nan), 44_100, subtype="FLOAT")
    Path("empty.wav").touch()
    Path("text.flac").write_text("no audio at all")
    Path("cut.wav").write_bytes(Path("tune.wav").read_bytes()[:5_000])
    before = files(folder)
    for name in (
        "missing.wav",
        "three.wav",
        "nan.wav",
        "empty.wav",
        "text.flac",
        "cut.wav",
        "tune.rvc",
        ".",
    ):
        assert name in sentence(call("encode", name, "x.rvc"), 3)
    for command in ("decode", "info", "verify"):
        assert "missing.rvc" in sentence(call(command, "missing.rvc"), 3)
    assert "missing" in sentence(call("train", "missing", "--out", "run"), 3)
    assert files(folder) == before


def test_format_is_4(folder: Path) -> None:
    newer = bytearray(Path("tune.rvc").read_bytes())
    newer[4] = 2
    Path("newer.rvc").write_bytes(newer)
    for command in ("decode", "info", "verify"):
        target = ["x.wav"] if command == "decode" else []
        assert "expected the magic" in sentence(call(command, "tune.wav", *target), 4)
        assert "format version 2" in sentence(call(command, "newer.rvc"), 4)


def test_corrupt_is_5_and_truncated_is_6(folder: Path) -> None:
    data = Path("tune.rvc").read_bytes()
    before = files(folder) | {"x.rvc"}
    for at in (10, 40, 60, len(data) // 2, len(data) - 1):
        Path("x.rvc").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        for command in ("decode", "info", "verify"):
            assert "x.rvc: " in sentence(call(command, "x.rvc"), 5)
        Path("x.rvc").write_bytes(data[:at])
        for command in ("decode", "info", "verify"):
            assert "x.rvc: " in sentence(call(command, "x.rvc"), 6)
    assert files(folder) == before
    assert re.search(
        r"\[first bad chunk: byte \d+, 3\.029 s\]$", sentence(call("verify", "x.rvc"), 6)
    )


def test_salvage_ends_with_5(folder: Path) -> None:
    data = Path("tune.rvc").read_bytes()
    Path("x.rvc").write_bytes(data[:-3])
    done = call("decode", "x.rvc", "--salvage")
    assert done.exit_code == 5
    assert "ravecodec: damage: x.rvc: ends at byte" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("ravecodec: error: x.rvc: 1 damaged place")
    assert abs(soundfile.info("x.wav").frames - 132_300) < 2048


def test_model_is_7(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("bad.safetensors").write_bytes(b"x" * 100)
    assert "no model called 'missing'" in sentence(
        call("encode", "tune.wav", "x.rvc", "--model", "missing"), 7
    )
    assert "bad.safetensors" in sentence(
        call("encode", "tune.wav", "x.rvc", "--model", "bad.safetensors"), 7
    )
    line = sentence(call("decode", "tune.rvc", "x.wav", "--model", "paper"), 7)
    assert len(set(re.findall("[0-9a-f]{16}", line))) == 2
    sentence(call("verify", "tune.rvc", "--model", "paper"), 7)
    sentence(call("model", "show", "missing"), 7)
    sentence(call("model", "add", "bad.safetensors"), 7)
    monkeypatch.setenv("RAVECODEC_MODELS", "")
    assert "not installed" in sentence(call("decode", "tune.rvc", "x.wav"), 7)
    assert "no model is installed" in sentence(call("encode", "tune.wav", "x.rvc"), 7)
    assert "symbols not checked" in call("verify", "tune.rvc").stdout
    assert "(not installed)" in call("info", "tune.rvc").stdout


def test_output_is_8(folder: Path) -> None:
    before = {path: (folder / path).read_bytes() for path in files(folder)}
    assert "exists already" in sentence(call("encode", "tune.wav"), 8)
    assert "exists already" in sentence(call("decode", "tune.rvc"), 8)
    assert "does not exist" in sentence(call("encode", "tune.wav", "no/x.rvc"), 8)
    assert "no/tune.wav: cannot be opened" in sentence(call("encode", "no/tune.wav"), 3)
    assert "is a folder" in sentence(call("decode", "tune.rvc", ".", "-f"), 8)
    assert {path: (folder / path).read_bytes() for path in files(folder)} == before
    assert call("encode", "tune.wav", "-f").exit_code == 0


def test_anything_else_is_1(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of\n luck")

    monkeypatch.setattr("ravecodec.cli.examining.inspect_file", fail)
    monkeypatch.delenv("RAVECODEC_DEBUG", raising=False)
    said = sentence(call("info", "tune.rvc"), 1)
    assert "RuntimeError: out of luck" in said and "RAVECODEC_DEBUG=1" in said
    assert "Traceback" in call("info", "tune.rvc", "-v").stderr
    monkeypatch.setenv("RAVECODEC_DEBUG", "1")
    assert "Traceback" in call("info", "tune.rvc").stderr


def test_verify_of_several_files(folder: Path) -> None:
    Path("cut.rvc").write_bytes(Path("tune.rvc").read_bytes()[:-1])
    done = call("verify", "tune.rvc", "cut.rvc", "tune.rvc")
    assert done.exit_code == 6
    assert done.stdout.count("tune.rvc: ok") == 2
    assert call("verify", "cut.rvc", "missing.rvc").exit_code == 1


# ---- pipes and signals ---------------------------------------------------------------------------


def test_pipes_both_ways(folder: Path) -> None:
    wav, stream = Path("tune.wav").read_bytes(), Path("tune.rvc").read_bytes()
    assert call("encode", "-", "--verify", stdin=wav).stdout_bytes == stream
    raw = wav[44:]
    piped = process(
        "encode", "-", "-", "--raw-rate", 44_100, "--raw-channels", 2, "--quiet", input=raw
    )
    assert (piped.stdout, piped.stderr, piped.returncode) == (stream, b"", 0)
    decoded = process("decode", "-", input=stream)
    Path("out.wav").write_bytes(decoded.stdout)
    assert decoded.stderr.startswith(b"ravecodec: standard output: 3.000 s")
    assert call("decode", "tune.rvc", "again.wav").exit_code == 0
    first, second = (soundfile.read(name, dtype="int16")[0] for name in ("out.wav", "again.wav"))
    assert np.array_equal(first, second)
    assert decoded.stdout[:8] == b"RIFF" + b"\xff" * 4  # of no known length
    assert call("info", "-", stdin=stream).stdout.startswith("standard input\n")
    assert call("verify", "-", stdin=stream[:-1]).exit_code == 6


def test_nothing_but_data_on_standard_output(folder: Path) -> None:
    data = call("decode", "tune.rvc", "-").stdout_bytes
    assert data[:4] == b"RIFF"
    assert int.from_bytes(data[4:8], "little") == len(data) - 8 == 132_300 * 4 + 36


@pytest.mark.parametrize(
    "args", [["decode", "tune.rvc", "-"], ["info", "tune.rvc"], ["model", "list"]]
)
def test_a_closed_pipe_is_one_sentence(folder: Path, args: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ravecodec", *args]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=120)
    os.close(writer)
    assert done.returncode == 8
    assert done.stderr == b"ravecodec: error: standard output: cannot be written (Broken pipe)\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_removes_the_part_file_and_keeps_the_target(
    folder: Path, number: int, code: int
) -> None:
    Path("x.rvc").write_bytes(b"old")
    before = files(folder)
    command = [sys.executable, "-m", "ravecodec", "encode", "-", "x.rvc", "-f"]
    run = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdin is not None
    run.stdin.write(Path("tune.wav").read_bytes()[:200_000])
    run.stdin.flush()
    for _ in range(1200):
        if files(folder) != before:
            break
        time.sleep(0.1)
    assert any(name.endswith(".part") for name in files(folder))
    run.send_signal(number)
    # Closes the pipe: a read that the signal just missed ends too.
    error = run.communicate(timeout=60)[1]
    assert run.returncode == code
    assert error.decode().split() == [
        "ravecodec:",
        "error:",
        "interrupted" if code == 130 else "terminated",
    ]
    assert files(folder) == before
    assert Path("x.rvc").read_bytes() == b"old"


# ---- models, training, help ----------------------------------------------------------------------


def test_model_commands(installed: Path, model_folder: Path, folder: Path) -> None:
    listed = call("model", "list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["default", "paper"]
    assert "48000 Hz stereo, 16 dims" in listed[0]
    shown = call("model", "show", "paper").stdout
    assert "CC0-1.0" in shown
    assert "sha256" in shown
    added = call("model", "add", model_folder / "paper.safetensors", "--name", "speech")
    assert added.exit_code == 0
    assert "speech (" in added.stderr
    assert call("model", "show", "speech").exit_code == 0
    assert "exists already" in sentence(
        call("model", "add", model_folder / "default.safetensors", "--name", "speech"), 8
    )
    assert (
        call(
            "model", "add", model_folder / "default.safetensors", "--name", "speech", "-f"
        ).exit_code
        == 0
    )


def test_model_list_names_damaged_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("bad.safetensors").write_bytes(b"x" * 100)
    monkeypatch.setenv("RAVECODEC_MODELS", ".")
    done = call("model", "list")
    assert done.exit_code == 0
    assert "ravecodec: warning: bad.safetensors: is not a model package" in done.stderr


def test_train_passes_everything_on(
    folder: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def train(
        data: Path,
        recipe: Any,
        out: Path,
        *,
        report: Callable[[str], None],
        packed: Callable[[Path], object],
        **options: Any,
    ) -> Path:
        seen.update(options, data=data, recipe=recipe, out=out)
        report("step 1")
        packed(out)
        return out / "x.safetensors"

    monkeypatch.setattr("ravecodec.train.loop.train", train)
    monkeypatch.setattr("ravecodec.train.report.can_write_report", lambda: True)
    monkeypatch.setattr("ravecodec.train.report.write_report", lambda run: run / "report.html")
    options = [
        "--recipe",
        "paper",
        "--stage",
        "2",
        "--init-from",
        "paper",
        "--cache",
        "c",
        "--licence",
        "CC0-1.0",
    ]
    done = call(
        "train", ".", "--out", "run", *options, "--steps1", 3, "--device", "cpu", "--threads", 1
    )
    assert done.exit_code == 0, done.output
    assert f"ravecodec: step 1\nravecodec: report: {Path('run', 'report.html')}\n" in done.stderr
    recipe = seen.pop("recipe")
    assert (recipe.name, recipe.stage1.steps, recipe.stage2.steps) == ("paper", 3, 1_500_000)
    assert seen == {
        "data": Path(),
        "out": Path("run"),
        "stage": "2",
        "init_from": model_folder / "paper.safetensors",
        "cache": Path("c"),
        "licence": "CC0-1.0",
        "force": False,
        "device": "cpu",
        "devices": 1,
        "nodes": 1,
        "ignore_length": False,
    }


def test_threads_default_to_the_cores(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert 1 <= (threads_or_default(None) or 0) <= 8
    monkeypatch.setattr("ravecodec.machine.usable_cores", lambda: 4)
    assert threads_or_default(3) == 3
    assert threads_or_default(100_000_000) == 4
    assert "100000000 threads are wanted; 4 are used" in capsys.readouterr().err
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads_or_default(None) is None


def test_progress_only_on_a_terminal(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ravecodec.pipeline import Progress

    for shown in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda shown=shown: shown)
        for share in (0.5, None):
            with Meter("encode", quiet=False) as meter:
                meter(Progress(10.0, share, 2_500))
            out, err = capfd.readouterr()
            assert out == ""
            assert bool(err) == shown
            assert ("2.00 kbit/s" in err and "x real time" in err) == shown
    with Meter("encode", quiet=True) as meter:
        meter(Progress(10.0, 0.5, 2_500))
    assert capfd.readouterr() == ("", "")


def test_encoding_twice_gives_the_same_bytes(folder: Path, stereo_model: Model) -> None:
    runs = [process("encode", "tune.wav", "-", "--threads", 1).stdout for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0] == encode(soundfile.read("tune.wav", dtype="float32")[0].T, 44_100, stereo_model)
