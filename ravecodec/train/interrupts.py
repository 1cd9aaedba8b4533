"""Ctrl-C in the middle of a training step waits for its end, so that the step is not lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a signal came that asks to stop."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def obey(self) -> None:
        """Does what the signal asks for, if one came; call it after the block."""
        if self.number is not None:
            signal.raise_signal(self.number)


@contextmanager
def deferred() -> Iterator[Stop]:
    """Within the block the first SIGINT or SIGTERM only sets the Stop; another one acts at once, as
    it did before.

    Signals that are ignored (nohup, background jobs) stay so; only the main thread of a process can
    arrange this.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:
        stop.number = number
        restore()

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, ask)
    try:
        yield stop
    finally:
        restore()
