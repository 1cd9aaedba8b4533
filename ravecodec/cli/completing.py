"""What a shell offers at TAB: click completes commands, options and choices by itself; here, names
of files and of models.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from ravecodec.errors import RavecodecError

_FILES = frozenset(("FILE...", "FILE", "IN", "OUT", "IN... OUT", "A", "B", "OTHER"))


class FileName(StringParamType):
    """Any text; a shell offers files."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """One item, which tells the shell to look for files."""
        return [CompletionItem(incomplete, type="file")]


class ModelName(StringParamType):
    """Any text; a shell offers the names of installed models, and files where none fits."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that begin so."""
        from ravecodec.zoo import list_models

        try:
            names = sorted({entry.name for entry in list_models()})
        except (RavecodecError, OSError):  # nobody wants to read that at TAB
            names = []
        matching = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return matching or [CompletionItem(incomplete, type="file")]


def offer_names(command: click.Command) -> None:
    """Gives every parameter of a command, and of those below it, the type by which its names are
    offered; what is taken stays what it was.
    """
    for parameter in command.params:
        if type(parameter.type) is StringParamType and parameter.metavar in _FILES:
            parameter.type = FileName()
        elif type(parameter.type) is StringParamType and parameter.metavar in ("MODEL", "[MODEL]"):
            parameter.type = ModelName()
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        offer_names(each)
