"""examples/latents.ipynb: what it shows was executed, is small, and its cells still run.

Without Jupyter: the cells are executed as a program, on the beginning of the example, with the
model that ships.
"""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

from ravecodec.zoo import shipped_folder

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NOTEBOOK = EXAMPLES / "latents.ipynb"


@pytest.fixture
def cells() -> list[dict[str, Any]]:
    """The cells with code."""
    if not NOTEBOOK.exists():
        pytest.skip("no examples beside the tests")
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_it_was_executed_and_is_small(cells: list[dict[str, Any]]) -> None:
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    pictures = [o["data"]["image/png"] for o in outputs if "data" in o]
    assert len(pictures) == 1
    assert base64.b64decode(pictures[0]).startswith(b"\x89PNG")
    assert NOTEBOOK.stat().st_size < 200_000
    assert all(cell["outputs"] for cell in cells)


def test_its_cells_run(cells: list[dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    if not (shipped_folder() / "default.safetensors").exists():
        pytest.skip("no shipped model")
    audio, rate = soundfile.read(EXAMPLES / "feelings.flac", frames=100_000, start=300_000)
    soundfile.write(tmp_path / "feelings.flac", audio, rate)
    program = "\n".join("".join(cell["source"]) for cell in cells)
    variables = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", program],
        cwd=tmp_path,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = [line for cell in cells for o in cell["outputs"] for line in o.get("text", [])]
    assert len(done.stdout.splitlines()) == len(said)
