"""How does a command end when it is told to? As an interrupt, with all that is its own removed."""

from __future__ import annotations

import atexit
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from bnfold_cli.exits import interrupted

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
PATIENCE_S = 10.0
"""Seconds for which a second signal changes nothing: what is being removed shall be gone."""
SOON_S = 0.01
"""Seconds after which an interrupt comes again that came where none can be raised."""


class Interrupt(KeyboardInterrupt):
    """An interrupt; of a class of its own, since Python ends by SIGINT after some of the other."""


class Ear:
    """Hears the signals that end a command, and turns the first into an interrupt."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.is_deaf = False
        self._again_at = 0.0
        self._is_late = False
        self._numbers: list[int] = []

    def listen(self) -> None:
        """From now on; what was ignored when the command began (`nohup`, `&`) remains so."""
        for name in NAMES:
            number = getattr(signal, name, None)  # Windows knows not all
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                self._numbers.append(number)
                signal.signal(number, self._hear)
        sys.unraisablehook = self._not_raised

    def ignore(self) -> None:
        """Hear no more, to the end of the process, when Python takes its handlers away."""
        self.is_deaf = True  # at once: the lines below take their time
        if self._is_late:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number in self._numbers:
            signal.signal(number, signal.SIG_IGN)

    @property
    def code(self) -> int:
        """The exit code of what was interrupted."""
        return interrupted(signal.SIGINT if self.first is None else self.first)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.is_deaf or now < self._again_at:
            return
        self.first = self.first or number
        if is_importing(frame) and self._comes_again():
            return
        self._again_at = now + PATIENCE_S
        raise Interrupt

    def _not_raised(self, what: sys.UnraisableHookArgs) -> None:
        """Let an interrupt come again that came within a destructor, where Python drops it."""
        if not isinstance(what.exc_value, Interrupt):
            sys.__unraisablehook__(what)
            return
        self._again_at = 0.0
        if not self.is_deaf:
            self._comes_again()

    def _comes_again(self) -> bool:
        """Hear the same signal once more, soon; whether the system can do that."""
        if not hasattr(signal, "setitimer"):
            return False
        self._is_late = True
        signal.signal(signal.SIGALRM, self._hear)
        signal.setitimer(signal.ITIMER_REAL, SOON_S)
        return True


def is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being loaded: some in native code crash at an interrupt meanwhile."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


EAR = Ear()
"""That of this process."""


def tidily(work: Callable[[], int]) -> int:
    """The exit code of some work, once everything temporary of it is gone, however it ended.

    All of it, and that of child processes, is in one folder, whose name is known before it is
    made: so no signal comes at a moment at which something would be left.
    """
    folder: Path | None = None
    EAR.listen()
    try:
        from bnfold.scratch import remove_folder

        with suppress(OSError):  # who needs one where none can be made says so then
            folder = Path(tempfile.gettempdir(), f"bnfold-{secrets.token_hex(8)}")
            atexit.register(remove_folder, folder)  # after what libraries do at the very end
            folder.mkdir(mode=0o700)
            tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        return work()
    except KeyboardInterrupt:
        return EAR.code
    finally:
        EAR.ignore()
        if folder is not None:
            remove_folder(folder)
