"""What was done and proven? Frozen results that turn into JSON by themselves."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from bnfold.anatomy import Anatomy
    from bnfold.stored import StoredModel
    from bnfold.timings import SpeedReport

SCHEMA = 1
"""Version of the JSON. 1: first. Adding keys keeps it; changing what a key means raises it."""

Verdict = Literal["folded", "kept", "rolled_back"]
Direction = Literal["backward", "forward", "mixed"]


def plain(value: Any) -> Any:
    """Turn a report, or any part of one, into what `json` can write. Models are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if f.metadata.get("json", True)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def finite(value: Any) -> Any:
    """The value with what JSON cannot say, infinities and NaN, as None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class Report:
    """Anything with `to_dict()`."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """This report as plain dicts, lists, strings and numbers, with `"schema": 1`."""
        return {"schema": SCHEMA, **plain(self)}


@dataclass(frozen=True, slots=True)
class Target:
    """An operator that took an affine in: its output tensor and its type."""

    tensor: str
    op_type: str


@dataclass(frozen=True, slots=True)
class FoldSite:
    """One affine source and what became of it.

    `tensor` is the source's output name; it names the site. `direction`, `target` and `path`
    (the operator types crossed on the way) are set when it was folded, `code`, `reason` (slug)
    and `detail` (a sentence about this graph) when it was not.
    """

    tensor: str
    op_type: str
    verdict: Verdict
    direction: Direction | None = None
    target: str | None = None
    targets: tuple[Target, ...] = ()
    path: tuple[str, ...] = ()
    code: str | None = None
    reason: str | None = None
    detail: str | None = None
    scale_range: tuple[float, float] | None = None
    """Smallest and largest factor of the affine that was folded."""
    shift_range: tuple[float, float] | None = None
    bound: float | None = None
    """What the rounding of the folded weights can change, relative to the output's magnitude and
    known before anything is run; None where the model does not tell magnitudes."""
    flagged: bool = False
    """Whether the affine is so ill-conditioned that samples which agree say little of others."""


@dataclass(frozen=True, slots=True)
class MergedBlock:
    """Parallel branches that became one operator; `tensor` is the sum they made.

    `branches` says each branch in a few words ("Conv 3x3", "identity"), `kernel` the shape of
    the merged weight; operations are floating-point multiply-adds per sample where known.
    """

    tensor: str
    op_type: str
    branches: tuple[str, ...]
    kernel: tuple[int, ...]
    nodes_before: int
    nodes_after: int
    operations_before: int | None = None
    operations_after: int | None = None
    bound: float | None = None
    """What rounding the merged weights once can change, relative to the branches' magnitudes and
    known before anything is run; None where the model does not tell magnitudes."""
    flagged: bool = False
    """Whether a branch is so ill-conditioned that samples which agree say little of others."""


@dataclass(frozen=True, slots=True)
class FoldReport(Report):
    """What a fold did, or would do."""

    sites: tuple[FoldSite, ...]
    merged: tuple[MergedBlock, ...] = ()
    nodes_before: int = 0
    nodes_after: int = 0
    opset: int = 0
    frozen_inputs: tuple[str, ...] = ()
    """Initializers that were graph inputs too, and now are constants only."""
    flushed: int = 0
    """Elements of folded weights that were subnormal and became zero."""
    removed_movement: int = 0
    """Transposes, Reshapes and the like that stood only around a folded node."""
    notes: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    """What it takes to fold the same again: the arguments of `fold`, and as `taken_back` what a
    proof has taken back."""

    @property
    def normalizations(self) -> tuple[FoldSite, ...]:
        """The sites that are BatchNormalization nodes."""
        return tuple(s for s in self.sites if s.op_type == "BatchNormalization")

    @property
    def folded(self) -> tuple[FoldSite, ...]:
        """The sites that were folded."""
        return tuple(s for s in self.sites if s.verdict == "folded")

    @property
    def kept(self) -> tuple[FoldSite, ...]:
        """The sites that were not folded, or whose fold was taken back."""
        return tuple(s for s in self.sites if s.verdict != "folded")


@dataclass(frozen=True, slots=True)
class FoldResult(FoldReport):
    """A folded model and the report on it."""

    stored: StoredModel = field(kw_only=True, repr=False, metadata={"json": False})

    @property
    def model(self) -> onnx.ModelProto:
        """The whole model. Of one that was read from a path, large weights are read, and those
        that were folded computed, when it is first asked for; `save` and the reports need it not.

        Raises ModelError where a file that it was read from is gone or has changed.
        """
        return self.stored.whole()

    def save(self, path: str | Path, *, external: bool | None = None) -> None:
        """Write the model, whole or not at all; weights go from file to file, as they stand there.

        With `external` they go into a data file beside the model, without into the model's file;
        None keeps the way of the model that was folded. Raises OutputError, and ModelError where
        a file that it was read from is gone or has changed.
        """
        from bnfold.modelio import save_model

        save_model(self.stored, path, external=external)


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """One graph output on one provider, level and all samples.

    Errors are relative to the float64 yardstick (`|m - ref| / |ref|`, the worse of norm and of
    the worst element against the output's largest magnitude); `limit` is what the candidate was
    allowed. `index`, `expected` and `actual` are of the worst element of candidate against
    original. `mismatched` counts elements of integer and boolean outputs that differ; their errors
    are the shares that differ, or the `margin` where it is known what decided them.
    """

    tensor: str
    provider: str
    level: str
    dtype: str
    passed: bool
    original_error: float | None
    candidate_error: float | None
    limit: float | None
    max_abs: float
    max_rel: float
    index: tuple[int, ...] = ()
    expected: float | int | bool | None = None
    actual: float | int | bool | None = None
    elements: int = 0
    mismatched: int = 0
    sample: str = ""
    """Which sample was worst, in words: "normal, batch 3"."""
    exact_error: float | None = None
    """The candidate's error on that sample when it, too, is evaluated in float64: how far apart
    the two functions are, with no rounding of the runtime's in it. A fold leaves there what
    rounding its weights once has changed. None where that was not evaluated."""
    margin: float | None = None
    """Of whole numbers and booleans that differ: how far from a tie the deciding values were at
    most, as a share of their scale. None where nothing differs, or what decided is not known."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class EquivalenceReport(Report):
    """The proof: truthy when every output passed on every provider."""

    outputs: tuple[OutputComparison, ...]
    seed: int
    samples: tuple[str, ...]
    """Each sample that was run, in words."""
    judge: Literal["float64", "noise", "tolerance"]
    """What errors were measured against: a float64 evaluation of the original, the noise between
    the runtime's own levels, or the plain element-wise rule of `atol` and `rtol`."""
    providers: tuple[str, ...]
    culprit: str | None = None
    """On failure: the first tensor of both models whose value departs."""
    atol: float | None = None
    rtol: float | None = None
    notes: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    digests: tuple[str, ...] = ()
    """The SHA-256 of each sample's inputs: names, types, shapes and bytes."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What else it takes to prove the same again: sizes, data, providers, time."""

    @property
    def passed(self) -> bool:
        """Whether the candidate is equivalent."""
        return all(output.passed for output in self.outputs)

    def __bool__(self) -> bool:
        return self.passed

    def to_dict(self) -> dict[str, Any]:
        """As `Report.to_dict`, with the verdict."""
        return {"schema": SCHEMA, "equivalent": self.passed, **plain(self)}


@dataclass(frozen=True, slots=True)
class OptimizeResult(Report):
    """A folded model with its folds, its proof and its speed (None where not asked for)."""

    folds: FoldReport
    equivalence: EquivalenceReport | None
    speed: SpeedReport | None
    output: str | None = None
    """The file that was written."""
    data: str | None = None
    """The file beside it that holds its weights, where there is one."""
    original_bytes: int = 0
    bytes: int = 0
    anatomy: Anatomy | None = None
    """What each site was and became, for those who draw it."""
    stored: StoredModel = field(kw_only=True, repr=False, metadata={"json": False})

    @property
    def model(self) -> onnx.ModelProto:
        """The whole model, its weights read when it is first asked for. Raises ModelError where a
        file that holds them is gone or has changed."""
        return self.stored.whole()
