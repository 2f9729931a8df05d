"""Are operations and bytes those that one counts by hand, and is a session's cost measured?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from bnfold import bench
from bnfold.footprint import footprint
from bnfold.html import words
from bnfold.operations import count, parameters
from bnfold.timings import SpeedReport, Work

HEADER = '<ir_version: 8, opset_import: ["": 17]>\n'


def parse(text: str) -> onnx.ModelProto:
    """A model whose declared values are initializers, all ones."""
    model = parser.parse_model(HEADER + text)
    for info in model.graph.value_info:
        kind = info.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        array = np.ones(shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
    del model.graph.value_info[:]
    return model


CONV = """g (float[N,4,H,W] x) => (float[N,6,P,Q] y) <float[6,2,3,3] w, float[6] b> {
    y = Conv<group=2>(x, w, b)
}"""


@pytest.mark.parametrize(
    ("text", "shape", "op_type", "operations", "elements"),
    [
        (CONV, (2, 4, 8, 8), "Conv", 2 * (2 * 6 * 6 * 6) * (2 * 9), 512 + 108 + 6 + 432),
        (
            "g (float[N,4,H,W] x) => (float[N,6,P,Q] y) <float[4,6,2,2] w> "
            "{ y = ConvTranspose(x, w) }",
            *((1, 4, 5, 5), "ConvTranspose", 2 * (4 * 25) * (6 * 4), 100 + 96 + 216),
        ),
        (
            "g (float[N,5] x) => (float[N,7] y) <float[5,7] w> { y = MatMul(x, w) }",
            *((3, 5), "MatMul", 2 * 3 * 7 * 5, 15 + 35 + 21),
        ),
        (
            "g (float[5,N] x) => (float[N,7] y) <float[5,7] w> { y = Gemm<transA=1>(x, w) }",
            *((5, 3), "Gemm", 2 * 3 * 7 * 5, 15 + 35 + 21),
        ),
        (
            "g (float[S,N,5] x) => (float[S,2,N,3] y) <float[2,9,5] w, float[2,9,3] r> "
            '{ y = GRU<direction="bidirectional", hidden_size=3>(x, w, r) }',
            *((7, 4, 5), "GRU", 2 * (7 * 4) * 2 * 9 * (5 + 3), 140 + 90 + 54 + 168),
        ),
        ("g (float[N,5] x) => (float[N,5] y) { y = Relu(x) }", (3, 5), "Relu", 15, 30),
        ("g (float[N,5] x) => (float[5,N] y) { y = Transpose(x) }", (3, 5), "Transpose", 0, 30),
        (
            "g (float[N,5] x) => (float[N,5] y) { y = Mul(x, x) }",
            *((3, 5), "Mul", 15, 30),  # what is read twice is moved once
        ),
    ],
)
def test_counted_by_hand(
    text: str, shape: tuple[int, ...], op_type: str, operations: int, elements: int
) -> None:
    """Multiply-adds are two operations; inputs are read, outputs written, once each."""
    counted = count(parse(text), {"x": shape})
    assert counted == {op_type: Work(1, operations, 4 * elements, 0)}


def test_unknown_shapes_are_not_guessed() -> None:
    """A node whose output depends on the data is told of, and not in the sums."""
    model = parse(
        "g (float[N,5] x) => (int64[2,M] y, float[N,5] z) { y = NonZero(x) z = Relu(x) }"
    )
    counted = count(model, {"x": (3, 5)})
    assert counted["NonZero"] == Work(1, 0, 0, 1)
    assert counted["Relu"].unknown == 0


def test_unknown_costs_are_not_guessed() -> None:
    """An operator that multiplies more than its output tells is not counted as element-wise."""
    text = "g (float[3,5] x) => (float[3,7] y) <float[5,7] w> "
    einsum = parse(text + '{ y = Einsum<equation="ab,bc->ac">(x, w) }')
    assert count(einsum, {"x": (3, 5)})["Einsum"].unknown == 1
    inner = parse("g (float[3,5] x) => (float[3,5] y) { y = Relu(x) }").graph
    branch = parse("g (float[3,5] x, bool b) => (float[3,5] y) { y = Relu(x) }")
    chosen = onnx.helper.make_node("If", ["b"], ["z"], then_branch=inner, else_branch=inner)
    branch.graph.node.append(chosen)
    assert count(branch, {"x": (3, 5)})["If"].unknown == 1


def test_fused_operators_cost_what_they_are_made_of() -> None:
    """The runtime's own products count like the standard ones."""
    text = "g (float[3,5] x) => (float[3,7] y) <float[5,7] w> { y = MatMul(x, w) }"
    fused = parse(text)
    fused.graph.node[0].op_type, fused.graph.node[0].domain = "FusedMatMul", "com.microsoft"
    fused.opset_import.add(domain="com.microsoft", version=1)
    assert count(fused, {"x": (3, 5)})["FusedMatMul"].operations == 2 * 3 * 7 * 5
    fused.graph.node[0].op_type = "SomethingElse"
    assert count(fused, {"x": (3, 5)})["SomethingElse"].unknown == 1


def test_parameters() -> None:
    """Floating-point initializers; shapes and indices are no parameters."""
    text = "g (float[N,5] x) => (float[5,N] y) <float[5,7] w, float16[3] h, int64[2] s> "
    assert parameters(parse(text + "{ y = Transpose(x) }")) == 38


def report(before: dict[str, Work], after: dict[str, Work]) -> SpeedReport:
    return SpeedReport((), 0, "", original_work=before, candidate_work=after)


def test_the_prediction() -> None:
    """Two bounds: only operations take time, or only bytes; none where a shape is unknown."""
    before = {"Conv": Work(1, 100, 60, 0), "BatchNormalization": Work(1, 20, 40, 0)}
    after = {"Conv": Work(1, 100, 50, 0)}
    assert report(before, after).predicted == (1.2, 2.0)
    assert report(before, {"Conv": Work(1, 100, 50, 1)}).predicted is None
    assert report({}, {}).predicted is None


# -- footprint ----------------------------------------------------------------------------------

BIG = 2_000_000


@pytest.mark.parametrize("name", ["x", "file", "a/b", "<x> \u00e9"])
def test_footprint(name: str, tmp_path: Path) -> None:
    """A session's cost in a process of its own, of protos and paths, whatever the input's name."""
    weight = np.ones((1, BIG), np.float32)
    node = onnx.helper.make_node("Add", [name, "w"], ["y"])
    ports = [onnx.helper.make_tensor_value_info(n, 1, [1, BIG]) for n in (name, "y")]
    tensor = onnx.numpy_helper.from_array(weight, "w")
    graph = onnx.helper.make_graph([node], "g", ports[:1], ports[1:], [tensor])
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    for source in (model, tmp_path / "m.onnx"):
        made = footprint(source, {name: weight}, provider="cpu", threads=1)
        assert made is not None
        assert made.session_ms > 0
        assert made.first_ms > 0
        assert made.peak_bytes is None or made.peak_bytes > 8 * BIG  # the weight and the result


def test_no_footprint(tmp_path: Path) -> None:
    """What cannot be loaded has none; that is no error."""
    (tmp_path / "m.onnx").write_bytes(b"no model")
    assert footprint(tmp_path / "m.onnx", {}, provider="cpu") is None


def test_bench_tells_of_both() -> None:
    """Counts always, footprints where asked for; all of it turns into JSON and into words."""
    made = bench(parse(CONV), parse(CONV), budget_s=0.2, levels=("all",), footprints=True)
    assert made.original_footprint is not None
    assert made.predicted == (1.0, 1.0)
    document: Any = json.loads(json.dumps(made.to_dict()))
    titles = [row[0] for row in words.costs(document)]
    assert titles[0] == "session made in, new process"
    assert titles[-2:] == ["bytes moved, counted", "speedup, measured"]
    assert (
        bench(parse(CONV), parse(CONV), budget_s=0.1, levels=("all",)).original_footprint is None
    )
