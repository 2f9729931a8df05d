"""A rule made wrong by one percent: does anybody notice?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import bnfold.rules  # noqa: F401  (fills the tables of rules)
from bnfold.affine import Affine
from bnfold.constants import Constant, is_float
from bnfold.graph import Node
from bnfold.plan import Plan
from bnfold.rules import registry
from bnfold.rules.registry import Source, Step

FACTOR = 1.01
TABLES: Mapping[str, dict[Any, Any]] = {
    "backward": registry.BACKWARD,
    "forward": registry.FORWARD,
    "source": registry.SOURCES,
}


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """An entry of the tables."""

    table: str
    domain: str
    op_type: str

    def __str__(self) -> str:
        return f"{self.table} {self.domain + '.' if self.domain else ''}{self.op_type}"


def all_rules() -> list[Rule]:
    """Every entry of every table."""
    return sorted(Rule(table, *key) for table, rules in TABLES.items() for key in rules)


def scaled(affine: Affine, part: str) -> Affine:
    """The affine with its scale or its shift one percent too large."""
    if part == "scale":
        return Affine(affine.scale * FACTOR, affine.shift)
    return Affine(affine.scale, affine.shift * FACTOR)


def faults(step: Step) -> dict[str, Callable[[Step], Step]]:
    """What can be wrong in a step, by name: one number of it, one percent too large."""
    result: dict[str, Callable[[Step], Step]] = {}
    for side in ("inputs", "outputs"):
        affines: Mapping[int, Affine] = getattr(step, side)
        for index, affine in affines.items():
            for part in ("scale", "shift"):
                bad = scaled(affine, part)
                if not bad.equals(affine):
                    result[f"{side}[{index}].{part}"] = _replacing(side, index, bad)
    for index, constant in step.constants.items():
        if is_float(constant.dtype) and constant.value().any():
            result[f"constants[{index}]"] = _replacing("constants", index, wrong(constant))
    for name, value in step.attributes.items():
        if isinstance(value, float) and value:
            result[f"attributes[{name}]"] = _replacing("attributes", name, value * FACTOR)
    if step.bias is not None and step.bias.value().any():
        bias = wrong(step.bias)
        result["bias"] = lambda s: replace(s, bias=bias)
    return result


def wrong(constant: Constant) -> Constant:
    """A constant that is one percent too large."""
    return Constant(lambda: constant.exact() * FACTOR, constant.shape, constant.dtype)


def _replacing(side: str, key: Any, value: Any) -> Callable[[Step], Step]:
    def spoiled(step: Step) -> Step:
        change: dict[str, Any] = {side: {**getattr(step, side), key: value}}
        return replace(step, **change)

    return spoiled


def damaged(answer: Any, fault: str, possible: dict[int, set[str]]) -> Any:
    """A rule's answer with one fault in each of its steps; notes what faults each could have."""
    if answer is None:
        return None
    if isinstance(answer, Source):
        bad = {part: scaled(answer.affine, part) for part in ("scale", "shift")}
        names = {part for part, affine in bad.items() if not affine.equals(answer.affine)}
        possible.setdefault(0, set()).update(names)
        return replace(answer, affine=bad[fault]) if fault in names else answer
    if not isinstance(answer, Step):
        return [damaged(step, fault, possible) for step in answer]
    ways = faults(answer)
    result = ways[fault](answer) if fault in ways else answer
    possible[id(result)] = set(ways)
    KEPT.append(result)
    return result


KEPT: list[Step] = []
"""Steps that were noted by their id, which must not be given to another one."""


@contextmanager
def fault_in(rule: Rule, fault: str = "") -> Iterator[set[str]]:
    """Within this a rule has a fault. Yields the faults that the steps taken could have had.

    Without a fault the rule is right, and is only watched.
    """
    table, key = TABLES[rule.table], (rule.domain, rule.op_type)
    honest, take = table[key], Plan.take
    possible: dict[int, set[str]] = {}
    seen: set[str] = set()

    def watched(self: Plan, node: Node, step: Step) -> None:
        take(self, node, step)
        seen.update(possible.get(id(step), ()))

    def faulty(*args: Any) -> Any:
        answer = damaged(honest(*args), fault, possible)
        seen.update(possible.get(0, ()))
        return answer

    table[key] = faulty
    Plan.take = watched  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        table[key] = honest
        Plan.take = take  # type: ignore[method-assign]
        KEPT.clear()
