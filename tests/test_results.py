"""results.json: the same bytes when written again, rates over all bytes, CompressAI's view, several
as one.
"""

import csv
import io
import json
from dataclasses import replace

import pytest

from ravecodec.errors import FormatError
from ravecodec.evaluate.results import (
    Condition,
    Fidelity,
    Item,
    Metric,
    Results,
    Score,
    Speed,
    merge,
)


def results(name: str = "first", step: int = -4) -> Results:
    items = [
        Item(f"i{n}", f"music/{n}.flac", 1.5 * n, 10.0 + n, f"{n}" * 64, 2, 48_000)
        for n in range(3)
    ]
    point = Condition("m-a", "m", "model", "m at a", {"step_index": step})
    conditions = [
        point,
        Condition("m-b", "m", "model", "m at b"),
        Condition("same", "same", "control", "itself"),
    ]
    scores = [
        Score(
            item.id,
            c.id,
            None if c.id == "same" else 1000 * (i + 1),
            None if c.id == "same" else 900,
            0,
            {"good": i + k},
        )
        for i, item in enumerate(items)
        for k, c in enumerate(conditions)
    ]
    scores[0] = replace(scores[0], values={})
    metrics = [Metric("good", "Good", "dB", "higher", 9.0, "More is better.", headline=True)]
    speed = [Speed("encode", "m", 1, 60.0, 3.0, 1.0, 1 << 28)]
    facts = {"m": {"id": "00", "bytes": 5}}
    return Results(
        name,
        "3 items.",
        items,
        conditions,
        scores,
        metrics,
        [Fidelity("m", [0.5, 1.0], [0.7, 1.0])],
        speed,
        facts,
        [],
        {},
    )


def test_it_is_the_same_bytes_when_written_again() -> None:
    text = results().to_json()
    assert Results.from_json(text) == results()
    assert Results.from_json(text).to_json() == text


def test_rates_are_all_bytes_over_all_seconds() -> None:
    found = results()
    assert found.kbps("m-a") == pytest.approx((1000 + 2000 + 3000) * 8 / 1000 / 33)
    assert found.kbps("m-a", payload=True) == pytest.approx(3 * 900 * 8 / 1000 / 33)
    assert found.kbps("same") is None and found.kbps("unheard of") is None


def test_it_has_compressais_view() -> None:
    head = json.loads(results().to_json())
    assert (head["name"], head["description"]) == ("first", "3 items.")
    arrays = head["results"]["m"]
    # I0 has no value at m-a.
    assert arrays["condition"] == ["m-a", "m-b"] and arrays["good"] == [
        1.5,
        2.0,
    ]
    assert arrays["kbps"] == [results().kbps(c) for c in ("m-a", "m-b")]
    assert head["results"]["same"]["kbps"] == [None]


def test_every_score_is_a_row() -> None:
    rows = list(csv.DictReader(io.StringIO(results().to_csv())))
    assert len(rows) == 9 and rows[0]["good"] == ""
    assert (rows[3]["item"], rows[3]["condition"], rows[3]["bytes"], rows[3]["good"]) == (
        "i1",
        "m-a",
        "2000",
        "1",
    )
    assert float(rows[3]["kbps"]) == pytest.approx(2000 * 8 / 1000 / 11, abs=1e-4)
    assert rows[2]["bytes"] == rows[2]["kbps"] == ""


def test_other_files_are_refused(subtests: pytest.Subtests) -> None:
    for text in ["", "{}", "[]", '{"format": "ravecodec-evaluation", "version": 99}']:
        with subtests.test(text=text), pytest.raises(FormatError):
            Results.from_json(text)


def test_unknown_fields_are_refused() -> None:
    values = json.loads(results().to_json())
    values["items"][0]["zoom"] = 1
    with pytest.raises(FormatError, match="zoom"):
        Results.from_json(json.dumps(values))


def test_several_become_one() -> None:
    """What is the same in both stands there once; one name with two meanings gets the name of its
    evaluation.
    """
    one, other = results(), results("second", step=0)
    both = merge([one, other])
    assert [c.id for c in both.conditions] == ["m-a", "m-b", "same", "second-m-a"]
    assert both.series == ["m", "same", "second: m"]
    assert len(both.items) == 3 and len(both.scores) == 12
    assert both.values("second-m-a", "good") == one.values("m-a", "good")
    assert merge([one]) is one
    with pytest.raises(FormatError):
        merge([])
