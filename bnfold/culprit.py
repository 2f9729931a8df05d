"""Where do two models part? The first tensor that exists in both and differs.

A fold keeps every tensor name whose value it keeps, so equal names mean equal values; where they
do not, the fold that made the tensor is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold import runtime, yardstick
from bnfold.errors import BnfoldError
from bnfold.runtime import CPU, Provider, Session
from bnfold.stored import StoredModel

Array = NDArray[Any]
Opener = Callable[..., Session]
"""Opens a session as `runtime.open_session` does."""

BATCH = 64
"""How many tensors are exposed at a time: every one of them is held in memory."""

DEPARTED = 1e-5
"""Relative distance below which a tensor is merely rounded; four eps where that is more."""

JUMP = 30.0
"""By how much a fault stands out of the rounding before it, which grows in smaller steps."""


@dataclass(frozen=True, slots=True)
class Departure:
    """A tensor of both models that differs, and by how much of its scale."""

    tensor: str
    op_type: str
    error: float


def first_departure(
    original: StoredModel,
    candidate: StoredModel,
    feeds: Mapping[str, Array],
    *,
    provider: Provider = CPU,
    open_session: Opener = runtime.open_session,
) -> Departure | None:
    """The first tensor in the candidate's order that departs; None where none does.

    Both models run with optimizations off, so that every tensor is there to be seen. A tensor
    departs when it is off by JUMP times more than any before it and beyond rounding.
    """
    makers = {name: node for node in candidate.proto.graph.node for name in node.output if name}
    known = {name for node in original.proto.graph.node for name in node.output}
    common = [name for name in makers if name in known]
    before, largest = 0.0, Departure("", "", 0.0)
    for name, error in _errors(original, candidate, common, feeds, provider, open_session):
        here = Departure(name, makers[name].op_type, error)
        if error > max(DEPARTED, JUMP * before):
            return here
        if error > largest.error:
            largest = here
        before = max(before, error)
    return largest if largest.error > DEPARTED else None


def distances(
    original: StoredModel,
    candidate: StoredModel,
    tensors: Sequence[str],
    feeds: Mapping[str, Array],
    *,
    open_session: Opener = runtime.open_session,
) -> dict[str, float]:
    """By how much of its magnitude each tensor differs, on the CPU, optimizations off."""
    return dict(_errors(original, candidate, tensors, feeds, CPU, open_session, cut=0.0))


def _errors(
    original: StoredModel,
    candidate: StoredModel,
    tensors: Sequence[str],
    feeds: Mapping[str, Array],
    provider: Provider,
    open_session: Opener,
    cut: float = 4.0,
) -> Iterator[tuple[str, float]]:
    """Each tensor's error, a batch of them at a time."""
    for start in range(0, len(tensors), BATCH):
        batch = tensors[start : start + BATCH]
        try:
            ours, theirs = (
                open_session(model, provider=provider, level="disable", outputs=batch).run(feeds)
                for model in (candidate.loadable, original.loadable)
            )
        except BnfoldError:  # a type that cannot be an output
            continue
        for name in batch:
            yield name, _distance(ours[name], theirs[name], cut)


def _distance(actual: Any, expected: Any, cut: float) -> float:
    """Relative error; nothing where it is below `cut` units of rounding."""
    if not isinstance(actual, np.ndarray) or not isinstance(expected, np.ndarray):
        return 0.0
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return float("inf")
    if actual.dtype.kind not in "fV":
        return 0.0  # a flip of a whole number follows from a float before it
    rule = yardstick.rule_for(expected.dtype)
    if yardstick.misplaced(actual, expected, None, rule).any():
        return float("inf")
    error = yardstick.errors(actual, expected, rule.tiny).larger
    return error if error > cut * rule.eps else 0.0
