"""Man pages are those of the commands, and a wheel installs them; shells complete what is typed."""

import fnmatch
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.shell_completion import ShellComplete, get_completion_class

from ravecodec.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "man"
VARIABLE = "_RAVECODEC_COMPLETE"


@pytest.fixture(scope="module")
def made() -> ModuleType:
    """scripts/man_pages.py."""
    path = ROOT / "scripts" / "man_pages.py"
    if not path.exists() or not PAGES.exists():
        pytest.skip("no man pages beside the tests")
    spec = importlib.util.spec_from_file_location("man_pages", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_those_of_the_commands(made: ModuleType) -> None:
    expected = {made.file_name(name): made.page(name, each) for name, each in made.commands()}
    found = {path.name: path.read_text("utf-8") for path in PAGES.iterdir()}
    assert found == expected, "run scripts/man_pages.py"


def test_every_option_of_every_command_is_on_its_page(made: ModuleType) -> None:
    tool = shutil.which("groff") or shutil.which("mandoc")
    for name, command in made.commands():
        text = (PAGES / made.file_name(name)).read_text("utf-8")
        if tool:
            arguments = ["-man", "-Tascii", "-ww"] if tool.endswith("groff") else ["-Tascii"]
            done = subprocess.run([tool, *arguments], input=text, capture_output=True, text=True)
            assert done.returncode == 0 and not done.stderr, done.stderr
        for parameter in command.params:
            for word in parameter.opts if isinstance(parameter, click.Option) else ():
                assert f"\\fB{word.strip()}\\fR".replace("-", "\\-") in text, (name, word)


def test_a_wheel_installs_pages_and_scripts(made: ModuleType) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    patterns = {each: at for at, group in settings["data-files"].items() for each in group}
    wanted = {
        "docs/man": "share/man/man1",
        "docs/completion/ravecodec.fish": "share/fish/vendor_completions.d",
        "docs/completion/ravecodec": "share/bash-completion/completions",
        "docs/completion/_ravecodec": "share/zsh/site-functions",
    }
    for path in (*PAGES.iterdir(), *(ROOT / "docs" / "completion").iterdir()):
        name = path.relative_to(ROOT).as_posix()
        (at,) = {at for pattern, at in patterns.items() if fnmatch.fnmatch(name, pattern)}
        assert at == next(folder for start, folder in wanted.items() if name.startswith(start))


def offered(*words: str) -> list[tuple[str, str]]:
    """(type, value) of what is offered for the last word."""
    *before, last = words
    kind = get_completion_class("bash")
    assert kind is not None and issubclass(kind, ShellComplete)
    complete = kind(main, {}, "ravecodec", VARIABLE)
    return [(item.type, item.value) for item in complete.get_completions(list(before), last)]


def test_commands_options_choices_files_and_models_are_offered(installed: Path) -> None:
    assert ("plain", "encode") in offered("en")
    assert offered("encode", "--down") == [("plain", "--downmix")]
    assert offered("decode", "--to", "fl") == [("plain", "flac")]
    assert offered("encode", "--model", "pap") == [("plain", "paper")]
    assert offered("model", "show", "d") == [("plain", "default")]
    assert offered("encode", "--model", "./x") == [("file", "./x")]
    for words in (["encode", "so"], ["decode", "so"], ["cut", "a", "so"], ["compare", "a", "so"]):
        assert offered(*words) == [("file", "so")]
    for words in (["encode", "-o", "so"], ["concat", "a", "so"], ["tag", "so"], ["info", "so"]):
        assert offered(*words) == [("file", "so")]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_the_shells_scripts_ask_the_tool() -> None:
    command = [sys.executable, "-m", "ravecodec"]
    asked = {
        "bash": {"COMP_WORDS": "ravecodec veri", "COMP_CWORD": "1"},
        "zsh": {"COMP_WORDS": "ravecodec veri", "COMP_CWORD": "1"},
        "fish": {"COMP_WORDS": "ravecodec", "COMP_CWORD": "veri"},
    }
    for shell, words in asked.items():
        source = environment(**{VARIABLE: f"{shell}_source"})
        done = subprocess.run(command, env=source, capture_output=True, text=True, check=True)
        assert VARIABLE in done.stdout
        wanted = environment(**{VARIABLE: f"{shell}_complete"}, **words)
        done = subprocess.run(command, env=wanted, capture_output=True, text=True, check=True)
        assert "verify" in done.stdout, shell


def test_bash_completes_a_line(tmp_path: Path) -> None:
    bash, script = shutil.which("bash"), ROOT / "docs" / "completion" / "ravecodec"
    if bash is None or not script.exists():
        pytest.skip("no bash, or no script beside the tests")
    (tmp_path / "song.flac").touch()
    tool = tmp_path / "ravecodec"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ravecodec "$@"\n')
    tool.chmod(0o755)
    line = (
        f'PATH="{tmp_path}:$PATH"; source "{script}"; COMP_WORDS=(ravecodec decode --sal); '
        'COMP_CWORD=2; _ravecodec_completion ravecodec; echo "${COMPREPLY[@]}"; '
        "complete -p ravecodec"
    )
    done = subprocess.run([bash, "-c", line], capture_output=True, text=True, env=environment())
    assert done.stdout.splitlines()[0] == "--salvage", done.stderr
    assert "_ravecodec_completion" in done.stdout.splitlines()[1]
