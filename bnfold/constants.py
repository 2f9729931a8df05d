"""What is a tensor worth that is known before run time? In float64, rounded once at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from bnfold.affine import Affine, joint_shape, room_for
from bnfold.extents import SMALLEST_NORMAL, UNDERFLOW_SHARE, Extent
from bnfold.reasons import Reason, Refusal

Array = NDArray[Any]

FLOATS: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}
"""ONNX element types that weights are folded in, with their numpy types."""

CACHED_ELEMENTS = 1 << 12
"""Up to this size a derived value is kept in float64; larger ones are computed again."""


DEEPEST = 16
"""Large constants that are computed one from the other before one of them is held: each asks for
the one before, so time and stack grow with their number."""


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether weights of this type are folded: float64, float32, float16 or bfloat16."""
    return dtype in FLOATS.values()


BLOCK_ELEMENTS = 1 << 18
"""Large tensors are computed in blocks of about this many elements, which stay in the cache."""


Rows = Callable[[slice], Array]


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a tensor, to be computed: from which byte on they stand, and what they are."""

    offset: int
    compute: Callable[[], Array]


class Constant:
    """A tensor as an expression over the file's tensors.

    `exact()` evaluates the whole expression in float64, so a weight that takes in one affine
    after another is still rounded once; `stored()` is that rounding.
    """

    __slots__ = (
        "_cache",
        "_evaluate",
        "_extent",
        "_fits",
        "depth",
        "dtype",
        "flushed",
        "is_quantized",
        "shape",
        "vanished",
    )

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
        self._extent: Extent | None = None
        self._fits = False
        """Whether every number is known to be finite in `dtype`, and none to be flushed."""
        self.shape = shape
        self.dtype = dtype
        self.depth = 0
        """Constants that it is computed from, one behind the other; see DEEPEST."""
        self.flushed = 0
        self.vanished = False
        """Whether numbers that are not zero are stored as zero, or may be."""
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

    @property
    def nbytes(self) -> int:
        """Bytes of what is stored."""
        return self.bytes_of(self.shape, self.dtype)

    @property
    def exact_nbytes(self) -> int:
        """Bytes of the value in float64."""
        return 8 * self.size

    @staticmethod
    def bytes_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
        """Bytes of an array."""
        return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize

    def derived(self, function: Callable[[Array], Array]) -> Constant:
        """`function` of this, an array of the same shape; still in float64."""
        return Constant(lambda: function(self.exact()), self.shape, self.dtype)

    def through(self, affine: Affine) -> Constant:
        """The affine of this, which broadcasts to the affine's rank and may grow.

        Raises Refusal where it would grow out of proportion, or is empty.
        """
        if not self.size:
            raise Refusal(Reason.UNKNOWN_SHAPE, "an empty parameter would have to hold an affine")
        shape = joint_shape(self.shape, affine.scale.shape, affine.shift.shape)
        while len(shape) > self.rank and shape[0] == 1:
            shape = shape[1:]
        if shape == self.shape and affine.rank == self.rank:
            return AffineConstant(self, affine)
        if math.prod(shape) > 2 * self.size:
            room_for(shape, affine.scale, affine.shift)
        return Constant(lambda: affine.apply(self.exact()).reshape(shape), shape, self.dtype)

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

    def rows(self) -> Rows:
        """What gives some rows in float64, an array of the caller's own; any thread may ask."""
        value = self.value()
        return lambda part: value[part].astype(np.float64)

    def weighted_sum(self, factor: Array, axis: int) -> Array:
        """`(value * factor).sum(axis)` in float64, the axis being kept, some rows at a time."""
        rows = self.rows()
        parts = [
            (rows(part) * (factor[part] if factor.shape[0] > 1 else factor)).sum(
                axis, keepdims=True
            )
            for part in row_blocks(self.shape)
        ]
        if not parts:
            return np.asarray((self.exact() * factor).sum(axis, keepdims=True))
        return np.asarray(np.sum(parts, axis=0) if axis == 0 else np.concatenate(parts))

    def stored(self) -> Array:
        """The value rounded once to the tensor's type, with subnormals flushed to zero.

        `flushed` then counts them. Raises Refusal where the result is not finite, or where a
        16-bit type loses more than UNDERFLOW_SHARE of it to underflow.
        """
        if self._is_one_block:
            (result,) = self._checked()
            return result
        result = np.empty(self.shape, self.dtype)
        for part, block in zip(row_blocks(self.shape), self._checked(), strict=True):
            result[part] = block
        return result

    def check(self) -> None:
        """Raise what `stored` raises, and count what it counts, without holding the result.

        Where the range of the numbers tells that nothing is lost, nothing is computed.
        """
        extent = self.extent()
        if extent is not None and extent.fits(self.dtype):
            self.flushed, self._fits = 0, True
            self.vanished = not extent.survives(self.dtype)
            return
        for _ in self._checked():
            pass

    def extent(self) -> Extent | None:
        """The range of the numbers, for which each is looked at once; None where none is known."""
        if self._extent is None and is_float(self.dtype):
            self._extent = Extent.of(self.value(), adds=self.dtype == np.float16)
        return self._extent

    def hold(self) -> None:
        """Compute the value now, and keep it in float64 for all who ask again."""
        self._cache = self.exact()

    @property
    def held(self) -> int:
        """Bytes that are kept of the value."""
        return 0 if self._cache is None else self._cache.nbytes

    @property
    def key(self) -> Hashable:
        """What tells constants apart: those of one key are worth the same."""
        return self

    def stored_parts(self) -> Iterator[Part]:
        """What `stored` gives, some rows at a time; each is computed when it is called."""
        if self._is_one_block:
            yield Part(0, self.stored)
            return
        rows, size = self.rows(), self.nbytes // self.shape[0]
        for part in row_blocks(self.shape):
            yield Part(part.start * size, partial(self._stored_rows, rows, part))

    def _stored_rows(self, rows: Rows, part: slice) -> Array:
        with np.errstate(all="ignore"):
            exact = rows(part)
            return exact.astype(self.dtype) if self._fits else Rounding(self.dtype).of(exact)

    @property
    def _is_one_block(self) -> bool:
        return self.size <= BLOCK_ELEMENTS or not is_float(self.dtype)

    def _checked(self) -> Iterator[Array]:
        rounding = Rounding(self.dtype)
        yield from self._rounded(rounding)
        rounding.check_underflow()
        self.flushed, self.vanished = rounding.flushed, rounding.vanished

    def _rounded(self, rounding: Rounding) -> Iterator[Array]:
        if not is_float(self.dtype):
            yield self.value()
        elif self._is_one_block:
            exact = self.exact()
            if exact.shape != self.shape:  # a bias that is no vector, say
                said = f"a parameter of shape {self.shape} comes out as {exact.shape}"
                raise Refusal(Reason.UNKNOWN_SHAPE, said)
            yield rounding.of(exact)
        else:
            rows = self.rows()
            yield from (rounding.of(rows(part)) for part in row_blocks(self.shape))


class AffineConstant(Constant):
    """The affine of another constant of the same shape, computed block by block."""

    __slots__ = ("affine", "base")

    def __init__(self, base: Constant, affine: Affine) -> None:
        super().__init__(lambda: affine.apply(base.exact()), base.shape, base.dtype)
        self.base = base
        self.affine = affine

    def rows(self) -> Rows:
        """What gives some rows in float64, an array of the caller's own; any thread may ask."""
        base = self.base.rows()

        def of(part: slice) -> Array:
            scale, shift = (
                a[part] if a.shape[0] > 1 else a for a in (self.affine.scale, self.affine.shift)
            )
            block = base(part)
            block *= scale
            if shift.any():
                block += shift
            return block

        return of

    def extent(self) -> Extent | None:
        """The range that follows from that of the base; None with a shift, which may cancel."""
        if not self.affine.is_pure_scale:
            return None
        extent = self.base.extent()
        return None if extent is None else extent.scaled(self.affine.scale)

    @property
    def key(self) -> Hashable:
        """What tells constants apart: those of one key are worth the same."""
        arrays = (self.affine.scale, self.affine.shift)
        return (self.base.key, *((a.shape, a.tobytes()) for a in arrays))


def row_blocks(shape: tuple[int, ...]) -> list[slice]:
    """Slices of the first axis, of about BLOCK_ELEMENTS elements each."""
    width = int(np.prod(shape[1:], dtype=np.int64))
    step = max(1, BLOCK_ELEMENTS // max(1, width))
    return [slice(start, start + step) for start in range(0, shape[0], step)]


class Rounding:
    """The rounding of float64 to one type, and what it lost."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.flushed = 0
        self.vanished = False
        self.lost = 0.0
        self.total = 0.0

    def of(self, exact: Array) -> Array:
        """The rounded array, subnormals being zero. Raises Refusal where it is not finite."""
        with np.errstate(all="ignore"):
            result = exact.astype(self.dtype)
        magnitude = np.abs(result)
        if not np.isfinite(result).all():
            raise Refusal(Reason.OVERFLOW, f"a folded parameter is not finite in {self.dtype}")
        if self.dtype.itemsize == 2:
            self.total += float(np.abs(exact).sum())
            self.lost += float(np.abs(exact[result == 0]).sum())
        if self.dtype != np.float16:
            subnormal = (magnitude < SMALLEST_NORMAL[self.dtype]) & (magnitude > 0)
            count = int(np.count_nonzero(subnormal))
            if count:
                self.flushed += count
                result[subnormal] = 0
        self.vanished |= bool(np.count_nonzero(result) < np.count_nonzero(exact))
        return result

    def check_underflow(self) -> None:
        """Refuse when more than UNDERFLOW_SHARE of the absolute sum was rounded to zero."""
        if self.lost > UNDERFLOW_SHARE * self.total:
            share = 100 * self.lost / self.total
            raise Refusal(
                Reason.UNDERFLOW, f"{share:.2g} % of a weight would be lost to underflow"
            )
