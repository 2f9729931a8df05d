"""What do a model's own functions hold, and what is the model with their bodies in their place?

Level by level, from the graph down, as runtimes do it: an attribute that a call leaves out has its
function's default (which onnx's inliner drops), and whether a call inside a body leaves one out
is known once that body stands in its place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from onnx import FunctionProto, ModelProto, NodeProto, inliner

from bnfold.nesting import nodes_within, subgraphs

Key = tuple[str, str]


def keys(model: ModelProto) -> dict[Key, FunctionProto]:
    """The model's functions by domain and name."""
    return {(function.domain, function.name): function for function in model.functions}


def call_of(node: NodeProto) -> Key:
    """The function that a node calls, if there is one of that name."""
    return node.domain, node.op_type


def holding(model: ModelProto, op_type: str) -> set[Key]:
    """The functions that hold an operator, or call one that does."""
    found: set[Key] = set()
    functions = keys(model)
    while True:
        more = {
            key
            for key, function in functions.items()
            if key not in found
            and any(n.op_type == op_type or call_of(n) in found for n in function.node)
        }
        if not more:
            return found
        found |= more


def inlined(model: ModelProto, wanted: Iterable[Key]) -> ModelProto:
    """A copy of the model with the calls of these functions replaced by their bodies.

    A function of another opset than the model's stays a function.
    """
    whole = ModelProto()
    whole.CopyFrom(model)
    chosen = set(wanted)
    while level := _outermost(whole, chosen):
        whole = _without(whole, level)
    return whole


def flattened(model: ModelProto) -> ModelProto:
    """A copy of the model without functions, but for those that cannot be inlined."""
    whole = inlined(model, keys(model))
    if not called(whole):
        del whole.functions[:]
    return whole


def called(model: ModelProto) -> set[Key]:
    """The functions that the graph calls, at any depth of its subgraphs."""
    return {call_of(node) for node in nodes_within(model.graph)} & keys(model).keys()


def _outermost(model: ModelProto, wanted: Collection[Key]) -> set[Key]:
    """Those of these functions that the graph calls, and none of which calls another of them."""
    versions = {opset.domain: opset.version for opset in model.opset_import}
    foreign = {
        _key(function)
        for function in model.functions
        if any(versions.get(o.domain, o.version) != o.version for o in function.opset_import)
    }
    own = {_key(function) for function in model.functions}
    found = (called(model) & set(wanted)) - foreign
    below: set[Key] = set()
    edge = found
    while edge:
        edge = (_calls(f for f in model.functions if _key(f) in edge) & own) - below
        below |= edge
    return found - below


def _without(model: ModelProto, level: Collection[Key]) -> ModelProto:
    """The model with the calls of these functions in its graph replaced by their bodies.

    Those that a function calls that stays, stay too.
    """
    everything = list(model.functions)
    gone = [function for function in everything if _key(function) in level]
    needed = _calls(function for function in everything if _key(function) not in level)
    _write_defaults(model)
    del model.functions[:]
    model.functions.extend(gone)
    whole = inliner.inline_selected_functions(model, sorted(level))
    whole.functions.extend(f for f in everything if _key(f) not in level or _key(f) in needed)
    known = {opset.domain for opset in whole.opset_import}
    imports = {opset.domain: opset for function in gone for opset in function.opset_import}
    whole.opset_import.extend(o for domain, o in imports.items() if domain not in known)
    return whole


def _calls(functions: Iterable[FunctionProto]) -> set[Key]:
    """What the bodies of these functions may call."""
    return {call_of(node) for function in functions for node in nodes_within(function)}


def _write_defaults(model: ModelProto) -> None:
    """Give each call in the graph the attributes that its function has a default for."""
    functions = {(*_key(f), f.overload): f for f in model.functions}
    for node in nodes_within(model.graph):
        function = functions.get((*call_of(node), node.overload))
        given = {attribute.name for attribute in node.attribute}
        for default in function.attribute_proto if function is not None else ():
            if default.name not in given:
                node.attribute.append(default)


def _key(function: FunctionProto) -> Key:
    return function.domain, function.name


def count(model: ModelProto, op_type: str) -> int:
    """How often an operator runs, function bodies counted for each call."""
    functions = keys(model)
    memo: dict[Key, int] = {}

    def inside(nodes: Collection[NodeProto], above: frozenset[Key]) -> int:
        total = 0
        for node in nodes:
            key = call_of(node)
            total += node.op_type == op_type and key not in functions
            if key in functions and key not in above:
                if key not in memo:
                    memo[key] = inside(functions[key].node, above | {key})
                total += memo[key]
            total += sum(inside(graph.node, above) for graph in subgraphs(node))
        return total

    return inside(model.graph.node, frozenset())
