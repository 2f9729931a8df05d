"""The algebra of the value that travels: each law on arrays, against plain numpy."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bnfold.affine import Affine, collapse

FULL = (2, 3, 4)
VALUES = st.integers(-8, 8).map(float)
PART = st.tuples(*(st.sampled_from((1, size)) for size in FULL))
ARRAYS = PART.flatmap(lambda shape: arrays(np.float64, shape, elements=VALUES))
AFFINES = st.builds(Affine, ARRAYS, ARRAYS)
INVERTIBLE = st.builds(Affine, ARRAYS.map(lambda a: np.where(a == 0, 2.0, a)), ARRAYS)
EXAMPLES = settings(max_examples=30, deadline=None)
INPUTS = arrays(np.float64, FULL, elements=VALUES)


def vector(*values: float) -> np.ndarray:
    """Along axis 1 of a value of rank 3."""
    return np.array(values, np.float64).reshape(1, -1, 1)


@EXAMPLES
@given(AFFINES, INPUTS)
def test_apply_is_scale_and_shift(affine: Affine, x: np.ndarray) -> None:
    """`scale * x + shift`, broadcast."""
    expected = np.broadcast_to(affine.scale, FULL) * x + np.broadcast_to(affine.shift, FULL)
    np.testing.assert_array_equal(affine.apply(x), expected)


@EXAMPLES
@given(AFFINES, AFFINES, INPUTS)
def test_composition(second: Affine, first: Affine, x: np.ndarray) -> None:
    """The second after the first is what the second makes of what the first made."""
    np.testing.assert_array_equal(second.after(first).apply(x), second.apply(first.apply(x)))


@EXAMPLES
@given(AFFINES, AFFINES, AFFINES)
def test_composition_is_associative(a: Affine, b: Affine, c: Affine) -> None:
    """How a chain is put together does not matter."""
    assert a.after(b).after(c).equals(a.after(b.after(c)))


@EXAMPLES
@given(INVERTIBLE, INPUTS)
def test_the_inverse_takes_it_back(affine: Affine, x: np.ndarray) -> None:
    """To rounding, and to the other side too."""
    for chain in (affine.inverse().after(affine), affine.after(affine.inverse())):
        np.testing.assert_allclose(chain.apply(x), x, atol=1e-12)


@EXAMPLES
@given(AFFINES)
def test_the_parts_make_the_whole(affine: Affine) -> None:
    """First the scale, then the shift."""
    assert affine.shift_part.after(affine.scale_part).equals(affine)
    assert affine.scale_part.is_pure_scale
    assert affine.shift_part.is_pure_shift


@EXAMPLES
@given(AFFINES, INPUTS)
def test_movements_commute_with_application(affine: Affine, x: np.ndarray) -> None:
    """Transposed, cut and reshaped alike."""
    y = affine.apply(x)
    order = (2, 0, 1)
    np.testing.assert_array_equal(
        affine.transposed(order).apply(x.transpose(order)), y.transpose(order)
    )
    picks = np.array([2, 0])
    np.testing.assert_array_equal(affine.taken(picks, 1).apply(x.take(picks, 1)), y.take(picks, 1))
    flat = affine.reshaped((2, 12), FULL)
    np.testing.assert_array_equal(flat.apply(x.reshape(2, 12)), y.reshape(2, 12))


@EXAMPLES
@given(AFFINES, AFFINES, INPUTS, INPUTS)
def test_joined_parts(a: Affine, b: Affine, x: np.ndarray, z: np.ndarray) -> None:
    """The affine of a Concat is that of each part in its place."""
    for axis in range(3):
        whole = Affine.joined([a, b], [FULL[axis]] * 2, axis)
        np.testing.assert_array_equal(
            whole.apply(np.concatenate([x, z], axis)),
            np.concatenate([a.apply(x), b.apply(z)], axis),
        )


@EXAMPLES
@given(AFFINES)
def test_what_is_uniform_has_size_one(affine: Affine) -> None:
    """A dimension above one means that the values differ along it."""
    for array in (affine.scale, affine.shift):
        for axis, size in enumerate(array.shape):
            assert size == 1 or not (array == array.take([0], axis)).all()
    varying = {
        axis
        for axis in range(3)
        for array in (affine.scale, affine.shift)
        if array.shape[axis] > 1
    }
    assert affine.axes == varying


def test_collapse_keeps_what_varies() -> None:
    """Only dimensions along which all elements are equal shrink."""
    array = np.broadcast_to(vector(1, 2, 3), FULL)
    assert collapse(np.array(array)).shape == (1, 3, 1)
    assert collapse(np.zeros(FULL)).shape == (1, 1, 1)
    assert collapse(np.array(5.0)).shape == ()


def test_arrays_cannot_be_changed() -> None:
    """An affine is a value; what it was made from may change afterwards."""
    source = vector(1, 2, 3)
    affine = Affine(source, vector(0, 0, 0))
    with pytest.raises(ValueError, match="read-only"):
        affine.scale[0, 0, 0] = 7


def test_ranks_must_agree() -> None:
    """Scale and shift are both of the value's rank."""
    with pytest.raises(ValueError, match="rank"):
        Affine(np.ones((1, 2)), np.ones(2))


def test_identity() -> None:
    """Changes nothing, and says so."""
    identity = Affine.identity(3)
    assert identity.is_identity
    assert identity.is_pure_scale
    assert identity.is_pure_shift
    assert identity.rank == 3
    assert not identity.axes


@pytest.mark.parametrize(
    ("scale", "positive", "invertible"),
    [((1, 2), True, True), ((1, 0), False, False), ((1, -1), False, True)],
)
def test_signs(scale: tuple[float, ...], positive: bool, invertible: bool) -> None:
    """Zero is not positive, and has no inverse."""
    affine = Affine.of_scale(vector(*scale))
    assert affine.is_positive is positive
    assert affine.is_invertible is invertible


def test_no_inverse_of_zero() -> None:
    """A zero scale forgets what it was given."""
    with pytest.raises(ZeroDivisionError):
        Affine.of_scale(vector(1, 0)).inverse()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_finite(bad: float) -> None:
    """Neither part may be infinite or not a number."""
    assert Affine.identity(3).is_finite
    assert not Affine.of_scale(vector(1, bad)).is_finite
    assert not Affine.of_shift(vector(1, bad)).is_finite


def test_shift_before() -> None:
    """`scale * (x + u)` is the same; a channel that is zero altogether asks for nothing."""
    affine = Affine(vector(2, -4, 0), vector(6, 2, 0))
    np.testing.assert_array_equal(affine.shift_before(), vector(3, -0.5, 0))
    with pytest.raises(ZeroDivisionError):
        Affine(vector(2, 0), vector(1, 1)).shift_before()


def test_arithmetic_is_float64() -> None:
    """Weights of other types are raised first: nothing is rounded on the way."""
    affine = Affine(np.array([[1 / 3]], np.float64), np.array([[1e-9]]))
    x = np.array([[1]], np.float16)
    assert affine.apply(x).dtype == np.float64
    exact = Fraction(1 / 3) + Fraction(1e-9)
    assert abs(Fraction(float(affine.apply(x)[0, 0])) - exact) < Fraction(1, 10**16)
