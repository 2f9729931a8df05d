"""What became of one model of a fleet? One record: a line of the manifest, a result of a sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bnfold.conforms import misfits
from bnfold.report import SCHEMA, Report

Outcome = Literal["equivalent", "unchanged", "unproven", "not_equivalent", "failed"]
"""Folded and proven; nothing to fold; folded without a proof; no equivalent model could be made;
could not be done."""

DONE: frozenset[Outcome] = frozenset({"equivalent", "unchanged", "unproven"})
"""Outcomes with a model at the destination."""
FINAL = "invalid"
"""The kind of failure that the same bytes would always meet again; others are tried again."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, and what can be done.

    `kind`: invalid (no ONNX model), input, runtime (ONNX Runtime cannot run it), storage, taken
    (its place at the destination), crashed, timed_out, memory, changed (while it was read), lost
    (its worker) or bug.
    """

    kind: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it was read or written.

    `state` is what the storage tells of it without reading it: it is the same as long as the
    file is.
    """

    sha256: str
    bytes: int
    state: str | None = None


@dataclass(frozen=True, slots=True)
class FleetSpeed:
    """The speedup at the runtime's default level, with what the original shows against itself."""

    speedup: float
    interval: tuple[float, float]
    control: float
    control_interval: tuple[float, float]
    significant: bool
    stable: bool
    original_ms: float
    candidate_ms: float
    provider: str
    level: str
    threads: int


@dataclass(frozen=True, slots=True)
class SweptModel(Report):
    """One model and what a sweep did, or had done, with it; truthy where nothing is wrong."""

    model: str
    """Its path from the source's folder on, and the folded one's at the destination."""
    source: str
    outcome: Outcome
    bnfold: str
    """The version that did it."""
    options: dict[str, Any]
    """What it was folded and proven with."""
    sha256: str = ""
    """Of the model's own file; with external data see `inputs`."""
    inputs: dict[str, FileState] = field(default_factory=dict)
    companions: dict[str, FileState] = field(default_factory=dict)
    """Files that were copied along, such as Triton's config.pbtxt."""
    outputs: dict[str, FileState] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    """Whatever this sweep or an earlier one wrote for the model at the destination: their names,
    also where the last one failed."""
    failure: Failure | None = None
    sites: int = 0
    folded: int = 0
    merged: int = 0
    normalizations: int = 0
    """BatchNormalization nodes."""
    normalizations_folded: int = 0
    rolled_back: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    """How many sites were kept for each reason code."""
    nodes_before: int = 0
    nodes_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    judge: str | None = None
    original_error: float | None = None
    candidate_error: float | None = None
    limit: float | None = None
    """Errors of the output that came nearest to what it was allowed, relative to float64."""
    speed: FleetSpeed | None = None
    speed_options: dict[str, Any] | None = None
    """What it was timed with, or would have been; None where timing was not asked for."""
    speed_failure: Failure | None = None
    seconds: float = 0.0
    """What fetching, folding, proving and publishing took; timing comes later."""
    peak_bytes: int = 0
    """The most memory that its process was seen to hold."""
    finished: str = ""
    """When, in UTC."""
    host: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    skipped: bool = field(default=False, metadata={"json": False})
    """Whether this sweep found it done already."""

    def __bool__(self) -> bool:
        return self.outcome in DONE and self.speed_failure is None

    @property
    def of_sweeps(self) -> frozenset[str]:
        """The files at the destination that are a sweep's to replace."""
        copied = self.companions if self.outputs else ()
        return frozenset((*self.written, *self.outputs, *copied))

    @property
    def is_final(self) -> bool:
        """Whether doing it again with the same bytes and options would change nothing."""
        return self.outcome != "failed" or (
            self.failure is not None and self.failure.kind == FINAL
        )


def from_dict(document: Mapping[str, Any]) -> SweptModel | None:
    """A record as it was written; None for one of another schema, or that is damaged."""
    if document.get("schema") != SCHEMA or any(misfits(document, SweptModel)):
        return None
    known = {f.name for f in dataclasses.fields(SweptModel)}
    values = {key: value for key, value in document.items() if key in known}
    try:
        for name in ("inputs", "companions", "outputs"):
            values[name] = {k: FileState(**v) for k, v in values.get(name, {}).items()}
        for name in ("failure", "speed_failure"):
            values[name] = Failure(**values[name]) if values.get(name) else None
        values["speed"] = _speed(values.get("speed"))
        return SweptModel(**values)
    except TypeError:  # a field of a part that this version does not know
        return None


def _speed(values: Mapping[str, Any] | None) -> FleetSpeed | None:
    if not values:
        return None
    intervals = {key: tuple(values[key]) for key in ("interval", "control_interval")}
    return FleetSpeed(**{**values, **intervals})
