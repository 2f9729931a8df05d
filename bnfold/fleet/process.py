"""How does a model get a process of its own? One that can crash, hang or swell by itself.

A child of `bnfold.isolation` stays warm between models, for importing a runtime takes a second. It
is blamed for what a model does to it only when that model was its first: after a crash, or past
its memory, a model that was not gets another process, fresh. One that holds much memory is not
kept. A thread watches the clock and the memory, and ends the process where one of them runs out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from bnfold import isolation
from bnfold.errors import (
    InputError,
    ModelError,
    NotEquivalent,
    OutputError,
    RuntimeCrashed,
    RuntimeUnavailable,
)
from bnfold.fleet.record import Failure
from bnfold.fleet.storage import require

GLANCE_S = 0.5
"""Seconds between two looks at the clock and at the memory."""
START_S = 180.0
"""Seconds that a process may take to begin; a busy machine imports slowly."""
KEPT_SHARE = 0.25
"""A process that holds more than this share of the limit when idle is not used again."""
KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (NotEquivalent, "not_equivalent"),
    (ModelError, "invalid"),
    (InputError, "input"),
    (OutputError, "output"),
    (RuntimeCrashed, "crashed"),
    (RuntimeUnavailable, "runtime"),
    (MemoryError, "memory"),
)
"""What a record calls an error of the library, the first that fits; any other is a bug."""
SPOILED = frozenset({"crashed", "memory"})
"""Ends of a process to which the models before may have led."""
BLAS_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Failed(Exception):
    """A job that gave no result, and why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Stopped(Exception):
    """The sweep that wanted the job has ended."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a job may take; 0 seconds and no bytes are no limit."""

    seconds: float = 0.0
    bytes: int | None = None


class Workshop:
    """Does jobs one after the other, each in a process that others cannot have spoiled."""

    def __init__(self, sweep: str, threads: int) -> None:
        self.sweep = sweep
        self.threads = threads
        self.peak_bytes = 0
        """The most memory that the last job was seen to hold."""
        self._process: _Process | None = None

    def do(self, job: str, limits: Limits, *, doing: str, **arguments: Any) -> Any:
        """What the function of `jobs` returns. Raises Failed and Stopped."""
        was_fresh = self._process is None
        try:
            return self._try(job, limits, doing, arguments)
        except Failed as failed:
            if was_fresh or self._process is not None or failed.failure.kind not in SPOILED:
                raise
        return self._try(job, limits, doing, arguments)

    def _try(self, job: str, limits: Limits, doing: str, arguments: dict[str, Any]) -> Any:
        if self.sweep in _stopped:
            raise Stopped
        if self._process is None:
            self._process = _Process(self.sweep, self.threads)
        process = self._process
        try:
            if process.is_new:
                process.call("warm_up", Limits(START_S), "starting", {})
            return process.call(job, limits, doing, arguments)
        except Exception as error:
            if self.sweep in _stopped:
                raise Stopped from None
            raise Failed(process.ended or failure_of(error)) from error
        finally:
            used_up = process.is_used_up(limits)
            self.peak_bytes = process.peak_bytes
            if used_up:
                self.close()

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.close()
            self._process = None


def failure_of(error: BaseException) -> Failure:
    """An error as a record has it."""
    text = " ".join(str(error).split())[:400]
    for kind, name in KINDS:
        if isinstance(error, kind):
            return Failure(name, text or "it ran out of memory", getattr(error, "hint", ""))
    cause = str(error.__cause__ or "")
    message = f"{type(error).__name__}: {text}"
    return Failure("bug", message, f"this is a bug in bnfold; please report it. {cause}"[-4000:])


# -- one process --------------------------------------------------------------------------------


class _Process:
    """A child that is watched while it works."""

    def __init__(self, sweep: str, threads: int) -> None:
        self.sweep = sweep
        self.is_new = True
        self.peak_bytes = 0
        self.ended: Failure | None = None
        """Why its watcher ended it."""
        environment = dict.fromkeys(BLAS_THREADS, str(threads))
        self._child = isolation.Child(None, environment)
        self._tree = require("psutil").Process(self._child.pid)
        self._busy = threading.Lock()
        with _lock:
            _alive.setdefault(sweep, set()).add(self)

    def call(self, job: str, limits: Limits, doing: str, arguments: dict[str, Any]) -> Any:
        self.is_new, self.peak_bytes = False, 0
        with self._busy, self._watched(limits):
            return self._child.call(f"bnfold.fleet.jobs:{job}", doing=doing, **arguments)

    def is_used_up(self, limits: Limits) -> bool:
        """Whether it ended, or holds so much that the next model had better get another."""
        if not self._child.is_alive:
            return True
        self.peak_bytes = max(self.peak_bytes, held := self._memory())
        return bool(limits.bytes and held > KEPT_SHARE * limits.bytes)

    @contextmanager
    def _watched(self, limits: Limits) -> Iterator[None]:
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(limits, done), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _watch(self, limits: Limits, done: threading.Event) -> None:
        began = time.monotonic()
        while not done.wait(GLANCE_S):
            self.peak_bytes = max(self.peak_bytes, held := self._memory())
            if limits.bytes and held > limits.bytes:
                self.ended = _too_large(limits.bytes)
            elif limits.seconds and time.monotonic() - began > limits.seconds:
                self.ended = _too_slow(limits.seconds)
            if self.ended is not None:
                self._child.kill()
                return

    def _memory(self) -> int:
        """Bytes that the process and those it started hold."""
        psutil = require("psutil")
        total = 0
        with suppress(psutil.Error):
            for process in (self._tree, *self._tree.children(recursive=True)):
                with suppress(psutil.Error):
                    total += process.memory_info().rss
        return total

    def close(self) -> None:
        """End it, whatever it does; what waits for it is told that it died."""
        self._child.kill()
        with self._busy:
            self._child.close()
        with _lock:
            _alive.get(self.sweep, set()).discard(self)


def _too_large(limit: int) -> Failure:
    return Failure(
        "memory",
        f"it needed more than {limit / 1e9:.3g} GB of memory",
        "use fewer workers, or a higher --memory-limit",
    )


def _too_slow(seconds: float) -> Failure:
    return Failure(
        "timed_out", f"it was not done after {seconds:g} s", "give it more time with --timeout"
    )


# -- those of a sweep ---------------------------------------------------------------------------

_lock = threading.Lock()
_alive: dict[str, set[_Process]] = {}
_stopped: set[str] = set()
_own = threading.local()


def workshop(sweep: str, threads: int) -> Workshop:
    """The workshop of this thread for a sweep; one for another sweep is closed."""
    current: Workshop | None = getattr(_own, "workshop", None)
    if current is None or current.sweep != sweep:
        if current is not None:
            current.close()
        current = _own.workshop = Workshop(sweep, threads)
    return current


def stop(sweep: str) -> None:
    """End every process that works for a sweep; its jobs raise Stopped from now on."""
    with _lock:
        _stopped.add(sweep)
        processes = list(_alive.pop(sweep, ()))
    for process in processes:
        process.close()
