"""A SplitToSequence that is a Split in other words folds as one; any other one stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from exact_rows import Model, build, differences
from onnx import helper, numpy_helper
from random_graphs import Dyadic, Seeded, grow

from bnfold import fold
from bnfold.runtime import open_session
from bnfold.sequences import with_splits

HEAD = "h = Conv(X[2,4,5,6], w[6,4,2,2]); "


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def results(model: Model, proto: onnx.ModelProto) -> Sequence[np.ndarray]:
    """All outputs of the original's, by the runtime."""
    found = open_session(proto, level="disable").run(model.feeds)
    return [found[output.name] for output in model.proto.graph.output]


SPLITS = {
    "sizes": "s = SplitToSequence<axis=1>(h, n{1,2,3}); p = SequenceAt(s, i:int64=2);"
    "q = SequenceAt(s, j:int64=0); r = SequenceAt(s, k:int64=1)",
    "all of one size, where a wrong part hides": "s = SplitToSequence<axis=1>(h, n{2,2,2});"
    "p = SequenceAt(s, i:int64=2); q = SequenceAt(s, j:int64=0)",
    "places from the end": "s = SplitToSequence<axis=-3>(h, n{2,2,2});"
    "p = SequenceAt(s, i:int64=-1); q = SequenceAt(s, j:int64=-3)",
    "a part picked twice": "s = SplitToSequence<axis=1>(h, n{2,4}); p = SequenceAt(s, i:int64=1);"
    "q = SequenceAt(s, i); r = Sigmoid(q)",
    "one number, and a smaller last part": "s = SplitToSequence<axis=1>(Y[2,5], n:int64=2);"
    "p = SequenceAt(s, i:int64=2); q = SequenceAt(s, j:int64=1); o = Neg(q)",
    "int32, and the first axis": "s = SplitToSequence(h, n:int32{1,1});"
    "p = SequenceAt(s, i:int32=1)",
}


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("text", SPLITS.values(), ids=SPLITS)
def test_a_split_in_other_words(text: str, opset: int) -> None:
    """As a Split it gives the same to the bit, in every opset, and no sequence is left."""
    model = build(f"@opset={opset} {HEAD}{text}")
    before = model.proto.SerializeToString(deterministic=True)
    split = with_splits(model.proto)
    assert split is not None
    assert not {"SplitToSequence", "SequenceAt"} & {*kinds(split)}
    for expected, found in zip(results(model, model.proto), results(model, split), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert model.proto.SerializeToString(deterministic=True) == before


def test_numbers_in_nodes() -> None:
    """Sizes and places may stand in Constant nodes, as tensors or as plain numbers."""
    model = build(HEAD + SPLITS["sizes"])
    held = {t.name: t for t in model.proto.graph.initializer if t.name in ("n", "i", "j")}
    for name, tensor in held.items():
        model.proto.graph.initializer.remove(tensor)
        numbers = numpy_helper.to_array(tensor).tolist()
        value = {"n": {"value_ints": numbers}, "i": {"value_int": numbers}, "j": {"value": tensor}}
        model.proto.graph.node.insert(0, helper.make_node("Constant", [], [name], **value[name]))
    split = with_splits(model.proto)
    assert split is not None
    for expected, found in zip(results(model, model.proto), results(model, split), strict=True):
        np.testing.assert_array_equal(found, expected)


OTHERS = {
    "another reader": "s = SplitToSequence<axis=1>(h, n{2,4}); p = SequenceAt(s, i:int64=0);"
    "l = SequenceLength(s)",
    "a place that is computed": "s = SplitToSequence<axis=1>(h, n{2,4});"
    "p = SequenceAt(s, I:int64[])",
    "sizes that are computed": "s = SplitToSequence<axis=1>(h, N:int64[2]);"
    "p = SequenceAt(s, i:int64=0)",
    "no sizes": "s = SplitToSequence<axis=1>(h); p = SequenceAt(s, i:int64=0)",
    "a place that is none": "s = SplitToSequence<axis=1>(h, n{2,4}); p = SequenceAt(s, i:int64=2)",
    "an unknown total": "@rank=h:4 s = SplitToSequence<axis=1>(h, n:int64=2);"
    "p = SequenceAt(s, i:int64=1)",
    "nobody picks": "s = SplitToSequence<axis=1>(h, n{2,4}); l = SequenceLength(s)",
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_what_is_no_split_stays(text: str) -> None:
    """Where anything is not known, or anything else reads the sequence, nothing is changed."""
    flags, _, rest = text.rpartition("@rank=h:4 ")
    assert with_splits(build(f"{flags}{HEAD}{rest}").proto) is None


def test_a_sequence_that_leaves_the_model_stays() -> None:
    """A sequence that is an output, or that a subgraph reads, is no Split."""
    model = build(f"{HEAD}{SPLITS['sizes']}").proto
    model.graph.output.append(helper.make_tensor_sequence_value_info("s", 1, None))
    assert with_splits(model) is None
    del model.graph.output[-1]
    assert with_splits(model) is not None
    inner = helper.make_node("SequenceLength", ["s"], ["count"])
    branch = helper.make_graph([inner], "b", [], [helper.make_tensor_value_info("count", 7, [])])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["c"], then_branch=branch, else_branch=branch)
    )
    assert with_splits(model) is None


def test_nothing_is_changed_where_no_fold_needs_it() -> None:
    """A model that folds whole with its sequences keeps them."""
    model = build(f"{HEAD} b = BN(h, 6); {SPLITS['sizes'].replace('(h,', '(b,')}")
    result = fold(model.proto)
    assert "SplitToSequence" in kinds(result.model)
    assert "BatchNormalization" not in kinds(result.model)


def test_a_fold_through_a_sequence() -> None:
    """The fold reaches the convolution; the report counts the nodes of the file that was given."""
    model = build(f"{HEAD} {SPLITS['sizes']}; y = BN(p, 3); z = BN(q, 1)")
    result = fold(model.proto)
    assert kinds(result.model) == ["Conv", "Split"]
    assert result.nodes_before == len(model.proto.graph.node)
    assert [site.verdict for site in result.sites] == ["folded", "folded"]
    assert not differences(model, result.model)


def in_other_words(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every Split of given sizes is a SplitToSequence."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    for node in nodes:
        if node.op_type != "Split" or len(node.input) < 2:
            copy.graph.node.append(node)
            continue
        name = f"{node.output[0]}/sequence"
        made = helper.make_node("SplitToSequence", node.input, [name])
        made.attribute.extend(a for a in node.attribute if a.name == "axis")
        copy.graph.node.append(made)
        for place, part in enumerate(node.output):
            index = numpy_helper.from_array(np.array(place), f"{part}/place")
            copy.graph.initializer.append(index)
            copy.graph.node.append(helper.make_node("SequenceAt", [name, index.name], [part]))
    return copy


def test_random_graphs_fold_alike() -> None:
    """Graphs with sequences fold exactly, and keep no more normalizations than with Splits."""
    seen = 0
    for seed in range(150):
        grown = grow(Seeded(seed), Dyadic(seed), size=4 + seed % 13)
        if "Split" not in kinds(grown.proto):
            continue
        worded = in_other_words(grown.proto)
        if worded == grown.proto:
            continue
        seen += 1
        result = fold(worded).model
        assert not differences(Model(worded, grown.feeds), result), seed
        left = kinds(fold(grown.proto).model).count("BatchNormalization")
        assert kinds(result).count("BatchNormalization") <= left, seed
    assert seen > 10
