"""What do the random nodes draw? Numbers that both models are given, so that they can be compared.

A model that draws random numbers gives another result at each run, and no distance between two
results says anything of its function. So the numbers are drawn once for each sample, by the
original's own nodes, and both models take them as further inputs: what remains are two functions
of inputs and draws, which the float64 judge can judge. The nodes correspond where name, operator
and attributes are the same. What a Bernoulli or a Multinomial draws depends on a value, and the
draws cut it off from the outputs; that value is compared like an output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from bnfold.decisions import Deciding, known_constants
from bnfold.errors import InputError
from bnfold.feeds import Sample
from bnfold.nesting import all_nodes
from bnfold.runtime import Session
from bnfold.stored import StoredModel, copied
from bnfold.yardstick import errors, rule_for

Array = NDArray[Any]
OpenSession = Callable[..., Session]

OF_A_VALUE = frozenset({"Bernoulli", "Multinomial"})
"""Operators whose draws depend on what they read."""
RANDOM = OF_A_VALUE | {
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
}
STANDARD = frozenset({"", "ai.onnx"})

MARK = "bnfold.drawn:"
"""What the names of the further inputs begin with: no exporter writes such a name."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A node that draws, of the main graph, and the input that takes the place of its draws."""

    node: NodeProto
    source: str
    kept: float = 1.0
    """Of a Dropout: the share of elements that it keeps, by which it divides them."""

    @property
    def is_dropout(self) -> bool:
        """Whether the draws are the factors of what the node reads, and not what it gives."""
        return self.node.op_type == "Dropout"

    @property
    def looked_at(self) -> str | None:
        """The value that the draws depend on."""
        return str(self.node.input[0]) if self.node.op_type in OF_A_VALUE else None

    @property
    def exposed(self) -> str:
        """The tensor that tells what was drawn: the output, or a Dropout's mask."""
        named = self.node.output[1:] if self.is_dropout else self.node.output
        return str(named[0]) if named else f"{self.source}/mask"

    def drawn(self, values: Mapping[str, Array]) -> Array:
        """What to feed, from the outputs of a run of `seeded`."""
        found = values[self.exposed]
        if not self.is_dropout:
            return found
        factor = 1.0 / self.kept if self.kept else 0.0
        return np.where(found, factor, 0.0).astype(values[self.node.output[0]].dtype)

    def matches(self, other: Draw | None) -> bool:
        """Whether a node of another model draws the same, given the same values."""
        return (
            other is not None
            and other.node.op_type == self.node.op_type
            and other.looked_at == self.looked_at
            and other.kept == self.kept
            and _settings(other.node) == _settings(self.node)
        )

    def stand_in(self, node: NodeProto) -> Iterator[NodeProto]:
        """What computes the outputs of `node` from the draws that are fed."""
        if not self.is_dropout:
            yield helper.make_node("Identity", [self.source], node.output[:1], node.name)
            return
        yield helper.make_node("Mul", [node.input[0], self.source], node.output[:1], node.name)
        if len(node.output) > 1 and node.output[1]:
            yield helper.make_node("Cast", [self.source], node.output[1:], to=TensorProto.BOOL)


def _settings(node: NodeProto) -> dict[str, bytes]:
    return {a.name: a.SerializeToString() for a in node.attribute if a.name != "seed"}


# --- finding them --------------------------------------------------------------------------


def draws(model: StoredModel) -> tuple[Draw, ...]:
    """The nodes of the main graph that draw random numbers."""
    found = []
    for node in model.proto.graph.node:
        if node.domain not in STANDARD or node.op_type not in RANDOM | {"Dropout"}:
            continue
        kept = _share_kept(node, model) if node.op_type == "Dropout" else 1.0
        if kept is not None:
            found.append(Draw(node, f"{MARK}{node.output[0]}", kept))
    return tuple(found)


def _share_kept(node: NodeProto, model: StoredModel) -> float | None:
    """What a Dropout keeps if it drops at all; None where it does not, or that is not constant."""
    _, ratio, training = (*node.input, "", "")[:3]
    known = known_constants(model.proto.graph, {ratio, training}, model.weights)
    if training not in known or not known[training].any() or (ratio and ratio not in known):
        return None
    return 1.0 - float(known[ratio].item()) if ratio else 0.5


def may_draw(model: ModelProto) -> bool:
    """Whether anything in the model, at any depth, may give another result at each run."""
    return any(
        node.op_type in RANDOM
        or node.domain not in STANDARD
        or (node.op_type == "Dropout" and len(node.input) > 2)
        for node in all_nodes(model)
    )


# --- giving both models the same -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fixed:
    """Two models that draw nothing any more, and the samples with what they are to use."""

    original: ModelProto
    candidate: ModelProto
    samples: tuple[Sample, ...]
    looked_at: tuple[str, ...]
    """Values that draws depended on, to be compared as well."""

    def watching(self, deciding: Deciding) -> Deciding:
        """`deciding`, with these values among those that are looked at."""
        made = {name for node in self.original.graph.node for name in node.output}
        outputs = {output.name for output in self.original.graph.output}
        more = tuple(n for n in self.looked_at if n in made - outputs - {*deciding.watched})
        return replace(deciding, watched=deciding.watched + more, shared=deciding.shared + more)


def fix(
    original: StoredModel,
    candidate: StoredModel,
    samples: Sequence[Sample],
    open_session: OpenSession,
    seed: int,
) -> Fixed | None:
    """Draw once for each sample; None for an original that draws nothing (in its main graph)."""
    found = draws(original)
    if not found:
        return None
    exposed = {name for d in found for name in (d.exposed, d.node.output[0])}
    session = open_session(
        seeded(original.whole(), found, seed), level="disable", outputs=sorted(exposed)
    )
    fed: list[dict[str, Array]] = []
    for sample in samples:
        values = session.run(sample.feeds)
        fed.append({draw.source: draw.drawn(values) for draw in found})
    theirs = {draw.node.output[0]: draw for draw in draws(candidate)}
    shared = [draw for draw in found if draw.matches(theirs.get(draw.node.output[0]))]
    return Fixed(
        fed_with(original.whole(), found, fed[0]),
        fed_with(candidate.whole(), shared, fed[0]),
        tuple(
            Sample(sample.name, {**sample.feeds, **drawn})
            for sample, drawn in zip(samples, fed, strict=True)
        ),
        tuple(dict.fromkeys(d.looked_at for d in shared if d.looked_at)),
    )


def seeded(model: ModelProto, found: Sequence[Draw], seed: int) -> ModelProto:
    """A copy whose nodes draw the same at each start, and show their masks."""
    copy = copied(model)
    numbers = {draw.node.output[0]: (draw, seed + n) for n, draw in enumerate(found, 1)}
    for node in copy.graph.node:
        draw, number = numbers.get(node.output[0] if node.output else "", (None, 0))
        if draw is None:
            continue
        if not any(attribute.name == "seed" for attribute in node.attribute):
            value: int | float = number if draw.is_dropout else float(number)
            node.attribute.append(helper.make_attribute("seed", value))
        if draw.is_dropout and len(node.output) < 2:
            node.output.append(draw.exposed)
    return copy


def fed_with(model: ModelProto, found: Sequence[Draw], drawn: Mapping[str, Array]) -> ModelProto:
    """A copy that takes the draws as inputs of the types and ranks of `drawn`."""
    copy = copied(model)
    by_output = {draw.node.output[0]: draw for draw in found}
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    for node in nodes:
        draw = by_output.get(node.output[0] if node.output else "")
        copy.graph.node.extend([node] if draw is None else draw.stand_in(node))
    for draw in found:
        _add_input(copy.graph, draw.source, drawn[draw.source])
    return copy


def _add_input(graph: GraphProto, name: str, like: Array) -> None:
    """An input of a size of its own along each axis: draws are never cut as a batch is."""
    kind = helper.np_dtype_to_tensor_dtype(like.dtype)
    shape = [f"{name}/{axis}" for axis in range(like.ndim)]
    graph.input.append(helper.make_tensor_value_info(name, kind, shape))


# --- what still draws ----------------------------------------------------------------------


def refuse_random(session: Session, sample: Sample) -> None:
    """Raise InputError where a model gives two results for the same inputs."""
    first, second = (session.run(sample.feeds) for _ in range(2))
    for name, value in first.items():
        if isinstance(value, np.ndarray) and _differs(value, second[name]):
            raise InputError(
                f"output `{name}` of the original is another one at each run, for the same "
                "inputs: it draws random numbers inside of a subgraph, a function or an operator "
                "of another domain, so that nothing can be proven of it",
                "export the model without what draws, or write it unproven with --no-verify",
            )


def _differs(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return True
    if one.dtype.kind not in "fV":
        return not np.array_equal(one, other)
    rule = rule_for(one.dtype)
    return errors(other, one, rule.tiny).larger > rule.floor
