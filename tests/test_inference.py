"""onnx's inference is asked so that it cannot end the process, and tells as much as before."""

from __future__ import annotations

import contextlib

import pytest
from onnx import ModelProto, TensorProto, helper, parser
from onnx.shape_inference import InferenceError

from bnfold import fold
from bnfold.inference import HIDDEN, are_harmless, infer_shapes, is_dangerous
from bnfold.nodewise import types_of


def model(text: str, kernel: int = 1) -> ModelProto:
    """A model of opset 17 from text; `KERNEL` is the height of a kernel."""
    header = '<ir_version: 8, opset_import: ["": 17, "f": 1]>\n'
    return parser.parse_model(header + text.replace("KERNEL", str(kernel)))


CUT = "<int64[1] s={0}, int64[1] e={1}, int64[1] a={2}>"
CHAIN = f"""g (float[1,2,2,2] x, float[2,2,KERNEL,1] w) => (float[N,M,K,L] y) {CUT} {{
    c = Conv(x, w) z = Slice(c, s, e, a) r = Relu(z) y = Slice(r, s, e, a)
}}"""
BODY = f"""g (bool go, float[1,2,2,2] x, float[2,2,KERNEL,1] w) => (float[N,M,K,L] y) {CUT} {{
    y = If(go) <
        then_branch = yes () => (float[N,M,K,L] t) {{ c = Conv(x, w) t = Slice(c, s, e, a) }},
        else_branch = no () => (float[N,M,K,L] u) {{ u = Identity(x) }}
    >
}}"""
FUNCTION = f"""g (float[1,2,2,2] x, float[2,2,KERNEL,1] w) => (float[N,M,K,L] y) {CUT} {{
    y = f.cut(x, w, s, e, a)
}}
<domain: "f", opset_import: ["": 17]>
cut (x, w, s, e, a) => (y) {{ c = Conv(x, w) y = Slice(c, s, e, a) }}"""


def shapes(inferred: ModelProto) -> dict[str, list[int]]:
    """Every shape that was found in the outer graph."""
    return {
        info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in inferred.graph.value_info
    }


@pytest.mark.parametrize("text", [CHAIN, BODY, FUNCTION], ids=["graph", "subgraph", "function"])
def test_a_negative_dimension_does_not_end_the_process(text: str) -> None:
    """A kernel larger than its input before a Slice is survived; the model stays as it is."""
    broken = model(text, kernel=5)
    before = broken.SerializeToString()
    for data_prop in (False, True):
        infer_shapes(broken, data_prop=data_prop)
    assert broken.SerializeToString() == before
    fold(broken)


def test_tells_what_onnx_tells() -> None:
    """Behind Slices of what is known, nothing is lost."""
    assert shapes(infer_shapes(model(CHAIN))) == {
        "c": [1, 2, 2, 2],
        "z": [1, 2, 1, 2],
        "r": [1, 2, 1, 2],
    }


def row(kernel: int) -> ModelProto:
    """Twenty Slices behind each other, whose bounds are arranged of constants."""
    steps = "".join(
        f"k{i} = Constant<value_ints=[-1]>() f{i} = Constant<value_int=0>() "
        f"b{i} = Reshape(f{i}, k{i}) z{i} = Slice(r{i}, b{i}, e, a) r{i + 1} = Relu(z{i}) "
        for i in range(20)
    )
    text = (
        "g (float[1,2,2,2] x, float[2,2,KERNEL,1] w) => (float[N,M,K,L] y) "
        f"<int64[1] e={{9}}, int64[1] a={{2}}> {{ r0 = Conv(x, w) {steps} y = Relu(r20) }}"
    )
    return model(text, kernel)


def test_slices_in_a_row_are_followed_to_the_end() -> None:
    """However many there are, and however their bounds are written, shapes are known."""
    inferred = infer_shapes(row(kernel=1), data_prop=True)
    types = types_of(inferred.graph, inferred.opset_import, lambda _: False)
    assert [dim.dim_value for dim in types["y"].tensor_type.shape.dim] == [1, 2, 2, 2]
    assert not any(node.domain for node in inferred.graph.node)


def test_a_row_behind_a_negative_dimension_is_survived() -> None:
    """What cannot be shown stays hidden, wherever it stands in the row."""
    inferred = infer_shapes(row(kernel=5), data_prop=True)
    assert sum(node.domain == HIDDEN for node in inferred.graph.node) == 20


@pytest.mark.parametrize("where", ["value_info", "output"])
@pytest.mark.parametrize("height", [-5, 9])
def test_what_a_file_declares_is_not_believed(where: str, height: int) -> None:
    """A shape that is declared and not found, negative too, does not end the process."""
    lying = model(CHAIN)
    info = helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 2, height, 2])
    getattr(lying.graph, where).append(info)
    assert not are_harmless([node for node in lying.graph.node if is_dangerous(node)], lying)
    for data_prop in (False, True):
        with contextlib.suppress(InferenceError):
            infer_shapes(lying, data_prop=data_prop)


def test_a_vector_that_doubles_is_not_followed() -> None:
    """Sixty times joined to itself it would fill any memory, also beside a Slice."""
    steps = "".join(f"v{i + 1} = Concat<axis=0>(v{i}, v{i}) " for i in range(60))
    text = CHAIN.replace(CUT, CUT[:-1] + ", int64[1] v0={1}>").replace(
        "c = Conv", f"{steps} c = Conv"
    )
    joined = model(text)
    types = types_of(joined.graph, joined.opset_import, is_dangerous)
    assert [dim.dim_value for dim in types["r"].tensor_type.shape.dim] == [1, 2, 1, 2]
