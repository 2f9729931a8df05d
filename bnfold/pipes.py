"""How does a model come over a descriptor that is open already, and go over one?

`/dev/stdin`, `/dev/fd/63` and their like name what this very process has open: a child process
would open something else there, and read its own pipe for ever. So what comes is read whole into
a file, and what goes is a file first.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bnfold.errors import BnfoldError, ModelError, OutputError
from bnfold.layout import PROTOBUF_LIMIT
from bnfold.scratch import scratch_folder, writing_scratch

MOST_LINKS = 40
"""Links in a row that systems follow."""
PIECE = 1 << 20
"""Bytes that are read at a time."""


def descriptor_of(path: str | Path) -> int | None:
    """The descriptor of this process that a path stands for, itself or by links; or None."""
    place = os.fspath(path)
    for _ in range(MOST_LINKS):
        folder, name = os.path.split(place)
        try:
            if name.isascii() and name.isdecimal() and _is_own(os.path.realpath(folder)):
                return int(name)
            place = os.path.join(folder, os.readlink(place))
        except (OSError, ValueError):  # no link, or no path at all
            return None
    return None


def _is_own(folder: str) -> bool:
    return re.fullmatch(rf"/dev/fd|/proc/{os.getpid()}(/task/\d+)?/fd", folder) is not None


@contextlib.contextmanager
def received(descriptor: int, name: str) -> Iterator[Path]:
    """What comes over a descriptor, whole, as a file that is gone afterwards.

    Errors call it by its name. Raises ModelError where nothing can be read, or more than a model
    can have, and OutputError where the file cannot be written.
    """
    with scratch_folder() as folder:
        path = folder / "model.onnx"
        _check_readable(descriptor, name)
        try:
            with os.fdopen(os.dup(descriptor), "rb") as source, _created(path) as target:
                _copy(source, target, name)
            yield path
        except BnfoldError as error:
            texts = (text.replace(str(path), name) for text in (str(error), error.hint))
            raise type(error)(*texts) from error


def _check_readable(descriptor: int, name: str) -> None:
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise ModelError(f"{name} is a folder, not a model file", "name an .onnx file")
    except OSError as error:
        raise _unreadable(name, error) from None
    if os.isatty(descriptor):
        raise ModelError(f"{name} is a terminal", "let a model come from a file or a pipe: < FILE")


@contextlib.contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    with writing_scratch():
        file = path.open("xb", buffering=0)
    with file:
        yield file


def _copy(source: BinaryIO, target: BinaryIO, name: str) -> None:
    size = 0
    while piece := _piece(source, name):
        size += len(piece)
        if size > PROTOBUF_LIMIT:
            raise ModelError(
                f"{name} holds more than 2 GiB, and protobuf reads no more",
                "name a file, with its weights as external data",
            )
        with writing_scratch():
            _write(target, piece)


def _piece(source: BinaryIO, name: str) -> bytes:
    try:
        return source.read(PIECE)
    except OSError as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: OSError) -> ModelError:
    reason = error.strerror or str(error)
    return ModelError(f"{name} cannot be read: {reason}", "let a model come from a file: < FILE")


def _write(target: BinaryIO, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[target.write(rest) :]


def send(path: Path, descriptor: int, name: str) -> None:
    """Write a file to a descriptor. Raises OutputError, also where nobody reads to the end."""
    try:
        with path.open("rb") as source, os.fdopen(os.dup(descriptor), "wb", 0) as target:
            while piece := source.read(PIECE):
                _write(target, piece)
    except OSError as error:
        raise OutputError(
            f"{name} cannot be written: {error.strerror or error}", "name a file with -o"
        ) from None
