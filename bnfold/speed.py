"""How much faster is the candidate? Paired, interleaved, and with a control.

The original, the original in a second session and the candidate take turns in random order in
one process. What the original shows against itself is the noise of the machine; a speedup is
claimed only beyond it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import onnx

from bnfold import arguments, cpus, operations
from bnfold.batches import batch_dims
from bnfold.errors import InputError, MemoryUnavailable, RuntimeUnavailable
from bnfold.feeds import Data, make_samples
from bnfold.footprint import footprint
from bnfold.isolation import PATIENCE_S, isolated
from bnfold.measuring import ENOUGH, Feeds, Setting, measure
from bnfold.memory import shortage
from bnfold.modelio import open_model
from bnfold.ownfolds import own_folds
from bnfold.runtime import (
    BN_FUSIONS,
    CPU,
    Level,
    Provider,
    environment,
    open_session,
    write_loadable,
)
from bnfold.scratch import scratch_folder
from bnfold.sizes import Dims, check_same_inputs
from bnfold.stored import StoredModel
from bnfold.timings import SpeedReport

Model = onnx.ModelProto | str | Path
Progress = Callable[[str, int, int], None]

BUDGET_S = 20.0
GLANCE_S, GLANCE = 12.0, 0.02
"""Budget and half width for a first impression, which `optimize` gives."""
USUAL = 224
"""An open dimension is timed at the size of an ordinary image where the model runs at it."""
STREAMS = 3
"""Models that take turns in each round, beside variants."""


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
    pin: Sequence[int] = (),
    budget_s: float = BUDGET_S,
    precision: float = ENOUGH,
    seed: int = 0,
    footprints: bool = False,
    attribution: bool = False,
    variants: Mapping[str, Model] | None = None,
    progress: Progress | None = None,
    isolate: bool = True,  # noqa: ARG001 - `isolated` reads both
    timeout_s: float | None = PATIENCE_S,  # noqa: ARG001
) -> SpeedReport:
    """Time both models on each provider at each level; `budget_s` seconds are shared evenly.

    Several `threads` or `batches` are a sweep: everything is timed at each of them; without
    `threads` it is one for each core. `pin` chooses the processors to run on. Timing ends earlier
    where the 95 % interval is within `precision` of its middle. The first sample of `data` is the
    input, else one generated at the sizes in `dims`. Raises ModelError, InputError,
    RuntimeUnavailable, ProviderUnavailable and MemoryUnavailable.

    All of it runs in one child process, so that a runtime that crashes, or is silent for
    `timeout_s` beyond the budget, is an error here (RuntimeCrashed); `isolate=False` runs it in
    this process.

    With `footprints` each model is also loaded in a process of its own, for its time to the first
    result and its memory. With `attribution` it is also measured what the runtime's own folds are
    worth, where it makes any. `variants` are further models by name, timed in the rounds of the
    first measurement: the candidate with one thing switched off tells what that thing is worth.
    """
    if budget_s <= 0:
        raise InputError(f"a budget of {budget_s:g} s measures nothing", "give some seconds")
    if batches and data is not None:
        raise InputError("given data has its own batch", "leave out either the data or the batch")
    chosen = arguments.providers(providers) or (CPU,)
    levels = cast(Sequence[Level], arguments.names(levels, "levels"))
    pin = arguments.numbers(pin, "pin")
    batches = arguments.numbers(batches, "batches")
    loaded = open_model(original), open_model(candidate)
    check_same_inputs(*(model.proto for model in loaded))
    _check_memory(loaded)
    variants, spared = _affordable(variants or {}, loaded)
    with cpus.pinned(pin), on_disk([original, candidate, *variants.values()]) as files:
        before, after = files[:2]
        counts = arguments.numbers(threads or cpus.cores(), "threads")
        fed = _feeds(
            before, loaded[0].proto, data, swept(loaded[0].proto, dims, batches), counts[0], seed
        )
        own = own_folds(before, loaded[0].proto)
        apart = attribution and own.any and levels[0] != "disable"
        conditions = list(itertools.product(fed, counts, chosen, levels))
        streams = STREAMS * (len(conditions) + apart) + len(variants)

        def setting(index: int, models: int = STREAMS) -> Setting:
            _, count, provider, level = conditions[index]
            return Setting(provider, level, count, models * budget_s / streams, seed, precision)

        first = setting(0, STREAMS + len(variants))
        ready, notes = _loading(dict(zip(variants, files[2:], strict=True)), first)
        measurements = []
        for index, (feeds, *_) in enumerate(conditions):
            if progress is not None:
                progress("bench", index, len(conditions) + apart)
            timed = (setting(index), {}) if index else (first, ready)
            measurements.append(measure(before, after, feeds, *timed))
        without = dataclasses.replace(setting(0), without=BN_FUSIONS)
        return SpeedReport(
            measurements=tuple(measurements),
            seed=seed,
            sentence=own.sentence,
            **_facts(loaded, {name: array.shape for name, array in fed[0].items()}),
            own_folds=measure(before, before, fed[0], without) if apart else None,
            **(_footprints(files[:2], fed[0], first) if footprints else {}),
            notes=(*spared, *notes),
            environment=environment() | {"processors": cpus.described(pin)},
        )


def _check_memory(models: Sequence[StoredModel]) -> None:
    """Raises MemoryUnavailable where the sessions, that take turns, cannot all be open."""
    short = shortage(STREAMS * max(model.byte_size for model in models))
    if short:
        raise MemoryUnavailable(
            f"timing holds {STREAMS} sessions at once: {short}",
            "close other programs, or use a machine with more memory",
        )


def _affordable(
    variants: Mapping[str, Model], models: Sequence[StoredModel]
) -> tuple[Mapping[str, Model], tuple[str, ...]]:
    """The variants, or none of them and a note where their sessions too would be too much."""
    short = shortage((STREAMS + len(variants)) * max(model.byte_size for model in models))
    if not variants or not short:
        return variants, ()
    return {}, (f"{', '.join(variants)}: what each is worth was not timed, since {short}",)


@contextmanager
def on_disk(models: Sequence[Model]) -> Iterator[list[Path]]:
    """Every model as a file, as it is deployed: else reading would be timed for some of them."""
    with scratch_folder() as folder:
        files = []
        for index, model in enumerate(models):
            if isinstance(model, onnx.ModelProto):
                own = folder / str(index)
                own.mkdir()
                files.append(write_loadable(model, own))
            else:
                files.append(Path(model))
        yield files


def swept(model: onnx.ModelProto, dims: Dims | None, batches: Sequence[int]) -> list[Dims | None]:
    """The sizes for each batch; once those given where no batch is."""
    if not batches:
        return [dims]
    return [{**(dims or {}), **batch_dims(model, batch)} for batch in batches]


def _feeds(
    path: Path,
    model: onnx.ModelProto,
    data: Data | None,
    sizes: Sequence[Dims | None],
    threads: int,
    seed: int,
) -> list[Feeds]:
    """What is fed, for each of the sizes."""
    run = open_session(path, level="disable", threads=threads).run
    return [
        make_samples(model, run, data=data, dims=each, samples=1, seed=seed, prefer=USUAL)
        .items[0]
        .feeds
        for each in sizes
    ]


def _loading(
    variants: Mapping[str, Path], setting: Setting
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The variants that the runtime takes, and a note on each of the others."""
    ready: dict[str, Path] = {}
    notes = []
    for name, path in variants.items():
        try:
            setting.open(path)
            ready[name] = path
        except RuntimeUnavailable as error:
            notes.append(f"{name}: what it is worth was not timed, since {error}")
    return ready, tuple(notes)


def _facts(loaded: Sequence[StoredModel], shapes: operations.Shapes) -> dict[str, Any]:
    """What can be told of both models without running them."""
    return {
        f"{which}_{name}": value
        for which, model in zip(("original", "candidate"), loaded, strict=True)
        for name, value in (
            ("bytes", model.byte_size),
            ("nodes", len(model.proto.graph.node)),
            ("parameters", operations.parameters(model.proto)),
            ("work", operations.count(model.proto, shapes)),
        )
    }


def _footprints(paths: Sequence[Path], feeds: Feeds, setting: Setting) -> dict[str, Any]:
    """What a session of each model costs, in a process of its own."""
    options: dict[str, Any] = {"provider": setting.provider, "level": setting.level}
    return {
        f"{which}_footprint": footprint(path, feeds, threads=setting.threads, **options)
        for which, path in zip(("original", "candidate"), paths, strict=True)
    }
