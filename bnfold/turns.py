"""Who runs when? Streams take turns in random order until enough is known, or time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from bnfold import pairing

Call = Callable[[], object]
Times = dict[str, NDArray[np.float64]]
"""Seconds of each stream, round by round."""

ROUNDS = (15, 2000)
"""Fewest and most rounds; below fifteen a bootstrap interval means little."""
AT_LEAST = 3
"""Rounds of a model so slow that its budget is spent before."""
SAMPLE_S = 2e-3
"""A timing sample lasts at least so long: shorter ones would measure the clock and the call."""


def take_turns(
    calls: Mapping[str, Call], *, budget_s: float, seed: int, enough: Callable[[Times], bool]
) -> tuple[Times, int]:
    """Warm up, then time every stream in each round; also how many runs the warm-up took.

    Ends where `enough` says so of the times until then, or when the budget is spent.
    """
    start = time.perf_counter()
    warmup = warm_up(calls, budget_s / 4)
    repeats = repeats_of(calls)
    left = budget_s - (time.perf_counter() - start)
    return rounds(calls, repeats, budget_s=left, seed=seed, enough=enough), warmup


def warm_up(calls: Mapping[str, Call], budget_s: float) -> int:
    """Run until no stream gets faster any more, or the budget ends; how many runs it took."""
    start = time.perf_counter()
    history: dict[str, list[float]] = {name: [] for name in calls}
    while True:
        for name, call in calls.items():
            history[name].append(seconds(call))
        if all(pairing.is_warm(times) for times in history.values()):
            break
        if time.perf_counter() - start > budget_s:
            break
    return max(map(len, history.values()))


def repeats_of(calls: Mapping[str, Call]) -> int:
    """How many calls make one timing sample; the same for all streams."""
    shortest = min(min(seconds(call) for _ in range(3)) for call in calls.values())
    return max(1, int(np.ceil(SAMPLE_S / max(shortest, 1e-9))))


def rounds(
    calls: Mapping[str, Call],
    repeats: int,
    *,
    budget_s: float,
    seed: int,
    enough: Callable[[Times], bool],
) -> Times:
    """Every stream once a round, in an order that is drawn anew each time."""
    rng = np.random.default_rng(seed)
    names = tuple(calls)
    start = time.perf_counter()
    times: dict[str, list[float]] = {name: [] for name in names}
    fewest, most = ROUNDS
    for done in range(1, most + 1):
        for index in rng.permutation(len(names)):
            times[names[index]].append(seconds(calls[names[index]], repeats))
        if time.perf_counter() - start > budget_s and done >= AT_LEAST:
            break
        if done % fewest == 0 and enough(_arrays(times)):
            break
    return _arrays(times)


def _arrays(times: Mapping[str, list[float]]) -> Times:
    return {name: np.array(values) for name, values in times.items()}


def seconds(call: Call, repeats: int = 1) -> float:
    """Seconds per call."""
    start = time.perf_counter_ns()
    for _ in range(repeats):
        call()
    return 1e-9 * (time.perf_counter_ns() - start) / repeats
