"""docs/cli.md has every command, every option and every exit code; --help has examples."""

import pydoc
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import ravecodec
from ravecodec.cli import main

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
WITHOUT_EXAMPLES = {
    "ravecodec latents",
    "ravecodec model",
    "ravecodec model show",
}


def call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


@pytest.fixture
def page() -> str:
    if not PAGE.exists():
        pytest.skip("no docs beside the tests")
    return PAGE.read_text("utf-8")


def test_version() -> None:
    done = call("--version")
    assert done.exit_code == 0
    assert f"ravecodec {ravecodec.__version__}" in done.stdout
    assert "writes 1.2, reads 1.x" in done.stdout
    assert re.search(r"torch +\d", done.stdout)


def test_help_of_the_package_has_all_of_it() -> None:
    text = pydoc.render_doc(ravecodec, renderer=pydoc.plaintext)
    assert sorted(ravecodec.__all__) == ravecodec.__all__
    for name in ravecodec.__all__:
        thing = getattr(ravecodec, name)
        first = thing.__doc__.splitlines()[0]
        assert re.search(rf"\b(class )?{name}\(", text) and first in text, name
        assert name in ravecodec.__doc__, f"the package says nothing of {name}"


def commands(group: click.Group, name: str = "ravecodec") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name."""
    yield name, group
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


COMMANDS = dict(commands(main))


def all_words(option: click.Option) -> list[str]:
    return [*option.opts, *option.secondary_opts]


def words(command: click.Command) -> set[str]:
    """Options in all their spellings."""
    return {
        word
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for word in all_words(parameter)
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_in_the_manual_and_no_other(name: str, page: str) -> None:
    _, heading, rest = page.partition(f"\n## {name}\n")
    assert heading, f"no section '{name}'"
    section, command = rest.split("\n## ")[0], COMMANDS[name]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(-[^ `]+)", " ".join(rows))) - {"-h", "--help"} == words(command)
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            assert f"`{(parameter.metavar or '').strip('[]')}`" in section


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_every_option_and_has_examples(name: str) -> None:
    done = call(*name.split()[1:], "--help")
    assert done.exit_code == 0
    assert words(COMMANDS[name]) <= set(re.findall(r"(?<!\w)--?\w[\w-]*", done.stdout))
    for parameter in COMMANDS[name].params:
        assert isinstance(parameter, click.Argument) or parameter.help, (
            f"{parameter.name} has no help"
        )
    assert ("Examples:" in done.stdout) == (name not in WITHOUT_EXAMPLES)


@pytest.mark.parametrize("code", [*range(9), 129, 130, 143])
def test_every_exit_code_is_in_the_manual(code: int, page: str) -> None:
    assert re.search(rf"^\| {code} \| ", page, re.MULTILINE)
