"""Every BatchNormalization gets the exact statistics of its input, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.errors import InputError, OutputError
from bnfold.modelio import load_model
from bnfold.runtime import open_session
from bnfold.testing import assert_equivalent
from bnfold.weights import Range
from bnfold_models.data import Dataset, load

SHIPPED = Path(__file__).parents[1] / "models" / "trained"

TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64}


def normalization(x: str, y: str, *, own: str = "", **attributes: object) -> onnx.NodeProto:
    """A node with parameters of its own, by name."""
    parameters = [f"{own or y}_{part}" for part in ("gamma", "beta", "mean", "var")]
    return helper.make_node("BatchNormalization", [x, *parameters], [y], **attributes)


def parameters(name: str, shape: int | tuple[int, ...], kind: str = "float"):
    """Random ones, far from those of any data here."""
    rng = np.random.default_rng(len(name))
    draws = {
        "gamma": rng.normal(0, 1, shape),
        "beta": rng.normal(0, 1, shape),
        "mean": rng.normal(9, 1, shape),
        "var": rng.uniform(5, 9, shape),
    }
    return [
        numpy_helper.from_array(array.astype(TYPES[kind]), f"{name}_{part}")
        for part, array in draws.items()
    ]


def model(
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    shape: tuple[int | str, ...] = ("N", 4),
    *,
    opset: int = 17,
    kind: str = "float",
    output: str = "y",
    ir_version: int = 8,
) -> onnx.ModelProto:
    element = {"float": TensorProto.FLOAT, "float16": 10, "double": TensorProto.DOUBLE}[kind]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info(output, element, (None,) * len(shape))],
        constants,
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def chain(kind: str = "float", **options: object) -> onnx.ModelProto:
    """BN, Relu, BN: the second one's statistics follow from the first's."""
    nodes = [
        normalization("x", "a"),
        helper.make_node("Relu", ["a"], ["b"]),
        normalization("b", "y"),
    ]
    constants = [*parameters("a", 4, kind), *parameters("y", 4, kind)]
    return model(nodes, constants, kind=kind, **options)


def draw(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(1).normal(3, 2, shape).astype(dtype)


def assert_exact(proto: onnx.ModelProto, data: np.ndarray, tolerance: float = 2e-6) -> None:
    """The statistics of every node are those of what it reads, on all the data at once."""
    nodes = [node for node in proto.graph.node if node.op_type == "BatchNormalization"]
    stored = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    session = open_session(
        proto, level="disable", outputs=[node.input[0] for node in nodes if node.input[0] != "x"]
    )
    values = {"x": data, **session.run({"x": data})}
    for node in nodes:
        value = values[node.input[0]].astype(np.float64)
        mean, variance = (stored[name] for name in node.input[3:])
        axes = (0,) if mean.ndim > 1 else tuple(a for a in range(value.ndim) if a != 1)
        np.testing.assert_allclose(mean, value.mean(axis=axes), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(variance, value.var(axis=axes), rtol=tolerance, atol=tolerance)


# --- what it does


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_statistics_are_those_of_all_the_data(batch: int) -> None:
    """However it is cut; and what stands behind a replaced layer is measured behind it."""
    data = draw(100, 4)
    result = bnfold.recalibrate(chain(), data, batch=batch)
    assert_exact(result.model, data)
    assert (result.rows, result.passes) == (100, 2)
    assert [layer.tensor for layer in result.layers] == ["a", "y"]
    assert [layer.values for layer in result.layers] == [100, 100]


@pytest.mark.parametrize("opset", [7, 9, 14, 15, 17])
@pytest.mark.parametrize("shape", [(20, 4), (20, 4, 5), (20, 4, 3, 2), (20, 4, 3, 2, 2)])
def test_every_opset_and_rank(opset: int, shape: tuple[int, ...]) -> None:
    data = draw(*shape)
    proto = model([normalization("x", "y")], parameters("y", 4), ("N", *shape[1:]), opset=opset)
    assert_exact(bnfold.recalibrate(proto, data).model, data)


def test_a_statistic_for_every_element() -> None:
    """As `spatial=0` had them, before opset 9."""
    data = draw(20, 4, 3, 2)
    node = normalization("x", "y", spatial=0)
    proto = model([node], parameters("y", (4, 3, 2)), ("N", 4, 3, 2), opset=7)
    assert_exact(bnfold.recalibrate(proto, data).model, data)


@pytest.mark.parametrize(("kind", "tolerance"), [("float16", 2e-3), ("double", 1e-12)])
def test_other_types_keep_their_type(kind: str, tolerance: float) -> None:
    data = draw(100, 4, dtype=TYPES[kind])
    proto = chain(kind)
    result = bnfold.recalibrate(proto, data)
    assert_exact(result.model, data, tolerance)
    assert [t.data_type for t in result.model.graph.initializer] == [
        t.data_type for t in proto.graph.initializer
    ]


def test_independent_layers_share_a_pass() -> None:
    nodes = [
        normalization("x", "a"),
        normalization("x", "b"),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    data = draw(50, 4)
    proto = model(nodes, [*parameters("a", 4), *parameters("b", 4)])
    result = bnfold.recalibrate(proto, data)
    assert result.passes == 1
    assert_exact(result.model, data)


def test_the_report_says_how_far_each_was_off() -> None:
    """In standard deviations and as a ratio of variances, epsilon in both."""
    data = draw(50, 4)
    proto = model([normalization("x", "y", epsilon=0.5)], parameters("y", 4))
    (layer,) = bnfold.recalibrate(proto, data).layers
    old = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in proto.graph.initializer}
    mean, variance = data.mean(axis=0, dtype=np.float64), data.var(axis=0, dtype=np.float64) + 0.5
    off = np.abs(old["y_mean"] - mean) / np.sqrt(variance)
    ratio = (old["y_var"] + 0.5) / variance
    assert layer.worst_mean_off == pytest.approx(off.max())
    assert layer.mean_off == pytest.approx(np.median(off))
    assert layer.variance_ratio == pytest.approx((ratio.min(), np.median(ratio), ratio.max()))


# --- what it leaves


def test_only_statistics_change() -> None:
    """Names, nodes, inputs and every other tensor stay; the model given is not touched."""
    proto = chain()
    before = proto.SerializeToString()
    changed = bnfold.recalibrate(proto, draw(50, 4)).model
    assert proto.SerializeToString() == before
    for tensor, other in zip(proto.graph.initializer, changed.graph.initializer, strict=True):
        is_statistic = tensor.name.endswith(("mean", "var"))
        assert (tensor == other) != is_statistic
        assert tensor.name == other.name
    for either in (proto, changed):
        either.graph.ClearField("initializer")
    assert proto == changed


def test_exact_statistics_change_nothing_beyond_rounding() -> None:
    data = draw(200, 4)
    once = bnfold.recalibrate(chain(), data)
    twice = bnfold.recalibrate(once.model, data, batch=13)
    assert max(layer.worst_mean_off for layer in twice.layers) < 1e-6
    assert_equivalent(once.model, twice.model)


def test_shared_statistics_are_copied() -> None:
    """Two nodes, and a reader that has nothing to do with them, shared a tensor."""
    nodes = [
        normalization("x", "a", own="s"),
        helper.make_node("Add", ["a", "s_mean"], ["b"]),
        normalization("b", "y", own="s"),
    ]
    data = draw(50, 4)
    proto = model(nodes, parameters("s", 4))
    result = bnfold.recalibrate(proto, data)
    assert_exact(result.model, data)
    stored = {t.name: t for t in result.model.graph.initializer}
    assert stored["s_mean"] == next(t for t in proto.graph.initializer if t.name == "s_mean")
    assert len({name for node in result.model.graph.node for name in node.input[3:]}) == 4


def test_one_tensor_as_mean_and_variance() -> None:
    """An exporter that shares equal tensors does so before training."""
    node = helper.make_node("BatchNormalization", ["x", *["y_gamma"] * 4], ["y"])
    ones = numpy_helper.from_array(np.ones(4, np.float32), "y_gamma")
    data = draw(50, 4)
    result = bnfold.recalibrate(model([node], [ones]), data)
    assert_exact(result.model, data)
    assert result.model.graph.initializer[0] == ones


@pytest.mark.parametrize("op_type", ["Constant", "Identity"])
def test_statistics_that_nodes_make(op_type: str) -> None:
    gamma, beta, mean, variance = parameters("y", 4)
    if op_type == "Constant":
        maker, constants = helper.make_node("Constant", [], ["y_mean"], value=mean), []
    else:
        maker, constants = helper.make_node("Identity", ["y_beta"], ["y_mean"]), []
    data = draw(50, 4)
    proto = model([maker, normalization("x", "y")], [gamma, beta, variance, *constants])
    result = bnfold.recalibrate(proto, data)
    assert_exact(result.model, data)
    assert [node.op_type for node in result.model.graph.node] == ["BatchNormalization"]


def test_defaults_of_graph_inputs_stay_inputs() -> None:
    """Older exporters list every weight as an input; here that is kept, with another default."""
    proto = chain()
    proto.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in proto.graph.initializer
    )
    data = draw(50, 4)
    result = bnfold.recalibrate(proto, data)
    assert_exact(result.model, data)
    assert list(result.model.graph.input) == list(proto.graph.input)


def in_a_branch() -> onnx.ModelProto:
    """One node in the open, one in both branches of an If."""
    bodies = [
        helper.make_graph(
            [normalization("a", f"{name}_out", own="a")],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)],
        )
        for name in ("then", "else")
    ]
    nodes = [
        normalization("x", "a"),
        helper.make_node("If", ["yes"], ["y"], then_branch=bodies[0], else_branch=bodies[1]),
    ]
    yes = numpy_helper.from_array(np.array(True), "yes")
    return model(nodes, [*parameters("a", 4), yes])


def test_a_branch_is_left_alone_and_told_of() -> None:
    """And so are the statistics that it shares."""
    data = draw(50, 4)
    result = bnfold.recalibrate(in_a_branch(), data)
    assert [layer.tensor for layer in result.layers] == ["a"]
    assert {kept.tensor for kept in result.kept} == {"then_out", "else_out"}
    assert "subgraph" in result.kept[0].detail
    for attribute in result.model.graph.node[1].attribute:
        assert list(attribute.g.node[0].input[3:]) == ["a_mean", "a_var"]


def test_statistics_of_the_batch_are_not_replaced() -> None:
    nodes = [
        normalization("x", "a", training_mode=1),
        normalization("a", "y"),
    ]
    proto = model(nodes, [*parameters("a", 4), *parameters("y", 4)])
    del proto.graph.node[0].output[1:]
    proto.graph.node[0].output.extend(["running_mean", "running_var"])
    result = bnfold.recalibrate(proto, draw(50, 4))
    assert [kept.tensor for kept in result.kept] == ["a"]
    assert "statistics of the batch" in result.kept[0].detail


def test_statistics_that_are_computed_are_not_replaced() -> None:
    nodes = [
        normalization("x", "a"),
        helper.make_node("ReduceMean", ["a"], ["y_mean"], axes=[0], keepdims=0),
        normalization("a", "y"),
    ]
    constants = [t for t in (*parameters("a", 4), *parameters("y", 4)) if t.name != "y_mean"]
    result = bnfold.recalibrate(model(nodes, constants), draw(50, 4))
    assert [(kept.tensor, kept.detail) for kept in result.kept] == [
        ("y", "y_mean is computed at run time")
    ]


def test_a_variance_that_its_type_cannot_hold_is_refused() -> None:
    """A deviation of 1000 is nothing special in float16, its square is infinite there."""
    data = (1000 * np.random.default_rng(0).standard_normal((50, 4))).astype(np.float16)
    proto = model([normalization("x", "y")], parameters("y", 4, "float16"), kind="float16")
    result = bnfold.recalibrate(proto, data)
    assert result.layers == ()
    assert "not finite in float16" in result.kept[0].detail
    assert result.model == proto


def test_a_channel_that_never_varies_is_told_of() -> None:
    data = draw(50, 4)
    data[:, 2] = 7
    result = bnfold.recalibrate(chain(), data)
    assert result.layers[0].constant_channels == 1
    assert any("never vary" in note for note in result.notes)


def test_without_epsilon_such_a_channel_is_refused() -> None:
    data = draw(50, 4)
    data[:, 2] = 7
    proto = model([normalization("x", "y", epsilon=0.0)], parameters("y", 4))
    (kept,) = bnfold.recalibrate(proto, data).kept
    assert "no variance" in kept.detail


# --- the data


def test_a_fixed_batch_is_fed_in_its_size() -> None:
    data = draw(30, 4)
    proto = chain(shape=(5, 4))
    result = bnfold.recalibrate(proto, data)
    assert result.rows == 30
    free = bnfold.recalibrate(chain(), data)
    for layer, other in zip(result.layers, free.layers, strict=True):
        assert layer.worst_mean_off == pytest.approx(other.worst_mean_off, rel=1e-6)


def test_rows_that_do_not_fill_a_fixed_batch_are_refused() -> None:
    with pytest.raises(InputError, match="has 31 rows, and the model takes 5 at a time"):
        bnfold.recalibrate(chain(shape=(5, 4)), draw(31, 4))


@pytest.mark.parametrize("kind", ["generator", "npz", "npy", "dict"])
def test_data_in_every_form(kind: str, tmp_path: Path) -> None:
    data = draw(100, 4)
    np.savez(tmp_path / "data.npz", x=data)
    np.save(tmp_path / "data.npy", data)
    given = {
        "generator": ({"x": part} for part in np.split(data, 4)),
        "npz": tmp_path / "data.npz",
        "npy": str(tmp_path / "data.npy"),
        "dict": {"x": data},
    }[kind]
    assert_exact(bnfold.recalibrate(chain(), given).model, data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (draw(50, 5), r"given float32 \(50, 5\)"),
        (draw(1, 4), "sees 1 values a channel"),
        (draw(50, 4) * np.float32(np.nan), "is not finite on this data"),
    ],
)
def test_data_that_cannot_be_used(data: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bnfold.recalibrate(chain(), data)


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="holds nothing"):
        bnfold.recalibrate(chain(), draw(50, 4), batch=0)


def test_a_model_without_statistics_is_refused() -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], [])
    with pytest.raises(InputError, match="has no BatchNormalization"):
        bnfold.recalibrate(proto, draw(50, 4))


def test_a_file_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "out.onnx"
    result = bnfold.recalibrate(chain(), draw(50, 4), path)
    assert onnx.load(path) == result.model
    with pytest.raises(OutputError, match="exists"):
        bnfold.recalibrate(chain(), draw(50, 4), path)


@pytest.mark.parametrize("external", [True, False])
def test_large_weights_stay_in_their_file(
    external: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the layers between go from file to file, and the result is that of a loaded one."""
    rng = np.random.default_rng(3)
    weights = [rng.normal(0, 0.2, shape) for shape in ((4, 3000), (3000, 4))]
    nodes = [
        helper.make_node("MatMul", ["x", "u"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "v"], ["c"]),
        normalization("c", "y"),
    ]
    tensors = [
        numpy_helper.from_array(w.astype("f4"), n) for w, n in zip(weights, "uv", strict=True)
    ]
    proto = model(nodes, [*tensors, *parameters("y", 4)])
    path, data = tmp_path / "net.onnx", draw(50, 4)
    expected = bnfold.recalibrate(proto, data).model
    onnx.save(proto, path, save_as_external_data=external, location="net.data")

    def unread(self: Range, *_: object) -> bytes:
        raise AssertionError(f"{self.length} bytes were read")

    with monkeypatch.context() as patch:
        patch.setattr(Range, "read", unread)
        patch.setattr(Range, "array", unread)
        result = bnfold.recalibrate(path, data, tmp_path / "out.onnx", isolate=True)
        assert result.layers
    assert (tmp_path / "out.onnx.data").exists() == external
    assert load_model(tmp_path / "out.onnx") == result.model == expected


# --- what it is for


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def accuracy(proto: onnx.ModelProto, digits: Dataset) -> float:
    images = digits.test.images.astype(np.float32) / 255
    scores = open_session(proto).run({"input": images})["output"]
    return float((scores.argmax(axis=1) == digits.test.labels).mean())


def perturbed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The statistics as if training had ended before they followed."""
    worse = onnx.ModelProto()
    worse.CopyFrom(proto)
    rng = np.random.default_rng(0)
    names = {
        name: index
        for node in worse.graph.node
        if node.op_type == "BatchNormalization"
        for index, name in enumerate(node.input)
    }
    for tensor in worse.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if names.get(tensor.name) == 3:
            array = array + rng.normal(0, 1, array.shape)
        elif names.get(tensor.name) == 4:
            array = array * np.exp(rng.normal(0, 2, array.shape))
        else:
            continue
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))
    return worse


@pytest.mark.parametrize("name", ["digits-relu-bn3", "digits-sigmoid-bn2", "textbook-relu"])
def test_perturbed_statistics_are_restored(name: str, digits: Dataset) -> None:
    """The accuracy that was lost comes back; the fold of the result is exact as ever."""
    trained = onnx.load(SHIPPED / f"{name}.onnx")
    worse = perturbed(trained)
    before, lost = accuracy(trained, digits), accuracy(worse, digits)
    assert lost < before - 0.1
    data = digits.train.images.astype(np.float32) / 255
    result = bnfold.recalibrate(worse, data)
    assert accuracy(result.model, digits) > before - 0.01
    folded = bnfold.fold(result.model)
    assert not folded.kept
    assert_equivalent(result.model, folded.model)


@pytest.mark.isolated
def test_a_child_process_measures_the_same() -> None:
    """As it is by default, outside of these tests."""
    data = draw(50, 4)
    apart = bnfold.recalibrate(chain(), data, isolate=True)
    assert apart.model == bnfold.recalibrate(chain(), data, isolate=False).model
