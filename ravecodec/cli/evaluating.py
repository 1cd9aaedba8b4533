"""`ravecodec eval`."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ravecodec import zoo
from ravecodec.cli import console, sentences
from ravecodec.cli.options import (
    Numbers,
    device_option,
    json_option,
    model_option,
    one_per_core,
    quiet_option,
    ray_option,
    threads_option,
    threads_or_default,
    verbose_option,
)
from ravecodec.cli.progress import Counter
from ravecodec.cluster import Cluster, check_address
from ravecodec.errors import UsageError
from ravecodec.machine import usable_cores

if TYPE_CHECKING:
    from ravecodec.evaluate.comparing import Comparison
    from ravecodec.evaluate.results import Metric, Results

NEEDED = ("jinja2", "matplotlib", "pyloudnorm", "bjontegaard", "scipy", "yaml")
RESULTS, ITEMS, PAGE = "results.json", "items.csv", "index.html"


@click.command("eval")
@click.argument("paths", metavar="AUDIO...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="REPORT",
    type=click.Path(path_type=Path),
    help="Folder of the report; a second call goes on.",
)
@click.option(
    "--model",
    "models",
    metavar="MODEL",
    multiple=True,
    help="Model to evaluate; may be given several times.",
)
@click.option(
    "--anchors",
    default="opus,mp3,lowpass",
    metavar="NAMES",
    help="opus, opus-stereo, mp3, lowpass; with the extra [anchors] also opus-60ms, aac. Default: "
    "opus,mp3,lowpass.",
)
@click.option(
    "--steps",
    type=Numbers(int),
    metavar="G,...",
    help="Quantiser steps to measure; default: five around the model's.",
)
@click.option(
    "--fidelity",
    "fidelities",
    type=Numbers(float),
    metavar="F,...",
    help="Measure the steps with each of these fidelities, 0 to 1 (see encode --fidelity). "
    "Default: the steps with the model's own dims, and four fidelities at its own step.",
)
@click.option(
    "--effort",
    "efforts",
    type=Numbers(int),
    metavar="N,...",
    help="Measure the steps at these levels of effort, too (see encode --effort).",
)
@click.option(
    "--items",
    type=click.IntRange(1),
    default=24,
    metavar="N",
    help="Number of excerpts; default 24.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 60),
    default=10.0,
    metavar="S",
    help="Length of an excerpt; default 10.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, metavar="N", help="Chooses the files; default 0."
)
@click.option("--speech", is_flag=True, help="Score as speech, too.")
@click.option(
    "--speed/--no-speed", default=True, help="Measure the speed of encode and decode (default)."
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="Processes of one thread; default one per core, or as many as a cluster has room for.",
)
@ray_option
@click.option(
    "--embed-audio",
    "embed",
    type=click.IntRange(0),
    default=2,
    metavar="N",
    help="Excerpts whose audio is inside the page, not beside it; default 2.",
)
@click.option(
    "--mushra",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write a listening test for webMUSHRA into this folder, too.",
)
@click.option(
    "--mushra-key",
    metavar="KEY",
    type=click.Path(path_type=Path, exists=True),
    help="Evaluate nothing: AUDIO is the answers of listeners, KEY the test's key.json.",
)
@click.option(
    "--plot",
    is_flag=True,
    help="Evaluate nothing: AUDIO is results.json files, drawn as one page in REPORT.",
)
@click.option(
    "-f",
    "--force",
    is_flag=True,
    help="Write into REPORT though it holds other files, or another report.",
)
@quiet_option
@verbose_option
@json_option
def evaluate(
    paths: tuple[Path, ...],
    out: Path | None,
    models: tuple[str, ...],
    embed: int,
    mushra: Path | None,
    mushra_key: Path | None,
    plot: bool,
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Measure rate and quality, and write a report.

    AUDIO is files and folders. Excerpts of them are coded by every MODEL at several points, by the
    anchors, and scored; REPORT receives index.html, results.json, items.csv and the audio. Exits
    with 1 if files had to be left out.

    \b
    Examples:
      ravecodec eval music/ --model default --out report
      ravecodec eval music/ --model default --model mine.safetensors --anchors opus --out report
      ravecodec eval --plot one/results.json two/results.json --out both
      ravecodec eval music/ --model default --out report --mushra listening
      ravecodec eval --mushra-key listening/key.json answers.csv
    """
    _check_extra()
    if not paths:
        raise UsageError("eval: expected AUDIO, files or folders")
    if options["ray"] is not None:
        check_address(options["ray"])
    if mushra_key is not None:
        return _score_listeners(mushra_key, paths, as_json=as_json)
    if out is None:
        raise UsageError("eval: expected --out REPORT, the folder of the report")
    if mushra is not None:
        _check_listening(mushra, options["seconds"])
    from ravecodec.evaluate.folder import MEASURED, PLOTTED, check_folder, mark

    if plot:
        _check_inputs(paths, out)
    check_folder(out, PLOTTED if plot else MEASURED, force=force)
    if plot:
        results = _merged(paths)
        mark(out, PLOTTED)
    else:
        results = _measured(paths, out, models, quiet=quiet, **options)
    _write(results, out, 0 if plot else embed)
    if mushra is not None:
        from ravecodec.evaluate.listening_kit import write_kit
        from ravecodec.evaluate.page.series import for_listeners

        write_kit(results, out / "audio", mushra, for_listeners(results), seed=options["seed"])
    if as_json:
        console.emit_json({"report": str(out / PAGE), "results": results.compact()})
    elif not quiet:
        console.emit(str(out / PAGE))
    return int(bool(results.unreadable) and not plot)


def _check_extra() -> None:
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UsageError(
            f"eval needs {missing[0]}, which is not installed: `pip install 'ravecodec[eval]'`"
        )


def _measured(
    paths: tuple[Path, ...],
    out: Path,
    models: tuple[str, ...],
    *,
    quiet: bool,
    anchors: str,
    jobs: int | None,
    ray: str | None,
    **options: Any,
) -> Results:
    if "aac" in anchors or "60ms" in anchors:
        _check_av()
    from ravecodec.evaluate.evaluation import Request, evaluate, without_folders
    from ravecodec.evaluate.measures.scores import absent

    if missing := absent():
        console.say(
            f"warning: no {', '.join(missing)}, so their scores are missing: `pip install "
            "'ravecodec[eval]'`"
        )
    entries = {entry.digest: entry for entry in map(zoo.find_model, models)}
    names = tuple(name.strip() for name in anchors.split(",") if name.strip())
    command = shlex.join(["ravecodec", *without_folders(sys.argv[1:])])
    cluster, count = None, 1
    if ray is not None:
        cluster = Cluster(ray, jobs)
    else:
        count = usable_cores() if jobs is None else one_per_core(jobs, "processes")
    request = Request(
        paths,
        tuple(entries.values()),
        out,
        names,
        jobs=count,
        cluster=cluster,
        command=command,
        **options,
    )
    with Counter(quiet=quiet) as counter:
        return evaluate(request, counter, console.say)


def _check_listening(folder: Path, seconds: float) -> None:
    """Before hours of work, what would end the listening test."""
    from ravecodec.evaluate.listening_kit import MOST_SECONDS, check_empty

    if seconds > MOST_SECONDS:
        raise UsageError(
            f"--mushra: excerpts of {seconds:g} s; expected --seconds of at most {MOST_SECONDS:g}"
        )
    check_empty(folder)


def _check_inputs(paths: tuple[Path, ...], out: Path) -> None:
    """UsageError where drawing into `out` would write over what is to be drawn, or beside it."""
    for path in paths:
        if path.resolve().parent == out.resolve():
            raise UsageError(
                f"{out}: is the folder of the input {path}, expected another one for the page of "
                "all"
            )
        for name in (RESULTS, ITEMS, PAGE):
            target = out / name
            if target.exists() and path.exists() and target.samefile(path):
                raise UsageError(
                    f"{target}: is the input file itself ({path}), expected another folder"
                )


def _check_av() -> None:
    if find_spec("av") is None:
        raise UsageError("opus-60ms and aac need PyAV: `pip install 'ravecodec[anchors]'`")


def _merged(paths: tuple[Path, ...]) -> Results:
    from ravecodec.evaluate.results import Results, merge

    return merge([Results.load(path) for path in paths])


def _write(results: Results, out: Path, embed: int) -> None:
    """The report, from the results alone."""
    from ravecodec.evaluate.page.report import write_page
    from ravecodec.files import write_file

    results.save(out / RESULTS)
    write_file(out / ITEMS, results.to_csv().encode())
    write_page(results, out, embed)


def _score_listeners(key: Path, paths: tuple[Path, ...], *, as_json: bool) -> int:
    from ravecodec.evaluate.listening import score_kit

    if len(paths) != 1:
        raise UsageError(f"eval --mushra-key: expected one file of answers, found {len(paths)}")
    scores = score_kit(key, paths[0])
    if as_json:
        console.emit_json(scores)
    else:
        console.emit(scores.table())
    return 0


@click.command()
@click.argument("reference", metavar="A")
@click.argument("decoded", metavar="B")
@click.option("--speech", is_flag=True, help="Score as speech, too.")
@model_option("Model for streams; default: the one that made each.")
@device_option
@threads_option
@quiet_option
@verbose_option
@json_option
def compare(
    reference: str,
    decoded: str,
    speech: bool,
    model: str | None,
    device: str,
    threads: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Score one file against another, without a report.

    A is the original, B what became of it; each is an audio file or an .rvc stream, which is
    decoded first. The scores are those of `ravecodec eval`, over the whole of both files.

    \b
    Examples:
      ravecodec compare song.flac song.rvc
      ravecodec compare song.flac song.opus --json | jq .scores.visqol
    """
    from ravecodec.evaluate.comparing import compare_files

    threads = threads_or_default(threads)
    compared = compare_files(
        reference, decoded, speech=speech, model=model, device=device, threads=threads
    )
    if as_json:
        console.emit_json(compared)
    else:
        console.emit(_compared_text(compared))
    console.warn(() if quiet else compared.remarks)
    if compared.absent and not quiet:
        more = " pesq" if "pesq" in compared.absent else ""  # which no extra has
        console.say(
            f"warning: not installed, so their scores are missing: {', '.join(compared.absent)} "
            f"(`pip install 'ravecodec[eval]'{more}`)"
        )


def _compared_text(compared: Comparison) -> str:
    """A line for each of the two and for each score."""
    from ravecodec.evaluate.measures.scores import METRICS

    rows = []
    for label, side in (("A", compared.reference), ("B", compared.decoded)):
        cost = f", {side.kbps:.3f} kbit/s" if side.kbps is not None else ""
        form = sentences.sound(side.sample_rate, side.channels)
        seconds = side.samples / side.sample_rate
        rows.append(console.printable(f"{label}  {side.name}: {seconds:.3f} s of {form}{cost}"))
    if compared.delay:
        rows.append(f"   B is {1000 * compared.delay:.2f} ms late, which is undone")
    for metric in METRICS:
        if metric.id in compared.scores:
            value = f"{compared.scores[metric.id]:10.3f} {metric.unit}".rstrip()
            rows.append(f"   {metric.label:<32} {value}{_remark(metric)}")
    return "\n".join(rows)


def _remark(metric: Metric) -> str:
    """What a value of a score means, in brackets."""
    if metric.diagnostic:
        return "  (no measure of quality)"
    return f"  ({metric.better} is better)" if metric.better else ""
