"""How is a merge told? Branches in a few words, and the affines that went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfold.affine import Affine
from bnfold.bounds import UNITS, Rounding, rounding
from bnfold.branches.reading import Chain, is_affine, is_linear
from bnfold.graph import Node
from bnfold.reasons import Reason, Refusal
from bnfold.report import Direction
from bnfold.rules.registry import Source
from bnfold.search import read_source


@dataclass(frozen=True, slots=True)
class Absorbed:
    """An affine that a merged operator took in."""

    node: Node
    direction: Direction
    numbers: Rounding


def words(chain: Chain) -> str:
    """A branch in a few words: "Conv 3x3", "BatchNormalization", "identity"."""
    linear = [node for node in reversed(chain.nodes) if is_linear(node)]
    if linear:
        return ", ".join(sized(node) for node in linear)
    return ", ".join(node.op_type for node in reversed(chain.nodes)) or "identity"


def sized(node: Node) -> str:
    """An operator with the size of its window."""
    shape = node.attributes.get("kernel_shape")
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if not shape and weight is not None and weight.shape is not None:
        shape = weight.shape[2:]
    return " ".join([node.op_type, "x".join(map(str, shape or ()))]).strip()


def absorbed(nodes: Sequence[Node], dtype: np.dtype[Any]) -> Iterator[Absorbed]:
    """The affines of a chain: into an operator before them, or into one beside them.

    `dtype` is what the merged weights are stored in.
    """
    for index, node in enumerate(nodes):
        if is_affine(node):
            below = any(is_linear(other) for other in nodes[index:])
            yield Absorbed(node, "backward" if below else "forward", numbers_of(node, dtype))


def absorbed_constant(node: Node, dtype: np.dtype[Any]) -> Absorbed | None:
    """An addition of a constant that became a bias; None where it adds more than that."""
    constants = [v.constant for v in node.inputs if v is not None and v.constant is not None]
    if not is_affine(node) or len(node.inputs) - len(constants) != 1:
        return None
    try:
        numbers = numbers_of(node, dtype)
    except Refusal:  # the rank of what it is added to is not known, and need not be
        shift = Affine.of_shift(constants[0].exact())
        numbers = rounding(Source(shift), UNITS[dtype.name])
    return Absorbed(node, "backward", numbers)


def numbers_of(node: Node, dtype: np.dtype[Any]) -> Rounding:
    """What rounding can change at an affine. Raises Refusal where it cannot be read."""
    source = read_source(node)
    if source is None:
        raise Refusal(Reason.OPAQUE_OP, f"{node.op_type} is no affine of its input")
    return rounding(source, UNITS[dtype.name])
