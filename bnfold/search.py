"""Where can an affine go? Walks from a source until all who see a changed value agree.

Two moves: a producer is asked to make `affine(value)`, a reader is asked to cope with an input
that was `affine(input)`. Producers are asked first, readers in the order of the graph. Where a
rule leaves a choice, the alternatives are tried one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from bnfold.affine import Affine, Array
from bnfold.bounds import LOST, lost
from bnfold.contradictions import contradiction
from bnfold.graph import Node, Value
from bnfold.plan import Draft, Plan, Use
from bnfold.reasons import Reason, Refusal
from bnfold.report import Direction
from bnfold.rules.registry import BACKWARD, FORWARD, SOURCES, Source, Step, Steps

DEPTH = 64
"""Operators that one walk may rewrite."""

BUDGET = 120
"""Rules that one source may ask, over all alternatives."""

PATIENCE = 60_000
"""Rules that may be asked in vain in one model; real ones ask some thousand. When three quarters
of them are gone, walks become shorter, down to NEAREST: what stands beside a weight is folded in
any model, and time stays linear."""
NEAREST = 12


class Patience:
    """What is left of the rules that a model's sources may ask in vain."""

    def __init__(self) -> None:
        self.left = PATIENCE

    @property
    def budget(self) -> int:
        """Rules that the next source may ask."""
        return max(NEAREST, min(BUDGET, BUDGET * self.left * 4 // PATIENCE))

    def lose(self, search: Search) -> None:
        """Count what a search asked that led nowhere."""
        self.left = max(0, self.left - search.asked)


class Search:
    """The walks from one source."""

    def __init__(self, node: Node, source: Source, budget: int = BUDGET) -> None:
        self.node = node
        self.source = source
        self.visited: dict[Node, None] = {node: None}
        self.budget = budget
        self.asked = 0
        self.is_exclusive = True
        """Whether a value that somebody else reads must stay as it is."""
        self.shared: Refusal | None = None
        """The first such value that was met."""

    @property
    def data(self) -> Value:
        """What the source reads."""
        value = self.node.inputs[self.source.data]
        assert value is not None
        return value

    @property
    def result(self) -> Value:
        """What the source makes."""
        value = self.node.outputs[0]
        assert value is not None
        return value

    def candidates(self) -> Iterator[tuple[Direction, Callable[[], Plan]]]:
        """All ways to begin, the plainest first.

        Whole backward and whole forward; then the same with the opposite for other readers of
        what changes; then split at scale and shift.
        """
        affine = self.source.affine
        yield "backward", lambda: self.begin(affine, None)
        yield "forward", lambda: self.begin(None, affine)
        self.is_exclusive = False
        if self.shared is not None:
            yield "backward", lambda: self.begin(affine, None)
            yield "forward", lambda: self.begin(None, affine)
        if affine.is_pure_scale or affine.is_pure_shift:
            return
        yield "mixed", lambda: self.begin(self.shift_first(), affine.scale_part)
        yield "mixed", lambda: self.begin(affine.scale_part, affine.shift_part)

    def shift_first(self) -> Affine:
        """The part of the affine to add before scaling. Raises Refusal.

        `s * x + t = s * (x + t / s)`; in the network of pre-activations this is what a producer's
        bias takes in, while the scale goes on through the activation.
        """
        affine = self.source.affine
        try:
            shift = affine.shift_before()
        except ZeroDivisionError:
            raise Refusal(
                Reason.ZERO_SCALE, "a channel has scale zero and a shift, which has no inverse"
            ) from None
        if not np.isfinite(shift).all():
            raise Refusal(Reason.ILL_CONDITIONED, "a scale is too near to zero to divide by")
        typical = self.source.typical
        if typical is not None and (np.abs(shift) > LOST * typical).any():
            raise Refusal(Reason.ILL_CONDITIONED, "the shift would cancel most digits")
        return Affine.of_shift(shift)

    def begin(self, back: Affine | None, ahead: Affine | None) -> Plan:
        """A complete plan that sends one part backward and the other forward. Raises Refusal."""
        plan = Plan()
        plan.visited = self.visited
        plan.bypass(self.node, self.source)
        if back is not None and not back.is_identity:
            plan.demands.append((self.data, back, ((self.node, self.source.data),)))
        elif self.result.is_output:
            self.check_takes_name()
        if ahead is not None and not ahead.is_identity:
            plan.change(self.result)
            plan.lose(self.result, ahead)
        return self.complete(plan)

    def check_takes_name(self) -> None:
        """Refuse an identity whose input cannot become the graph's output in its place."""
        data = self.data
        may = data.producer is not None and not data.is_output and not data.is_captured
        if not may or data.scope is not self.node.scope:
            raise Refusal(Reason.GRAPH_OUTPUT, f"{self.result.name} is an output of the graph")

    def complete(self, plan: Plan) -> Plan:
        """Ask on until nothing is open. Raises Refusal."""
        while plan.demands or plan.pending:
            self.asked += 1
            plan.steps += 1
            if plan.steps > DEPTH or self.asked > self.budget:
                raise Refusal(Reason.SEARCH_LIMIT, f"more than {DEPTH} operators to rewrite")
            choices = self.ask_producer(plan) if plan.demands else self.ask_reader(plan)
            if choices is None:
                continue
            node, steps = choices
            plan = self.choose(plan, node, steps)
        self.check_gain(plan)
        return plan

    def check_gain(self, plan: Plan) -> None:
        """A plan must take a node away, or put an Add in the place of one that does more."""
        if plan.gain < (1 if self.source.work == 1 else 0):
            raise Refusal(Reason.NO_GAIN, "as many nodes would be added as removed")

    def choose(self, plan: Plan, node: Node, steps: Iterable[Step]) -> Plan:
        """The first alternative that completes; the plan with it. Raises Refusal."""
        refusals: list[Refusal] = []
        iterator = iter(steps)
        step = next(iterator, None)
        while step is not None:
            following = next(iterator, None)
            branch = plan.copy() if following is not None else plan
            try:
                self.take(branch, node, step)
                if following is None and not refusals:
                    return branch
                return self.complete(branch)
            except Refusal as refusal:
                refusals.append(refusal)
            step = following
        if not refusals:
            raise Refusal(Reason.OPAQUE_OP, f"{node.op_type} stops")
        # An alternative that is possible and not worth it says more than one that is not possible.
        raise max(refusals, key=lambda refusal: refusal.reason is Reason.NO_GAIN)

    def take(self, plan: Plan, node: Node, step: Step) -> None:
        """Take one alternative. Raises Refusal."""
        if any(not affine.is_pure_scale for affine in step.outputs.values()):
            # The shift goes on; what a Max, say, holds against it takes the inverse.
            for affine in step.inputs.values():
                self.check_digits(plan, f"an input of {node.name}", affine, self.source.result)
        plan.take(node, step)

    # ---------------------------------------------------------------- producers

    def ask_producer(self, plan: Plan) -> tuple[Node, Iterable[Step]] | None:
        """Settle the newest demand: how its value's producer can make it. Raises Refusal."""
        value, affine, uses = plan.demands.pop()
        if self.is_settled(plan, value, affine, uses):
            return None
        plan.change(value)
        node = value.producer
        if node is None:
            raise without_producer(value)
        if uses[0][0].scope is not node.scope:
            raise Refusal(Reason.CAPTURED, f"{value.name} is made outside of the subgraph")
        self.tell_others(plan, value, affine, uses)
        draft = plan.draft(node)
        if draft.bypass is not None:
            plan.demand(node, {draft.bypass.data: affine})
            return None
        if draft.bias is not None:
            raise Refusal(Reason.CONFLICT, f"{node.name} has taken in another affine")
        rule = BACKWARD.get(draft.key)
        if rule is None:
            raise Refusal(Reason.OPAQUE_OP, opaque(draft, "before"))
        output = node.outputs.index(value)
        return node, answers(draft, lambda: rule(draft, affine, output))

    def is_settled(self, plan: Plan, value: Value, affine: Affine, uses: tuple[Use, ...]) -> bool:
        """Note the demand; whether the value already is what is asked for."""
        before = plan.expects.get(uses[0])
        wanted = affine if before is None else affine.after(before)
        for use in uses:
            plan.expects[use] = wanted
        made = plan.made.get(value)
        node = uses[0][0]
        waiting = plan.pending.get(node, {})
        if made is not None and made.equals(wanted):
            settled = {index for _, index in uses}
            rest = {index: lost for index, lost in waiting.items() if index not in settled}
            if rest:
                plan.pending[node] = rest
            else:
                plan.pending.pop(node, None)
            return True
        if any(index in waiting for _, index in uses):
            raise Refusal(Reason.CONFLICT, f"two paths ask different things of {value.name}")
        # A value that others read too is settled once: asked again it would go round in circles.
        again = made is not None and any(reader is not node for reader, _ in value.readers)
        if again or (value in plan.moved and made is None):
            raise Refusal(Reason.CONFLICT, f"two paths ask different things of {value.name}")
        plan.made[value] = wanted
        return False

    def tell_others(self, plan: Plan, value: Value, affine: Affine, uses: tuple[Use, ...]) -> None:
        """The value's other readers get the inverse. Raises Refusal where there is none."""
        others = [use for use in value.readers if use not in uses]
        if not others:
            return
        for node, _ in others:
            plan.visited[node] = None
        refusal = shared(value, others)
        self.shared = self.shared or refusal
        if self.is_exclusive or not affine.is_invertible:
            raise refusal
        self.check_digits(plan, value.name, affine, self.source.typical)
        plan.lose(value, affine.inverse(), satisfied=uses)

    def check_digits(self, plan: Plan, name: str, affine: Affine, magnitude: Array | None) -> None:
        """Refuse to store `affine(x)` for those who need x, where the shift leaves too little."""
        units = lost(affine, magnitude)
        if not units <= LOST:
            sentence = f"{name} would lose most digits to a shift {units:.2g} times its size"
            raise Refusal(Reason.ILL_CONDITIONED, sentence)
        plan.lost = max(plan.lost, units)

    # ------------------------------------------------------------------ readers

    def ask_reader(self, plan: Plan) -> tuple[Node, Iterable[Step]] | None:
        """Settle the first reader that is open: how it can cope. Raises Refusal."""
        node = min(plan.pending, key=lambda n: n.position)
        affines = {i: a for i, a in plan.pending.pop(node).items() if not a.is_identity}
        if not affines:
            return None
        draft = plan.draft(node)
        if draft.bypass is not None:
            output = node.outputs[0]
            assert output is not None
            plan.change(output)
            plan.lose(output, affines[draft.bypass.data])
            return None
        rule = FORWARD.get(draft.key)
        if rule is None:
            raise Refusal(Reason.OPAQUE_OP, opaque(draft, "after"))
        return node, answers(draft, lambda: rule(draft, affines))


def answers(draft: Draft, ask: Callable[[], Steps]) -> tuple[Step, ...]:
    """A rule's answer as a sequence. Raises Refusal, also for a node that contradicts itself."""
    require_consistent(draft.node)
    steps = ask()
    return (steps,) if isinstance(steps, Step) else tuple(steps)


def require_consistent(node: Node) -> None:
    """Refuse a node that no runtime could run."""
    if found := contradiction(node):
        sentence = f"{node.op_type} ({node.name}) contradicts its own shapes: {found}"
        raise Refusal(Reason.CONTRADICTION, sentence)


def opaque(draft: Draft, where: str) -> str:
    """The sentence for an operator without a rule."""
    return f"{draft.op_type} ({draft.node.name}) {where} it neither absorbs nor carries an affine"


def without_producer(value: Value) -> Refusal:
    """The refusal for a value that no node makes."""
    if value.is_constant:
        sentence = f"{value.name} is a constant, and what is made of it is not evaluated"
        return Refusal(Reason.NOT_EVALUATED, sentence)
    reason = Reason.NOT_CONSTANT if value.is_overridable else Reason.NO_PRODUCER
    return Refusal(reason, f"{value.name} is an input of the graph")


def shared(value: Value, others: list[Use]) -> Refusal:
    """The refusal for a value that somebody else reads."""
    names = ", ".join(sorted({f"{node.op_type} ({node.name})" for node, _ in others}))
    return Refusal(Reason.SHARED_VALUE, f"{value.name} is read by {names} too")


def read_source(node: Node) -> Source | None:
    """The affine that a node is; None where it is none. Raises Refusal where it cannot be used."""
    reader = SOURCES.get((node.domain, node.op_type))
    if reader is None:
        return None
    draft = Draft(node)
    require_consistent(draft.node)
    return reader(draft) if draft.key in SOURCES else None
