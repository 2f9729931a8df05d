"""Inputs to run on: generated at sizes that work, or the user's own, checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from bnfold.errors import InputError
from bnfold.feeds import DISTRIBUTIONS, Feeds, Samples, make_samples
from bnfold.ranges import integer_range, known_sizes
from bnfold.runtime import open_session
from bnfold.sizes import Dims, channel_hints, input_specs


def model(signature: str, body: str, header: str = "ir_version: 8") -> onnx.ModelProto:
    """A model from its inputs and outputs, and its nodes (initializers before them)."""
    return parser.parse_model(f'<{header}, opset_import: ["": 17]>\ng {signature} {body}')


RELU = "{ y = Relu(x) }"
IMAGE = model("(float[N,3,H,W] image) => (float[N,3,P,Q] y)", "{ y = Relu(image) }")


def generate(proto: onnx.ModelProto, **options: Any) -> Samples:
    return make_samples(proto, open_session(proto, level="disable").run, **options)


def accept(feeds: Feeds) -> None:
    """Runs anything."""


def given(proto: onnx.ModelProto, data: Any) -> Samples:
    return make_samples(proto, accept, data=data)


# --- generated


def test_same_seed_same_samples() -> None:
    """A seed determines every number; another seed gives others."""
    first, again, other = (generate(IMAGE, seed=seed) for seed in (5, 5, 6))
    for a, b, c in zip(first.items, again.items, other.items, strict=True):
        np.testing.assert_array_equal(a.feeds["image"], b.feeds["image"])
        if not a.name.startswith("zeros"):
            assert not np.array_equal(a.feeds["image"], c.feeds["image"])


def test_every_distribution_and_several_sizes() -> None:
    """Twice the default number of samples meets every distribution, and sizes differ."""
    made = generate(IMAGE, samples=16)
    assert {name.split(", ")[0] for name in made.names} == set(DISTRIBUTIONS)
    assert len({sample.feeds["image"].shape for sample in made.items}) >= 3


def test_constant_channels_are_constant() -> None:
    """One distribution holds one number in each channel."""
    made = generate(IMAGE, samples=16)
    one = next(s for s in made.items if s.name.startswith("constant")).feeds["image"]
    assert np.ptp(one[0, 0]) == 0
    assert one[0, 0, 0, 0] != one[0, 1, 0, 0]


def test_equal_names_get_equal_sizes() -> None:
    """A symbolic dimension has one size wherever it stands."""
    two = model("(float[N,K] a, float[K,N] b) => (float[N,N] y)", "{ y = MatMul(a, b) }")
    for sample in generate(two).items:
        assert sample.feeds["a"].shape == sample.feeds["b"].shape[::-1]


def test_dims_override_symbols_and_inputs() -> None:
    """A number fixes a symbol in every sample, a shape fixes an input."""
    by_symbol = generate(IMAGE, dims={"N": 4, "H": 5})
    assert {s.feeds["image"].shape[0] for s in by_symbol.items} == {4}
    assert {s.feeds["image"].shape[2] for s in by_symbol.items} == {5}
    by_input = generate(IMAGE, dims={"image": (2, 3, 7, 9)})
    assert {s.feeds["image"].shape for s in by_input.items} == {(2, 3, 7, 9)}


@pytest.mark.parametrize(
    "dims", [{"M": 4}, {"picture": (1, 3, 4, 4)}, {"image": (1, 4, 4, 4)}, {"image": (1, 3)}]
)
def test_dims_that_do_not_fit(dims: Dims) -> None:
    """Unknown names and shapes that contradict the model are refused with what there is."""
    with pytest.raises(InputError) as caught:
        generate(IMAGE, dims=dims)
    assert "image" in f"{caught.value}{caught.value.hint}"


def test_sizes_that_fail_are_skipped_with_a_note() -> None:
    """A hard-coded reshape allows one batch size only; the others are no error."""
    fixed = model(
        "(float[N,4] x) => (float[1,2,2] y)",
        "<int64[3] shape = {1, 2, 2}> { y = Reshape(x, shape) }",
    )
    made = generate(fixed)
    assert {s.feeds["x"].shape for s in made.items} == {(1, 4)}
    assert any("N 3" in note for note in made.notes)


def test_unknown_channels_follow_from_the_weight() -> None:
    """An open channel dimension takes the size that the first Conv needs."""
    conv = model(
        "(float[N,C,H,W] x) => (float[N,O,P,Q] y)",
        "<float[2,5,1,1] w = {1,2,3,4,5,6,7,8,9,10}> { y = Conv(x, w) }",
    )
    assert channel_hints(conv, input_specs(conv)) == {"C": 5}
    assert {s.feeds["x"].shape[1] for s in generate(conv).items} == {5}


def test_needed_size_is_found_by_trying() -> None:
    """A Flatten before a Gemm needs one image size; the search finds it."""
    weight = numpy_helper.from_array(np.ones((3 * 16 * 16, 2), np.float32), "w")
    proto = model("(float[N,3,H,W] x) => (float[N,2] y)", "{ f = Flatten(x) y = MatMul(f, w) }")
    proto.graph.initializer.append(weight)
    shapes = {s.feeds["x"].shape for s in generate(proto).items}
    assert {shape[1:] for shape in shapes} == {(3, 16, 16)}
    assert len(shapes) > 1


def test_no_size_runs() -> None:
    """A model that runs at no size ends in a hint that shows how to give one."""
    with pytest.raises(InputError, match="no sizes were found") as caught:
        make_samples(model("(float[N,K] x) => (float[N,K] y)", RELU), _never)
    assert "--input NAME=1x3x224x224" in caught.value.hint


def _never(feeds: Feeds) -> None:
    raise InputError("no", "no")


def test_a_fixed_model_that_fails_gives_its_own_error() -> None:
    """With nothing to search for, the runtime's message is what helps."""
    fixed = model("(float[2] x) => (float[2] y)", RELU)
    with pytest.raises(InputError, match=r"^no$"):
        make_samples(fixed, _never)


def test_unknown_rank_needs_dims() -> None:
    """An input without a rank is refused with its name in the hint, and works with a shape."""
    proto = model("(float[2] x) => (float[2] y)", RELU)
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(InputError, match="x has no declared rank") as caught:
        generate(proto)
    assert "--input x=1x3x224x224" in caught.value.hint
    assert generate(proto, dims={"x": (3, 4)}).items[0].feeds["x"].shape == (3, 4)


def test_initializers_that_are_inputs_are_not_fed() -> None:
    """A default value of the model stays the model's."""
    proto = model("(float[2] x, float[2] w) => (float[2] y)", "{ y = Mul(x, w) }")
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "w"))
    assert set(generate(proto).items[0].feeds) == {"x"}


@pytest.mark.parametrize(
    "kind",
    [
        helper.make_tensor_type_proto(TensorProto.STRING, [2]),
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [2])),
        helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [2])),
    ],
    ids=["string", "sequence", "optional"],
)
def test_what_cannot_be_fed_is_refused(kind: onnx.TypeProto) -> None:
    """Strings, sequences and optionals are refused by name, with what can be fed."""
    proto = model("(float[2] x) => (float[2] y)", "{ y = Identity(x) }")
    proto.graph.input[0].type.CopyFrom(kind)
    with pytest.raises(InputError, match="x ") as caught:
        input_specs(proto)
    assert "numbers" in caught.value.hint


def test_no_samples_prove_nothing() -> None:
    """Zero samples would pass anything."""
    with pytest.raises(InputError, match="prove nothing"):
        generate(IMAGE, samples=0)


# --- whole numbers


@pytest.mark.parametrize(
    ("body", "high"),
    [
        ("<float[7,2] t = {0,1,2,3,4,5,6,7,8,9,10,11,12,13}> { y = Gather(t, i) }", 7),
        (
            "<float[3,5] t = {0,1,2,3,4,5,6,7,8,9,10,11,12,13,14}>"
            "{ f = Unsqueeze(i, a) s = Squeeze(f, a) y = Gather<axis=1>(t, s) }",
            5,
        ),
        ("{ y = Cast<to=1>(i) }", 8),
    ],
    ids=["gather", "through movement", "free"],
)
def test_indices_stay_in_range(body: str, high: int) -> None:
    """Whole numbers that end as indices stay within what they index."""
    proto = model("(int64[4] i) => (float y)", body)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "a"))
    assert integer_range(proto.graph, "i", known_sizes(proto)).high == high


def test_gather_runs_on_generated_indices() -> None:
    """What is generated is accepted: no index is out of range on any sample."""
    proto = model(
        "(int64[N] i) => (float[N,2] y)", "<float[3,2] t = {0,1,2,3,4,5}> { y = Gather(t, i) }"
    )
    run = open_session(proto).run
    for sample in generate(proto).items:
        run(sample.feeds)


def test_booleans_are_booleans() -> None:
    """A boolean input sees both values."""
    proto = model("(bool[N] b) => (bool[N] y)", "{ y = Not(b) }")
    values = np.concatenate([s.feeds["b"] for s in generate(proto, dims={"N": 50}).items])
    assert values.dtype == np.bool_
    assert 0 < values.mean() < 1


# --- given by the user

PAIR = model("(float[N,2] a, int64[N] b) => (float[N,2] y)", "{ y = Identity(a) }")
GOOD: dict[str, Any] = {"a": np.ones((3, 2), np.float32), "b": np.ones(3, np.int64)}


def test_dict_and_iterable() -> None:
    """One dict is one sample, an iterator gives as many as it holds."""

    def stream() -> Iterator[dict[str, Any]]:
        yield GOOD
        yield GOOD

    assert len(given(PAIR, GOOD).items) == 1
    assert len(given(PAIR, stream()).items) == 2


def test_npz_and_npy(tmp_path: Path) -> None:
    """An .npz holds arrays by name, an .npy the only input's."""
    np.savez(tmp_path / "d.npz", **GOOD)
    made = given(PAIR, tmp_path / "d.npz")
    np.testing.assert_array_equal(made.items[0].feeds["b"], GOOD["b"])
    np.save(tmp_path / "d.npy", np.zeros((1, 3, 2, 2), np.float32))
    assert given(IMAGE, str(tmp_path / "d.npy")).items[0].feeds["image"].shape == (1, 3, 2, 2)
    with pytest.raises(InputError, match="2 inputs"):
        given(PAIR, tmp_path / "d.npy")


def test_onnx_test_sets(tmp_path: Path) -> None:
    """A folder of ONNX test sets is read set by set, inputs by position or name."""
    for number in (0, 1):
        folder = tmp_path / f"test_data_set_{number}"
        folder.mkdir()
        for index, name in ((0, ""), (1, "b")):
            array = np.full((3, 2), number, np.float32) if index == 0 else GOOD["b"]
            tensor = numpy_helper.from_array(array, name)
            (folder / f"input_{index}.pb").write_bytes(tensor.SerializeToString())
    made = given(PAIR, tmp_path)
    assert made.names == ("test_data_set_0", "test_data_set_1")
    assert made.items[1].feeds["a"][0, 0] == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"a": GOOD["a"]}, "expected a float32 (N, 2), b int64 (N); found a"),
        ({**GOOD, "c": GOOD["a"]}, "found a, b, c"),
        ({**GOOD, "a": np.ones((3, 2))}, "input a float32 (N, 2) was given float64 (3, 2)"),
        ({**GOOD, "a": np.ones((3, 5), np.float32)}, "was given float32 (3, 5)"),
        ({**GOOD, "a": np.ones(3, np.float32)}, "was given float32 (3,)"),
        ({**GOOD, "b": np.ones(4, np.int64)}, "input b int64 (N) was given int64 (4,)"),
        ([], "no sample"),
        ([3], "expected a dict of arrays, found int"),
    ],
    ids=["missing", "extra", "type", "size", "rank", "symbol", "empty", "no dict"],
)
def test_data_that_does_not_fit(data: Any, words: str) -> None:
    """The message says what was expected and what was found."""
    with pytest.raises(InputError) as caught:
        given(PAIR, data)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["absent.npz", "text.npz", "cut.npz", "data.csv", "folder"])
def test_files_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    """A missing, broken or foreign file and an empty folder are errors with a hint."""
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "whole.npz", **GOOD)
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError) as caught:
        given(PAIR, tmp_path / name)
    assert caught.value.hint


def test_broken_tensor_file(tmp_path: Path) -> None:
    """A test set whose file is no tensor is an error that names the file."""
    (tmp_path / "input_0.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(InputError, match=r"input_0\.pb"):
        given(IMAGE, tmp_path)
