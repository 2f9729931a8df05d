"""Where are parallel branches one operator? Sums, chains and concatenations, in graph order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from bnfold.apply import keep_channels
from bnfold.bounds import UNITS, cancels, in_a_row, side_by_side
from bnfold.branches.clusters import Cluster, clusters, offset
from bnfold.branches.cost import Scale
from bnfold.branches.joining import Joint, joints
from bnfold.branches.reading import Branch, family_of, is_linear, pair, read_branch
from bnfold.branches.surgery import Operator, insert, operator, remove, shorten, total
from bnfold.branches.trees import SUMS, Addend, Tree, is_root, tree
from bnfold.branches.words import Absorbed, absorbed, absorbed_constant, words
from bnfold.constants import Array
from bnfold.extents import SMALLEST_NORMAL
from bnfold.graph import Graph, Node, Value
from bnfold.keeping import check_merge
from bnfold.magnitudes import check_bound
from bnfold.reasons import Refusal
from bnfold.report import MergedBlock
from bnfold.wholeness import Wholeness

WIDEST = 4096
"""Addends of a sum above which it is no block of branches, and not worth the search."""


class Merging:
    """One run over one graph, which it changes."""

    def __init__(self, graph: Graph, keep: Collection[str], wholeness: Wholeness) -> None:
        self.graph = graph
        self.wholeness = wholeness
        self.keep = keep
        self.count = 0
        self.flushed = 0
        self._blocks: dict[Node, MergedBlock] = {}
        self._absorbed: dict[Node, list[Absorbed]] = {}

    def run(self) -> bool:
        """Merge whatever makes the graph cheaper; whether anything was."""
        before = self.count
        for node in sorted(self.graph.nodes, key=lambda n: n.position):
            if node.domain or node not in node.scope.nodes:
                continue
            if is_root(node):
                self.merge_sum(tree(node))
            elif is_linear(node) and node.name not in self.keep:
                self.merge_chain(node)
            elif node.op_type == "Concat" and node.name not in self.keep:
                self.merge_concat(node)
        return self.count > before

    @property
    def names(self) -> Iterator[str]:
        """The values whose makers may be merged, by which a merge can be held back."""
        for node in self.graph.nodes:
            if not node.domain and (node.op_type in SUMS | {"Concat"} or is_linear(node)):
                yield node.name

    @property
    def blocks(self) -> tuple[MergedBlock, ...]:
        """What was merged."""
        return tuple(self._blocks.values())

    @property
    def absorbed(self) -> Iterator[tuple[Absorbed, Node]]:
        """The affines that went, each with the operator that it is in now."""
        return ((gone, node) for node, all_gone in self._absorbed.items() for gone in all_gone)

    # ------------------------------------------------------------------------ sums

    def merge_sum(self, sum_: Tree) -> None:
        """Merge the branches of a sum; the other addends stay."""
        if len(sum_.addends) > WIDEST or any(node.name in self.keep for node in sum_.nodes):
            return
        done: list[tuple[Cluster, Operator]] = []
        biases: list[Addend] = []
        for cluster in clusters(sum_, self.keep):
            try:
                linear = cluster.linear()
                found = [] if done else list(offsets(sum_, cluster))
                for _, value in found:
                    linear = linear.plus(value)
                made = operator(self.graph, linear, cluster.family, cluster.base, cluster.model)
                self.check(sum_.result, made, cluster.branches)
            except Refusal:
                continue
            done.append((cluster, made))
            biases += [addend for addend, _ in found]
        if done:
            self.rewrite_sum(sum_, done, biases)

    def rewrite_sum(
        self, sum_: Tree, done: list[tuple[Cluster, Operator]], biases: list[Addend]
    ) -> None:
        """Put the operators in the place of their branches, and add up what stays."""
        graph, root, result = self.graph, sum_.root, sum_.result
        gone = {m.index for cluster, _ in done for m in cluster.members}
        stays = [
            (addend.value, addend.sign)
            for index, addend in enumerate(sum_.addends)
            if index not in gone and addend not in biases
        ]
        alone = not stays and len(done) == 1
        values = [result]
        if not alone:
            name = f"{result.name}_merged"
            values = [graph.new_value(root.scope, name, c.typical) for c, _ in done]
            # The sum first: what is put in after the root next comes before it.
            total(graph, root, [*((value, 1) for value in values), *stays], result)
        nodes: list[Node] = []
        for (cluster, made), value in zip(done, values, strict=True):
            node = insert(graph, root, made, value, cluster.model)
            nodes.append(node)
            additions = len(cluster.members) - 1
            self.note(node, result.name, made, cluster.branches, cluster.scale, additions)
        dtype = done[0][0].family.dtype
        constants = (absorbed_constant(addend.node, dtype) for addend in biases)
        self._absorbed[nodes[0]] += [gone for gone in constants if gone is not None]
        remove(graph, [*sum_.nodes, *nodes_of(b for c, _ in done for b in c.branches)])

    # ---------------------------------------------------------------------- chains

    def merge_chain(self, last: Node) -> None:
        """Make one of two operators in a row, with nothing but affines between, if that pays."""
        found = pair(last, self.keep)
        result = last.outputs[0]
        if found is None or result is None:
            return
        try:
            family = family_of(found)
            scale = family.scale(result)
            branch = read_branch(found, family, scale)
            if scale.operator(branch.linear.geometry) >= branch.cost:
                return
            made = operator(self.graph, branch.linear, family, found.base, last)
            self.check(result, made, [branch])
        except Refusal:
            return
        node = insert(self.graph, last, made, result, last)
        self.note(node, result.name, made, [branch], scale, 0)
        remove(self.graph, found.nodes)

    # -------------------------------------------------------------- concatenations

    def merge_concat(self, concat: Node) -> None:
        """Merge neighbours in a Concat; the others stay."""
        done: list[tuple[Joint, Operator]] = []
        for joint in joints(concat, self.keep):
            try:
                made = operator(self.graph, joint.linear(), joint.family, joint.base, joint.model)
                self.check(concat.outputs[0], made, joint.branches)
            except Refusal:
                continue
            done.append((joint, made))
        if done:
            self.rewrite_concat(concat, done)

    def rewrite_concat(self, concat: Node, done: list[tuple[Joint, Operator]]) -> None:
        """Put the operators in the place of the operands that they make."""
        graph, result = self.graph, concat.outputs[0]
        assert result is not None
        inputs: list[Value | None] = list(concat.inputs)
        values: list[Value] = []
        for joint, _ in reversed(done):
            whole = len(joint.branches) == len(concat.inputs)
            values.append(result if whole else joined_value(graph, joint, result))
            inputs[joint.start : joint.stop] = [values[-1]]
        if len(inputs) > 1:
            # The concatenation first: what is put in after it next comes before it.
            shorten(graph, concat, inputs, result)
        for (joint, made), value in zip(reversed(done), values, strict=True):
            node = insert(graph, concat, made, value, joint.model)
            self.note(node, result.name, made, joint.branches, joint.scale, 0)
        remove(graph, [concat, *nodes_of(b for joint, _ in done for b in joint.branches)])

    def check(self, result: Value | None, made: Operator, branches: Sequence[Branch]) -> None:
        """Refuse an operator that would round exact numbers or lose a channel. Raises Refusal."""
        parts = made.parameters if made.rest is None else (*made.parameters, made.rest)
        assert result is not None
        check_merge(self.wholeness, result, [constant for constant, _ in parts])
        for branch in branches:
            check_affines(branch, made.parameters[0][0].dtype)
        weight = made.parameters[0][0]
        if weight.vanished and any(has_normal_weights(branch) for branch in branches):
            keep_channels(self.graph, weight, None, None)

    # ------------------------------------------------------------------- the report

    def note(
        self,
        node: Node,
        tensor: str,
        made: Operator,
        branches: Sequence[Branch],
        scale: Scale,
        additions: int,
    ) -> None:
        """Say what was merged; a block that is merged again is told by its own branches."""
        self.count += 1
        self.flushed += made.flushed
        said: list[str] = []
        gone: list[Absorbed] = []
        conditions: list[float | None] = []
        dtype = made.parameters[0][0].dtype
        nodes, operations = additions, additions * branches[0].linear.geometry.outputs
        for branch in branches:
            inner = [b for n in branch.chain.nodes if (b := self._blocks.pop(n, None))]
            said += [w for block in inner for w in block.branches] or [words(branch.chain)]
            nodes += len(branch.chain.nodes) + sum(b.nodes_before - b.nodes_after for b in inner)
            operations += branch.operations
            here = list(absorbed(branch.chain.nodes, dtype))
            conditions.append(
                in_a_row(
                    None if bound is None else bound / UNITS[dtype.name]
                    for bound in [*(g.numbers.bound for g in here), *(b.bound for b in inner)]
                )
            )
            gone += here
            for other in branch.chain.nodes:
                gone += self._absorbed.pop(other, [])
        self._absorbed[node] = gone
        known = side_by_side(conditions)
        self._blocks[node] = MergedBlock(
            tensor,
            node.op_type,
            tuple(said),
            made.kernel,
            nodes,
            made.nodes,
            operations * scale.positions or None,
            made.multiplications * scale.positions or None,
            None if known is None else known * UNITS[dtype.name],
            any(g.numbers.flagged for g in gone) or cancels(known, UNITS[dtype.name]),
        )


def offsets(sum_: Tree, cluster: Cluster) -> Iterator[tuple[Addend, Array]]:
    """The constant addends that fit into the bias of a cluster."""
    for addend in sum_.addends:
        value = offset(addend, cluster)
        if value is not None:
            yield addend, value


def check_affines(branch: Branch, dtype: np.dtype[Any]) -> None:
    """Refuse a branch with an affine that 16 bits would not resolve. Raises Refusal."""
    for gone in absorbed(branch.chain.nodes, dtype):
        check_bound(gone.numbers.bound, UNITS[dtype.name])


def has_normal_weights(branch: Branch) -> bool:
    """Whether a branch multiplies by more than zeros and subnormal numbers."""
    node = branch.chain.linear
    weight = node.inputs[1] if node is not None and len(node.inputs) > 1 else None
    constant = None if weight is None else weight.constant
    if constant is None:
        return False
    extent = constant.extent()
    return extent is None or extent.largest >= SMALLEST_NORMAL[constant.dtype]


def joined_value(graph: Graph, joint: Joint, result: Value) -> Value:
    """A part of a concatenation that stays."""
    value = graph.new_value(result.scope, f"{result.name}_merged", result)
    if value.shape is not None:
        shape = list(value.shape)
        shape[joint.family.axis] = joint.geometry.outputs
        value.shape = tuple(shape)
    return value


def nodes_of(branches: Iterable[Branch]) -> list[Node]:
    """All nodes of some branches."""
    return [node for branch in branches for node in branch.chain.nodes]
