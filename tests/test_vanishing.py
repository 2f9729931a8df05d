"""What may become zero in a fold: what carries nothing, and no channel that lives of it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from bnfold import fold
from bnfold.constants import FLOATS
from bnfold.reasons import Reason

TINY = {"float": 1e-20, "double": 1e-160, "bfloat16": 1e-20, "float16": 1e-4}
"""A weight whose product with a number like it is below what the type holds."""
TYPES = {"float": np.float32, "double": np.float64, "float16": np.float16}
TYPES["bfloat16"] = ml_dtypes.bfloat16

WAYS = {
    "backward": "c = Conv(x, w) y = Mul(c, s)",
    "forward": "c = Mul(x, s) y = Conv(c, w)",
    "product": """t = Transpose<perm=[0,2,3,1]>(x) m = MatMul(t, wm)
        u = Transpose<perm=[0,3,1,2]>(m) y = Mul(u, s)""",
}


def network(body: str, name: str, **parameters: Any) -> onnx.ModelProto:
    """A network of this type with these parameters and those that it names."""
    model = parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 19]>
        g ({name}[2,4,8,8] x) => ({name}[2,4,N,M] y) {{ {body} }}"""
    )
    rng = np.random.default_rng(3)
    weight = rng.choice([-1.0, 1.0], (4, 4, 1, 1)) * rng.uniform(0.5, 2, (4, 4, 1, 1))
    known = {"w": weight, "wm": weight[:, :, 0, 0]} | parameters
    known |= {k: np.ones(4) for k in ("beta", "mean", "var", "gamma") if k not in known}
    read = {n for node in model.graph.node for n in node.input}
    for key in sorted(read & set(known)):
        array = np.asarray(known[key]).astype(TYPES[name])
        model.graph.initializer.append(numpy_helper.from_array(array, key))
    return model


def reasons(model: onnx.ModelProto) -> list[str | None]:
    """Why affines stay."""
    return [site.reason for site in fold(model).kept]


def shrunk(channels: list[int], by: float, axis: int = 1) -> Any:
    """A scale that is so small in some channels."""
    scale = np.ones(4)
    scale[channels] = by
    return scale.reshape([4 if a == axis else 1 for a in range(4)])


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("body", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("channels", [[0, 1, 2, 3], [2]], ids=["all", "one"])
def test_a_channel_that_would_vanish_stays(name: str, body: str, channels: list[int]) -> None:
    """In any type, in all channels or in one alone, whichever way the scale would go."""
    tiny = TINY[name]
    weight = (0.5 + np.arange(16).reshape(4, 4, 1, 1)) / 16
    is_input = "Mul(x, s)" in body
    weight[(slice(None), channels) if is_input else channels] *= tiny
    flat = np.array(weight[:, :, 0, 0].T)
    scale = shrunk(channels, tiny)
    assert reasons(network(body, name, w=weight, wm=flat, s=scale)) == ["underflow"]


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("body", WAYS.values(), ids=WAYS)
def test_what_stays_normal_folds(name: str, body: str) -> None:
    """One of the two alone is small, and the products are held."""
    assert reasons(network(body, name, s=shrunk([2], TINY[name]))) == []


@pytest.mark.parametrize("name", ["float", "double", "bfloat16"])
@pytest.mark.parametrize(("beta", "gamma"), [(1.0, 0.05), (0.0, 0.05)])
def test_a_channel_that_carries_nothing_becomes_zero(name: str, beta: float, gamma: float) -> None:
    """By its statistics its normalization makes nothing of it, beside beta or at all."""
    smallest = np.ldexp(1.0, -1022 if name == "double" else -126)
    gammas = np.array([1, gamma * smallest, 1, 1])
    betas = np.array([0, beta, 0, 0])
    means = np.zeros(4)
    body = "c = Conv(x, w) y = BatchNormalization(c, gamma, beta, mean, var)"
    result = fold(network(body, name, gamma=gammas, beta=betas, mean=means))
    assert [s.verdict for s in result.sites] == ["folded"]
    assert result.flushed == 4


def test_a_small_gamma_of_a_large_input_is_no_small_channel() -> None:
    """Statistics that make a normal number of it stop the fold; without a beta beside it."""
    body = "c = Conv(x, w) y = BatchNormalization(c, gamma, beta, mean, var)"
    spread = {"gamma": np.full(4, 1e-22), "var": np.full(4, 1e36), "mean": np.zeros(4)}
    assert reasons(network(body, "float", beta=np.zeros(4), **spread)) == ["underflow"]
    assert reasons(network(body, "float", beta=np.ones(4), **spread)) == []


@pytest.mark.parametrize("name", ["float", "double", "bfloat16"])
def test_what_is_subnormal_in_the_file_becomes_zero(name: str) -> None:
    """Filters that training has decayed to nothing stop no fold."""
    weight = np.ones((4, 4, 1, 1))
    weight[1] = np.ldexp(1.0, -1030 if name == "double" else -130)
    result = fold(network(WAYS["backward"], name, w=weight, s=shrunk([1], 0.5)))
    assert [s.verdict for s in result.sites] == ["folded"]


def test_a_few_small_numbers_of_a_channel_may_vanish() -> None:
    """Beside the rest of their channel they are below the stated share."""
    weight = np.ones((4, 4, 1, 1))
    weight[:, 1] = 1e-20
    assert reasons(network(WAYS["backward"], "float", w=weight, s=shrunk([], 1) * 1e-25)) == [
        Reason.UNDERFLOW.slug
    ]
    weight[1:3] = 1.0
    weight[2, 1] = 1e-20
    mixed = network("c = Conv(x, w) y = Mul(c, s)", "float", w=weight[:, [0, 2, 3, 0]], s=1e-25)
    assert reasons(mixed) == []


def test_merged_branches_lose_no_channel() -> None:
    """Branches that would vanish in the merged kernel are not merged."""
    body = """c = Conv(x, w) d = Mul(c, s) e = Conv(x, w) f = Mul(e, s) y = Add(d, f)"""
    tiny = np.full((4, 4, 1, 1), 1e-20)
    result = fold(network(body, "float", w=tiny, s=np.full((1, 4, 1, 1), 1e-25)))
    assert not result.merged
    assert {site.reason for site in result.kept} == {"underflow"}


def test_all_types_are_covered() -> None:
    """These are the types that weights are folded in."""
    assert {np.dtype(t) for t in TYPES.values()} == set(FLOATS.values())
    assert helper.np_dtype_to_tensor_dtype(np.dtype(np.float32)) in FLOATS
