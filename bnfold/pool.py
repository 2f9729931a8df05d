"""How is work on large tensors shared among processors? By a few threads, while it lasts."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

MOST = 4
"""Threads at most: more of them would wait for memory and for the disk."""
WAITING = 2
"""Tasks that are begun ahead, for each thread: what tasks hold on to stays in memory meanwhile."""


def threads() -> int:
    """How many threads are worth having: one for each processor that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return min(MOST, len(allowed(0)) if allowed else os.cpu_count() or 1)


def run(tasks: Iterable[Callable[[], Result]], count: int) -> Iterator[Result]:
    """What tasks give, in their order, computed by `count` threads; by the caller's for one.

    The iterable is read a few tasks ahead, in the caller's thread. Raises what a task raises;
    those that were not begun never are.
    """
    if count < 2:
        yield from (task() for task in tasks)
        return
    pool = ThreadPoolExecutor(count, thread_name_prefix="bnfold")
    begun: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            begun.append(pool.submit(task))
            if len(begun) > WAITING * count:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
