"""Which neighbours in a Concat are cheaper as one operator with more output channels?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from bnfold.branches.clusters import largest
from bnfold.branches.cost import Scale
from bnfold.branches.linear import Geometry, Linear, joined
from bnfold.branches.reading import Branch, Family, chain, family_of, read_branch
from bnfold.graph import Node, Value
from bnfold.reasons import Refusal


@dataclass(slots=True, eq=False)
class Joint:
    """Operands of a Concat, one behind the other, that become one operator."""

    start: int
    family: Family
    scale: Scale
    branches: list[Branch]
    geometry: Geometry
    cost: float

    @property
    def stop(self) -> int:
        """The operand behind the last."""
        return self.start + len(self.branches)

    @property
    def base(self) -> Value:
        """What all branches read."""
        return self.branches[0].chain.base

    @property
    def model(self) -> Node | None:
        """The operator whose name the merged one has."""
        return largest(self.branches)

    def linear(self) -> Linear:
        """All of them side by side."""
        return joined([branch.linear for branch in self.branches], self.geometry)

    def meets(self, other: Joint) -> bool:
        """Whether the other one stands right behind and reads the same."""
        same = self.base is other.base and self.family == other.family
        return same and self.stop == other.start

    def take(self, branch: Branch) -> bool:
        """Let the next operand join if that lowers the cost; whether it did."""
        more, here = branch.linear.geometry, self.geometry
        try:
            geometry = replace(here, group=1).united(
                replace(more, group=1, outputs=here.outputs), self.family.sizes
            )
        except Refusal:
            return False
        geometry = replace(geometry, outputs=here.outputs + more.outputs)
        cost = self.scale.operator(geometry)
        if cost >= self.cost + branch.cost:
            return False
        self.branches.append(branch)
        self.geometry, self.cost = geometry, cost
        return True


def joints(concat: Node, keep: Collection[str]) -> list[Joint]:
    """The merges that pay among the operands of a Concat."""
    found: list[Joint] = []
    for index, value in enumerate(concat.inputs):
        joint = first_of(concat, index, value, keep)
        if joint is None:
            continue
        last = found[-1] if found else None
        if last is None or not last.meets(joint) or not last.take(joint.branches[0]):
            found.append(joint)
    return [joint for joint in found if len(joint.branches) > 1]


def first_of(concat: Node, index: int, value: Value | None, keep: Collection[str]) -> Joint | None:
    """One operand, if it is a linear operator over some value and stands on its channels' axis."""
    if value is None or value.is_constant:
        return None
    found = chain(value, keep)
    if found.linear is None:
        return None
    try:
        family = family_of(found)
        scale = family.scale(value)
        branch = read_branch(found, family, scale)
    except Refusal:
        return None
    axis = int(concat.attributes.get("axis", 1))
    if axis % family.rank != family.axis:
        return None
    return Joint(index, family, scale, [branch], branch.linear.geometry, branch.cost)
