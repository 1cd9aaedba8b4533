"""Links of the documents: files and headings that they name exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Every Markdown page of the repository that people read."""
    folders = ["", "docs", "bitstream", "examples", "models/pretrained"]
    return [page for folder in folders for page in sorted((ROOT / folder).glob("*.md"))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them; a second one alike gets "-1"."""
    made: list[str] = []
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text("utf-8"))
    for heading in re.findall(r"(?m)^#+ (.+)$", text):
        words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        made.append(words.replace(" ", "-"))
    return {f"{name}-{made[:i].count(name)}".removesuffix("-0") for i, name in enumerate(made)}


def test_every_link_leads_to_a_file_and_a_heading(subtests: pytest.Subtests) -> None:
    if not (ROOT / "docs").exists():
        pytest.skip("no docs beside the tests")
    checked = 0
    for page in pages():
        for link in LINK.findall(page.read_text("utf-8")):
            if link.startswith(("http://", "https://", "mailto:")):
                continue
            checked += 1
            with subtests.test(page=page.name, link=link):
                path, _, anchor = link.partition("#")
                target = (page.parent / path).resolve() if path else page
                assert target.exists()
                assert not anchor or anchor in anchors(target)
    assert checked > 50


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`: three!\n## A-b\n```\n# no heading\n```\n## A-b\n### eval's _x_\n")
    assert anchors(page) == {"one-two-three", "a-b", "a-b-1", "evals-_x_"}
