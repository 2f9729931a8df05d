"""Is what stands at a path a regular file? Then it is opened, and read if it is not too large.

A FIFO would be waited for, and a device never ends: both are refused before they are opened. What
takes a file's place in between is opened without waiting, and refused by its descriptor.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from bnfold.errors import InputError

NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
MOST_JSON = 1 << 28
"""Bytes of a JSON document that is read; the largest manifests have a tenth of it."""


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """A regular file, open for reading. Raises InputError where there is none."""
    try:
        _refuse_other(path, os.stat(path))
        descriptor = os.open(path, os.O_RDONLY | NO_WAITING)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise unreadable(path, error) from None
    with os.fdopen(descriptor, "rb") as file:
        _refuse_other(path, os.fstat(descriptor))
        yield file


def size_of(file: BinaryIO) -> int:
    """How many bytes an open file has."""
    return os.fstat(file.fileno()).st_size


def read(path: str | Path, most: int) -> bytes:
    """All of a regular file of at most so many bytes. Raises InputError."""
    with opened(path) as file:
        if size_of(file) <= most:
            try:
                data = file.read(most + 1)  # it may grow while it is read
            except OSError as error:
                raise unreadable(path, error) from None
            if len(data) <= most:
                return data
    raise InputError(
        f"{path} is larger than {most >> 20} MiB, which nothing of its kind is", "check the path"
    )


def unreadable(path: str | Path, error: Exception) -> InputError:
    """The error for a file that the system does not let be read."""
    if getattr(error, "errno", None) == errno.ENXIO:  # what opening a socket says
        return InputError(f"{path} is not a regular file", "name a file")
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"{path} cannot be read: {reason}", "check the path")


def _refuse_other(path: str | Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise InputError(f"{path} is {kind}, not a regular file", "name a file")


# --- JSON ----------------------------------------------------------------------------------


def parsed(data: bytes) -> Any:
    """What JSON text says. Raises ValueError, also for what JSON has not and readers differ in:
    NaN, infinities, numbers past any float, and a name that an object has twice."""
    try:
        return json.loads(
            data,
            parse_constant=_refuse_constant,
            parse_float=_float,
            parse_int=_int,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"it holds {text}, which JSON has not")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"it holds the number {text[:40]}, which is past any float")
    return value


def _int(text: str) -> int:
    _float(text)
    return int(text)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it has an object with the same name twice")
    return found
