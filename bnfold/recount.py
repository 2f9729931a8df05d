"""Where does a certificate differ from one that is made afresh, and what may differ?

On the same machine with the same versions nothing may, but for what only the file can say. On
another one errors are rounded otherwise, and another element may be the worst one: the errors are
compared as far as rounding explains, and what is left is taken on trust, by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bnfold.yardstick import rule_for

Document = Mapping[str, Any]
Path = tuple[str | int, ...]

DRIFT = 4.0
"""By which factor errors may differ on another machine. Another order of summing gives an error
of another sign and of the same size; a fault that matters is ten times the limit's own share."""
ROUNDINGS = 4.0
"""And by so many units of rounding of the output's type: an error of less than one on one machine
may be none on another, and of no number a factor can be told."""
ALIKE = 1e-9
"""Relative distance of numbers that are computed in float64, on another machine."""

MADE_BY = re.compile(r"bnfold|machine\..*|equivalence\.environment\..*")
"""By what and where it was made: told, and taken on trust where it is not so here."""
ERRORS = frozenset({"original_error", "candidate_error", "limit", "exact_error"})
WORST = re.compile(
    r"equivalence\.(notes|culprit|outputs\[\d+\]"
    r"\.(index|expected|actual|sample|max_abs|max_rel|mismatched|margin|detail))\b.*"
)
"""What is of the element that differed most, in numbers and in words; on another machine that is
another one."""
RAN = re.compile(r"equivalence\.samples\b.*")
"""What the float64 judge was run on; it cuts samples where it is short of time."""
FOLDS = re.compile(r"(folds|merged)\b.*")
"""What another version of bnfold may decide or say otherwise."""


@dataclass(frozen=True, slots=True)
class Differing:
    """One place where a certificate and a fresh one differ."""

    path: str
    certified: Any
    fresh: Any


ABSENT = object()
"""What stands where a document has nothing."""


@dataclass
class Recount:
    """What came of a comparison."""

    problems: list[str] = field(default_factory=list)
    on_trust: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def recount(certified: Document, fresh: Document) -> Recount:
    """Hold a certificate against a fresh one of the same files and settings, leaf by leaf."""
    found = Recount()
    differing = list(differences(certified, fresh))
    if any(one.path.startswith("equivalence.digests") for one in differing):
        found.problems.append("the inputs are others than those that were proven")
        return found
    made_by = [d for d in differing if MADE_BY.fullmatch(d.path)]
    allowed = _Allowed(certified, fresh, elsewhere=bool(made_by))
    for one in differing:
        if one.fresh is ABSENT:
            found.on_trust.append(one.path)
            found.notes.append(f"`{one.path}` is no field that this version of bnfold knows")
        elif one in made_by:
            found.on_trust.append(one.path)
            found.notes.append(f"made with {one.path} {one.certified}; here it is {one.fresh}")
        elif allowed.on_trust(one):
            found.on_trust.append(one.path)
        elif not allowed.near(one):
            what = f"{_shown(one.fresh)}, certified {_shown(one.certified)}"
            found.problems.append(f"`{one.path}` is {what}")
    return found


def differences(left: Any, right: Any, path: Path = ()) -> Iterator[Differing]:
    """Every place where two JSON values differ; numbers of other types are other numbers."""
    if isinstance(left, dict) and isinstance(right, dict):
        for name in dict.fromkeys((*left, *right)):
            pair = left.get(name, ABSENT), right.get(name, ABSENT)
            yield from differences(*pair, (*path, name))
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for index, pair in enumerate(zip(left, right, strict=True)):
            yield from differences(*pair, (*path, index))
    elif type(left) is not type(right) or left != right:
        yield Differing(spelled(path), left, right)


def spelled(path: Path) -> str:
    """A place in a document in words: `equivalence.outputs[0].passed`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


class _Allowed:
    """What may differ between this certificate and a fresh one."""

    def __init__(self, certified: Document, fresh: Document, *, elsewhere: bool) -> None:
        self.proof = fresh["equivalence"] or {"outputs": [], "samples": []}
        self.other_version = certified["bnfold"] != fresh["bnfold"]
        proofs = [document["equivalence"] or {"samples": []} for document in (certified, fresh)]
        self.cut = any(", first " in name for proof in proofs for name in proof["samples"])
        self.elsewhere = elsewhere or self.cut

    def on_trust(self, one: Differing) -> bool:
        """Whether nothing here can say what the certificate says there."""
        if one.path.endswith(".exact_error") and None in (one.certified, one.fresh):
            return True  # whether there was time for it
        if self.other_version and FOLDS.fullmatch(one.path):
            return True
        if self.cut and RAN.fullmatch(one.path):
            return True
        return self.elsewhere and bool(WORST.fullmatch(one.path))

    def near(self, one: Differing) -> bool:
        """Whether two numbers differ by no more than another machine explains."""
        both = (one.certified, one.fresh)
        if not self.elsewhere or not all(type(number) in (int, float) for number in both):
            return False
        if one.path.endswith(".measured"):
            return _drifted(*both, ROUNDINGS * self._coarsest())
        if one.path.rpartition(".")[2] in ERRORS:
            return _drifted(*both, self._floor(one.path))
        if FOLDS.fullmatch(one.path):
            return math.isclose(*both, rel_tol=ALIKE)
        return False

    def _floor(self, path: str) -> float:
        """Some units of rounding of one output, in what its errors are measured in."""
        output = self.proof["outputs"][int(path.partition("[")[2].partition("]")[0])]
        rounding = ROUNDINGS * rounding_of(output["dtype"])
        if self.proof["judge"] != "tolerance":
            return rounding
        size = abs(output["expected"] or 0.0)
        allowed = (self.proof["atol"] or 0.0) + (self.proof["rtol"] or 0.0) * size
        return rounding * size / allowed if allowed else 0.0

    def _coarsest(self) -> float:
        return max((rounding_of(o["dtype"]) for o in self.proof["outputs"]), default=0.0)


def rounding_of(dtype: str) -> float:
    """The unit of rounding of a type by its name, relative; none for whole numbers."""
    return rule_for(np.dtype(dtype)).eps if dtype.startswith(("float", "bfloat")) else 0.0


def _drifted(left: float, right: float, floor: float) -> bool:
    return max(left, right) <= DRIFT * min(left, right) + floor


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    if isinstance(value, (list, dict)):
        return f"of {len(value)} items"
    return f"{value!r}"[:200]
