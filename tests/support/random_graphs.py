"""Random graphs of all operators that have rules, from whatever draws the choices.

`grow(draw, numbers)` makes a valid model: it starts from one or two inputs and adds operators that
fit a value at hand, so shapes are known throughout. Most come in motifs of a linear operator, some
that may carry, and an affine, or the other way round; the rest stops, branches, joins, shares a
weight, reads a shape or is an output in the middle.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol, TypeVar

import numpy as np
import onnx
from exact_rows import EPSILON, statistics
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
T = TypeVar("T")
Shape = tuple[int, ...]

LIMIT = 400
"""Elements that a value may have: rational arithmetic is slow."""


class TooLarge(Exception):
    """A value would have too many elements."""


class Draw(Protocol):
    """Where choices come from."""

    def integer(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""

    def pick(self, options: Sequence[T]) -> T:
        """One of several."""


class Seeded:
    """Choices from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return self.random.randint(low, high)

    def pick(self, options: Sequence[T]) -> T:
        """One of several."""
        return self.random.choice(options)


class Numbers(Protocol):
    """What weights are made of."""

    is_exact: bool

    def weight(self, shape: Shape, sign: str = "") -> Array:
        """Values of both signs; `+` positive ones; `^` such as can be divided by."""

    def statistics(self, count: int, flags: str) -> dict[str, Array]:
        """Parameters of a BatchNormalization."""


class Dyadic:
    """Small numbers that float arithmetic holds exactly."""

    is_exact = True

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def weight(self, shape: Shape, sign: str = "") -> Array:
        """Integers from 1 to 3, powers of two."""
        if sign == "^":
            return self.rng.choice([0.5, 1.0, 2.0], shape)
        values = self.rng.integers(1, 4, shape)
        return values if sign else values * self.rng.choice([-1, 1], shape)

    def statistics(self, count: int, flags: str) -> dict[str, Array]:
        """Rational roots, scales that are powers of two."""
        return statistics(self.rng, count, flags)


class Normal:
    """What a trained network might hold: normal values, small variances, gammas of both signs."""

    is_exact = False

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def weight(self, shape: Shape, sign: str = "") -> Array:
        """Normal values, scaled as for a network whose values stay about 1."""
        fan_in = max(int(np.prod(shape[1:])), 1)
        values = np.asarray(self.rng.standard_normal(shape))
        if sign:
            return np.asarray(np.abs(values) + 0.3)
        return np.asarray(values / np.sqrt(fan_in))

    def statistics(self, count: int, flags: str) -> dict[str, Array]:
        """Mean and variance away from 0 and 1."""
        drawn = 1 if "1" in flags else count
        signs = np.ones(drawn) if "+" in flags else self.rng.choice([-1.0, 1.0], drawn)
        gamma = signs * (0.3 + self.rng.exponential(1, drawn))
        beta, mean = self.rng.standard_normal((2, drawn)) * ("0" not in flags)
        parts = {"gamma": gamma, "beta": beta, "mean": mean, "var": self.rng.random(drawn) + 0.05}
        return {name: np.broadcast_to(values, count) for name, values in parts.items()}


@dataclass(frozen=True, slots=True)
class Grown:
    """A random model."""

    proto: onnx.ModelProto
    feeds: dict[str, Array]
    floats: tuple[str, ...]
    """All tensors of the graph that hold the model's float type."""


@dataclass(slots=True)
class Grower:
    """A graph that grows: values at hand with their shapes."""

    draw: Draw
    numbers: Numbers
    elem_type: int
    dtype: np.dtype[Any]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    feeds: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    """Of every float value that the graph computes."""
    loose: list[str] = field(default_factory=list)
    """Those that nothing reads so far."""
    taps: list[str] = field(default_factory=list)
    """Outputs in the middle."""
    count: int = 0

    # ------------------------------------------------------------------- building

    def chance(self, percent: int) -> bool:
        """True so often."""
        return self.draw.integer(1, 100) <= percent

    def input(self, shape: Shape, *, symbolic: bool = False) -> str:
        """A graph input with data."""
        name = f"x{len(self.inputs)}"
        dims: list[int | str] = ["N", *shape[1:]] if symbolic else list(shape)
        self.inputs.append(helper.make_tensor_value_info(name, self.elem_type, dims))
        values = self.numbers.weight(shape)
        scale = 0.5 if self.numbers.is_exact else max(prod(shape[1:]), 1) ** 0.5
        self.feeds[name] = (values * scale).astype(self.dtype)
        self.shapes[name] = shape
        return name

    def initializer(self, array: Array, dtype: Any = None) -> str:
        """A constant."""
        name = f"w{len(self.weights)}"
        values = np.asarray(array).astype(dtype or self.dtype)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, *shape: int, sign: str = "") -> str:
        """A float constant; now and then one that is there already."""
        if not sign and self.weights and self.chance(10):
            for tensor in self.weights:
                if tuple(tensor.dims) == shape and tensor.data_type == self.elem_type:
                    return str(tensor.name)
        return self.initializer(self.numbers.weight(shape, sign))

    def vector(self, *values: int) -> str:
        """An int64 constant."""
        return self.initializer(np.array(values), np.int64)

    def node(self, op_type: str, inputs: Sequence[str], *shapes: Shape, **attributes: Any) -> str:
        """A node with one output for each shape; the name of the first."""
        if any(np.prod(shape) > LIMIT for shape in shapes):
            raise TooLarge
        outputs = [f"t{self.count + place}" for place in range(len(shapes))]
        self.count += len(shapes)
        self.nodes.append(helper.make_node(op_type, inputs, outputs, **attributes))
        for name in inputs:
            if name in self.loose:
                self.loose.remove(name)
        for name, shape in zip(outputs, shapes, strict=True):
            self.shapes[name] = shape
            self.loose.append(name)
        return outputs[0]

    def partner(self, x: str, fits: Callable[[Shape], bool]) -> str | None:
        """Another value of a fitting shape; a new input where there is none and luck wants it."""
        others = [n for n, shape in self.shapes.items() if n != x and fits(shape)]
        return self.draw.pick(others) if others else None

    # ------------------------------------------------------------------- sources

    def batch_norm(self, x: str) -> str | None:
        """One that may have any sign, only positive scales, no shift, one channel for all."""
        shape = self.shapes[x]
        if len(shape) < 2:
            return None
        flags = self.draw.pick(["", "", "+", "+0", "+0", "0", "1", "+1", "+01"])
        parts = self.numbers.statistics(shape[1], flags)
        names = [self.initializer(values) for values in parts.values()]
        return self.node("BatchNormalization", [x, *names], shape, epsilon=EPSILON)

    def arithmetic(self, x: str) -> str | None:
        """A Mul, Add, Sub or Div by a constant of one number or one a channel."""
        shape = self.shapes[x]
        size = (1,) if len(shape) < 2 or self.chance(30) else (shape[1], *(1,) * (len(shape) - 2))
        op_type = self.draw.pick(["Mul", "Add", "Sub", "Div"])
        constant = self.weight(*size, sign="^" if op_type in ("Mul", "Div") else "")
        turned = self.chance(30) and op_type != "Div"
        return self.node(op_type, [constant, x] if turned else [x, constant], shape)

    def neg(self, x: str) -> str | None:
        """A change of sign."""
        return self.node("Neg", [x], self.shapes[x])

    # -------------------------------------------------------------------- linear

    def conv(self, x: str) -> str | None:
        """Any group, stride, dilation and pads; sometimes transposed."""
        shape = self.shapes[x]
        if len(shape) not in (3, 4):
            return None
        n, c, *spatial = shape
        rank = len(spatial)
        group = self.draw.pick([g for g in (1, 1, 2, c) if c % g == 0])
        out = group * self.draw.integer(1, 2 if group > 1 else 4)
        transposed = self.chance(20)
        kernel = [self.draw.integer(1, min(3, s)) for s in spatial]
        strides = [self.draw.integer(1, 2) for _ in spatial]
        pads = [self.draw.pick([0, 0, 1]) for _ in range(2 * rank)]
        dilations = [2 if k > 1 and 2 * k - 1 <= s and self.chance(20) else 1
                     for k, s in zip(kernel, spatial, strict=True)]  # fmt: skip
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        if transposed:
            pads = [0] * 2 * rank
            sizes = [(s - 1) * st + r for s, st, r in zip(spatial, strides, reach, strict=True)]
            weight = self.weight(c, out // group, *kernel)
        else:
            sizes = [
                (s + pads[i] + pads[i + rank] - reach[i]) // strides[i] + 1
                for i, s in enumerate(spatial)
            ]
            weight = self.weight(out, c // group, *kernel)
        inputs = [x, weight] + ([self.weight(out)] if self.chance(50) else [])
        return self.node(
            "ConvTranspose" if transposed else "Conv", inputs, (n, out, *sizes),
            group=group, strides=strides, dilations=dilations, pads=pads,
        )  # fmt: skip

    def product(self, x: str) -> str | None:
        """A Gemm, MatMul or Einsum over the last axis."""
        shape = self.shapes[x]
        if len(shape) < 2:
            return None
        inner, out = shape[-1], self.draw.integer(1, 5)
        result = (*shape[:-1], out)
        kind = self.draw.pick(["Gemm", "MatMul", "Einsum"])
        if kind == "Gemm" and len(shape) == 2:
            flipped = self.draw.integer(0, 1)
            inputs = [x, self.weight(*((out, inner) if flipped else (inner, out)))]
            inputs += [self.weight(*self.draw.pick([(out,), (1,), (1, out)]))] * self.chance(60)
            alpha, beta = self.draw.pick([1.0, 0.5]), self.draw.pick([1.0, 2.0])
            return self.node("Gemm", inputs, result, transB=flipped, alpha=alpha, beta=beta)
        if kind == "Einsum" and len(shape) == 3:
            equation, rows = "abc,cd->abd", 1 if self.chance(20) else inner  # 1 is broadcast
            return self.node("Einsum", [x, self.weight(rows, out)], result, equation=equation)
        if self.chance(20):  # from the left, over the axis before
            result = (*shape[:-2], out, inner)
            return self.node("MatMul", [self.weight(out, shape[-2]), x], result)
        return self.node("MatMul", [x, self.weight(inner, out)], result)

    def attention(self, x: str) -> str | None:
        """Weighted means of the rows or columns, by weights of its own that sum to one."""
        shape = self.shapes[x]
        if len(shape) < 3:
            return None
        *lead, rows, columns = shape
        order = [*range(len(lead)), len(lead) + 1, len(lead)]
        turned = self.node("Transpose", [x], (*lead, columns, rows), perm=order)
        axis = self.draw.pick([-1, -2])
        weights = self.node("Softmax", [turned], (*lead, columns, rows), axis=axis)
        if self.chance(50):
            return self.node("MatMul", [weights, x], (*lead, columns, columns))
        return self.node("MatMul", [x, weights], (*lead, rows, rows))

    def recurrent(self, x: str) -> str | None:
        """A short RNN, GRU or LSTM over the first axis."""
        shape = self.shapes[x]
        if len(shape) != 3 or shape[0] > 3:
            return None
        kind, gates = self.draw.pick([("RNN", 1), ("GRU", 3), ("LSTM", 4)])
        inputs = [x, self.weight(1, 2 * gates, shape[2]), self.weight(1, 2 * gates, 2)]
        inputs += [self.weight(1, 4 * gates)] * self.chance(50)
        direction = self.draw.pick(["forward", "reverse"])
        result = (shape[0], 1, shape[1], 2)
        return self.node(kind, inputs, result, hidden_size=2, direction=direction)

    def normalization(self, x: str) -> str | None:
        """An InstanceNormalization or a LayerNormalization."""
        shape = self.shapes[x]
        if len(shape) > 2 and self.chance(50):
            inputs = [x, self.weight(shape[1]), self.weight(shape[1])]
            return self.node("InstanceNormalization", inputs, shape)
        axis = self.draw.integer(1, len(shape) - 1)
        inputs = [x, *(self.weight(*shape[axis:]) for _ in range(self.draw.integer(1, 2)))]
        return self.node("LayerNormalization", inputs, shape, axis=axis)

    # --------------------------------------------------------------- element by element

    def carrier(self, x: str) -> str | None:
        """An operator of one value that carries what it can."""
        shape = self.shapes[x]
        kind = self.draw.pick(
            ["Relu", "Relu", "LeakyRelu", "PRelu", "Abs", "Clip", "Identity", "Dropout", "Cast",
             "CastLike"]
        )  # fmt: skip
        if kind == "PRelu":
            slope = self.weight(shape[1], *(1,) * (len(shape) - 2), sign="^")
            return self.node(kind, [x, slope], shape)
        if kind == "Clip":
            low, high = (self.initializer(np.array(bound)) for bound in (-0.5, 1.0))
            return self.node(kind, [x, low, high], shape)
        if kind == "Cast":
            return self.node(kind, [x], shape, to=self.elem_type)
        if kind == "CastLike":
            return self.node(kind, [x, next(iter(self.shapes))], shape)
        return self.node(kind, [x], shape, **({"alpha": 0.25} if kind == "LeakyRelu" else {}))

    def stop(self, x: str) -> str | None:
        """An operator that no affine passes."""
        return self.node(self.draw.pick(["Sigmoid", "Tanh"]), [x], self.shapes[x])

    def binary(self, x: str) -> str | None:
        """Two or three values of one shape, or one that broadcasts."""
        shape = self.shapes[x]

        def fits(other: Shape) -> bool:
            return len(other) == len(shape) and all(
                a in (1, b) for a, b in zip(other, shape, strict=True)
            )

        other = self.partner(x, fits) if self.chance(50) else None
        if other is None:
            other = self.conv_like(x)
        kind = self.draw.pick(["Add", "Add", "Sub", "Mul", "Sum", "Mean", "Max", "Min", "Where"])
        operands = [other, x] if self.chance(30) else [x, other]
        if kind == "Where":
            mask = self.initializer(self.numbers.weight(shape) > 0, np.bool_)
            return self.node(kind, [mask, *operands], shape)
        return self.node(kind, operands, shape)

    def conv_like(self, x: str) -> str:
        """A branch of its own of the same shape, from any value of this shape."""
        shape = self.shapes[x]
        x = self.draw.pick([name for name, other in self.shapes.items() if other == shape])
        if len(shape) in (3, 4):
            weight = self.weight(shape[1], shape[1], *(1,) * (len(shape) - 2))
            return self.node("Conv", [x, weight], shape)
        if len(shape) < 2:
            return self.node("Sigmoid", [x], shape)
        return self.node("MatMul", [x, self.weight(shape[-1], shape[-1])], shape)

    # ------------------------------------------------------------- windows and sizes

    def pool(self, x: str) -> str | None:
        """A pool over windows or over everything."""
        shape = self.shapes[x]
        if len(shape) not in (3, 4):
            return None
        spatial = shape[2:]
        if self.chance(25):
            kind = self.draw.pick(["GlobalAveragePool", "GlobalMaxPool"])
            return self.node(kind, [x], (*shape[:2], *(1,) * len(spatial)))
        kernel = [self.draw.integer(1, min(2, s)) for s in spatial]
        pads = [self.draw.integer(0, k - 1) for k in kernel] + [0] * len(spatial)
        sizes = [s + p - k + 1 for s, p, k in zip(spatial, pads, kernel, strict=False)]
        kind = self.draw.pick(["MaxPool", "AveragePool", "LpPool"])
        extra: dict[str, int] = {"p": 1} if kind == "LpPool" else {}
        if kind == "AveragePool":
            extra = {"count_include_pad": self.draw.integer(0, 1)}
        if kind == "MaxPool" and self.chance(
            20
        ):  # gaps, over short axes with padding on both sides
            kernel, pads = [2] * len(spatial), [1] * 2 * len(spatial)
            gaps = [self.draw.integer(1, s + 1) for s in spatial]
            sizes = [s + 2 - gap for s, gap in zip(spatial, gaps, strict=True)]
            return self.node(kind, [x], (*shape[:2], *sizes), kernel_shape=kernel, pads=pads,
                             dilations=gaps)  # fmt: skip
        result = (*shape[:2], *sizes)
        return self.node(kind, [x], result, kernel_shape=kernel, pads=pads, **extra)

    def reduce(self, x: str) -> str | None:
        """A reduction over one of the later axes."""
        shape = self.shapes[x]
        if len(shape) < 3:
            return None
        axis = self.draw.integer(2, len(shape) - 1)
        kinds = ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1"]
        if shape[axis] in (1, 2, 4, 8) or not self.numbers.is_exact:
            kinds.append("ReduceSum")
        keep = self.draw.integer(0, 1)
        result = tuple(1 if d == axis else s for d, s in enumerate(shape) if d != axis or keep)
        kind = self.draw.pick(kinds)
        named = [axis, axis - len(shape)] if self.chance(20) else [axis]  # the same one twice
        return self.node(kind, [x, self.vector(*named)], result, keepdims=keep)

    def resize(self, x: str) -> str | None:
        """Twice as high."""
        shape = self.shapes[x]
        if len(shape) != 4:
            return None
        scales = self.initializer(np.array([1, 1, 2, 1]), np.float32)
        mode = self.draw.pick(["nearest", "linear"])
        result = (*shape[:2], 2 * shape[2], shape[3])
        return self.node("Resize", [x, "", scales], result, mode=mode)

    def pad(self, x: str) -> str | None:
        """In one of three modes, over space."""
        shape = self.shapes[x]
        if len(shape) < 3 or shape[-1] < 2:
            return None
        before, after = self.draw.integer(0, 1), self.draw.integer(0, 1)
        amounts = [0] * 2 * len(shape)
        amounts[len(shape) - 1], amounts[-1] = before, after
        mode = self.draw.pick(["constant", "edge", "reflect"])
        inputs = [x, self.vector(*amounts)]
        if mode == "constant" and self.chance(50):
            inputs.append(self.initializer(np.array(self.draw.pick([0.0, 0.5]))))
        result = (*shape[:-1], shape[-1] + before + after)
        return self.node("Pad", inputs, result, mode=mode)

    # ------------------------------------------------------------------- movement

    def join(self, x: str) -> str | None:
        """A Concat with a value that differs along one axis, or with itself."""
        shape = self.shapes[x]
        axis = 1 if self.chance(70) else self.draw.integer(1, len(shape) - 1)

        def fits(other: Shape) -> bool:
            return len(other) == len(shape) and all(
                a == b or d == axis for d, (a, b) in enumerate(zip(other, shape, strict=True))
            )

        other = self.partner(x, fits) or x
        parts = [other, x] if self.chance(50) else [x, other]
        total = shape[axis] + self.shapes[other][axis]
        result = tuple(total if d == axis else s for d, s in enumerate(shape))
        return self.node("Concat", parts, result, axis=axis)

    def split(self, x: str) -> str | None:
        """In two parts along the channels."""
        shape = self.shapes[x]
        if shape[1] < 2:
            return None
        first = self.draw.integer(1, shape[1] - 1)
        sizes = (first, shape[1] - first)
        results = [(shape[0], size, *shape[2:]) for size in sizes]
        return self.node("Split", [x, self.vector(*sizes)], *results, axis=1)

    def cut(self, x: str) -> str | None:
        """A Slice or a Gather along one axis."""
        shape = self.shapes[x]
        axis = self.draw.integer(1, len(shape) - 1)
        size = shape[axis]
        if self.chance(50):
            picks = [self.draw.integer(-size, size - 1) for _ in range(self.draw.integer(1, 3))]
            result = tuple(len(picks) if d == axis else s for d, s in enumerate(shape))
            return self.node("Gather", [x, self.vector(*picks)], result, axis=axis)
        start, step = self.draw.integer(0, size - 1), self.draw.pick([1, 2, -1])
        taken = len(range(start, size if step > 0 else -1, step))
        if self.chance(30):  # from beyond an end, which is the end
            start, taken = (-size - 3, -(-size // step)) if step > 0 else (-size - 3, 1)
        largest = self.draw.pick([size, (1 << 63) - 1])
        end = largest if step > 0 else self.draw.pick([-size - 1, -(1 << 63)])
        parts = [self.vector(v) for v in (start, end, axis, step)]
        result = tuple(taken if d == axis else s for d, s in enumerate(shape))
        return self.node("Slice", [x, *parts], result)

    def repeat(self, x: str) -> str | None:
        """An Expand or a Tile along one axis."""
        shape = self.shapes[x]
        axis = self.draw.integer(1, len(shape) - 1)
        if shape[axis] == 1 and self.chance(60):
            result = tuple(3 if d == axis else s for d, s in enumerate(shape))
            return self.node("Expand", [x, self.vector(*(1, *result[1:]))], result)
        result = tuple(2 * s if d == axis else s for d, s in enumerate(shape))
        counts = [2 if d == axis else 1 for d in range(len(shape))]
        return self.node("Tile", [x, self.vector(*counts)], result)

    def transpose(self, x: str) -> str | None:
        """Any permutation that leaves the batch in front."""
        shape = self.shapes[x]
        rest = list(range(1, len(shape)))
        order = [0]
        while rest:
            order.append(rest.pop(self.draw.integer(0, len(rest) - 1)))
        return self.node("Transpose", [x], tuple(shape[d] for d in order), perm=order)

    def reshape(self, x: str) -> str | None:
        """Flatten, join the last two axes, cut the channels in two, or what Shape says."""
        shape = self.shapes[x]
        kind = self.draw.integer(1, 4)
        if kind == 1:
            return self.node("Flatten", [x], (shape[0], int(np.prod(shape[1:]))))
        if kind == 2 and len(shape) > 3:
            result = (*shape[:2], shape[2] * shape[3])
            return self.node("Reshape", [x, self.vector(0, 0, -1)], result)
        if kind == 3 and shape[1] % 2 == 0 and len(shape) < 4:
            result = (shape[0], 2, shape[1] // 2, *shape[2:])
            return self.node("Reshape", [x, self.vector(0, *result[1:])], result)
        if kind == 4:  # to its own shape, by a Shape node
            known = self.node("Shape", [x], (len(shape),))  # an integer, so no value at hand
            self.loose.remove(known)
            del self.shapes[known]
            return self.node("Reshape", [x, known], shape)
        return None

    def single(self, x: str) -> str | None:
        """A Squeeze or an Unsqueeze."""
        shape = self.shapes[x]
        ones = [d for d in range(2, len(shape)) if shape[d] == 1]
        if ones:
            axis = self.draw.pick(ones)
            result = tuple(s for d, s in enumerate(shape) if d != axis)
            return self.node("Squeeze", [x, self.vector(axis)], result)
        if len(shape) > 3:
            return None
        axis = self.draw.integer(1, len(shape))
        result = (*shape[:axis], 1, *shape[axis:])
        return self.node("Unsqueeze", [x, self.vector(axis)], result)

    def blocks(self, x: str) -> str | None:
        """A DepthToSpace or a SpaceToDepth."""
        shape = self.shapes[x]
        if len(shape) != 4:
            return None
        n, c, h, w = shape
        if c % 4 == 0:
            mode = self.draw.pick(["DCR", "CRD"])
            result = (n, c // 4, 2 * h, 2 * w)
            return self.node("DepthToSpace", [x], result, blocksize=2, mode=mode)
        if h % 2 == 0 and w % 2 == 0:
            return self.node("SpaceToDepth", [x], (n, 4 * c, h // 2, w // 2), blocksize=2)
        return None

    def read_shape(self, x: str) -> str | None:
        """A reader of the shape alone, as an output of the graph."""
        name = self.node("Shape", [x], (len(self.shapes[x]),))
        self.loose.remove(name)
        del self.shapes[name]
        self.taps.append(name)
        return None


AFFINE = (Grower.batch_norm, Grower.batch_norm, Grower.batch_norm, Grower.arithmetic, Grower.neg)
LINEAR = (Grower.conv, Grower.conv, Grower.product, Grower.product, Grower.attention)
CARRY = (
    Grower.carrier, Grower.carrier, Grower.carrier, Grower.carrier, Grower.binary, Grower.binary,
    Grower.pool, Grower.pool, Grower.reduce, Grower.reduce, Grower.resize, Grower.pad,
    Grower.join, Grower.split, Grower.cut, Grower.repeat, Grower.transpose, Grower.reshape,
    Grower.single, Grower.blocks,
)  # fmt: skip
OTHER = (*CARRY, Grower.stop, Grower.normalization, Grower.recurrent, Grower.read_shape)
MOTIFS = (
    (LINEAR, AFFINE), (LINEAR, CARRY, AFFINE), (LINEAR, CARRY, CARRY, AFFINE),
    (AFFINE, LINEAR), (AFFINE, CARRY, LINEAR), (AFFINE, CARRY, CARRY, LINEAR),
    (OTHER,), (OTHER, AFFINE), (AFFINE, OTHER), (AFFINE, CARRY, (Grower.recurrent,)),
    ((Grower.normalization,), CARRY, AFFINE),
)  # fmt: skip
START = ((2, 4, 4, 3), (1, 4, 4, 4), (2, 4, 5), (3, 4), (2, 3, 4), (1, 2, 4, 4))


def grow(
    draw: Draw, numbers: Numbers, elem_type: int = TensorProto.DOUBLE, *, size: int = 10
) -> Grown:
    """A random model of about `size` nodes, opset 18."""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(elem_type))
    g = Grower(draw, numbers, elem_type, dtype)
    shape = draw.pick(START)
    symbolic = draw.integer(1, 3) == 1
    x = g.input(shape, symbolic=symbolic)
    if draw.integer(1, 3) == 1:
        g.input(shape, symbolic=symbolic)
    for _ in range(2 * size):
        if len(g.nodes) >= size:
            break
        x = g.loose[-1] if g.loose and g.chance(60) else draw.pick(list(g.shapes))
        for makers in draw.pick(MOTIFS):
            with suppress(TooLarge):
                x = draw.pick(makers)(g, x) or x
            if g.chance(4) and x.startswith("t"):
                g.taps.append(x)
    return finished(g)


def finished(g: Grower) -> Grown:
    """The model: outputs are what nothing reads and what was tapped; unread inputs go."""
    read = {name for node in g.nodes for name in node.input}
    made = [name for node in g.nodes for name in node.output]
    outputs = [
        helper.make_tensor_value_info(name, g.elem_type, [None] * len(g.shapes[name]))
        if name in g.shapes
        else helper.make_tensor_value_info(name, TensorProto.INT64, [None])
        for name in made
        if name in g.loose or name in g.taps
    ]
    inputs = [info for info in g.inputs if info.name in read]
    weights = [tensor for tensor in g.weights if tensor.name in read]
    graph = helper.make_graph(g.nodes, "random", inputs, outputs, weights)
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    feeds = {info.name: g.feeds[info.name] for info in inputs}
    return Grown(model, feeds, tuple(name for name in made if name in g.shapes))
