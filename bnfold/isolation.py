"""How does the caller outlive a runtime that crashes? What runs it is a child process.

A runtime can end its process on a model that every checker accepts: by a segmentation fault, or
by asking for more memory than there is. So it runs in a child, a plain `python -c` that needs no
main guard in the caller's script, and the parent sees an error. The child answers requests over
its standard input and output, arrays included; it ends when they close, so it never outlives the
parent. It isolates faults; it is no sandbox.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, cast

import onnx

from bnfold import frames
from bnfold.errors import InputError, RuntimeCrashed, RuntimeUnavailable
from bnfold.runtime import write_scratch
from bnfold.scratch import scratch_folder, writing_scratch
from bnfold.worker import Progress, Server

Function = TypeVar("Function", bound=Callable[..., Any])

PATIENCE_S = 1800.0
"""Seconds without a word from the child after which it is given up: some providers build their
engines for many minutes."""

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from bnfold.worker import main; main()"
)
TEMPORARY = ("TMPDIR", "TEMP", "TMP")
"""The variables that say where temporary files go."""
_WINDOWS_FLAGS = 0x08000200  # CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP


class Caller(Protocol):
    """What answers requests: a child process, or this one."""

    ends: int
    """How often a process has ended: what was open in it is open no more."""

    def call(self, name: str, *args: Any, doing: str, **keywords: Any) -> Any:
        """The result of a function or of a request to `bnfold.worker.Server`."""

    def close(self) -> None:
        """Let everything go."""


class Here:
    """Answers in this process: for callers who want no other."""

    def __init__(self, patience_s: float | None = None) -> None:  # noqa: ARG002
        self.server = Server()
        self.ends = 0

    def call(self, name: str, *args: Any, doing: str, **keywords: Any) -> Any:  # noqa: ARG002
        """As `Child.call`, without its protection."""
        return self.server.answer(name, args, keywords)

    def close(self) -> None:
        """Let everything go."""
        self.server.sessions.clear()
        self.server.judges.clear()


class Child:
    """A child process; started at once, so that it is ready when it is needed."""

    def __init__(
        self,
        patience_s: float | None = PATIENCE_S,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.patience_s = patience_s
        self.environment = environment
        """Variables that it has beside those of this process."""
        self.ends = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._left = contextlib.ExitStack()
        """What is to be removed once the process has ended: it may have had no time to."""
        self._start()

    @property
    def pid(self) -> int | None:
        """The number of its process; None where it has ended."""
        return None if self._process is None else self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def call(
        self,
        name: str,
        *args: Any,
        doing: str,
        progress: Progress | None = None,
        **keywords: Any,
    ) -> Any:
        """What `name` returns in the child; what it raises there is raised here.

        `doing` says in words what is asked for: "loading net.onnx". Raises RuntimeCrashed where
        the child ends or is silent for too long; the next call starts another.
        """
        process = self._process or self._start()
        try:
            _send(process, (name, args, keywords, progress is not None))
            kind, *rest = self._receive(process, doing)
            while kind == "progress":
                if progress is not None:
                    progress(*rest[0])
                kind, *rest = self._receive(process, doing)
        except BaseException:  # an interrupt too: nothing that it may still say is of use
            self.close()
            raise
        if kind == "raised":
            raise rest[0] from _Remote(rest[1])
        return rest[0]

    def kill(self) -> None:
        """End the process from another thread; the call that waits for it raises."""
        process = self._process
        if process is not None:
            _signal(process)

    def close(self) -> None:
        """End the child, whatever it is doing."""
        process, self._process = self._process, None
        if process is None:
            return
        self.ends += 1
        _kill(process)
        for stream in (process.stdin, process.stdout, self._said):
            with contextlib.suppress(OSError):  # what was not sent yet cannot be sent any more
                stream.close()  # type: ignore[union-attr]  # all are pipes or files
        self._left.close()

    def _start(self) -> subprocess.Popen[bytes]:
        command = _command()
        with writing_scratch():
            self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        folder = str(self._left.enter_context(scratch_folder()))
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env={**os.environ, **self.environment, **dict.fromkeys(TEMPORARY, folder)},
                start_new_session=os.name == "posix",  # an interrupt is the parent's to handle
                creationflags=_WINDOWS_FLAGS if os.name == "nt" else 0,
            )
        except OSError as error:
            self._said.close()
            self._left.close()
            raise RuntimeUnavailable(
                f"no child process can be started: {error.strerror or error}",
                "pass isolate=False to run models in this process",
            ) from error
        return self._process

    def _receive(self, process: subprocess.Popen[bytes], doing: str) -> tuple[Any, ...]:
        assert process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        with _alarm(self.patience_s, give_up):
            try:
                return tuple(frames.read(process.stdout))
            except Exception as error:  # the end of the pipe, or garbage out of damaged memory
                if late.is_set():
                    raise _silent(doing, self.patience_s) from None
                _kill(process, wait_s=5)
                raise _crashed(doing, process.returncode, self._last_words()) from error

    def _last_words(self) -> str:
        """The last line that the child wrote to standard error."""
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def _command() -> list[str]:
    """What starts a child: isolated, so that no file of the working folder is imported."""
    if not sys.executable or getattr(sys, "frozen", False):
        raise RuntimeUnavailable(
            "this program has no Python interpreter to start a child process with",
            "pass isolate=False to run models in this process",
        )
    path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
    # The names of files mean the same in both; -I alone would not look at PYTHONUTF8.
    return [sys.executable, "-I", "-X", f"utf8={sys.flags.utf8_mode}", "-c", _BOOT, path]


def _send(process: subprocess.Popen[bytes], request: tuple[Any, ...]) -> None:
    assert process.stdin is not None
    try:
        frames.write(process.stdin, request)
    except OSError:
        return  # it has ended; to read its answer tells how
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise InputError(
            f"this cannot be sent to another process: {error}",
            "give plain arrays, or isolate=False",
        ) from error


def _kill(process: subprocess.Popen[bytes], wait_s: float = 0.0) -> None:
    """End a process and what it started, after `wait_s` seconds; no zombie is left."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        if wait_s:
            process.wait(wait_s)
    _signal(process)
    process.wait()


def _signal(process: subprocess.Popen[bytes]) -> None:
    """Tell a process and what it started to end at once."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


@contextlib.contextmanager
def _alarm(seconds: float | None, ring: Callable[[], object]) -> Iterator[None]:
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Remote(Exception):
    """The traceback of the child, shown as the cause of what it raised."""


def _silent(doing: str, seconds: float | None) -> RuntimeCrashed:
    return RuntimeCrashed(
        f"onnxruntime gave no answer within {seconds:g} s while {doing}",
        "the model may never end; smaller sizes (--input NAME=1x3x224x224) may help, or more "
        "time (--timeout SECONDS, timeout_s=...)",
    )


def _crashed(doing: str, code: int, last_words: str) -> RuntimeCrashed:
    said = f": {last_words}" if last_words else ""
    if code == -getattr(signal, "SIGKILL", 9):
        return RuntimeCrashed(
            f"onnxruntime was killed while {doing}, most likely for want of memory{said}",
            "close other programs, choose smaller sizes (--input NAME=1x3x224x224), or use a "
            "machine with more memory",
        )
    return RuntimeCrashed(
        f"onnxruntime crashed ({_ending(code)}) while {doing}{said}",
        "this model makes the installed runtime crash: try another version of it, or another "
        "provider",
    )


def _ending(code: int) -> str:
    with contextlib.suppress(ValueError):
        if code < 0:
            return signal.Signals(-code).name
    return f"exit code {code if code < 1 << 16 else hex(code)}"


def isolated(doing: str) -> Callable[[Function], Function]:
    """A function that runs in a child process of its own, unless `isolate=False` is given.

    The function declares `isolate` and `timeout_s` for its callers and does not look at them; its
    models are passed as files and its `progress` is called here. What it may spend by its own
    `budget_s` comes on top of `timeout_s`.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            bound = signature.bind(*args, **keywords)
            bound.apply_defaults()
            given = bound.arguments
            if not given["isolate"]:
                return function(*args, **keywords)
            patience = given["timeout_s"]
            if patience is not None:
                patience += given.get("budget_s") or 0.0
            child = Child(patience)
            try:
                with scratch_folder() as folder:
                    sent = _sent(given, folder)
                    return child.call(
                        f"{function.__module__}:{function.__name__}", doing=doing, **sent
                    )
            finally:
                child.close()

        return cast(Function, call)

    return decorate


def _sent(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Arguments as another process can take them."""
    sent: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, Mapping):
            sent[name] = {
                key: _as_file(each, folder / f"{name}-{index}")
                for index, (key, each) in enumerate(value.items())
            }
        elif isinstance(value, Iterator):
            sent[name] = list(value)
        else:
            sent[name] = _as_file(value, folder / name)
    return sent | {"isolate": False}


def _as_file(value: Any, folder: Path) -> Any:
    """A model as a file, and anything else as it is."""
    return write_scratch(value, folder) if isinstance(value, onnx.ModelProto) else value
