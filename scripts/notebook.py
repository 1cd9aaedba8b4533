#!/usr/bin/env python3
"""Executes examples/latents.ipynb where it lies, and keeps what is small of the outputs.

    pip install nbclient ipykernel && python scripts/notebook.py

A maintainer's tool, after changes of the notebook or the shipped model. Times and the kernel's
version are left out, so that equal results are equal files; pictures have 64 colours.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "latents.ipynb"
COLOURS = 64


def smaller(png: str) -> str:
    """Base64 of a PNG with fewer colours."""
    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(COLOURS)
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode() + "\n"


def kept(output: Any) -> Any:
    """An output without what is not shown."""
    if "data" in output and "image/png" in output["data"]:
        output["data"] = {"image/png": smaller(output["data"]["image/png"])}
        output["metadata"] = {}
    return output


def main() -> None:
    notebook = nbformat.read(NOTEBOOK, 4)
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=1800, resources=folder).execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [kept(output) for output in cell.outputs]
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
