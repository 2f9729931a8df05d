"""How is a new file filled from many sources? At their places, by some threads at once.

What was written goes on to the disk while the rest is computed: otherwise the last call, which
waits for the disk, would wait for all of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import BinaryIO, Protocol

from bnfold import pool

Task = Callable[[], None]
Read = Callable[[BinaryIO, int, int], bytes]

WORTH_THREADS = 1 << 23
"""Bytes of a file from which on it is written by several threads."""
SETTLED = 1 << 27
"""Bytes after which the disk is asked to take what was written."""
PIECE = 1 << 20
"""Bytes that are copied at a time where the system does not copy by itself."""
COPIED_AT_ONCE = 1 << 26
"""Bytes asked of the system in one call."""
NO_COPY = {
    errno.EXDEV,
    errno.ENOSYS,
    errno.EINVAL,
    errno.EOPNOTSUPP,
    errno.EBADF,
    errno.EPERM,
    errno.ETXTBSY,
}
"""What copy_file_range answers where two files, or the system, are not made for it."""


class Contents(Protocol):
    """Bytes that are not here."""

    @property
    def length(self) -> int:
        """How many."""

    def tasks(self, target: Target, place: int) -> Iterator[Task]:
        """What writes them there, in any order and by any thread."""


def fill(file: BinaryIO, contents: Iterable[tuple[int, bytes | Contents]]) -> None:
    """Write contents into an empty file, each at its place, until they are on the disk.

    Raises OSError, and what the contents raise.
    """
    placed = list(contents)
    size = sum(len(c) if isinstance(c, bytes) else c.length for _, c in placed)
    with ThreadPoolExecutor(1, thread_name_prefix="bnfold-disk") as disk:
        target = Target(file, disk)
        tasks = (task for place, content in placed for task in target.tasks(content, place))
        for _ in pool.run(tasks, pool.threads() if size >= WORTH_THREADS else 1):
            target.settle()
        target.settled()
    os.fsync(file.fileno())


class Target:
    """A file that any thread may write to who says where."""

    def __init__(self, file: BinaryIO, disk: ThreadPoolExecutor) -> None:
        file.flush()
        self._file = file
        self._disk = disk
        self._lock = Lock()
        self._unsettled = 0
        self._settling: Future[None] | None = None

    def tasks(self, content: bytes | Contents, place: int) -> Iterator[Task]:
        """What writes this there."""
        if isinstance(content, bytes):
            yield lambda: self.write(content, place)
        else:
            yield from content.tasks(self, place)

    def write(self, data: bytes | memoryview, place: int) -> None:
        """Write bytes there. Raises OSError."""
        view = memoryview(data)
        self._note(len(view))
        while view:
            count = self._write(view, place)
            view, place = view[count:], place + count

    def _write(self, data: memoryview, place: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._file.fileno(), data, place)
        with self._lock:
            self._file.seek(place)
            return self._file.write(data)

    def copy(self, source: BinaryIO, offset: int, length: int, place: int, read: Read) -> None:
        """Write a range of another file there, in the system where it can: blocks may be shared.

        `read(source, offset, length)` is for where it cannot. Raises OSError.
        """
        end = offset + length
        while offset < end and hasattr(os, "copy_file_range"):
            count = min(end - offset, COPIED_AT_ONCE)
            ends = source.fileno(), self._file.fileno()
            try:
                copied = os.copy_file_range(*ends, count, offset, place)
            except OSError as error:
                if error.errno not in NO_COPY:
                    raise
                break
            if (
                copied == 0
            ):  # some file systems say so where they cannot; reading tells which it is
                break
            self._note(copied)
            offset, place = offset + copied, place + copied
        while offset < end:
            part = read(source, offset, min(PIECE, end - offset))
            self.write(part, place)
            offset, place = offset + len(part), place + len(part)

    def _note(self, count: int) -> None:
        with self._lock:
            self._unsettled += count

    def settle(self) -> None:
        """Let the disk take what was written, once it is much; nobody waits. Raises OSError."""
        if self._unsettled < SETTLED or (self._settling and not self._settling.done()):
            return
        self.settled()
        with self._lock:
            self._unsettled = 0
        self._settling = self._disk.submit(os.fsync, self._file.fileno())

    def settled(self) -> None:
        """Wait for what was asked of the disk: it tells an error once. Raises OSError."""
        if self._settling is not None:
            self._settling.result()
