"""The a-priori bound: small for honest affines, large where digits cancel, and never exceeded."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from bnfold import fold
from bnfold.affine import Affine
from bnfold.bounds import BELIEVED, CANCELS, LOST, UNITS, lost
from bnfold.judge import Judge
from bnfold.report import FoldSite

TEXTS = {
    "backward": "c = Conv(x, w, b) y = BatchNormalization(c, gamma, beta, mean, var)",
    "forward": "c = BatchNormalization(x, gamma, beta, mean, var) y = Conv(c, w, b)",
}


def network(text: str, *, mean: float = 0.1, var: float = 1.0) -> onnx.ModelProto:
    """One Conv and one normalization, of which one channel has this mean and variance."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]>\n'
        f"g (float[N,4,H,W] x) => (float[N,4,P,Q] y) {{ {text} }}"
    )
    rng = np.random.default_rng(5)
    arrays: dict[str, Any] = {
        "w": rng.standard_normal((4, 4, 1, 1)),
        "b": rng.standard_normal(4),
        "gamma": 1 + 0.1 * rng.standard_normal(4),
        "beta": 0.1 * rng.standard_normal(4),
        "mean": 0.1 * rng.standard_normal(4),
        "var": 1 + 0.1 * rng.random(4),
    }
    arrays["mean"][0], arrays["var"][0] = mean, var
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return model


def only_site(model: onnx.ModelProto) -> FoldSite:
    (site,) = fold(model).sites
    assert site.verdict == "folded"
    return site


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_an_ordinary_affine_is_well_conditioned(text: str) -> None:
    """A few units of rounding, no flag, and the numbers of the affine beside it."""
    site = only_site(network(text))
    assert site.bound is not None
    assert 0 < site.bound < 10 * UNITS["float32"]
    assert not site.flagged
    assert site.scale_range is not None
    assert 0.5 < site.scale_range[0] < site.scale_range[1] < 1.5
    assert site.shift_range is not None


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_variance_near_zero_is_flagged(text: str) -> None:
    """A channel that hardly varies around a large mean cancels in its shift."""
    site = only_site(network(text, mean=30.0, var=1e-12))
    assert site.bound is not None
    assert site.bound > CANCELS * UNITS["float32"]
    assert site.flagged


def test_a_scale_of_a_million_is_flagged() -> None:
    """Also where the bound is small: whatever enters, its deviations grow by that."""
    model = network("c = Conv(x, w, b) y = Mul(c, beta)")
    beta = next(t for t in model.graph.initializer if t.name == "beta")
    beta.CopyFrom(numpy_helper.from_array(np.array(1e6, np.float32), "beta"))
    site = only_site(model)
    assert site.bound == UNITS["float32"]
    assert site.flagged


def test_a_plain_shift_tells_no_magnitude() -> None:
    """The data behind a constant Add is not known ahead, and no number is invented."""
    model = network("c = Conv(x, w, b) d = Reshape(c, s) y = Add(d, k)")
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 4, -1, 1]), "s"))
    k = np.arange(1, 5, dtype=np.float32).reshape(1, 4, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(k, "k"))
    model.graph.output[0].type.tensor_type.shape.dim[3].dim_value = 1
    site = only_site(model)
    assert site.bound is None
    assert not site.flagged


def test_kept_sites_have_no_numbers() -> None:
    """What was not folded rounds nothing."""
    result = fold(network(TEXTS["backward"]), keep=["y"])
    assert (result.sites[0].bound, result.sites[0].scale_range) == (None, None)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize(("mean", "var"), [(0.1, 1.0), (30.0, 1e-2), (1000.0, 1e-4)])
def test_the_bound_is_kept(text: str, mean: float, var: float) -> None:
    """What the rounded weights change, evaluated in float64, stays below bound times condition."""
    model = network(text, mean=mean, var=var)
    folded = fold(model)
    (site,) = folded.sites
    assert site.bound is not None
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 4, 5, 5)).astype(np.float32)
    before, after = (Judge(m).run({"x": x})["y"] for m in (model, folded.model))
    change = np.abs(after - before).max() / np.abs(before).max()
    condition = 40.0  # of a sum of four products and a bias, on data of this size
    assert change <= condition * site.bound


BLOCK = """c = Conv<pads=[1,1,1,1]>(x, w3, b) y1 = BatchNormalization(c, gamma, beta, mean, var)
    d = Conv(x, w) y2 = BatchNormalization(d, gamma2, beta, mean2, var2)
    y3 = BatchNormalization(x, gamma, beta, mean3, var3)
    s = Add(y1, y2) y = Add(s, y3)"""


def block(*, mean: float = 0.1, var: float = 1.0) -> onnx.ModelProto:
    """Three branches as RepVGG has them, with this channel in the first one."""
    model = network(BLOCK, mean=mean, var=var)
    rng = np.random.default_rng(6)
    arrays = {"w3": rng.standard_normal((4, 4, 3, 3)), "gamma2": 1 + 0.1 * rng.random(4)}
    arrays |= {name: 0.1 * rng.standard_normal(4) for name in ("mean2", "mean3")}
    arrays |= {name: 1 + 0.1 * rng.random(4) for name in ("var2", "var3")}
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return model


def test_merged_branches_have_a_bound() -> None:
    """The block has that of its worst branch, and each normalization in it its own numbers."""
    result = fold(block())
    (merged,) = result.merged
    bounds = [site.bound for site in result.sites if site.op_type == "BatchNormalization"]
    assert len(bounds) == 3
    assert merged.bound == max(b for b in bounds if b is not None)
    assert 0 < merged.bound < 10 * UNITS["float32"]
    assert not merged.flagged
    assert all(site.scale_range is not None for site in result.sites)


def test_an_ill_conditioned_branch_is_flagged() -> None:
    """The block and the normalization that is at fault, and no other."""
    result = fold(block(mean=30.0, var=1e-12))
    assert result.merged[0].flagged
    assert [s.tensor for s in result.sites if s.flagged] == ["y1"]


def test_a_branch_of_unknown_magnitude_gives_no_bound() -> None:
    """A constant that is added says nothing of what it is added to."""
    text = "c = Conv(x, w) d = Add(c, k) e = Mul(d, k) f = Conv(x, w2) y = Add(e, f)"
    model = network(text)
    rng = np.random.default_rng(7)
    for name, shape in (("w2", (4, 4, 1, 1)), ("k", (1, 4, 1, 1))):
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    (merged,) = fold(model).merged
    assert merged.bound is None


@pytest.mark.parametrize(("mean", "var"), [(0.1, 1.0), (30.0, 1e-2), (1000.0, 1e-4)])
def test_the_bound_of_a_merge_is_kept(mean: float, var: float) -> None:
    """What the rounded weights change stays below bound times the condition of the sums."""
    model = block(mean=mean, var=var)
    folded = fold(model)
    x = np.random.default_rng(1).standard_normal((2, 4, 5, 5)).astype(np.float32)
    before, after = (Judge(m).run({"x": x})["y"] for m in (model, folded.model))
    change = np.abs(after - before).max() / np.abs(before).max()
    condition = 40.0  # of three sums of at most 36 products and a bias, on data of this size
    assert folded.merged[0].bound is not None
    assert change <= condition * folded.merged[0].bound


SHARED = {
    "read by another": (
        "c = Conv(x, w, b) y = BatchNormalization(c, gamma, beta, mean, var) z = Conv(c, w2)",
        "beta",
    ),
    "held against another": (
        """c = Conv(x, w, b) n = BatchNormalization(c, gamma, beta, mean, var)
        d = Conv(x, w2) m = Max(n, d) y = Conv(m, w3) e = Sigmoid(c) z = Conv(e, w3)""",
        "mean",
    ),
}
"""Graphs in which a fold stores an affine of a value that somebody needs without it, and the
parameter that makes its shift larger than the value."""

each_shared = pytest.mark.parametrize(("text", "parameter"), SHARED.values(), ids=SHARED)


def shared(text: str, **first: float) -> onnx.ModelProto:
    """One of SHARED, plain but for these parameters of the first channel."""
    model = network(text)
    model.graph.output.add().CopyFrom(model.graph.output[0])
    model.graph.output[1].name = "z"
    rng = np.random.default_rng(8)
    arrays: dict[str, Any] = {name: np.zeros(4) for name in ("beta", "mean")}
    arrays |= {name: np.ones(4) for name in ("gamma", "var")}
    for name, value in first.items():
        arrays[name][0] = value
    arrays |= {name: rng.standard_normal((4, 4, 1, 1)) for name in ("w2", "w3")}
    del model.graph.initializer[2:]
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return model


@each_shared
def test_a_shift_leaves_digits_for_others(text: str, parameter: str) -> None:
    """Just below LOST times the value the fold is made, its bound says so, and it is kept."""
    model = shared(text, **{parameter: 0.99 * LOST})
    folded = fold(model)
    (site,) = folded.sites
    assert (site.verdict, site.flagged) == ("folded", False)
    assert site.bound is not None
    assert site.bound >= 0.99 * LOST * UNITS["float32"]
    x = np.random.default_rng(1).standard_normal((2, 4, 5, 5)).astype(np.float32)
    for name in ("y", "z"):
        before, after = (Judge(m).run({"x": x})[name] for m in (model, folded.model))
        assert np.abs(after - before).max() <= 40.0 * site.bound * np.abs(before).max()


@each_shared
def test_a_shift_that_leaves_no_digits_is_refused(text: str, parameter: str) -> None:
    """Just above it the node stays, for a reason that says so."""
    (site,) = fold(shared(text, **{parameter: 1.01 * LOST})).sites
    assert (site.verdict, site.code) == ("kept", "BNF309")
    assert "would lose most digits" in str(site.detail)


def test_an_absurd_variance_excuses_no_shift() -> None:
    """A variance of which only an absurd value could come is no measure of values."""
    text, _ = SHARED["read by another"]
    assert fold(shared(text, beta=0.1, var=100.0)).sites[0].verdict == "folded"
    (site,) = fold(shared(text, beta=0.1, var=1e30)).sites
    assert (site.verdict, site.code) == ("kept", "BNF309")


def test_what_is_lost() -> None:
    """A scale loses nothing, a shift its share of the value, what has no inverse all."""
    scale, shift = np.array([[2.0, 4.0]]), np.array([[6.0, -8.0]])
    assert lost(Affine.of_scale(scale), None) == 0
    assert lost(Affine(scale, shift), None) == 3
    assert lost(Affine(scale, shift), np.array([0.5, 2 * BELIEVED])) == 6
    assert lost(Affine(scale, shift), np.array([0.0, 2 * BELIEVED])) == np.inf
    assert lost(Affine(0 * scale, shift), None) == np.inf
