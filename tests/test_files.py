"""Files appear whole or not at all; nothing is overwritten by accident."""

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ravecodec.errors import InputError, OutputError, UsageError
from ravecodec.files import AtomicFile, binary_stdin, check_output, is_stdio, open_binary_output


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_file_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "x.bin"
    with AtomicFile(target) as file:
        file.write(b"abc")
        assert not target.exists()
        (part,) = names(tmp_path)
        assert part.endswith(".part")
    assert target.read_bytes() == b"abc"
    assert names(tmp_path) == ["x.bin"]


def test_existing_target_survives_any_exception(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for error in [ValueError, KeyboardInterrupt, SystemExit, OutputError]:
        with subtests.test(error=error):
            target = tmp_path / "x.bin"
            target.write_bytes(b"old")
            with pytest.raises(error), AtomicFile(target, force=True) as file:
                file.write(b"new" * 100_000)
                raise error
            assert target.read_bytes() == b"old"
            assert names(tmp_path) == ["x.bin"]


def test_no_overwriting_without_force(tmp_path: Path) -> None:
    target = tmp_path / "x.bin"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"x\.bin: exists already"):
        check_output(target)
    with pytest.raises(OutputError, match=r"x\.bin: exists already"), AtomicFile(target) as file:
        file.write(b"new")
    assert target.read_bytes() == b"old" and names(tmp_path) == ["x.bin"]
    with AtomicFile(target, force=True) as file:
        file.write(b"new")
    assert target.read_bytes() == b"new"


def test_target_that_appears_meanwhile_survives(tmp_path: Path) -> None:
    target = tmp_path / "x.bin"
    with pytest.raises(OutputError, match="exists already"), AtomicFile(target) as file:
        file.write(b"mine")
        target.write_bytes(b"other")
    assert target.read_bytes() == b"other"
    assert names(tmp_path) == ["x.bin"]


def test_missing_folder_folder_as_target_and_device(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        check_output(tmp_path / "no" / "x.bin")
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path, force=True)
    with pytest.raises(OutputError, match="not a regular file"):
        check_output(os.devnull, force=True)
    no, long = tmp_path / "no", tmp_path / (300 * "a")
    with pytest.raises(InputError, match=r"x\.wav: cannot be opened"):
        check_output(no / "x.rvc", source=no / "x.wav")
    with pytest.raises(OutputError, match="too long"):
        check_output(long / "x.rvc", source=long / "x.wav")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_is_not_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="not writable"):
        check_output(tmp_path / "x.bin")
    tmp_path.chmod(0o700)


def test_input_is_not_overwritten_by_its_output(tmp_path: Path) -> None:
    source = tmp_path / "x.wav"
    source.write_bytes(b"audio")
    (tmp_path / "soft.wav").symlink_to(source)
    (tmp_path / "hard.wav").hardlink_to(source)
    (tmp_path / "sub").mkdir()
    for target in ("x.wav", "soft.wav", "hard.wav", "sub/../x.wav"):
        with pytest.raises(UsageError, match="input file itself"):
            check_output(tmp_path / target, force=True, source=source)
    check_output(tmp_path / "y.wav", source=source)
    check_output(tmp_path / "y.wav", source="-")
    check_output(tmp_path / "y.wav", source=tmp_path / "missing.wav")


def test_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "x.bin", tmp_path / "x.bin"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with AtomicFile(link, force=True) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["x.bin"]


def test_permissions_follow_umask_and_the_replaced_file(tmp_path: Path) -> None:
    target = tmp_path / "x.bin"
    old = os.umask(0o027)
    try:
        with AtomicFile(target) as file:
            file.write(b"1")
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
        target.chmod(0o600)
        with AtomicFile(target, force=True) as file:
            file.write(b"2")
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_any_legal_name(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for name in ["\N{EIGHTH NOTE}" * 80 + ".bin", "a" * 250, "with space.rvc", "-x"]:
        with subtests.test(name=name):
            with AtomicFile(tmp_path / name) as file:
                file.write(b"x")
            assert names(tmp_path) == [name]
            (tmp_path / name).unlink()


def test_only_the_bare_dash_is_stdio() -> None:
    assert is_stdio("-")
    assert is_stdio(Path("-"))
    assert not is_stdio("./-")
    assert not is_stdio("-x")


def run(code: str, **kwargs: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, **kwargs)  # type: ignore[call-overload]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from ravecodec.files import AtomicFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with AtomicFile("x.bin", force=True) as file:
        for _ in range(100):
            file.write(bytes(100))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX file size limits")
def test_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"old")
    done = run(FULL_DISK, cwd=tmp_path)
    assert done.stdout.startswith(b"OutputError x.bin: cannot be written (")
    assert done.stderr == b""
    assert names(tmp_path) == ["x.bin"]
    assert (tmp_path / "x.bin").read_bytes() == b"old"


KILLED = """
import os, signal
from ravecodec.files import AtomicFile
with AtomicFile("x.bin", force=True) as file:
    file.write(bytes(100_000))
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_removes_the_part_file(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"old")
    assert run(KILLED, cwd=tmp_path).returncode != 0
    assert names(tmp_path) == ["x.bin"]
    assert (tmp_path / "x.bin").read_bytes() == b"old"


def test_stdout_carries_the_bytes_and_nothing_else() -> None:
    done = run(
        "from ravecodec.files import *\nwith open_binary_output('-') as f: "
        "f.write(bytes(range(256)) * 999)"
    )
    assert done.stdout == bytes(range(256)) * 999
    assert done.stderr == b""


CLOSED_PIPE = """
import sys
from ravecodec.files import open_binary_output
try:
    with open_binary_output("-") as file:
        for _ in range(100):
            file.write(bytes(5000))
except Exception as error:
    print(type(error).__name__, type(error.__cause__).__name__, file=sys.stderr)
"""


def test_closed_pipe_is_an_output_error() -> None:
    """And nothing is left in a buffer, over which Python 3.13, and any in development mode, prints
    a traceback.
    """
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", CLOSED_PIPE], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert done.stderr.split() == [b"OutputError", b"BrokenPipeError"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_binary_from_or_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(OutputError, match="terminal"):
        check_output("-")
    with pytest.raises(OutputError, match="terminal"), open_binary_output("-"):
        pass
    check_output("-", force=True)
    with pytest.raises(UsageError, match="terminal"):
        binary_stdin()
