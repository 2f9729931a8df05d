"""What is a model worth over the rational numbers? An interpreter without any rounding.

Floating-point tensors are object arrays of `Fraction`, all others stay integers or booleans. So
`==` between two models means that they are the same function at that point, not nearly so.
It is written from the operators' specification and shares no code with bnfold.

Roots are rational or an error, with one exception: what a normalization or a gate does with the
data is irrational, and no rule looks into it. There any function proves as much as the true one,
so `Functions` gives rational stand-ins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import product
from math import ceil, exp, floor, isqrt, sqrt, tanh
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Attributes = dict[str, Any]

FLOATS = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
)
"""Element types whose values become fractions."""

DEFAULT_OPSET = 18


@dataclass(frozen=True, slots=True)
class Functions:
    """The irrational functions, as any functions: the same ones in both models."""

    sigmoid: Callable[[Fraction], Fraction] = lambda x: 1 / (1 + (x - 1) ** 2)
    tanh: Callable[[Fraction], Fraction] = lambda x: x / (1 + abs(x))
    inverse_root: Callable[[Fraction], Fraction] = lambda v: 1 / (2 + v)
    exponential: Callable[[Fraction], Fraction] = lambda x: 1 + (x - 1) ** 2


STAND_INS = Functions()
TRUE = Functions(
    sigmoid=lambda x: Fraction(1 / (1 + exp(-x))) if x > -700 else Fraction(0),
    tanh=lambda x: Fraction(tanh(x)),
    inverse_root=lambda v: Fraction(1 / sqrt(v)),
    exponential=lambda x: Fraction(exp(x)),
)
"""The irrational functions themselves, to the precision of a float64."""


def fractions(array: Array, number: Callable[[float], Any] = Fraction) -> Array:
    """The same numbers as fractions; integers and booleans stay as they are."""
    if array.dtype == object or array.dtype.kind in "iub":
        return array
    flat = [number(v) for v in array.astype(np.float64).reshape(-1).tolist()]
    return filled(flat, array.shape)


def filled(values: Iterable[Any], shape: Sequence[int]) -> Array:
    """An object array of this shape, element by element."""
    result = np.empty(int(np.prod(shape, dtype=np.int64)), object)
    for place, value in enumerate(values):
        result[place] = value
    return result.reshape(shape)


def zeros(shape: Sequence[int]) -> Array:
    """An object array of zeros."""
    return np.full(tuple(shape), Fraction(0), object)


def each(function: Callable[..., Any]) -> Callable[..., Array]:
    """A function of numbers as one of arrays that broadcast; the result is always an array."""
    universal = np.frompyfunc(function, function.__code__.co_argcount, 1)
    return lambda *arrays: np.asarray(universal(*arrays), object)


class Irrational(ValueError):
    """These numbers have a result that is no rational one."""


def root(value: Any) -> Any:
    """The rational square root. Raises Irrational where there is none."""
    if isinstance(value, float):
        return sqrt(value)
    top, bottom = isqrt(value.numerator), isqrt(value.denominator)
    if Fraction(top, bottom) ** 2 != value:
        raise Irrational(f"{value} has no rational root: choose other numbers")
    return Fraction(top, bottom)


roots = np.frompyfunc(root, 1, 1)


# ----------------------------------------------------------------------- the walk


def evaluate(
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    functions: Functions = STAND_INS,
    number: Callable[[float], Any] = Fraction,
) -> dict[str, Array]:
    """Every tensor of the main graph by name. Raises KeyError for an operator it does not know.

    With `number=float` it is an evaluation in float64.
    """
    opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}
    values: dict[str, Array] = {
        tensor.name: fractions(numpy_helper.to_array(tensor), number)
        for tensor in model.graph.initializer
    }
    values |= {name: fractions(array, number) for name, array in feeds.items()}
    for node in model.graph.node:
        inputs = [values[name] if name else None for name in node.input]
        attributes = {a.name: attribute(a) for a in node.attribute}
        call = Call(node.op_type, attributes, opsets.get("", DEFAULT_OPSET), node, functions)
        result = OPERATORS[node.op_type](call, *inputs)
        results = result if isinstance(result, list | tuple) else (result,)
        for name, value in zip(node.output, results, strict=False):
            if name:
                values[name] = value if isinstance(value, list) else np.asarray(value)
    return values


def attribute(proto: onnx.AttributeProto) -> Any:
    """An attribute's value; numbers as fractions, text as str."""
    value = helper.get_attribute_value(proto)
    if proto.type == onnx.AttributeProto.FLOAT:
        return Fraction(float(np.float32(value)))
    if proto.type == onnx.AttributeProto.FLOATS:
        return [Fraction(float(np.float32(v))) for v in value]
    if proto.type == onnx.AttributeProto.STRING:
        return value.decode()
    if proto.type == onnx.AttributeProto.STRINGS:
        return [v.decode() for v in value]
    return value


@dataclass(frozen=True, slots=True)
class Call:
    """A node as its operator sees it."""

    op_type: str
    attributes: Attributes
    opset: int
    node: onnx.NodeProto
    functions: Functions

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default."""
        return self.attributes.get(name, default)

    def integers(self, name: str, given: Array | None) -> list[int] | None:
        """What newer opsets take as an input and older ones as an attribute."""
        if given is not None:
            return [int(v) for v in given.reshape(-1)]
        value = self.get(name)
        return None if value is None else list(value)


OPERATORS: dict[str, Callable[..., Any]] = {}


def operator(names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function for each of these operators."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        OPERATORS.update(dict.fromkeys(names.split(), function))
        return function

    return enter


# ---------------------------------------------------------- constants and elements


@operator("Constant")
def constant(call: Call) -> Array:
    for name in ("value_float", "value_floats", "value_int", "value_ints"):
        if (value := call.get(name)) is not None:
            return np.array(value, object if "float" in name else np.int64)
    return fractions(numpy_helper.to_array(call.attributes["value"]))


@operator("Identity Dropout")
def identity(call: Call, x: Array, *_: Array) -> Array:
    return x


@operator("Cast CastLike")
def cast(call: Call, x: Array, *_: Array) -> Array:
    """Between float types nothing happens: over the rationals there is one type."""
    if x.dtype != object:
        return fractions(x.astype(np.float64))
    return x


@operator("Shape")
def shape(call: Call, x: Array) -> Array:
    return np.array(x.shape[call.get("start", 0) : call.get("end")], np.int64)


@operator("Size")
def size(call: Call, x: Array) -> Array:
    return np.array(x.size, np.int64)


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b,
    "Neg": lambda a: -a,
    "Abs": lambda a: abs(a),
    "Relu": lambda a: max(a, Fraction(0)),
    "Sqrt": lambda a: root(a),
    "Reciprocal": lambda a: 1 / a,
    "PRelu": lambda a, slope: a if a >= 0 else slope * a,
}


def elementwise(call: Call, *operands: Array) -> Array:
    """The operators of one or two values that broadcast."""
    if len(operands) == 2 and call.opset < 7 and call.get("broadcast"):
        first, second = operands
        axis = call.get("axis", first.ndim - second.ndim)
        tail = (1,) * (first.ndim - axis - second.ndim)
        operands = (first, second.reshape(second.shape + tail))
    return each(ELEMENTWISE[call.op_type])(*operands)


OPERATORS.update(dict.fromkeys(ELEMENTWISE, elementwise))


@operator("LeakyRelu")
def leaky_relu(call: Call, x: Array) -> Array:
    slope = call.get("alpha", Fraction(float(np.float32(0.01))))
    return each(lambda a: a if a >= 0 else slope * a)(x)


@operator("Sigmoid")
def sigmoid(call: Call, x: Array) -> Array:
    return np.asarray(np.frompyfunc(call.functions.sigmoid, 1, 1)(x))


@operator("Softmax")
def softmax(call: Call, x: Array) -> Array:
    """Along one axis, as from opset 13 on."""
    powers = np.frompyfunc(call.functions.exponential, 1, 1)(x)
    return np.asarray(powers / powers.sum(call.get("axis", -1), keepdims=True))


@operator("Tanh")
def hyperbolic(call: Call, x: Array) -> Array:
    return np.asarray(np.frompyfunc(call.functions.tanh, 1, 1)(x))


@operator("Clip")
def clip(call: Call, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    lower = call.get("min") if low is None else low.item()
    upper = call.get("max") if high is None else high.item()

    def bounded(value: Fraction) -> Fraction:
        value = value if lower is None else max(value, lower)
        return value if upper is None else min(value, upper)

    return each(bounded)(x)


@operator("Sum Mean Max Min")
def variadic(call: Call, *operands: Array) -> Array:
    pairs: dict[str, Callable[[Any, Any], Any]] = {
        "Sum": lambda a, b: a + b,
        "Mean": lambda a, b: a + b,
        "Max": lambda a, b: max(a, b),
        "Min": lambda a, b: min(a, b),
    }
    total = reduce(each(pairs[call.op_type]), operands)
    return total / Fraction(len(operands)) if call.op_type == "Mean" else total


@operator("Where")
def where(call: Call, mask: Array, a: Array, b: Array) -> Array:
    return each(lambda m, x, y: x if m else y)(mask.astype(object), a, b)


@operator("Greater Less")
def compare(call: Call, a: Array, b: Array) -> Array:
    return np.asarray(a > b if call.op_type == "Greater" else a < b).astype(bool)


# ------------------------------------------------------------------ normalizations


@operator("BatchNormalization")
def batch_norm(call: Call, x: Array, gamma: Array, beta: Array, mean: Array, var: Array) -> Array:
    """`(x - mean) / sqrt(var + epsilon) * gamma + beta`, with an exact root."""
    epsilon = call.get("epsilon", Fraction(float(np.float32(1e-5))))
    form = (1, -1) + (1,) * (x.ndim - 2)
    if call.opset < 9 and not call.get("spatial", 1):
        form = (1, *x.shape[1:])
    gamma, beta, mean, var = (p.reshape(form) for p in (gamma, beta, mean, var))
    return np.asarray((x - mean) / roots(var + epsilon) * gamma + beta)


def normalized(call: Call, x: Array, axes: tuple[int, ...], *, centred: bool = True) -> Array:
    """`(x - mean) * r(var)` over these axes, r being any function."""
    count = Fraction(int(np.prod([x.shape[a] for a in axes])))
    mean = x.sum(axes, keepdims=True) / count if centred else Fraction(0)
    var = ((x - mean) ** 2).sum(axes, keepdims=True) / count
    epsilon = call.get("epsilon", Fraction(float(np.float32(1e-5))))
    factor = np.frompyfunc(call.functions.inverse_root, 1, 1)(var + epsilon)
    return np.asarray((x - mean) * factor)


@operator("LayerNormalization RMSNormalization")
def layer_norm(call: Call, x: Array, scale: Array, bias: Array | None = None) -> Array:
    axis = call.get("axis", -1) % x.ndim
    centred = call.op_type == "LayerNormalization"
    result = normalized(call, x, tuple(range(axis, x.ndim)), centred=centred) * scale
    return np.asarray(result if bias is None else result + bias)


@operator("InstanceNormalization")
def instance_norm(call: Call, x: Array, scale: Array, bias: Array) -> Array:
    form = (1, -1) + (1,) * (x.ndim - 2)
    result = normalized(call, x, tuple(range(2, x.ndim)))
    return np.asarray(result * scale.reshape(form) + bias.reshape(form))


@operator("GroupNormalization")
def group_norm(call: Call, x: Array, scale: Array, bias: Array) -> Array:
    groups = call.attributes["num_groups"]
    cut = x.reshape(x.shape[0], groups, -1)
    result = normalized(call, cut, (2,))
    if call.opset >= 21:
        result = result.reshape(x.shape)
        form = (1, -1) + (1,) * (x.ndim - 2)
    else:
        form = (1, -1, 1)
    return np.asarray(result * scale.reshape(form) + bias.reshape(form)).reshape(x.shape)


# -------------------------------------------------------------------- convolutions


@dataclass(frozen=True, slots=True)
class Window:
    """How a kernel walks over the spatial axes."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    sizes: tuple[int, ...]
    """Of the result."""


def window(call: Call, spatial: Sequence[int], kernel: Sequence[int]) -> Window:
    """The attributes that convolutions and pools share, with every default filled in."""
    rank = len(spatial)
    strides = call.get("strides") or [1] * rank
    dilations = call.get("dilations") or [1] * rank
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = list(call.get("pads") or [0] * 2 * rank)
    mode = call.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        for axis in range(rank):
            out = -(-spatial[axis] // strides[axis])
            total = max((out - 1) * strides[axis] + reach[axis] - spatial[axis], 0)
            small, large = total // 2, total - total // 2
            pads[axis] = small if mode == "SAME_UPPER" else large
            pads[axis + rank] = total - pads[axis]
    sizes = []
    for axis in range(rank):
        span = spatial[axis] + pads[axis] + pads[axis + rank] - reach[axis]
        size = floor(span / strides[axis]) + 1
        if call.get("ceil_mode", 0):
            size = ceil(span / strides[axis]) + 1
            if (size - 1) * strides[axis] >= spatial[axis] + pads[axis]:
                size -= 1  # a window must not start in the padding behind
        sizes.append(size)
    return Window(
        kernel=tuple(int(k) for k in kernel),
        strides=tuple(strides),
        dilations=tuple(dilations),
        before=tuple(pads[:rank]),
        after=tuple(pads[rank:]),
        sizes=tuple(sizes),
    )


OUTSIDE = object()
"""What stands where a window reaches beyond the padding (ceil_mode)."""


def patches(x: Array, w: Window, fill: Any) -> Array:
    """`(N, C, *spatial) -> (N, C, *sizes, *kernel)`: what each window sees."""
    rank = len(w.kernel)
    for axis in range(rank):
        place = 2 + axis
        reach = (w.sizes[axis] - 1) * w.strides[axis] + (w.kernel[axis] - 1) * w.dilations[axis]
        missing = reach + 1 - w.before[axis] - x.shape[place] - w.after[axis]
        parts = [
            np.full([c if d != place else n for d, c in enumerate(x.shape)], v, object)
            for n, v in ((w.before[axis], fill), (w.after[axis], fill), (missing, OUTSIDE))
            if n >= 0
        ]
        x = np.concatenate([parts[0], x, *parts[1:]], place)
    for axis in range(rank):
        starts = np.arange(w.sizes[axis])[:, None] * w.strides[axis]
        taps = np.arange(w.kernel[axis])[None, :] * w.dilations[axis]
        x = x.take(starts + taps, 2 + 2 * axis)
    order = [0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 2 + 2 * rank, 2)]
    return x.transpose(order)


@operator("Conv FusedConv")
def conv(call: Call, x: Array, weight: Array, bias: Array | None = None) -> Array:
    w = window(call, x.shape[2:], weight.shape[2:])
    seen = patches(x, w, Fraction(0))
    groups = call.get("group", 1)
    fan_in, out = weight.shape[1], weight.shape[0] // groups
    flat = weight.reshape(groups, out, -1)
    parts = []
    for group in range(groups):
        part = seen[:, group * fan_in : (group + 1) * fan_in]
        rows = np.moveaxis(part, 1, 1 + len(w.sizes)).reshape(x.shape[0], *w.sizes, -1)
        parts.append(np.moveaxis(rows @ flat[group].T, -1, 1))
    result = np.concatenate(parts, 1)
    return result if bias is None else result + along_channels(bias, result.ndim)


def along_channels(vector: Array, rank: int) -> Array:
    """`(C,) -> (1, C, 1, ...)`."""
    return vector.reshape((1, -1) + (1,) * (rank - 2))


@operator("ConvTranspose")
def conv_transpose(call: Call, x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Every input element adds its kernel to the result; the pads are cut off."""
    rank, groups = x.ndim - 2, call.get("group", 1)
    kernel = weight.shape[2:]
    strides = call.get("strides") or [1] * rank
    dilations = call.get("dilations") or [1] * rank
    extra = call.get("output_padding") or [0] * rank
    full = [
        (n - 1) * s + (k - 1) * d + 1 + e
        for n, s, k, d, e in zip(x.shape[2:], strides, kernel, dilations, extra, strict=True)
    ]
    pads = list(call.get("pads") or [0] * 2 * rank)
    mode, wanted = call.get("auto_pad", "NOTSET"), call.get("output_shape")
    if mode.startswith("SAME"):
        wanted = wanted or [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    if wanted:
        for axis in range(rank):
            total = max(full[axis] - wanted[axis], 0)
            small = total // 2
            pads[axis] = small if mode == "SAME_UPPER" else total - small
            pads[axis + rank] = total - pads[axis]
    fan_in, fan_out = x.shape[1] // groups, weight.shape[1]
    result = zeros((x.shape[0], groups * fan_out, *full))
    for group in range(groups):
        inputs = slice(group * fan_in, (group + 1) * fan_in)
        outputs = slice(group * fan_out, (group + 1) * fan_out)
        part = np.moveaxis(x[:, inputs], 1, -1)
        for tap in product(*(range(k) for k in kernel)):
            spot: Any = (inputs, slice(None), *tap)
            added = np.moveaxis(part @ weight[spot], -1, 1)
            spots = tuple(
                slice(t * d, t * d + (n - 1) * s + 1, s)
                for t, d, n, s in zip(tap, dilations, x.shape[2:], strides, strict=True)
            )
            result[(slice(None), outputs, *spots)] += added
    cut = tuple(slice(pads[a], full[a] - pads[a + rank]) for a in range(rank))
    result = result[(slice(None), slice(None), *cut)]
    return result if bias is None else result + along_channels(bias, result.ndim)


# -------------------------------------------------------------------------- pools


def pooled(call: Call, x: Array, mean: Callable[[list[Any]], Any], fill: Any) -> Array:
    """A function of what each window sees; what is beyond the padding is left out."""
    kernel = call.attributes["kernel_shape"]
    w = window(call, x.shape[2:], kernel)
    seen = patches(x, w, fill)
    flat = seen.reshape(-1, int(np.prod(kernel)))
    values = [mean([v for v in row if v is not OUTSIDE]) for row in flat]
    return filled(values, seen.shape[: 2 + len(kernel)])


LOWEST = -9
"""What a maximum of nothing is here: any number will do that no fold moves."""


@operator("MaxPool")
def max_pool(call: Call, x: Array) -> Array:
    def largest(row: list[Any]) -> Any:
        return max(row, default=Fraction(LOWEST))

    return pooled(call, x, largest, OUTSIDE)


@operator("AveragePool")
def average_pool(call: Call, x: Array) -> Array:
    fill = Fraction(0) if call.get("count_include_pad", 0) else OUTSIDE
    return pooled(call, x, lambda row: sum(row) / Fraction(len(row)), fill)


def norm(values: list[Fraction], p: int) -> Fraction:
    """`(sum |v| ** p) ** (1 / p)` for p of 1 and 2."""
    total = sum((abs(v) ** p for v in values), Fraction(0))
    return total if p == 1 else root(total)


@operator("LpPool")
def lp_pool(call: Call, x: Array) -> Array:
    return pooled(call, x, lambda row: norm(row, call.get("p", 2)), OUTSIDE)


@operator("GlobalMaxPool GlobalAveragePool GlobalLpPool")
def global_pool(call: Call, x: Array) -> Array:
    functions: dict[str, Callable[[list[Any]], Any]] = {
        "GlobalMaxPool": max,
        "GlobalAveragePool": lambda row: sum(row) / Fraction(len(row)),
        "GlobalLpPool": lambda row: norm(row, call.get("p", 2)),
    }
    flat = x.reshape(x.shape[0] * x.shape[1], -1)
    values = [functions[call.op_type](list(row)) for row in flat]
    return filled(values, (*x.shape[:2], *(1,) * (x.ndim - 2)))


REDUCTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "ReduceSum": sum,
    "ReduceMean": lambda row: sum(row) / Fraction(len(row)),
    "ReduceMax": max,
    "ReduceMin": min,
    "ReduceL1": lambda row: norm(row, 1),
    "ReduceL2": lambda row: norm(row, 2),
}


@operator(" ".join(REDUCTIONS))
def reduction(call: Call, x: Array, given: Array | None = None) -> Array:
    axes = call.integers("axes", given)
    if not axes:
        if call.get("noop_with_empty_axes", 0):
            return x
        axes = list(range(x.ndim))
    axes = sorted({a % x.ndim for a in axes})
    rest = [a for a in range(x.ndim) if a not in axes]
    count = int(np.prod([x.shape[a] for a in axes]))
    flat = x.transpose([*rest, *axes]).reshape(-1, count)
    result = filled(
        (REDUCTIONS[call.op_type](list(row)) for row in flat), [x.shape[a] for a in rest]
    )
    return np.expand_dims(result, tuple(axes)) if call.get("keepdims", 1) else result


# ------------------------------------------------------------------------ products


@operator("Gemm FusedGemm")
def gemm(call: Call, a: Array, b: Array, c: Array | None = None) -> Array:
    left = a.T if call.get("transA", 0) else a
    right = b.T if call.get("transB", 0) else b
    result: Array = call.get("alpha", Fraction(1)) * (left @ right)
    return result if c is None else result + call.get("beta", Fraction(1)) * c


@operator("MatMul FusedMatMul")
def matmul(call: Call, a: Array, b: Array) -> Array:
    if call.get("transBatchA", 0):
        a = np.moveaxis(a, -2, 0)
    if call.get("transBatchB", 0):
        b = np.moveaxis(b, -2, 0)
    left = a.swapaxes(-1, -2) if call.get("transA", 0) else a
    right = b.swapaxes(-1, -2) if call.get("transB", 0) else b
    return np.asarray(call.get("alpha", Fraction(1)) * (left @ right))


@operator("Einsum")
def einsum(call: Call, *operands: Array) -> Array:
    return np.asarray(np.einsum(call.attributes["equation"], *operands), object)


@operator("DequantizeLinear")
def dequantize(call: Call, q: Array, scale: Array, zero: Array | None = None) -> Array:
    axis = call.get("axis", 1)
    form = [-1 if d == axis % max(q.ndim, 1) else 1 for d in range(q.ndim)] if scale.ndim else ()
    offset = 0 if zero is None else zero.astype(np.int64).reshape(form)
    return np.asarray((q.astype(np.int64) - offset).astype(object) * scale.reshape(form))


# ----------------------------------------------------------------------- recurrent


GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def activation(call: Call, name: str) -> Callable[[Array], Array]:
    """An activation of a recurrent layer; the irrational ones by their stand-ins."""
    functions: dict[str, Callable[[Fraction], Fraction]] = {
        "Sigmoid": call.functions.sigmoid,
        "Tanh": call.functions.tanh,
        "Relu": lambda x: max(x, Fraction(0)),
    }
    universal = np.frompyfunc(functions[name], 1, 1)
    return lambda x: np.asarray(universal(x))


@operator("RNN GRU LSTM")
def recurrent(
    call: Call, x: Array, w: Array, r: Array, b: Array | None = None, *_: Array | None
) -> list[Array]:
    """All steps of all directions from zero: the sequence, the last state, the last cell."""
    gates, hidden = GATES[call.op_type], r.shape[2]
    if call.get("layout", 0):
        x = x.swapaxes(0, 1)
    directions = w.shape[0]
    bias = zeros((directions, 2 * gates * hidden)) if b is None else b
    default = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
    names = call.get("activations") or default[call.op_type] * directions
    share = len(names) // directions
    outputs, finals, cells = [], [], []
    for direction in range(directions):
        backward = call.get("direction", "forward") == "reverse" or direction == 1
        acts = [activation(call, n) for n in names[direction * share : (direction + 1) * share]]
        state = zeros((x.shape[1], hidden))
        cell = zeros((x.shape[1], hidden))
        steps: list[Array] = []
        for moment in x[::-1] if backward else x:
            weights = (w[direction], r[direction], bias[direction])
            state, cell = STEPS[call.op_type](call, acts, moment, state, cell, *weights)
            steps.append(state)
        finals.append(state)
        cells.append(cell)
        outputs.append(np.stack(steps[::-1] if backward else steps))
    sequence, ends = np.stack(outputs, 1), [np.stack(finals), np.stack(cells)]
    if call.get("layout", 0):
        return [sequence.transpose(2, 0, 1, 3), *(end.swapaxes(0, 1) for end in ends)]
    return [sequence, *ends]


Acts = list[Callable[[Array], Array]]


def rnn_step(
    call: Call, acts: Acts, x: Array, h: Array, c: Array, w: Array, r: Array, b: Array
) -> tuple[Array, Array]:
    """`h = f(x W + h R + b)`."""
    n = h.shape[1]
    return acts[0](x @ w.T + h @ r.T + b[:n] + b[n:]), c


def gru_step(
    call: Call, acts: Acts, x: Array, h: Array, c: Array, w: Array, r: Array, b: Array
) -> tuple[Array, Array]:
    """Gates in the order update, reset, hidden."""
    n = h.shape[1]
    given, own = x @ w.T + b[: 3 * n], h @ r.T + b[3 * n :]
    update = acts[0](given[:, :n] + own[:, :n])
    reset = acts[0](given[:, n : 2 * n] + own[:, n : 2 * n])
    if call.get("linear_before_reset", 0):
        new = acts[1](given[:, 2 * n :] + reset * own[:, 2 * n :])
    else:
        new = acts[1](given[:, 2 * n :] + (reset * h) @ r[2 * n :].T + b[5 * n :])
    return (1 - update) * new + update * h, c


def lstm_step(
    call: Call, acts: Acts, x: Array, h: Array, c: Array, w: Array, r: Array, b: Array
) -> tuple[Array, Array]:
    """Gates in the order input, output, forget, cell."""
    n = h.shape[1]
    z = x @ w.T + h @ r.T + b[: 4 * n] + b[4 * n :]
    into, out, forget = (acts[0](z[:, g * n : (g + 1) * n]) for g in range(3))
    cell = forget * c + into * acts[1](z[:, 3 * n :])
    return out * acts[2](cell), cell


STEPS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "RNN": rnn_step,
    "GRU": gru_step,
    "LSTM": lstm_step,
}


# ------------------------------------------------------------------------ movement


@operator("Transpose")
def transpose(call: Call, x: Array) -> Array:
    return x.transpose(call.get("perm") or range(x.ndim)[::-1])


@operator("Reshape")
def reshape(call: Call, x: Array, given: Array | None = None) -> Array:
    wanted = call.integers("shape", given) or []
    if not call.get("allowzero", 0):
        wanted = [x.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
    return x.reshape(wanted)


@operator("Flatten")
def flatten(call: Call, x: Array) -> Array:
    axis = call.get("axis", 1)
    axis += x.ndim if axis < 0 else 0
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


@operator("Squeeze")
def squeeze(call: Call, x: Array, given: Array | None = None) -> Array:
    axes = call.integers("axes", given)
    return x.squeeze(None if axes is None else tuple(axes))


@operator("Unsqueeze")
def unsqueeze(call: Call, x: Array, given: Array | None = None) -> Array:
    return np.expand_dims(x, tuple(call.integers("axes", given) or ()))


@operator("Concat")
def concat(call: Call, *parts: Array) -> Array:
    return np.concatenate(parts, call.get("axis", 1))


@operator("Split")
def split(call: Call, x: Array, given: Array | None = None) -> list[Array]:
    axis = call.get("axis", 0)
    sizes = call.integers("split", given)
    if sizes is None:
        count = len(call.node.output)
        part = -(-x.shape[axis] // count)
        sizes = [part] * (count - 1) + [x.shape[axis] - part * (count - 1)]
    return np.split(x, np.cumsum(sizes)[:-1].tolist(), axis)


@operator("SplitToSequence")
def split_to_sequence(call: Call, x: Array, given: Array) -> tuple[list[Array]]:
    axis = call.get("axis", 0)
    if given.ndim:
        ends = np.cumsum([int(size) for size in given])[:-1]
    else:
        ends = np.arange(int(given), x.shape[axis], int(given))
    return (np.split(x, ends.tolist(), axis),)


@operator("SequenceAt")
def sequence_at(_: Call, sequence: list[Array], place: Array) -> Array:
    return sequence[int(place)]


@operator("Slice")
def slice_(call: Call, x: Array, *given: Array | None) -> Array:
    names = ("starts", "ends", "axes", "steps")
    inputs = [*given, *[None] * (4 - len(given))]
    starts, ends, axes, steps = (call.integers(n, g) for n, g in zip(names, inputs, strict=True))
    assert starts is not None
    assert ends is not None
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = axes[place] if axes is not None else place
        step = steps[place] if steps is not None else 1
        x = np.take(x, list(counted(start, end, step, x.shape[axis])), axis)
    return x


def counted(start: int, end: int, step: int, size: int) -> Iterator[int]:
    """The places from start to end, of which those beyond the axis count as its edge."""
    at, stop = (bound + size if bound < 0 else bound for bound in (start, end))
    at = max(0, min(at, size - 1 if step < 0 else size))
    while 0 <= at < size and (at < stop if step > 0 else at > stop):
        yield at
        at += step


@operator("Gather")
def gather(call: Call, x: Array, indices: Array) -> Array:
    return np.asarray(x.take(indices.astype(np.int64), call.get("axis", 0)))


@operator("Expand")
def expand(call: Call, x: Array, shape: Array) -> Array:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(d) for d in shape)))


@operator("Tile")
def tile(call: Call, x: Array, repeats: Array) -> Array:
    return np.tile(x, [int(r) for r in repeats])


@operator("DepthToSpace")
def depth_to_space(call: Call, x: Array) -> Array:
    n, c, h, w = x.shape
    b = call.attributes["blocksize"]
    if call.get("mode", "DCR") == "DCR":
        cut = x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        cut = x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return cut.reshape(n, c // b**2, h * b, w * b)


@operator("SpaceToDepth")
def space_to_depth(call: Call, x: Array) -> Array:
    n, c, h, w = x.shape
    b = call.attributes["blocksize"]
    cut = x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return cut.reshape(n, c * b**2, h // b, w // b)


@operator("Pad")
def pad(
    call: Call,
    x: Array,
    given: Array | None = None,
    value: Array | None = None,
    axes: Array | None = None,
) -> Array:
    pads = call.integers("pads", given) or call.get("paddings")
    over = range(x.ndim) if axes is None else [int(a) % x.ndim for a in axes]
    amounts = [(0, 0)] * x.ndim
    for place, axis in enumerate(over):
        amounts[axis] = (pads[place], pads[place + len(over)])
    cut = tuple(
        slice(max(-before, 0), length - max(-after, 0))
        for (before, after), length in zip(amounts, x.shape, strict=True)
    )
    places = np.arange(x.size).reshape(x.shape)[cut]
    grown = [(max(a, 0), max(b, 0)) for a, b in amounts]
    mode = call.get("mode", "constant")
    if mode != "constant":
        return x.reshape(-1)[np.pad(places, grown, mode=mode)]
    fill = call.get("value", Fraction(0)) if value is None else value.item()
    spots = np.pad(places, grown, constant_values=x.size)
    return np.append(x.reshape(-1), filled([fill], (1,)))[spots]


# -------------------------------------------------------------------------- resize


@operator("Resize Upsample")
def resize(
    call: Call,
    x: Array,
    roi_or_scales: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
) -> Array:
    """One axis after the other: each result element is a weighted sum of elements there."""
    early = call.op_type == "Upsample" or call.opset < 11
    given = roi_or_scales if early else scales
    factors = list(given.reshape(-1)) if given is not None else call.get("scales")
    axes = call.get("axes") or range(x.ndim)
    for place, axis in enumerate(axes):
        length = x.shape[axis]
        if factors:
            factor = Fraction(factors[place])
            target = floor(length * factor)
        else:
            assert sizes is not None
            target = int(sizes.reshape(-1)[place])
            factor = Fraction(target, length)
        if (length, factor) == (target, Fraction(1)):
            continue
        weights = interpolation(call, length, target, factor, early=early)
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ weights.T, -1, axis)
    return x


def interpolation(call: Call, length: int, target: int, factor: Fraction, *, early: bool) -> Array:
    """`(target, length)`: what each element of the result takes from each of the input."""
    weights = zeros((target, length))
    mode = call.get("mode", "nearest")
    for place in range(target):
        spot = coordinate(call, place, length, target, factor, early=early)
        if mode == "nearest":
            near = rounded(spot, "floor" if early else call.get("nearest_mode"))
            weights[place, min(max(near, 0), length - 1)] += 1
        elif mode == "linear":
            spot = min(max(spot, Fraction(0)), Fraction(length - 1))
            low = floor(spot)
            weights[place, low] += 1 - (spot - low)
            weights[place, min(low + 1, length - 1)] += spot - low
        else:
            for tap, share in cubic(spot, call.get("cubic_coeff_a", Fraction(-3, 4))):
                weights[place, min(max(tap, 0), length - 1)] += share
    return weights


def coordinate(
    call: Call, place: int, length: int, target: int, factor: Fraction, *, early: bool
) -> Fraction:
    """Where an element of the result stands in the input."""
    mode = call.get("coordinate_transformation_mode", "half_pixel")
    if early or mode == "asymmetric":
        return place / factor
    if mode == "align_corners":
        return Fraction(place * (length - 1), target - 1) if target > 1 else Fraction(0)
    if mode == "pytorch_half_pixel" and target <= 1:
        return Fraction(0)
    return (place + Fraction(1, 2)) / factor - Fraction(1, 2)


def rounded(spot: Fraction, mode: str | None) -> int:
    """To the nearest element, in one of four ways."""
    if mode == "floor":
        return floor(spot)
    if mode == "ceil":
        return ceil(spot)
    half = Fraction(1, 2)
    return floor(spot + half) if mode == "round_prefer_ceil" else ceil(spot - half)


def cubic(spot: Fraction, a: Fraction) -> list[tuple[int, Fraction]]:
    """The four taps of cubic interpolation (Keys 1981) and their weights."""
    low = floor(spot)
    result = []
    for tap in range(low - 1, low + 3):
        d = abs(spot - tap)
        near, far = ((a + 2) * d - (a + 3)) * d**2 + 1, a * (((d - 5) * d + 8) * d - 4)
        result.append((tap, near if d <= 1 else far))
    return result
