"""docs/cli.md has every command, every option and every exit code; --help has examples."""

import hashlib
import importlib.util
import pydoc
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

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


def script() -> ModuleType:
    """scripts/manual.py, which writes the tables."""
    path = PAGE.parent.parent / "scripts" / "manual.py"
    if not path.exists():
        pytest.skip("no scripts beside the tests")
    spec = importlib.util.spec_from_file_location("manual", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_what_the_script_writes(page: str) -> None:
    """docs/cli.md, docs/api.md and docs/training.md; if not: python scripts/manual.py."""
    for path, text in script().pages().items():
        assert path.read_text("utf-8") == text, f"{path.name} is not what scripts/manual.py writes"


def test_the_script_takes_over_options_that_were_added_and_keeps_what_was_written(
    page: str,
) -> None:
    manual = script()
    assert manual.cli_page(page) == page
    row = next(line for line in page.splitlines() if line.startswith("| `--dims N` |"))
    assert manual.cli_page(page.replace(row + "\n", "", 1)) != page
    option, meaning = row.split("|")[1:3]
    changed = page.replace(row, f"|{option}|{meaning}| Entirely handwritten remark. |")
    assert "| Entirely handwritten remark. |" in manual.cli_page(changed)
    drifted = page.replace(meaning, " Something else. ")
    assert "Something else." not in manual.cli_page(drifted)


def test_every_command_and_option_is_in_the_manual_and_no_other(
    page: str, subtests: pytest.Subtests
) -> None:
    """Independent of the script: rows of the command's own table and its list of common ones."""
    for name in COMMANDS:
        with subtests.test(name=name):
            _, heading, rest = page.partition(f"\n## {name}\n")
            assert heading, f"no section '{name}'"
            section, command = rest.split("\n## ")[0], COMMANDS[name]
            rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
            rows += re.findall(r"(?s)\(#common-options\).*?\.\n", section)
            found = set(re.findall(r"`(-[^ `]+)", " ".join(rows))) - {"-h", "--help"}
            for parameter in command.params:
                if isinstance(parameter, click.Argument):
                    assert f"`{(parameter.metavar or '').strip('[]')}`" in section
                elif isinstance(parameter, click.Option):
                    assert set(all_words(parameter)) & found
            assert found <= words(command)


def test_help_explains_every_option_and_has_examples(subtests: pytest.Subtests) -> None:
    for name in COMMANDS:
        with subtests.test(name=name):
            done = call(*name.split()[1:], "--help")
            assert done.exit_code == 0
            assert words(COMMANDS[name]) <= set(re.findall(r"(?<!\w)--?\w[\w-]*", done.stdout))
            for parameter in COMMANDS[name].params:
                assert isinstance(parameter, click.Argument) or parameter.help, (
                    f"{parameter.name} has no help"
                )
            assert ("Examples:" in done.stdout) == (name not in WITHOUT_EXAMPLES)


def test_examples_name_models_that_ship(page: str) -> None:
    """An id of a model in a command's examples, in `--help` or in the manual, is a shipped one."""
    shipped = {
        hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in (PAGE.parent.parent / "models" / "pretrained").glob("*.safetensors")
    }
    text = page + "".join(command.help or "" for command in COMMANDS.values())
    lines = [line for line in text.splitlines() if line.lstrip().startswith("ravecodec ")]
    named = set(re.findall(r"\b[0-9a-f]{16}\b", "\n".join(lines)))
    assert named and named <= shipped


def test_every_exit_code_is_in_the_manual(page: str, subtests: pytest.Subtests) -> None:
    for code in [*range(9), 129, 130, 143]:
        with subtests.test(code=code):
            assert re.search(rf"^\| {code} \| ", page, re.MULTILINE)
