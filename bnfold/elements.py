"""What is known of a vector of integers that holds a shape? Element by element.

Graphs compute shapes as they compute anything else: Shape, Gather, Concat, Mul. Of such a vector
some elements are numbers, some symbols, some unknown.
"""

from __future__ import annotations

from collections.abc import Callable

from bnfold.graph import Dim, Node, Shape, Value
from bnfold.slicing import is_ambiguous, taken

Elements = tuple[Dim, ...]
"""A vector of integers of which each may be known, a symbol, or unknown."""

LONGEST = 1 << 10
"""Elements that are followed of a vector that is joined: no shape is longer, and joined to itself
again and again a vector fills any memory."""


def shape_at(node: Node, index: int) -> Shape | None:
    """The shape of an input, where its rank is known."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return None
    if value.shape is None and value.is_constant and value.constant is not None:
        return value.constant.shape
    return value.shape


class Known:
    """The elements of integer vectors that are computed from shapes."""

    def __init__(self) -> None:
        self.elements: dict[Value, Elements] = {}

    def of(self, value: Value | None) -> Elements | None:
        """The elements of an integer vector or scalar, as far as they are known."""
        if value is None:
            return None
        if value in self.elements:
            return self.elements[value]
        constant = value.constant
        if constant is None or constant.dtype.kind not in "iu" or constant.size > 64:
            return None
        return tuple(int(v) for v in constant.value().reshape(-1))

    def follow(self, node: Node) -> None:
        """Note what an operator on such vectors makes."""
        rule = ELEMENTS.get(node.op_type)
        output = node.outputs[0] if node.outputs else None
        if rule is None or output is None or output.is_constant:
            return
        try:
            elements = rule(node, self)
        except (ArithmeticError, LookupError, TypeError, ValueError, StopIteration):
            return
        if elements is not None:
            self.elements[output] = elements


# ----------------------------------------------------------- vectors of dimensions


def shape_elements(node: Node, _: Known) -> Elements | None:
    """Shape."""
    shape = shape_at(node, 0)
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return None if shape is None else shape[start:end]


def same_elements(node: Node, known: Known) -> Elements | None:
    """Cast, Identity, Squeeze, Unsqueeze, Reshape of a vector or scalar."""
    return known.of(node.inputs[0])


def gathered_elements(node: Node, known: Known) -> Elements | None:
    """Gather."""
    elements, indices = known.of(node.inputs[0]), known.of(node.inputs[1])
    if elements is None or indices is None:
        return None
    return tuple(elements[i] for i in indices if isinstance(i, int))


def joined_elements(node: Node, known: Known) -> Elements | None:
    """Concat."""
    parts: list[Dim] = []
    for value in node.inputs:
        elements = known.of(value)
        if elements is None:
            size = value.shape[0] if value is not None and value.shape else None
            if not isinstance(size, int) or size > 64:
                return None
            elements = (None,) * size
        parts += elements
        if len(parts) > LONGEST:
            return None
    return tuple(parts)


def sliced_elements(node: Node, known: Known) -> Elements | None:
    """Slice of a vector."""
    elements = known.of(node.inputs[0])
    if elements is None:
        return None
    if len(node.inputs) > 1:
        starts, ends = known.of(node.inputs[1]), known.of(node.inputs[2])
        steps = known.of(node.inputs[4]) if len(node.inputs) > 4 else (1,)
    else:
        starts, ends = node.attributes["starts"], node.attributes["ends"]
        steps = (1,)
    if not starts or not ends or not steps:
        return None
    cut = window(starts[0], ends[0], steps[0], len(elements))
    return None if cut is None else tuple(elements[i] for i in cut)


def window(start: Dim, end: Dim, step: Dim, size: int) -> range | None:
    """What a Slice takes, if all of it is known."""
    if not (isinstance(start, int) and isinstance(end, int) and isinstance(step, int)):
        return None
    return None if not step or is_ambiguous(end, step) else taken(start, end, step, size)


def computed_elements(node: Node, known: Known) -> Elements | None:
    """Add, Sub, Mul, Div of known numbers; times 1 and plus 0 keep a symbol."""
    first, second = known.of(node.inputs[0]), known.of(node.inputs[1])
    if first is None or second is None:
        return None
    size = max(len(first), len(second))
    pairs = zip(
        first * (size if len(first) == 1 else 1),
        second * (size if len(second) == 1 else 1),
        strict=True,
    )
    return tuple(arithmetic(node.op_type, a, b) for a, b in pairs)


def arithmetic(op_type: str, a: Dim, b: Dim) -> Dim:
    """One element."""
    if isinstance(a, int) and isinstance(b, int):
        return CALCULATE[op_type](a, b)
    neutral = 0 if op_type in ("Add", "Sub") else 1
    if b == neutral:
        return a
    return b if a == neutral and op_type in ("Add", "Mul") else None


CALCULATE: dict[str, Callable[[int, int], Dim]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: int(a / b) if b else None,
}

ELEMENTS: dict[str, Callable[[Node, Known], Elements | None]] = {
    "Shape": shape_elements,
    "Gather": gathered_elements,
    "Concat": joined_elements,
    "Slice": sliced_elements,
    **dict.fromkeys(("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape"), same_elements),
    **dict.fromkeys(CALCULATE, computed_elements),
}
"""How each operator makes a vector of integers from others."""
