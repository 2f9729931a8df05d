"""How is a complete plan carried out? The only place that changes a graph for a fold."""

from __future__ import annotations

from bnfold.constants import DEEPEST, Array, Constant, is_float
from bnfold.graph import Graph, Value, folded
from bnfold.plan import Draft, Plan
from bnfold.rules.registry import Source
from bnfold.vanishing import check_channels
from bnfold.wholeness import is_addend


def store(graph: Graph, plan: Plan, source: Source) -> None:
    """Round every new constant to its type. Raises Refusal where one cannot be held, or would
    lose a channel."""
    for draft in plan.drafts.values():
        for index, constant in draft.constants.items():
            draft.stored[index] = rounded(graph, constant)
            if not is_addend(draft.op_type, index):
                keep_channels(graph, constant, draft.former(index), source)
        if draft.bias is not None:
            draft.stored_bias = rounded(graph, draft.bias)


def rounded(graph: Graph, constant: Constant, *, is_costly: bool = False) -> Array | None:
    """What is stored of a constant; None where it was only checked, and is computed when it is
    written. Raises Refusal.

    One that is costly to compute is kept in float64 where there is room: for what is folded into
    it, and for the file.
    """
    with graph.weights.checking():
        if is_costly and constant.exact_nbytes <= graph.bytes_left:
            constant.hold()
        if graph.holds(constant.nbytes):
            return constant.stored()
        constant.check()
    return None


def keep_channels(
    graph: Graph, constant: Constant, old: Constant | None, source: Source | None
) -> None:
    """Refuse a weight of which a channel would vanish. Raises Refusal."""
    with graph.weights.checking():
        check_channels(constant, old, source)


def commit(graph: Graph, plan: Plan) -> list[Value]:
    """Carry out a plan whose constants are stored; the values where an affine was taken out.
    A value that holds something else gets a fresh name, so the same name is the same value in
    the model before and after.
    """
    for draft in plan.drafts.values():
        if draft.bypass is None:
            rewrite(graph, draft)
    moved = dict(plan.moved)
    bypassed = sorted(plan.bypassed, key=lambda d: d.node.position)
    seams = [bypass(graph, draft, moved) for draft in bypassed]
    for value in moved:
        graph.rename(value, graph.fresh_name(folded(value.name)))
    for draft in plan.drafts.values():
        if draft.bias is not None:
            add_bias(graph, draft)
    return seams


def rewrite(graph: Graph, draft: Draft) -> None:
    """Give a node its new constants, attributes and type."""
    node = draft.node
    for index in sorted(draft.constants):
        old = node.inputs[index] if index < len(node.inputs) else None
        stem = f"{node.name}_bias" if old is None else folded(old.name)
        constant = grown(draft.constants[index], None if old is None else old.constant)
        array = draft.stored.pop(index)
        is_shared = old is not None and len(old.uses) > 1
        value = graph.add_constant(node.scope, stem, constant, array, is_shared=is_shared)
        graph.replace_input(node, index, value)
    for name, setting in draft.attributes.items():
        node.set_attribute(name, setting)
    if draft.op_type != node.op_type:
        node.op_type = draft.op_type
        node.is_dirty = True


def grown(constant: Constant, old: Constant | None) -> Constant:
    """A constant computed from the one it replaces; held where that one has too many behind it."""
    constant.depth = 0 if old is None else old.depth + 1
    if constant.depth < DEEPEST or not is_float(constant.dtype):
        return constant
    return Constant.of_array(constant.exact(), constant.dtype)


def bypass(graph: Graph, draft: Draft, moved: dict[Value, None]) -> Value:
    """Take an affine node out: what it read and what it made become one value, returned."""
    assert draft.bypass is not None
    node = draft.node
    data, result = node.inputs[draft.bypass.data], node.outputs[0]
    assert data is not None
    assert result is not None
    keeps_name = result not in moved and (data in moved or result.is_output)
    name = result.name
    graph.replace_uses(result, data)
    graph.remove(node)
    moved.pop(result, None)
    if keeps_name:
        moved.pop(data, None)
        graph.rename(data, name)
    return data


def add_bias(graph: Graph, draft: Draft) -> None:
    """Add the draft's bias to its first output; the sum keeps the output's name."""
    node, constant, array = draft.node, draft.bias, draft.stored_bias
    assert constant is not None
    result = node.outputs[0]
    assert result is not None
    product = graph.new_value(node.scope, f"{result.name}_product", result)
    bias = graph.add_constant(node.scope, f"{result.name}_bias", constant, array)
    node.outputs[0], product.producer = product, node
    node.is_dirty = True
    graph.insert_after(node, "Add", [product, bias], [result])
