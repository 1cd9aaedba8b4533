"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ravecodec.cli import console

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _set_verbose(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.find_root().ensure_object(console.State).verbose = True


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


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
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
    help="Take what is there of audio that is truncated or announces a wrong length.",
)
keep_time_option = click.option(
    "--keep-time", is_flag=True, help="Give the output the time of change that its input has."
)
part_options = options(
    click.option(
        "--start", metavar="TIME", help="Begin here: h:m:s, seconds, or samples (48000s)."
    ),
    click.option("--end", metavar="TIME", help="End here; default: at the end."),
    click.option(
        "--duration", metavar="TIME", help="End so much behind the start, instead of --end."
    ),
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="CPU threads; default one per core, 8 at most.",
)
transcode_options = options(
    force_option, device_option, threads_option, quiet_option, verbose_option, json_option
)
encode_options = options(  # where -q is --quality
    force_option,
    device_option,
    threads_option,
    click.option("-Q", "--quiet", is_flag=True, help="Say nothing but errors."),
    verbose_option,
    json_option,
)
examine_options = options(quiet_option, verbose_option, json_option)
