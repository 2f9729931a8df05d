"""Where does an affine go when dimensions are split, joined, dropped or added?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from bnfold.affine import Affine, room_for
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Dim, Operator, Shape, Step, backward, forward, only
from bnfold.rules.shared import Array, normal_axis, vector

Product = tuple[int, tuple[str, ...]]


def product(dims: Sequence[Dim], side: str) -> Product:
    """A product of dimensions: the number, and the symbols; what is unknown equals only itself."""
    number, symbols = 1, []
    for position, dim in enumerate(dims):
        if isinstance(dim, int):
            number *= dim
        else:
            symbols.append(dim if dim is not None else f"{side} {position} {len(dims)}")
    return number, tuple(sorted(symbols))


def borders(source: Shape, target: Shape) -> list[tuple[int, int]]:
    """Pairs (i, j) such that `source[:i]` holds as many elements as `target[:j]`, for certain.

    Known where the sizes before, or those behind, are equal: the totals are the same.
    """
    before = {(product(source[:i], "s"), i) for i in range(len(source) + 1)}
    behind = {(product(source[i:], "s"), i) for i in range(len(source) + 1)}
    pairs = {(0, 0), (len(source), len(target))}
    for j in range(len(target) + 1):
        ahead, rest = product(target[:j], "t"), product(target[j:], "t")
        pairs |= {(i, j) for size, i in before if size == ahead}
        pairs |= {(i, j) for size, i in behind if size == rest}
    chain = [(0, 0)]
    for pair in sorted(pairs):
        if pair[0] >= chain[-1][0] and pair[1] >= chain[-1][1]:
            chain.append(pair)
    return chain


def reshaped(affine: Affine, source: Shape, target: Shape) -> Affine:
    """The affine of `Reshape(x)` from that of x. Raises Refusal where it cannot be told."""
    if 0 in source or 0 in target:  # of no elements it is as good as any other
        return Affine.identity(len(target))
    chain = borders(source, target)
    groups = [(i, k, j, m) for (i, j), (k, m) in pairwise(chain) if (i, j) != (k, m)]

    def move(array: Array) -> Array:
        full: list[int] = []
        result: list[int] = []
        for i, k, j, m in groups:
            part = array.shape[i:k]
            if all(size == 1 for size in part):
                full += part
                result += [1] * (m - j)
            elif k - i == 1 and m - j == 1:
                full += part
                result += part
            else:
                full += known(source[i:k])
                result += known(target[j:m])
        room_for(full, array)
        return np.broadcast_to(array, full).reshape(result)

    return affine.moved(move)


def known(dims: Shape) -> list[int]:
    """Dimensions that must all be known, since the affine varies among them."""
    sizes = [dim for dim in dims if isinstance(dim, int)]
    if len(sizes) < len(dims):
        raise Refusal(
            Reason.CHANNEL_LOST, "channels are joined with a dimension whose size is not known"
        )
    return sizes


def target_shape(op: Operator) -> Shape:
    """The result's shape, from inference and from what the operator says of it."""
    if op.op_type != "Reshape":
        return op.output_shape()
    wanted = op.attribute("shape")
    if wanted is None and op.is_constant(1):
        wanted = vector(op, 1)
    if wanted is None:
        return op.output_shape()
    source = op.shape(0)
    said: list[Dim] = [
        None if d == -1 else source[i] if d == 0 and not op.attribute("allowzero", 0) else d
        for i, d in enumerate(wanted)
    ]
    try:
        inferred = op.output_shape()
    except Refusal:
        return tuple(said)
    if len(inferred) != len(said):
        return tuple(said)
    return tuple(a if a is not None else b for a, b in zip(said, inferred, strict=True))


@backward("Reshape", attributes="allowzero shape consumed_inputs")
@backward("Flatten", attributes="axis")
def reshape(op: Operator, affine: Affine) -> Step:
    """Back through the same borders."""
    return Step(inputs={0: reshaped(affine, flattened(op), source_shape(op))})


@forward("Reshape", attributes="allowzero shape consumed_inputs")
@forward("Flatten", attributes="axis")
def reshape_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """Group by group of dimensions that hold the same elements."""
    return Step(outputs={0: reshaped(only(affines), source_shape(op), flattened(op))})


def source_shape(op: Operator) -> Shape:
    """The shape of what is reshaped."""
    return op.shape(0)


def flattened(op: Operator) -> Shape:
    """The result's shape; of Flatten's two dimensions each may be known by itself."""
    if op.op_type != "Flatten":
        return target_shape(op)
    source = op.shape(0)
    axis = op.attribute("axis", 1)
    axis = axis + len(source) if axis < 0 else axis
    parts = (source[:axis], source[axis:])
    return tuple(
        int(np.prod(known(p)))
        if all(isinstance(d, int) for d in p)
        else p[0]
        if len(p) == 1
        else None
        for p in parts
    )


# --------------------------------------------------------------- single dimensions


def named_axes(op: Operator, rank: int) -> list[int] | None:
    """The axes of a Squeeze or Unsqueeze, counted in this rank; None where all 1s are meant."""
    axes = op.attribute("axes")
    if axes is None and op.has_input(1):
        axes = vector(op, 1)
    return None if axes is None else sorted({normal_axis(a, rank) for a in axes})


def squeezed_axes(op: Operator) -> list[int]:
    """The axes that a Squeeze drops."""
    source = op.shape(0)
    axes = named_axes(op, len(source))
    if axes is not None:
        return axes
    if not all(isinstance(d, int) for d in source):
        raise Refusal(
            Reason.UNKNOWN_SHAPE, "Squeeze drops every axis of size 1, not all are known"
        )
    return [axis for axis, size in enumerate(source) if size == 1]


def dropped(affine: Affine, axes: Sequence[int]) -> Affine:
    """Without these axes, of size 1."""
    return affine.moved(lambda a: a.squeeze(tuple(axes)) if axes else a)


def added(affine: Affine, axes: Sequence[int]) -> Affine:
    """With new axes at these places."""
    return affine.moved(lambda a: np.expand_dims(a, tuple(axes)) if axes else a)


def unsqueezed_axes(op: Operator) -> list[int]:
    """The axes that an Unsqueeze adds."""
    count = len(op.attribute("axes") or ()) or op.constant(1).size
    axes = named_axes(op, len(op.shape(0)) + count)
    assert axes is not None
    return axes


@backward("Squeeze", attributes="axes")
def squeeze(op: Operator, affine: Affine) -> Step:
    """The axes come back."""
    return Step(inputs={0: added(affine, squeezed_axes(op))})


@forward("Squeeze", attributes="axes")
def squeeze_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """The axes go."""
    return Step(outputs={0: dropped(only(affines), squeezed_axes(op))})


@backward("Unsqueeze", attributes="axes")
def unsqueeze(op: Operator, affine: Affine) -> Step:
    """The axes go."""
    return Step(inputs={0: dropped(affine, unsqueezed_axes(op))})


@forward("Unsqueeze", attributes="axes")
def unsqueeze_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """The axes come."""
    return Step(outputs={0: added(only(affines), unsqueezed_axes(op))})
