"""The arithmetic of merging against convolutions written as loops, in float64."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bnfold.branches import kernels
from bnfold.branches.linear import Geometry, Linear, added, joined
from bnfold.branches.windows import POINT, Window, window
from bnfold.reasons import Refusal

REGIMES = {"different": (4, 6), "equal": (4, 4)}
"""Channels in and out; all can be cut in two groups."""


def conv(channels: int, outputs: int, group: int, windows: tuple[Window, ...]) -> Linear:
    """A random convolution, the same for the same geometry."""
    geometry = Geometry(channels, outputs, group, windows)
    rng = np.random.default_rng(zlib.crc32(repr(geometry).encode()))
    weight, bias = rng.standard_normal(geometry.shape), rng.standard_normal(outputs)
    return Linear(geometry, lambda: weight, bias)


MARGIN = 12
"""Zeros around the input, more than any window here reads."""


def applied(linear: Linear, x: np.ndarray) -> np.ndarray:
    """The convolution by its definition, tap by tap; x is `(C_in, *sizes)`."""
    g, weight = linear.geometry, linear.evaluate()
    assert weight.shape == g.shape
    wide = np.pad(x, [(0, 0), *[(MARGIN, MARGIN)] * len(g.windows)])
    sizes = [w.outputs(n) for w, n in zip(g.windows, x.shape[1:], strict=True)]
    y = np.broadcast_to(linear.bias.reshape(-1, *[1] * len(sizes)), (g.outputs, *sizes)).copy()
    for tap in np.ndindex(*g.shape[2:]):
        starts = [MARGIN + w.first + j * w.step for j, w in zip(tap, g.windows, strict=True)]
        seen = wide[
            (
                slice(None),
                *(
                    slice(start, start + (n - 1) * w.stride + 1, w.stride)
                    for start, n, w in zip(starts, sizes, g.windows, strict=True)
                ),
            )
        ]
        for out in range(g.outputs):
            fan_in = g.channels // g.group
            first = out // (g.outputs // g.group) * fan_in
            for c in range(fan_in):
                y[out] += weight[(out, c, *tap)] * seen[first + c]
    return y


def close(actual: np.ndarray, expected: np.ndarray) -> bool:
    """Equal but for the rounding of float64."""
    return actual.shape == expected.shape and bool(
        np.allclose(actual, expected, rtol=1e-12, atol=1e-12)
    )


def square(kernel: int, pad: int, stride: int = 1, dilation: int = 1) -> Window:
    """One axis of a plain convolution."""
    return window(kernel, dilation, stride, (pad, pad), "NOTSET", None)


THREE, FIVE, ONE = square(3, 1), square(5, 2), square(1, 0)
SUMS: dict[str, list[tuple[Window, ...]]] = {
    "copies": [(THREE, THREE)] * 3,
    "point in the centre": [(THREE, THREE), (POINT, POINT)],
    "asymmetric": [(THREE, THREE), (THREE, ONE), (ONE, THREE)],
    "asymmetric alone": [(THREE, ONE), (ONE, THREE)],
    "even with odd": [(window(2, 1, 1, (1, 0), "NOTSET", None), ONE), (THREE, THREE)],
    "even, the other side": [(window(2, 1, 1, (0, 1), "NOTSET", None), ONE), (THREE, THREE)],
    "strided": [(square(3, 1, 2), square(3, 1, 2)), (square(1, 0, 2), square(1, 0, 2))],
    "dilated": [(square(3, 2, 1, 2), square(3, 3, 1, 3)), (POINT, POINT)],
    "two dilations": [(square(3, 2, 1, 2), THREE), (THREE, THREE), (FIVE, ONE)],
    "no padding": [(square(3, 0), square(3, 0)), (square(3, 0), Window(-0, 1, 1, -2))],
    "one axis": [(FIVE,), (THREE,), (POINT,)],
    "three axes": [(THREE, ONE, THREE), (POINT, POINT, POINT)],
}


def sum_of(
    windows: list[tuple[Window, ...]], groups: list[int], sizes: tuple[int, int]
) -> list[Linear]:
    """A branch for each geometry, with the groups in turn."""
    pairs = zip(windows, itertools.cycle(groups), strict=False)
    return [conv(*sizes, group, w) for w, group in pairs]


def whole_of(parts: list[Linear], sizes: tuple[int, ...]) -> Geometry:
    """The geometry that holds all of them."""
    geometry = parts[0].geometry
    for part in parts[1:]:
        geometry = geometry.united(part.geometry, sizes)
    return geometry


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("groups", [[1], [2], [1, 2], [2, 1]], ids=str)
@pytest.mark.parametrize("name", SUMS)
def test_a_sum_of_convolutions_is_one(name: str, groups: list[int], regime: str) -> None:
    """Whatever their kernels and groups are, and one percent off in any of them shows."""
    parts = sum_of(SUMS[name], groups, REGIMES[regime])
    rank = len(SUMS[name][0])
    x = np.random.default_rng(1).standard_normal((REGIMES[regime][0], 6, 7, 5)[: rank + 1])
    whole = added(parts, whole_of(parts, x.shape[1:]))
    expected = np.sum([applied(part, x) for part in parts], axis=0)
    assert close(applied(whole, x), expected)
    for spoiled in range(len(parts)):
        wrong = [
            p.then(np.array([1.01]), np.zeros(1)) if i == spoiled else p
            for i, p in enumerate(parts)
        ]
        assert not close(applied(added(wrong, whole.geometry), x), expected)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_the_input_itself_is_a_diagonal(group: int) -> None:
    """A skip, or an affine of the input, is a part of any convolution that keeps the size."""
    x = np.random.default_rng(2).standard_normal((4, 5, 6))
    scale, shift = np.array([2.0, -1.0, 0.0, 0.5]), np.arange(4.0)
    branch, skip = conv(4, 4, group, (THREE, THREE)), Linear.identity(4, 2).then(scale, shift)
    parts = [branch, skip, Linear.identity(4, 2)]
    whole = added(parts, whole_of(parts, (5, 6)))
    assert whole.geometry.group == group
    expected = applied(branch, x) + scale[:, None, None] * x + shift[:, None, None] + x
    assert close(applied(whole, x), expected)


def test_an_average_is_a_constant_kernel() -> None:
    """Depthwise, and as a part of a dense convolution."""
    x = np.random.default_rng(3).standard_normal((4, 6, 6))
    windows = (square(2, 0, 2), square(3, 0, 3))
    geometry = Geometry(4, 4, 4, windows)
    pool = Linear(geometry, lambda: kernels.averaging(4, (2, 3)), np.zeros(4))
    expected = x.reshape(4, 3, 2, 2, 3).mean((2, 4))
    assert close(applied(pool, x), expected)
    dense = conv(4, 4, 1, windows)
    whole = added([dense, pool], dense.geometry.united(pool.geometry, (6, 6)))
    assert close(applied(whole, x), applied(dense, x) + expected)


CHAINS: dict[str, tuple[tuple[Window, ...], tuple[Window, ...]]] = {
    "1x1 then 3x3": ((ONE, ONE), (square(3, 0), square(3, 0))),
    "3x3 then 1x1": ((THREE, THREE), (ONE, ONE)),
    "3x3 then 3x3": ((THREE, square(3, 0)), (square(3, 0), square(2, 0))),
    "strides": ((square(3, 1, 2), square(2, 0, 2)), (square(2, 0, 1), square(3, 0, 2))),
    "dilations": ((square(3, 2, 1, 2), ONE), (square(2, 0, 1, 2), square(2, 0, 1, 3))),
}


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("groups", [(1, 1), (2, 2), (1, 2), (2, 1)], ids=str)
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_convolutions_is_one(name: str, groups: tuple[int, int], regime: str) -> None:
    """Where the outer one reads no padding, biases and all."""
    channels, outputs = REGIMES[regime]
    first, second = CHAINS[name]
    inner = conv(channels, outputs, groups[0], first)
    outer = conv(outputs, 8, groups[1], second)
    x = np.random.default_rng(4).standard_normal((channels, 9, 11))
    expected = applied(outer, applied(inner, x))
    assert close(applied(outer.after(inner), x), expected)
    for wrong in (inner.then(np.array([1.01]), np.zeros(1)), inner.plus(np.array([0.01]))):
        assert not close(applied(outer.after(wrong), x), expected)


def test_padding_passes_a_point_without_a_bias() -> None:
    """Zeros around the inner result are its values only where it has no bias."""
    inner = conv(4, 6, 1, (ONE, ONE))
    outer = conv(6, 4, 2, (THREE, THREE))
    with pytest.raises(Refusal):
        outer.after(inner)
    bare = replace(inner, bias=np.zeros(6))
    x = np.random.default_rng(5).standard_normal((4, 5, 6))
    assert close(applied(outer.after(bare), x), applied(outer, applied(bare, x)))
    with pytest.raises(Refusal):
        outer.after(replace(conv(4, 6, 1, (THREE, ONE)), bias=np.zeros(6)))


def test_side_by_side_is_more_channels() -> None:
    """A Concat of convolutions, of which one has groups and a smaller kernel."""
    parts = [
        conv(4, 6, 1, (THREE, THREE)),
        conv(4, 2, 2, (ONE, THREE)),
        conv(4, 4, 1, (THREE, ONE)),
    ]
    x = np.random.default_rng(6).standard_normal((4, 5, 6))
    whole = joined(parts, Geometry(4, 6, 1, (THREE, THREE)))
    assert close(applied(whole, x), np.concatenate([applied(part, x) for part in parts]))


def test_a_product_is_a_convolution_without_axes() -> None:
    """Matrices add up and multiply as kernels do."""
    first, second, third = conv(4, 6, 1, ()), conv(4, 6, 1, ()), conv(6, 3, 1, ())
    x = np.random.default_rng(7).standard_normal(4)
    whole = third.after(added([first, second], first.geometry))
    expected = third.evaluate() @ (applied(first, x) + applied(second, x)) + third.bias
    assert close(applied(whole, x), expected)


FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one percent": lambda w: w * 1.01,
    "another channel": lambda w: np.roll(w, 1, 0),
    "another tap": lambda w: np.roll(w, 1, -1),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("function", ["regrouped", "embedded", "scaled", "composed"])
def test_these_tests_have_teeth(
    function: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in any function of the arithmetic is seen."""
    x = np.random.default_rng(8).standard_normal((4, 6, 7))
    inner, outer = conv(4, 4, 2, (ONE, ONE)), conv(4, 4, 1, (square(3, 0), square(3, 0)))
    small = conv(4, 4, 4, (Window(0, 1, 1, -2), square(3, 0)))
    expected = 2 * applied(outer, applied(inner, x)) + applied(small, x)
    right = getattr(kernels, function)
    monkeypatch.setattr(kernels, function, lambda *a: FAULTS[fault](right(*a)))
    parts = [outer.after(inner).then(np.array([2.0]), np.zeros(1)), small]
    whole = added(parts, whole_of(parts, (6, 7)))
    assert not close(applied(whole, x), expected)
