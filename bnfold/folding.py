"""What is folded, in which order, and what is said of it? The conductor of the calculus."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import bnfold.rules  # noqa: F401  (fills the tables of rules)
from bnfold import arguments, functions
from bnfold.apply import commit, store
from bnfold.bounds import Rounding, rounding, unit
from bnfold.branches import Merging
from bnfold.dimensions import extend_shapes
from bnfold.effort import effort
from bnfold.errors import InputError
from bnfold.evaluate import mark_constants
from bnfold.features import size_arithmetic
from bnfold.graph import Graph, Node, Value
from bnfold.idioms import kernel_of
from bnfold.keeping import check_plan
from bnfold.magnitudes import check_sixteen_bits
from bnfold.modelio import open_model
from bnfold.plan import Draft, Plan
from bnfold.reasons import Reason, Refusal
from bnfold.report import Direction, FoldReport, FoldResult, FoldSite, Target
from bnfold.rules.registry import SOURCES, Source
from bnfold.seams import close
from bnfold.search import Patience, Search, read_source
from bnfold.sequences import has_sequences, with_splits
from bnfold.shapes import infer_shapes
from bnfold.stored import StoredModel
from bnfold.wholeness import Wholeness

Model = str | Path | onnx.ModelProto | StoredModel

NORMALIZATION = "BatchNormalization"

GLANCE = 1 << 27
"""Bytes of weights that an inspection reads to check what becomes of them."""
UNCHECKED = "{} folded weights were not computed: `fold` refuses those that their type cannot hold"


def fold(
    model: Model,
    *,
    keep: Iterable[str] = (),
    reparameterize: bool = True,
    keep_overridable: bool = False,
) -> FoldResult:
    """Fold every affine of a model into neighbouring weights where that is the same function.

    Args:
        model: a path or a ModelProto; it is never changed.
        keep: output tensors of affine nodes that stay as they are.
        reparameterize: merge parallel branches that are one linear operator.
        keep_overridable: initializers that are graph inputs too stay inputs, and are no constants.

    Returns:
        The folded model with a report on every affine in it. All arithmetic is in float64 and
        rounded once to the weight's own type.

    Raises:
        ModelError: the file cannot be read, or is not a valid model.
        InputError: a tensor to keep is not the output of an affine node.
    """
    return fold_with(model, keep, reparameterize=reparameterize, keep_overridable=keep_overridable)


@np.errstate(all="ignore")  # what is not finite is found by looking, and refused
def fold_with(model: Model, keep: Iterable[str] = (), **switches: bool) -> FoldResult:
    """Fold with the switches of `Folding`, of which `fold` offers those that users need."""
    loaded = open_model(model)
    keep = arguments.names(keep, "keep")
    names = frozenset(keep)

    def run(own: StoredModel) -> Folding:
        folding = Folding(own, names, **switches)
        folding.run()
        return folding

    # A loaded file is ours to change; a caller's model is not, and other words need it again.
    is_ours = isinstance(model, (str, Path)) and not in_other_words(loaded.proto)
    folding = run(loaded if is_ours else loaded.copy())
    wanted, whole = folding.functions_in_the_way(), loaded.proto
    if wanted:
        whole = functions.inlined(whole, wanted)
        other = run(loaded.over(whole))
        folding = other if other.left() < folding.left() else folding
    parted = with_splits(whole) if folding.kept() else None
    if parted is not None:
        other = run(loaded.over(parted))
        other.nodes_before = folding.nodes_before
        folding = other if other.kept() < folding.kept() else folding
    return replace(folding.result(), options=_options(keep, **switches))


def _options(
    keep: Iterable[str],
    *,
    reparameterize: bool = True,
    keep_overridable: bool = False,
    **_: bool,
) -> dict[str, Any]:
    """What was asked for, as reports tell it."""
    return {
        "keep": list(keep),
        "taken_back": [],
        "reparameterize": reparameterize,
        "keep_overridable": keep_overridable,
    }


def in_other_words(model: onnx.ModelProto) -> bool:
    """Whether the model may be looked at in another form: with functions or sequences undone."""
    return bool(model.functions) or has_sequences(model)


def inspect(
    model: Model,
    *,
    keep: Iterable[str] = (),
    reparameterize: bool = True,
    keep_overridable: bool = False,
) -> FoldReport:
    """Say what `fold` would do. The arguments and errors are those of `fold`.

    Of a model that was not loaded, no more than GLANCE bytes of weights are read to see whether
    their types can hold the folded ones; where that is not all, a note says so.
    """
    result = fold_with(
        model,
        keep,
        reparameterize=reparameterize,
        keep_overridable=keep_overridable,
        glances=True,
    )
    return FoldReport(**{f.name: getattr(result, f.name) for f in fields(FoldReport)})


class Folding:
    """One run over one model, which it changes."""

    def __init__(
        self,
        model: StoredModel,
        keep: Collection[str],
        *,
        reparameterize: bool = True,
        keep_overridable: bool = False,
        affines: bool = True,
        movement: bool = True,
        glances: bool = False,
    ) -> None:
        """`affines` and `movement` are switched off to measure what each of them is worth; who
        only `glances` does not check more folded weights than GLANCE bytes allow."""
        self.model = model
        model.weights.ration = GLANCE if glances else None
        self.graph = Graph(model.proto, model.weights, keep_overridable=keep_overridable)
        self.keep = keep
        self.affines, self.movement = affines, movement
        self.nodes_before = sum(1 for _ in self.graph.nodes)
        self.frozen = tuple(
            v.name for v in self.graph.root.values.values() if v.is_overridable and v.is_constant
        )
        infer_shapes(self.graph)
        mark_constants(self.graph)
        extend_shapes(self.graph)
        self.wholeness = Wholeness(self.graph)
        self.merging = Merging(self.graph, keep, self.wholeness) if reparameterize else None
        self.sizes = size_arithmetic(self.graph)
        self.sites: dict[Node, FoldSite] = {}
        self.origins: dict[Node, str] = {}
        """The model's own sources by the name that each had; what folds add is no site."""
        self.met: set[Node] = set()
        """The nodes that walks met which led nowhere."""
        self.patience = Patience()
        self.folded = 0
        self.flushed = 0
        self.seams: dict[Value, None] = {}
        """Values where an affine was taken out."""
        self.removed_movement = 0

    def run(self) -> None:
        """Merge parallel branches, fold, take out movement that is left, and all again until
        none of them finds anything: each may bring together what another one waits for.

        Branches come first: a fold that reaches through them would take their form away.
        """
        self.origins = {node: node.name for node in self.sources()}
        names = self.merging.names if self.merging else ()
        check_kept(self.keep, (*self.origins.values(), *names))
        if self.merging:
            self.merging.run()
        self.fold()
        while self.close() | (self.merging is not None and self.merging.run()):
            self.fold()
        self.note_merged()

    def close(self) -> bool:
        """Take out movement that undoes itself where affines went; whether there was any."""
        seams, self.seams = self.seams, {}
        removed = close(self.graph, seams) if self.movement else 0
        self.removed_movement += removed
        return removed > 0

    def sources(self) -> list[Node]:
        """All nodes that may be affines, in order."""
        nodes = sorted(self.graph.nodes, key=lambda n: n.position)
        return [n for n in nodes if (n.domain, n.op_type) in SOURCES and n not in self.sizes]

    def fold(self) -> None:
        """Try every source, again and again until none of them can go any more."""
        before = -1
        while self.affines and before != self.folded:
            before = self.folded
            for node in self.sources():
                if node in node.scope.nodes:
                    self.attempt(node)

    def attempt(self, node: Node) -> None:
        """Fold one source if that can be done, and note what became of it."""
        try:
            source = self.read(node)
            if source is not None:
                plan, direction = self.plan(Search(node, source, self.patience.budget))
                self.commit(node, plan, direction, rounding(source, unit(plan), plan.lost))
        except Refusal as refusal:
            self.keep_site(node, refusal)

    def plan(self, search: Search) -> tuple[Plan, Direction]:
        """The first way that is complete and whose constants can be held. Raises Refusal."""
        refusals: list[tuple[Direction, Refusal]] = []
        for direction, begin in search.candidates():
            try:
                plan = begin()
                self.check(search.source, plan)
                store(self.graph, plan, search.source)
                return plan, direction
            except Refusal as refusal:
                refusals.append((direction, refusal))
        self.met.update(search.visited)
        self.patience.lose(search)
        raise summary(refusals)

    def check(self, source: Source, plan: Plan) -> None:
        """Raise Refusal for a plan that would round what has to stay exact, or that 16 bits would
        not hold."""
        check_sixteen_bits(source, plan)
        with self.graph.weights.checking():
            check_plan(self.wholeness, plan)

    def read(self, node: Node) -> Source | None:
        """The node as a source, if it is one that may be folded. Raises Refusal."""
        source = read_source(node)
        if source is not None and self.origins.get(node) in self.keep:
            raise Refusal(Reason.KEPT_BY_REQUEST, "you asked to keep it")
        if source is not None and source.work == 1 and (kernel := kernel_of(node)):
            raise Refusal(Reason.NO_GAIN, f"runtimes compute it as a part of {kernel}")
        return source

    def commit(self, node: Node, plan: Plan, direction: Direction, numbers: Rounding) -> None:
        """Carry out a plan and note its site."""
        targets = tuple(target_of(d) for d in plan.drafts.values() if d.absorbs)
        crossed = [d for d in plan.drafts.values() if not d.absorbs and d.bypass is None]
        self.flushed += sum(c.flushed for d in plan.drafts.values() for c in d.constants.values())
        self.seams.update(dict.fromkeys(commit(self.graph, plan)))
        self.folded += 1
        self.note(
            node,
            verdict="folded",
            direction=direction,
            target=targets[0].tensor if targets else None,
            targets=targets,
            path=tuple(draft.op_type for draft in crossed),
            **asdict(numbers),
        )

    def note(self, node: Node, **facts: Any) -> None:
        """Say what became of one of the model's own sources."""
        if node in self.origins:
            site = FoldSite(tensor=self.origins[node], op_type=node.op_type, **facts)
            self.sites[node] = site

    def note_merged(self) -> None:
        """Say of the affines of merged branches which operator they are in."""
        for gone, node in self.merging.absorbed if self.merging else ():
            target = Target(node.name, node.op_type)
            self.note(
                gone.node,
                verdict="folded",
                direction=gone.direction,
                target=target.tensor,
                targets=(target,),
                **asdict(gone.numbers),
            )

    def keep_site(self, node: Node, refusal: Refusal) -> None:
        """Note that a source stays, and why."""
        self.note(
            node,
            verdict="kept",
            code=refusal.reason.code,
            reason=refusal.reason.slug,
            detail=refusal.detail,
        )

    def functions_in_the_way(self) -> set[functions.Key]:
        """The model's functions that hold a normalization, or that stopped a walk."""
        known = functions.keys(self.graph.model)
        if not known or effort(self.graph.model) is None:  # inlined, it would have no end
            return set()
        met = {(node.domain, node.op_type) for node in self.met}
        return functions.holding(self.graph.model, NORMALIZATION) | (met & set(known))

    def left(self) -> int:
        """How many normalizations run, those in functions counted for each call."""
        self.graph.flush()
        return functions.count(self.graph.model, NORMALIZATION)

    def kept(self) -> int:
        """How many of the model's own affines stay."""
        return sum(site.verdict == "kept" for site in self.sites.values())

    def result(self) -> FoldResult:
        """The model as it is now, written back, and the report."""
        self.graph.flush()
        unchecked = self.model.weights.unchecked
        return FoldResult(
            sites=tuple(self.sites[node] for node in sorted(self.sites, key=lambda n: n.line)),
            nodes_before=self.nodes_before,
            nodes_after=sum(1 for _ in self.graph.nodes),
            opset=self.graph.opsets.get("", 0),
            frozen_inputs=self.frozen,
            merged=self.merging.blocks if self.merging else (),
            flushed=self.flushed + (self.merging.flushed if self.merging else 0),
            removed_movement=self.removed_movement,
            notes=(UNCHECKED.format(unchecked),) if unchecked else (),
            stored=self.model,
        )


def target_of(draft: Draft) -> Target:
    """Who took an affine in, by the name that it has in the model before."""
    return Target(tensor=draft.node.name, op_type=draft.node.op_type)


VAGUE = (
    Reason.UNREAD,
    Reason.NO_PRODUCER,
    Reason.GRAPH_OUTPUT,
    Reason.OPAQUE_OP,
    Reason.CONFLICT,
    Reason.NO_GAIN,
    Reason.NOT_HOMOGENEOUS,
)
"""Reasons that say less than any other one, the vaguest first."""


def telling(direction: Direction, refusal: Refusal) -> int:
    """How much a reason tells. What stops a split affine tells little, and so does a forward walk
    that meets the model's end."""
    reason = refusal.reason
    if direction == "mixed":
        return -1
    if reason is Reason.ILL_CONDITIONED:  # met where a shared value, the first stop, was passed
        return len(VAGUE) + 1
    if reason not in VAGUE or (reason is Reason.GRAPH_OUTPUT and direction == "backward"):
        return len(VAGUE)
    return VAGUE.index(reason)


def summary(refusals: list[tuple[Direction, Refusal]]) -> Refusal:
    """One reason for a source that stays: the most telling, with what stopped each direction."""
    way, best = max(refusals, key=lambda pair: telling(*pair))
    details = {direction: "" for direction, _ in refusals} | {way: best.detail}
    for direction, refusal in refusals:
        details[direction] = details[direction] or refusal.detail
    text = "; ".join(f"{direction}: {detail}" for direction, detail in details.items())
    return Refusal(best.reason, text)


def check_kept(keep: Collection[str], known: Iterable[str]) -> None:
    """Refuse names that no affine has. Raises InputError."""
    unknown = sorted(set(keep) - set(known))
    if unknown:
        raise InputError(
            f"no affine node of the model makes the tensor `{unknown[0]}`",
            "`bnfold inspect -v` lists the tensors that can be kept",
        )
