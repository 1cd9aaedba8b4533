"""Many files in one call: which are to be done, and what becomes of each, on processes of this
machine (`pool.py`) or of a cluster (`cluster.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from ravecodec.batch.items import DONE, FAILED, SKIPPED, Item, Outcome
from ravecodec.batch.manifest import Manifest
from ravecodec.batch.work import check_kind, outcome_of
from ravecodec.cluster import Cluster, run_on_cluster
from ravecodec.errors import CorruptError, InputError
from ravecodec.files import check_output
from ravecodec.pool import Died, Work, run_tasks


@dataclass(frozen=True)
class Wish:
    """What is done where a target exists. force: replace it. skip: leave it. newer: replace it if
    its source is newer.

    With none of them the file fails.
    """

    force: bool = False
    skip: bool = False
    newer: bool = False


def sort_out(
    items: Iterable[Item], wish: Wish, manifest: Manifest | None = None
) -> tuple[list[Item], list[Outcome]]:
    """What is to be done, and what is done already: by an earlier call like this one, or where
    `wish` says so.
    """
    waiting, settled = [], []
    for item in items:
        record = manifest.finished(item) if manifest and not wish.force else None
        if record is not None:
            sentence = str(record.get("error", ""))
            # The only error that leaves a file: damage was concealed.
            code = CorruptError.exit_code if sentence else 0
            settled.append(
                Outcome(
                    item, SKIPPED, sentence or f"{item.target}: was made by an earlier call", code
                )
            )
        elif item.target is None or wish.force or not os.path.lexists(item.target):
            waiting.append(replace(item, replace=wish.force))
        elif manifest and manifest.begun(item):
            waiting.append(replace(item, replace=True))
        elif wish.skip or (wish.newer and not _is_newer(item.source, item.target)):
            settled.append(Outcome(item, SKIPPED, f"{item.target}: exists already"))
        else:
            waiting.append(replace(item, replace=wish.newer))
    return waiting, settled


def _is_newer(source: str, target: str) -> bool:
    try:
        return os.stat(source).st_mtime_ns > os.stat(target).st_mtime_ns
    except OSError:  # who opens it will say
        return True


def rehearse(items: Iterable[Item], *, stream: bool) -> Iterator[Outcome]:
    """What can be told of files without reading them: whether they are there, and whether the
    target can be written.

    stream: whether the sources are streams. A folder that does not exist would be made, and is none
    of the faults.
    """

    def check(item: Item) -> Outcome:
        check_kind(item.source, stream=stream)
        if not os.path.isfile(item.source):
            raise InputError(f"{item.source}: does not exist, expected a file")
        if item.target is not None and os.path.isdir(os.path.dirname(item.target) or "."):
            check_output(item.target, force=item.replace, source=item.source)
        return Outcome(item, DONE)

    for item in items:
        yield outcome_of(item, partial(check, item))


def run_batch(
    work: Work[Item, Outcome],
    items: Sequence[Item],
    *,
    jobs: int,
    threads: int = 1,
    manifest: Manifest | None = None,
    hear: Callable[[Item, float], None] | None = None,
    cluster: Cluster | None = None,
) -> Generator[Outcome, None, None]:
    """Does all items and yields what became of each, in the order in which they end; the manifest
    gets it first.

    jobs: processes, each with so many threads. hear: called with the share of a file that is done,
    now and then. cluster: do it there instead, `jobs` and `hear` do not count then. Close the
    iterator if it is left early. Raises what `work.start` raises, before anything is written.
    """
    begin = manifest.begin if manifest else lambda item: None
    if cluster is None:
        tasks = run_tasks(work, items, jobs=jobs, threads=threads, begin=begin, hear=hear)
    else:
        tasks = _on_cluster(cluster, work, items, threads, begin)
    with closing(tasks) as results:
        for item, result in results:
            outcome = result
            if isinstance(result, Died):
                outcome = Outcome(item, FAILED, f"{item.source}: {result}", 1)
            assert isinstance(outcome, Outcome)
            if manifest:
                manifest.end(outcome)
            yield outcome


def _on_cluster(
    cluster: Cluster,
    work: Work[Item, Outcome],
    items: Iterable[Item],
    threads: int,
    begin: Callable[[Item], None],
) -> Generator[tuple[Item, Outcome | Died], None, None]:
    """`cluster.run_on_cluster` of files: a second worker may replace what the first one has put in
    place, and nothing that was there before.
    """
    foreign: set[str] = set()

    def begun(item: Item) -> None:
        if item.target is not None and not item.replace and os.path.lexists(item.target):
            foreign.add(item.target)
        begin(item)

    def again(item: Item) -> Item:
        return item if item.target in foreign else replace(item, replace=True)

    return run_on_cluster(
        work,
        items,
        cluster,
        threads=threads,
        begin=begun,
        again=again,
    )
