"""A part of a file as a file of its own: stretches of bytes put together, some of them replaced.

libsndfile is shown such a view where it would believe a wrong length, or would stop at the first of
several joined pieces. Nothing is copied; memory does not grow with the file.
"""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import BinaryIO


class View:
    """A seekable binary file made of `prefix` and of the stretches (start, stop) of `file`, one
    behind the other.

    `patches` replaces bytes: place in the view -> new bytes. A failed read is kept in `error`,
    because nothing can be raised through C; the view then ends there.
    """

    def __init__(
        self,
        file: BinaryIO,
        stretches: Iterable[tuple[int, int]],
        prefix: bytes = b"",
        patches: Mapping[int, bytes] | None = None,
    ) -> None:
        self.error: OSError | None = None
        self._file = file
        self._prefix = prefix
        self._patches = dict(patches or {})
        self._starts: list[int] = []  # places in the view ...
        self._sources: list[int] = []  # ... and in the file
        self._size = len(prefix)
        for start, stop in stretches:
            self._starts.append(self._size)
            self._sources.append(start)
            self._size += stop - start
        self._place = 0

    def __len__(self) -> int:
        return self._size

    def tell(self) -> int:
        """The place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any binary file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def read(self, count: int = -1) -> bytes:
        """`count` bytes (all for -1), fewer only at the end."""
        stop = self._size if count < 0 else min(self._size, self._place + count)
        parts, start = [], self._place
        while self._place < stop:
            part = self._stretch(stop)
            if not part:
                break
            parts.append(part)
            self._place += len(part)
        return self._patched(start, b"".join(parts))

    def _stretch(self, stop: int) -> bytes:
        """The next bytes up to `stop` that lie side by side."""
        if self._place < len(self._prefix):
            return self._prefix[self._place : stop]
        index = bisect_right(self._starts, self._place) - 1
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self._size
        try:
            self._file.seek(self._sources[index] + self._place - self._starts[index])
            return self._file.read(min(stop, end) - self._place)
        except OSError as error:
            self.error = error
            return b""

    def _patched(self, start: int, data: bytes) -> bytes:
        for place, new in self._patches.items():
            low, high = max(place, start), min(place + len(new), start + len(data))
            if low < high:
                data = data[: low - start] + new[low - place : high - place] + data[high - start :]
        return data


class Bytes:
    """Bytes of a seekable file by their place, read in blocks: what a scan of headers needs."""

    BLOCK = 1 << 17

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, io.SEEK_END)
        self._start = 0
        self._block = b""

    def at(self, place: int, count: int) -> bytes:
        """`count` bytes at a place, fewer at the end of the file."""
        first = place - self._start
        if first < 0 or first + count > len(self._block):
            self._file.seek(place)
            self._start, self._block, first = place, self._file.read(max(count, self.BLOCK)), 0
        return self._block[first : first + count]

    def find(self, pattern: bytes, place: int, stop: int) -> int:
        """The first place of `pattern` from `place` on that ends before `stop`; -1 for none."""
        while place < stop:
            data = self.at(place, min(self.BLOCK, stop - place))
            if (found := data.find(pattern)) >= 0:
                return place + found
            if len(data) < len(pattern) or place + len(data) >= stop:
                return -1
            place += len(data) - len(pattern) + 1
        return -1
