"""Which sizes do the open dimensions of a model take? Overrides first, then a bounded search."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from bnfold.errors import BnfoldError, InputError
from bnfold.ranges import known_sizes

Dims = Mapping[str, int | Sequence[int]]
"""`{"batch": 4}` for a symbolic dimension, `{"image": (1, 3, 224, 224)}` for an input."""

Sizes = Mapping[str, int]
"""A size for each open dimension."""

COMMON = (32, 64, 224, 16, 128, 8, 1, 256, 48, 96, 3, 4, 2, 10, 320, 416, 512, 640, 640, 80, 24)
"""Sizes that networks were seen to need, the likeliest first and large ones late."""

ONLY_NUMBERS = (
    "only tensors of numbers and booleans can be fed; `bnfold optimize --no-verify --no-bench` "
    "folds such a model unproven"
)

TRIES = 150
"""How many combinations of sizes a search runs before it gives up."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """A graph input that a caller must feed.

    `shape` holds sizes, and symbols for what is open; an unnamed dimension gets a symbol of its
    own ("x:0" for axis 0 of x).
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]

    def at(self, sizes: Sizes) -> tuple[int, ...]:
        """The shape with every symbol replaced."""
        return tuple(dim if isinstance(dim, int) else sizes[dim] for dim in self.shape)

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join(map(str, self.shape))})"


def input_specs(model: onnx.ModelProto, dims: Dims | None = None) -> tuple[InputSpec, ...]:
    """The inputs to feed; initializers that are inputs too are not among them.

    Raises InputError for inputs that are no tensors of numbers, for an input of unknown rank
    that `dims` gives no shape, and for a `dims` that does not fit.
    """
    dims = {} if dims is None else dims
    if not isinstance(dims, Mapping):
        raise InputError(
            f"dims cannot be {type(dims).__name__} {dims!r:.80}",
            'give sizes and shapes by name: {"batch": 4, "x": (1, 3, 224, 224)}',
        )
    constants = {i.name for i in model.graph.initializer}
    constants |= {i.values.name for i in model.graph.sparse_initializer}
    fed = [value for value in model.graph.input if value.name not in constants]
    specs = tuple(_spec(value, dims) for value in fed)
    _refuse_unknown_names(dims, fed, specs)
    return specs


def _spec(value: onnx.ValueInfoProto, dims: Dims) -> InputSpec:
    dtype = _dtype(value)
    given = dims.get(value.name)
    tensor = value.type.tensor_type
    if given is not None and not isinstance(given, int):
        shape = tuple(int(size) for size in given)
        _refuse_misfit(value, shape)
        return InputSpec(value.name, dtype, shape)
    if not tensor.HasField("shape"):
        raise InputError(
            f"input {value.name} has no declared rank",
            f"give its shape, for example --input {value.name}=1x3x224x224",
        )
    open_or_fixed = (_dim(value.name, axis, d) for axis, d in enumerate(tensor.shape.dim))
    resolved = (dims.get(d, d) if isinstance(d, str) else d for d in open_or_fixed)
    return InputSpec(
        value.name, dtype, tuple(d if isinstance(d, str) else _one(d) for d in resolved)
    )


def _one(size: int | Sequence[int]) -> int:
    if isinstance(size, int):
        return size
    raise InputError(
        f"a symbolic dimension takes one size, not {tuple(size)}",
        'give a number for a dimension, as {"batch": 4}, or a shape for an input',
    )


def _dim(name: str, axis: int, dim: onnx.TensorShapeProto.Dimension) -> int | str:
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return dim.dim_value
    return dim.dim_param or f"{name}:{axis}"


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    """The NumPy type of an input. Raises InputError for what bnfold cannot feed."""
    if not value.type.HasField("tensor_type"):
        kind = (value.type.WhichOneof("value") or "untyped").removesuffix("_type")
        raise InputError(
            f"input {value.name} is {'an' if kind[0] in 'aeiou' else 'a'} {kind}, "
            "which bnfold cannot feed",
            ONLY_NUMBERS,
        )
    element = value.type.tensor_type.elem_type
    dtype = None
    if element not in (TensorProto.UNDEFINED, TensorProto.STRING):
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element))
    if dtype is None or dtype.kind not in "fiub":
        raise InputError(
            f"input {value.name} holds {TensorProto.DataType.Name(element).lower()} values, "
            "which bnfold cannot feed",
            ONLY_NUMBERS,
        )
    return dtype


def _refuse_misfit(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return
    declared = tuple(_dim(value.name, axis, d) for axis, d in enumerate(tensor.shape.dim))
    fits = len(declared) == len(shape) and all(
        isinstance(want, str) or want == got for want, got in zip(declared, shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"shape {shape} does not fit input {value.name} ({', '.join(map(str, declared))})",
            f"for example --input {value.name}=" + "x".join(str(_example(d)) for d in declared),
        )


def _example(dim: int | str) -> int:
    return dim if isinstance(dim, int) else 1


def _refuse_unknown_names(
    dims: Dims, fed: Sequence[onnx.ValueInfoProto], specs: Sequence[InputSpec]
) -> None:
    symbols = {
        d.dim_param for value in fed for d in value.type.tensor_type.shape.dim if d.dim_param
    }
    symbols |= {dim for spec in specs for dim in spec.shape if isinstance(dim, str)}
    names = {value.name for value in fed}
    unknown = sorted(
        name
        for name, size in dims.items()
        if name not in (symbols if isinstance(size, int) else names)
    )
    if unknown:
        raise InputError(
            f"{', '.join(unknown)}: no such input or symbolic dimension",
            f"inputs: {', '.join(sorted(names)) or 'none'}; "
            f"dimensions: {', '.join(sorted(symbols)) or 'none'}",
        )


def find_sizes(
    model: onnx.ModelProto,
    specs: Sequence[InputSpec],
    refused: Callable[[Sizes], BnfoldError | None],
    count: int = 4,
    prefer: int | None = None,
) -> tuple[list[dict[str, int]], list[str]]:
    """Up to `count` assignments of sizes that the model runs with, and notes on those it refused.

    `prefer` is tried before the common sizes. `refused` runs the model at the given sizes and
    gives its error. Raises InputError when no combination within the bound runs; with no open
    dimension, the error of the only one.
    """
    symbols = list(dict.fromkeys(d for spec in specs for d in spec.shape if isinstance(d, str)))
    common = COMMON if prefer is None else (prefer, *COMMON)
    tried = itertools.islice(_candidates(model, specs, symbols, common), TRIES)
    base = next((sizes for sizes in tried if refused(sizes) is None), None)
    if base is None:
        only = None if symbols else refused({})
        if only is not None:
            raise only
        raise InputError(
            f"no sizes were found at which the model runs: {', '.join(map(str, specs)) or 'none'}",
            "give them, for example --input NAME=1x3x224x224",
        )
    found, notes = [base], []
    for sizes in _variants(base, symbols):
        if len(found) == count:
            break
        if refused(sizes) is None:
            found.append(sizes)
        else:
            notes.append(f"the model does not run at {describe(sizes)}; those sizes were skipped")
    return found, notes


def describe(sizes: Sizes) -> str:
    """Sizes in words: "batch 3, height 64"."""
    return ", ".join(f"{symbol} {size}" for symbol, size in sizes.items())


def _candidates(
    model: onnx.ModelProto,
    specs: Sequence[InputSpec],
    symbols: Sequence[str],
    common: Sequence[int],
) -> Iterator[dict[str, int]]:
    """Assignments, the likeliest first: one size for all, then combinations."""
    hints = channel_hints(model, specs)
    batch = {str(spec.shape[0]) for spec in specs if spec.shape}
    free = [s for s in symbols if s not in hints and s not in batch]
    fixed = {s: hints.get(s, 1) for s in symbols if s not in free}
    for size in dict.fromkeys(common) if free else (1,):
        yield {s: fixed.get(s, size) for s in symbols}
    for size in COMMON[:8]:  # a "batch" that is none: a time axis, say
        yield {s: hints.get(s, size) for s in symbols}
    for some in itertools.product((1, 32, 4, 128, 3, 16), repeat=min(len(free), 4)):
        chosen = dict(zip(free, some, strict=False))
        yield {s: fixed.get(s, chosen.get(s, 32)) for s in symbols}


def _variants(base: Sizes, symbols: Sequence[str]) -> Iterator[dict[str, int]]:
    """Other sizes than the base: each dimension by itself, odd ones too, then all together."""
    for symbol in symbols:
        yield {**base, symbol: 3 if base[symbol] == 1 else 2 * base[symbol]}
    for symbol in symbols:
        if base[symbol] > 1:
            yield {**base, symbol: base[symbol] + 1}
    if len(symbols) > 1:
        yield {s: 2 if base[s] == 1 else base[s] + 32 for s in symbols}


def channel_hints(model: onnx.ModelProto, specs: Sequence[InputSpec]) -> dict[str, int]:
    """Sizes that follow from the weight that an input meets: a Conv's channels, a Gemm's rows."""
    sizes = known_sizes(model)
    hints: dict[str, int] = {}
    for spec in specs:
        for node in model.graph.node:
            if node.input and node.input[0] == spec.name:
                found = _hint(node, sizes)
                if found is not None and -len(spec.shape) <= found[0] < len(spec.shape):
                    dim = spec.shape[found[0]]
                    if isinstance(dim, str):
                        hints[dim] = found[1]
    return hints


def _hint(
    node: onnx.NodeProto, sizes: Mapping[str, tuple[int | None, ...]]
) -> tuple[int, int] | None:
    """(axis, size) of the node's first input, where the second one tells."""
    attributes = {a.name: a.i for a in node.attribute}
    weight = sizes.get(node.input[1], ()) if len(node.input) > 1 else ()
    axis_of: dict[str, tuple[int, int | None]] = {}
    if len(weight) >= 2:
        axis_of["Conv"] = (1, (weight[1] or 0) * (attributes.get("group") or 1))
        axis_of["ConvTranspose"] = (1, weight[0])
        axis_of["MatMul"] = (-1, weight[-2])
        axis_of["Gemm"] = (
            0 if attributes.get("transA") else 1,
            weight[attributes.get("transB", 0)],
        )
    if len(weight) == 1:
        axis_of["BatchNormalization"] = (1, weight[0])
    axis, size = axis_of.get(node.op_type, (0, None))
    return (axis, size) if size else None


def check_same_inputs(original: onnx.ModelProto, candidate: onnx.ModelProto) -> None:
    """Raises InputError where one model cannot be fed what the other one takes."""
    shapeless = {
        value.name: ()
        for model in (original, candidate)
        for value in model.graph.input
        if not value.type.tensor_type.HasField("shape")
    }
    want = {s.name: s for s in input_specs(original, _named(original, shapeless))}
    have = {s.name: s for s in input_specs(candidate, _named(candidate, shapeless))}
    if want.keys() != have.keys() or any(want[n].dtype != have[n].dtype for n in want):
        raise InputError(
            "the models take different inputs: "
            f"{', '.join(map(str, want.values())) or 'none'} against "
            f"{', '.join(map(str, have.values())) or 'none'}",
            "models are compared by the names and types of their inputs",
        )


def _named(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> Dims:
    names = {value.name for value in model.graph.input}
    return {name: shape for name, shape in shapes.items() if name in names}
