"""What would the model compute without rounding? A float64 evaluation of an ONNX model.

The ONNX reference evaluator does the work. Every floating-point value is raised to float64 as
soon as it appears (initializers, constants, inputs, what nodes give), and Casts between float
types round no more; so the model itself is never rewritten. Operators that the plain evaluator
computes slowly, in float32, or for the newest opset only are replaced by `bnfold.kernels`.
Values are dropped once nothing reads them any more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto
from onnx.reference import ReferenceEvaluator

from bnfold import functions
from bnfold.draws import RANDOM
from bnfold.effort import effort
from bnfold.float64 import Kernel, kernel_for
from bnfold.nesting import all_nodes
from bnfold.order import in_order, reads

Array = NDArray[Any]
Feeds = Mapping[str, Array]

_FLOAT_NAMES = frozenset(
    {"float16", "float32", "float64", "bfloat16"}
    | {"float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"}
)
ROUNDING = frozenset(
    {
        *("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"),
        *("ConvInteger", "MatMulInteger"),
    }
)
"""Operators whose result is a rounding: more digits do not bring them nearer to a truth."""


class Unjudgeable(Exception):
    """The model has no float64 evaluation; the text says which operator is at fault."""


class OutOfTime(Exception):
    """The evaluation took longer than it was given."""


class Judge:
    """A model, ready to be evaluated in float64. Raises Unjudgeable where it cannot be."""

    def __init__(self, model: onnx.ModelProto) -> None:
        hopeless = sorted({n.op_type for n in all_nodes(model)} & (ROUNDING | RANDOM))
        if hopeless:
            raise Unjudgeable(f"{', '.join(hopeless)} has no float64 evaluation")
        try:
            with _quiet():
                self._evaluator = Evaluator(in_order(_with_bodies(model)))
        except Exception as error:  # the evaluator raises whatever it stumbles over
            raise Unjudgeable(_sentence(error)) from error

    def run(
        self, feeds: Feeds, seconds: float | None = None, *, single: bool = False
    ) -> dict[str, Array]:
        """The graph outputs by name; floating-point ones in float64.

        With `single` the same evaluator rounds every value to float32: what that does to the
        result is rounding, and nothing else. Raises OutOfTime past `seconds`, Unjudgeable where
        an operator fails.
        """
        precision = _precision.set(np.float32 if single else np.float64)
        token = _deadline.set(None if seconds is None else time.monotonic() + seconds)
        try:
            with _quiet():
                values = self._evaluator.run(None, dict(feeds))
        except OutOfTime:
            raise
        except Exception as error:  # the evaluator raises whatever it stumbles over
            if isinstance(error.__cause__, OutOfTime):
                raise error.__cause__ from error
            raise Unjudgeable(_sentence(error)) from error
        finally:
            _deadline.reset(token)
            _precision.reset(precision)
        return dict(zip(self._evaluator.output_names, values, strict=True))


def _with_bodies(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its functions inlined: the plain evaluator knows no default of theirs, and
    none that is called before it is defined."""
    if not model.functions or effort(model) is None:  # inlined, it would have no end
        return model
    return functions.flattened(model)


def _sentence(error: BaseException) -> str:
    """The first line of an error of the evaluator, short enough for a note."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    return text.split(" Available implementations")[0][:200]


@contextmanager
def _quiet() -> Iterator[None]:
    """Overflow, division by zero and the like are results here, not mishaps.

    Warnings of other kinds follow the filters of whoever calls: those belong to the whole process.
    """
    with np.errstate(all="ignore"):
        yield


_precision: ContextVar[type[np.floating[Any]]] = ContextVar("precision", default=np.float64)


def raised(value: Any) -> Any:
    """`value` in float64 where it is of a float type; sequences element by element."""
    if isinstance(value, list):
        return [raised(item) for item in value]
    if isinstance(value, np.ndarray) and value.dtype.name in _FLOAT_NAMES:
        return value.astype(_precision.get(), copy=False)
    return value


# --- time ----------------------------------------------------------------------------------

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def _check_time() -> None:
    limit = _deadline.get()
    if limit is not None and time.monotonic() > limit:
        raise OutOfTime


@contextmanager
def _watched() -> Iterator[None]:
    """Ends an operator that is written as a Python loop: its calls look at the clock.

    A profile hook is the one way to stop such a loop in its own thread. A hook that is there
    already (a profiler's) is left alone.
    """
    if _deadline.get() is None or sys.getprofile() is not None:
        yield
        return
    sys.setprofile(lambda *_: _check_time())
    try:
        yield
    finally:
        sys.setprofile(None)


# --- evaluator -----------------------------------------------------------------------------


class Evaluator(ReferenceEvaluator):
    """The reference evaluator with float64 values, own kernels, a clock and less memory."""

    def _init(self) -> None:
        super()._init()
        self.rt_inits_ = {name: raised(value) for name, value in self.rt_inits_.items()}
        self._last_reads = _last_reads(self.nodes_, self.output_names_)

    def _load_impl(self, node: NodeProto, input_types: Any = None) -> Any:
        kernel = kernel_for(node, self.opsets_)
        return kernel if kernel is not None else super()._load_impl(node, input_types)

    def run(
        self,
        output_names: Sequence[str] | None,
        feed_inputs: dict[str, Any],
        attributes: dict[str, Any] | None = None,
        *_args: Any,
        **_kwargs: Any,
    ) -> list[Any]:
        """As the parent's `run`; the subgraphs and functions of the model come through here."""
        values: dict[str, Any] = {"": None}
        given = (*self.rt_inits_.items(), *feed_inputs.items())
        values.update((name, raised(value)) for name, value in given)
        for node, done in zip(self.rt_nodes_, self._last_reads, strict=True):
            _check_time()
            for name, value in zip(
                node.output, self._step(node, values, attributes), strict=False
            ):
                if name:  # an output that is left out is no input that is left out
                    values[name] = raised(value)
            for name in done:
                values.pop(name, None)
        return [values[name] for name in output_names or self.output_names_]

    def _step(
        self, node: Any, values: dict[str, Any], attributes: dict[str, Any] | None
    ) -> Sequence[Any]:
        inputs = [values[name] for name in node.input]
        extra: dict[str, Any] = {}
        if node.has_linked_attribute and attributes:
            extra["linked_attributes"] = attributes
        if node.need_context():
            return list(node.run(*inputs, context=values, **extra))
        if isinstance(node, Kernel) and not node.loops:
            return list(node.run(*inputs, **extra))  # type: ignore[no-untyped-call]
        with _watched():
            return list(node.run(*inputs, **extra))


def _last_reads(nodes: Sequence[NodeProto], outputs: Sequence[str]) -> list[list[str]]:
    """For each node, the names that nothing reads after it."""
    kept, dropped = set(outputs) | {""}, []
    for node in reversed(nodes):
        mentioned = set(reads(node)) | set(node.output)
        dropped.append(sorted(mentioned - kept))
        kept |= mentioned
    return dropped[::-1]
