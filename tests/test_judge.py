"""The float64 judge: exact to float64, complete, bounded in time, honest about what it cannot."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from bnfold.judge import Judge, OutOfTime, Unjudgeable
from bnfold.kernels import Array
from bnfold.runtime import open_session


def model(text: str, opset: int = 17) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')


def judge(proto: onnx.ModelProto, **feeds: Array) -> Array:
    """The only output."""
    (value,) = Judge(proto).run(feeds).values()
    return value


X = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)


def test_float32_models_are_computed_in_float64() -> None:
    """A sum that float32 loses survives."""
    proto = model(
        "g (float[1] x) => (float[1] y) <float[1] big = {1e8}> { a = Add(x, big) y = Sub(a, big) }"
    )
    one = np.array([0.125], np.float32)
    assert judge(proto, x=one)[0] == 0.125
    assert open_session(proto, level="disable").run({"x": one})["y"][0] == 0


def test_the_judge_can_round_as_float32_does() -> None:
    """In single precision the same evaluator loses what float32 loses."""
    proto = model(
        "g (float[1] x) => (float[1] y) <float[1] big = {1e8}> { a = Add(x, big) y = Sub(a, big) }"
    )
    feeds = {"x": np.array([0.125], np.float32)}
    both = Judge(proto)
    assert both.run(feeds, single=True)["y"][0] == 0
    assert both.run(feeds)["y"][0] == 0.125


@pytest.mark.parametrize("to", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_casts_between_floats_do_not_round(to: int) -> None:
    """A Cast to a narrow type is exact here, and the value stays float64."""
    proto = model(
        f"g (double[1] x) => (double[1] y) {{ c = Cast<to={to}>(x) y = Cast<to=11>(c) }}"
    )
    third = np.array([1 / 3])
    np.testing.assert_array_equal(judge(proto, x=third), third)


def test_casts_to_whole_numbers_still_truncate() -> None:
    """A Cast to int64 is part of the function, not a rounding to be undone."""
    proto = model("g (float[1] x) => (int64[1] y) { y = Cast<to=7>(x) }")
    value = judge(proto, x=np.array([2.7], np.float32))
    assert value.dtype == np.int64
    assert value[0] == 2


def test_cast_like_a_float() -> None:
    """CastLike to a float32 value gives float64, as everything of a float type is."""
    proto = model("g (int64[1] i, float[1] x) => (float[1] y) { y = CastLike(i, x) }")
    value = judge(proto, i=np.array([2**40 + 1]), x=np.ones(1, np.float32))
    assert value[0] == 2**40 + 1


@pytest.mark.parametrize(
    "constant",
    ["value_float=0.1", "value_floats=[0.1]", "value=float[1] {0.1}"],
)
def test_constants_of_every_kind(constant: str) -> None:
    """Constants are raised from the float32 number that the model holds."""
    proto = model(f"g (float[1] x) => (float[1] y) {{ c = Constant<{constant}>() y = Add(x, c) }}")
    value = judge(proto, x=np.zeros(1, np.float32))
    assert value.dtype == np.float64
    assert value.ravel()[0] == float(np.float32(0.1))


def test_subgraphs_see_raised_values() -> None:
    """A branch of an If reads outer tensors in float64 and gives one."""
    branch = helper.make_graph(
        [helper.make_node("Sub", ["a", "big"], ["z"])],
        "then",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])],
    )
    proto = model(
        "g (float[1] x, bool b) => (float[1] y) <float[1] big = {1e8}> { a = Add(x, big) }"
    )
    node = helper.make_node("If", ["b"], ["y"], then_branch=branch, else_branch=branch)
    proto.graph.node.append(node)
    got = Judge(proto).run({"x": np.array([0.125], np.float32), "b": np.array(True)})["y"]
    assert got[0] == 0.125


def test_functions_use_the_kernels_too() -> None:
    """A BatchNormalization inside a model function of opset 13 is inference, as it is outside."""
    function = helper.make_function(
        "mine",
        "Norm",
        ["x", "s"],
        ["y"],
        [helper.make_node("BatchNormalization", ["x", "s", "s", "s", "s"], ["y"])],
        [helper.make_opsetid("", 13)],
    )
    proto = model("g (float[2,3] x) => (float[2,3] y) <float[3] s = {1, 2, 3}> { }", 13)
    proto.graph.node.append(helper.make_node("Norm", ["x", "s"], ["y"], domain="mine"))
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    s = np.array([1.0, 2, 3])
    np.testing.assert_allclose(judge(proto, x=X), s * (X - s) / np.sqrt(s + 1e-5) + s, 1e-7)


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 14, 15])
def test_batch_normalization_of_every_opset(opset: int) -> None:
    """Inference uses the given statistics in every opset, as ONNX Runtime does."""
    proto = model(
        "g (float[2,3] x) => (float[2,3] y) <float[3] s = {1, 2, 3}>"
        "{ y = BatchNormalization(x, s, s, s, s) }",
        opset,
    )
    expected = open_session(proto, level="disable").run({"x": X})["y"]
    np.testing.assert_allclose(judge(proto, x=X), expected, 1e-5, 1e-6)


def test_nodes_in_any_order() -> None:
    """The runtime sorts the nodes of a model, and so does the judge."""
    proto = model("g (float[2,3] x) => (float[2,3] y) { y = Relu(a) a = Neg(x) }")
    np.testing.assert_array_equal(judge(proto, x=X), np.maximum(-X.astype(np.float64), 0))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            "g (float[2] x) => (uint8[2] y) <float s = {1}, uint8 z = {0}>"
            "{ y = QuantizeLinear(x, s, z) }",
            "QuantizeLinear",
        ),
        ("g (float[2] x) => (float[2] y) { y = RandomNormalLike(x) }", "RandomNormalLike"),
    ],
)
def test_what_has_no_float64_evaluation_is_named(text: str, named: str) -> None:
    """Rounding and random operators are refused by name."""
    with pytest.raises(Unjudgeable, match=named):
        Judge(model(text))


def test_foreign_operators_are_named() -> None:
    """An operator of an unknown domain is refused by name."""
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>'
        "g (float[2] x) => (float[2] y) { y = com.microsoft.FastGelu(x) }"
    )
    with pytest.raises(Unjudgeable, match="FastGelu"):
        Judge(proto)


def test_time_is_bounded_between_nodes() -> None:
    """A model of many nodes ends soon after its time."""
    nodes = "".join(f"a{i + 1} = Add(a{i}, a{i}) " for i in range(200))
    proto = model(f"g (float[300,1000] a0) => (float[300,1000] a200) {{ {nodes} }}")
    with pytest.raises(OutOfTime):
        Judge(proto).run({"a0": np.zeros((300, 1000), np.float32)}, seconds=1e-3)


def test_time_is_bounded_within_a_slow_operator() -> None:
    """An operator that the plain evaluator loops over in Python is stopped in the middle."""
    proto = model(
        "g (float[1,50,400,400] x, float[1,400,400,2] grid) => (float[1,50,400,400] y)"
        "{ y = GridSample(x, grid) }"
    )
    feeds = {
        "x": np.zeros((1, 50, 400, 400), np.float32),
        "grid": np.zeros((1, 400, 400, 2), np.float32),
    }
    start = time.monotonic()
    with pytest.raises(OutOfTime):
        Judge(proto).run(feeds, seconds=0.3)
    assert time.monotonic() - start < 30  # without the watch it takes minutes


def test_the_model_is_not_changed() -> None:
    """Judging leaves the caller's model alone."""
    proto = model("g (float[2,3] x) => (float[2,3] y) { y = Cast<to=1>(x) }")
    proto.graph.initializer.append(numpy_helper.from_array(X, "unused"))
    before = proto.SerializeToString(deterministic=True)
    judge(proto, x=X)
    assert proto.SerializeToString(deterministic=True) == before


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(op: str, direction: str, given: str = "wrb", **options: Any) -> onnx.ModelProto:
    """A recurrent layer of four units over three features, with as many of its inputs."""
    directions, gates = 1 + (direction == "bidirectional"), GATES[op]
    shapes = {
        "w": (directions, 4 * gates, 3),
        "r": (directions, 4 * gates, 4),
        "b": (directions, 8 * gates),
        "n": (2,),
        "h": (directions, 2, 4),
        "c": (directions, 2, 4),
        "p": (directions, 12),
    }
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    arrays["n"] = np.array([5, 3], np.int32)
    inputs = ["x", *(name if name in given else "" for name in shapes)]
    while not inputs[-1]:
        inputs.pop()
    outputs = ["y", "last", "cell"][: 3 if op == "LSTM" else 2]
    ends = ", ".join(f"float {name}" for name in outputs)
    proto = model(f"g (float[5,2,3] x) => ({ends}) {{ }}", 14)
    node = helper.make_node(op, inputs, outputs, hidden_size=4, direction=direction, **options)
    proto.graph.node.append(node)
    used = [numpy_helper.from_array(arrays[name], name) for name in shapes if name in given]
    proto.graph.initializer.extend(used)
    return proto


OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "LSTM": ("wrb", {}),
    "LSTM, no bias": ("wr", {}),
    "LSTM, everything": ("wrbnhcp", {"clip": 0.7}),
    "LSTM, coupled gates": ("wrb", {"input_forget": 1}),
    "LSTM, activations": ("wrbh", {"activations": ["HardSigmoid", "Softsign", "Relu"]}),
    "LSTM, their values": (
        "wrb",
        {
            "activations": ["HardSigmoid", "LeakyRelu", "ScaledTanh"],
            "activation_alpha": [0.3, 0.1, 1.5],
            "activation_beta": [0.4, 0.6],
        },
    ),
    "GRU": ("wrb", {}),
    "GRU, no bias": ("wr", {}),
    "GRU, reset behind": ("wrbh", {"linear_before_reset": 1}),
    "GRU, lengths": ("wrbnh", {"clip": 0.5}),
    "GRU, activations": ("wrb", {"activations": ["Sigmoid", "Softplus"]}),
    "RNN": ("wrb", {}),
    "RNN, lengths": ("wrbnh", {"clip": 0.5}),
    **{
        f"RNN, {name}": ("wrb", {"activations": [name]})
        for name in ("Relu", "Sigmoid", "Softsign")
    },
    # With values: the runtime's own defaults are not those of ONNX, in some versions of it.
    **{
        f"RNN, {name}": ("wrb", {"activations": [name], "activation_alpha": [0.6]})
        for name in ("Elu", "LeakyRelu", "ThresholdedRelu")
    },
    **{
        f"RNN, {name}": (
            "wrb",
            {"activations": [name], "activation_alpha": [0.6], "activation_beta": [0.3]},
        )
        for name in ("Affine", "HardSigmoid", "ScaledTanh")
    },
}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("name", OPTIONS)
def test_recurrent_layers(name: str, direction: str) -> None:
    """Recurrent layers follow the runtime in every direction, with every input and attribute."""
    given, options = OPTIONS[name]
    if direction == "bidirectional":
        options = {key: v * 2 if isinstance(v, list) else v for key, v in options.items()}
    proto = recurrent(name.split(",")[0], direction, given, **options)
    x = np.random.default_rng(1).standard_normal((5, 2, 3)).astype(np.float32)
    expected = open_session(proto, level="disable").run({"x": x})
    found = Judge(proto).run({"x": x})
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, 1e-4, 1e-5, err_msg=key)
        assert found[key].dtype == np.float64


@pytest.mark.parametrize("op", GATES)
def test_recurrent_layers_with_the_batch_first(op: str) -> None:
    """The other layout, which the runtime does not have, is the same with its axes swapped."""
    x = np.random.default_rng(1).standard_normal((5, 2, 3)).astype(np.float32)
    expected = Judge(recurrent(op, "bidirectional")).run({"x": x})
    found = Judge(recurrent(op, "bidirectional", layout=1)).run({"x": x.swapaxes(0, 1)})
    np.testing.assert_array_equal(found.pop("y"), expected.pop("y").transpose(2, 0, 1, 3))
    for key, value in found.items():
        np.testing.assert_array_equal(value, expected[key].swapaxes(0, 1))


def test_an_unknown_activation_is_refused() -> None:
    """What ONNX does not list is no guess."""
    with pytest.raises(Unjudgeable, match="an activation Gelu"):
        Judge(recurrent("RNN", "forward", activations=["Gelu"])).run(
            {"x": np.ones((5, 2, 3), "f4")}
        )


def test_a_long_recurrence_is_watched() -> None:
    """A layer that takes a step of Python at a time looks at the clock."""
    proto = recurrent("LSTM", "forward")
    del proto.graph.input[0].type.tensor_type.shape.dim[:]
    start = time.monotonic()
    with pytest.raises(OutOfTime):
        Judge(proto).run({"x": np.ones((1_000_000, 2, 3), np.float32)}, seconds=0.5)
    assert time.monotonic() - start < 30  # without the watch it takes minutes


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        ", scan_input_directions=[1, 0], scan_output_directions=[0, 1]",
        ", scan_input_axes=[1, -1], scan_output_axes=[1, 0]",
    ],
    ids=["forwards", "backwards", "axes"],
)
def test_scans(attributes: str) -> None:
    """A Scan follows the runtime along any axis, both ways, and sees what is around it."""
    body = """b (float[2] h, float[2] p, float[2] q) => (float[2] n, float[2] s, float[2] d)
        { a = Add(h, p) n = Mul(a, w) s = Sub(n, q) d = Identity(a) }"""
    shape = (2, 3) if "axes" in attributes else (3, 2)
    proto = model(
        f"""g (float{[*shape]} x, float{[*shape]} z) => (float last, float s, float d)
            <float[2] start = {{1, 2}}, float[2] w = {{0.5, -1}}> {{
            last, s, d = Scan<num_scan_inputs=2, body={body}{attributes}>(start, x, z) }}"""
    )
    rng = np.random.default_rng(3)
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name in "xz"}
    expected = open_session(proto, level="disable").run(feeds)
    found = Judge(proto).run(feeds)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, 1e-6, 1e-6, err_msg=name)


def test_an_output_that_is_left_out_is_no_input_that_is_left_out() -> None:
    """Both have the empty name."""
    proto = model("g (float[3] x) => (float[3] y) { a, m = Dropout(x) y = Clip(x) }", 13)
    proto.graph.node[0].output[0] = ""
    top = numpy_helper.from_array(np.array(1, np.float32), "top")
    proto.graph.initializer.append(top)
    proto.graph.node[1].input.extend(["", "top"])
    x = np.array([-1, 0, 2], np.float32)
    np.testing.assert_array_equal(judge(proto, x=x), [-1, 0, 1])


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(("op", "opset"), [("Upsample", 7), ("Upsample", 9), ("Resize", 10)])
def test_the_first_ways_to_resize(op: str, opset: int, mode: str) -> None:
    """Upsample and the Resize of opset 10 follow the runtime."""
    x = np.random.default_rng(1).standard_normal((1, 2, 3, 4)).astype(np.float32)
    scales = [1.0, 1.0, 2.0, 3.0]
    proto = model("g (float[1,2,3,4] x) => (float y) <float[4] s = {1, 1, 2, 3}> { }", opset)
    if opset == 7:
        node = helper.make_node(op, ["x"], ["y"], mode=mode, scales=scales)
    else:
        node = helper.make_node(op, ["x", "s"], ["y"], mode=mode)
    proto.graph.node.append(node)
    expected = open_session(proto, level="disable").run({"x": x})["y"]
    np.testing.assert_allclose(judge(proto, x=x), expected, 1e-5, 1e-6)
