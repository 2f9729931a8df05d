"""Which shape has a value that onnx's inference gave up on? What the axes that matter allow.

Inference stops behind the first operator whose output it cannot tell whole. Here each operator
says what it knows: a rank, the channels, the dimensions that it does not touch. Integer tensors
that hold shapes are followed element by element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from bnfold.elements import Known, shape_at, window
from bnfold.equation import read_equation
from bnfold.graph import Dim, Graph, Node, Shape, Value

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators, of which onnx knows no shapes."""
MOST_DIMENSIONS = 1 << 12
"""No value has more: a vector of more numbers is no shape, whatever reads it as one."""


def extend_shapes(graph: Graph) -> None:
    """Fill in ranks and dimensions that are still unknown, in the order of the graph."""
    known = Known()
    for node in sorted(graph.nodes, key=lambda n: n.position):
        if not node.domain:
            known.follow(node)
        rule = SHAPES.get(node.op_type) if node.domain in ("", MICROSOFT) else None
        if rule is None or all(is_static(v) for v in node.outputs if v is not None):
            continue
        try:
            shapes = rule(node, known)
        except (ArithmeticError, LookupError, TypeError, ValueError, StopIteration):
            # An operator that contradicts its own inputs tells nothing.
            continue
        for value, shape in zip(node.outputs, shapes, strict=False):
            if value is not None and shape is not None:
                value.shape = merged(value.shape, shape)
                take_type(node, value)


def is_static(value: Value) -> bool:
    """Whether nothing is left to find out."""
    return value.shape is not None and all(isinstance(d, int) for d in value.shape)


def take_type(node: Node, value: Value) -> None:
    """The type of the first input, for the operators here that keep it."""
    first = next((v for v in node.inputs if v is not None), None)
    if not value.elem_type and first is not None and node.op_type in KEEP_TYPE:
        value.elem_type = first.elem_type


def merged(old: Shape | None, new: Shape) -> Shape:
    """What both know."""
    if old is None or len(old) != len(new):
        return new if old is None else old
    return tuple(
        a if isinstance(a, int) or (a is not None and not isinstance(b, int)) else b
        for a, b in zip(old, new, strict=True)
    )


# ------------------------------------------------------------------------- shapes


Shapes = Sequence[Shape | None]


def same(node: Node, _: Known) -> Shapes:
    """That of the first input."""
    return [shape_at(node, 0)]


def normalized(node: Node, _: Known) -> Shapes:
    """That of the first input, with as many channels as there are scales."""
    shape, scales = shape_at(node, 0), shape_at(node, 1)
    by_element = node.version < 9 and not node.attributes.get("spatial", 1)
    if shape is None or len(shape) < 2 or by_element or scales is None or len(scales) != 1:
        return [shape]
    return [merged(shape, (shape[0], scales[0], *shape[2:]))]


def broadcast(node: Node, _: Known) -> Shapes:
    """The joint shape of all inputs."""
    shapes = [shape_at(node, i) for i in range(len(node.inputs))]
    if not shapes or any(shape is None for shape in shapes):
        return [None]
    rank = max(len(shape) for shape in shapes if shape is not None)
    full = [(1,) * (rank - len(s)) + s for s in shapes if s is not None]
    return [tuple(joint(dims) for dims in zip(*full, strict=True))]


def joint(dims: Sequence[Dim]) -> Dim:
    """One dimension of a broadcast: a number above 1 wins, equal symbols stay."""
    numbers = [d for d in dims if isinstance(d, int) and d != 1]
    if numbers:
        return numbers[0]
    rest = {d for d in dims if d != 1}
    return rest.pop() if len(rest) == 1 else None if rest else 1


def pooled(node: Node, _: Known) -> Shapes:
    """Batch and channels stay."""
    shape = shape_at(node, 0)
    if shape is None:
        return [None]
    end: Dim = 1 if node.op_type.startswith("Global") else None
    return [shape[:2] + (end,) * (len(shape) - 2)] * len(node.outputs)


def convolved(node: Node, _: Known) -> Shapes:
    """The weight tells rank and channels."""
    weight, data = shape_at(node, 1), shape_at(node, 0)
    if weight is None:
        return [None if data is None else (data[0],) + (None,) * (len(data) - 1)]
    if node.op_type == "ConvTranspose":
        group = node.attributes.get("group", 1)
        channels: Dim = weight[1] * group if isinstance(weight[1], int) else None
    else:
        channels = weight[0]
    batch = data[0] if data else None
    spatial = same_size(node, data) if data else None
    return [(batch, channels, *(spatial or (None,) * (len(weight) - 2)))]


def same_size(node: Node, data: Shape) -> Shape | None:
    """The spatial dimensions of a convolution that keeps them."""
    weight = shape_at(node, 1) or ()
    if node.op_type != "Conv" or len(data) != len(weight):
        return None
    rank = len(weight) - 2
    strides = node.attributes.get("strides") or [1] * rank
    dilations = node.attributes.get("dilations") or [1] * rank
    pads = node.attributes.get("pads") or [0] * (2 * rank)
    keeps = node.attributes.get("auto_pad", "NOTSET") == "NOTSET"
    for axis in range(rank):
        kernel = weight[axis + 2]
        total = pads[axis] + pads[axis + rank]
        keeps = keeps and strides[axis] == 1 and isinstance(kernel, int)
        keeps = keeps and total == (int(kernel or 0) - 1) * dilations[axis]
    return data[2:] if keeps else None


def joined(node: Node, _: Known) -> Shapes:
    """Concat: other axes from whoever knows them, the joined one if all do."""
    shapes = [shape_at(node, i) for i in range(len(node.inputs))]
    some = next((s for s in shapes if s is not None), None)
    if some is None:
        return [None]
    for shape in shapes:
        if shape is not None and len(shape) == len(some):
            some = merged(some, shape)
    axis = node.attributes.get("axis", 1) % len(some)
    sizes = [shape[axis] if shape is not None else None for shape in shapes]
    total: Dim = None
    if all(isinstance(size, int) for size in sizes):
        total = sum(size for size in sizes if isinstance(size, int))
    return [(*some[:axis], total, *some[axis + 1 :])]


def transposed(node: Node, _: Known) -> Shapes:
    """Permuted."""
    shape = shape_at(node, 0)
    if shape is None:
        return [None]
    order = node.attributes.get("perm") or list(range(len(shape)))[::-1]
    return [tuple(shape[axis] for axis in order)]


def untold(vector: Shape | None) -> Shape | None:
    """As many unknown dimensions as a vector of this shape holds; None where that is not told."""
    count = vector[0] if vector else None
    return (None,) * count if isinstance(count, int) and count <= MOST_DIMENSIONS else None


def reshaped(node: Node, known: Known) -> Shapes:
    """As many dimensions as the shape has elements; the elements where they are known."""
    wanted: Sequence[Any] | None = node.attributes.get("shape")
    if wanted is None:
        wanted = known.of(node.inputs[1])
    source = shape_at(node, 0)
    if wanted is None:
        return [untold(shape_at(node, 1))]
    zero = not node.attributes.get("allowzero", 0)
    shape: list[Dim] = [
        (source[i] if source is not None and i < len(source) else None)
        if d == 0 and zero
        else None
        if d == -1
        else d
        for i, d in enumerate(wanted)
    ]
    sizes = [d for d in source or () if isinstance(d, int)]
    rest = math.prod(d for d in shape if isinstance(d, int))
    unknown = [axis for axis, d in enumerate(shape) if not isinstance(d, int)]
    if source is not None and len(sizes) == len(source) and len(unknown) == 1 and rest:
        shape[unknown[0]] = math.prod(sizes) // rest
    return [tuple(shape)]


def flattened(node: Node, _: Known) -> Shapes:
    """Two dimensions."""
    shape = shape_at(node, 0)
    if shape is None:
        return [(None, None)]
    axis = node.attributes.get("axis", 1)
    parts = (shape[:axis], shape[axis:])
    return [tuple(total(part) for part in parts)]


def total(dims: Shape) -> Dim:
    """The product of dimensions, if all are known; a single symbol is its own."""
    sizes = [d for d in dims if isinstance(d, int)]
    if len(sizes) == len(dims):
        return math.prod(sizes)
    return dims[0] if len(dims) == 1 else None


def axes_of(node: Node, known: Known, index: int = 1) -> Sequence[int] | None:
    """Axes from an attribute, or from an input."""
    axes = node.attributes.get("axes")
    if axes is None and len(node.inputs) > index:
        axes = known.of(node.inputs[index])
    if axes is None or None in axes:
        return None
    return [int(axis) for axis in axes]


def squeezed(node: Node, known: Known) -> Shapes:
    """Without the named axes, or without all of size 1."""
    shape, axes = shape_at(node, 0), axes_of(node, known)
    if shape is None:
        return [None]
    if axes is None:
        return [
            tuple(d for d in shape if d != 1) if all(isinstance(d, int) for d in shape) else None
        ]
    gone = {axis % len(shape) for axis in axes}
    return [tuple(d for axis, d in enumerate(shape) if axis not in gone)]


def unsqueezed(node: Node, known: Known) -> Shapes:
    """With axes of size 1 at the named places."""
    shape, axes = shape_at(node, 0), axes_of(node, known)
    if shape is None or axes is None:
        return [None]
    rank = len(shape) + len(axes)
    places, rest = {axis % rank for axis in axes}, iter(shape)
    if len(places) < len(axes):  # an axis that is named twice
        return [None]
    return [tuple(1 if axis in places else next(rest) for axis in range(rank))]


def reduced(node: Node, known: Known) -> Shapes:
    """Without the reduced axes, or with 1 there."""
    shape, axes = shape_at(node, 0), axes_of(node, known)
    if shape is None:
        return [None]
    keep = node.attributes.get("keepdims", 1)
    if axes is None:
        return [(None,) * len(shape) if keep else None]
    gone = {axis % len(shape) for axis in axes} or set(range(len(shape)))
    if keep:
        return [tuple(1 if axis in gone else d for axis, d in enumerate(shape))]
    return [tuple(d for axis, d in enumerate(shape) if axis not in gone)]


def sliced(node: Node, known: Known) -> Shapes:
    """The axes that are not cut stay; those that are, where the cut is known."""
    shape = shape_at(node, 0)
    if shape is None:
        return [None]
    if "starts" in node.attributes:
        starts, ends = node.attributes["starts"], node.attributes["ends"]
        axes = node.attributes.get("axes") or range(len(starts))
        steps = None
    else:
        starts, ends = known.of(node.inputs[1]), known.of(node.inputs[2])
        axes = known.of(node.inputs[3]) if len(node.inputs) > 3 else range(len(starts or ()))
        steps = known.of(node.inputs[4]) if len(node.inputs) > 4 else None
    if axes is None or None in axes:
        return [(None,) * len(shape)]
    result = list(shape)
    for place, axis in enumerate(axes):
        start, end = (v[place] if v is not None else None for v in (starts, ends))
        size = shape[axis]
        result[axis] = None
        if isinstance(size, int):
            cut = window(start, end, 1 if steps is None else steps[place], size)
            result[axis] = None if cut is None else len(cut)
    return [tuple(result)]


def padded(node: Node, known: Known) -> Shapes:
    """The axes that are not padded stay."""
    shape = shape_at(node, 0)
    if shape is None:
        return [None]
    pads = node.attributes.get("pads") or (
        known.of(node.inputs[1]) if len(node.inputs) > 1 else None
    )
    rank = len(shape)
    if pads is None or len(pads) != 2 * rank:
        return [(None,) * rank]
    return [
        tuple(
            d + a + b
            if isinstance(d, int) and isinstance(a, int) and isinstance(b, int)
            else d
            if (a, b) == (0, 0)
            else None
            for d, a, b in zip(shape, pads[:rank], pads[rank:], strict=True)
        )
    ]


def gathered(node: Node, _: Known) -> Shapes:
    """The axis becomes the dimensions of the indices."""
    shape, indices = shape_at(node, 0), shape_at(node, 1)
    if shape is None or indices is None:
        return [None]
    axis = node.attributes.get("axis", 0) % len(shape)
    return [(*shape[:axis], *indices, *shape[axis + 1 :])]


def multiplied(node: Node, _: Known) -> Shapes:
    """Batch dimensions broadcast, rows of the first, columns of the second."""
    first, second = shape_at(node, 0), shape_at(node, 1)
    if first is None or second is None or len(first) < 2 or len(second) < 2:
        return [None]
    rank = max(len(first), len(second)) - 2
    lead = [(1,) * (rank - len(s) + 2) + s[:-2] for s in (first, second)]
    batch = tuple(joint(pair) for pair in zip(*lead, strict=True))
    rows = first[-1 if node.attributes.get("transA") else -2]
    columns = second[-2 if node.attributes.get("transB") else -1]
    return [(*batch, rows, columns)]


def gemm(node: Node, _: Known) -> Shapes:
    """Two dimensions."""
    first, second = shape_at(node, 0), shape_at(node, 1)
    rows = first[1 if node.attributes.get("transA") else 0] if first else None
    columns = second[0 if node.attributes.get("transB") else 1] if second else None
    return [(rows, columns)]


def labelled(node: Node, _: Known) -> Shapes:
    """Einsum: a label has one size wherever it stands."""
    read = read_equation(node.attributes["equation"])
    if read is None:
        return [None]
    operands, result = read
    sizes: dict[str, list[Dim]] = {label: [] for label in result}
    for index, term in enumerate(operands):
        shape = shape_at(node, index)
        for label, size in zip(term, shape or (None,) * len(term), strict=True):
            sizes.setdefault(label, []).append(size)
    return [tuple(joint(sizes[label]) for label in result)]


def split(node: Node, known: Known) -> Shapes:
    """Other axes stay; the parts where they are named, or equal."""
    shape = shape_at(node, 0)
    if shape is None:
        return [None]
    axis = node.attributes.get("axis", 0) % len(shape)
    sizes: Sequence[Dim] | None = node.attributes.get("split")
    if sizes is None and len(node.inputs) > 1:
        sizes = known.of(node.inputs[1])
    count, whole = len(node.outputs), shape[axis]
    if sizes is None:
        even = isinstance(whole, int) and whole % count == 0
        sizes = [whole // count if even else None] * count
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


def resized(node: Node, known: Known) -> Shapes:
    """The axes of scale 1 stay, sizes where they are known."""
    shape = shape_at(node, 0)
    if shape is None:
        return [None]
    scales = node.attributes.get("scales")
    for value in node.inputs[1:]:
        constant = value.constant if value is not None else None
        if scales is None and constant is not None and constant.dtype.kind == "f":
            scales = constant.value().reshape(-1) if constant.size == len(shape) else None
    if scales is not None:
        return [tuple(d if s == 1 else None for d, s in zip(shape, scales, strict=True))]
    sizes = known.of(node.inputs[3]) if len(node.inputs) > 3 else None
    fits = sizes is not None and len(sizes) == len(shape)
    return [sizes if fits else (None,) * len(shape)]


def expanded(node: Node, known: Known) -> Shapes:
    """The joint shape of the input and of the one that is asked for."""
    shape, wanted = shape_at(node, 0), known.of(node.inputs[1])
    if wanted is None:
        wanted = untold(shape_at(node, 1))
    if shape is None or wanted is None:
        return [None]
    rank = max(len(shape), len(wanted))
    full = [(1,) * (rank - len(s)) + tuple(s) for s in (shape, wanted)]
    return [tuple(joint(pair) for pair in zip(*full, strict=True))]


def tiled(node: Node, known: Known) -> Shapes:
    """The axes that are repeated once stay."""
    shape, counts = shape_at(node, 0), known.of(node.inputs[1])
    if shape is None:
        return [None]
    counts = counts or (None,) * len(shape)
    return [
        tuple(
            d * n if isinstance(d, int) and isinstance(n, int) else d if n == 1 else None
            for d, n in zip(shape, counts, strict=True)
        )
    ]


def rearranged(node: Node, _: Known) -> Shapes:
    """DepthToSpace and SpaceToDepth, of four dimensions."""
    shape, size = shape_at(node, 0), int(node.attributes.get("blocksize", 1))
    if shape is None:
        return [(None,) * 4]
    deeper = node.op_type == "SpaceToDepth"
    channels = shape[1]
    if isinstance(channels, int):
        channels = channels * size * size if deeper else channels // (size * size)
    return [(shape[0], channels, None, None)]


def recurrent(_: Node, __: Known) -> Shapes:
    """(sequence, directions, batch, hidden), and the last states."""
    return [(None,) * 4, (None,) * 3, (None,) * 3]


SAME = (
    "Abs Cast CastLike Ceil Celu Clip Cos CumSum DequantizeLinear Dropout Elu "
    "Erf Exp Floor Gelu GroupNormalization HardSigmoid HardSwish Hardmax Identity "
    "InstanceNormalization LRN LayerNormalization LeakyRelu Log LogSoftmax LpNormalization "
    "MeanVarianceNormalization Mish Neg Not PRelu QuantizeLinear Reciprocal Relu Round Selu "
    "Shrink Sigmoid Sign Sin Softmax Softplus Softsign Sqrt Tanh ThresholdedRelu Trilu"
).split()
BROADCAST = (
    "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow Sub "
    "Sum Where Xor"
).split()
REDUCE = [f"Reduce{kind}" for kind in ("L1", "L2", "Max", "Mean", "Min", "Prod", "Sum")]
POOLS = "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool".split()

SHAPES: dict[str, Callable[[Node, Known], Shapes]] = {
    **dict.fromkeys(SAME, same),
    **dict.fromkeys(BROADCAST, broadcast),
    **dict.fromkeys([*REDUCE, "ReduceSumSquare", "ReduceLogSumExp"], reduced),
    **dict.fromkeys(POOLS, pooled),
    **dict.fromkeys(["Conv", "ConvTranspose", "FusedConv"], convolved),
    **dict.fromkeys(["Resize", "Upsample"], resized),
    **dict.fromkeys(["DepthToSpace", "SpaceToDepth"], rearranged),
    **dict.fromkeys(["LSTM", "GRU", "RNN"], recurrent),
    "BatchNormalization": normalized,
    "Concat": joined,
    "Einsum": labelled,
    "Expand": expanded,
    "Flatten": flattened,
    "Gather": gathered,
    **dict.fromkeys(["Gemm", "FusedGemm"], gemm),
    **dict.fromkeys(["MatMul", "FusedMatMul"], multiplied),
    "Pad": padded,
    "Reshape": reshaped,
    "Slice": sliced,
    "Split": split,
    "Squeeze": squeezed,
    "Tile": tiled,
    "Transpose": transposed,
    "Unsqueeze": unsqueezed,
}
"""What each operator knows of the shapes of its outputs."""

KEEP_TYPE = frozenset(SHAPES) - set(
    "Cast CastLike DequantizeLinear QuantizeLinear Where And Equal Greater GreaterOrEqual Less "
    "LessOrEqual Not Or Xor".split()
)
"""Operators whose first output has the type of the first input."""
