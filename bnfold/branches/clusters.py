"""Which branches of a sum are cheaper as one operator?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bnfold.branches.cost import Scale
from bnfold.branches.linear import Geometry, Linear, added
from bnfold.branches.reading import Branch, Chain, Family, chain, family_of, read_branch
from bnfold.branches.trees import Addend, Tree
from bnfold.constants import Array, is_float
from bnfold.graph import Node, Value
from bnfold.reasons import Refusal

HOSTS = 8
"""Operators of one sum that a branch tries to join."""


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A branch with its addend and the place of that in the sum."""

    index: int
    addend: Addend
    branch: Branch

    @property
    def linear(self) -> Linear:
        """The branch with its sign."""
        return self.branch.linear if self.addend.sign > 0 else self.branch.linear.negated()


@dataclass(slots=True, eq=False)
class Cluster:
    """Branches over one value that become one operator."""

    family: Family
    scale: Scale
    members: list[Member]
    geometry: Geometry
    cost: float

    @property
    def base(self) -> Value:
        """What all branches read."""
        return self.members[0].branch.chain.base

    @property
    def branches(self) -> list[Branch]:
        """The branches in the order of the sum."""
        return [m.branch for m in sorted(self.members, key=lambda m: m.index)]

    @property
    def model(self) -> Node | None:
        """The operator whose name the merged one has: the largest, and of those the first."""
        return largest(self.branches)

    @property
    def typical(self) -> Value:
        """A value of the result's type and shape."""
        return next(m.addend.value for m in self.members if m.branch.chain.linear is not None)

    def linear(self) -> Linear:
        """The sum of all branches."""
        members = sorted(self.members, key=lambda m: m.index)
        return added([member.linear for member in members], self.geometry)

    def take(self, member: Member) -> bool:
        """Let a branch join if that lowers the cost; whether it did."""
        branch = member.branch
        try:
            geometry = self.geometry.united(branch.linear.geometry, self.family.sizes)
        except Refusal:
            return False
        cost = self.scale.operator(geometry)
        if cost >= self.cost + branch.cost + self.scale.addition(geometry.outputs):
            return False
        self.members.append(member)
        self.geometry, self.cost = geometry, cost
        return True


def largest(branches: Sequence[Branch]) -> Node | None:
    """The weighty operator that does the most work."""
    best, most = None, 0
    for branch in branches:
        node, work = branch.chain.linear, branch.linear.geometry.multiplications
        if node is not None and node.op_type != "AveragePool" and work > most:
            best, most = node, work
    return best


def clusters(sum_: Tree, keep: Collection[str]) -> Iterator[Cluster]:
    """The merges that pay, base by base."""
    groups: dict[Value, list[tuple[int, Chain]]] = {}
    for index, addend in enumerate(sum_.addends):
        if not addend.value.is_constant:
            found = chain(addend.value, keep)
            groups.setdefault(found.base, []).append((index, found))
    for group in groups.values():
        if len(group) > 1 and any(found.linear is not None for _, found in group):
            yield from grouped(sum_, group)


def grouped(sum_: Tree, group: Sequence[tuple[int, Chain]]) -> Iterator[Cluster]:
    """The merges among the branches over one base."""
    lead = leader(group)
    if lead is None:
        return
    index, family = lead
    scale = family.scale(sum_.addends[index].value)
    found: list[Cluster] = []
    for member in members(sum_, group, family, scale):
        if not any(cluster.take(member) for cluster in found[:HOSTS]):
            branch = member.branch
            found.append(Cluster(family, scale, [member], branch.linear.geometry, branch.cost))
    yield from (
        cluster
        for cluster in found
        if len(cluster.members) > 1 and any(b.chain.linear is not None for b in cluster.branches)
    )


def leader(group: Sequence[tuple[int, Chain]]) -> tuple[int, Family] | None:
    """The first branch with a linear operator that says what the family is."""
    for index, found in group:
        if found.linear is not None:
            try:
                return index, family_of(found)
            except Refusal:
                continue
    return None


def members(
    sum_: Tree, group: Sequence[tuple[int, Chain]], family: Family, scale: Scale
) -> list[Member]:
    """The branches that are of the family, the largest first."""
    result = []
    for index, found in group:
        try:
            branch = read_branch(found, family, scale)
        except Refusal:
            continue
        result.append(Member(index, sum_.addends[index], branch))
    result.sort(key=lambda m: -m.branch.linear.geometry.multiplications)
    return result


def offset(addend: Addend, cluster: Cluster) -> Array | None:
    """A constant addend as a bias of the cluster, if it is one by channel."""
    constant = addend.value.constant
    if constant is None or constant.is_quantized or not is_float(constant.dtype):
        return None
    family, outputs = cluster.family, cluster.geometry.outputs
    if constant.rank > family.rank or constant.size not in (1, outputs):
        return None
    shape = (1,) * (family.rank - constant.rank) + constant.shape
    if shape[family.axis] != constant.size:
        return None
    exact = constant.exact()
    return addend.sign * exact.reshape(-1) if np.isfinite(exact).all() else None
