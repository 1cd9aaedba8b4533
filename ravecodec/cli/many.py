"""What the commands that take many files do: with one of them, or with all, of which they tell one
line per file, totals, and what failed.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from ravecodec.batch.items import (
    DONE,
    FAILED,
    SKIPPED,
    Item,
    Outcome,
    Totals,
    collect,
    common_folder,
)
from ravecodec.batch.manifest import MANIFEST, Manifest
from ravecodec.batch.run import Wish, rehearse, run_batch, sort_out
from ravecodec.cli import console, sentences
from ravecodec.cli.arguments import Choices, Kind, items_of
from ravecodec.cli.options import jobs_or_default, threads_or_default
from ravecodec.cli.progress import Meter, Overview
from ravecodec.cluster import Cluster
from ravecodec.errors import UsageError
from ravecodec.examine import Verification
from ravecodec.files import held_folder, is_stdio
from ravecodec.point import Point
from ravecodec.pool import Work
from ravecodec.zoo import find_model

PLANNED = "planned"  # what a dry run says in place of done
BUSY = "another call keeps its manifest in this folder; wait for it, or name another (--manifest)"


def transcode_one(
    kind: Kind, source: str, target: str, options: dict[str, Any], *, quiet: bool, as_json: bool
) -> Any:
    """Does one file, shows how far it is, and returns the summary."""
    console.check_json_output(target, as_json)
    options["threads"] = threads_or_default(options["threads"])
    with Meter(kind.command, quiet=quiet) as meter:
        return kind.do(source, target, progress=meter, **options)


def transcode_many(
    kind: Kind,
    files: Sequence[str],
    pair: tuple[str, str] | None,
    choices: Choices,
    options: dict[str, Any],
    work: Callable[..., Work[Item, Outcome]],
    *,
    point: Point | None = None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Does several inputs, or one with options that are for several, and returns the exit code.

    work: makes the work of a process from the model, options, device and threads. point: of the
    one model that does all; None where each stream names its own.
    """
    items, problems = items_of(kind, files, pair, choices)
    model, model_id = _model_of(options.pop("model"), point, choices)
    device, threads = options.pop("device"), _threads_of(choices, options.pop("threads"))
    del options["force"]
    call = {**options, "model": model_id, "device": device}  # what decides the outputs
    report = Report(
        kind.command,
        kind.describe,
        quiet=quiet,
        as_json=as_json,
        line=console.say,
        dry=choices.dry_run,
    )
    with ExitStack() as stack:
        manifest = None
        if (path := _manifest_path(items, choices)) is not None:
            if not choices.dry_run:
                stack.enter_context(held_folder(Path(os.path.abspath(path)).parent, BUSY))
            manifest = Manifest(path, kind.command, call)
            stack.callback(manifest.close)
        wish = Wish(choices.force, choices.skip_existing, choices.newer)
        waiting, settled = sort_out(items, wish, manifest)
        report.begin(waiting)
        for outcome in (*problems, *settled):
            report.add(outcome)
        if choices.dry_run:
            for outcome in rehearse(waiting, stream=kind.command == "decode"):
                report.rehearse(outcome)
        else:
            cluster = _cluster_of(choices.ray, choices.jobs, device)
            jobs = 1 if cluster else jobs_or_default(choices.jobs, device)
            if cluster and device == "auto":  # GPUs are counted where they are asked for
                device = "cpu"
            each = work(model, options, device, threads)
            report.run(each, waiting, jobs, threads, manifest, cluster)
    return report.end()


def _model_of(
    wanted: str | None, point: Point | None, choices: Choices
) -> tuple[Path | str | None, str | None]:
    """A model as processes find it, and as a manifest names it; `point` must make sense with it."""
    if point is None:
        if wanted is not None:
            find_model(wanted)
        return wanted, wanted
    entry = find_model(wanted)
    point.check(entry.name, entry.config.latent)
    digest = entry.digest.hex()
    return (entry.path if choices.ray is None else digest), digest


def _cluster_of(ray: str | None, jobs: int | None, device: str) -> Cluster | None:
    """The cluster that is wished; a device other than the CPU needs a GPU for each worker."""
    return None if ray is None else Cluster(ray, jobs, gpu=device not in ("auto", "cpu"))


def _manifest_path(items: Sequence[Item], choices: Choices) -> str | None:
    """Where several files leave their record, or where one is asked for."""
    if choices.manifest is not None:
        return choices.manifest
    if choices.no_manifest or not (choices.recursive or len(items) > 1):
        return None
    folder = choices.output if choices.output is not None else common_folder(items)
    return os.path.join(folder, MANIFEST)


def _threads_of(choices: Choices, threads: int | None) -> int | None:
    """Threads of each process: one, unless one process is wished or another number."""
    return threads_or_default(threads) if threads is not None or choices.jobs == 1 else 1


class Report:
    """One line per file, totals, and what failed once more at the end."""

    def __init__(
        self,
        command: str,
        describe: Callable[[Any], str],
        *,
        quiet: bool,
        as_json: bool,
        line: Callable[[str], None],
        plain_json: bool = False,
        dry: bool = False,
    ) -> None:
        self._command = command
        self._describe = describe
        self._quiet = quiet
        self._as_json = as_json
        self._line = line
        self._plain_json = plain_json
        self._dry = dry
        self._began = time.perf_counter()
        self._overview = Overview(command, [], quiet=True)
        self._failed: list[str] = []
        self.totals = Totals()

    def begin(self, waiting: Sequence[Item]) -> None:
        """These files will be worked on."""
        self._overview = Overview(self._command, waiting, quiet=self._quiet or self._dry)

    def run(
        self,
        work: Work[Item, Outcome],
        items: Sequence[Item],
        jobs: int,
        threads: int | None,
        manifest: Manifest | None,
        cluster: Cluster | None = None,
    ) -> None:
        """Does the work and tells of it; says how far it came where it is interrupted."""
        if not items:
            return
        hear = self._overview.hear if self._overview.shown else None
        jobs = min(jobs, len(items))
        batch_of = run_batch(
            work,
            items,
            jobs=jobs,
            threads=threads or 1,
            manifest=manifest,
            hear=hear,
            cluster=cluster,
        )
        try:
            with self._overview, closing(batch_of) as outcomes:
                for outcome in outcomes:
                    self.add(outcome)
        except BaseException as error:
            if manifest is not None and not isinstance(error, Exception) and not self._quiet:
                done = self.totals.done + self.totals.skipped
                are = "is" if done == 1 else "are"
                files = sentences.counted(done, "file")
                console.say(f"{files} {are} done; the same call goes on with the others")
            raise

    def add(self, outcome: Outcome) -> None:
        """Tells what became of a file."""
        self.totals.add(outcome, time.perf_counter() - self._began)
        with self._overview.aside():
            self._tell(outcome)
        if outcome.verdict != SKIPPED:
            self._overview.add(outcome.item, self.totals)

    def _tell(self, outcome: Outcome) -> None:
        if self._as_json:
            console.emit_json_afterwards(self._object(outcome), None)
        elif not self._quiet and outcome.verdict == SKIPPED:
            console.say(f"{outcome.item.source}: skipped, {outcome.error}")
        elif not self._quiet and outcome.verdict != FAILED:
            self._line(self._describe(outcome.summary))
        if outcome.exit_code:
            sentence = self._sentence(outcome)
            self._failed.append(sentence)
            console.say(sentence)
        for remark in getattr(outcome.summary, "remarks", ()) if not self._quiet else ():
            at = "" if outcome.item.source in remark else f"{outcome.item.source}: "
            console.say(f"warning: {at}{remark}")

    def _sentence(self, outcome: Outcome) -> str:
        if isinstance(outcome.summary, Verification):
            return sentences.failed(outcome.summary)
        return f"error: {outcome.error}"

    def _object(self, outcome: Outcome) -> Any:
        item = outcome.item
        if self._plain_json:
            return outcome.summary or {
                "name": item.source,
                "error": outcome.error,
                "exit_code": outcome.exit_code,
            }
        verdict = PLANNED if self._dry and outcome.verdict == DONE else outcome.verdict
        head = {
            "input": item.source,
            "output": item.target,
            "verdict": verdict,
            "error": outcome.error,
        }
        summary = dataclasses.asdict(outcome.summary) if outcome.summary else None
        tail = {"sha256": outcome.sha256, "seconds": outcome.seconds, "summary": summary}
        return {**head, "exit_code": outcome.exit_code, **tail}

    def rehearse(self, outcome: Outcome) -> None:
        """Tells what would become of a file."""
        if outcome.exit_code or self._as_json:
            self.add(outcome)
            return
        self.totals.add(outcome, time.perf_counter() - self._began)
        if not self._quiet:
            console.say(f"{outcome.item.source} would become {outcome.item.target}")

    def end(self) -> int:
        """Tells the totals and what failed; returns the exit code."""
        self._tell_totals()
        return self.totals.exit_code

    def _tell_totals(self) -> None:
        if self._as_json:
            totals = dataclasses.asdict(self.totals) | {
                "exit_codes": sorted(self.totals.exit_codes)
            }
            console.emit_json_afterwards({"totals": totals}, None)
        if self._quiet:
            return
        if self._dry:
            files = sentences.counted(self.totals.files, "file")
            console.say(f"{self.totals.done} of {files} would be written; nothing was")
        elif not self._as_json:
            console.say(sentences.added_up(self.totals))
        if self._failed:
            files = sentences.counted(self.totals.files, "file")
            console.say(f"{len(self._failed)} of {files} failed:")
            for sentence in self._failed:
                console.say(f"  {sentence}")


def examine_many(
    report: Report,
    work: Work[Item, Outcome],
    files: Sequence[str],
    recursive: bool,
    jobs: int | None,
    ray: str | None = None,
) -> int:
    """Looks at all streams that are meant, tells of each, and returns the exit code."""
    items, problems = collect(files, suffixes={".rvc"}, what="streams", recursive=recursive)
    piped = any(is_stdio(item.source) for item in items)
    report.begin(items)
    for outcome in problems:
        report.add(outcome)
    if piped and ray is not None:
        raise UsageError("- is a pipe, expected files for a cluster")
    cluster = _cluster_of(ray, jobs, "cpu")
    alone = piped or jobs is None or cluster
    jobs = 1 if alone else jobs_or_default(jobs, "cpu")
    report.run(work, items, jobs, 1, None, cluster)
    return report.end()
