"""Which operators are linear in one value, and what are they as a convolution of it?

First the structure, by names and flags alone; numbers are read only where a merge is in sight.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfold.affine import Affine
from bnfold.branches import kernels
from bnfold.branches.cost import Scale
from bnfold.branches.linear import Geometry, Linear
from bnfold.branches.windows import Size, Window, window
from bnfold.constants import FLOATS, Constant
from bnfold.graph import Node, Value
from bnfold.plan import Draft
from bnfold.reasons import Reason, Refusal
from bnfold.search import read_source, require_consistent

CHAIN = 8
"""How many operators in a row one branch may have."""

CONSTANT_OPERAND = frozenset({"Add", "Div", "Mul", "Sub"})
POOL = "AveragePool"
AFFINE = CONSTANT_OPERAND | {"BatchNormalization", "Neg"}


def is_exclusive(value: Value) -> bool:
    """Whether exactly one input of one node of the same graph sees the value."""
    if value.producer is None or value.is_output or len(value.uses) != 1:
        return False
    reader, _ = next(iter(value.uses))
    return reader.scope is value.scope


@dataclass(frozen=True, slots=True)
class Chain:
    """What stands between a value and its base: affines and linear operators, the last first."""

    base: Value
    nodes: tuple[Node, ...]

    @property
    def linear(self) -> Node | None:
        """The linear operator that stands last."""
        return next((node for node in self.nodes if node.op_type in LINEAR), None)


def chain(value: Value, keep: Collection[str]) -> Chain:
    """Walk up from a value as long as nobody else sees what is between."""
    nodes: list[Node] = []
    while is_exclusive(value) and len(nodes) < CHAIN:
        node = value.producer
        assert node is not None
        index = data_index(node)
        if index is None or node.name in keep or any(o and o.uses for o in node.outputs[1:]):
            break
        nodes.append(node)
        data = node.inputs[index]
        assert data is not None
        value = data
    return Chain(value, tuple(nodes))


def pair(last: Node, keep: Collection[str]) -> Chain | None:
    """A weighty operator with the one before it and the affines between; None where none is."""
    index = data_index(last)
    data = None if index is None else last.inputs[index]
    if data is None or last.op_type == POOL:
        return None
    before = chain(data, keep).nodes
    count = next((i + 1 for i, node in enumerate(before) if is_linear(node)), 0)
    if not count or before[count - 1].op_type == POOL:
        return None
    first = before[count - 1]
    base = first.inputs[data_index(first) or 0]
    return None if base is None else Chain(base, (last, *before[:count]))


def data_index(node: Node) -> int | None:
    """Which input the node is linear in, if all others are constants."""
    if node.domain or (node.op_type not in AFFINE and node.op_type not in LINEAR):
        return None
    runtime = [i for i, v in enumerate(node.inputs) if v is not None and not v.is_constant]
    if len(runtime) != 1:
        return None
    return runtime[0] if node.op_type in CONSTANT_OPERAND or not runtime[0] else None


def is_linear(node: Node) -> bool:
    """Whether the node is of the operators that are linear with constant weights."""
    return not node.domain and node.op_type in LINEAR


def is_affine(node: Node) -> bool:
    """Whether the node looks like an affine by constants."""
    return not node.domain and node.op_type in AFFINE


# ------------------------------------------------------------------------ family


@dataclass(frozen=True, slots=True)
class Family:
    """What all branches of one merge share: the operator, and what is known of the base."""

    op_type: str
    rank: int
    channels: int
    sizes: tuple[Size, ...]
    dtype: np.dtype[Any]

    @property
    def axis(self) -> int:
        """The axis of the channels."""
        return 1 if self.op_type == "Conv" else self.rank - 1

    def scale(self, result: Value) -> Scale:
        """What costs depend on, for a result of this value's shape."""
        positions, shape = 1, result.shape
        if shape is None or len(shape) != self.rank:
            return Scale(self.dtype.itemsize)
        first = 2 if self.op_type == "Conv" else 1
        for size in shape[first : None if self.op_type == "Conv" else -1]:
            positions *= size if isinstance(size, int) else 0
        return Scale(self.dtype.itemsize, positions)


def family_of(chain: Chain) -> Family:
    """The family of a branch that has a linear operator. Raises Refusal."""
    node, base = chain.linear, chain.base
    assert node is not None
    for one in chain.nodes:
        require_consistent(one)
    first = next(n for n in reversed(chain.nodes) if n.op_type in LINEAR)
    if first.op_type in ("MatMul", "Gemm"):
        return product_family(Draft(first), base)
    op = Draft(first)
    rank = len(op.shape(1)) if first.op_type == "Conv" else len(op.shape(0))
    sizes: tuple[Size, ...] = base.shape[2:] if base.rank == rank else (None,) * (rank - 2)  # type: ignore[index]
    dtype = weight_of(op).dtype if first.op_type == "Conv" else FLOATS.get(base.elem_type)
    channels = (
        weight_of(op).shape[1] * int(op.attribute("group", 1))
        if first.op_type == "Conv"
        else op.shape(0)[1]
    )
    if dtype is None or not isinstance(channels, int) or rank < 3:
        raise Refusal(Reason.UNKNOWN_SHAPE, "the type or the channels are not known")
    return Family("Conv", rank, channels, sizes, dtype)


def product_family(op: Draft, base: Value) -> Family:
    """The family of a matrix product. Raises Refusal."""
    weight = weight_of(op)
    if weight.rank != 2 or base.rank is None or base.rank < 2:
        raise Refusal(Reason.UNKNOWN_SHAPE, "a product that is no plain matrix")
    channels = weight.shape[1 if op.attribute("transB", 0) else 0]
    return Family("MatMul", base.rank, channels, (), weight.dtype)


def weight_of(op: Draft) -> Constant:
    """The weight. Raises Refusal."""
    weight = op.constant(1)
    if weight.is_quantized:
        raise Refusal(Reason.QUANTIZED, "the weight is quantized")
    return weight


# ----------------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A chain as one operator over its base, and what it costs as it stands."""

    chain: Chain
    linear: Linear
    cost: float
    operations: int
    """Multiply-adds of its operators for one position of the result."""


def read_branch(chain: Chain, family: Family, scale: Scale) -> Branch:
    """What the chain computes. Raises Refusal where it is not of the family."""
    linear = Linear.identity(family.channels, len(family.sizes))
    cost, operations = 0.0, 0
    for node in reversed(chain.nodes):
        require_consistent(node)
        if node.op_type in LINEAR:
            op = LINEAR[node.op_type](Draft(node), linear.geometry.outputs, family)
            step = op.geometry.step
            cost, operations = cost * step, operations * step
            cost += scale.operator(op.geometry)
            operations += op.geometry.multiplications
            linear = op.after(linear)
            continue
        linear = behind(linear, source_of(node), family)
        if chain.linear is None:
            # One behind a linear operator would be folded anyway; it costs nothing to keep.
            cost += scale.affine(family.channels)
            operations += family.channels
    return Branch(chain, linear, cost, operations)


def source_of(node: Node) -> Affine:
    """The affine that a node is. Raises Refusal."""
    source = read_source(node)
    if source is None:
        raise Refusal(Reason.OPAQUE_OP, f"{node.op_type} is no affine of its input")
    return source.affine


def behind(linear: Linear, affine: Affine, family: Family) -> Linear:
    """An affine after an operator, if it is one by channel. Raises Refusal."""
    if affine.rank != family.rank or affine.axes - {family.axis}:
        raise Refusal(Reason.WRONG_AXIS, "the affine is not one by channel")
    scale, shift = affine.scale.reshape(-1), affine.shift.reshape(-1)
    if any(v.size not in (1, linear.geometry.outputs) for v in (scale, shift)):
        raise Refusal(Reason.WRONG_AXIS, "the affine is not one by channel")
    return linear.then(scale, shift)


def require_family(family: Family, op_type: str, dtype: np.dtype[Any] | None = None) -> None:
    """Refuse an operator of another family, or a weight of another type."""
    if family.op_type != op_type:
        raise Refusal(Reason.CONFLICT, "products and convolutions do not merge")
    if dtype is not None and dtype != family.dtype:
        raise Refusal(Reason.UNSUPPORTED_DTYPE, f"weights of type {dtype} and {family.dtype}")


def bias_of(op: Draft, outputs: int) -> Any:
    """The bias as a vector, zero where there is none. Raises Refusal."""
    if not op.has_input(2):
        return np.zeros(outputs)
    bias = op.constant(2)
    if bias.is_quantized:
        raise Refusal(Reason.QUANTIZED, "the bias is quantized")
    exact = bias.exact()
    if exact.size not in (1, outputs) or exact.size != (exact.shape[-1] if exact.ndim else 1):
        raise Refusal(Reason.GEMM_BIAS, "the bias is not one by channel")
    return np.broadcast_to(exact.reshape(-1), outputs)


def windows_of(op: Draft, shape: tuple[int, ...]) -> tuple[Window, ...]:
    """One window for each spatial axis. Raises Refusal."""
    spatial = len(shape)
    known = op.node.inputs[0]
    sizes = known.shape[2:] if known is not None and known.rank == spatial + 2 else None  # type: ignore[index]
    pads = list(op.attribute("pads", ())) or [0] * (2 * spatial)
    strides = list(op.attribute("strides", ())) or [1] * spatial
    dilations = list(op.attribute("dilations", ())) or [1] * spatial
    if (len(pads), len(strides), len(dilations)) != (2 * spatial, spatial, spatial):
        raise Refusal(Reason.OPAQUE_OP, "attributes of another rank")
    mode = op.attribute("auto_pad", "NOTSET")
    return tuple(
        window(
            shape[axis],
            dilations[axis],
            strides[axis],
            (pads[axis], pads[axis + spatial]),
            mode,
            sizes[axis] if sizes is not None else None,
        )
        for axis in range(spatial)
    )


def conv(op: Draft, _: int, family: Family) -> Linear:
    """Conv."""
    weight, group = weight_of(op), int(op.attribute("group", 1))
    require_known(op)
    require_family(family, "Conv", weight.dtype)
    outputs, fan_in, *shape = weight.shape
    if (
        weight.rank != family.rank
        or outputs % group
        or op.attribute("kernel_shape", shape) != shape
    ):
        raise Refusal(Reason.OPAQUE_OP, "a weight of another shape")
    geometry = Geometry(fan_in * group, outputs, group, windows_of(op, tuple(shape)))
    return Linear(geometry, weight.exact, bias_of(op, outputs))


def average_pool(op: Draft, channels: int, family: Family) -> Linear:
    """AveragePool whose padding is counted, or is none: a mean by constants."""
    require_known(op)
    require_family(family, "Conv")
    shape = tuple(op.attribute("kernel_shape"))
    counted = op.version >= 7 and op.attribute("count_include_pad", 0)
    is_padded = any(op.attribute("pads", ())) and op.attribute("auto_pad", "NOTSET") == "NOTSET"
    if op.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or op.attribute(
        "ceil_mode", 0
    ):
        raise Refusal(Reason.PADDED_SHIFT, "the pool's windows may be cut short")
    if is_padded and not counted:
        raise Refusal(Reason.PADDED_SHIFT, "the pool averages fewer elements at the border")
    if len(shape) != len(family.sizes):
        raise Refusal(Reason.OPAQUE_OP, "a window of another rank")
    geometry = Geometry(channels, channels, channels, windows_of(op, shape))
    return Linear(geometry, lambda: kernels.averaging(channels, shape), np.zeros(channels))


def product(op: Draft, _: int, family: Family) -> Linear:
    """MatMul and Gemm: `alpha * x B + beta * C`."""
    weight = weight_of(op)
    require_known(op)
    require_family(family, "MatMul", weight.dtype)
    if weight.rank != 2 or op.attribute("transA", 0):
        raise Refusal(Reason.OPAQUE_OP, "a product that is no plain matrix")
    is_gemm = op.op_type == "Gemm"
    alpha, beta = (float(op.attribute(n, 1.0)) if is_gemm else 1.0 for n in ("alpha", "beta"))
    is_transposed = bool(op.attribute("transB", 0))
    outputs, channels = weight.shape if is_transposed else weight.shape[::-1]
    bias = beta * bias_of(op, outputs) if is_gemm else np.zeros(outputs)

    def evaluate() -> Any:
        exact = weight.exact() if is_transposed else weight.exact().T
        return exact if alpha == 1 else alpha * exact

    return Linear(Geometry(channels, outputs, 1, ()), evaluate, bias)


def require_known(op: Draft) -> None:
    """Refuse an operator with an attribute that nobody has read."""
    _ = op.key


LINEAR: dict[str, Callable[[Draft, int, Family], Linear]] = {
    POOL: average_pool,
    "Conv": conv,
    "Gemm": product,
    "MatMul": product,
}
"""Operators that are linear, and how each is read."""
