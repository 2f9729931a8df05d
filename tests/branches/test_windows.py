"""Windows against what they mean: the elements that each output reads, one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bnfold.branches.windows import POINT, Window, chained, positions, same_pads, united, window
from bnfold.reasons import Refusal

SIZES = range(7, 13)


def reads(one: Window, size: int) -> list[list[int]]:
    """The offsets that each output reads; those outside of the input are zeros."""
    return [
        [i * one.stride + one.first + j * one.step for j in range(one.count)]
        for i in range(one.outputs(size))
    ]


def some_windows() -> list[Window]:
    """Windows of many kinds, all of operators that exist."""
    kinds = itertools.product((1, 2, 3, 4), (1, 2), (1, 2), (0, 1, 2), (0, 1))
    return [
        window(kernel, dilation, stride, (before, behind), "NOTSET", None)
        for kernel, dilation, stride, before, behind in kinds
    ]


@pytest.mark.parametrize("size", SIZES)
def test_a_window_has_the_outputs_of_the_specification(size: int) -> None:
    """`floor((size + pads - dilation * (kernel - 1) - 1) / stride) + 1`."""
    for kernel, dilation, stride, before, behind in itertools.product(
        (1, 2, 3), (1, 2), (1, 2, 3), (0, 1), (0, 2)
    ):
        one = window(kernel, dilation, stride, (before, behind), "NOTSET", None)
        span = dilation * (kernel - 1) + 1
        assert one.outputs(size) == (size + before + behind - span) // stride + 1
        assert one.pads == (before, behind)
        assert reads(one, size)[0][0] == -before


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_same_padding_makes_one_output_for_each_stride(mode: str) -> None:
    """And the odd zero stands behind for SAME_UPPER, before for SAME_LOWER."""
    for kernel, dilation, stride, size in itertools.product(
        (1, 2, 3, 4), (1, 2), (1, 2, 3), SIZES
    ):
        span = (kernel - 1) * dilation
        one = window(kernel, dilation, stride, (0, 0), mode, size)
        assert one.outputs(size) >= -(-size // stride)
        before, behind = same_pads(span, stride, mode, size) or (0, 0)
        assert (behind - before if mode == "SAME_UPPER" else before - behind) in (0, 1)


def test_same_padding_of_an_unknown_size_is_known_for_stride_one_only() -> None:
    """With a stride the pads depend on the size."""
    assert window(3, 1, 1, (0, 0), "SAME_UPPER", None) == Window(-1, 1, 3)
    assert window(3, 1, 2, (0, 0), "SAME_UPPER", "height").anchor == "SAME_UPPER"
    assert window(3, 1, 2, (0, 0), "SAME_UPPER", 8) == Window(0, 1, 3, -1, 2)


def test_a_union_reads_what_both_read() -> None:
    """Every tap of each part is a tap of the whole, and the outputs are as many."""
    merged = 0
    for a, b in itertools.product(some_windows(), repeat=2):
        try:
            whole = united(a, b, None)
        except Refusal:
            continue
        merged += 1
        for part in (a, b):
            assert part.outputs(11) == whole.outputs(11)
            taps = reads(whole, 11)[1][positions(part, whole)]
            assert taps == reads(part, 11)[1]
        assert min(whole.pads) >= 0
    assert merged > 500


def test_a_union_is_refused_where_outputs_differ() -> None:
    """Another stride, another number of outputs; a known size can settle it."""
    pool, pointwise = Window(0, 1, 2, -1, 2), Window(0, 1, 1, 0, 2)
    for a, b, size in (
        (POINT, Window(stride=2), None),
        (POINT, Window(0, 1, 3, -2), None),
        (pool, pointwise, None),
        (pool, pointwise, 9),
        (Window(anchor="SAME_UPPER", count=3, stride=2), pointwise, None),
    ):
        with pytest.raises(Refusal):
            united(a, b, size)
    assert united(pool, pointwise, 8).outputs(8) == 4


def test_a_chain_reads_through_both() -> None:
    """What the outer taps read, the inner ones read of the input."""
    found = 0
    for inner, outer in itertools.product(some_windows(), repeat=2):
        try:
            whole = chained(inner, outer)
        except Refusal:
            continue
        found += 1
        middle = inner.outputs(12)
        assert whole.outputs(12) == outer.outputs(middle)
        for i, taps in enumerate(reads(outer, middle)):
            wanted = {
                m * inner.stride + inner.first + j * inner.step
                for m in taps
                for j in range(inner.count)
            }
            assert wanted <= set(reads(whole, 12)[i])
    assert found > 100


def test_a_chain_is_refused_where_padding_stands_between() -> None:
    """Zeros around the inner result are not what the inner operator makes of zeros."""
    padded = Window(-1, 1, 3)
    with pytest.raises(Refusal):
        chained(padded, padded)
    assert chained(POINT, padded) == padded
    assert chained(padded, POINT) == padded


def test_steps_are_as_long_as_they_can_be() -> None:
    """A dilated kernel and a point in its middle stay a dilated kernel."""
    assert united(Window(-2, 2, 3), POINT, None) == Window(-2, 2, 3)
    assert united(Window(-2, 2, 3), Window(-1, 1, 3), None) == Window(-2, 1, 5)
    assert np.arange(3)[positions(POINT, Window(-2, 2, 3))].tolist() == [1]
