"""What each part of a fold is worth: the fold without it, for the bench to time."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest
from onnx import parser

from bnfold import attribution, fold, optimize
from bnfold.attribution import Recipe, variants
from bnfold.report import FoldResult
from bnfold.testing import assert_equivalent

MODEL = """<ir_version: 8, opset_import: ["": 17]>
g (float[1,2,4,4] x, float[2,2,1,1] w) => (float[1,2,4,4] y)
<float[2,2,1,1] w = {1,2,3,4}, float[2,2,1,1] v = {1,-1,2,1}, float[2,2,1,1] u = {2,1,-1,3},
 float[2] s = {1,-2}> {
    c = Conv(x, w)
    r = Relu(c)
    p = Transpose<perm = [0, 2, 3, 1]>(r)
    b = Mul(p, s)
    q = Transpose<perm = [0, 3, 1, 2]>(b)
    d = Conv(q, v)
    e = Conv(q, u)
    y = Add(d, e)
}"""
PARTS = ("folding", "merged branches", "frozen inputs", "removed movement")


def model() -> onnx.ModelProto:
    """A model in which every part has something to do."""
    return parser.parse_model(MODEL)


def kinds(proto: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in proto.graph.node)


@pytest.fixture(scope="module")
def folded() -> FoldResult:
    return fold(model())


def test_every_part_takes_part(folded: FoldResult) -> None:
    """The model of these tests leaves no part out."""
    assert tuple(attribution.took_part(folded)) == PARTS
    assert kinds(folded.model) == {"Conv": 2, "Relu": 1}


def test_each_part_is_left_out_alone(folded: FoldResult) -> None:
    """A variant lacks one part, what leans on it, and nothing else; it computes the same."""
    made, note = variants(Recipe(model()), folded)
    assert note == ""
    assert tuple(made) == PARTS
    inputs = {part: [port.name for port in proto.graph.input] for part, proto in made.items()}
    assert kinds(made["folding"]) == {
        "Conv": 2, "Relu": 1, "Transpose": 2, "Mul": 1
    }  # fmt: skip
    assert kinds(made["merged branches"]) == {"Conv": 3, "Relu": 1, "Add": 1}
    assert kinds(made["removed movement"]) == {"Conv": 2, "Relu": 1, "Transpose": 2}
    assert inputs["frozen inputs"] == ["x", "w"]
    assert inputs["folding"] == inputs["merged branches"] == ["x"]
    for variant in made.values():
        assert_equivalent(model(), variant)


def test_the_whole_fold_is_as_before(folded: FoldResult) -> None:
    """Making variants changes neither the model nor the fold of it."""
    original = model()
    variants(Recipe(original), folded)
    assert original == model()
    assert Recipe(original).fold().model == folded.model


def test_what_took_no_part_is_not_timed() -> None:
    """A fold of one node has one part; branches that take in their own affines are no fold."""
    plain = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float[2,2,1,1] w = {1,2,3,4}, float[2] s = {1,2}> {
            c = Conv(x, w)
            y = BatchNormalization(c, s, s, s, s)
        }"""
    )
    made, _ = variants(Recipe(plain), fold(plain))
    assert set(made) == {"folding"}
    branches = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float[2,2,1,1] w = {1,2,3,4}, float[2] s = {1,2}> {
            c = Conv(x, w)
            b = BatchNormalization(c, s, s, s, s)
            i = BatchNormalization(x, s, s, s, s)
            y = Add(b, i)
        }"""
    )
    made, _ = variants(Recipe(branches), fold(branches))
    assert set(made) == {"merged branches"}


def test_asked_for_parts_stay_off(folded: FoldResult) -> None:
    """What the user switched off is off in every variant."""
    recipe = Recipe(model(), reparameterize=False)
    made, _ = variants(recipe, recipe.fold())
    assert set(made) == {"folding", "frozen inputs", "removed movement"}
    assert all(kinds(proto)["Add"] == 1 for proto in made.values())
    kept = Recipe(model(), keep=("b",))
    assert "folding" not in variants(kept, kept.fold())[0]


def test_large_models_are_spared(folded: FoldResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more sessions would fill the memory there are none, and a note says so."""
    monkeypatch.setattr(attribution, "MOST_BYTES", 100)
    made, note = variants(Recipe(model()), folded)
    assert made == {}
    assert "too large" in note


@pytest.mark.isolated
def test_optimize_times_each_part() -> None:
    """With `attribute` the report has all parts, in the rounds of the first measurement."""
    result = optimize(model(), attribute=True, samples=2, budget_s=1.5)
    assert result.speed is not None
    assert {variant.name for variant in result.speed.variants} == set(PARTS)
    assert len(result.speed.variants[0].times_ms) == result.speed.primary.rounds
    assert result.speed.original_footprint is not None
    plain = optimize(model(), samples=2, budget_s=0.5)
    assert plain.speed is not None
    assert plain.speed.variants == ()
