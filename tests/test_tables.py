"""The numbers in README.md, docs/ and the models' cards are those of docs/evaluation/*.json."""

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ravecodec.evaluate.measures.scores import METRICS
from ravecodec.evaluate.results import Results
from ravecodec.models.prior import load_prior
from ravecodec.models.prior_file import SUFFIX

ROOT = Path(__file__).resolve().parent.parent
SAVED = ROOT / "docs" / "evaluation" / "results.json"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    if not SAVED.exists():
        pytest.skip("no docs beside the tests")
    return loaded(ROOT / "scripts" / "report_tables.py")


@pytest.fixture(scope="module")
def benchmarks(tables: ModuleType) -> ModuleType:
    """benchmarks/pages.py, with the other benchmarks beside it."""
    sys.path.append(str(ROOT / "benchmarks"))
    return importlib.import_module("pages")


def loaded(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


def test_pages_say_what_was_measured(tables: ModuleType) -> None:
    for page, results in tables.pages():
        text = page.read_text()
        assert "<!-- table: " in text
        assert tables.renewed(text, results) == text, f"{page.name}: run scripts/report_tables.py"


def test_a_wrong_number_is_noticed(tables: ModuleType) -> None:
    """In every table, and in every sentence that cites one, of every page."""
    seen = 0
    for page, results in tables.pages():
        right = page.read_text()
        for place in re.finditer(r"<!-- (?:table|number|mean): .*?<!-- end -->", right, re.DOTALL):
            wrong = right[: place.start()] + other_digit(place[0]) + right[place.end() :]
            assert tables.renewed(wrong, results) == right
            seen += 1
    assert seen >= 10


def test_numbers_that_were_taken_by_hand_are_of_these_results(tables: ModuleType) -> None:
    """The column of the report, in the table on docs/evaluation.md that sets both side by side, if
    there is one.
    """
    page = (ROOT / "docs" / "evaluation.md").read_text()
    if "| number | by hand | report |" not in page:
        return
    rows = page.partition("| number | by hand | report |")[2].split("\n\n")[0].splitlines()[2:]
    results = Results.load(SAVED)
    opus = results.values("opus-12", "zimtohrli").values()
    score = results.by_condition[tables.own_point(results).id][results.items[5].id]
    expected = [
        f"{score.bytes}",
        f"{score.values['log_mel']} dB",
        f"{score.values['visqol']}",
        f"{score.values['loudness_error']} LU",
        f"{results.kbps('opus-12'):.4f} kbit/s, {sum(opus) / len(opus):.4f}",
    ]
    assert [row.strip("| ").split(" | ")[-1] for row in rows] == expected


def test_every_card_is_of_the_model_beside_it(tables: ModuleType) -> None:
    from ravecodec import zoo

    paths = sorted(zoo.shipped_folder().glob("*.safetensors"))
    models = [path for path in paths if not path.name.endswith(SUFFIX)]
    assert [path.stem for path in models] == ["default", "strings-live", "strings"]
    for path in models:
        shipped, card = zoo.read_entry(path), (tables.CARDS / f"{path.stem}.md").read_text()
        assert f"`{shipped.id.hex()}`" in card and f"{shipped.size / 1e6:.1f} MB" in card
    for path in set(paths) - set(models):
        card = (tables.CARDS / f"{path.name.removesuffix(SUFFIX)}.md").read_text()
        assert f"`{path.name}`, {path.stat().st_size / 1e6:.1f} MB" in card


def test_every_prior_is_of_the_model_beside_it() -> None:
    from ravecodec import zoo

    for path in zoo.shipped_folder().glob(f"*{SUFFIX}"):
        model = zoo.read_entry(path.with_name(path.name.replace(SUFFIX, ".safetensors")))
        assert zoo.find_prior(model).path == path and load_prior(path)


def strings(value: Any) -> Iterator[str]:
    """All strings in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield key
            yield from strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from strings(entry)


def test_published_results_name_no_folder_of_a_machine(tables: ModuleType) -> None:
    absolute = re.compile(r"(^|[\s='\"])(/\w|[A-Za-z]:\\)")
    for path in SAVED.parent.glob("*.json"):
        said = strings(json.loads(path.read_text()))
        assert [text for text in said if absolute.search(text)] == []
    for path in tables.RESULTS.values():
        if path.exists():
            results = Results.load(path)
            assert tables.compacted(results) == results


def test_published_results_describe_their_metrics_as_the_code_does(tables: ModuleType) -> None:
    for path in tables.RESULTS.values():
        if path.exists():
            assert [metric for metric in Results.load(path).metrics if metric not in METRICS] == []


def test_results_are_published_without_folders(tables: ModuleType) -> None:
    """Also those of an evaluation that still had them."""
    results = Results.load(SAVED)
    items = [replace(item, source=f"/home/me/{item.source}") for item in results.items]
    manifest = results.manifest | {"command": "ravecodec eval /home/me/eval --out /tmp/x"}
    unreadable = ["/home/me/eval/x.ogg: is damaged"]
    found = tables.compacted(
        replace(results, items=items, manifest=manifest, unreadable=unreadable)
    )
    assert (
        "/home" not in found.to_json()
        and found.manifest["command"] == "ravecodec eval eval --out x"
    )
    assert len({item.source for item in found.items}) == len(
        {item.source for item in results.items}
    )


def test_what_benchmarks_measured_is_what_the_pages_say(
    benchmarks: ModuleType, subtests: pytest.Subtests
) -> None:
    """And a wrong digit in any of their tables is noticed."""
    texts = [page.read_text() for page in benchmarks.PAGES]
    for saved, blocks in benchmarks.published():
        for mark in blocks:
            with subtests.test(file=saved.name, mark=mark):
                place = re.compile(f"<!-- {re.escape(mark)} -->.*?<!-- end -->", re.DOTALL)
                pages = [text for text in texts if place.search(text)]
                assert pages
                for text in pages:
                    assert benchmarks.renewed(text, blocks) == text, "run benchmarks/pages.py"
                    wrong = place.sub(lambda found: other_digit(found[0]), text)
                    assert wrong != text and benchmarks.renewed(wrong, blocks) == text


def other_digit(text: str) -> str:
    """The last digit before the end of a block is another one."""
    at = max(found.start() for found in re.finditer(r"\d", text))
    return f"{text[:at]}{(int(text[at]) + 1) % 10}{text[at + 1 :]}"


def test_every_block_of_the_pages_is_written_by_a_script(benchmarks: ModuleType) -> None:
    known = {mark for _, blocks in benchmarks.published() for mark in blocks}
    others = re.compile(r"(table|number|mean|options|command): .*|recipe keys|end")
    for page in benchmarks.PAGES:
        marks = set(re.findall(r"<!-- (.*?) -->", page.read_text()))
        assert {mark for mark in marks - known if not others.fullmatch(mark)} == set(), page.name


def test_a_block_without_a_place_is_refused(benchmarks: ModuleType) -> None:
    with pytest.raises(SystemExit, match="have no place <!-- nowhere -->"):
        benchmarks.put({"nowhere": "1"})


def test_a_table_of_speeds_names_its_processor_and_no_rate_of_random_weights(
    benchmarks: ModuleType,
) -> None:
    speed = importlib.import_module("speed")
    rows = [
        speed.Row("default", 180.0, 6.0, 9.0, 400_000_000, 500_000_000, 2.5),
        speed.Row("paper", 180.0, 6.0, 9.0, 400_000_000, 500_000_000, None),
    ]
    found = {
        "processor": "Abacus 3",
        "cores": 2,
        "torch": "9.9",
        "precision": "float32",
        "runs": 3,
        "rows": [vars(row) for row in rows],
    }
    page = benchmarks.renewed(
        "before\n<!-- speed -->\nold\n<!-- end -->\nafter", speed.blocks(found)
    )
    assert page.startswith(
        "before\n<!-- speed -->\nAbacus 3, 2 cores, torch 9.9, float32, the fastest of 3 runs:\n\n"
        "| network"
    )
    assert "| default | 3 min | 30x | 20x | 400 MB | 500 MB | 2.50 kbit/s |\n" in page
    assert "| paper | 3 min | 30x | 20x | 400 MB | 500 MB | - |\n<!-- end -->\nafter" in page


def test_there_is_one_meter_of_memory() -> None:
    """A second one measured the memory of the program that started it."""
    for script in (ROOT / "benchmarks").glob("*.py"):
        assert not re.search(r"ru_maxrss|wait4|getrusage", script.read_text()), script.name


def test_the_measured_model_is_the_one_that_ships(tables: ModuleType) -> None:
    from ravecodec import zoo

    shipped = zoo.read_entry(zoo.shipped_folder() / "default.safetensors")
    assert Results.load(SAVED).models["default"]["id"] == shipped.id.hex()


def test_every_curve_is_there(tables: ModuleType) -> None:
    for metric in tables.headlines(Results.load(SAVED)):
        assert (ROOT / "docs" / "evaluation" / f"{metric.id}.svg").read_text().startswith("<svg")
