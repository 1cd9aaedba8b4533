"""Options and arguments that several commands share, and what the numbers of processes and threads
come to.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from ravecodec.bitstream.limits import MAX_SEED
from ravecodec.cli.console import say
from ravecodec.cli.exits import State
from ravecodec.cluster import AUTO
from ravecodec.machine import bounded_threads, usable_cores
from ravecodec.models.config import MOST_EFFORT

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

MOST_THREADS = 8  # more do not make these networks faster
SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}  # of --bits


def _set_verbose(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.find_root().ensure_object(State).verbose = True


def options(*options: Decorator) -> Decorator:
    """Several options as one decorator, shown in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


class Numbers(click.ParamType):
    """Numbers behind commas."""

    name = "numbers"

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        try:
            return tuple(self._kind(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}; expected numbers with commas between them", param, ctx)


def model_option(help: str) -> Decorator:
    """--model, which is found by name, file or id."""
    return click.option("--model", metavar="MODEL", help=help)


def seed_option(help: str) -> Decorator:
    """--seed of what a decoder draws at random."""
    return click.option(
        "--seed", type=click.IntRange(0, MAX_SEED), default=0, metavar="N", help=help
    )


def dims_option(help: str) -> Decorator:
    """--dims, a number of latent axes."""
    return click.option("--dims", type=int, metavar="N", help=help)


def effort_option(help: str) -> Decorator:
    """--effort, a level of what the encoder tries."""
    return click.option("--effort", type=click.IntRange(0, MOST_EFFORT), metavar="N", help=help)


files_argument = click.argument("files", metavar="FILE...", nargs=-1, required=True)
in_and_out = options(
    click.argument("source", metavar="IN"), click.argument("target", metavar="OUT")
)
sound_options = options(  # of a model through which audio is played
    model_option("Model of the sound wanted: name, file or id; default: the one called default."),
    click.option(
        "--fidelity",
        type=float,
        metavar="F",
        help="Keep the fewest latent dims that carry the share F, 0 to 1, of their singular "
        "values; less gives more of the model's own sound.",
    ),
    dims_option("Keep N latent dims; default: as the model says."),
)
bits_option = click.option(
    "--bits",
    "--format",
    "subtype",
    type=click.Choice(list(SUBTYPES)),
    callback=lambda ctx, parameter, value: SUBTYPES.get(value),
    help="Samples of OUT: 16 (default) or 24 bits, or 32-bit float.",
)
soft_clip_option = click.option(
    "--soft-clip", is_flag=True, help="Bend samples beyond full scale instead of cutting them off."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_set_verbose,
    help="Show a traceback with an error (as RAVECODEC_DEBUG=1 does).",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON to standard output."
)
force_option = click.option(
    "-f", "--force", is_flag=True, help="Overwrite an existing file; write to a terminal."
)
device_option = click.option(
    "--device",
    default="auto",
    metavar="NAME",
    help="auto (default: CUDA if there is one), cpu, cuda, cuda:1, ...",
)
ignore_length_option = click.option(
    "--ignore-length",
    is_flag=True,
    help="Accept audio that is truncated or states a wrong length, as far as it goes.",
)
keep_time_option = click.option(
    "--keep-time", is_flag=True, help="Give the output the modification time of its input."
)
part_options = options(
    click.option(
        "--start", metavar="TIME", help="Begin here: h:m:s, seconds, or samples (48000s)."
    ),
    click.option("--end", metavar="TIME", help="End here; default: at the end."),
    click.option(
        "--duration", metavar="TIME", help="End this long after the start, instead of --end."
    ),
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="CPU threads; default one per core, 8 at most.",
)
recursive_option = click.option(
    "-r",
    "--recursive",
    is_flag=True,
    help="Include files in folders and their subfolders, except hidden ones.",
)
jobs_option = click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="Processes for several files; default: one per core, 8 at most (info, verify, tag: 1).",
)
ray_option = click.option(
    "--ray",
    is_flag=False,
    flag_value=AUTO,
    metavar="[ADDRESS]",
    help="Do the work on a Ray cluster: the one that this machine belongs to, or --ray=HOST:PORT, "
    "or --ray=local. Needs the extra ray.",
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
        help="Keep no record of several files; a stopped call then starts over.",
    ),
)
transcode_options = options(
    force_option, device_option, threads_option, quiet_option, verbose_option, json_option
)
encode_options = options(  # where -q is --quality
    force_option,
    device_option,
    threads_option,
    click.option("-Q", "--quiet", is_flag=True, help="Print nothing but errors."),
    verbose_option,
    json_option,
)
examine_options = options(quiet_option, verbose_option, json_option)
stream_options = options(force_option, examine_options)  # of commands that write a stream


def jobs_or_default(wanted: int | None, device: str) -> int:
    """Processes for many files: as wished, else one per usable core up to MOST_THREADS, or
    OMP_NUM_THREADS.

    A device that is named and is not the CPU gets one. More than there are cores are told and not
    used.
    """
    if wanted is not None:
        return one_per_core(wanted, "jobs")
    if device not in ("auto", "cpu"):
        return 1
    named = os.environ.get("OMP_NUM_THREADS", "")
    fitting = bounded_threads(int(named)) if named.isdigit() and int(named) else usable_cores()
    return min(fitting, MOST_THREADS)


def threads_or_default(wanted: int | None) -> int | None:
    """Threads for torch: as wished, else one per usable core up to MOST_THREADS, unless
    OMP_NUM_THREADS decides.

    More than there are cores are told and not used.
    """
    if wanted is not None:
        return one_per_core(wanted, "threads")
    if "OMP_NUM_THREADS" in os.environ:
        return None
    return min(usable_cores(), MOST_THREADS)


def one_per_core(wanted: int, what: str) -> int:
    """So many, or one per core, of which a warning tells."""
    if (used := bounded_threads(wanted)) < wanted:
        say(f"warning: {wanted} {what} are wanted; {used} are used, one per core")
    return used
