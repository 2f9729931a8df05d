"""What is a tensor worth that is known before run time? In float64, rounded once at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from bnfold.reasons import Reason, Refusal

Array = NDArray[Any]

FLOATS: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}
"""ONNX element types that weights are folded in, with their numpy types."""

SMALLEST_NORMAL = dict.fromkeys(FLOATS.values(), 2.0 ** (-126)) | {
    np.dtype(np.float64): 2.0**-1022,
    np.dtype(np.float16): 2.0**-14,
}
"""Below this a number is subnormal (IEEE 754; bfloat16 has the exponent of float32)."""

UNDERFLOW_SHARE = 1e-3
"""The largest share of a 16-bit weight's absolute sum that rounding to zero may take."""

CACHED_ELEMENTS = 1 << 16
"""Up to this size a derived value is kept in float64; larger ones are computed again."""


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether weights of this type are folded: float64, float32, float16 or bfloat16."""
    return dtype in FLOATS.values()


class Constant:
    """A tensor as an expression over the file's tensors.

    `exact()` evaluates the whole expression in float64, so a weight that takes in one affine
    after another is still rounded once; `stored()` is that rounding.
    """

    __slots__ = ("_cache", "_evaluate", "dtype", "flushed", "is_quantized", "shape")

    def __init__(
        self,
        evaluate: Callable[[], Array],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        *,
        is_quantized: bool = False,
    ) -> None:
        self._evaluate = evaluate
        self._cache: Array | None = None
        self.shape = shape
        self.dtype = dtype
        self.flushed = 0
        self.is_quantized = is_quantized
        """Computed from a quantized tensor: worth something, but not to be replaced by floats."""

    @classmethod
    def of_tensor(cls, tensor: TensorProto) -> Constant:
        """An initializer, or the value of a Constant node; read when it is needed."""
        dtype = FLOATS.get(tensor.data_type)
        if dtype is None:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return cls(lambda: numpy_helper.to_array(tensor), tuple(tensor.dims), dtype)

    @classmethod
    def of_array(cls, array: Array, dtype: np.dtype[Any] | None = None) -> Constant:
        """A known array, to be stored as `dtype`."""
        return cls(lambda: array, array.shape, dtype or array.dtype)

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def derived(self, function: Callable[[Array], Array]) -> Constant:
        """`function` of this, an array of the same shape; still in float64."""
        return Constant(lambda: function(self.exact()), self.shape, self.dtype)

    def value(self) -> Array:
        """The value in whatever type it is computed in."""
        if self._cache is None:
            array = self._evaluate()
            if self.size > CACHED_ELEMENTS:
                return array
            self._cache = array
        return self._cache

    def exact(self) -> Array:
        """The value in float64. Raises Refusal for types that are not float."""
        if not is_float(self.dtype):
            raise Refusal(Reason.UNSUPPORTED_DTYPE, f"a parameter of type {self.dtype}")
        return self.value().astype(np.float64, copy=False)

    def stored(self) -> Array:
        """The value rounded once to the tensor's type, with subnormals flushed to zero.

        `flushed` then counts them. Raises Refusal where the result is not finite, or where a
        16-bit type loses more than UNDERFLOW_SHARE of it to underflow.
        """
        value = self.value()
        if not is_float(self.dtype):
            return value
        array, self.flushed = rounded(value, self.dtype)
        return array


def rounded(exact: Array, dtype: np.dtype[Any]) -> tuple[Array, int]:
    """Round float64 to a weight's type; also the number of subnormals that became zero.

    Raises Refusal as `Constant.stored` says.
    """
    with np.errstate(all="ignore"):
        result = exact.astype(dtype)
    if not np.isfinite(result).all():
        raise Refusal(Reason.OVERFLOW, f"a folded parameter is not finite in {dtype}")
    if dtype.itemsize == 2:
        check_underflow(exact, result)
    if dtype == np.float16:
        return result, 0
    tiny = SMALLEST_NORMAL[dtype]
    magnitude = np.abs(result)
    subnormal = (magnitude < tiny) & (magnitude > 0)
    count = int(subnormal.sum())
    if count:
        result[subnormal] = 0
    return result, count


def check_underflow(exact: Array, result: Array) -> None:
    """Refuse when more than UNDERFLOW_SHARE of the absolute sum was rounded away to zero."""
    total = float(np.abs(exact).sum())
    lost = float(np.abs(exact[result == 0]).sum())
    if lost > UNDERFLOW_SHARE * total:
        share = 100 * lost / total
        raise Refusal(Reason.UNDERFLOW, f"{share:.2g} % of a weight would be lost to underflow")
