"""The project's promises: README's commands are what CI runs, all is shipped, the example is what
its page says.

Only a checkout has all of it; against an installed wheel the tests of missing files are skipped.
"""

import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import ravecodec
from ravecodec import zoo
from ravecodec.audio import open_input

ROOT = Path(__file__).resolve().parent.parent


def existing(name: str) -> Path:
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"no {name} beside the tests")
    return path


def readme_commands() -> dict[str, str]:
    """Name -> code block, as `.ci/run` extracts them."""
    parts = existing("README.md").read_text("utf-8").split("<!-- command: ")[1:]
    return {
        part.split(" -->", 1)[0]: part.split("```sh\n", 1)[1].split("```", 1)[0] for part in parts
    }


def test_readme_has_exactly_the_two_commands_of_ci() -> None:
    commands = readme_commands()
    assert sorted(commands) == ["run", "test"]
    assert ".venv/bin/pip install ." in commands["run"]
    assert commands["test"].strip() == ".venv/bin/pip install -e '.[dev]' && .venv/bin/pytest"
    script = existing(".ci/run").read_text("utf-8")
    assert all(f"run_readme_command {name}" in script for name in commands)


def test_files_named_in_readme_exist() -> None:
    for word in readme_commands()["run"].split():
        if word.startswith("examples/"):
            assert existing(word).is_file()


def test_every_package_of_the_checkout_is_shipped() -> None:
    project = tomllib.loads(existing("pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    existing("bitstream")
    folders = {
        "ravecodec": "ravecodec",
        "bitstream": "ravecodec.bitstream",
        "models": "ravecodec.models",
    }
    found = set()
    for top, name in folders.items():
        for init in (ROOT / top).rglob("__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(ROOT / top).parts]))
    assert set(project["packages"]) == found


def test_every_data_file_of_the_checkout_is_shipped() -> None:
    project = tomllib.loads(existing("pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    existing("bitstream")
    for package in project["packages"]:
        head, _, rest = package.removeprefix("ravecodec").removeprefix(".").partition(".")
        folder = (
            ROOT / head / rest.replace(".", "/")
            if head in ("bitstream", "models")
            else ROOT / package.replace(".", "/")
        )
        patterns = project["package-data"].get(package, [])
        for path in (
            p
            for p in folder.iterdir()
            if p.is_file() and p.suffix != ".py" and p.name != "ruff.toml"
        ):
            assert any(path.match(pattern) for pattern in patterns), (
                f"{path} is not in package-data of {package}"
            )


def test_the_oldest_versions_are_those_that_the_project_allows() -> None:
    """constraints/oldest.txt has every dependency but torch (see there), at its lower bound."""
    lines = existing("constraints/oldest.txt").read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    project = tomllib.loads(existing("pyproject.toml").read_text("utf-8"))["project"]
    bounds = {}
    for requirement in map(Requirement, project["dependencies"]):
        [bounds[requirement.name]] = [
            s.version for s in requirement.specifier if s.operator == ">="
        ]
    del bounds["torch"]
    assert {name: Version(v) for name, v in pinned.items()} == {
        name: Version(v) for name, v in bounds.items()
    }


def test_versions_agree() -> None:
    version = tomllib.loads(existing("pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert version == ravecodec.__version__
    assert f"version: {version}\n" in existing("CITATION.cff").read_text("utf-8")


def test_example_is_what_its_page_says() -> None:
    with open_input(existing("examples/feelings.flac")) as source:
        assert (source.sample_rate, source.channels, source.frames) == (44100, 2, 555_660)
        assert max(abs(block).max() for block in source.blocks(65536)) < 0.9
    assert existing("examples/feelings.flac").stat().st_size < 2_000_000


def test_example_streams_are_played_by_the_models_that_ship() -> None:
    for name, samples in {
        "feelings": 555_660,
        "feelings-slow": 1_111_320,
        "generated-default": 960_000,
        "generated-strings": 960_000,
    }.items():
        path = existing(f"examples/{name}.rvc")
        entry = zoo.find_id(ravecodec.inspect_file(path).stream.model_id)
        assert entry.path.parent == zoo.shipped_folder(), name
        audio, _ = ravecodec.decode(path.read_bytes())
        assert audio.shape[1] == pytest.approx(samples, rel=0.01) and np.abs(audio).max() > 0.1


def in_checkout(code: str) -> str:
    """What Python prints in this folder if ravecodec is not installed editable from it: `pip
    install .` leaves the folder without bitstream and models below ravecodec/."""
    existing("bitstream")
    start = """
        import runpy, sys
        sys.meta_path[:] = [finder for finder in sys.meta_path if "ditable" not in repr(finder)]
    """
    done = subprocess.run(
        [sys.executable, "-c", f"{textwrap.dedent(start)}{textwrap.dedent(code)}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_python_works_in_a_checkout_that_was_installed_elsewhere() -> None:
    code = """
        import ravecodec.bitstream, ravecodec.models
        print(ravecodec.bitstream.__file__)
    """
    assert Path(in_checkout(code)) == ROOT / "bitstream" / "__init__.py"


def test_the_command_and_the_benchmarks_work_in_a_checkout() -> None:
    """`python -m ravecodec`, without an editable installation, and `python benchmarks/speed.py`."""
    code = """
        sys.argv = ["ravecodec", "--version"]
        runpy.run_module("ravecodec", run_name="__main__", alter_sys=True)
    """
    assert ravecodec.__version__ in in_checkout(code)
    script = existing("benchmarks/speed.py")
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--minutes" in done.stdout
