#!/usr/bin/env python3
"""The tables that benchmarks put into README.md and docs/, made of the results that they keep.

    python benchmarks/pages.py      # writes all of them anew, from docs/evaluation/*.json

With `--write` benchmarks/NAME.py keeps what it measured in docs/evaluation/NAME.json, or in
NAME-WHICH.json where it measures several things, with the day and the commit. Its function `blocks`
makes Markdown of that, by mark: it stands in the pages between `<!-- MARK -->` and `<!-- end -->`.
tests/test_tables.py fails where a page says something else.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "evaluation"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

Found = dict[str, Any]  # as in a file of results
Blocks = dict[str, str]  # Markdown by mark


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def joined(*parts: str) -> str:
    """Tables, and paragraphs in lines of 100 columns, below each other."""
    filled = [part if "\n" in part else textwrap.fill(part, 100) for part in parts]
    return "\n\n".join(filled)


def of_model(found: Found) -> str:
    """A line that says which model was measured, and when."""
    return f"Model `{found['model']}`, {found['date']}:"


def renewed(text: str, blocks: Blocks) -> str:
    """A page with those blocks made anew that it has a place for; one of several lines stands on
    lines of its own.
    """
    for mark, block in blocks.items():
        inner = f"\n{block}\n" if "\n" in block else block
        place = f"<!-- {mark} -->{inner}<!-- end -->"
        pattern = rf"<!-- {re.escape(mark)} -->.*?<!-- end -->"
        text = re.sub(pattern, lambda _, place=place: place, text, flags=re.DOTALL)
    return text


def published() -> Iterator[tuple[Path, Blocks]]:
    """Every file of results of a benchmark, and the blocks that it makes of them."""
    for saved in sorted(RESULTS.glob("*.json")):
        script = saved.stem.partition("-")[0]
        if (Path(__file__).parent / f"{script}.py").exists():
            found = json.loads(saved.read_text())
            yield saved, importlib.import_module(script).blocks(found)


def put(blocks: Blocks) -> None:
    """Writes them into the pages; SystemExit if a block has no place."""
    pages = {page: page.read_text() for page in PAGES}
    for mark in blocks:
        if not any(f"<!-- {mark} -->" in text for text in pages.values()):
            raise SystemExit(f"README.md, docs/*.md: have no place <!-- {mark} -->")
    for page, text in pages.items():
        if renewed(text, blocks) != text:
            page.write_text(renewed(text, blocks))


def add_write(parser: argparse.ArgumentParser) -> None:
    """The option of `show`."""
    parser.add_argument(
        "--write", action="store_true", help="keep the results and put them into the pages"
    )


def show(name: str, found: Found, blocks: Callable[[Found], Blocks], write: bool) -> None:
    """Prints what was measured; with `write` keeps it as NAME.json and writes the pages."""
    found = {"date": date.today().isoformat()} | found
    print("\n\n".join(blocks(found).values()))
    if write:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        kept = {"commit": done.stdout.strip()} | found
        (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
        put(blocks(found))


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    for _, blocks in published():
        put(blocks)


if __name__ == "__main__":
    main()
