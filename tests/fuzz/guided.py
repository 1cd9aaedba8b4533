"""The targets of fuzz.py guided by coverage: python tests/fuzz/guided.py TARGET CORPUS [options of
libFuzzer].

Needs atheris (`pip install 'ravecodec[fuzz]'`). What is found is written as `crash-...` into the
current folder; what reaches new code is kept in CORPUS.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ravecodec"]):
    import fuzz

    if sys.argv[1:2] in (
        ["model"],
        ["decode"],
    ):  # what these targets import when they run, torch's own code left out
        from ravecodec import analysis, codec, decoding, encoding, zoo  # noqa: F401
        from ravecodec.models import header, package, size  # noqa: F401

SIZE = f"-max_len={fuzz.LARGEST}"


def main() -> None:
    """Runs until libFuzzer ends the process."""
    name, corpus, *options = sys.argv[1:]
    target, change = fuzz.TARGETS[name]
    start, words = fuzz.seeds(name), fuzz.dictionary()
    Path(corpus).mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(start):
        (Path(corpus) / f"seed-{number}").write_bytes(data)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)
        try:
            return change(data, draw, words)[:most]
        except (ValueError, TypeError, LookupError, AttributeError):  # no model file any more
            return change(start[0], draw, words)[:most]

    limits = [SIZE, f"-timeout={fuzz.SECONDS}", "-rss_limit_mb=3072"]
    atheris.Setup(
        [sys.argv[0], corpus, *limits, *options],
        lambda data: fuzz.check(target, data),
        custom_mutator=mutate,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
