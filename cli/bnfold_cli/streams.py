"""What do standard input, output and error take, when any of them may be closed or full?"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO


class Outlet(io.FileIO):
    """A descriptor that takes everything; what the system first refused is remembered.

    So no text ever fails to print, wherever in a command that is, nor at the very end, when the
    interpreter flushes: whether all of it arrived is asked once, of `failure`.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None

    def write(self, data: Any) -> int | None:  # type: ignore[override]  # any buffer, as there
        """Write as much as can be written now; what can no more be written is dropped."""
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


def secure() -> Outlet | None:
    """Let `print` and all that does as it does never fail; the outlet of standard output.

    None where the system has something of its own there: a console of Windows.
    """
    fill_closed()
    sys.stdout, outlet = _secured(sys.stdout, 1)
    sys.stderr, _ = _secured(sys.stderr, 2)
    return outlet


def fill_closed() -> None:
    """Give closed descriptors something that is as closed, or files would get their numbers.

    What reads is only written to, and the other way round: each use is refused, as before.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDONLY if descriptor else os.O_WRONLY)


def refusal(outlet: Outlet | None) -> str | None:
    """Why not all of the result could be printed; None where it could.

    A reader that stopped reading (`| head`) has what it wanted.
    """
    failure = outlet.failure if outlet is not None else None
    if failure is None or failure.errno == errno.EPIPE:
        return None
    return f"standard output cannot be written: {failure.strerror or failure}"


def _secured(stream: TextIO | None, descriptor: int) -> tuple[TextIO, Outlet | None]:
    buffer = getattr(stream, "buffer", None)
    if stream is not None and not isinstance(getattr(buffer, "raw", buffer), io.FileIO):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        return stream, None
    outlet = Outlet(descriptor)
    encoding = stream.encoding if stream is not None else "utf-8"
    text = io.TextIOWrapper(
        io.BufferedWriter(outlet), encoding, errors="backslashreplace", line_buffering=True
    )
    return text, outlet
