"""What inference costs is known ahead: never less than it costs, and little for real models."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import ModelProto, helper, parser

from bnfold.effort import DIMS, ELEMENTS, NODES, Effort, effort, known
from bnfold.inference import TooLarge, infer_shapes

HEADER = '<ir_version: 8, opset_import: ["": 17, "f": 1]>\n'
TRAINED = sorted((Path(__file__).parents[1] / "models" / "trained").glob("*.onnx"))

VECTORS = """g (float[2,3,4] x) => (float[a,b] y)
    <int64[1] one = {1}, int64[2] two = {2, 0}, int64[4] shape = {1, 2, 3, 4}> {
    s = Shape(x) c = Concat<axis=0>(s, one, s) d = Concat<axis=0>(c, c) e = Gather(d, two)
    f = Add(e, one) g = Cast<to=6>(f) h = Unsqueeze(x, two) i = Reshape(x, shape)
    j = Squeeze(i, one) k = Expand(x, shape) l = ConstantOfShape(f) m = Flatten(x) z = Identity(x)
    y = Relu(m)
}"""


def sizes_of(model: ModelProto) -> Effort:
    """The effort, with the sizes of all values in `sizes`."""
    found = effort(model)
    assert found is not None
    return found


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_a_real_model_is_cheap(path: Path) -> None:
    """Some nodes, some dimensions for each, and sizes to follow."""
    model = onnx.load(path)
    found = effort(model)
    assert found is not None
    assert found.nodes == found.stored == len(model.graph.node)
    assert found.is_short
    assert found.dims < 10 * found.nodes


@pytest.mark.parametrize("source", [VECTORS, *TRAINED], ids=str)
def test_no_rank_is_larger_than_told(source: str | Path) -> None:
    """Whatever onnx infers has at most as many dimensions, and vectors as many elements."""
    model = onnx.load(source) if isinstance(source, Path) else parser.parse_model(HEADER + source)
    sizes = known(model.graph)
    Effort(stored=1000).enter(model.graph.node, sizes)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    assert inferred.graph.value_info
    for info in inferred.graph.value_info:
        dims = info.type.tensor_type.shape.dim
        assert len(dims) <= sizes[info.name].rank, info.name
        if len(dims) == 1 and info.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            assert dims[0].dim_value <= sizes[info.name].length, info.name


def doubling(levels: int) -> ModelProto:
    """Functions of which each calls the one before twice."""
    functions = ['<domain: "f", opset_import: ["": 17, "f": 1]> f0 (a) => (b) { b = Relu(a) }']
    functions += [
        f'<domain: "f", opset_import: ["": 17, "f": 1]> f{i + 1} (a) => (b) '
        f"{{ c = f.f{i}(a) b = f.f{i}(c) }}"
        for i in range(levels)
    ]
    text = HEADER + f"g (float[2] x) => (float[2] y) {{ y = f.f{levels}(x) }}\n"
    return parser.parse_model(text + "\n".join(functions))


def test_a_function_counts_at_each_call() -> None:
    """Two calls of what calls an operator twice: each call is a node, and so is what it holds."""
    found = effort(doubling(2))
    assert found is not None
    assert found.nodes == 4 + 4 + 2 + 1
    assert found.stored == 6


def test_what_has_no_end_is_not_asked() -> None:
    """A billion operators, or functions deeper than any, and inference is refused at once."""
    for levels in (30, 200):
        assert effort(doubling(levels)) is None
        with pytest.raises(TooLarge):
            infer_shapes(doubling(levels))
    assert effort(doubling(10)) is not None


def joined(times: int) -> ModelProto:
    """A vector of sizes that is joined to itself so often."""
    joins = " ".join(f"v{i + 1} = Concat<axis=0>(v{i}, v{i})" for i in range(times))
    return parser.parse_model(
        HEADER + f"g (float[2,3] x) => (int64[n] v{times}) {{ v0 = Shape(x) {joins} }}"
    )


def test_a_long_vector_is_not_followed() -> None:
    """Shapes are still inferred; the elements of a vector of millions are not."""
    short, long = sizes_of(joined(10)), sizes_of(joined(40))
    assert short.is_short
    assert not long.is_short
    assert long.elements > ELEMENTS
    inferred = infer_shapes(joined(40), data_prop=True)
    assert len(inferred.graph.value_info) == 40


def test_dimensions_and_names_have_limits() -> None:
    """A dimension more at each of many nodes, or all names handed to thousands of bodies."""
    nodes = [helper.make_node("Unsqueeze", [f"t{i}", "one"], [f"t{i + 1}"]) for i in range(3000)]
    found = Effort()
    found.enter(nodes, {})
    assert found.dims == 3000 * 3001 / 2
    assert found.dims > DIMS
    assert not found.is_bounded
    body = parser.parse_graph("g () => (float[1] a) { a = Identity(x) }")
    nodes = [
        helper.make_node("If", ["c"], [f"u{i}"], then_branch=body, else_branch=body)
        for i in range(3000)
    ]
    found = Effort(stored=9000)
    found.enter(nodes, {})
    assert found.nodes == 9000 < NODES
    assert found.copies > 2 * 3 * 3000 * 2999 / 2
    assert found.is_bounded
    found.enter(nodes, {})
    assert not found.is_bounded
