"""Progress on standard error: of one file, of many, of scores."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, Self, TextIO

from ravecodec.cli import console

if TYPE_CHECKING:  # the last imports torch
    from tqdm import tqdm

    from ravecodec.batch.items import Item, Totals
    from ravecodec.pipeline import Progress

ENOUGH = 20  # scores from which on the time that is left is told


def is_terminal(stream: TextIO | None) -> bool:
    """Whether it is shown on a terminal; False for one that is closed."""
    return stream is not None and not stream.closed and stream.isatty()


class Bar:
    """A bar of tqdm on standard error if that is a terminal (`shown`); a context manager."""

    def __init__(self, label: str, *, quiet: bool) -> None:
        self.shown = not quiet and is_terminal(sys.stderr)
        self._label = label
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ending: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _open(self, form: str, text: str = "") -> tqdm[NoReturn]:
        from tqdm import tqdm

        self._bar = tqdm(
            total=1.0,
            bar_format=form,
            desc=text,
            mininterval=0.2,
            miniters=0,
            smoothing=0,
            leave=False,
        )
        return self._bar


class Meter(Bar):
    """Shows how far it is, how fast, and at what rate. Call it with each Progress."""

    def __init__(self, label: str, *, quiet: bool) -> None:
        super().__init__(label, quiet=quiet)
        self._began = time.perf_counter()

    def __call__(self, progress: Progress) -> None:
        if not self.shown:
            return
        first = self._bar is None
        form = "{desc}" if progress.share is None else "{percentage:3.0f} % |{bar:20}| {desc}"
        bar = self._open(form) if self._bar is None else self._bar
        speed = progress.seconds / (time.perf_counter() - self._began)
        rate = progress.bytes * 8 / 1000 / max(progress.seconds, 1e-9)
        cost = f", {rate:.2f} kbit/s" if progress.bytes else ""
        text = f"{self._label}: {progress.seconds:.0f} s, {speed:.1f}x real time{cost}"
        bar.set_description_str(text, refresh=False)
        bar.update((progress.share or 0.0) - bar.n)
        if first:
            bar.refresh()


class Overview(Bar):
    """Shows how much of many files is done, how fast, and how long the rest will take.

    Files count by their bytes. `aside` is for lines that are written meanwhile.
    """

    def __init__(self, label: str, items: Sequence[Item], *, quiet: bool) -> None:
        super().__init__(label, quiet=quiet)
        self._files = len(items)
        self._whole = sum(item.size + 1 for item in items)
        self._ended = 0
        self._done = 0  # bytes
        self._parts: dict[str, float] = {}  # bytes that are done of files in hand
        self._text = f"{label}: 0 of {self._files} files"
        if self.shown and items:
            self._open("{percentage:3.0f} % |{bar:20}| {desc}, {remaining} left", self._text)

    def hear(self, item: Item, share: float) -> None:
        """So much, 0 to 1, of a file is done."""
        self._parts[item.source] = share * item.size
        self._show()

    def add(self, item: Item, totals: Totals) -> None:
        """A file has ended; `totals` are those with it."""
        self._parts.pop(item.source, None)
        self._ended += 1
        self._done += item.size + 1
        speed = f"{totals.speed:.1f}x real time, {totals.kbps:.2f} kbit/s"
        self._text = f"{self._label}: {self._ended} of {self._files} files, {speed}"
        self._show()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.set_description_str(self._text, refresh=False)
            self._bar.update((self._done + sum(self._parts.values())) / self._whole - self._bar.n)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Lines may be written within the block."""
        if self._bar is None:
            yield
            return
        self._bar.clear()
        yield
        self._bar.refresh()


class Counter(Bar):
    """Shows how many scores are there: a bar on a terminal, else a line every `report_seconds`."""

    def __init__(self, *, quiet: bool, report_seconds: float = 30.0) -> None:
        super().__init__("", quiet=quiet)
        self._quiet, self._report_seconds = quiet, report_seconds
        self._began = self._told = time.monotonic()
        self._first: int | None = None  # scores that were there already

    def __call__(self, done: int, total: int) -> None:
        if self.shown:
            self._show(done, total)
        elif not self._quiet:
            self._tell(done, total)

    def _show(self, done: int, total: int) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=total, initial=done, unit="score", leave=False)
        self._bar.update(done - self._bar.n)

    def _tell(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first, self._began = done, now
        if now - self._told >= self._report_seconds or done == total:
            console.say(f"{done} of {total} scored{self._left(done, total, now)}")
            self._told = now

    def _left(self, done: int, total: int, now: float) -> str:
        """The time that is left, once enough scores are there to tell: the first ones wait for
        workers and models.
        """
        fresh = done - (self._first or 0)
        if done < total and fresh < ENOUGH:
            return ""
        return f", {(now - self._began) / max(1, fresh) * (total - done) / 60:.0f} min left"
