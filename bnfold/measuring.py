"""What does one setting show? Sessions of every model, timed by turns, and what the times say."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold import pairing
from bnfold.runtime import GPU_PROVIDERS, Level, Provider, Session, open_session, ort
from bnfold.timings import SpeedMeasurement, Variant
from bnfold.turns import Times, take_turns

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Model = onnx.ModelProto | str | Path

ENOUGH = 0.005
"""Half width of the interval, relative, at which more rounds tell nothing that matters."""
QUIET = {"session.force_spinning_stop": "1"}
"""Idle threads of one session would otherwise spin on through the next one's turn."""
ORIGINAL, AGAIN, CANDIDATE = STREAMS = ("original", "again", "candidate")
LOADS = 5
"""How often a session is made, at most, to tell how long that takes."""
LOADING = 0.1
"""Share of the budget that this may take."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how long to measure."""

    provider: Provider
    level: Level
    threads: int
    budget_s: float
    seed: int
    precision: float = ENOUGH
    without: tuple[str, ...] = ()
    """Optimizers of the runtime that are off for the original, and on for the candidate."""

    def open(self, model: Model, *, without: tuple[str, ...] = ()) -> Session:
        """A session of a model, as it is timed here."""
        return open_session(
            model,
            provider=self.provider,
            level=self.level,
            threads=self.threads,
            without=without,
            config=QUIET,
        )


def measure(
    original: Model,
    candidate: Model,
    feeds: Feeds,
    setting: Setting,
    variants: Mapping[str, Model] = MappingProxyType({}),
) -> SpeedMeasurement:
    """One provider at one level. Variants take their turns in the same rounds."""
    opened = {
        ORIGINAL: partial(setting.open, original, without=setting.without),
        AGAIN: partial(setting.open, original, without=setting.without),
        CANDIDATE: partial(setting.open, candidate),
        **{_stream(name): partial(setting.open, model) for name, model in variants.items()},
    }
    sessions = {name: make() for name, make in opened.items()}
    times, warmup = take_turns(
        {name: caller(session, feeds) for name, session in sessions.items()},
        budget_s=(1 - LOADING) * setting.budget_s,
        seed=setting.seed,
        enough=partial(is_narrow, seed=setting.seed, precision=setting.precision),
    )
    provider = sessions[ORIGINAL].provider
    first = {name: sessions[name].create_ms for name in (AGAIN, CANDIDATE)}
    del sessions
    loads = _loads(opened[ORIGINAL], opened[CANDIDATE], first, LOADING * setting.budget_s)
    return _summary(times, setting, provider, feeds, warmup, loads)


def _stream(variant: str) -> str:
    """The stream of a variant, whatever its name is."""
    return f"variant {variant}"


def caller(session: Session, feeds: Feeds) -> Callable[[], object]:
    """A function that runs the session once and waits for it.

    On a GPU inputs and outputs are bound on the device, so that copies are not timed; running
    with a binding waits for the device.
    """
    wanted = {port.name: np.ascontiguousarray(feeds[port.name]) for port in session.inputs}
    if session.provider not in GPU_PROVIDERS:
        names = [port.name for port in session.outputs]
        return lambda: session.handle.run(names, wanted)
    binding = session.handle.io_binding()
    for name, array in wanted.items():
        value = device_value(array)
        binding.bind_ortvalue_input(name, value)
    for port in session.outputs:
        binding.bind_output(port.name, "cuda")

    def run() -> None:
        session.handle.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def device_value(array: Array) -> Any:
    """An array on the GPU."""
    return ort().OrtValue.ortvalue_from_numpy(array, "cuda", 0)


def _loads(
    original: Callable[[], Session],
    candidate: Callable[[], Session],
    first: Mapping[str, float],
    budget_s: float,
) -> dict[str, list[float]]:
    """How long sessions take to make, in milliseconds: by turns, all other ones being gone.

    The first ones, made while nothing was warm, count only where there is no time for others.
    """
    start = time.perf_counter()
    taken: dict[str, list[float]] = {ORIGINAL: [], CANDIDATE: []}
    while len(taken[CANDIDATE]) < LOADS:
        spent = time.perf_counter() - start
        if spent + 1e-3 * sum(first.values()) > budget_s:
            break
        turns = ((ORIGINAL, original), (CANDIDATE, candidate))
        for name, make in turns[:: 1 if len(taken[CANDIDATE]) % 2 else -1]:
            taken[name].append(make().create_ms)
    if not taken[CANDIDATE]:
        return {ORIGINAL: [first[AGAIN]], CANDIDATE: [first[CANDIDATE]]}
    return taken


def is_narrow(times: Times, *, seed: int, precision: float) -> bool:
    """Whether each ratio is known well enough: everything against the original or candidate."""
    original, candidate = times[ORIGINAL], times[CANDIDATE]
    pairs = [(original, candidate), (original, times[AGAIN])]
    pairs += [(values, candidate) for name, values in times.items() if name not in STREAMS]
    return all(pairing.paired_ratio(*pair, seed).half_width <= precision for pair in pairs)


def _summary(
    times: Times,
    setting: Setting,
    provider: str,
    feeds: Feeds,
    warmup: int,
    loads: Mapping[str, list[float]],
) -> SpeedMeasurement:
    original, again, candidate = (times[name] for name in STREAMS)
    speedup = pairing.paired_ratio(original, candidate, setting.seed)
    control = pairing.paired_ratio(original, again, setting.seed)
    stable = pairing.is_stable(control)
    return SpeedMeasurement(
        provider=provider,
        level=setting.level,
        threads=setting.threads,
        shapes={name: array.shape for name, array in feeds.items()},
        rounds=len(original),
        original_ms=1e3 * float(np.median(original)),
        original_spread_ms=1e3 * pairing.spread(original),
        candidate_ms=1e3 * float(np.median(candidate)),
        candidate_spread_ms=1e3 * pairing.spread(candidate),
        speedup=speedup.median,
        interval=speedup.interval,
        control=control.median,
        control_interval=control.interval,
        significant=stable and pairing.is_beyond_noise(speedup, control),
        stable=stable,
        outliers=sum(pairing.count_outliers(times[name]) for name in STREAMS),
        warmup=warmup,
        original_session_ms=float(np.median(loads[ORIGINAL])),
        candidate_session_ms=float(np.median(loads[CANDIDATE])),
        times_ms={name: tuple(1e3 * float(t) for t in times[name]) for name in STREAMS},
        variants=tuple(
            _variant(name.removeprefix(_stream("")), times, control, setting)
            for name in times
            if name not in STREAMS
        ),
    )


def _variant(name: str, times: Times, control: pairing.Ratio, setting: Setting) -> Variant:
    own = times[_stream(name)]
    speedup = pairing.paired_ratio(times[ORIGINAL], own, setting.seed)
    worth = pairing.paired_ratio(own, times[CANDIDATE], setting.seed)
    return Variant(
        name=name,
        ms=1e3 * float(np.median(own)),
        speedup=speedup.median,
        interval=speedup.interval,
        worth=worth.median,
        worth_interval=worth.interval,
        significant=pairing.is_stable(control) and pairing.is_beyond_noise(worth, control),
        times_ms=tuple(1e3 * float(t) for t in own),
    )
