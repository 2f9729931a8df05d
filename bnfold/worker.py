"""What does the child process do? It answers one request after another until its input ends.

`bnfold.isolation` is the other end. What native code prints here goes to standard error, never
into the answers; and when the parent is gone, however it went, so is this process.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from bnfold import frames

Progress = Callable[[str, int, int], None]


class Server:
    """Calls functions by name, and holds sessions and float64 evaluations by their keys."""

    def __init__(self) -> None:
        self.sessions: dict[int, Any] = {}
        self.judges: dict[int, Any] = {}

    def answer(
        self,
        name: str,
        args: Sequence[Any],
        keywords: Mapping[str, Any],
        progress: Progress | None = None,
    ) -> Any:
        """The result of `name`: a method of this class, or "module:function"."""
        if ":" not in name:
            return getattr(self, name)(*args, **keywords)
        module, function = name.split(":")
        if progress is not None:
            keywords = {**keywords, "progress": progress}
        return getattr(import_module(module), function)(*args, **keywords)

    def open(self, key: int, model: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """Open a session and keep it under `key`; all of its fields but the handle."""
        from bnfold.runtime import open_session

        made = self.sessions[key] = open_session(model, **options)
        fields = ("provider", "level", "inputs", "outputs", "create_ms")
        return {field: getattr(made, field) for field in fields}

    def run(self, key: int, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Run the session under `key`."""
        values: dict[str, Any] = self.sessions[key].run(feeds)
        return values

    def judge(self, key: int, model: Any, outputs: Sequence[str]) -> None:
        """Prepare a float64 evaluation of a model, and keep it under `key`."""
        from bnfold.judge import Judge
        from bnfold.modelio import load_model
        from bnfold.runtime import expose

        self.judges[key] = Judge(expose(load_model(model), outputs))

    def evaluate(
        self, key: int, feeds: Mapping[str, Any], seconds: float | None, single: bool
    ) -> dict[str, Any]:
        """Run the evaluation under `key`."""
        options = {"single": True} if single else {}
        values: dict[str, Any] = self.judges[key].run(feeds, seconds, **options)
        return values

    def close(self, keys: Sequence[int]) -> None:
        """Let sessions and evaluations go."""
        for key in keys:
            self.sessions.pop(key, None)
            self.judges.pop(key, None)


def main() -> None:
    """Serve until standard input ends."""
    _prepare()
    answers = _private_stdout()
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests,), daemon=True).start()
    server = Server()
    while True:
        name, args, keywords, wants_progress = requests.get()
        progress = _Reporter(answers) if wants_progress else None
        answer: tuple[Any, ...]
        try:
            answer = ("done", server.answer(name, args, keywords, progress))
        except BaseException as error:
            answer = ("raised", _portable(error), traceback.format_exc())
        del args, keywords
        _send(answers, answer)
        del answer


class _Reporter:
    """Sends progress to the parent."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def __call__(self, stage: str, done: int, total: int) -> None:
        frames.write(self.stream, ("progress", (stage, done, total)))


def _send(stream: IO[bytes], answer: tuple[Any, ...]) -> None:
    try:
        frames.write(stream, answer)
    except (pickle.PicklingError, TypeError, AttributeError):  # a result of the runtime's own type
        kind = type(answer[1]).__name__
        refusal = TypeError(f"{kind} cannot pass between processes")
        frames.write(stream, ("raised", refusal, ""))


def _portable(error: BaseException) -> BaseException:
    """The error itself where it survives the way, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever a foreign class does when it is made again
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


# --- the process ---------------------------------------------------------------------------


def _receive(requests: queue.SimpleQueue[Any]) -> None:
    """Read requests as they come; the end of them is the end of the process, busy or not."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            requests.put(frames.read(sys.stdin.buffer))
    os._exit(0)  # no clean-up: a runtime that is busy would not let it end


def _private_stdout() -> IO[bytes]:
    """Standard output for answers alone: what anybody else prints goes to standard error."""
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return stream


def _prepare() -> None:
    """Leave interrupts to the parent, end with it, and be the first to go when memory is short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # of onnx's evaluator, about values that are not finite
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
        _end_with_parent()


def _end_with_parent() -> None:
    """Have the kernel end this process with its parent, should native code hold the lock."""
    import ctypes

    set_death_signal = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_death_signal, int(signal.SIGKILL), 0, 0, 0)
