"""A runtime that misbehaves, for the child process of `bnfold.isolation`.

`boot(fault)` is what the child is started with: the usual, after a fault was put into how it
opens sessions.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import onnx

from bnfold import errors, isolation, runtime

SUPPORT = str(Path(__file__).parent)
SAID = "the last words of the runtime"


class Odd(Exception):
    """An error that cannot be made again from its arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def boot(fault: str) -> str:
    """The child's program, with one of the FAULTS in it."""
    return isolation._BOOT.replace(
        "from bnfold.worker",
        f"sys.path.insert(0, {SUPPORT!r}); import faults; faults.install({fault!r}); "
        "from bnfold.worker",
    )


def segfault() -> None:
    ctypes.string_at(0)


def speak_and_abort() -> None:
    sys.stderr.write(f"{SAID}\n")
    sys.stderr.flush()
    os.abort()


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(600)


def hold_the_lock() -> None:
    """Sleep in native code that lets no other thread of Python run."""
    ctypes.PyDLL(None).sleep(600)


def chatter() -> None:
    """Print, from Python and from native code, where answers would go."""
    print("EP Error: falling back", flush=True)
    os.write(1, b"a line of native code\n")


def raise_(error: Exception) -> Any:
    def fault() -> None:
        raise error

    return fault


FAULTS = {
    "segfault": segfault,
    "abort": speak_and_abort,
    "killed": killed,
    "exit": lambda: os._exit(7),
    "hang": hang,
    "hold": hold_the_lock,
    "chatter": chatter,
    "InputError": raise_(errors.InputError("wrong", "hint")),
    "RuntimeUnavailable": raise_(errors.RuntimeUnavailable("wrong", "hint")),
    "ProviderUnavailable": raise_(errors.ProviderUnavailable("wrong", "hint")),
    "KeyError": raise_(KeyError("wrong")),
    "MemoryError": raise_(MemoryError("wrong")),
    "odd": raise_(Odd("wr", "ong")),
}


def install(fault: str) -> None:
    """Make `open_session` misbehave: always, or for models without a BatchNormalization."""
    name, _, where = fault.partition(" ")
    real, act = runtime.open_session, FAULTS[name]

    def open_session(model: Any, **options: Any) -> runtime.Session:
        proto = onnx.load(model) if isinstance(model, (str, Path)) else model
        has_bn = any(node.op_type == "BatchNormalization" for node in proto.graph.node)
        if where != "folded" or not has_bn:
            act()
        return real(model, **options)

    runtime.open_session = open_session  # type: ignore[assignment]
