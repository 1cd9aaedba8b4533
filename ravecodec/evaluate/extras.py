"""The one door to the packages of the extra `ravecodec[eval]`, which nothing else imports before it
needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ravecodec.errors import UsageError


def extra(name: str) -> Any:
    """A module of the extra. UsageError if it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{name} is not installed; this needs `pip install 'ravecodec[eval]'`"
        ) from error
