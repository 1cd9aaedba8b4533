"""A bounded run of the fuzzer: plain random mutation, always the same cases, and what once failed.

docs/reliability.md says how to run it for long, and guided by coverage.
"""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).resolve().parent
CASES = {"container": 4000, "meta": 4000, "model": 400, "decode": 60, "embedded": 200}


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    """`fuzz.py`, which is no module of a package, with the codec's blocks as they were
    afterwards.
    """
    spec = importlib.util.spec_from_file_location("ravecodec_fuzz", HERE / "fuzz.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ravecodec.analysis.BLOCK_SAMPLES", 1 << 13)
        yield module


def test_every_case_ends_in_an_error_of_ours_or_in_data(
    fuzz: ModuleType, subtests: pytest.Subtests
) -> None:
    for name in CASES:
        with subtests.test(name=name):
            ends, findings = fuzz.run(name, CASES[name], seed=1)
            assert not findings, findings[0][0]
            assert (
                ends["read"]
                and ends["ModelError" if name in ("model", "embedded") else "CorruptError"]
            )


def test_what_once_failed_does_so_no_more(fuzz: ModuleType, subtests: pytest.Subtests) -> None:
    for name in CASES:
        with subtests.test(name=name):
            for path in sorted((HERE / "corpus" / name).glob("*")):
                fuzz.check(fuzz.TARGETS[name][0], path.read_bytes())


def test_mending_gives_streams_right_checksums(fuzz: ModuleType) -> None:
    for data in fuzz.seeds("container"):
        assert fuzz.mend(data) == data
        damaged = data[:-1] + bytes([data[-1] ^ 1])
        assert fuzz.mend(damaged) == data or len(data) > 1000 or b"RVCE" in data
