"""On which processors does this process run? That is told, and chosen where the system lets one.

A runtime's threads inherit the processors of the thread that makes its session, as long as their
number is given: so whoever chooses processors also says how many threads there are.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bnfold.errors import InputError

TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
"""Where Linux tells which processors are threads of one core."""
CPUINFO = "/proc/cpuinfo"
"""Where Linux tells what its processors are called."""


def allowed() -> tuple[int, ...] | None:
    """The processors that this thread may run on; None where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return None


def cores() -> int:
    """How many cores these are: a core that runs two threads computes for one."""
    numbers = allowed()
    if numbers is None:
        return os.cpu_count() or 1
    return len({_siblings(number) for number in numbers})


def _siblings(number: int) -> str:
    """What names the core of a processor: all processors on it, or just this one."""
    try:
        return Path(TOPOLOGY.format(number)).read_text("ascii").strip()
    except OSError:
        return str(number)


def described(pin: Sequence[int] = ()) -> str:
    """The processors in words, as a report's environment has them."""
    numbers = allowed()
    if numbers is None:
        return f"{os.cpu_count() or 1}; which of them is not told on {sys.platform}"
    how = "pinned" if pin else "not pinned"
    return f"{','.join(map(str, numbers))} of {os.cpu_count() or 1}, {how}"


def model_name() -> str:
    """What kind of processor it is, as its maker calls it."""
    with suppress(OSError, UnicodeDecodeError):
        for line in Path(CPUINFO).read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@contextmanager
def pinned(pin: Sequence[int]) -> Iterator[None]:
    """Run on these processors only, and on all of before afterwards; on any for none.

    Raises InputError for a processor that there is not, and where the system has no such choice.
    """
    before = allowed()
    if not pin:
        yield
        return
    if before is None:
        raise InputError(
            f"processors cannot be chosen on {sys.platform}", "leave the choice of processors out"
        )
    unknown = sorted(set(pin) - set(before))
    if unknown:
        raise InputError(
            f"processor {unknown[0]} is not among those that this process may use",
            f"choose among {', '.join(map(str, before))}",
        )
    os.sched_setaffinity(0, pin)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
