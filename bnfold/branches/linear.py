"""What does a branch compute? `Linear`: a convolution with a bias, geometry before numbers.

Everything that is linear in one value and the same at every position is one: a Conv, a matrix
product (no spatial axes), an average, an affine (a diagonal), and any two of them in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.branches import kernels
from bnfold.branches.windows import POINT, Size, Window, chained, taps, united
from bnfold.reasons import Reason, Refusal

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Everything about a convolution but its numbers: channels in and out, groups, windows."""

    channels: int
    outputs: int
    group: int
    windows: tuple[Window, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight, `(C_out, C_in / group, *taps)`."""
        return (self.outputs, self.channels // self.group, *(w.count for w in self.windows))

    @property
    def multiplications(self) -> int:
        """How many multiply-adds one position of the output takes."""
        return self.outputs * (self.channels // self.group) * taps(self.windows)

    @property
    def step(self) -> int:
        """How many positions of the input there are for one of the output."""
        product = 1
        for axis in self.windows:
            product *= axis.stride
        return product

    @property
    def reads_padding(self) -> bool:
        """Whether any tap may stand outside of the input."""
        return any(axis.reads_padding for axis in self.windows)

    def united(self, other: Geometry, sizes: Sequence[Size]) -> Geometry:
        """The geometry that holds both, for an input of these sizes. Raises Refusal."""
        if (self.channels, self.outputs) != (other.channels, other.outputs):
            raise Refusal(Reason.CONFLICT, "the branches have different channels")
        windows = (self.windows, other.windows)
        if windows[0] != windows[1] and any(w.anchor for side in windows for w in side):
            raise Refusal(Reason.UNKNOWN_SHAPE, "the pads depend on a size that is not known")
        return replace(
            self,
            group=gcd(self.group, other.group),
            windows=tuple(united(a, b, s) for a, b, s in zip(*windows, sizes, strict=True)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """`y = W * x + b`: `evaluate()` gives W in float64, of `geometry.shape`; b is `(C_out,)`."""

    geometry: Geometry
    evaluate: Callable[[], Array]
    bias: Array
    is_identity: bool = False

    @classmethod
    def identity(cls, channels: int, spatial: int) -> Linear:
        """The input itself."""
        geometry = Geometry(channels, channels, channels, (POINT,) * spatial)
        evaluate = partial(kernels.diagonal, channels, spatial)
        return cls(geometry, evaluate, np.zeros(channels), is_identity=True)

    def then(self, scale: Array, shift: Array) -> Linear:
        """An affine behind it, by vectors of one element or one for each output channel."""
        return Linear(
            self.geometry,
            lambda: kernels.scaled(self.evaluate(), scale),
            np.broadcast_to(scale * self.bias + shift, self.bias.shape),
        )

    def negated(self) -> Linear:
        """The opposite."""
        return self.then(np.array([-1.0]), np.zeros(1))

    def plus(self, shift: Array) -> Linear:
        """A constant added, by channel."""
        return replace(self, bias=self.bias + shift, is_identity=False)

    def after(self, inner: Linear) -> Linear:
        """This operator over what another one made. Raises Refusal where zeros would differ."""
        if inner.is_identity:
            return self
        first, second = inner.geometry, self.geometry
        if first.outputs != second.channels:
            raise Refusal(Reason.CONFLICT, "the channels do not fit")
        if second.reads_padding and inner.bias.any():
            raise Refusal(Reason.PADDED_SHIFT, "the padding has no bias, the inner result has one")
        check_anchors(first, second)
        windows = tuple(map(chained, first.windows, second.windows))
        group = gcd(first.group, second.group)
        return Linear(
            Geometry(first.channels, second.outputs, group, windows),
            lambda: compose(inner, self, group, windows),
            self.bias + self.carried(inner.bias),
        )

    def carried(self, bias: Array) -> Array:
        """What a constant input adds to the output, where no padding is read."""
        if not bias.any():
            return np.zeros(self.geometry.outputs)
        return kernels.carried(bias, self.evaluate(), self.geometry.group)

    def placed(self, geometry: Geometry) -> Array:
        """The weight as a part of a larger geometry."""
        weight = kernels.regrouped(self.evaluate(), self.geometry.group, geometry.group)
        return kernels.embedded(weight, self.geometry.windows, geometry.windows)


def check_anchors(first: Geometry, second: Geometry) -> None:
    """Refuse an operator of unknown pads beside anything but points."""
    for one, other in ((first, second), (second, first)):
        anchored = any(axis.anchor for axis in one.windows)
        if anchored and any(axis != POINT for axis in other.windows):
            raise Refusal(Reason.UNKNOWN_SHAPE, "the pads depend on a size that is not known")


def compose(inner: Linear, outer: Linear, group: int, windows: tuple[Window, ...]) -> Array:
    """The weight of one operator after another."""
    return kernels.composed(
        kernels.regrouped(inner.evaluate(), inner.geometry.group, group),
        kernels.regrouped(outer.evaluate(), outer.geometry.group, group),
        group,
        inner.geometry.windows,
        outer.geometry.windows,
        windows,
    )


def added(parts: Sequence[Linear], geometry: Geometry) -> Linear:
    """The sum of several, in a geometry that holds all of them."""

    def evaluate() -> Array:
        total = np.zeros(geometry.shape)
        for part in parts:
            total += part.placed(geometry)
        return total

    bias = np.sum([part.bias for part in parts], axis=0)
    return Linear(geometry, evaluate, bias)


def joined(parts: Sequence[Linear], geometry: Geometry) -> Linear:
    """Several side by side along the output channels; the geometry is that of one, ungrouped."""
    outputs = sum(part.geometry.outputs for part in parts)

    def evaluate() -> Array:
        return np.concatenate(
            [p.placed(replace(geometry, outputs=p.geometry.outputs)) for p in parts]
        )

    bias = np.concatenate([part.bias for part in parts])
    return Linear(replace(geometry, outputs=outputs), evaluate, bias)
