"""Models that draw random numbers: proven given the same draws, or not at all."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from bnfold import draws, equivalence, fold
from bnfold.errors import InputError
from bnfold.feeds import Sample
from bnfold.runtime import open_session
from bnfold.stored import StoredModel

verify = partial(equivalence.verify, isolate=False)

DROPPED = "q = Constant<value_float=0.25>() t = Constant<value={training}>() "
BODIES = {
    "RandomNormalLike": "r = RandomNormalLike(n) y = Add(n, r)",
    "RandomUniformLike": "r = RandomUniformLike<seed=3.0>(n) y = Mul(n, r)",
    "RandomNormal": "r = RandomNormal<shape=[1,4,4,4], mean=2.0>() y = Mul(n, r)",
    "RandomUniform": "r = RandomUniform<shape=[4,1,1], high=3.0>() y = Add(n, r)",
    "Bernoulli": "p = Sigmoid(n) r = Bernoulli(p) y = Mul(n, r)",
    "Multinomial": "f = Flatten(n) r = Multinomial<sample_size=5>(f) "
    "i = Cast<to=1>(r) u = ReduceMean<keepdims=0>(i) y = Mul(n, u)",
    "Dropout": DROPPED.format(training="bool {1}") + "y = Dropout(n, q, t)",
    "Dropout with its mask": DROPPED.format(training="bool {1}")
    + "d, k = Dropout(n, q, t) z = Cast<to=1>(k) y = Add(d, z)",
}


def network(body: str, fault: float = 1.0) -> onnx.ModelProto:
    """A convolution (one weight of it times `fault`), a normalization, and `body` to make y."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[2,3,6,6] x) => (float[2,4,4,4] y) {'
        f"c = Conv(x, w) n = BatchNormalization(c, s, b, m, v) {body} }}"
    )
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((4, 3, 3, 3))}
    weights |= {name: rng.uniform(0.5, 2.0, 4) for name in "sbmv"}
    weights["w"][1] *= fault
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    return model


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_fold_is_proven_for_the_same_draws(body: str) -> None:
    """The float64 judge proves a model that draws; its errors are those of rounding."""
    model = network(body)
    folded = fold(model)
    report = verify(model, folded.model, samples=3)
    assert folded.folded
    assert report
    assert report.judge == "float64"
    assert all(output.limit is not None and output.limit < 1e-4 for output in report.outputs)
    assert any("drawn once" in note for note in report.notes)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_model_given_its_draws_computes_what_it_drew(body: str) -> None:
    """The model with its draws as inputs gives, to a rounding, what it gave when it drew them."""
    model = StoredModel(network(body))
    sample = Sample("ones", {"x": np.ones((2, 3, 6, 6), np.float32)})
    fixed = draws.fix(model, model, [sample], open_session, seed=5)
    assert fixed is not None
    drew = draws.seeded(model.proto, draws.draws(model), seed=5)
    expected = open_session(drew, level="disable").run(sample.feeds)["y"]
    for rewritten in (fixed.original, fixed.candidate):
        found = open_session(rewritten, level="disable").run(fixed.samples[0].feeds)["y"]
        np.testing.assert_allclose(found, expected, 2e-7)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_one_per_cent_is_seen_through_the_draws(body: str) -> None:
    """One weight in a hundred off by one per cent does not hide behind what is drawn."""
    report = verify(network(body), network(body, fault=1.01), samples=2)
    assert not report
    assert report.culprit == "c"


def test_what_a_draw_depends_on_is_compared() -> None:
    """A fault that reaches the output through the probabilities of a Bernoulli alone is seen."""
    body = "p = Sigmoid(n) r = Bernoulli(p) y = Neg(r)"
    report = verify(network(body), network(body, fault=1.01), samples=2)
    assert verify(network(body), network(body), samples=2)
    assert {o.tensor for o in report.outputs if not o.passed} == {"p"}


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("RandomNormalLike(n)", "RandomNormalLike<mean=5.0>(n)"),
        ("RandomNormalLike(n)", "RandomUniformLike(n)"),
        ("RandomNormalLike(n)", "Identity(n)"),
        ("Dropout(n, half, yes)", "Dropout(n, most, yes)"),
        ("Dropout(n, half, yes)", "Dropout(n, half)"),
        ("Bernoulli(p)", "Bernoulli(p2)"),
    ],
)
def test_other_draws_are_another_model(kind: str, other: str) -> None:
    """Nodes of one name that draw otherwise get no common draws, and do not pass."""
    before = (
        "half = Constant<value_float=0.5>() most = Constant<value_float=0.9>() "
        "yes = Constant<value = bool {1}>() p = Sigmoid(n) p2 = Mul(p, half) "
    )
    models = (network(f"{before} r = {text} y = Add(n, r)") for text in (kind, other))
    assert not verify(*models, samples=2)


def test_the_same_seed_draws_the_same() -> None:
    """A proof can be repeated: draws follow the seed, and differ between samples."""
    model = network(BODIES["RandomNormalLike"])
    data = [{"x": np.ones((2, 3, 6, 6), np.float32)}] * 2
    one, two, third = (verify(model, model, data=data, seed=seed) for seed in (1, 1, 2))
    assert one.digests == two.digests
    assert len({*one.digests, *third.digests}) == 4


def test_what_draws_inside_of_a_subgraph_is_refused() -> None:
    """Where draws cannot be given, the answer is an error and not a verdict."""
    branch = "{z} () => (float[2,4,4,4] {z}) {{ {z} = {op}(n) }}"
    then, other = branch.format(z="z1", op="RandomNormalLike"), branch.format(z="z2", op="Neg")
    text = "yes = Constant<value = bool {1}>() "
    model = network(f"{text} r = If(yes)<then_branch={then}, else_branch={other}> y = Add(n, r)")
    with pytest.raises(InputError, match="another one at each run"):
        verify(model, model)


def test_a_model_whose_draws_are_off_is_judged_as_it_is() -> None:
    """A Dropout that does not train draws nothing: no further input, no note."""
    model = network(DROPPED.format(training="bool {0}") + "y = Dropout(n, q, t)")
    report = verify(model, model, samples=2)
    assert report
    assert report.judge == "float64"
    assert not report.notes
