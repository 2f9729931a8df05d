"""Who makes a value, who reads it, and is it constant? Nodes and values over ONNX protobufs.

The index is built once and kept current by the few mutations below, so a fold costs what it
touches, not what the model holds. Subgraphs are scopes: a captured value is one object, read in
both. Protobufs are written back once, by `Graph.flush`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from bnfold.canonical import number
from bnfold.constants import FLOATS, Array, Constant
from bnfold.nesting import subgraphs
from bnfold.weights import Weights
from bnfold.writing import drop_overridable, list_initializers, write_scope

Dim = int | str | None
Shape = tuple[Dim, ...]
Position = tuple[int, ...]

SHAPE_READERS = frozenset({"Shape", "Size"})
"""Operators that look at the shape of a value only."""

LOOKS_ASIDE = {("Shape", 0), ("Size", 0), ("CastLike", 1), ("EyeLike", 0)}
"""Inputs, by operator and place, of which the elements do not matter, only shape or type."""


HELD = 1 << 27
"""Bytes of new weights that are held until they are written; others are computed then."""
LARGE = 1 << 25
"""Bytes of a new weight that is not held in any case."""
TINY = 1 << 16
"""Bytes of one that always is: it may be a sum over a large one."""


class Value:
    """A tensor: who makes it, who reads it, and what is known of it.

    `shape` holds an int, a symbol or None for each dimension, or is None for an unknown rank.
    """

    __slots__ = (
        "_constant",
        "_pending",
        "elem_type",
        "is_fixed",
        "is_input",
        "is_output",
        "is_overridable",
        "is_stored",
        "name",
        "producer",
        "scope",
        "shape",
        "uses",
    )

    def __init__(self, name: str, scope: Scope) -> None:
        self.name = name
        self.scope = scope
        self.producer: Node | None = None
        self.uses: dict[tuple[Node, int], None] = {}
        self.is_input = False
        self.is_output = False
        self.is_overridable = False
        """An initializer that a caller may replace: a graph input too."""
        self.is_stored = False
        """An initializer."""
        self.is_fixed = False
        """Made of constants alone, by whatever operators: no input has a part in it."""
        self._constant: Constant | None = None
        self._pending: Callable[[], Constant | None] | None = None
        self.shape: Shape | None = None
        self.elem_type = 0

    def __repr__(self) -> str:
        return f"Value({self.name!r})"

    @property
    def constant(self) -> Constant | None:
        """What it is worth, where that is known before run time."""
        self.settle()
        return self._constant

    @constant.setter
    def constant(self, constant: Constant | None) -> None:
        self._constant, self._pending = constant, None

    @property
    def is_constant(self) -> bool:
        """As `constant is not None`, without computing it where that is put off."""
        return self._constant is not None or self._pending is not None

    @property
    def is_put_off(self) -> bool:
        """Whether it is constant, and not computed yet."""
        return self._pending is not None

    def settle(self) -> None:
        """Compute what was put off."""
        if self._pending is not None:
            self._constant, self._pending = self._pending(), None

    def put_off(self, evaluate: Callable[[], Constant | None]) -> None:
        """It is constant, and computed when somebody asks."""
        self._pending = evaluate

    @property
    def rank(self) -> int | None:
        """Number of dimensions, where known."""
        return None if self.shape is None else len(self.shape)

    @property
    def readers(self) -> Iterator[tuple[Node, int]]:
        """The uses that look at the elements, not only at the shape."""
        return (
            (node, index)
            for node, index in self.uses
            if (node.op_type, index) not in LOOKS_ASIDE or node.domain
        )

    @property
    def is_captured(self) -> bool:
        """Whether a subgraph reads it."""
        return any(node.scope is not self.scope for node, _ in self.readers)

    @property
    def is_float(self) -> bool:
        """Whether it holds one of the float types that weights have."""
        return self.elem_type in FLOATS


class Node:
    """An operator; its inputs and outputs are values, None where an optional one is absent."""

    __slots__ = (
        "_attributes",
        "attributes_changed",
        "contradiction",
        "domain",
        "inputs",
        "is_dirty",
        "line",
        "op_type",
        "outputs",
        "position",
        "proto",
        "scope",
        "version",
    )

    def __init__(self, proto: NodeProto, scope: Scope, line: Position, version: int) -> None:
        self.proto = proto
        self.scope = scope
        self.line = self.position = line
        """Where it stands in the file, and when its turn is; both after what it reads from."""
        self.version = version
        """The opset of its domain."""
        self.op_type: str = proto.op_type
        self.domain: str = "" if proto.domain == "ai.onnx" else proto.domain
        self.inputs: list[Value | None] = []
        self.outputs: list[Value | None] = []
        self.is_dirty = False
        self.attributes_changed: dict[str, Any] = {}
        self.contradiction: str | None = None
        """What in it does not fit together, empty where all does; None before anybody asked."""
        self._attributes: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Node({self.op_type} -> {self.name})"

    @property
    def name(self) -> str:
        """Its first output: node names are optional in ONNX, and may repeat."""
        return next((v.name for v in self.outputs if v is not None), "")

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes by name; strings as str, lists as lists, tensors and graphs as protobufs."""
        if self._attributes is None:
            self._attributes = {a.name: attribute_value(a) for a in self.proto.attribute}
        return self._attributes

    def set_attribute(self, name: str, value: Any) -> None:
        """Change or add an attribute, or take it away (None); it reaches the protobuf on flush."""
        kept = {key: old for key, old in self.attributes.items() if key != name}
        self._attributes = kept if value is None else {**kept, name: value}
        self.attributes_changed[name] = value
        self.is_dirty = True


def attribute_value(attribute: AttributeProto) -> Any:
    """As `onnx.helper.get_attribute_value`, with text instead of bytes."""
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.STRING:
        return value.decode(errors="replace")
    if attribute.type == AttributeProto.STRINGS:
        return [item.decode(errors="replace") for item in value]
    return value


class Scope:
    """A graph or subgraph: its nodes in order, its values by name, the scope around it."""

    __slots__ = (
        "added",
        "holder",
        "is_reordered",
        "nodes",
        "orphans",
        "parent",
        "proto",
        "unread",
        "values",
    )

    def __init__(self, proto: GraphProto, holder: Node | None) -> None:
        self.proto = proto
        self.holder = holder
        """The node that the subgraph is an attribute of; None for the whole graph."""
        self.parent = None if holder is None else holder.scope
        self.is_reordered = False
        """Nodes were taken out or put in since the protobuf was read."""
        self.orphans: dict[Value, None] = {}
        """Values that lost a reader, and may have lost the last one."""
        self.nodes: dict[Node, None] = {}
        self.values: dict[str, Value] = {}
        self.added: list[tuple[Value, Array | None]] = []
        """New initializers, with what they hold where that is not computed again."""
        self.unread: set[str] = set()
        """Initializers that nothing reads any more, because of us."""

    def find(self, name: str) -> Value | None:
        """The value that this name means here: own values first, then the enclosing scopes'."""
        scope: Scope | None = self
        while scope is not None:
            if (value := scope.values.get(name)) is not None:
                return value
            scope = scope.parent
        return None

    def own(self, name: str) -> Value:
        """This scope's value of that name, made if there is none."""
        return self.values.setdefault(name, Value(name, self))


class Graph:
    """A model's graph with its subgraphs. It edits the ModelProto it was given."""

    def __init__(
        self,
        model: ModelProto,
        weights: Weights | None = None,
        *,
        keep_overridable: bool = False,
    ) -> None:
        self.model = model
        self.weights = Weights() if weights is None else weights
        self.bytes_left = HELD
        self.opsets = {
            ("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import
        }
        self.keep_overridable = keep_overridable and model.ir_version >= 4
        self.names: set[str] = set()
        self._taken: dict[str, int] = {}
        """The number that each stem was given last."""
        self.scopes: list[Scope] = []
        self._counter = 0
        self._shared: dict[tuple[Any, ...], Value] = {}
        self.root = self._read(model.graph, None)
        number(self.scopes)

    # ------------------------------------------------------------------ reading

    def _read(self, proto: GraphProto, holder: Node | None) -> Scope:
        scope = Scope(proto, holder)
        parent = scope.parent
        self.scopes.append(scope)
        for tensor in proto.initializer:
            value = scope.own(tensor.name)
            value.constant, value.is_stored = self.weights.constant(tensor), True
            value.shape, value.elem_type = tuple(tensor.dims), tensor.data_type
        for sparse in proto.sparse_initializer:
            scope.own(sparse.values.name)
        for info in proto.input:
            self._read_input(scope.own(info.name), is_root=parent is None)
        for info in (*proto.input, *proto.value_info, *proto.output):
            describe(scope.own(info.name), info)
        for node_proto in proto.node:
            for name in node_proto.output:
                if name:
                    scope.own(name)
        for node_proto in proto.node:
            self._read_node(node_proto, scope)
        for info in proto.output:
            value = scope.values[info.name]
            if value.producer is None and not value.is_input and not value.is_stored:
                outer = parent.find(info.name) if parent is not None else None
                value = outer or value
            value.is_output = True
        self.names.update(scope.values)
        return scope

    def _read_input(self, value: Value, *, is_root: bool) -> None:
        value.is_input = not value.is_stored
        value.is_overridable = value.is_stored
        if value.is_overridable and (self.keep_overridable or not is_root):
            value.constant, value.is_input = None, True

    def _read_node(self, proto: NodeProto, scope: Scope) -> None:
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        self._counter += 1
        node = Node(proto, scope, (self._counter,), self.opsets.get(domain, 0))
        scope.nodes[node] = None
        for index, name in enumerate(proto.input):
            value = (scope.find(name) or scope.own(name)) if name else None
            node.inputs.append(value)
            if value is not None:
                value.uses[node, index] = None
        for name in proto.output:
            value = scope.own(name) if name else None
            node.outputs.append(value)
            if value is not None:
                value.producer = node
        if node.op_type == "Constant" and not node.domain:
            node.outputs[0].constant = constant_of(node, self.weights)  # type: ignore[union-attr]
        for subgraph in subgraphs(proto):
            self._read(subgraph, node)

    @property
    def nodes(self) -> Iterator[Node]:
        """All nodes of all scopes, each scope's in order."""
        return (node for scope in self.scopes for node in scope.nodes)

    # ----------------------------------------------------------------- changing

    def fresh_name(self, stem: str) -> str:
        """A name that nothing has, here or in a subgraph; the same for the same model."""
        name, count = stem, self._taken.get(stem, 1)
        while name in self.names:
            count += 1
            name = f"{stem}_{count}"
        self.names.add(name)
        self._taken[stem] = count
        return name

    def rename(self, value: Value, name: str) -> None:
        """Give a value another name, for all who make or read it."""
        value.scope.values.pop(value.name, None)
        value.scope.values[name] = value
        value.name = name
        if value.producer is not None:
            value.producer.is_dirty = True
        for node, _ in value.uses:
            node.is_dirty = True

    def replace_input(self, node: Node, index: int, value: Value | None) -> None:
        """Let a node read another value; inputs in between stay absent."""
        while len(node.inputs) <= index:
            node.inputs.append(None)
        old = node.inputs[index]
        if old is not None:
            release(old, node, index)
        node.inputs[index] = value
        if value is not None:
            value.uses[node, index] = None
        node.is_dirty = True

    def replace_uses(self, old: Value, new: Value) -> None:
        """Let all readers of one value read another, and hand on being a graph output."""
        for node, index in list(old.uses):
            self.replace_input(node, index, new)
        new.is_output = new.is_output or old.is_output

    def remove(self, node: Node) -> None:
        """Take a node out. Its outputs must have no readers."""
        for index, value in enumerate(node.inputs):
            if value is not None:
                release(value, node, index)
        for output in node.outputs:
            if output is not None and output.producer is node:
                output.producer = None
                if output.scope.values.get(output.name) is output:
                    del output.scope.values[output.name]
        del node.scope.nodes[node]
        node.scope.is_reordered = True

    def holds(self, nbytes: int) -> bool:
        """Whether a new weight of that many bytes is held in memory until it is written."""
        return nbytes <= TINY or nbytes <= min(LARGE, self.bytes_left)

    def add_constant(
        self,
        scope: Scope,
        name: str,
        constant: Constant,
        array: Array | None,
        *,
        is_shared: bool = False,
    ) -> Value:
        """A new initializer: `array` is what `constant.stored()` said, or None where that is not
        held. The name is made unique.

        Where the tensor it replaces had several readers, these may all want the same: then there
        is one for all of them.
        """
        key = None
        if is_shared:
            known_by = constant.key if array is None else digest(array)
            key = (scope, str(constant.dtype), constant.shape, known_by)
            if key in self._shared:
                return self._shared[key]
        value = Value(self.fresh_name(name), scope)
        value.constant, value.is_stored = constant, True
        value.shape = constant.shape
        value.elem_type = onnx.helper.np_dtype_to_tensor_dtype(constant.dtype)
        scope.values[value.name] = value
        scope.added.append((value, array))
        self.bytes_left -= constant.held + (0 if array is None else array.nbytes)
        if key is not None:
            self._shared[key] = value
        return value

    def insert_after(
        self,
        place: Node,
        op_type: str,
        inputs: Iterable[Value | None],
        outputs: Iterable[Value],
        **attributes: Any,
    ) -> Node:
        """A new node of the default domain right after another one."""
        proto = onnx.helper.make_node(op_type, [], [], **attributes)
        self._counter += 1
        # What is longer comes right after its prefix; the newest of several comes first.
        node = Node(proto, place.scope, (*place.line, -self._counter), self.opsets[""])
        node.position = (*place.position, -self._counter)
        for index, value in enumerate(inputs):
            node.inputs.append(value)
            if value is not None:
                value.uses[node, index] = None
        for value in outputs:
            node.outputs.append(value)
            value.producer = node
        node.is_dirty = True
        place.scope.nodes[node] = None
        place.scope.is_reordered = True
        return node

    def new_value(self, scope: Scope, name: str, like: Value) -> Value:
        """A value nobody makes yet, of the type and shape of another."""
        value = Value(self.fresh_name(name), scope)
        value.shape, value.elem_type = like.shape, like.elem_type
        scope.values[value.name] = value
        return value

    # ------------------------------------------------------------------ writing

    def flush(self) -> None:
        """Write all changes to the protobufs, the innermost scopes first."""
        for scope in reversed(self.scopes):
            self._sweep(scope)
            write_scope(scope, self.weights)
        if self.model.ir_version < 4:
            list_initializers(self.model.graph, self.root.unread)
        elif not self.keep_overridable:
            drop_overridable(self.model.graph, self.root.unread)

    def _sweep(self, scope: Scope) -> None:
        """Take out constants, and nodes that compute them, that lost their last reader."""
        while scope.orphans:
            value, _ = scope.orphans.popitem()
            if value.uses or value.is_output:
                continue
            node = value.producer
            if node is None:
                if value.is_stored and scope.values.get(value.name) is value:
                    scope.unread.add(value.name)
                    del scope.values[value.name]
            elif value.is_constant and not any(
                o and (o.uses or o.is_output) for o in node.outputs
            ):
                self.remove(node)


def folded(name: str) -> str:
    """What to call what a tensor holds after a fold; a second fold makes the name no longer."""
    return re.sub(r"_folded(_\d+)?$", "", name) + "_folded"


def release(value: Value, node: Node, index: int) -> None:
    """A node no longer reads a value."""
    del value.uses[node, index]
    value.scope.orphans[value] = None


def describe(value: Value, info: onnx.ValueInfoProto) -> None:
    """Take type and shape from a ValueInfoProto, where it says more than is known."""
    if not info.type.HasField("tensor_type"):
        return
    tensor = info.type.tensor_type
    value.elem_type = tensor.elem_type or value.elem_type
    if not tensor.HasField("shape"):
        return
    shape = tuple(dimension(d) for d in tensor.shape.dim)
    known = value.shape
    if known is not None and len(known) == len(shape):
        shape = tuple(
            old if isinstance(old, int) or new is None else new
            for old, new in zip(known, shape, strict=True)
        )
    value.shape = shape


def dimension(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    """An int, a symbol, or None."""
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return str(dim.dim_param) or None


def digest(array: Array) -> str:
    """What an array is known by: equal ones have the same."""
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes()).hexdigest()


def constant_of(node: Node, weights: Weights) -> Constant | None:
    """The value of a Constant node, of every kind but strings and sparse tensors."""
    kinds = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    for name, value in node.attributes.items():
        if name == "value":
            return weights.constant(value)
        if name in kinds:
            return Constant.of_array(np.array(value, kinds[name]))
    return None
