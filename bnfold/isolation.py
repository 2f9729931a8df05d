"""How does the caller outlive a runtime that crashes? Sessions run in a child process.

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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import onnx

from bnfold import frames
from bnfold.errors import InputError, OutputError, RuntimeCrashed, RuntimeUnavailable
from bnfold.memory import disk_size, free_memory
from bnfold.modelio import byte_size
from bnfold.runtime import CPU, Feeds, Level, Provider, Session, write_loadable
from bnfold.worker import Progress, Server

Model = onnx.ModelProto | str | Path
Function = TypeVar("Function", bound=Callable[..., Any])

PATIENCE_S = 1800.0
"""Seconds without a word from the child after which it is given up: some providers build their
engines for many minutes."""
COPIES = 2
"""How often a session holds its model's weights: as they are, and packed for its kernels."""
SHARE = 4
"""Open sessions may hold one part in so many of the free memory; beyond it the oldest goes."""
ON_DISK = 1 << 26
"""Bytes from which a result is kept on disk."""

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from bnfold.worker import main; main()"
)
_JUDGING = "evaluating the model in float64"
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

    def _start(self) -> subprocess.Popen[bytes]:
        command = _command()
        with _writing_scratch():
            self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env={**os.environ, **self.environment},
                start_new_session=os.name == "posix",  # an interrupt is the parent's to handle
                creationflags=_WINDOWS_FLAGS if os.name == "nt" else 0,
            )
        except OSError as error:
            self._said.close()
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
    return [sys.executable, "-I", "-c", _BOOT, path]


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


# --- sessions ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IsolatedSession(Session):
    """A session that is open in the child, or opened again there when it is needed."""

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """As `Session.run`; raises RuntimeCrashed too."""
        wanted = {port.name: feeds[port.name] for port in self.inputs if port.name in feeds}
        values: dict[str, Any] = self.handle.run(wanted)
        return values


class Sessions:
    """Opens sessions in one child process, as many at a time as the memory holds.

    Where there is little memory one session is open at a time, and large results are kept on
    disk. Close it with `with`.
    """

    def __init__(self, isolate: bool = True, patience_s: float | None = PATIENCE_S) -> None:
        self._caller: Caller = Child(patience_s) if isolate else Here()
        self._scratch = contextlib.ExitStack()
        self._files: dict[int, tuple[onnx.ModelProto, Path]] = {}
        self._open: dict[int, int] = {}  # the bytes of each open session, the oldest first
        self._judges: set[int] = set()
        self._unheld: list[int] = []
        self._sizes: dict[str, int] = {}
        self._made = 0
        self._ends = 0

    def __enter__(self) -> Sessions:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._caller.close()
        self._scratch.close()

    def open(
        self,
        model: Model,
        *,
        provider: Provider = CPU,
        level: Level = "all",
        threads: int | None = None,
        outputs: Sequence[str] = (),
    ) -> Session:
        """As `runtime.open_session`; raises RuntimeCrashed too."""
        options = {
            "provider": provider,
            "level": level,
            "threads": threads,
            "outputs": tuple(outputs),
        }
        handle = _Handle(self, self._made, self._portable(model), _name(model), options)
        self._made += 1
        return IsolatedSession(**self._load(handle), handle=handle)

    def judge(self, model: Model, outputs: Collection[str] = ()) -> IsolatedJudge:
        """A float64 evaluation of the model, with the tensors `outputs` too. Raises Unjudgeable.

        It is made of the same arrays and loops wherever it runs; in the child it takes no memory
        that the caller needs, and heeds no setting of the caller's.
        """
        made = IsolatedJudge(self, self._made, self._portable(model), tuple(outputs))
        self._made += 1
        made.prepare()
        return made

    def evaluate(self, judge: IsolatedJudge, *args: Any) -> dict[str, Any]:
        """What the evaluation gives; it is prepared again after a crash."""
        if judge.key not in self._judges or self._ends != self._caller.ends:
            judge.prepare()
        values: dict[str, Any] = self._caller.call("evaluate", judge.key, *args, doing=_JUDGING)
        return values

    def prepare(self, judge: IsolatedJudge) -> None:
        """Load what an evaluation needs."""
        self._notice_end()
        self._release([])
        self._caller.call("judge", judge.key, judge.model, judge.outputs, doing=_JUDGING)
        self._judges.add(judge.key)

    def environment(self) -> dict[str, str]:
        """As `runtime.environment`, without loading the runtime in this process."""
        found: dict[str, str] = self._caller.call(
            "bnfold.runtime:environment", doing="telling its version"
        )
        return found

    def run(self, handle: _Handle, feeds: Feeds) -> dict[str, Any]:
        """What the session gives; it is opened again where it was closed to make room."""
        if handle.key not in self._open or self._ends != self._caller.ends:
            self._load(handle)
        shapes = ", ".join(f"{name} {np.shape(array)}" for name, array in feeds.items())
        doing = f"running {handle.text} with {shapes or 'no inputs'}"
        values = self._caller.call("run", handle.key, feeds, doing=doing)
        return {name: self._kept(value) for name, value in values.items()}

    def forget(self, key: int) -> None:
        """A session that nobody holds any more: it goes with the next request."""
        self._unheld.append(key)

    def _load(self, handle: _Handle) -> dict[str, Any]:
        self._notice_end()
        size = COPIES * self._size(handle.model)
        self._release([])
        self._release(self._in_the_way(size))
        fields: dict[str, Any] = self._caller.call(
            "open", handle.key, handle.model, handle.options, doing=f"loading {handle.text}"
        )
        self._open[handle.key] = size
        return fields

    def _notice_end(self) -> None:
        """In a new child nothing is open."""
        if self._ends != self._caller.ends:
            self._open.clear()
            self._judges.clear()
            self._ends = self._caller.ends

    def _release(self, keys: Sequence[int]) -> None:
        """Close these sessions, and what nobody holds any more."""
        leaving = [*keys, *(self._unheld.pop() for _ in range(len(self._unheld)))]
        for key in leaving:
            self._open.pop(key, None)
            self._judges.discard(key)
        if leaving:
            self._caller.call("close", leaving, doing="closing a session")

    def _in_the_way(self, size: int) -> list[int]:
        """The oldest sessions, as many as must go for another of `size` bytes."""
        held = dict(self._open)
        free = free_memory()
        going: list[int] = []
        for key in list(held):
            if free is None or SHARE * (sum(held.values()) + size) <= free + sum(held.values()):
                break
            going.append(key)
            del held[key]
        return going

    def _portable(self, model: Model) -> str | onnx.ModelProto:
        """The model as a path, which stays the same for every session that is made of it."""
        if isinstance(model, (str, Path)):
            return os.path.abspath(model)
        if isinstance(self._caller, Here):
            return model
        if id(model) not in self._files:
            folder = self._folder / str(len(self._files))
            self._files[id(model)] = model, _written(model, folder)
        return str(self._files[id(model)][1])

    def _size(self, model: str | onnx.ModelProto) -> int:
        """Bytes of a model, its data files included."""
        if isinstance(model, onnx.ModelProto):
            return byte_size(model)
        if model not in self._sizes:
            self._sizes[model] = disk_size(Path(model))
        return self._sizes[model]

    def _kept(self, value: Any) -> Any:
        """A large array as a map of a file: the system can drop its pages, and find them again."""
        if not isinstance(value, np.ndarray) or value.nbytes < ON_DISK or value.dtype.hasobject:
            return value
        with _writing_scratch():
            handle, path = tempfile.mkstemp(dir=self._folder)
            with os.fdopen(handle, "wb") as file:
                value.tofile(file)
            mapped = np.memmap(path, value.dtype, "c", shape=value.shape)
        if os.name == "posix":
            os.unlink(path)  # the map holds it as long as it is used
        return np.asarray(mapped)

    @functools.cached_property
    def _folder(self) -> Path:
        """Where files go that live as long as this object."""
        return self._scratch.enter_context(_scratch_folder())


class _Handle:
    """A session in the child by its key, and all that is needed to open it once more."""

    def __init__(
        self,
        sessions: Sessions,
        key: int,
        model: str | onnx.ModelProto,
        name: str,
        options: Mapping[str, Any],
    ) -> None:
        self.sessions, self.key, self.model, self.options = sessions, key, model, options
        provider = options["provider"]
        provider = provider if isinstance(provider, str) else provider[0]
        self.text = f"{name} on {provider} at level {options['level']}"

    def run(self, feeds: Feeds) -> dict[str, Any]:
        return self.sessions.run(self, feeds)

    def __del__(self) -> None:
        self.sessions.forget(self.key)


class IsolatedJudge:
    """A `bnfold.judge.Judge` in the child."""

    def __init__(
        self,
        sessions: Sessions,
        key: int,
        model: str | onnx.ModelProto,
        outputs: tuple[str, ...],
    ) -> None:
        self.sessions, self.key, self.model, self.outputs = sessions, key, model, outputs

    def run(
        self, feeds: Feeds, seconds: float | None = None, *, single: bool = False
    ) -> dict[str, Any]:
        """As `Judge.run`: raises OutOfTime and Unjudgeable."""
        with _crash_is_unjudgeable():
            return self.sessions.evaluate(self, feeds, seconds, single)

    def prepare(self) -> None:
        """Load the model; once more where the child crashed. Raises Unjudgeable."""
        with _crash_is_unjudgeable():
            self.sessions.prepare(self)

    def __del__(self) -> None:
        self.sessions.forget(self.key)


@contextlib.contextmanager
def _crash_is_unjudgeable() -> Iterator[None]:
    from bnfold.judge import Unjudgeable

    try:
        yield
    except RuntimeCrashed as error:
        raise Unjudgeable("it took more time or memory than there is") from error


@contextlib.contextmanager
def _writing_scratch() -> Iterator[None]:
    """A full disk is the user's to know, and no fault of bnfold."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"a temporary file cannot be written: {error.strerror or error}",
            "free some space, or set TMPDIR to a folder with more",
        ) from error


@contextlib.contextmanager
def _scratch_folder() -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        with _writing_scratch():
            made = tempfile.TemporaryDirectory(prefix="bnfold-", ignore_cleanup_errors=True)
            folder = stack.enter_context(made)
        yield Path(folder)


def _written(model: onnx.ModelProto, folder: Path) -> Path:
    """The model as a file in a new folder."""
    with _writing_scratch():
        folder.mkdir()
        return write_loadable(model, folder)


def _name(model: Model) -> str:
    return "the model" if isinstance(model, onnx.ModelProto) else Path(model).name


# --- whole functions -----------------------------------------------------------------------


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
                with _scratch_folder() as folder:
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
    return _written(value, folder) if isinstance(value, onnx.ModelProto) else value
