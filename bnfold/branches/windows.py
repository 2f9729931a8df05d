"""Which elements does a linear operator read along one axis? And two operators together?

With the input continued by zeros, output `i` reads the elements `i * stride + first + j * step`
for `j < count`. There are `(size + trim - 1) // stride + 1` outputs. Pads say nothing more: a
branch whose pads differ from another's reads the same zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

from bnfold.reasons import Reason, Refusal

Size = int | str | None


@dataclass(frozen=True, slots=True)
class Window:
    """The taps of one axis. `anchor` is an `auto_pad` whose pads depend on the unknown size."""

    first: int = 0
    step: int = 1
    count: int = 1
    trim: int = 0
    stride: int = 1
    anchor: str = ""

    @property
    def last(self) -> int:
        """The offset of the last tap."""
        return self.first + (self.count - 1) * self.step

    @property
    def pads(self) -> tuple[int, int]:
        """How many zeros are read before and behind the input, at most."""
        return -self.first, self.trim + self.last

    @property
    def reads_padding(self) -> bool:
        """Whether any tap may stand outside; unknown counts as yes."""
        return bool(self.anchor) or any(self.pads)

    def outputs(self, size: int) -> int:
        """The number of outputs for an input of this size."""
        return (size + self.trim - 1) // self.stride + 1


POINT = Window()
"""What an element-wise operator reads."""


def window(
    kernel: int, dilation: int, stride: int, pads: tuple[int, int], auto_pad: str, size: Size
) -> Window:
    """From the attributes of Conv or AveragePool, by the formulas of their specification."""
    span = (kernel - 1) * dilation
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        same = same_pads(span, stride, auto_pad, size)
        if same is None:
            return Window(0, dilation, kernel, 0, stride, auto_pad)
        pads = same
    elif auto_pad == "VALID":
        pads = (0, 0)
    if min(pads) < 0:
        raise Refusal(Reason.OPAQUE_OP, "negative pads")
    step = dilation if kernel > 1 else 1
    return Window(-pads[0], step, kernel, sum(pads) - span, stride)


def same_pads(span: int, stride: int, auto_pad: str, size: Size) -> tuple[int, int] | None:
    """`(ceil(size / stride) - 1) * stride + span + 1 - size` zeros; None where that is unknown."""
    if stride == 1:
        total = span
    elif isinstance(size, int):
        total = max((-(-size // stride) - 1) * stride + span + 1 - size, 0)
    else:
        return None
    small = total // 2
    return (small, total - small) if auto_pad == "SAME_UPPER" else (total - small, small)


def united(a: Window, b: Window, size: Size) -> Window:
    """The smallest window with the taps of both and the outputs of each. Raises Refusal."""
    if a == b:
        return a
    if a.anchor or b.anchor:
        raise Refusal(Reason.UNKNOWN_SHAPE, "the pads depend on a size that is not known")
    if a.stride != b.stride:
        raise Refusal(Reason.CONFLICT, f"strides {a.stride} and {b.stride}")
    agree = a.trim == b.trim or (isinstance(size, int) and a.outputs(size) == b.outputs(size))
    if not agree:
        raise Refusal(Reason.CONFLICT, "the outputs have different sizes")
    first, last = min(a.first, b.first), max(a.last, b.last)
    steps = (w.step if w.count > 1 else 0 for w in (a, b))
    step = gcd(a.first - b.first, *steps) or 1
    return Window(first, step, (last - first) // step + 1, max(a.trim, b.trim), a.stride)


def chained(inner: Window, outer: Window) -> Window:
    """`outer` over the result of `inner`, which no tap may leave unless `inner` is a point.

    `outer` reads `i * t + q` of what reads `m * s + p` of the input: `i * s * t + s * q + p`.
    """
    if inner == POINT:
        return outer
    if outer == POINT:
        return inner
    if inner.anchor or outer.reads_padding:
        raise Refusal(Reason.PADDED_SHIFT, "zeros around the inner result are not its values")
    steps = (inner.step if inner.count > 1 else 0, inner.stride * outer.step * (outer.count > 1))
    step = gcd(*steps) or 1
    first = inner.first + inner.stride * outer.first
    last = inner.last + inner.stride * outer.last
    return Window(
        first,
        step,
        (last - first) // step + 1,
        inner.trim + inner.stride * outer.trim,
        inner.stride * outer.stride,
    )


def positions(part: Window, whole: Window) -> slice:
    """Where the taps of a part stand among those of the whole."""
    start = (part.first - whole.first) // whole.step
    if part.count == 1:
        return slice(start, start + 1)
    step = part.step // whole.step
    return slice(start, start + (part.count - 1) * step + 1, step)


def taps(windows: Sequence[Window]) -> int:
    """How many elements one output reads of one channel."""
    product = 1
    for axis in windows:
        product *= axis.count
    return product
