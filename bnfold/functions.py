"""Which model-local functions stand in the way of a fold? They are inlined, the others stay."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from onnx import FunctionProto, ModelProto, NodeProto, inliner

from bnfold.nesting import subgraphs

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
    """A copy of the model with the calls of these functions replaced by their bodies."""
    return inliner.inline_selected_functions(model, sorted(set(wanted)))


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
