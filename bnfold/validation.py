"""Is this a model that the rest of bnfold can walk without surprises?

Names, order, sizes and versions are checked here, where a message can be about the user's own
graph; what the operators' schemas demand is left to onnx's checker. Weights are never copied:
the checker sees a skeleton in which every tensor is empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

import onnx
from onnx import (
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
)

from bnfold.errors import ModelError
from bnfold.nesting import graphs, subgraphs
from bnfold.order import in_order
from bnfold.skeleton import skeleton

EXPORT_AGAIN = "export the model again, or repair it with the tool that made it"
UPGRADE = "pip install --upgrade onnx, or export the model with an older opset"


def checked(model: ModelProto, name: str = "the model") -> ModelProto:
    """The model, its nodes in order; ModelError, with a message about `name`, if it is unsound."""
    try:
        _check_versions(model)
        _check_operators(model.graph)
        model = in_order(model)
        _check_texts(model)
        _check_references(model)
        _check_names(model)
        for owner, tensor in tensors(model):
            _check_size(owner, tensor)
        _check_schemas(model)
    except ModelError as error:
        raise ModelError(f"{name} is not a valid ONNX model: {error}", error.hint) from None
    return model


# -- versions -----------------------------------------------------------------------------------


def _check_versions(model: ModelProto) -> None:
    if not model.HasField("graph"):
        raise ModelError("it holds no graph", EXPORT_AGAIN)
    if model.ir_version < 1:
        raise ModelError("its IR version is missing", EXPORT_AGAIN)
    if model.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"it has IR version {model.ir_version}, "
            f"and onnx {onnx.__version__} knows none past {onnx.IR_VERSION}",
            UPGRADE,
        )
    if model.ir_version >= 3 and not model.opset_import:
        raise ModelError("it does not say which opset it uses", EXPORT_AGAIN)
    newest = {domain: last for domain, (_, last) in _schema_versions().items()}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        known = newest.get(domain)
        if known is not None and not 1 <= entry.version <= known:
            raise ModelError(
                f"it uses opset {entry.version} of {domain or 'ai.onnx'}, "
                f"and onnx {onnx.__version__} knows 1 to {known}",
                UPGRADE,
            )


def _check_operators(graph: GraphProto) -> None:
    """First of all, for a file of two bytes a node: everything else takes longer to say so."""
    if not all(node.op_type for node in graph.node):
        raise ModelError("a node of it has no operator", EXPORT_AGAIN)


def _schema_versions() -> dict[str, tuple[int, int]]:
    versions: dict[str, tuple[int, int]] = onnx.defs.C.schema_version_map()
    return versions


# -- texts, names and order ---------------------------------------------------------------------


def _check_texts(model: ModelProto) -> None:
    """Protobuf gives a text that is not UTF-8 as bytes, which nothing here could compare."""
    for text in chain(
        *((entry.domain for entry in holder.opset_import) for holder in _bodies(model)),
        *map(_graph_texts, graphs(model.graph)),
        *(_body_texts(function.node) for function in model.functions),
    ):
        if not isinstance(text, str):
            raise ModelError(f"the text {text!r} in it is not UTF-8", EXPORT_AGAIN)


def _check_references(model: ModelProto) -> None:
    """An attribute can be taken from the caller of a function, and only within one."""
    for node in chain.from_iterable(graph.node for graph in graphs(model.graph)):
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise ModelError(
                    f"{node.op_type} (`{next(iter(node.output), '')}`) takes its attribute "
                    f"{attribute.name} from a function's, and is in no function",
                    EXPORT_AGAIN,
                )


def _bodies(model: ModelProto) -> Iterator[ModelProto | FunctionProto]:
    yield model
    yield from model.functions


def _graph_texts(graph: GraphProto) -> Iterator[str]:
    yield graph.name
    for value in chain(graph.input, graph.output, graph.value_info):
        yield value.name
    for tensor in graph.initializer:
        yield tensor.name
    yield from _body_texts(graph.node)


def _body_texts(nodes: Iterable[NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield node.name
        yield node.op_type
        yield node.domain
        yield from node.input
        yield from node.output
        yield from (attribute.name for attribute in node.attribute)


def _check_names(model: ModelProto) -> None:
    for value in model.graph.input:
        if not value.type.WhichOneof("value"):
            raise ModelError(f"its input `{value.name}` has no type", EXPORT_AGAIN)
    _check_graph(model.graph, set())
    for function in model.functions:
        _check_body(function.node, set(function.input), set())


def _check_graph(graph: GraphProto, outer: set[str]) -> None:
    """Every name is made once and before it is read; `outer` is what enclosing graphs made."""
    made: set[str] = set()
    for value in graph.input:
        _define(value.name, made)
    constants: set[str] = set()
    sparse = (initializer.values.name for initializer in graph.sparse_initializer)
    for constant in chain((initializer.name for initializer in graph.initializer), sparse):
        _define(constant, constants)
    made |= constants  # an initializer may be an input's default
    _check_body(graph.node, made, outer)
    for value in graph.output:
        if value.name not in made and value.name not in outer:
            raise ModelError(f"no node makes its output `{value.name}`", EXPORT_AGAIN)


def _check_body(nodes: Iterable[NodeProto], made: set[str], outer: set[str]) -> None:
    for node in nodes:
        for name in node.input:
            if name and name not in made and name not in outer:
                raise _unmade(nodes, node, name)
        for graph in subgraphs(node):
            _check_graph(graph, outer | made)
        for name in node.output:
            if name:
                _define(name, made)


def _define(name: str, made: set[str]) -> None:
    if name in made:
        raise ModelError(
            f"the name `{name}` is given to more than one tensor",
            "make every tensor's name unique, for example by exporting the model again",
        )
    made.add(name)


def _unmade(nodes: Iterable[NodeProto], reader: NodeProto, name: str) -> ModelError:
    where = f"{describe(reader)} reads `{name}`"
    if any(name in node.output for node in nodes):  # in_order has sorted what can be sorted
        return ModelError(f"{where}, which depends on it: its nodes form a cycle", EXPORT_AGAIN)
    return ModelError(f"{where}, which nothing makes", EXPORT_AGAIN)


def describe(node: NodeProto) -> str:
    """A node in words, named by its output since node names may be missing or repeat."""
    output = next((name for name in node.output if name), None)
    return node.op_type if output is None else f"{node.op_type} of `{output}`"


# -- tensors ------------------------------------------------------------------------------------


def tensors(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Every dense tensor of a model and a name for it, at any depth."""
    bodies = [node for function in model.functions for node in function.node]
    within = (inner for node in bodies for inner in subgraphs(node))
    for graph in chain(*map(graphs, chain([model.graph], within))):
        yield from ((tensor.name, tensor) for tensor in graph.initializer)
        bodies.extend(graph.node)
    for node in bodies:
        owner = next(iter(node.output), "") or node.op_type
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield owner, attribute.t
            yield from ((owner, tensor) for tensor in attribute.tensors)


def is_external(tensor: TensorProto) -> bool:
    """Whether the tensor's data is in another file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def element_bits(data_type: int) -> int | None:
    """Bits of one element; None for strings. Raises KeyError for an unknown type."""
    name = _TYPE_NAMES[data_type]
    if name in _PLAIN_BITS:
        return _PLAIN_BITS[name]
    match = re.search(r"\d+", name)  # UINT8, BFLOAT16, FLOAT8E4M3FN, INT4, ...
    assert match is not None, name
    return int(match[0])


_PLAIN_BITS: dict[str, int | None] = {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8, "STRING": None}
_TYPE_NAMES: dict[int, str] = {
    value: name for name, value in TensorProto.DataType.items() if name != "UNDEFINED"
}


def count_bytes(owner: str, tensor: TensorProto) -> int | None:
    """How many bytes the dims and the type ask for; None for strings. Raises ModelError."""
    if tensor.data_type not in _TYPE_NAMES:
        raise ModelError(f"tensor `{owner}` has unknown type {tensor.data_type}", EXPORT_AGAIN)
    bits = element_bits(tensor.data_type)
    return None if bits is None else (_count(owner, tensor) * bits + 7) // 8


def _count(owner: str, tensor: TensorProto) -> int:
    count = 1
    for dim in tensor.dims:
        if dim < 0:
            raise ModelError(f"tensor `{owner}` has a negative dimension, {dim}", EXPORT_AGAIN)
        count *= dim
    return count


def _check_size(owner: str, tensor: TensorProto) -> None:
    """The data present is as much as dims and type ask for."""
    needed = count_bytes(owner, tensor)
    if tensor.HasField("segment"):
        raise ModelError(f"tensor `{owner}` is stored in segments", EXPORT_AGAIN)
    if is_external(tensor):
        if needed is None:
            raise ModelError(f"tensor `{owner}` keeps strings in another file", EXPORT_AGAIN)
        return
    if tensor.HasField("raw_data"):
        unit, found = "bytes", len(tensor.raw_data)
    else:
        unit, needed, found = "values", *_count_values(owner, tensor, needed)
    if found != needed:
        kind = _TYPE_NAMES[tensor.data_type].lower()
        shape = "×".join(map(str, tensor.dims)) or "scalar"
        raise ModelError(
            f"tensor `{owner}` holds {found} {unit} where {shape} {kind} needs {needed}",
            EXPORT_AGAIN,
        )


def _count_values(owner: str, tensor: TensorProto, needed_bytes: int | None) -> tuple[int, int]:
    """How many values the typed field of a tensor needs and holds."""
    field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
    found = len(getattr(tensor, field))
    bits = element_bits(tensor.data_type)
    if bits is not None and bits < 8:
        assert needed_bytes is not None
        return needed_bytes, found  # several elements are packed into each value
    per_element = 2 if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128) else 1
    return per_element * _count(owner, tensor), found


# -- operators ----------------------------------------------------------------------------------


DEPRECATED = "is deprecated in domain_version of"
"""What onnx's checker says of operators that runtimes run all the same: GroupNormalization of
opset 18 to 20, Upsample from 10 on."""


def _check_schemas(model: ModelProto) -> None:
    try:
        onnx.checker.check_model(skeleton(model))
    except Exception as error:  # it raises types of four libraries; all say that the model is bad
        if DEPRECATED in str(error):
            return
        raise ModelError(_first_sentence(str(error)), EXPORT_AGAIN) from None


def _first_sentence(text: str) -> str:
    """The checker's message on one line, without the context that it appends."""
    lines = [line.strip() for line in text.split("\n\n==> Context")[0].splitlines()]
    return " ".join(line for line in lines if line)[:400] or "the checker refuses it"
