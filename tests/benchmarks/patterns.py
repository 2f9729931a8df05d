"""Which patterns does the comparison with other tools try? Models as text, with what must stay.

The notation is that of `tests/support/rows.py`. `left` is at how many places nodes must stay that
scale or shift; an edit is made to the model after it was read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper
from rows import Built, build, parse_row

Edit = Callable[[Built], None]


@dataclass(frozen=True)
class Pattern:
    """A graph that occurs in the wild, or one that tools were measured to get wrong."""

    name: str
    text: str
    left: int = 0
    edit: Edit | None = None
    by_reference: bool = False
    """ONNX Runtime does not run it; onnx's reference evaluator does."""

    def built(self, regime: str) -> Built:
        """The model with data, for sizes that are all "different" or all "equal"."""
        result = build(parse_row(self.name, self.text), regime)
        for index, node in enumerate(result.model.graph.node):
            node.name = f"{node.op_type}_{index}"  # some tools need names
        if self.edit is not None:
            self.edit(result)
        onnx.checker.check_model(result.model, full_check=True)
        return result


# ------------------------------------------------------------------------- edits


def constants_as_nodes(built: Built) -> None:
    """Every initializer becomes a Constant node."""
    graph = built.model.graph
    made = [helper.make_node("Constant", [], [t.name], value=t) for t in graph.initializer]
    nodes = [*made, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.node.extend(nodes)


def constants_as_inputs(built: Built) -> None:
    """Every initializer is a graph input too, as older exporters leave them."""
    graph = built.model.graph
    for t in graph.initializer:
        graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))


def weight_through_identity(built: Built) -> None:
    """The weight comes from a node that copies it."""
    graph = built.model.graph
    nodes = list(graph.node)
    nodes[0].input[1] = "copied"
    del graph.node[:]
    graph.node.extend([helper.make_node("Identity", ["w"], ["copied"]), *nodes])


def info_of(built: Built, tensor: str, name: str) -> onnx.ValueInfoProto:
    """Type and shape of a tensor, for another one of this name."""
    inferred = onnx.shape_inference.infer_shapes(built.model).graph
    (info,) = (v for v in [*inferred.value_info, *inferred.output] if v.name == tensor)
    info.name = name
    return info


def expose(name: str) -> Edit:
    """A tensor in the middle is an output of the graph too."""

    def edit(built: Built) -> None:
        built.model.graph.output.append(info_of(built, name, name))

    return edit


def without_names(built: Built) -> None:
    """As ONNX allows."""
    for node in built.model.graph.node:
        node.ClearField("name")


def attribute(name: str, value: object) -> Edit:
    """An attribute of every BatchNormalization."""

    def edit(built: Built) -> None:
        for node in built.model.graph.node:
            if node.op_type == "BatchNormalization":
                node.attribute.append(helper.make_attribute(name, value))

    return edit


def set_values(**values: float | Callable[[np.ndarray], np.ndarray]) -> Edit:
    """Initializers, or inputs, set to a number or changed by a function."""

    def edit(built: Built) -> None:
        for t in built.model.graph.initializer:
            if t.name in values:
                t.CopyFrom(numpy_helper.from_array(changed(values[t.name], t), t.name))
        for name in set(values) & set(built.feeds):
            built.feeds[name] = apply(values[name], built.feeds[name])

    def changed(value: object, t: onnx.TensorProto) -> np.ndarray:
        return apply(value, numpy_helper.to_array(t))

    def apply(value: object, old: np.ndarray) -> np.ndarray:
        new = value(old) if callable(value) else np.full(old.shape, value)
        return np.asarray(new).astype(old.dtype)

    return edit


def both(*edits: Edit) -> Edit:
    """One edit after another."""

    def edit(built: Built) -> None:
        for each in edits:
            each(built)

    return edit


def captured(built: Built) -> None:
    """The Conv's output is read inside an If, too."""
    then_branch, else_branch = (
        helper.make_graph(
            [helper.make_node(kind, ["h"], [f"{kind}_h"], name=kind)],
            kind,
            [],
            [info_of(built, "h", f"{kind}_h")],
        )
        for kind in ("Abs", "Neg")
    )
    condition = numpy_helper.from_array(np.array(True), "condition")
    graph = built.model.graph
    graph.initializer.append(condition)
    graph.node.append(
        helper.make_node(
            *("If", ["condition"], ["z"], "choice"),
            then_branch=then_branch,
            else_branch=else_branch,
        )
    )
    graph.output.append(info_of(built, "h", "z"))


def some_tiny(old: np.ndarray) -> np.ndarray:
    """Every other channel is next to nothing."""
    new = old.copy()
    new[::2] = 1e-38
    return new


# ---------------------------------------------------------------------- the table

CONV = "h = Conv(X[N,C,H,W], w[O,C,3,3], b[O])"
PADDED = "h = Conv<pads=[1,1,1,1]>(X[N,C,H,W], w[O,C,3,3])"

PATTERNS = [
    # The plain ones
    Pattern("Conv, BN", f"{CONV}; y = BN[O](h)"),
    Pattern("Conv without bias and with padding, BN", f"{PADDED}; y = BN[O](h)"),
    Pattern("depthwise Conv, BN", "h = Conv<group=C>(X[N,C,H,W], w[C,1,3,3]); y = BN[C](h)"),
    Pattern("1-D Conv, BN", "h = Conv(X[N,C,H], w[O,C,3]); y = BN[O](h)"),
    Pattern("ConvTranspose, BN", "h = ConvTranspose(X[N,C,H,W], w[C,O,3,3]); y = BN[O](h)"),
    Pattern(
        "grouped ConvTranspose, BN",
        "h = ConvTranspose<group=2>(X[N,C,H,W], w[C,O//2,3,3], b[O]); y = BN[O](h)",
    ),
    Pattern("Gemm, BN", "h = Gemm(X[N,C], w[C,O], b[O]); y = BN[O](h)"),
    Pattern(
        "Gemm with alpha, beta, transB and a scalar C, BN",
        "h = Gemm<alpha=0.5, beta=2.0, transB=1>(X[N,C], w[O,C], b[]); y = BN[O](h)",
    ),
    Pattern("MatMul, BN", "h = MatMul(X[N,C], w[C,O]); y = BN[O](h)"),
    Pattern("MatMul, Add, BN", "h = MatMul(X[N,C], w[C,O]); g = Add(h, b[O]); y = BN[O](g)"),
    Pattern(
        "MatMul, Transpose, BN",
        "h = MatMul(X[N,L,C], w[C,O]); t = Transpose<perm=[0,2,1]>(h); y = BN[O](t)",
    ),
    Pattern("Conv, BN, BN", f"{CONV}; g = BN[O](h); y = BN[O](g)"),
    Pattern("Einsum, BN", 'h = Einsum<equation="nc,co->no">(X[N,C], w[C,O]); y = BN[O](h)'),
    # In front of a linear operator
    Pattern("BN, Conv", "x = BN[C](X[N,C,H,W]); y = Conv(x, w[O,C,3,3], b[O])"),
    Pattern("BN, depthwise Conv", "x = BN[C](X[N,C,H,W]); y = Conv<group=C>(x, w[C,1,3,3])"),
    Pattern("BN, Gemm", "x = BN[C](X[N,C]); y = Gemm(x, w[C,O], b[O])"),
    Pattern("BN, MatMul", "x = BN[C](X[N,C]); y = MatMul(x, w[C,O])"),
    Pattern("Relu, BN, Gemm", "r = Relu(X[N,C]); x = BN[C](r); y = Gemm(x, w[C,O], b[O])"),
    Pattern(
        "BN, Flatten, Gemm",
        "x = BN[C](X[N,C,3,5]); f = Flatten(x); y = Gemm(f, w[C*15,O], b[O])",
    ),
    Pattern(
        "BN, GlobalAveragePool, Flatten, Gemm",
        "x = BN[C](X[N,C,H,W]); g = GlobalAveragePool(x); f = Flatten(g); y = Gemm(f, w[C,O])",
    ),
    Pattern(
        "BN, Transpose, LSTM",
        "x = BN[C](X[N,C,T]); t = Transpose<perm=[2,0,1]>(x); "
        "y = LSTM<hidden_size=3>(t, w[1,12,C], r[1,12,3])",
    ),
    Pattern(
        "Sub and Div of an image, Conv",
        "a = Sub(X[N,C,H,W], m[1,C,1,1]); x = Div(a, s+[1,C,1,1]); y = Conv(x, w[O,C,3,3])",
    ),
    # On the way
    Pattern("Conv, Relu, BN with positive scale only", f"{CONV}; r = Relu(h); y = BN[O,+,0](r)"),
    Pattern("Conv, Relu, BN, Conv", f"{CONV}; r = Relu(h); x = BN[O](r); y = Conv(x, v[C,O,1,1])"),
    Pattern(
        "Conv, MaxPool, BN with positive scale",
        f"{CONV}; p = MaxPool<kernel_shape=[2,2]>(h); y = BN[O,+](p)",
    ),
    Pattern(
        "Conv, AveragePool, BN", f"{CONV}; p = AveragePool<kernel_shape=[2,2]>(h); y = BN[O](p)"
    ),
    Pattern("Conv, Add of a constant, BN", f"{CONV}; a = Add(h, c[O,1,1]); y = BN[O](a)"),
    Pattern(
        "two Convs, Add, BN",
        f"{CONV}; g = Conv(X, v[O,C,3,3]); a = Add(h, g); y = BN[O](a)",
    ),
    Pattern(
        "two Convs, Concat, BN",
        f"{CONV}; g = Conv(X, v[C,C,3,3]); a = Concat<axis=1>(h, g); y = BN[O+C](a)",
    ),
    Pattern(
        "Gemm, Reshape, BN",
        "h = Gemm(X[N,K], w[K,C*6]); r = Reshape(h, s{0,C,2,3}); y = BN[C](r)",
    ),
    Pattern(
        "Conv, DepthToSpace, Relu, BN, Conv",
        "h = Conv(X[N,C,H,W], w[4*C,C,3,3]); d = DepthToSpace<blocksize=2>(h); r = Relu(d); "
        "x = BN[C](r); y = Conv(x, v[O,C,1,1])",
    ),
    Pattern(
        "Conv, Resize, BN",
        f'{CONV}; r = Resize<mode="linear">(h, , s:float{{1,1,2,2}}); y = BN[O](r)',
    ),
    Pattern(
        "Conv, Pad by reflection, BN",
        f'{CONV}; p = Pad<mode="reflect">(h, s{{0,0,1,1,0,0,1,1}}); y = BN[O](p)',
    ),
    Pattern(
        "Transpose, BN, Transpose behind MatMul",
        "h = MatMul(X[N,L,C], w[C,O]); t = Transpose<perm=[0,2,1]>(h); n = BN[O](t); "
        "y = Transpose<perm=[0,2,1]>(n)",
    ),
    Pattern(
        "residual block, BN and Relu first",
        "a = Conv(X[N,C,H,W], w[O,C,1,1]); n = BN[O,+](a); r = Relu(n); "
        "c = Conv(r, v[O,O,1,1]); y = Add(a, c)",
    ),
    # Decomposed
    Pattern("Conv, Mul, Add", f"{CONV}; m = Mul(h, s[1,O,1,1]); y = Add(m, t[1,O,1,1])"),
    Pattern(
        "Conv, Sub, Mul, Add",
        f"{CONV}; a = Sub(h, u[O,1,1]); m = Mul(a, s[O,1,1]); y = Add(m, t[O,1,1])",
    ),
    Pattern(
        "Conv, Transpose, Mul, Add, Transpose",
        f"{CONV}; l = Transpose<perm=[0,2,3,1]>(h); m = Mul(l, s[O]); a = Add(m, t[O]); "
        "y = Transpose<perm=[0,3,1,2]>(a)",
    ),
    Pattern(
        "MatMul, Add, layer scale",
        "h = MatMul(X[N,L,C], w[C,O]); g = Add(h, b[O]); y = Mul(g, s[O])",
    ),
    Pattern(
        "LayerNormalization, Mul", "h = LayerNormalization(X[N,L,C], w[C], b[C]); y = Mul(h, s[C])"
    ),
    # Constants wherever they hide
    Pattern("Conv, BN with Constant nodes", f"{CONV}; y = BN[O](h)", edit=constants_as_nodes),
    Pattern("Conv, BN, all weights inputs, IR 3", f"@ir=3 @opset=8 {CONV}; y = BN[O](h)"),
    Pattern(
        "Conv, BN, all weights inputs, IR 10", f"{CONV}; y = BN[O](h)", edit=constants_as_inputs
    ),
    Pattern("Conv, BN, weight by Identity", f"{CONV}; y = BN[O](h)", edit=weight_through_identity),
    Pattern("Conv, BN, nodes without names", f"{CONV}; y = BN[O](h)", edit=without_names),
    # Somebody else looks
    Pattern(
        "two Convs share a weight, one has a BN",
        "h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h); z = Conv(Z[N,C,H,W], w)",
    ),
    Pattern("Conv, BN and another reader", f"{CONV}; y = BN[O](h); z = Sigmoid(h)", 1),
    Pattern("Conv, BN, Conv an output too", f"{CONV}; y = BN[O](h)", 1, expose("h")),
    Pattern("Conv, BN, Conv read inside an If", f"{CONV}; y = BN[O](h)", 1, captured),
    # What must stay
    Pattern(
        "BN, Conv with padding",
        "x = BN[C](X[N,C,H,W]); y = Conv<pads=[1,1,1,1]>(x, w[O,C,3,3])",
        1,
    ),
    Pattern(
        "BN, Conv with auto_pad",
        'x = BN[C](X[N,C,H,W]); y = Conv<auto_pad="SAME_UPPER">(x, w[O,C,3,3])',
        1,
    ),
    Pattern("BN, ConvTranspose", "x = BN[C](X[N,C,H,W]); y = ConvTranspose(x, w[C,O,3,3])", 1),
    Pattern("Conv, Relu, BN with negative scales", f"{CONV}; r = Relu(h); y = BN[O,-](r)", 1),
    Pattern(
        "BN in training mode",
        f"{CONV}; y, m, v = BN[O]<training_mode=1>(h)",
        1,
        by_reference=True,
    ),
    Pattern("MatMul, BN along its rows", "h = MatMul(X[N,C,K], w[K,L]); y = BN[C](h)", 1),
    Pattern(
        "MatMul, Transpose, BN along its rows",
        "h = MatMul(X[N,C], w[C,O]); t = Transpose<perm=[1,0]>(h); y = BN[N](t)",
        1,
    ),
    Pattern(
        "MatMul, Reshape, BN along its rows",
        "h = MatMul(X[N,C], w[C,O]); r = Reshape(h, s{1,N,O}); y = BN[N](r)",
        1,
    ),
    Pattern("Conv, Mul along the width", "h = Conv(X[N,C,H,W], w[O,C,1,1]); y = Mul(h, s[W])", 1),
    Pattern(
        "Conv, Mul along the batch", "h = Conv(X[N,C,H,W], w[O,C,1,1]); y = Mul(h, s[N,1,1,1])", 1
    ),
    Pattern("constant over Conv", f"{CONV}; y = Div(s[O,1,1], h)", 1),
    # Numbers
    Pattern("constant minus Conv", f"{CONV}; y = Sub(s[O,1,1], h)"),
    Pattern("Conv, BN, epsilon 0", f"{CONV}; y = BN[O](h)", edit=attribute("epsilon", 0.0)),
    Pattern(
        "Conv, BN, variance 1e-10",
        f"{CONV}; y = BN[O](h)",
        edit=both(attribute("epsilon", 1e-12), set_values(y_var=1e-10, y_mean=0.0)),
    ),
    Pattern("Conv, BN, tiny scales", f"{CONV}; y = BN[O](h)", edit=set_values(y_gamma=some_tiny)),
    Pattern(
        "Conv, BN in float16, weights would overflow",
        f"@type=float16 {PADDED}; y = BN[O,!](h)",
        1,
        both(
            attribute("epsilon", 0.0),
            set_values(w=lambda w: w * 100, X=lambda x: x * 1e-3, y_var=1e-6, y_mean=0.0),
        ),
    ),
    Pattern("Conv, BN in float16", f"@type=float16 {PADDED}; y = BN[O](h)"),
    Pattern(
        "Conv, BN in float16, statistics in float32",
        f"@type=float16 @stats=float {PADDED}; y = BN[O](h)",
    ),
]
