"""How much faster is the candidate? Paired, interleaved, and with a control.

The original, the original in a second session and the candidate take turns in random order in
one process. What the original shows against itself is the noise of the machine; a speedup is
claimed only beyond it.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold import operations, pairing
from bnfold.batches import batch_dims
from bnfold.errors import BnfoldError, InputError, MemoryUnavailable
from bnfold.feeds import Data, make_samples
from bnfold.footprint import footprint
from bnfold.isolation import PATIENCE_S, isolated
from bnfold.memory import shortage
from bnfold.modelio import byte_size, load_model
from bnfold.report import SpeedMeasurement, SpeedReport
from bnfold.runtime import (
    BN_FUSIONS,
    CPU,
    GPU_PROVIDERS,
    Level,
    Provider,
    Session,
    environment,
    open_session,
)
from bnfold.sizes import Dims

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Model = onnx.ModelProto | str | Path
Progress = Callable[[str, int, int], None]

BUDGET_S = 20.0
ENOUGH = 0.005
"""Half width of the interval, relative, at which more rounds tell nothing that matters."""
GLANCE_S, GLANCE = 12.0, 0.02
"""Budget and half width for a first impression, which `optimize` gives."""
ROUNDS = (15, 2000)
"""Fewest and most rounds; below fifteen a bootstrap interval means little."""
SAMPLE_S = 2e-3
"""A timing sample lasts at least so long: shorter ones would measure the clock and the call."""
USUAL = 224
"""An open dimension is timed at the size of an ordinary image where the model runs at it."""
QUIET = {"session.force_spinning_stop": "1"}
"""Idle threads of one session would otherwise spin on through the next one's turn."""
STREAMS = ("original", "again", "candidate")


@isolated("timing")
def bench(
    original: Model,
    candidate: Model,
    *,
    data: Data | None = None,
    dims: Dims | None = None,
    providers: Sequence[Provider] | None = None,
    levels: Sequence[Level] = ("all", "disable"),
    threads: int | Sequence[int] | None = None,
    batches: Sequence[int] = (),
    budget_s: float = BUDGET_S,
    precision: float = ENOUGH,
    seed: int = 0,
    footprints: bool = False,
    attribution: bool = False,
    progress: Progress | None = None,
    isolate: bool = True,  # noqa: ARG001 - `isolated` reads both
    timeout_s: float | None = PATIENCE_S,  # noqa: ARG001
) -> SpeedReport:
    """Time both models on each provider at each level; `budget_s` seconds are shared evenly.

    Several `threads` or `batches` are a sweep: everything is timed at each of them. Timing ends
    earlier where the 95 % interval is within `precision` of its middle. The first sample of
    `data` is the input, else one generated at the sizes in `dims`. Raises ModelError, InputError,
    RuntimeUnavailable, ProviderUnavailable and MemoryUnavailable.

    All of it runs in one child process, so that a runtime that crashes, or is silent for
    `timeout_s` beyond the budget, is an error here (RuntimeCrashed); `isolate=False` runs it in
    this process.

    With `footprints` each model is also loaded in a process of its own, for its time to the first
    result and its memory. With `attribution` it is also measured what the runtime's own folds are
    worth, where it makes any.
    """
    if budget_s <= 0:
        raise InputError(f"a budget of {budget_s:g} s measures nothing", "give some seconds")
    models = load_model(original), load_model(candidate)
    if batches and data is not None:
        raise InputError("given data has its own batch", "leave out either the data or the batch")
    _check_memory(models)
    counts = threads if isinstance(threads, Sequence) else (threads,)
    session = open_session(original, level="disable", threads=counts[0])
    fed = [
        make_samples(
            models[0], session.run, data=data, dims=sizes, samples=1, seed=seed, prefer=USUAL
        )
        .items[0]
        .feeds
        for sizes in _swept(models[0], dims, batches)
    ]
    del session
    plan = list(itertools.product(fed, counts, providers or (CPU,), levels))
    attributed = attribution and levels[0] != "disable" and folds_itself(original, models[0])
    share = budget_s / (len(plan) + attributed)
    measurements = []
    for done, (feeds, count, provider, level) in enumerate(plan):
        if progress is not None:
            progress("bench", done, len(plan))
        setting = Setting(provider, level, count, share, seed, precision)
        measurements.append(measure(original, candidate, feeds, setting))
    own = None
    if attributed:
        feeds, count, provider, level = plan[0]
        setting = Setting(provider, level, count, share, seed, precision, without=BN_FUSIONS)
        own = measure(original, original, feeds, setting)
    shapes = {name: array.shape for name, array in fed[0].items()}
    sizes = [
        footprint(model, fed[0], provider=plan[0][2], level=plan[0][3], threads=counts[0])
        if footprints
        else None
        for model in (original, candidate)
    ]
    return SpeedReport(
        measurements=tuple(measurements),
        seed=seed,
        sentence=own_folding(original, models[0]),
        original_bytes=byte_size(models[0]),
        candidate_bytes=byte_size(models[1]),
        original_nodes=len(models[0].graph.node),
        candidate_nodes=len(models[1].graph.node),
        original_parameters=operations.parameters(models[0]),
        candidate_parameters=operations.parameters(models[1]),
        original_work=operations.count(models[0], shapes),
        candidate_work=operations.count(models[1], shapes),
        own_folds=own,
        original_footprint=sizes[0],
        candidate_footprint=sizes[1],
        environment=environment() | {"cpus": str(_cpus())},
    )


def _check_memory(models: Sequence[onnx.ModelProto]) -> None:
    """Raises MemoryUnavailable where the sessions, that take turns, cannot all be open."""
    short = shortage(len(STREAMS) * max(byte_size(model) for model in models))
    if short:
        raise MemoryUnavailable(
            f"timing holds {len(STREAMS)} sessions at once: {short}",
            "close other programs, or use a machine with more memory",
        )


def _swept(model: onnx.ModelProto, dims: Dims | None, batches: Sequence[int]) -> list[Dims | None]:
    """The sizes for each batch; once those given where no batch is."""
    if not batches:
        return [dims]
    return [{**(dims or {}), **batch_dims(model, batch)} for batch in batches]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how long to measure."""

    provider: Provider
    level: Level
    threads: int | None
    budget_s: float
    seed: int
    precision: float = ENOUGH
    without: tuple[str, ...] = ()
    """Optimizers of the runtime that are off for the original, and on for the candidate."""


def measure(original: Model, candidate: Model, feeds: Feeds, setting: Setting) -> SpeedMeasurement:
    """One provider at one level."""
    start = time.perf_counter()
    models = {"original": original, "again": original, "candidate": candidate}
    sessions = {
        name: open_session(
            model,
            provider=setting.provider,
            level=setting.level,
            threads=setting.threads,
            without=() if name == "candidate" else setting.without,
            config=QUIET,
        )
        for name, model in models.items()
    }
    calls = {name: caller(session, feeds) for name, session in sessions.items()}
    warmup = _warm_up(calls, setting.budget_s / 4)
    repeats = _repeats(calls)
    left = setting.budget_s - (time.perf_counter() - start)
    times = _rounds(calls, repeats, left, setting.seed, setting.precision)
    return _summarize(times, sessions, feeds, setting, warmup)


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
        value = _device_value(array)
        binding.bind_ortvalue_input(name, value)
    for port in session.outputs:
        binding.bind_output(port.name, "cuda")

    def run() -> None:
        session.handle.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def _device_value(array: Array) -> Any:
    from bnfold.runtime import ort

    return ort().OrtValue.ortvalue_from_numpy(array, "cuda", 0)


def _time(call: Callable[[], object], repeats: int = 1) -> float:
    """Seconds per call."""
    start = time.perf_counter_ns()
    for _ in range(repeats):
        call()
    return 1e-9 * (time.perf_counter_ns() - start) / repeats


def _warm_up(calls: Mapping[str, Callable[[], object]], budget_s: float) -> int:
    """Run until no stream gets faster any more, or the budget ends; how many runs it took."""
    start = time.perf_counter()
    history: dict[str, list[float]] = {name: [] for name in calls}
    while True:
        for name, call in calls.items():
            history[name].append(_time(call))
        if all(pairing.is_warm(times) for times in history.values()):
            break
        if time.perf_counter() - start > budget_s:
            break
    return len(history["original"])


def _repeats(calls: Mapping[str, Callable[[], object]]) -> int:
    """How many calls make one timing sample; the same for all streams."""
    shortest = min(min(_time(call) for _ in range(3)) for call in calls.values())
    return max(1, int(np.ceil(SAMPLE_S / max(shortest, 1e-9))))


def _rounds(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    budget_s: float,
    seed: int,
    precision: float = ENOUGH,
) -> dict[str, NDArray[np.float64]]:
    """Times in seconds, one for each stream and round, until the interval is narrow enough."""
    rng = np.random.default_rng(seed)
    start = time.perf_counter()
    times: dict[str, list[float]] = {name: [] for name in STREAMS}
    fewest, most = ROUNDS
    for done in range(1, most + 1):
        for index in rng.permutation(len(STREAMS)):
            name = STREAMS[index]
            times[name].append(_time(calls[name], repeats))
        elapsed = time.perf_counter() - start
        if elapsed > budget_s and done >= 3:  # a slow model gets three rounds, whatever it takes
            break
        if done >= fewest and done % fewest == 0 and _is_narrow(times, seed, precision):
            break
    return {name: np.array(values) for name, values in times.items()}


def _is_narrow(times: Mapping[str, Sequence[float]], seed: int, precision: float) -> bool:
    original, again, candidate = (np.array(times[name]) for name in STREAMS)
    both = (
        pairing.paired_ratio(original, candidate, seed),
        pairing.paired_ratio(original, again, seed),
    )
    return all(ratio.half_width <= precision for ratio in both)


def _summarize(
    times: Mapping[str, NDArray[np.float64]],
    sessions: Mapping[str, Session],
    feeds: Feeds,
    setting: Setting,
    warmup: int,
) -> SpeedMeasurement:
    original, again, candidate = (times[name] for name in STREAMS)
    speedup = pairing.paired_ratio(original, candidate, setting.seed)
    control = pairing.paired_ratio(original, again, setting.seed)
    stable = pairing.is_stable(control)
    return SpeedMeasurement(
        provider=sessions["original"].provider,
        level=setting.level,
        threads=setting.threads or _cpus(),
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
        original_session_ms=min(sessions["original"].create_ms, sessions["again"].create_ms),
        candidate_session_ms=sessions["candidate"].create_ms,
        times_ms={name: tuple(1e3 * float(t) for t in times[name]) for name in STREAMS},
    )


def _cpus() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- attribution ---------------------------------------------------------------------------


def own_folding(original: Model, loaded: onnx.ModelProto) -> str:
    """What the runtime would have folded by itself, in plain words."""
    before = _count(loaded.graph)
    if before == 0:
        return "The original has no BatchNormalization node that ONNX Runtime could fold."
    try:
        left = runtime_leaves(original)
    except BnfoldError as error:
        return f"What ONNX Runtime folds by itself is not known: {error}"
    folded = before - left
    if folded <= 0:
        return f"ONNX Runtime folds none of the {before} BatchNormalization nodes by itself."
    if left == 0:
        return (
            f"ONNX Runtime folds all {before} BatchNormalization nodes by itself at its default "
            "level; there, what is gained comes from elsewhere."
        )
    return (
        f"ONNX Runtime folds {folded} of the {before} BatchNormalization nodes by itself at its "
        f"default level; {left} it cannot fold."
    )


def folds_itself(original: Model, loaded: onnx.ModelProto) -> bool:
    """Whether the runtime folds any of the model's BatchNormalization nodes by itself."""
    before = _count(loaded.graph)
    try:
        return before > 0 and runtime_leaves(original) < before
    except BnfoldError:
        return False


def runtime_leaves(original: Model) -> int:
    """BatchNormalization nodes that are left in the graph the runtime makes of the model.

    Looked up at level "extended": "all" rewrites the nodes that were not folded into depthwise
    convolutions of its blocked layout, where they cannot be told from folded ones.
    """
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        path = Path(folder, "optimized.onnx")
        open_session(original, level="extended", save_optimized=path)
        return _count(onnx.load(path, load_external_data=False).graph)


def _count(graph: onnx.GraphProto) -> int:
    """BatchNormalization nodes in a graph and its subgraphs."""
    total = 0
    for node in graph.node:
        total += node.op_type == "BatchNormalization"
        for attribute in node.attribute:
            total += sum(_count(inner) for inner in attribute.graphs)
            if attribute.HasField("g"):
                total += _count(attribute.g)
    return total
