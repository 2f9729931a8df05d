"""An affine along any axis: what a rule cannot carry it must refuse, and never take for another.

A BatchNormalization varies along axis 1 alone, so rows that end or begin with one ask a rule for
nothing else. Here each of them becomes a Mul and an Add along every axis in turn, the batch's too,
and along all axes at once. Nothing has to fold; but whatever is folded is the same function over
the rational numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
import rational
from exact_rows import SCALES, Model, build, differences
from exact_table import TABLE
from onnx import NodeProto, helper, numpy_helper

from bnfold import fold


def shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """The shape of every value of which it is known."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in (*inferred.input, *inferred.value_info, *inferred.output)
        if info.type.tensor_type.HasField("shape")
        and all(dim.HasField("dim_value") for dim in info.type.tensor_type.shape.dim)
    }


def varied(model: Model, norm: NodeProto, shape: list[int], *, is_scale: bool) -> Model:
    """The model with constants of `shape` for a normalization: a scale, or signs and shifts."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    rng = np.random.default_rng(zlib.crc32(repr((norm.output[0], shape, is_scale)).encode()))
    scale = rng.choice(SCALES, shape)
    between = norm.output[0] if is_scale else f"{norm.output[0]}_scaled"
    nodes = [helper.make_node("Mul", [norm.input[0], "along"], [between])]
    if not is_scale:
        scale *= rng.choice([-1, 1], shape)
        shift = rng.integers(1, 8, shape) / 4
        nodes.append(helper.make_node("Add", [between, "beside"], [norm.output[0]]))
        proto.graph.initializer.append(numpy_helper.from_array(shift.astype("f4"), "beside"))
    proto.graph.initializer.append(numpy_helper.from_array(scale.astype("f4"), "along"))
    at = next(i for i, n in enumerate(proto.graph.node) if n.output[:] == norm.output[:])
    del proto.graph.node[at]
    for place, node in enumerate(nodes):
        proto.graph.node.insert(at + place, node)
    return Model(proto, model.feeds, model.keep)


def variants(model: Model) -> Iterator[tuple[str, Model]]:
    """Each normalization of a row along each axis and along all, as a scale and with a shift."""
    known = shapes(model.proto)
    for norm in model.proto.graph.node:
        size = known.get(norm.input[0]) if norm.op_type == "BatchNormalization" else None
        for axis in range(len(size) + 1) if size else ():
            along = [n if axis in (at, len(size)) else 1 for at, n in enumerate(size)]
            for is_scale in (True, False):
                yield f"{norm.output[0]} {along}", varied(model, norm, along, is_scale=is_scale)


@pytest.mark.parametrize(("key", "row"), TABLE, ids=[f"{key} {row}"[:60] for key, row in TABLE])
def test_along_every_axis(key: str, row: str) -> None:
    """Folded equals original, whichever axis the affine varies along."""
    wrong = {}
    for name, model in variants(build(row)):
        folded = fold(model.proto).model
        try:
            before = rational.evaluate(model.proto, model.feeds)
        except (ZeroDivisionError, rational.Irrational):
            continue  # with these numbers the row has no value
        if found := differences(model, folded, before):
            wrong[name] = found
    assert not wrong
