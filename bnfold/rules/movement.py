"""Where does an affine go when elements are moved, joined, cut, repeated or picked?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise

import numpy as np

from bnfold.affine import Affine, room_for
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import Operator, Step, backward, backward_outputs, forward, only
from bnfold.rules.shared import (
    Array,
    lifted,
    lowered,
    normal_axis,
    require_uniform,
    size_of,
    vector,
)
from bnfold.slicing import is_ambiguous, taken

# ---------------------------------------------------------------------- Transpose


def permutation(op: Operator, rank: int) -> list[int]:
    """Result axis i is input axis `permutation[i]`."""
    perm = op.attribute("perm")
    return list(perm) if perm is not None else list(range(rank))[::-1]


@backward("Transpose", attributes="perm")
def transpose(op: Operator, affine: Affine) -> Step:
    """The other way round."""
    order = np.argsort(permutation(op, affine.rank))
    return Step(inputs={0: affine.transposed(order.tolist())})


@forward("Transpose", attributes="perm")
def transpose_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """The same permutation."""
    affine = only(affines)
    return Step(outputs={0: affine.transposed(permutation(op, affine.rank))})


# ----------------------------------------------------------------- Concat and Split


def cuts(
    affine: Affine, axis: int, sizes: Callable[[], Sequence[int]], count: int
) -> list[Affine]:
    """The parts of an affine along an axis; sizes are asked for only where it varies there."""
    if axis not in affine.axes:
        return [affine] * count
    ends = np.cumsum([0, *sizes()])
    room_for([ends[-1]], affine.scale, affine.shift)
    return [affine.taken(np.arange(a, b), axis) for a, b in pairwise(ends)]


def joined(
    parts: Mapping[int, Affine], count: int, axis: int, sizes: Callable[[], Sequence[int]]
) -> Affine:
    """The affine of a join of parts, identity where none is given."""
    first = next(iter(parts.values()))
    whole = len(parts) == count and all(first.equals(part) for part in parts.values())
    if whole and axis not in first.axes:
        return first
    identity = Affine.identity(first.rank)
    return Affine.joined([parts.get(i, identity) for i in range(count)], sizes(), axis)


def concat_axis(op: Operator, rank: int) -> int:
    """Where a Concat joins; before opset 4 the default is 1."""
    return normal_axis(op.attribute("axis", 1), rank)


def input_sizes(op: Operator, axis: int) -> list[int]:
    """The sizes of the inputs along an axis. Raises Refusal."""
    return [size_of(op.shape(i), axis, "an input of Concat") for i in range(op.input_count)]


@backward("Concat", attributes="axis")
def concat(op: Operator, affine: Affine) -> Step:
    """Every input takes its part."""
    axis = concat_axis(op, affine.rank)
    parts = cuts(affine, axis, lambda: input_sizes(op, axis), op.input_count)
    return Step(inputs=dict(enumerate(parts)))


@forward("Concat", attributes="axis")
def concat_inputs(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """The parts joined; inputs that did not change carry the identity."""
    axis = concat_axis(op, next(iter(affines.values())).rank)
    whole = joined(affines, op.input_count, axis, lambda: input_sizes(op, axis))
    return Step(outputs={0: whole})


def split_axis(op: Operator, rank: int) -> int:
    """Where a Split cuts."""
    return normal_axis(op.attribute("axis", 0), rank)


def split_sizes(op: Operator, axis: int) -> list[int]:
    """The sizes of a Split's outputs. Raises Refusal."""
    sizes = op.attribute("split")
    if sizes is None and op.has_input(1):
        sizes = vector(op, 1)
    if sizes is not None:
        return list(sizes)
    total = size_of(op.shape(0), axis, "the input of Split")
    part = -(-total // op.output_count)
    last = total - part * (op.output_count - 1)
    return [part] * (op.output_count - 1) + [last]


SPLIT = "axis split num_outputs"


@backward_outputs("Split", attributes=SPLIT)
def split(op: Operator, affine: Affine, output: int) -> Step:
    """Its part of the input takes it, the rest the identity."""
    axis = split_axis(op, affine.rank)
    whole = joined({output: affine}, op.output_count, axis, lambda: split_sizes(op, axis))
    return Step(inputs={0: whole})


@forward("Split", attributes=SPLIT)
def split_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """Every output gets its part."""
    affine = only(affines)
    axis = split_axis(op, affine.rank)
    parts = cuts(affine, axis, lambda: split_sizes(op, axis), op.output_count)
    return Step(outputs=dict(enumerate(parts)))


# --------------------------------------------------------------- Slice and Gather


def picked(affine: Affine, axis: int, indices: Array, size: int) -> Affine:
    """The affine of the input whose elements at `indices` take this one, the rest the identity."""

    def spread(array: Array, fill: float) -> Array:
        shape = [*array.shape]
        room_for([*shape[:axis], size, *shape[axis + 1 :]], array)
        shape[axis] = len(indices)
        wide = np.broadcast_to(array, shape)
        shape[axis] = size
        result = np.full(shape, fill)
        np.moveaxis(result, axis, 0)[indices] = np.moveaxis(wide, axis, 0)
        return result

    return Affine(spread(affine.scale, 1.0), spread(affine.shift, 0.0))


Cut = tuple[int, int, int]
"""Start, end and step."""


def slices(op: Operator, rank: int) -> dict[int, Cut]:
    """What a Slice takes along each axis that it names. Raises Refusal."""
    if op.version < 10:
        starts, ends = op.attribute("starts"), op.attribute("ends")
        axes = op.attribute("axes") or range(len(starts))
        steps = [1] * len(starts)
    else:
        starts, ends = vector(op, 1), vector(op, 2)
        axes = vector(op, 3) if op.has_input(3) else range(len(starts))
        steps = list(vector(op, 4)) if op.has_input(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise Refusal(Reason.UNKNOWN_SHAPE, "the bounds of Slice do not fit together")
    cuts = {normal_axis(axis, rank): (start, end, step)
            for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)}  # fmt: skip
    if len(cuts) < len(axes):
        raise Refusal(Reason.UNKNOWN_SHAPE, "Slice names an axis twice")
    return cuts


def cut_indices(cut: Cut, size: int) -> Array:
    """The elements that a Slice takes of an axis. Raises Refusal where runtimes differ."""
    start, end, step = cut
    if is_ambiguous(end, step):
        raise Refusal(Reason.OPAQUE_OP, f"Slice counts down to {end}, which runtimes read apart")
    return np.arange(size)[list(taken(start, end, step, size))]


def sliced_axes(op: Operator, rank: int) -> set[int]:
    """The axes that a Slice may cut; all of them where it does not say."""
    if op.version < 10:
        return set(slices(op, rank))
    if op.has_input(3):
        return {normal_axis(axis, rank) for axis in vector(op, 3)}
    if op.has_input(1) and op.is_constant(1):
        return set(range(op.constant(1).size))
    return set(range(rank))


@forward("Slice", attributes="starts ends axes")
def slice_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """Cut alike."""
    affine = only(affines)
    for axis in sorted(sliced_axes(op, affine.rank) & affine.axes):
        size = max(affine.scale.shape[axis], affine.shift.shape[axis])
        affine = affine.taken(cut_indices(slices(op, affine.rank)[axis], size), axis)
    return Step(outputs={0: affine})


@backward("Slice", attributes="starts ends axes")
def slice_output(op: Operator, affine: Affine) -> list[Step]:
    """The whole input takes it where it is uniform, or only the part that is read does."""
    axes = sliced_axes(op, affine.rank)
    varied = axes & affine.axes
    steps = [spread_slice(op, affine, varied)]
    if varied != axes:
        with suppress(Refusal):
            steps.append(spread_slice(op, affine, axes))
    return steps


def spread_slice(op: Operator, affine: Affine, axes: set[int]) -> Step:
    """Along these axes the part that is read takes the affine; along the others all does."""
    for axis, cut in slices(op, affine.rank).items() if axes else ():
        if axis in axes:
            size = size_of(op.shape(0), axis, "the input of Slice")
            room_for([size], affine.scale, affine.shift)
            affine = picked(affine, axis, cut_indices(cut, size), size)
    return Step(inputs={0: affine})


def gather_axis(op: Operator) -> int:
    """Where a Gather picks."""
    return normal_axis(op.attribute("axis", 0), len(op.shape(0)))


@forward("Gather", attributes="axis")
def gather_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """Picked alike; run-time indices may pick anything, so then it must be uniform."""
    affine = only(affines)
    axis = gather_axis(op)
    rank = len(op.shape(1))
    if axis not in affine.axes:
        spots = (1,) * rank
        return Step(
            outputs={
                0: affine.moved(lambda a: a.reshape(a.shape[:axis] + spots + a.shape[axis + 1 :]))
            }
        )
    indices = op.constant(1).value()

    def pick(array: Array) -> Array:
        if array.shape[axis] == 1:
            return array.take(np.zeros(indices.shape, np.int64), axis)
        return array.take(indices, axis)

    return Step(outputs={0: affine.moved(pick)})


@backward("Gather", attributes="axis")
def gather(op: Operator, affine: Affine) -> list[Step]:
    """The whole table takes it where it is uniform over the picks, or the picked part does."""
    axis = gather_axis(op)
    rank = len(op.shape(1))
    spots = set(range(axis, axis + rank))
    steps: list[Step] = []
    if not spots & affine.axes:
        flat = affine.moved(lambda a: a.reshape((*a.shape[:axis], 1, *a.shape[axis + rank :])))
        steps.append(Step(inputs={0: flat}))
    if op.is_constant(1) and rank <= 1:
        size = op.shape(0)[axis]
        indices = op.constant(1).value().reshape(-1)
        if isinstance(size, int) and len(np.unique(indices % size)) == len(indices):
            one = affine if rank else affine.moved(lambda a: np.expand_dims(a, axis))
            steps.append(Step(inputs={0: picked(one, axis, indices % size, size)}))
    if not steps:
        raise Refusal(Reason.CHANNEL_LOST, "Gather picks with other channels than it is told here")
    return steps


# ---------------------------------------------------------------- Expand and Tile


@backward("Expand")
def expand(op: Operator, affine: Affine) -> Step:
    """Uniform along what is repeated."""
    return Step(inputs={0: lowered(affine, op.shape(0), "Expand")})


@forward("Expand")
def expand_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """New leading dimensions, and 1 where the input has 1."""
    return Step(outputs={0: lifted(only(affines), len(op.output_shape()))})


def repeats(op: Operator, rank: int) -> list[int | None]:
    """How often each axis is repeated, None where that is computed."""
    if op.version < 6:
        raise Refusal(Reason.OPAQUE_OP, "Tile as before opset 6")
    return list(vector(op, 1)) if op.is_constant(1) else [None] * rank


@backward("Tile")
def tile(op: Operator, affine: Affine) -> Step:
    """Uniform along what is repeated, or the same in every repetition."""
    counts = repeats(op, affine.rank)
    require_uniform(affine, [d for d, n in enumerate(counts) if n != 1], "Tile")
    return Step(inputs={0: affine})


@forward("Tile")
def tile_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """Repeated alike."""
    affine = only(affines)
    counts = repeats(op, affine.rank)
    require_uniform(affine, [d for d, n in enumerate(counts) if n is None], "Tile")

    def repeat(array: Array) -> Array:
        times = [(n or 0) if s > 1 else 1 for n, s in zip(counts, array.shape, strict=True)]
        room_for([*array.shape, *times], array)
        return np.tile(array, times)

    return Step(outputs={0: affine.moved(repeat)})


# --------------------------------------------------------------- DepthToSpace etc.


def blocks(channels: Array, size: int, mode: str) -> Array:
    """`(C,) -> (C * size ** 2,)`: the affine of each channel for all its sub-pixels."""
    count = size * size
    room_for([count, *channels.shape], channels)
    return np.tile(channels, count) if mode == "DCR" else np.repeat(channels, count)


def spread_channels(affine: Affine, size: int, mode: str) -> Affine:
    """The affine of the deep side from that of the wide side."""
    require_uniform(affine, (0, 2, 3), "a rearrangement of space")
    return affine.moved(
        lambda a: blocks(a.reshape(-1), size, mode).reshape(1, -1, 1, 1) if a.size > 1 else a
    )


def gathered_channels(affine: Affine, size: int, mode: str) -> Affine:
    """The affine of the wide side from that of the deep side, if all sub-pixels have the same."""
    require_uniform(affine, (0, 2, 3), "a rearrangement of space")

    def gather(array: Array) -> Array:
        if array.size == 1:
            return array
        flat = array.reshape(-1)
        kept = flat[: flat.size // size**2] if mode == "DCR" else flat[:: size**2]
        if not np.array_equal(blocks(kept, size, mode), flat):
            raise Refusal(
                Reason.CHANNEL_LOST, "the sub-pixels of a channel have different affines"
            )
        return kept.reshape(1, -1, 1, 1)

    return affine.moved(gather)


def depth_mode(op: Operator) -> str:
    """DCR or CRD."""
    return str(op.attribute("mode", "DCR"))


@backward("DepthToSpace", attributes="blocksize mode")
def depth_to_space(op: Operator, affine: Affine) -> Step:
    """Every sub-pixel of a channel takes its affine."""
    return Step(inputs={0: spread_channels(affine, op.attribute("blocksize"), depth_mode(op))})


@forward("DepthToSpace", attributes="blocksize mode")
def depth_to_space_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """Where all sub-pixels of a channel have the same."""
    whole = gathered_channels(only(affines), op.attribute("blocksize"), depth_mode(op))
    return Step(outputs={0: whole})


@backward("SpaceToDepth", attributes="blocksize")
def space_to_depth(op: Operator, affine: Affine) -> Step:
    """Where all sub-pixels of a channel have the same."""
    return Step(inputs={0: gathered_channels(affine, op.attribute("blocksize"), "DCR")})


@forward("SpaceToDepth", attributes="blocksize")
def space_to_depth_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """Every sub-pixel of a channel has its affine."""
    whole = spread_channels(only(affines), op.attribute("blocksize"), "DCR")
    return Step(outputs={0: whole})
