"""The verdict of a page: a sentence for every model, and one about what none of this says."""

from __future__ import annotations

from collections.abc import Sequence

from ravecodec.evaluate.page import series
from ravecodec.evaluate.page.cells import brackets, compared, digits_of, number, tone_of
from ravecodec.evaluate.page.series import headlines, interval, leads, of_kind
from ravecodec.evaluate.results import Condition, Metric, Results

CONTAINER = 0.15  # share of a file above which the verdict names the rate without it
FILES = 20  # below which the percentile intervals of statistics.py are too narrow


def verdict(results: Results) -> list[str]:
    """A sentence for every model, and one about what none of this says."""
    return [_model_sentence(results, condition) for condition in leads(results)] + [
        _limits_sentence(results)
    ]


def _model_sentence(results: Results, lead: Condition) -> str:
    name, rate = series.model_name(results, lead), _rate(results, lead)
    scores = [_score(results, lead, metric) for metric in headlines(results)]
    sentence = f"At {rate}, model {name} scores {_listed([score for score in scores if score])}"
    anchor = series.nearest(results, lead, of_kind(results, "codec"))
    return f"{sentence}; {_against(results, lead, anchor)}." if anchor else f"{sentence}."


def _score(results: Results, condition: Condition, metric: Metric) -> str:
    """`ViSQOL 3.85 [3.75, 3.95]`; "" where there is none."""
    mean = interval(results, condition, metric)
    if mean is None:
        return ""
    digits = digits_of(metric)
    unit = f" {metric.unit}" if metric.unit in ("dB", "LU") else ""
    return f"{metric.label} {number(mean.mean, digits)}{unit} {brackets(mean, digits)}".strip()


def _against(results: Results, lead: Condition, anchor: Condition) -> str:
    """How the model stands against an anchor: only sure differences are called better or worse."""
    labels: dict[str, list[str]] = {"good": [], "bad": [], "": []}
    for metric in headlines(results):
        pair = compared(results, metric, lead, anchor)
        other = interval(results, anchor, metric)
        if pair is not None and other is not None:
            tone = tone_of(pair.difference, metric)
            labels[tone].append(f"{metric.label} (anchor: {number(other.mean)})")
    words = {"good": "better on", "bad": "worse on", "": "not told apart from it on"}
    parts = [f"{words[tone]} {_listed(names)}" for tone, names in labels.items() if names]
    place = f"the anchor nearest in rate is {anchor.label} at {_rate(results, anchor)}"
    return f"{place}, and beside it the model is {'; '.join(parts)}" if parts else place


def _rate(results: Results, condition: Condition) -> str:
    """`8.08 kbit/s`, and what it is without the container where that is a good part of it."""
    rate, payload = (results.kbps(condition.id, payload=payload) for payload in (False, True))
    text = f"{number(rate)} kbit/s"
    if rate and payload is not None and payload < (1 - CONTAINER) * rate:
        text += f" ({number(payload)} without the container)"
    return text


def _limits_sentence(results: Results) -> str:
    files = len({item.source for item in results.items})
    basis = f"{_count(len(results.items), 'excerpt')} from {_count(files, 'file')}"
    narrow = f" (too narrow, as they are of fewer than {FILES} files)" if files < FILES else ""
    return (
        f"These are computed scores of {basis}, with 95 % intervals over files{narrow}: "
        f"no listener was asked, no single score is sound quality{_scores_of_noise(results)}, "
        "and nothing here speaks of other kinds of audio."
    )


def _scores_of_noise(results: Results) -> str:
    noise = series.control(results, "noise-vocoded")
    if noise is None:
        return ""
    means = [(metric.label, interval(results, noise, metric)) for metric in headlines(results)]
    scores = [f"{label} {number(mean.mean)}" for label, mean in means if mean is not None]
    return f" (mere noise with the excerpts' envelopes gets {_listed(scores)})" if scores else ""


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
