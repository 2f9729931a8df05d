"""What would a fold change? Nodes as they would be, and what their values would hold.

A plan is made without touching the graph. For every value that would change it keeps a relation
to what the value holds now, until producers and readers of all of them agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnfold.affine import Affine
from bnfold.constants import Array, Constant
from bnfold.facts import sums_to_one
from bnfold.graph import Node, Shape, Value
from bnfold.reasons import Reason, Refusal
from bnfold.rules.registry import ATTRIBUTES, Key, Source, Step

Use = tuple[Node, int]


class Draft:
    """A node as the plan would leave it; to the rules it is the `Operator` they ask."""

    __slots__ = (
        "absorbs",
        "attributes",
        "bias",
        "bypass",
        "constants",
        "node",
        "op_type",
        "stored",
        "stored_bias",
    )

    def __init__(self, node: Node) -> None:
        self.node = node
        self.op_type = node.op_type
        self.attributes: dict[str, Any] = {}
        self.constants: dict[int, Constant] = {}
        self.bias: Constant | None = None
        self.bypass: Source | None = None
        """Set where the node itself is an affine that goes."""
        self.absorbs = False
        self.stored: dict[int, Array | None] = {}
        """What will be written of the new constants, by input; None for what is computed again."""
        self.stored_bias: Array | None = None

    def copy(self) -> Draft:
        """An independent copy, for another alternative."""
        draft = Draft(self.node)
        draft.op_type, draft.bias, draft.bypass = self.op_type, self.bias, self.bypass
        draft.attributes, draft.constants = dict(self.attributes), dict(self.constants)
        draft.absorbs = self.absorbs
        return draft

    @property
    def key(self) -> Key:
        """Where the rules stand. Raises Refusal for an attribute that no rule has read."""
        key = (self.node.domain, self.op_type)
        known = ATTRIBUTES.get(key)
        if known is None:
            return key
        unread = set(self.node.attributes) - known
        if unread and self.op_type == self.node.op_type:
            names = ", ".join(sorted(unread))
            raise Refusal(Reason.OPAQUE_OP, f"{self.op_type} has the unread attribute {names}")
        return key

    @property
    def version(self) -> int:
        """The opset of the node's domain."""
        return self.node.version

    @property
    def input_count(self) -> int:
        """Inputs as they would be."""
        return max(len(self.node.inputs), *(i + 1 for i in self.constants), 0)

    @property
    def output_count(self) -> int:
        """Outputs, absent ones included."""
        return len(self.node.outputs)

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute as it would be."""
        if name in self.attributes:
            value = self.attributes[name]
            return default if value is None else value
        return self.node.attributes.get(name, default)

    def value(self, index: int) -> Value:
        """The graph's value at an input. Raises Refusal where it is absent."""
        inputs = self.node.inputs
        value = inputs[index] if index < len(inputs) else None
        if value is None:
            raise Refusal(Reason.NOT_CONSTANT, f"{self.op_type} has no input {index}")
        return value

    def has_input(self, index: int) -> bool:
        """Whether the input is there."""
        inputs = self.node.inputs
        return index in self.constants or (index < len(inputs) and inputs[index] is not None)

    def has_output(self, index: int) -> bool:
        """Whether somebody reads the output, or it is the graph's."""
        if index >= len(self.node.outputs):
            return False
        value = self.node.outputs[index]
        return value is not None and bool(value.uses or value.is_output)

    def declares_output(self, index: int) -> bool:
        """Whether the output has a name, read or not."""
        return self.node.outputs[index] is not None

    def is_constant(self, index: int) -> bool:
        """Whether the input is known before run time, and is of plain numbers."""
        if index in self.constants:
            return True
        return self.has_input(index) and self.value(index).is_constant

    def constant(self, index: int) -> Constant:
        """The input's value, as it would be. Raises Refusal."""
        if index in self.constants:
            return self.constants[index]
        value = self.value(index)
        constant = value.constant
        if constant is None:
            raise unknown(value)
        return constant

    def former(self, index: int) -> Constant | None:
        """What the input is worth now; None where it is absent or computed at run time."""
        inputs = self.node.inputs
        value = inputs[index] if index < len(inputs) else None
        return None if value is None else value.constant

    def plain_constant(self, index: int) -> Constant | None:
        """The input's value, where it may be replaced by other numbers."""
        constant = self.constants.get(index) or self.value(index).constant
        return None if constant is None or constant.is_quantized else constant

    def shape(self, index: int) -> Shape:
        """The input's shape. Raises Refusal for an unknown rank."""
        if index in self.constants:
            return self.constants[index].shape
        return shape_of(self.value(index))

    def output_shape(self, index: int = 0) -> Shape:
        """The output's shape. Raises Refusal for an unknown rank."""
        value = self.node.outputs[index]
        if value is None:
            raise Refusal(Reason.UNKNOWN_SHAPE, f"{self.op_type} has no output {index}")
        return shape_of(value)

    def sums_to_one(self, index: int, axis: int) -> bool:
        """Whether the input's elements add up to one along an axis counted from the back."""
        return index not in self.constants and sums_to_one(self.node.inputs[index], axis)

    def elem_type(self, index: int) -> int:
        """ONNX's number for the input's type, 0 where it is not known."""
        return self.value(index).elem_type

    def is_fixed(self, index: int) -> bool:
        """Whether the input follows from constants alone."""
        return self.is_constant(index) or self.value(index).is_fixed

    def is_float(self, index: int) -> bool:
        """Whether the input is of a type that weights have."""
        return index in self.constants or self.value(index).is_float


def unknown(value: Value) -> Refusal:
    """The refusal for a value that is needed before run time."""
    if value.is_input:
        return Refusal(Reason.NOT_CONSTANT, f"{value.name} is a model input")
    if not value.is_fixed:
        return Refusal(Reason.NOT_CONSTANT, f"{value.name} is computed at run time")
    node = first_unknown(value)
    return Refusal(
        Reason.NOT_EVALUATED,
        f"{value.name} is computed from constants by {node.op_type} ({node.name}), "
        "which is not evaluated",
    )


def first_unknown(value: Value) -> Node:
    """The operator from which on nothing is known of a value that follows from constants."""
    node = value.producer
    assert node is not None
    while True:
        before = (v for v in node.inputs if v is not None and v.constant is None)
        maker = next((v.producer for v in before if v.producer is not None), None)
        if maker is None:
            return node
        node = maker


def shape_of(value: Value) -> Shape:
    """A value's shape. Raises Refusal for an unknown rank."""
    if value.shape is not None:
        return value.shape
    if value.constant is not None:
        return value.constant.shape
    raise Refusal(Reason.UNKNOWN_SHAPE, f"the rank of {value.name} is not known")


class Plan:
    """Drafts of nodes, relations of values, and what is still open."""

    __slots__ = (
        "demands",
        "drafts",
        "expects",
        "left",
        "lost",
        "made",
        "moved",
        "pending",
        "steps",
        "visited",
    )

    def __init__(self) -> None:
        self.drafts: dict[Node, Draft] = {}
        self.made: dict[Value, Affine] = {}
        """Values that would hold `made[v](v)`."""
        self.left: dict[Value, Affine] = {}
        """Values that were what is now `left[v](v)`."""
        self.moved: dict[Value, None] = {}
        """Every value that would hold something else than now."""
        self.expects: dict[Use, Affine] = {}
        """Inputs that drafts want to be `expects[use](input)`."""
        self.demands: list[tuple[Value, Affine, tuple[Use, ...]]] = []
        """Producers to ask: the value shall become `affine(value)` for these readers."""
        self.pending: dict[Node, dict[int, Affine]] = {}
        """Readers to ask: what they read was `affine(input)`."""
        self.visited: dict[Node, None] = {}
        self.steps = 0
        self.lost = 0.0
        """Units of rounding that readers lose of a value which is stored as an affine of it."""

    def copy(self) -> Plan:
        """An independent copy, for another alternative; drafts are replaced, never changed."""
        plan = Plan()
        plan.drafts = dict(self.drafts)
        plan.made, plan.moved = dict(self.made), dict(self.moved)
        plan.expects, plan.demands = dict(self.expects), list(self.demands)
        plan.pending, plan.left = dict(self.pending), dict(self.left)
        plan.visited, plan.steps, plan.lost = self.visited, self.steps, self.lost
        return plan

    def draft(self, node: Node) -> Draft:
        """The node as this plan would leave it so far."""
        self.visited[node] = None
        return self.drafts.get(node) or Draft(node)

    @property
    def bypassed(self) -> list[Draft]:
        """The affine nodes that would go."""
        return [draft for draft in self.drafts.values() if draft.bypass is not None]

    @property
    def gain(self) -> int:
        """By how many nodes the graph would shrink."""
        added = sum(draft.bias is not None for draft in self.drafts.values())
        return len(self.bypassed) - added

    def bypass(self, node: Node, source: Source) -> None:
        """The affine node itself goes; what it did is asked of others."""
        draft = self.draft(node).copy()
        draft.bypass = source
        self.drafts[node] = draft

    def demand(self, node: Node, inputs: Mapping[int, Affine]) -> None:
        """A node wants these inputs to be affines of what they are."""
        draft = self.drafts[node]
        by_value: dict[Value, dict[int, Affine]] = {}
        for index, affine in inputs.items():
            if affine.is_identity:
                continue
            constant = draft.plain_constant(index)
            if constant is not None:
                draft.constants[index] = constant.through(affine)
            else:
                by_value.setdefault(draft.value(index), {})[index] = affine
        for value, affines in by_value.items():
            first = next(iter(affines.values()))
            if not all(first.equals(other) for other in affines.values()):
                raise Refusal(Reason.CONFLICT, f"{value.name} enters {draft.op_type} twice")
            self.demands.append((value, first, tuple((node, index) for index in affines)))

    def lose(self, value: Value, affine: Affine, *, satisfied: tuple[Use, ...] = ()) -> None:
        """What was the value is now `affine(value)`: its readers, but for some, have to cope."""
        if affine.is_identity:
            return
        before = self.left.get(value)
        self.left[value] = affine if before is None else before.after(affine)
        for node, index in value.readers:
            if (node, index) in satisfied:
                continue
            affines = self.pending.get(node, {})
            lost = affines[index].after(affine) if index in affines else affine
            self.pending[node] = {**affines, index: lost}

    def take(self, node: Node, step: Step) -> None:
        """Rewrite a node as a rule said, and ask on."""
        draft = self.draft(node).copy()
        self.drafts[node] = draft
        before = dict(draft.constants)
        draft.constants.update(step.constants)
        draft.attributes.update(step.attributes)
        draft.op_type = step.op_type or draft.op_type
        if step.bias is not None:
            if draft.bias is not None:
                raise Refusal(Reason.CONFLICT, f"{node.name} would need two biases")
            draft.bias = step.bias
        waiting = len(self.demands)
        self.demand(node, step.inputs)
        for index, affine in step.outputs.items():
            output = node.outputs[index]
            if output is not None and not affine.is_identity:
                self.change(output)
                self.made.pop(output, None)
                self.lose(output, affine)
        passes = len(self.demands) > waiting or any(
            not affine.is_identity for affine in step.outputs.values()
        )
        changed = draft.constants != before or draft.bias is not None
        draft.absorbs = draft.absorbs or (changed and not passes)

    def change(self, value: Value) -> None:
        """Note that a value would hold something else. Raises Refusal where that would be seen."""
        if value.is_output:
            raise Refusal(Reason.GRAPH_OUTPUT, f"{value.name} is an output of the graph")
        if value.is_captured:
            raise Refusal(Reason.CAPTURED, f"{value.name} is read inside a subgraph")
        self.moved[value] = None
