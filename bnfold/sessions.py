"""Which sessions are open in the child process? As many as the memory holds."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx

from bnfold import isolation
from bnfold.errors import RuntimeCrashed
from bnfold.memory import disk_size, free_memory
from bnfold.modelio import byte_size
from bnfold.runtime import CPU, Feeds, Level, Provider, Session, write_scratch
from bnfold.scratch import scratch_folder, writing_scratch

Model = onnx.ModelProto | str | Path

COPIES = 2
"""How often a session holds its model's weights: as they are, and packed for its kernels."""
SHARE = 4
"""Open sessions may hold one part in so many of the free memory; beyond it the oldest goes."""
ON_DISK = 1 << 26
"""Bytes from which a result is kept on disk."""

_JUDGING = "evaluating the model in float64"


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

    def __init__(
        self, isolate: bool = True, patience_s: float | None = isolation.PATIENCE_S
    ) -> None:
        self._caller: isolation.Caller = (
            isolation.Child(patience_s) if isolate else isolation.Here()
        )
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
        if isinstance(self._caller, isolation.Here):
            return model
        if id(model) not in self._files:
            folder = self._folder / str(len(self._files))
            self._files[id(model)] = model, write_scratch(model, folder)
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
        with writing_scratch():
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
        return self._scratch.enter_context(scratch_folder())


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


def _name(model: Model) -> str:
    return "the model" if isinstance(model, onnx.ModelProto) else Path(model).name
