"""Which operators does the float64 judge compute itself? Their ONNX attributes, made explicit.

One class an operator, named as ONNX names it, with the attributes of every opset; the arithmetic
is in `bnfold.kernels` and `bnfold.recurrence`. An operator is here because the plain evaluator
computes it slowly (Conv, pools, LeakyRelu), in float32 (Erf, Cast), for the newest opset only
(Softmax, BatchNormalization), wrongly for some shapes or bounds (LRN, GlobalMaxPool, Slice), or
without some of its attributes (LSTM, GRU, RNN, Scan).
"""

# ruff: noqa: D101 -- the name of a class is the operator's, and the page above explains them all

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto
from onnx.reference.op_run import OpRun

from bnfold import kernels, recurrence
from bnfold.recurrence import Activation, Cell
from bnfold.slicing import cut_out

Array = NDArray[Any]

FLOAT_TYPES = frozenset(
    {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
)


class Kernel(OpRun):
    """An operator of our own. Attributes arrive by name; those of older opsets too."""

    loops: ClassVar[bool] = False
    """Whether it takes as many steps of Python as the input is long, so that a clock is due."""

    @classmethod
    def covers(cls, _node: NodeProto, _opset: int) -> bool:
        """Whether this kernel computes the node as its opset means it."""
        return True

    @property
    def opset(self) -> int:
        """Version of the default domain that the model imports."""
        return int(self.run_params["opsets"].get("", 0))


_KERNELS: dict[str, type[Kernel]] = {}


def _register(cls: type[Kernel]) -> type[Kernel]:
    _KERNELS[cls.__name__] = cls
    return cls


def kernel_for(node: NodeProto, opsets: Mapping[str, int]) -> type[Kernel] | None:
    """The operator that computes `node`; None where the plain evaluator should."""
    kernel = _KERNELS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if kernel is None or not kernel.covers(node, opsets.get(node.domain, 0)):
        return None
    return kernel


@_register
class Cast(Kernel):
    def _run(self, x: Array, to: int, **_: Any) -> tuple[Array]:
        if to in FLOAT_TYPES:
            return (x.astype(np.float64),)
        return (x.astype(onnx.helper.tensor_dtype_to_np_dtype(to)),)

    @classmethod
    def covers(cls, node: NodeProto, _: int) -> bool:
        """Not for strings, eight-bit floats and the like."""
        to = next((a.i for a in node.attribute if a.name == "to"), 0)
        simple = {TensorProto.BOOL, *range(TensorProto.UINT8, TensorProto.INT64 + 1)}
        return to in FLOAT_TYPES or to in simple | {TensorProto.UINT32, TensorProto.UINT64}


@_register
class CastLike(Kernel):
    def _run(self, x: Array, like: Array, **_: Any) -> tuple[Array]:
        return (x.astype(like.dtype),)


def _per_axis(value: Sequence[int] | None, rank: int) -> list[int]:
    return [1] * rank if not value else list(value)


@_register
class Conv(Kernel):
    def _run(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        auto_pad: str = "NOTSET",
        dilations: Sequence[int] | None = None,
        group: int = 1,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        **_: Any,
    ) -> tuple[Array]:
        rank = x.ndim - 2
        steps, gaps = _per_axis(strides, rank), _per_axis(dilations, rank)
        spans = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], gaps, strict=True)]
        resolved = kernels.resolve_pads(auto_pad, pads, x.shape[2:], spans, steps)
        return (kernels.conv(x, w, b, strides=steps, dilations=gaps, pads=resolved, group=group),)


@_register
class ConvTranspose(Kernel):
    def _run(
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        auto_pad: str = "NOTSET",
        dilations: Sequence[int] | None = None,
        group: int = 1,
        output_padding: Sequence[int] | None = None,
        output_shape: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        **_: Any,
    ) -> tuple[Array]:
        rank = x.ndim - 2
        steps, gaps = _per_axis(strides, rank), _per_axis(dilations, rank)
        extra = list(output_padding or [0] * rank)
        sizes = x.shape[2:]
        full = [
            (n - 1) * s + (k - 1) * d + 1 + e
            for n, s, k, d, e in zip(sizes, steps, w.shape[2:], gaps, extra, strict=True)
        ]
        targets = [n * s for n, s in zip(sizes, steps, strict=True)]
        resolved = kernels.transposed_pads(auto_pad, pads, output_shape, full, targets)
        return (
            kernels.conv_transpose(
                x,
                w,
                b,
                strides=steps,
                dilations=gaps,
                pads=resolved,
                output_padding=extra,
                group=group,
            ),
        )


class _Pool(Kernel):
    """What MaxPool and AveragePool share: their geometry."""

    def _geometry(
        self,
        x: Array,
        kernel_shape: Sequence[int],
        auto_pad: str,
        ceil_mode: int,
        dilations: Sequence[int] | None,
        pads: Sequence[int] | None,
        strides: Sequence[int] | None,
    ) -> dict[str, Any]:
        rank = x.ndim - 2
        steps, gaps = _per_axis(strides, rank), _per_axis(dilations, rank)
        spans = [(k - 1) * d + 1 for k, d in zip(kernel_shape, gaps, strict=True)]
        resolved = kernels.resolve_pads(auto_pad, pads, x.shape[2:], spans, steps)
        return {"strides": steps, "dilations": gaps, "pads": resolved, "ceil": bool(ceil_mode)}


@_register
class MaxPool(_Pool):
    @classmethod
    def covers(cls, node: NodeProto, _: int) -> bool:
        """Not where the indices are asked for."""
        return len([name for name in node.output if name]) == 1

    def _run(
        self,
        x: Array,
        kernel_shape: Sequence[int],
        auto_pad: str = "NOTSET",
        ceil_mode: int = 0,
        dilations: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        **_: Any,
    ) -> tuple[Array]:
        if x.dtype.kind != "f":
            raise TypeError(f"MaxPool of {x.dtype} has no float64 evaluation")
        geometry = self._geometry(x, kernel_shape, auto_pad, ceil_mode, dilations, pads, strides)
        return (kernels.max_pool(x, kernel_shape, **geometry),)


@_register
class AveragePool(_Pool):
    def _run(
        self,
        x: Array,
        kernel_shape: Sequence[int],
        auto_pad: str = "NOTSET",
        ceil_mode: int = 0,
        count_include_pad: int = 0,
        dilations: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        **_: Any,
    ) -> tuple[Array]:
        geometry = self._geometry(x, kernel_shape, auto_pad, ceil_mode, dilations, pads, strides)
        counted = bool(count_include_pad)
        return (kernels.average_pool(x, kernel_shape, count_padding=counted, **geometry),)


@_register
class GlobalMaxPool(Kernel):
    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


@_register
class BatchNormalization(Kernel):
    """Inference of every opset; the plain evaluator trains where opset 9 to 13 do not."""

    @classmethod
    def covers(cls, node: NodeProto, opset: int) -> bool:
        """Not in training mode."""
        flags = {a.name: a.i for a in node.attribute}
        if opset < 7:
            return bool(flags.get("is_test", 0))
        extra = any(name for name in node.output[1:])
        return not flags.get("training_mode", 0) and (opset >= 14 or not extra)

    def _run(
        self, x: Array, scale: Array, b: Array, mean: Array, var: Array, epsilon: float, **_: Any
    ) -> tuple[Array]:
        return (kernels.batch_normalization(x, scale, b, mean, var, float(epsilon)),)


@_register
class LRN(Kernel):
    def _run(
        self, x: Array, size: int, alpha: float, beta: float, bias: float, **_: Any
    ) -> tuple[Array]:
        return (kernels.local_response(x, size, float(alpha), float(beta), float(bias)),)


class _Along(Kernel):
    """Softmax and its kin: before opset 13 over everything from `axis` on, then along it."""

    function: ClassVar[Any]

    def _run(self, x: Array, axis: int | None = None, **_: Any) -> tuple[Array]:
        named = {a.name for a in self.onnx_node.attribute}
        if self.opset >= 13:
            return (type(self).function(x, axis if "axis" in named and axis is not None else -1),)
        first = (axis if "axis" in named and axis is not None else 1) % max(x.ndim, 1)
        rows = x.reshape(int(np.prod(x.shape[:first])), -1)
        return (type(self).function(rows, 1).reshape(x.shape),)


@_register
class Softmax(_Along):
    function = staticmethod(kernels.softmax)


@_register
class LogSoftmax(_Along):
    function = staticmethod(kernels.log_softmax)


@_register
class Erf(Kernel):
    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        return (kernels.erf(x),)


@_register
class LeakyRelu(Kernel):
    def _run(self, x: Array, alpha: float, **_: Any) -> tuple[Array]:
        return (kernels.leaky_relu(x, float(alpha)),)


@_register
class Softplus(Kernel):
    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        return (np.logaddexp(0.0, x),)


@_register
class Slice(Kernel):
    """Bounds are clamped as runtimes do; they are attributes before opset 10."""

    def _run(
        self,
        x: Array,
        *given: Array | None,
        starts: Any = None,
        ends: Any = None,
        axes: Any = None,
        **_: Any,
    ) -> tuple[Array]:
        bounds: list[Any] = [None if v is None else np.atleast_1d(v).tolist() for v in given]
        bounds += [starts, ends, axes, None][len(bounds) :]
        cut = cut_out(x, bounds[0], bounds[1], bounds[2], bounds[3])
        if cut is None:
            raise ValueError("the bounds of Slice do not fit together")
        return (cut,)


@_register
class Unsqueeze(Kernel):
    """Axes are those of the result, and may be negative."""

    def _run(
        self, x: Array, given: Array | None = None, axes: Any = None, **_: Any
    ) -> tuple[Array]:
        where = given if given is not None else axes
        return (np.expand_dims(x, tuple(int(a) for a in np.atleast_1d(where))),)


class _Upscale(Kernel):
    """What Upsample and the first Resize share: asymmetric coordinates, rounded down."""

    def _resized(self, x: Array, scales: Array, mode: str) -> tuple[Array]:
        return (kernels.resize(x, [float(s) for s in scales], linear=mode != "nearest"),)


@_register
class Resize(_Upscale):
    @classmethod
    def covers(cls, _: NodeProto, opset: int) -> bool:
        """Only opset 10; the plain evaluator takes its scales for a region of interest."""
        return opset == 10

    def _run(self, x: Array, scales: Array, mode: str = "nearest", **_: Any) -> tuple[Array]:
        return self._resized(x, scales, mode)


@_register
class Upsample(_Upscale):
    def _run(
        self,
        x: Array,
        given: Array | None = None,
        mode: str = "nearest",
        scales: Any = None,
        **_: Any,
    ) -> tuple[Array]:
        return self._resized(x, given if given is not None else np.asarray(scales), mode)


class Direction(NamedTuple):
    """Of one direction: recurrent weights (gates * H, H), both biases, peepholes (3H)."""

    r: Array
    b: Array
    p: Array


class _Recurrent(Kernel):
    """What the three share: directions, layouts, lengths, one matrix product for all steps."""

    loops = True
    functions: ClassVar[tuple[str, ...]]
    """The activations of one direction where none are given."""
    states: ClassVar[int] = 1

    def _cell(
        self, one: Direction, functions: Sequence[Activation], options: Mapping[str, Any]
    ) -> tuple[Array, Cell]:
        """What one direction adds to the gates of every step, and its step."""
        raise NotImplementedError

    def _run(
        self,
        x: Array,
        w: Array,
        r: Array,
        b: Array | None = None,
        lengths: Array | None = None,
        h: Array | None = None,
        c: Array | None = None,
        p: Array | None = None,
        direction: str = "forward",
        layout: int = 0,
        activations: Sequence[str] | None = None,
        activation_alpha: Sequence[float] | None = None,
        activation_beta: Sequence[float] | None = None,
        **options: Any,
    ) -> tuple[Array, ...]:
        directions, rows, size = r.shape
        if layout:
            x = x.swapaxes(0, 1)
        b = np.zeros((directions, 2 * rows), x.dtype) if b is None else b
        p = np.zeros((directions, 3 * size), x.dtype) if p is None else p
        nothing = np.zeros((directions, x.shape[1], size), x.dtype)
        initial = [
            nothing if state is None else state.swapaxes(0, 1) if layout else state
            for state in (h, c)[: self.states]
        ]
        functions = recurrence.activations(
            activations or self.functions * directions,
            activation_alpha or (),
            activation_beta or (),
        )
        hidden, last = [], []
        for index in range(directions):
            own = functions[index * len(self.functions) :][: len(self.functions)]
            one = Direction(r[index], b[index], p[index])
            bias, cell = self._cell(one, own, options)
            backwards = direction == "reverse" or index == 1
            gates = x @ w[index].T + bias
            states = tuple(state[index] for state in initial)
            y, after = recurrence.unroll(cell, gates, states, lengths, backwards=backwards)
            hidden.append(y)
            last.append(after)
        ends = [np.stack(states) for states in zip(*last, strict=True)]
        if layout:
            return np.stack(hidden, 2).swapaxes(0, 1), *(end.swapaxes(0, 1) for end in ends)
        return np.stack(hidden, 1), *ends


@_register
class LSTM(_Recurrent):
    functions = ("Sigmoid", "Tanh", "Tanh")
    states = 2

    def _cell(
        self, one: Direction, functions: Sequence[Activation], options: Mapping[str, Any]
    ) -> tuple[Array, Cell]:
        coupled = bool(options.get("input_forget"))
        cell = recurrence.lstm(one.r, one.p, functions, options.get("clip"), coupled=coupled)
        of_input, of_hidden = np.split(one.b, 2)
        return of_input + of_hidden, cell


@_register
class GRU(_Recurrent):
    functions = ("Sigmoid", "Tanh")

    def _cell(
        self, one: Direction, functions: Sequence[Activation], options: Mapping[str, Any]
    ) -> tuple[Array, Cell]:
        of_input, of_hidden = np.split(one.b, 2)
        *both, new = np.split(of_hidden, 3)
        behind = bool(options.get("linear_before_reset"))
        cell = recurrence.gru(one.r, new, functions, options.get("clip"), reset_behind=behind)
        return of_input + np.concatenate([*both, np.zeros_like(new)]), cell


@_register
class RNN(_Recurrent):
    functions = ("Tanh",)

    def _cell(
        self, one: Direction, functions: Sequence[Activation], options: Mapping[str, Any]
    ) -> tuple[Array, Cell]:
        of_input, of_hidden = np.split(one.b, 2)
        return of_input + of_hidden, recurrence.rnn(one.r, functions, options.get("clip"))


@_register
class Scan(Kernel):
    """Its body sees the values around it, and its inputs and outputs may run backwards."""

    def need_context(self) -> bool:
        """Whether the evaluator hands over the values around it."""
        return True

    def _run(
        self,
        *values: Array,
        context: Mapping[str, Any] | None = None,
        body: Any = None,
        num_scan_inputs: int = 0,
        scan_input_axes: Sequence[int] | None = None,
        scan_input_directions: Sequence[int] | None = None,
        scan_output_axes: Sequence[int] | None = None,
        scan_output_directions: Sequence[int] | None = None,
        **_: Any,
    ) -> tuple[Array, ...]:
        if self.opset < 9:
            raise NotImplementedError("Scan of opset 8, over batches")
        count = len(values) - num_scan_inputs
        states, given = list(values[:count]), values[count:]
        read = [
            np.moveaxis(value, axis, 0)[::way]
            for value, axis, way in _ways(given, scan_input_axes, scan_input_directions)
        ]
        steps: list[list[Array]] = []
        for rows in zip(*read, strict=True):
            names = zip(body.input_names, (*states, *rows), strict=True)
            outputs = body.run(None, {**(context or {}), **dict(names)})
            states = outputs[:count]
            steps.append(outputs[count:])
        scans = [np.stack(parts) for parts in zip(*steps, strict=True)]
        if len(scans) < len(body.output_names) - count:
            raise NotImplementedError("Scan of no steps")
        written = [
            np.moveaxis(scan[::way], 0, axis)
            for scan, axis, way in _ways(scans, scan_output_axes, scan_output_directions)
        ]
        return (*states, *written)


def _ways(
    values: Sequence[Array], axes: Sequence[int] | None, backwards: Sequence[int] | None
) -> Iterable[tuple[Array, int, int]]:
    """Each value with the axis along which it is walked, and the step: 1, or -1 for backwards."""
    nowhere = [0] * len(values)
    for value, axis, back in zip(values, axes or nowhere, backwards or nowhere, strict=True):
        yield value, axis, -1 if back else 1
