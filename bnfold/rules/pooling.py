"""When do pools commute with an affine? It must be uniform over their windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from bnfold.affine import Affine
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Dim, Operator, Step, backward, commutes, forward, only
from bnfold.rules.shared import require_positive, require_scale, require_uniform

WINDOW = "auto_pad ceil_mode count_include_pad dilations kernel_shape pads storage_order strides p"


def require_window(op: Operator, affine: Affine) -> None:
    """The axes behind the channels are the window's."""
    require_uniform(affine, range(2, affine.rank), op.op_type)


def may_see_nothing(op: Operator) -> bool:
    """Whether a window may hold padding alone; what it gives then no affine of the data is."""
    shape = op.shape(0)
    if op.op_type.startswith("Global"):
        return 0 in shape[2:]
    kernel = list(op.attribute("kernel_shape", ()))
    rank = len(kernel)
    pads = list(op.attribute("pads", ())) or [0] * (2 * rank)
    strides = list(op.attribute("strides", ())) or [1] * rank
    gaps = list(op.attribute("dilations", ())) or [1] * rank
    if len(shape) != rank + 2 or len(pads) != 2 * rank or len(strides + gaps) != 2 * rank:
        raise Refusal(Reason.UNKNOWN_SHAPE, f"the window of {op.op_type} is of another rank")
    mode, ceil = op.attribute("auto_pad", "NOTSET"), bool(op.attribute("ceil_mode", 0))
    return any(
        Window(kernel[i], strides[i], gaps[i], (pads[i], pads[i + rank]), mode, ceil).may_miss(
            shape[i + 2]
        )
        for i in range(rank)
    )


@dataclass(frozen=True, slots=True)
class Window:
    """The windows of a pool along one axis."""

    count: int
    stride: int
    gap: int
    pads: tuple[int, int]
    mode: str
    is_ceil: bool

    @property
    def span(self) -> int:
        """From the first element of a window to behind its last."""
        return (self.count - 1) * self.gap + 1

    def may_miss(self, size: Dim) -> bool:
        """Whether a window may hold nothing of the axis; what cannot be told counts."""
        if isinstance(size, int):
            return size == 0 or any(self.misses(start, size) for start in self.starts(size))
        if self.mode == "VALID" or not (any(self.pads) or self.is_ceil or self.is_same):
            return False
        if self.gap > 1:
            return True
        before, after = (0, 0) if self.is_same else self.pads
        late = self.stride - 1 if self.is_ceil and not self.is_same else 0
        return before >= self.count or after + late >= self.count

    @property
    def is_same(self) -> bool:
        """Whether the padding is what keeps the size."""
        return self.mode.startswith("SAME")

    def misses(self, start: int, size: int) -> bool:
        """Whether the window that starts there holds padding alone."""
        return not any(0 <= start + i * self.gap < size for i in range(self.count))

    def starts(self, size: int) -> Iterable[int]:
        """Where the windows start that are near an end of the axis."""
        before, after = self.padding(size)
        room = size + before + after - self.span
        more = self.stride - 1 if self.is_ceil and not self.is_same else 0
        last = (room + more) // self.stride
        near = 1 + (before + after + 2 * self.span) // self.stride
        places = range(last + 1)
        return (i * self.stride - before for i in {*places[:near], *places[-near:]})

    def padding(self, size: int) -> tuple[int, int]:
        """How much is padded before and behind."""
        if self.mode == "VALID":
            return 0, 0
        if not self.is_same:
            return self.pads
        total = max(0, (-(-size // self.stride) - 1) * self.stride + self.span - size)
        small, large = total // 2, total - total // 2
        return (small, large) if self.mode == "SAME_UPPER" else (large, small)


def require_elements(op: Operator) -> None:
    """Refuse a pool that may make a value of padding alone."""
    if may_see_nothing(op):
        raise Refusal(Reason.PADDED_SHIFT, f"a window of {op.op_type} may hold padding alone")


@commutes("MaxPool GlobalMaxPool", attributes=WINDOW)
def max_pool(op: Operator, affine: Affine) -> None:
    """`max(s x + t) = s max(x) + t` for s >= 0. Padding never wins, so a shift is no harm."""
    require_window(op, affine)
    require_positive(affine, op)
    require_elements(op)
    if op.has_output(1) and not affine.is_invertible:
        raise Refusal(Reason.ZERO_SCALE, f"a zero scale would change the indices of {op.op_type}")


def counts_padding(op: Operator) -> bool:
    """Whether an average may count zeros that are not there."""
    if op.op_type != "AveragePool":
        return False
    if op.version >= 7 and not op.attribute("count_include_pad", 0):
        return False
    padded = op.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return padded or any(op.attribute("pads", ())) or bool(op.attribute("ceil_mode", 0))


@commutes("AveragePool GlobalAveragePool", attributes=WINDOW)
def average_pool(op: Operator, affine: Affine) -> None:
    """The mean of affines is the affine of the mean, unless zeros are averaged in."""
    require_window(op, affine)
    if not affine.is_pure_scale and counts_padding(op):
        raise Refusal(Reason.PADDED_SHIFT, "AveragePool averages its zero padding in")
    if not affine.is_pure_scale:  # runtimes give 0 for a mean of nothing
        require_elements(op)


@backward("LpPool GlobalLpPool", attributes=WINDOW)
def lp_pool(op: Operator, affine: Affine) -> Step:
    """A norm is homogeneous: `s |x| = |s x|` for s >= 0."""
    require_window(op, affine)
    require_scale(affine, op)
    require_positive(affine, op)
    return Step(inputs={0: affine})


@forward("LpPool GlobalLpPool", attributes=WINDOW)
def lp_pool_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`|s x| = |s| |x|`."""
    affine = only(affines)
    require_window(op, affine)
    require_scale(affine, op)
    return Step(outputs={0: affine.moved(np.abs)})
