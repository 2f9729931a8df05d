"""Is this file a certificate? Read whole, its form checked before anything in it is believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from bnfold.conforms import misfits
from bnfold.errors import InputError
from bnfold.regular import parsed, read
from bnfold.report import FoldSite, MergedBlock, OutputComparison

Document = dict[str, Any]

KIND = "bnfold certificate"
SCHEMA = 1
"""Version of the document. 1: first. Adding keys keeps it."""
ROLES = ("original", "candidate")
MOST = 1 << 26
"""Bytes of a certificate that is read: a fold takes about a thousand."""
LARGEST = 2**31 - 1
"""Of a size, a seed, a number of samples or of seconds, and a tolerance."""

HINT = "`bnfold verify ORIGINAL CANDIDATE --certificate FILE` writes one"


# --- the form ------------------------------------------------------------------------------


class Fingerprint(TypedDict):
    """Which model it is."""

    path: str | None
    bytes: int
    sha256: str
    data: dict[str, str]


class Machine(TypedDict):
    """What rounding depends on, beside the versions."""

    processor: str
    threads: int


class Environment(TypedDict):
    """What proved, by its versions."""

    onnxruntime: str
    onnx: str
    numpy: str
    python: str
    platform: str


class Settings(TypedDict):
    """What else it takes to prove the same again."""

    samples: int
    dims: dict[str, int | list[int]] | None
    data: str | None
    providers: list[str | tuple[str, dict[str, Any]]]
    judge_seconds: float


class Proof(TypedDict):
    """An EquivalenceReport as JSON has it."""

    schema: int
    equivalent: bool
    outputs: list[OutputComparison]
    seed: int
    samples: list[str]
    judge: Literal["float64", "noise", "tolerance"]
    providers: list[str]
    culprit: str | None
    atol: float | None
    rtol: float | None
    notes: list[str]
    environment: Environment
    digests: list[str]
    settings: Settings


class Folding(TypedDict):
    """The arguments of a fold, and what a proof has taken back."""

    keep: list[str]
    taken_back: list[str]
    reparameterize: bool
    keep_overridable: bool


@dataclass(frozen=True, slots=True)
class Site(FoldSite):
    """A fold with what was measured at its tensor."""

    measured: float | None = None


@dataclass(frozen=True, slots=True)
class Block(MergedBlock):
    """Merged branches with what was measured at their tensor."""

    measured: float | None = None


class Certificate(TypedDict):
    """The whole document."""

    kind: str
    schema: int
    bnfold: str
    machine: Machine
    original: Fingerprint
    candidate: Fingerprint
    equivalence: Proof | None
    folding: Folding | None
    folds: list[Site] | None
    merged: list[Block] | None


# --- reading -------------------------------------------------------------------------------


def load(path: str | Path) -> Document:
    """Read a certificate. Raises InputError."""
    try:
        document = parsed(read(path, MOST))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}", HINT) from None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise InputError(f"{path} is no certificate of bnfold", HINT)
    if document.get("schema") != SCHEMA:
        raise InputError(f"{path} is a certificate of another version", "make it again")
    fault = next(_faults(document), None)
    if fault is not None:
        raise InputError(f"{path} is no certificate of bnfold: {fault}", "make it again")
    return document


def _faults(document: Document) -> Iterator[str]:
    """What is not as a certificate has it, in words."""
    yield from misfits(document, Certificate)
    proof = document["equivalence"]
    if proof is not None:
        yield from _out_of_range(proof)


def _out_of_range(proof: Document) -> Iterator[str]:
    """Settings that no proof can be made with, though they are numbers."""
    settings = proof["settings"]
    numbers = [("seed", 0, proof["seed"]), ("settings.samples", 1, settings["samples"])]
    numbers += [("settings.judge_seconds", 0, settings["judge_seconds"])]
    numbers += [(name, 0, proof[name]) for name in ("atol", "rtol") if proof[name] is not None]
    for name, size in (settings["dims"] or {}).items():
        sizes = size if isinstance(size, list) else [size]
        numbers += [(f"settings.dims.{name}", 0, number) for number in sizes]
    for name, least, number in numbers:
        if number is None or not least <= number <= LARGEST:
            yield f"`equivalence.{name}` is {number}, which is out of range"
