"""Bounded reading from any binary file object: exact counts, look-ahead, and the byte offset for
every message.

Works with files, pipes, sockets' makefile and readers that give one byte at a time. It never asks
for more than it needs, so that a live stream is decoded as it arrives, and never sets aside memory
for bytes that have not come.
"""

from typing import Protocol

from ravecodec.errors import UsageError

BLOCK = 65_536


class SupportsRead(Protocol):
    """A binary file object that can be read."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes; b"" at the end."""


class ByteSource:
    """A look-ahead buffer over a file object. offset: bytes taken so far, counted from `start`."""

    def __init__(self, fileobj: SupportsRead, start: int = 0) -> None:
        self.fileobj = fileobj
        self.offset = start
        self.name = str(getattr(fileobj, "name", "stream"))
        self._buffer = bytearray()
        self._at_end = False

    def peek(self, count: int) -> bytes:
        """The next `count` bytes without taking them; fewer only at the end of the file."""
        while len(self._buffer) < count and not self._at_end:
            self._fill(min(count - len(self._buffer), BLOCK))
        return bytes(self._buffer[:count])

    def skip(self, count: int) -> None:
        """Take `count` bytes that were peeked."""
        del self._buffer[:count]
        self.offset += count

    def skip_to(self, pattern: bytes) -> bool:
        """Take bytes until `pattern` comes next; False (and everything taken) if it never comes."""
        while True:
            at = self._buffer.find(pattern)
            if at >= 0:
                self.skip(at)
                return True
            if self._at_end:
                self.skip(len(self._buffer))
                return False
            self.skip(max(0, len(self._buffer) - len(pattern) + 1))
            self._fill(BLOCK)

    def _fill(self, count: int) -> None:
        """One read of at most `count` bytes."""
        data = self.fileobj.read(count)
        if not isinstance(data, bytes | bytearray | memoryview):
            kind = type(data).__name__
            raise UsageError(
                f"{self.name}: read gave {kind}, expected bytes from a blocking binary file"
            )
        self._buffer += data
        self._at_end = not data

    def __len__(self) -> int:
        """Bytes looked at and not yet taken."""
        return len(self._buffer)
