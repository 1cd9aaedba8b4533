"""Calls that meant something else, closed and full streams, places that cannot be read: one
sentence, no loss.
"""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

import ravecodec
from ravecodec.bitstream.meta import MAX_DEPTH, encode_meta
from ravecodec.cli import console, main
from ravecodec.errors import InputError, OutputError, UsageError
from ravecodec.files import AtomicFile, check_output
from ravecodec.models.package import Model

pytestmark = pytest.mark.usefixtures("installed")

Music = Callable[..., np.ndarray]


def call(*args: object) -> Result:
    """A command in this process."""
    return CliRunner().invoke(main, [str(arg) for arg in args])


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A shell's command in a process of its own, in which `ravecodec` is this one."""
    text = command.replace("ravecodec", f"{sys.executable} -m ravecodec")
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(["sh", "-c", text], capture_output=True, timeout=120, env=env)


def sentence(result: Result, code: int) -> str:
    """The one line of an error."""
    assert result.exit_code == code, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("ravecodec: error: ")
    assert "a bug?" not in line
    return line


@pytest.fixture
def folder(tmp_path: Path, music: Music, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with tune.wav (1 s) and its stream tune.rvc."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("tune.wav", music(44_100).T, 44_100)
    assert call("encode", "tune.wav", "--quiet").exit_code == 0
    return tmp_path


# ---- calls that meant something else -------------------------------------------------------------


# call -> (exit code, words that its one sentence has, in this order)
CALLS: dict[str, tuple[Any, ...]] = {
    "encode tune.rvc": (3, "tune.rvc", ".rvc stream already"),
    "decode tune.wav": (4, "tune.wav", "audio", "'RIFF'", "expected"),
    "info tune.wav": (4, "tune.wav", "audio", "'RIFF'"),
    "verify tune.wav": (4, "tune.wav", "52 49 46 46", "byte 0"),
    "tune.rvc": (
        2,
        "tune.rvc",
        "command",
        "`ravecodec decode tune.rvc`",
        "`ravecodec info tune.rvc`",
    ),
    "gone.rvc": (2, "`ravecodec info gone.rvc`"),
    "tune.wav": (2, "tune.wav", "command", "`ravecodec encode tune.wav`"),
    "-q tune.wav": (2, "-q"),
    "tune": (2, "'tune'"),
    "encode .": (3, ".: ", "folder", "expected an audio file"),
    "decode .": (3, ".: ", "folder", "expected an .rvc file"),
    "encode tune.wav out/": (8, "out/", "folder", "expected"),
    "encode tune.wav sub": (8, "sub", "folder", "expected"),
    "encode http://example.org/a.wav": (
        3,
        "http://example.org/a.wav",
        "address",
        "expected a file",
    ),
    "decode https://example.org/a.rvc x.wav": (3, "https://example.org/a.rvc", "address"),
    "info ftp://example.org/a.rvc": (3, "ftp://example.org/a.rvc", "address"),
    "encode -dash.wav": (2, "./-dash.wav"),
    "encode tune.wav x.rvc --model x.ckpt": (7, "x.ckpt", "*.safetensors"),
    "train tune.wav --out run": (3, "tune.wav", "expected a folder"),
    "encode tune.wav x.rvc --raw-rate 8000 --raw-channels 0": (
        2,
        "channels",
        "0",
        "expected 1 to 64",
    ),
    "encode tune.wav x.rvc --bitrate inf": (2, "bitrate", "inf"),
    "encode tune.wav x.rvc --device meta": (2, "'meta'", "not available"),
    "encode tune.wav x.rvc --device cpu:5": (2, "one cpu"),
    "encode tune.wav x.rvc --device mps": (2, "'mps'", "not available"),
    "decode tune.rvc y.ogg --rate 250000": (2, "OGG", "250000 Hz"),
    f"encode {'a' * 300}.wav": (3, "name too long"),
    f"encode tune.wav {'a' * 300}.rvc": (8, "name too long"),
    "encode tune.wav loop.rvc": (8, "loop.rvc"),
    "encode loop.wav x.rvc": (3, "loop.wav", "cannot be opened"),
    "encode /proc/self/mem x.rvc": (3, "/proc/self/mem", "cannot be read"),
    "info /proc/self/mem": (3, "/proc/self/mem", "cannot be read"),
    "encode tune.wav /proc/x.rvc": (8, "/proc/x.rvc"),
}


def test_a_call_gets_a_sentence_about_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    (folder / "sub").mkdir()
    (folder / "x.ckpt").touch()
    (folder / "-dash.wav").touch()
    for name in ("loop.rvc", "loop.wav"):
        (folder / name).symlink_to(name)
    before = sorted(folder.iterdir())
    for line, (code, *words) in CALLS.items():
        with subtests.test(line=line):
            monkeypatch.setattr(sys, "argv", ["ravecodec", *line.split()])
            said = sentence(call(*line.split()), code)
            assert re.search(".*".join(map(re.escape, words)), said), said
            assert sorted(folder.iterdir()) == before


def test_an_empty_name(folder: Path) -> None:
    assert "the input's name is empty" in sentence(call("encode", ""), 3)
    assert "the input's name is empty" in sentence(call("decode", ""), 3)
    assert "the output's name is empty" in sentence(call("encode", "tune.wav", ""), 8)


def test_only_known_extensions_are_taken_off_a_name(folder: Path) -> None:
    for name, stream in (
        ("Vol.1 No.2", "Vol.1 No.2.rvc"),
        ("a.b.WAV", "a.b.rvc"),
        ("c.mp4", "c.rvc"),
    ):
        Path(name).write_bytes(Path("tune.wav").read_bytes())
        assert call("encode", name).exit_code == 0
        assert Path(stream).exists()
    assert call("decode", "Vol.1 No.2.rvc").exit_code == 0
    assert Path("Vol.1 No.2.wav").exists()


def test_what_is_odd_is_said(folder: Path) -> None:
    """A rate that cannot be spent, threads that there are not, no sound, a header that lies."""
    done = call("encode", "tune.wav", "x.rvc", "--bitrate", 6400, "--threads", 100_000_000)
    assert done.exit_code == 0
    assert re.search(
        r"warning: bitrate is 6400 kbit/s, but the finest step \(-24\) .* needs no more than",
        done.stderr,
    )
    assert "warning: 100000000 threads are wanted" in done.stderr
    soundfile.write("none.wav", np.zeros(0), 44_100)
    assert "warning: none.wav: holds no sound (0 samples)" in call("encode", "none.wav").stderr
    Path("cut.wav").write_bytes(Path("tune.wav").read_bytes()[:-40_000])
    assert "is truncated after 34100 samples, expected 44100" in sentence(
        call("encode", "cut.wav"), 3
    )
    done = call("encode", "cut.wav", "--ignore-length", "--json")
    assert "warning: cut.wav: is truncated after 34100 samples" in done.stderr
    assert json.loads(done.stdout)["stream"]["samples"] == 34_100


def test_salvage_speaks_of_seconds_and_of_what_is_lost(folder: Path, music: Music) -> None:
    soundfile.write("long.wav", music(44_100 * 25).T, 44_100)
    assert call("encode", "long.wav").exit_code == 0
    data = bytearray(Path("long.rvc").read_bytes())
    data[len(data) // 2] ^= 1
    Path("long.rvc").write_bytes(data)
    done = call("decode", "long.rvc", "rest.wav", "--salvage", "--json")
    assert done.exit_code == 5
    assert re.search(
        r"damage: .*; 10\.9\d\d s from 10\.9\d\d s on are lost \(\d+ bytes\)", done.stderr
    )
    stream = json.loads(done.stdout)["stream"]
    assert stream["lost_bytes"] > stream["framing_bytes"] > 0
    assert stream["total_bytes"] == sum(
        stream[f"{k}_bytes"] for k in ("payload", "framing", "meta", "lost")
    )
    again = call("decode", "long.rvc", "again.wav", "--salvage").stderr
    assert re.search(r"\(payload [\d.]+ %, damaged [\d.]+ %, container [\d.]+ %\)", again)


# ---- text ----------------------------------------------------------------------------------------


def test_control_characters_are_shown_escaped(folder: Path) -> None:
    tag = "T=\x1b[31mred\nsize 0\u202e"
    assert call("encode", "tune.wav", "x.rvc", "--tag", tag).exit_code == 0
    done = call("info", "x.rvc")
    assert "T = \\x1b[31mred\\nsize 0\\u202e" in done.stdout
    assert json.loads(call("info", "x.rvc", "--json").stdout)["meta"]["tags"]["T"] == tag[2:]
    Path("new\nline.wav").touch()
    assert "new\\nline.wav: is empty" in sentence(call("encode", "new\nline.wav"), 3)


def test_json_is_json(monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    inf = float("inf")
    written = [(inf, None), (float("nan"), None), ([1.5, {"a": -inf}], [1.5, {"a": None}])]
    written += [(text, text) for text in ("\ud800", "\xff\U0001f3b5")]
    for (value, wanted), encoding in itertools.product(written, ["utf-8", "ascii"]):
        with subtests.test(value=value, encoding=encoding), monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", SimpleNamespace(encoding=encoding))
            text = console.as_json({"x": value})
            found = json.loads(text.encode(encoding), parse_constant=refuse)
            assert found == {"x": wanted}


def test_closed_and_full_streams_change_nothing_of_the_work(folder: Path) -> None:
    """Each in a process of its own: nothing to write to, nothing to read from, a full device."""
    for number, (command, code) in enumerate(
        [
            ("ravecodec decode tune.rvc y0.wav 2>&-", 0),
            ("ravecodec decode tune.rvc y1.wav --json >/dev/full 2>/dev/full", 0),
        ]
    ):
        assert shell(command).returncode == code, command
        assert soundfile.info(f"y{number}.wav").frames == 44_100
    for command, code, text in [
        ("ravecodec info - <&-", 3, b"standard input: is closed"),
        ("ravecodec decode tune.rvc - >&-", 8, b"standard output: is closed"),
        ("ravecodec info tune.rvc >&-", 8, b"standard output: is closed"),
        ("ravecodec info tune.rvc >/dev/full", 8, b"standard output: cannot be written"),
        ("ravecodec verify tune.rvc >/dev/full", 0, b"warning: standard output"),
        ("ravecodec verify tune.rvc 2>&- >&-", 0, b""),
    ]:
        done = shell(command)
        assert (done.returncode, text in done.stderr) == (code, True), (command, done)
        assert b"Traceback" not in done.stderr


def test_names_that_cannot_be_encoded(folder: Path) -> None:
    name = b"\xff.rvc"
    Path(os.fsdecode(name)).write_bytes(b"no stream")
    command = [sys.executable, "-m", "ravecodec", "verify", name, "tune.rvc"]
    for encoding in ("utf-8:strict", "ascii:strict"):
        env = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(command, capture_output=True, timeout=120, env=env)
        assert done.returncode == 4, done.stderr
        assert b"\\udcff.rvc: " in done.stderr
        assert done.stdout.startswith(b"tune.rvc: ok")


def test_verdicts_are_printed_as_they_fall(folder: Path) -> None:
    os.mkfifo("pipe.rvc")
    command = [sys.executable, "-u", "-m", "ravecodec", "verify", "tune.rvc", "pipe.rvc"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        # While nobody has opened the pipe yet.
        assert run.stdout.readline().startswith(b"tune.rvc: ok")
        Path("pipe.rvc").write_bytes(Path("tune.rvc").read_bytes())
        assert run.stdout.readline().startswith(b"pipe.rvc: ok")


# ---- places --------------------------------------------------------------------------------------


def test_no_home_is_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Path
) -> None:
    """A user without HOME and without an entry in passwd; then a home that is a file."""
    import pwd

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for args in (
        ["encode", "tune.wav", "-f"],
        ["decode", "tune.rvc", "-f"],
        ["info", "tune.rvc"],
        ["model", "list"],
    ):
        assert call(*args).exit_code == 0, call(*args).output
    added = call("model", "add", model_folder / "paper.safetensors", "--name", "x")
    assert "no folder for models" in sentence(added, 8)
    monkeypatch.setenv("HOME", str(folder / "tune.wav"))
    assert call("encode", "tune.wav", "-f").exit_code == 0
    assert "cannot be created" in sentence(
        call("model", "add", model_folder / "paper.safetensors", "--name", "x"), 8
    )


def test_a_place_that_may_not_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root sees none, what the system says is made up."""

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(OutputError, match=r"x\.rvc: cannot be written \(Permission denied\)"):
        check_output("secret/x.rvc")
    with pytest.raises(InputError, match=r"x\.wav: cannot be (opened|read) \(Permission denied\)"):
        from ravecodec.audio import open_input

        open_input("secret/x.wav")


KILLED = """
import os, signal, sys
from ravecodec.files import AtomicFile
with AtomicFile("x.bin", force=True) as file:
    file.write(bytes(100_000))
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_left_overs_of_killed_writers_are_removed_and_no_living_ones(tmp_path: Path) -> None:
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, timeout=60)
        assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1  # each removed the one before
    (tmp_path / ".x.bin.notours.part").touch()
    (tmp_path / ".y.bin.01234567.part").touch()
    with AtomicFile(tmp_path / "x.bin") as living:
        living.write(b"first")
        with AtomicFile(tmp_path / "x.bin") as second:
            second.write(b"second")
            assert (
                len([path for path in tmp_path.iterdir() if path.name.startswith(".x.bin.")]) == 3
            )
        living.write(b" and last")
        (tmp_path / "x.bin").unlink()
    assert (tmp_path / "x.bin").read_bytes() == b"first and last"
    assert {path.name for path in tmp_path.iterdir()} == {
        "x.bin",
        ".x.bin.notours.part",
        ".y.bin.01234567.part",
    }


def test_hang_up_removes_the_temporary_file(folder: Path) -> None:
    before = {path.name for path in folder.iterdir()}
    command = [sys.executable, "-m", "ravecodec", "encode", "-", "x.rvc"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdin is not None and run.stderr is not None
        run.stdin.write(Path("tune.wav").read_bytes())
        run.stdin.flush()
        end = time.monotonic() + 100
        while (
            not any(path.name.endswith(".part") for path in folder.iterdir())
            and time.monotonic() < end
        ):
            time.sleep(0.05)
        run.send_signal(signal.SIGHUP)
        error = run.communicate(timeout=60)[1]
    assert (run.returncode, error) == (129, b"ravecodec: error: hung up\n")
    assert {path.name for path in folder.iterdir()} == before


# ---- Python --------------------------------------------------------------------------------------


def test_numbers_and_arrays_of_numpy(
    stereo_model: Model, music: Music, small_blocks: Callable[[int], None]
) -> None:
    small_blocks(1 << 15)
    audio = music(20_000)
    plain = ravecodec.encode(audio, 44_100, stereo_model, dims=3, step_index=2, seed=5)
    given = ravecodec.encode(
        audio,
        np.int64(44_100),
        stereo_model,
        dims=np.int32(3),
        step_index=np.int8(2),
        seed=np.uint32(5),
    )
    assert given == plain
    assert (
        ravecodec.encode(
            audio.astype(np.float64), 44_100, stereo_model, dims=3, step_index=2, seed=5
        )
        == plain
    )
    half = audio.astype(np.float16)
    assert ravecodec.encode(half, 44_100, stereo_model) == ravecodec.encode(
        half.astype(np.float32), 44_100, stereo_model
    )
    fidelity = ravecodec.encode(audio, 44_100, stereo_model, fidelity=np.float32(0.5))
    assert fidelity == ravecodec.encode(audio, 44_100, stereo_model, fidelity=0.5)
    assert ravecodec.decode(plain, stereo_model, rate=np.int64(8_000))[1] == 8_000
    unmasked = np.ma.masked_array(audio, mask=False)
    assert ravecodec.encode(unmasked, 44_100, stereo_model, dims=3, step_index=2, seed=5) == plain


def test_what_numpy_has_and_cannot_be_coded_is_refused(stereo_model: Model, music: Music) -> None:
    audio = music(1000)
    masked = np.ma.masked_array(audio, mask=np.arange(2000).reshape(2, 1000) == 7)
    huge = np.full((1, 10), 1e300)
    for bad in (
        masked,
        (audio * 30_000).astype(np.int16),
        audio.astype(complex),
        audio > 0,
        [[0.1], [0.1, 0.2]],
        huge,
    ):
        with pytest.raises(InputError, match=r"audio: "):
            ravecodec.encode(bad, 44_100, stereo_model)
    for options in (
        {"dims": 2.5},
        {"dims": True},
        {"step_index": "3"},
        {"step_index": 1000},
        {"seed": -1},
        {"seed": 2**32},
    ):
        with pytest.raises(UsageError):
            ravecodec.encode(audio, 44_100, stereo_model, **options)
    with pytest.raises(UsageError, match=r"the rate is 44100\.5"):
        ravecodec.encode(audio, 44_100.5, stereo_model)  # type: ignore[arg-type]


FORKED = """
import os, sys
import numpy as np, torch, ravecodec
model = ravecodec.load_model("default")
torch.set_num_threads(4)
audio = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 100_000)).astype(np.float32)
data = ravecodec.encode(audio, 48_000, model)
if (child := os.fork()) == 0:
    os._exit(0 if ravecodec.decode(data, model)[0].shape == (2, 100_000) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_decodes_with_its_parents_model(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_one_model_serves_many_threads(
    stereo_model: Model, small_blocks: Callable[[int], None], music: Music
) -> None:
    """Bytes and samples are those of one thread after the other."""
    small_blocks(1 << 15)
    sounds = [music(30_000, seed=seed) for seed in range(6)]

    def there_and_back(audio: np.ndarray) -> tuple[bytes, bytes]:
        data = ravecodec.encode(audio, 44_100, stereo_model)
        return data, ravecodec.decode(data, stereo_model)[0].tobytes()

    wanted = [there_and_back(sound) for sound in sounds]
    with ThreadPoolExecutor(len(sounds)) as pool:
        assert list(pool.map(there_and_back, sounds)) == wanted


def test_metadata_is_bounded_in_depth_and_range() -> None:
    from ravecodec.bitstream.meta import decode_meta

    def nested(depth: int) -> dict[str, Any]:
        value: Any = 1
        for _ in range(depth):
            value = {"a": value}
        return value  # type: ignore[no-any-return]

    assert decode_meta(encode_meta(nested(MAX_DEPTH)), 0, "s") == nested(MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 600):
        with pytest.raises(UsageError, match="nested"):
            encode_meta(nested(depth))


def test_the_time_that_is_left_is_told_once_it_can_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """60 of 160 scores are there already; the others take 2 s each, the first of them a minute."""
    from ravecodec.cli.progress import Counter

    clock = [0.0]
    monkeypatch.setattr("ravecodec.cli.progress.time.monotonic", lambda: clock[0])
    with Counter(quiet=False, report_seconds=0.0) as counter:
        counter(60, 160)
        clock[0] += 60
        for done in range(61, 161):
            counter(done, 160)
            clock[0] += 2
    lines = capsys.readouterr().err.splitlines()
    assert not any("left" in line for line in lines[:20])
    assert "80 of 160 scored, 7 min left" in lines[20]  # 98 s for 20, so 392 s for 80
    assert "110 of 160 scored, 3 min left" in lines[50]
    assert lines[-1].endswith("160 of 160 scored, 0 min left")
