"""What a tensor is worth: in float64, rounded once, checked."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold.affine import Affine
from bnfold.constants import BLOCK_ELEMENTS, CACHED_ELEMENTS, SMALLEST_NORMAL, Constant, is_float
from bnfold.reasons import Reason, Refusal

FLOAT_TYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def rounded(exact: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """As a weight of this type; also how many subnormals became zero."""
    constant = Constant.of_array(exact, dtype)
    return constant.stored(), constant.flushed


def refusal(exact: object, dtype: object) -> Reason:
    """Why these values cannot be held."""
    with pytest.raises(Refusal) as caught:
        rounded(np.array(exact, np.float64), np.dtype(dtype))
    return caught.value.reason


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_floats_are_rounded_to_the_nearest(dtype: object) -> None:
    """One rounding, as the type does it."""
    exact = np.linspace(-3, 3, 101)
    result, flushed = rounded(exact, np.dtype(dtype))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, exact.astype(dtype))
    assert flushed == 0


@pytest.mark.parametrize(
    ("dtype", "beyond"),
    [(np.float16, 65520.0), (ml_dtypes.bfloat16, 3.4e38), (np.float32, 3.5e38)],
)
def test_overflow_is_refused(dtype: object, beyond: float) -> None:
    """A weight that its type cannot hold is no weight."""
    assert refusal([1.0, beyond], dtype) is Reason.OVERFLOW
    assert refusal([1.0, -beyond], dtype) is Reason.OVERFLOW


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(dtype: object, bad: float) -> None:
    """Neither infinity nor NaN."""
    assert refusal([1.0, bad], dtype) is Reason.OVERFLOW


def test_the_largest_is_held() -> None:
    """The limit itself is no overflow."""
    result, _ = rounded(np.array([65504.0, 65519.0]), np.dtype(np.float16))
    np.testing.assert_array_equal(result, np.float16([65504, 65504]))


@pytest.mark.parametrize(
    ("dtype", "tiny"),
    [(np.float32, 1e-39), (ml_dtypes.bfloat16, 1e-39), (np.float64, 1e-310)],
)
def test_subnormals_become_zero(dtype: object, tiny: float) -> None:
    """And are counted; the smallest normal number stays."""
    smallest = SMALLEST_NORMAL[np.dtype(dtype)]
    result, flushed = rounded(np.array([1.0, tiny, -tiny, smallest, 0.0]), np.dtype(dtype))
    assert flushed == 2
    np.testing.assert_array_equal(result.astype(np.float64), [1.0, 0.0, 0.0, smallest, 0.0])


def test_subnormals_of_float16_stay() -> None:
    """They carry weight still."""
    result, flushed = rounded(np.array([1.0, 1e-5]), np.dtype(np.float16))
    assert flushed == 0
    assert result[1] == np.float16(1e-5) != 0


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_underflow_of_sixteen_bits_is_refused(dtype: object) -> None:
    """When more than a thousandth of the weight would be gone."""
    tiny = 1e-9 if dtype is np.float16 else 1e-42
    assert refusal(np.full(100, tiny), dtype) is Reason.UNDERFLOW
    few = np.full(100, 1.0)
    few[0] = tiny
    rounded(few, np.dtype(dtype))


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_tensors_of_every_float_type(dtype: object) -> None:
    """Read from the protobuf, raw or typed."""
    values = np.array([[0.5, -2, 0], [1, 3, 4]]).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    raw = numpy_helper.from_array(values, "raw")
    typed = helper.make_tensor("typed", kind, values.shape, values.astype(np.float32).ravel())
    for tensor in (raw, typed):
        constant = Constant.of_tensor(tensor)
        assert (constant.shape, constant.rank, constant.size) == ((2, 3), 2, 6)
        assert is_float(constant.dtype)
        assert constant.exact().dtype == np.float64
        np.testing.assert_array_equal(constant.exact(), values.astype(np.float64))
        np.testing.assert_array_equal(constant.stored(), values)
        assert constant.stored().dtype == dtype


def test_integers_are_no_weights() -> None:
    """They have a value, and cannot be folded into."""
    constant = Constant.of_tensor(helper.make_tensor("i", TensorProto.INT64, [2], [3, 4]))
    np.testing.assert_array_equal(constant.value(), [3, 4])
    np.testing.assert_array_equal(constant.stored(), [3, 4])
    with pytest.raises(Refusal) as caught:
        constant.exact()
    assert caught.value.reason is Reason.UNSUPPORTED_DTYPE


def test_a_derived_constant_is_rounded_once() -> None:
    """A detour over numbers beyond the type's range does not show."""
    constant = Constant.of_array(np.float16([2.0, 3.0]))
    there = constant.derived(lambda a: a * 1e6)
    back = there.derived(lambda a: a / 1e6)
    np.testing.assert_array_equal(back.stored(), np.float16([2.0, 3.0]))
    with pytest.raises(Refusal):
        there.stored()


@pytest.mark.parametrize("size", [4, CACHED_ELEMENTS + 1])
def test_large_ones_are_computed_again(size: int) -> None:
    """What is small is kept; what is large costs time, not memory."""
    calls = []

    def evaluate() -> np.ndarray:
        calls.append(1)
        return np.ones(size, np.float32)

    constant = Constant(evaluate, (size,), np.dtype(np.float32))
    constant.value()
    constant.value()
    assert len(calls) == (1 if size == 4 else 2)


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_large_weights_are_computed_in_blocks(axis: int | None, dtype: object) -> None:
    """Some rows at a time: the same to the last bit as all at once."""
    rng = np.random.default_rng(3)
    shape = (300, BLOCK_ELEMENTS // 100)
    sizes = [shape[d] if axis in (d, None) else 1 for d in range(2)]
    affines = [Affine(rng.uniform(0.5, 2, sizes), rng.standard_normal(sizes)) for _ in range(2)]
    weight = rng.standard_normal(shape).astype(dtype)
    folded = Constant.of_array(weight).through(affines[0]).through(affines[1])
    expected = affines[1].apply(affines[0].apply(weight)).astype(dtype)
    np.testing.assert_array_equal(folded.stored(), expected)
    assert folded.stored().dtype == dtype


def test_blocks_are_checked_together() -> None:
    """Overflow and subnormals in the last rows are seen, underflow is a share of the whole."""
    shape = (300, BLOCK_ELEMENTS // 100)
    weight = np.ones(shape)
    weight[-1, :7] = 1e-40
    constant = Constant.of_array(weight, np.dtype(np.float32))
    assert not constant.stored()[-1, :7].any()
    assert constant.flushed == 7
    weight[-1, -1] = 1e39
    with pytest.raises(Refusal):
        Constant.of_array(weight, np.dtype(np.float32)).stored()
    weight[-1] = 1e-9
    Constant.of_array(weight, np.dtype(np.float16)).stored()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(7, 5), (1000, 700), (0, 5)])
def test_weighted_sum(axis: int, shape: tuple[int, int]) -> None:
    """A sum with weights along an axis is the same taken some rows at a time."""
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    factor = np.arange(shape[axis], dtype=np.float64).reshape((-1, 1) if axis == 0 else (1, -1))
    found = Constant.of_array(values).weighted_sum(factor, axis)
    expected = (values.astype(np.float64) * factor).sum(axis, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_a_value_of_another_shape_is_refused() -> None:
    """A parameter that comes out larger than its shape says is never written."""
    weight = np.ones((4, 4, 1), np.float32)
    odd = Constant(lambda: weight.astype(np.float64), (4,), np.dtype(np.float32))
    with pytest.raises(Refusal, match=r"shape \(4,\) comes out as \(4, 4, 1\)"):
        odd.stored()
