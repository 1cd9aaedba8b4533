"""The tables in README.md and docs/evaluation.md are those of docs/evaluation/results.json."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from ravecodec.evaluate.results import Results

ROOT = Path(__file__).resolve().parent.parent
SAVED = ROOT / "docs" / "evaluation" / "results.json"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    if not SAVED.exists():
        pytest.skip("no docs beside the tests")
    spec = importlib.util.spec_from_file_location("report_tables", ROOT / "scripts" / "report_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_say_what_was_measured(tables: ModuleType) -> None:
    results = Results.load(SAVED)
    for page in tables.PAGES:
        text = page.read_text()
        assert "<!-- table: " in text
        assert tables.renewed(text, results) == text, f"{page.name}: run scripts/report_tables.py"


def test_a_wrong_number_is_noticed(tables: ModuleType) -> None:
    page = ROOT / "README.md"
    wrong = re.sub(r"(<!-- table: short -->.*?)3\.\d\d", r"\g<1>4.99", page.read_text(), count=1, flags=re.DOTALL)
    assert wrong != page.read_text()
    assert tables.renewed(wrong, Results.load(SAVED)) == page.read_text()


def test_the_measured_model_is_the_one_that_ships(tables: ModuleType) -> None:
    from ravecodec import zoo

    shipped = zoo.read_entry(zoo.shipped_folder() / "default.safetensors")
    assert Results.load(SAVED).models["default"]["id"] == shipped.id.hex()


def test_every_curve_is_there(tables: ModuleType) -> None:
    for metric in tables.headlines(Results.load(SAVED)):
        assert (ROOT / "docs" / "evaluation" / f"{metric.id}.svg").read_text().startswith("<svg")
