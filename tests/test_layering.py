"""Neither bitstream nor models imports the other or the tool, and looking at a file never loads
torch.

The packages are found through the imported packages, so the proof holds for a checkout and for an
installed wheel.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ravecodec
import ravecodec.audio
import ravecodec.bitstream
import ravecodec.models

DYNAMIC = ("__import__", "importlib.import_module", "import_module")
STDLIB = frozenset(sys.stdlib_module_names)
BITSTREAM = {"numpy", "constriction", "zstandard", "ravecodec.bitstream", "ravecodec.errors"}
MODELS = {"torch", "numpy", "safetensors", "ravecodec.models", "ravecodec.errors"}
OWN = ["audio", "files", "views", "errors"]
AUDIO = {"numpy", "soundfile", "soxr", "av", "mutagen", *(f"ravecodec.{name}" for name in OWN)}


def folder(package: object) -> Path:
    return Path(package.__path__[0])  # type: ignore[attr-defined]


def sources(package: object) -> list[Path]:
    found = sorted(folder(package).rglob("*.py"))
    assert found, f"no sources of {package}"
    return found


def tool_sources() -> list[Path]:
    """The tool without the other two packages, which an installed wheel puts below it."""
    others = (folder(ravecodec.bitstream), folder(ravecodec.models))
    return [p for p in sources(ravecodec) if not any(p.is_relative_to(other) for other in others)]


def imports(code: str) -> Iterator[str]:
    """Full dotted names imported anywhere in a module; `from a import b` gives a.b; a relative
    import gives '.'.
    """
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                "." if node.level else f"{node.module}.{alias.name}" for alias in node.names
            )
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in DYNAMIC:
            yield (
                node.args[0].value
                if node.args and isinstance(node.args[0], ast.Constant)
                else "(computed)"
            )


def strangers(code: str, allowed: set[str]) -> list[str]:
    """Imports that are neither of the standard library nor within a module of `allowed`."""

    def fits(name: str) -> bool:
        return name.split(".")[0] in STDLIB or any(
            name == a or name.startswith(a + ".") for a in allowed
        )

    return [name for name in imports(code) if not fits(name)]


@pytest.mark.parametrize(
    ("package", "allowed"),
    [(ravecodec.bitstream, BITSTREAM), (ravecodec.models, MODELS)],
    ids=["bitstream", "models"],
)
def test_package_imports_only_what_it_may(package: object, allowed: set[str]) -> None:
    found = {
        p.name: bad for p in sources(package) if (bad := strangers(p.read_text("utf-8"), allowed))
    }
    assert not found


def test_audio_and_files_know_no_codec() -> None:
    modules = [*sources(ravecodec.audio), *(folder(ravecodec) / f"{name}.py" for name in OWN[1:])]
    found = {p.name: bad for p in modules if (bad := strangers(p.read_text("utf-8"), AUDIO))}
    assert not found


def test_audio_has_one_door() -> None:
    """What others need of it, `ravecodec.audio` itself names."""
    inside = {f"ravecodec.audio.{path.stem}" for path in sources(ravecodec.audio)}
    for path in tool_sources():
        if not path.is_relative_to(folder(ravecodec.audio)):
            names = imports(path.read_text("utf-8"))
            assert not [name for name in names if name.rpartition(".")[0] in inside], path


def test_the_tool_imports_absolutely_and_by_name() -> None:
    for path in tool_sources():
        names = list(imports(path.read_text("utf-8")))
        assert not [n for n in names if n.split(".")[0] in ("", "models", "bitstream")], path


def test_the_proof_sees_a_breach(subtests: pytest.Subtests) -> None:
    for line in [
        "import torch",
        "import torch.nn as nn",
        "def f():\n    from torch import nn",
        "from ravecodec import models",
        "from ravecodec.models.pqmf import PQMF",
        "import ravecodec.codec",
        "from ravecodec import codec",
        "from . import entropy",
        "import models",
        "__import__('torch')",
        "import importlib\nimportlib.import_module('torch')",
        "import importlib\nimportlib.import_module(name)",
        "if TYPE_CHECKING:\n    import ravecodec.models",
        "import ravecodec.bitstreamer",
    ]:
        with subtests.test(line=line):
            assert strangers(line, BITSTREAM)


def test_the_proof_lets_the_rest_pass(subtests: pytest.Subtests) -> None:
    for line in ["import json", "import numpy as np", "from ravecodec import errors, bitstream"]:
        with subtests.test(line=line):
            assert not strangers(line, BITSTREAM)


def run(code: str, *args: str) -> None:
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


LOADS_NO_TORCH = "import {}, sys; assert 'torch' not in sys.modules, 'torch was imported'"


def test_import_is_cheap(subtests: pytest.Subtests) -> None:
    for module in [
        f"ravecodec{name}"
        for name in (
            "",
            ".audio",
            ".batch.run",
            ".bitstream",
            ".cli",
            ".examine",
            ".decoding",
            ".encoding",
            ".zoo",
        )
    ]:
        with subtests.test(module=module):
            run(LOADS_NO_TORCH.format(module))


ALL_OF_BITSTREAM = """
import importlib, pkgutil, sys
sys.modules["torch"] = None  # importing it raises ImportError, as where it is not installed
import ravecodec.bitstream as package
for module in pkgutil.walk_packages(package.__path__, "ravecodec.bitstream."):
    importlib.import_module(module.name)
"""


def test_bitstream_works_without_torch() -> None:
    run(ALL_OF_BITSTREAM)


COMMAND = """
import sys
from ravecodec.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
assert "torch" not in sys.modules, "torch was imported"
"""


def test_help_does_not_import_torch() -> None:
    run(COMMAND, "--help")
    run(COMMAND, "info", "--help")


def test_info_does_not_import_torch() -> None:
    vectors = sorted((Path(__file__).parent / "vectors").glob("*/*.rvc"))
    assert vectors, "no golden vectors"
    run(COMMAND, "info", str(vectors[0]))
