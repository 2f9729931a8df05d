"""What if the moving statistics were the exact ones of some data? Another function; this makes it.

A moving average forgets, lags behind the weights, and may never have left its initial values.
Here every BatchNormalization gets the mean and the variance that its input has on the given data,
layer by layer: what stands behind a replaced one is measured with the replaced statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from bnfold import arguments
from bnfold.chunks import BATCH, Chunks, rows_of
from bnfold.errors import InputError
from bnfold.feeds import Data
from bnfold.isolation import PATIENCE_S
from bnfold.modelio import check_output, open_model, save_model
from bnfold.moments import Array, Moments
from bnfold.normalizations import Normalization, Normalizations
from bnfold.order import reads
from bnfold.publishing import refuse_weights
from bnfold.report import Report
from bnfold.runtime import CPU, Provider, Session, write_loadable
from bnfold.scratch import scratch_folder
from bnfold.sessions import Sessions
from bnfold.stored import StoredModel

Progress = Callable[[str, int, int], None]

CHANGED = (
    "this is another function than before: compare its accuracy, then fold it with `optimize`"
)


@dataclass(frozen=True, slots=True)
class RecalibratedLayer:
    """One BatchNormalization, and how far its old statistics were from the exact ones.

    Distances of means are in standard deviations of the exact statistics, with epsilon;
    `variance_ratio` is old variance over exact variance, epsilon in both: smallest, median and
    largest channel.
    """

    tensor: str
    channels: int
    values: int
    """How many values each channel's statistics are of."""
    mean_off: float
    """The median channel's."""
    worst_mean_off: float
    variance_ratio: tuple[float, float, float]
    constant_channels: int
    """Channels that never varied on the data: epsilon alone is what they are divided by."""


@dataclass(frozen=True, slots=True)
class KeptLayer:
    """One BatchNormalization that stays as it was, and why."""

    tensor: str
    detail: str


@dataclass(frozen=True, slots=True)
class RecalibrationResult(Report):
    """A model with exact statistics, and what they were before."""

    layers: tuple[RecalibratedLayer, ...]
    kept: tuple[KeptLayer, ...]
    rows: int
    """How many rows of data were run, in each pass."""
    passes: int
    notes: tuple[str, ...] = ()
    output: str | None = None
    """The file that was written."""
    stored: StoredModel = field(kw_only=True, repr=False, metadata={"json": False})

    @property
    def model(self) -> onnx.ModelProto:
        """The whole model, its weights read when it is first asked for. Raises ModelError where a
        file that holds them is gone or has changed."""
        return self.stored.whole()

    def save(self, path: str | Path, *, force: bool = True) -> None:
        """Write the model, whole or not at all. Raises OutputError."""
        save_model(self.stored, path, force=force)


def recalibrate(
    model: str | Path | onnx.ModelProto,
    data: Data,
    output: str | Path | None = None,
    *,
    batch: int = BATCH,
    provider: Provider = CPU,
    threads: int | None = None,
    force: bool = False,
    timeout_s: float | None = PATIENCE_S,
    isolate: bool = True,
    progress: Progress | None = None,
) -> RecalibrationResult:
    """Replace the statistics of every BatchNormalization by the exact ones of the data.

    Args:
        model: a path or a ModelProto; it is never changed.
        data: what `verify` takes: an .npz or .npy file, a folder of test sets, an array, a dict of
            arrays by input name, or an iterable of such dicts. Cut into batches along the first
            axis where all inputs share it; it is run once for each level of normalizations.
        output: where to write the result.
        batch: rows to run at a time, where the model leaves that open.
        provider: what the activations are computed with, in the model's own types. Statistics are
            summed in float64, and rounded once.
        threads: threads of the runtime.
        force: overwrite `output`.
        timeout_s: how long a session may be silent.
        isolate: run sessions in a child process, so that a crash of the runtime is an error.
        progress: called as (stage, batches done, batches in all or 0).

    Raises:
        ModelError: the file cannot be read, or is not a valid model.
        InputError: the data does not fit or is not finite inside the network, or the model has no
            BatchNormalization with statistics that can be replaced.
        RuntimeUnavailable: ONNX Runtime is not installed, cannot run the model, or crashed.
        OutputError: `output` exists and `force` is not given.
    """
    if output is not None:
        check_output(output, force=force)
    (provider,) = arguments.providers(provider)
    stored = open_model(model)
    if output is not None:
        refuse_weights(output, stored)
    work = Normalizations(stored.copy())
    if not work.found:
        raise _nothing_to_do(work)
    chunks = Chunks(work.model.proto, data, batch=batch)
    layers: dict[str, RecalibratedLayer] = {}
    rows = 0
    levels = list(work.levels())
    with Sessions(isolate, timeout_s) as sessions:
        for number, level in enumerate(levels, 1):
            say = _stage(progress, f"statistics pass {number} of {len(levels)}")
            with _session(sessions, work.model, level, provider, threads) as session:
                moments, rows = _measure(session, level, chunks, say, known=rows)
            for which in level:
                layers |= _replaced(work, which, moments[which.tensor])
    result = RecalibrationResult(
        layers=tuple(layers[n.tensor] for n in work.found if n.tensor in layers),
        kept=tuple(KeptLayer(tensor, detail) for tensor, detail in work.refused.items()),
        rows=rows,
        passes=len(levels),
        notes=tuple(_notes(work, layers.values())),
        output=None if output is None else str(output),
        stored=work.model,
    )
    if output is not None:
        result.save(output, force=force)
    return result


def _nothing_to_do(work: Normalizations) -> InputError:
    if not work.refused:
        return InputError(
            "the model has no BatchNormalization, so it has no statistics",
            "recalibrate the model as it was exported, before it is folded or decomposed",
        )
    tensor, detail = next(iter(work.refused.items()))
    others = f" (and {len(work.refused) - 1} more)" if len(work.refused) > 1 else ""
    return InputError(
        f"no BatchNormalization has statistics to replace: {tensor}: {detail}{others}",
        "export the network in evaluation mode, with its statistics as constants",
    )


# --- measuring -----------------------------------------------------------------------------


def _measure(
    session: Session | None,
    level: Sequence[Normalization],
    chunks: Chunks,
    say: Callable[[int, int], None],
    *,
    known: int,
) -> tuple[dict[str, Moments], int]:
    """One pass over the data: the moments of each node's input, and how many rows there were."""
    moments = {n.tensor: Moments(None if n.by_element else 1) for n in level}
    rows = 0
    say(0, known)
    for feeds in chunks:
        outputs = session.run(feeds) if session is not None else {}
        values: dict[str, Array] = {**feeds, **outputs}
        for which in level:
            moments[which.tensor].add(_finite(values[which.source], which))
        rows += rows_of(feeds)
        say(rows, known)
    for which in level:
        _require_values(which, moments[which.tensor])
    return moments, rows


@contextmanager
def _session(
    sessions: Sessions,
    model: StoredModel,
    level: Sequence[Normalization],
    provider: Provider,
    threads: int | None,
) -> Iterator[Session | None]:
    """What computes the inputs of a level; None where they all are inputs of the model.

    Optimizations are off: some of the runtime's own move values that we want to see. The part
    goes into a file for as long as it is needed, since there may be one for every layer.
    """
    stored = {tensor.name for tensor in model.proto.graph.initializer}
    given = {port.name for port in model.proto.graph.input} - stored
    wanted = list(dict.fromkeys(n.source for n in level if n.source not in given))
    if not wanted:
        yield None
        return
    with scratch_folder() as folder:
        part = model.over(leading_to(model.proto, wanted))
        path = write_loadable(part, folder)
        yield sessions.open(path, provider=provider, level="disable", threads=threads)


def leading_to(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """The part of a model that computes some tensors; they are its outputs, in no stated type."""
    outputs = list(tensors)
    wanted = set(outputs)
    nodes = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(reads(node))
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    part.functions.extend(model.functions)
    graph, whole = part.graph, model.graph
    graph.name = whole.name or "part"
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(tensor for tensor in whole.initializer if tensor.name in wanted)
    graph.sparse_initializer.extend(s for s in whole.sparse_initializer if s.values.name in wanted)
    graph.input.extend(port for port in whole.input if port.name in wanted)
    for tensor in outputs:
        graph.output.add().name = tensor
    return part


def _finite(array: Array, which: Normalization) -> Array:
    """The array (N, C, ...); one axis means one channel. Raises InputError."""
    if not np.isfinite(array).all():
        raise InputError(
            f"{which.source}, which {which.tensor} normalizes, is not finite on this data",
            "look for values that overflow, or for NaN in the data",
        )
    return array if array.ndim > 1 else array.reshape(-1, 1)


def _require_values(which: Normalization, moments: Moments) -> None:
    if moments.count < 2:
        raise InputError(
            f"{which.tensor} sees {moments.count} values a channel, which have no variance",
            "give more data",
        )
    if moments.mean.size != which.mean.size:
        raise InputError(
            f"{which.tensor} has {which.mean.size} statistics for {moments.mean.size} channels",
            "this model runs on no runtime; export it again",
        )


def _stage(progress: Progress | None, name: str) -> Callable[[int, int], None]:
    return lambda done, total: None if progress is None else progress(name, done, total)


# --- replacing -----------------------------------------------------------------------------


def _replaced(
    work: Normalizations, which: Normalization, moments: Moments
) -> dict[str, RecalibratedLayer]:
    """Put the statistics in; the layer's report by its name, or nothing where that cannot be."""
    if not work.replace(which, moments.mean, moments.variance):
        return {}
    return {which.tensor: compare(which, moments)}


def compare(which: Normalization, moments: Moments) -> RecalibratedLayer:
    """How far a node's statistics were from the exact ones."""
    exact = moments.variance + which.epsilon
    off = np.abs(which.mean.reshape(-1) - moments.mean.reshape(-1)) / np.sqrt(exact.reshape(-1))
    ratio = (which.variance.reshape(-1) + which.epsilon) / exact.reshape(-1)
    return RecalibratedLayer(
        tensor=which.tensor,
        channels=which.mean.size,
        values=moments.count,
        mean_off=float(np.median(off)),
        worst_mean_off=float(off.max()),
        variance_ratio=(float(ratio.min()), float(np.median(ratio)), float(ratio.max())),
        constant_channels=int(np.count_nonzero(moments.variance == 0)),
    )


def _notes(work: Normalizations, layers: Iterable[RecalibratedLayer]) -> Iterable[str]:
    yield CHANGED
    still = {layer.tensor: layer.constant_channels for layer in layers if layer.constant_channels}
    if still:
        count, worst = sum(still.values()), max(still, key=lambda tensor: still[tensor])
        yield (
            f"{count} channels never vary on this data, most of them in {worst}: their variance "
            "is 0 now, and what varies on other data will be divided by epsilon alone"
        )
    if work.inlined:
        yield f"functions were replaced by their bodies: {', '.join(work.inlined)}"
