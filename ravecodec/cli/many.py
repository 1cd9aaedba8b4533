"""What the commands that take many files have in common: which call means what, one line per file,
totals.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import click

from ravecodec import batch
from ravecodec.batch import (
    DONE,
    FAILED,
    SKIPPED,
    Cluster,
    DecodeWork,
    EncodeWork,
    Item,
    Manifest,
    Outcome,
    Totals,
    TransferWork,
    Wish,
)
from ravecodec.cli import console
from ravecodec.cli.options import options
from ravecodec.cluster import AUTO, check_address
from ravecodec.errors import OutputError, UsageError
from ravecodec.files import STDIO, check_source, held_folder, is_stdio
from ravecodec.pool import Work

PLANNED = "planned"  # what a dry run says in place of done
BUSY = "another call keeps its manifest in this folder; wait for it, or name another (--manifest)"
recursive_option = click.option(
    "-r",
    "--recursive",
    is_flag=True,
    help="Go through folders and what is below them, hidden files excepted.",
)
jobs_option = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="Processes for several files; see docs/cli.md.",
)
ray_option = click.option(
    "--ray",
    is_flag=False,
    flag_value=AUTO,
    metavar="[ADDRESS]",
    help="Do the work on a Ray cluster: the one that this machine belongs to, or --ray=HOST:PORT, "
    "or --ray=local; see docs/scale.md. Needs the extra ray.",
)
many_options = options(
    click.option(
        "-o",
        "--output",
        metavar="OUT",
        help="File to write, or folder for the outputs of several files.",
    ),
    click.option("-c", "--stdout", is_flag=True, help="Write to standard output, as -o - does."),
    recursive_option,
    jobs_option,
    ray_option,
    click.option("--skip-existing", is_flag=True, help="Leave outputs that exist as they are."),
    click.option(
        "--newer", is_flag=True, help="Write outputs that are missing or older than their inputs."
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing."),
    click.option(
        "--manifest",
        metavar="FILE",
        help="Record of what was done; default: manifest.jsonl in the output.",
    ),
    click.option(
        "--no-manifest",
        is_flag=True,
        help="Several files leave no record; a stopped call starts over.",
    ),
)


@dataclass(frozen=True)
class Choices:
    """The options above, as given."""

    output: str | None = None
    recursive: bool = False
    jobs: int | None = None
    ray: str | None = None
    skip_existing: bool = False
    newer: bool = False
    dry_run: bool = False
    manifest: str | None = None
    no_manifest: bool = False
    force: bool = False

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Self:
        """Takes them out of a command's options, all but `force`.

        UsageError for those that exclude each other.
        """
        force = options["force"]
        if options.pop("stdout"):
            if options["output"] is not None:
                raise UsageError("--stdout and --output are given; expected one of them")
            options["output"] = STDIO
        names = [each.name for each in dataclasses.fields(cls) if each.name != "force"]
        choices = cls(**{name: options.pop(name) for name in names}, force=force)
        wishes = {
            "--force": force,
            "--skip-existing": choices.skip_existing,
            "--newer": choices.newer,
        }
        if len(given := [name for name, wish in wishes.items() if wish]) > 1:
            raise UsageError(f"{' and '.join(given)} are given; expected one of them")
        if choices.manifest is not None and choices.no_manifest:
            raise UsageError("--manifest and --no-manifest are given; expected one of them")
        if choices.ray is not None:
            check_address(choices.ray)
        return choices

    @property
    def plain(self) -> bool:
        """Whether nothing is wished that only many files need."""
        return dataclasses.replace(self, output=None, force=False, no_manifest=False) == Choices()


@dataclass(frozen=True)
class Kind:
    """What a command makes of what. made: suffixes that an output may have, the default first.
    taken: suffixes that an input has, and an output has not. found: those that are looked for in
    folders, `what` they are in words."""

    command: str
    made: tuple[str, ...]
    taken: frozenset[str]
    found: frozenset[str]
    what: str
    name: Callable[[str], str]


# ---- which call means what -----------------------------------------------------------------------


def single(kind: Kind, files: Sequence[str], choices: Choices) -> tuple[str, str] | None:
    """(IN, OUT) of a call with one input, None of one with several.

    Raises:
        UsageError, OutputError: it is not certain what is meant; the sentence names the calls that
        are.
    """
    check_source(files[0])
    if (
        choices.output is not None
        and is_stdio(choices.output)
        and (choices.recursive or len(files) > 1)
    ):
        raise UsageError(
            f"standard output takes one file, expected one input and not {' '.join(files)}"
        )
    if choices.recursive:
        _check_last_exists(kind, files, choices)
        return None
    if choices.output is not None:
        return _with_output(kind, files, choices.output)
    if len(files) == 1:
        batch.check_kind(files[0], stream=kind.command == "decode")
        return files[0], STDIO if is_stdio(files[0]) else kind.name(files[0])
    if len(files) == 2:
        return _in_and_out(kind, *files)
    for each in files:
        if _suffix(each) in kind.made:
            example = f"`ravecodec {kind.command} IN {each}` or, for several inputs, `-o FOLDER`"
            raise UsageError(
                f"{each}: is named like an output among {len(files)} files, expected {example}"
            )
    return None


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def is_folder(name: str) -> bool:
    """Whether a name is that of a folder, which need not exist where it ends like one."""
    return name.endswith(("/", os.sep)) or os.path.isdir(name)


def _check_last_exists(kind: Kind, files: Sequence[str], choices: Choices) -> None:
    """For whoever means the last one as the output."""
    *others, last = files
    if others and choices.output is None and not os.path.lexists(last):
        meant = f"`ravecodec {kind.command} -r {' '.join(others)} -o {last}`"
        raise UsageError(
            f"{last}: does not exist, expected a file or folder to read ({meant} writes there)"
        )


def _with_output(kind: Kind, files: Sequence[str], output: str) -> tuple[str, str] | None:
    if len(files) > 1:
        return None
    source = files[0]
    if is_stdio(output) or os.path.isdir(source):
        return source, output
    if is_folder(output):
        if is_stdio(source):
            raise UsageError(f"{output}: is a folder, expected a file for standard input")
        return source, kind.name(os.path.join(output, os.path.basename(source)))
    if _suffix(output) in kind.taken:
        raise UsageError(
            f"{output}: has the extension of an input, expected {' or '.join(kind.made)} as output"
        )
    if not _suffix(output):
        folder = os.path.join(output, "")
        raise UsageError(
            f"{output}: may be a file or a folder, expected {output}{kind.made[0]} or {folder}"
        )
    return source, output


def _in_and_out(kind: Kind, source: str, target: str) -> tuple[str, str] | None:
    if is_stdio(source) or is_stdio(target):
        return source, target
    command = f"ravecodec {kind.command}"
    if is_folder(target) and not os.path.isdir(source):
        into = f"(`{command} {source} -o {target}` writes into it)"
        if os.path.isdir(target):
            raise OutputError(f"{target}: is a folder, expected the name of a file {into}")
        raise OutputError(
            f"{target}: is the name of a folder, expected that of a file in it {into}"
        )
    if _suffix(target) in kind.taken:
        if os.path.isfile(target):
            return None
        calls = (
            f"`{command} {source} -o NAME{kind.made[0]}`, or `{command} FILE... -o FOLDER` for "
            "several"
        )
        raise UsageError(
            f"{target}: has the extension of an input and does not exist, expected {calls}"
        )
    return source, target


# ---- the work ------------------------------------------------------------------------------------


def items_of(
    kind: Kind, files: Sequence[str], pair: tuple[str, str] | None, choices: Choices
) -> tuple[list[Item], list[Outcome]]:
    """All files of a call, and what is wrong with its folders."""
    if pair is not None and (is_stdio(pair[0]) or is_stdio(pair[1])):
        raise UsageError("- is a pipe, expected files where there are options for many")
    if pair is not None and not os.path.isdir(pair[0]):
        return [Item(*pair, os.stat(pair[0]).st_size if os.path.isfile(pair[0]) else 0)], []
    if choices.output is not None and os.path.isfile(choices.output):
        raise OutputError(
            f"{choices.output}: is no folder, expected one for the outputs of several files"
        )
    return batch.collect(
        files,
        suffixes=kind.found,
        what=kind.what,
        recursive=choices.recursive,
        name=kind.name,
        output=choices.output,
    )


def transcode_many(
    work: EncodeWork | DecodeWork | TransferWork,
    items: Sequence[Item],
    problems: Sequence[Outcome],
    choices: Choices,
    call: Mapping[str, Any],
    *,
    kind: Kind,
    describe: Callable[[Any], str],
    quiet: bool,
    as_json: bool,
) -> int:
    """Encodes, decodes or transfers all items and returns the exit code.

    call: what decides the outputs, for the manifest. describe: the line that tells of a file's
    summary.
    """
    report = Report(
        kind.command, describe, quiet=quiet, as_json=as_json, line=console.say, dry=choices.dry_run
    )
    with ExitStack() as stack:
        manifest = None
        if (path := _manifest_path(items, choices)) is not None:
            if not choices.dry_run:
                stack.enter_context(held_folder(Path(os.path.abspath(path)).parent, BUSY))
            manifest = Manifest(path, kind.command, call)
            stack.callback(manifest.close)
        wish = Wish(choices.force, choices.skip_existing, choices.newer)
        waiting, settled = batch.sort_out(items, wish, manifest)
        report.begin(waiting)
        for outcome in (*problems, *settled):
            report.add(outcome)
        if choices.dry_run:
            for outcome in batch.rehearse(waiting, stream=kind.command == "decode"):
                report.rehearse(outcome)
        else:
            cluster = cluster_of(choices.ray, choices.jobs, work.device)
            if cluster and work.device == "auto":  # GPUs are counted where they are asked for
                work = dataclasses.replace(work, device="cpu")
            jobs = 1 if cluster else console.jobs_or_default(choices.jobs, work.device)
            report.run(work, waiting, jobs, work.threads, manifest, cluster)
    return report.end()


def cluster_of(ray: str | None, jobs: int | None, device: str) -> Cluster | None:
    """The cluster that is wished; a device other than the CPU needs a GPU for each worker."""
    return None if ray is None else Cluster(ray, jobs, gpu=device not in ("auto", "cpu"))


def _manifest_path(items: Sequence[Item], choices: Choices) -> str | None:
    """Where several files leave their record, or where one is asked for."""
    if choices.manifest is not None:
        return choices.manifest
    if choices.no_manifest or not (choices.recursive or len(items) > 1):
        return None
    folder = choices.output if choices.output is not None else batch.common_folder(items)
    return os.path.join(folder, batch.MANIFEST)


def threads_of(choices: Choices, threads: int | None) -> int | None:
    """Threads of each process: one, unless one process is wished or another number."""
    return console.threads_or_default(threads) if threads is not None or choices.jobs == 1 else 1


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
        self._overview = console.Overview(command, [], quiet=True)
        self._failed: list[str] = []
        self.totals = Totals()

    def begin(self, waiting: Sequence[Item]) -> None:
        """These files will be worked on."""
        self._overview = console.Overview(self._command, waiting, quiet=self._quiet or self._dry)

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
        batch_of = batch.run_batch(
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
                console.say(f"{done} files are done; the same call goes on with the others")
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
            console.emit_afterwards(console.as_json(self._object(outcome), None))
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
        if isinstance(outcome.summary, batch.Verification):
            return console.failed(outcome.summary)
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
            console.emit_afterwards(console.as_json({"totals": totals}, None))
        if self._quiet:
            return
        if self._dry:
            console.say(
                f"{self.totals.done} of {self.totals.files} files would be written; nothing was"
            )
        elif not self._as_json:
            console.say(console.added_up(self.totals))
        if self._failed:
            console.say(f"{len(self._failed)} of {self.totals.files} files failed:")
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
    items, problems = batch.collect(files, suffixes={".rvc"}, what="streams", recursive=recursive)
    piped = any(is_stdio(item.source) for item in items)
    report.begin(items)
    for outcome in problems:
        report.add(outcome)
    if piped and ray is not None:
        raise UsageError("- is a pipe, expected files for a cluster")
    cluster = cluster_of(ray, jobs, "cpu")
    alone = piped or jobs is None or cluster
    jobs = 1 if alone else console.jobs_or_default(jobs, "cpu")
    report.run(work, items, jobs, 1, None, cluster)
    return report.end()
