"""Tables that benchmarks put into a page of the documentation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def write_block(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replaces what stands between `<!-- name -->` and `<!-- end -->`; SystemExit unless there is
    one such place.
    """
    block = f"<!-- {name} -->\n" + "\n".join(lines) + "\n<!-- end -->"
    pattern = rf"<!-- {re.escape(name)} -->\n.*?<!-- end -->"
    found, count = re.subn(pattern, lambda _: block, page.read_text(), flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{page}: has {count} places for the table {name!r}; expected 1")
    page.write_text(found)
