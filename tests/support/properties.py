"""What must hold of any random model and its fold; `GENERATORS` has the kinds that are made.

Each check raises an AssertionError that says what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import rational
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from random_graphs import Draw, Grown, Normal, Seeded, grow
from rowtests import require_no_contradiction
from shuffles import function_of, shuffled

from bnfold import FoldResult, fold

Array = NDArray[Any]
ULPS: dict[int, float] = {
    TensorProto.FLOAT: 2.0**-23,
    TensorProto.FLOAT16: 2.0**-10,
    TensorProto.DOUBLE: 2.0**-52,
}
"""The spacing of numbers about 1."""
FACTOR = 8
"""How much further from float64 the folded model may be than the original."""
FLOOR = 64
"""And so many ULPs of the largest value in the graph."""
LARGEST = 100
"""Values of float16 beyond this lose too much, in either model, to compare."""


def example(draw: Draw, elem_type: int, seed: int) -> Grown:
    """A graph that looks like a trained network."""
    return grow(draw, Normal(seed), elem_type, size=draw.integer(1, 14))


def seeded(elem_type: int, seed: int) -> Grown:
    """The same from a seed alone."""
    return example(Seeded(seed), elem_type, seed)


GENERATORS: dict[str, Callable[[int], Grown]] = {
    "float32": partial(seeded, TensorProto.FLOAT),
    "float64": partial(seeded, TensorProto.DOUBLE),
    "float16": partial(seeded, TensorProto.FLOAT16),
}
"""The kinds of models, each made from a seed. A new one stands here and is checked as all are."""

SWITCHES: tuple[dict[str, bool], ...] = (
    {},
    {"reparameterize": False},
    {"keep_overridable": True},
)
"""Ways to fold, under each of which a fold must be whole."""


def elem_type(model: onnx.ModelProto) -> int:
    """The float type of a model."""
    return int(model.graph.input[0].type.tensor_type.elem_type)


def run(model: onnx.ModelProto, feeds: dict[str, Array], names: list[str]) -> list[Array]:
    """Values of any tensors: ONNX Runtime with optimizations off; float64 by our own evaluator."""
    if elem_type(model) == TensorProto.DOUBLE:
        values = rational.evaluate(model, feeds, rational.TRUE, float)
        return [values[name].astype(np.float64) for name in names]
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(
        helper.make_tensor_value_info(name, elem_type(model), None) for name in names
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    data = exposed.SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return [np.asarray(v, np.float64) for v in session.run(names, feeds)]


def computed(model: onnx.ModelProto) -> set[str]:
    """Names of what the nodes make."""
    return {name for node in model.graph.node for name in node.output}


def count(model: onnx.ModelProto) -> int:
    """How many BatchNormalizations there are."""
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


def as_bytes(model: ModelProto) -> bytes:
    """The model as it is written."""
    return model.SerializeToString(deterministic=True)


# Each check is of a model and of what `fold` made of it, so that all can share one fold.


def check_values(grown: Grown, result: FoldResult) -> None:
    """Every float tensor of both models is as near to float64 in one as in the other."""
    names = sorted(set(grown.floats) & computed(result.model))
    if not names:
        return
    exact = rational.evaluate(grown.proto, grown.feeds, rational.TRUE, float)
    truth = [exact[name].astype(np.float64) for name in names]
    largest = max((abs(v).max() for v in truth if v.size), default=0.0)
    kind = elem_type(grown.proto)
    if kind == TensorProto.FLOAT16 and largest > LARGEST:
        return
    before, after = (run(model, grown.feeds, names) for model in (grown.proto, result.model))
    for name, true, own, new in zip(names, truth, before, after, strict=True):
        assert new.shape == own.shape, name
        error, limit = (abs(v - true).max(initial=0) for v in (new, own))
        limit = FACTOR * limit + FLOOR * ULPS[kind] * max(largest, 1)
        assert error <= limit, f"{name}: error {error:.3g}, allowed {limit:.3g}"


def check_structure(grown: Grown, result: FoldResult) -> None:
    """Nothing else changes: inputs, outputs, opsets; nodes never grow in number."""
    before, after = grown.proto, result.model
    assert list(after.graph.output) == list(before.graph.output)
    assert list(after.graph.input) == list(before.graph.input)
    assert after.opset_import == before.opset_import
    assert len(after.graph.node) <= len(before.graph.node)
    assert count(after) <= count(before)
    onnx.checker.check_model(after, full_check=True)


def check_repeatability(grown: Grown, result: FoldResult) -> None:
    """Folding leaves its argument alone, and every run gives the same bytes."""
    given = as_bytes(grown.proto)
    assert as_bytes(fold(grown.proto).model) == as_bytes(result.model)
    assert as_bytes(grown.proto) == given


def check_idempotence(result: FoldResult, **switches: bool) -> None:
    """What was folded once has nothing left to fold."""
    again = fold(result.model, **switches).model
    assert as_bytes(again) == as_bytes(result.model), f"a second fold differs with {switches}"


def check_order(grown: Grown, result: FoldResult, seed: int) -> None:
    """Another order of the nodes, and other names, give the same function and report."""
    other = fold(shuffled(grown.proto, seed))
    assert told(other) == told(result)
    assert function_of(other.model) == function_of(result.model)
    assert len(other.model.graph.node) == len(result.model.graph.node)


def told(result: FoldResult) -> list[tuple[str, ...]]:
    """What a report says of each site and block, without names and in no order."""
    sites = [(s.op_type, s.verdict, str(s.direction), *s.path) for s in result.sites]
    blocks = [(b.op_type, *sorted(b.branches)) for b in result.merged]
    return [*sorted(sites), *sorted(blocks)]


def check_all(grown: Grown, seed: int) -> None:
    """Everything above; of the ways to fold, the plain one and one more."""
    result = fold(grown.proto)
    require_no_contradiction(result)
    check_values(grown, result)
    check_structure(grown, result)
    check_idempotence(result)
    check_order(grown, result, seed)
    switches = SWITCHES[seed % len(SWITCHES)]
    if switches:
        check_idempotence(fold(grown.proto, **switches), **switches)
    else:
        check_repeatability(grown, result)
