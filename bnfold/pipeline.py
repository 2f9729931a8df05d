"""How does a model become a smaller one that is proven? Fold, prove, take back, measure, write.

A fold that fails the proof is not argued with: the model is folded again from the original
without it. What comes out passed, or nothing does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import onnx

from bnfold import arguments, equivalence, speed
from bnfold.anatomy import dissect
from bnfold.attribution import Recipe, variants
from bnfold.errors import (
    MemoryUnavailable,
    ProviderUnavailable,
    RuntimeCrashed,
    RuntimeUnavailable,
)
from bnfold.evidence import JUDGE_SECONDS
from bnfold.feeds import SAMPLES, Data
from bnfold.isolation import PATIENCE_S
from bnfold.layout import OUTGROWN
from bnfold.modelio import open_model
from bnfold.publishing import Draft, drafted
from bnfold.report import (
    EquivalenceReport,
    FoldReport,
    FoldResult,
    OptimizeResult,
)
from bnfold.runtime import Provider
from bnfold.sizes import Dims
from bnfold.takeback import fold_until_proven
from bnfold.timings import SpeedReport

Model = onnx.ModelProto | str | Path
Progress = Callable[[str, int, int], None]

Folds = TypeVar("Folds", bound=FoldReport)

UNCHANGED = "nothing was changed, so there was nothing to prove or to time"


def optimize(
    model: Model,
    output: str | Path | None = None,
    *,
    keep: Iterable[str] = (),
    reparameterize: bool = True,
    keep_overridable: bool = False,
    verify: bool = True,
    bench: bool = True,
    attribute: bool = False,
    data: Data | None = None,
    dims: Dims | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    providers: Sequence[Provider] | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    force: bool = False,
    external: bool | None = None,
    budget_s: float = speed.GLANCE_S,
    judge_seconds: float = JUDGE_SECONDS,
    threads: int | None = None,
    pin: Sequence[int] = (),
    progress: Progress | None = None,
    isolate: bool = True,
    timeout_s: float | None = PATIENCE_S,
) -> OptimizeResult:
    """Fold a model, prove the result, measure it, and write it to `output` where that is given.

    `keep` names tensors whose nodes stay. A fold that fails the proof is taken back and reported
    as `rolled_back`. Where nothing could be folded nothing is proven or timed, and a note says so.
    With `attribute` it is also timed what each part of the fold is worth, by switching it off,
    what the runtime's own folds are worth, and what a session costs in a process of its own.
    What is proven and timed is the file that will be `output`, in a folder beside it. `external`
    says whether its large weights go into a data file beside the model; None keeps the way of the
    input. `progress` is called as (stage, done, total).

    Sessions run in child processes: a fold with which the runtime crashes, or is silent for
    `timeout_s`, fails the proof, and a crash while timing is a note; `isolate=False` runs them in
    this process. Raises NotEquivalent when even the model with nothing folded fails, OutputError
    when `output` exists and `force` is not given, and whatever `fold`, `verify` and `bench` raise;
    then no file is written.
    """
    run_on: dict[str, Any] = {
        "data": _kept(data),
        "dims": dims,
        "providers": arguments.providers(providers),
        "seed": seed,
        "isolate": isolate,
        "timeout_s": timeout_s,
    }
    pin = arguments.numbers(pin, "pin")
    original = open_model(model)
    recipe = Recipe(original, arguments.names(keep, "keep"), reparameterize, keep_overridable)
    proof: EquivalenceReport | None = None
    measured: SpeedReport | None = None
    with drafted(output, force=force) as draft:  # before the long work, not after it
        work = _Work(model, recipe, draft, external, run_on, progress)
        folds = work.fold()
        changed = is_changed(folds)
        if output is not None or (changed and bench and not verify):
            work.write(folds)
        if not changed:
            folds = _noted(folds, UNCHANGED)
        elif verify:
            prove = partial(
                work.prove, samples=samples, atol=atol, rtol=rtol, judge_seconds=judge_seconds
            )
            with _offering_no_proof():
                folds, proof = fold_until_proven(folds, work.fold, prove)
        if bench and changed:
            try:
                folds, measured = work.measure(
                    folds, attribute, threads=threads, pin=pin, budget_s=budget_s
                )
            except RuntimeUnavailable as error:
                if verify and not isinstance(error, (MemoryUnavailable, RuntimeCrashed)):
                    raise  # otherwise what was proven is worth writing, timed or not
                folds = _noted(folds, f"not timed: {error}")
        if draft.outgrown:
            folds = _noted(folds, OUTGROWN)
        made = open_model(draft.path) if draft.is_written else folds.stored
        result = OptimizeResult(
            folds=_without_model(folds),
            equivalence=proof,
            speed=measured,
            output=None if output is None else str(output),
            data=None if output is None or draft.data is None else str(beside(output, draft.data)),
            original_bytes=original.byte_size,
            bytes=folds.stored.byte_size,
            anatomy=dissect(original, made, folds),
            stored=folds.stored,
        )
        if output is not None:
            draft.publish()
            kept = _noted(result.folds, *map(_stays, draft.orphans))
            result = dataclasses.replace(result, folds=kept, stored=open_model(output))
    return result


@dataclass
class _Work:
    """A model under way to its draft: each step of `optimize`, which says in which order."""

    model: Model
    asked: Recipe
    draft: Draft
    external: bool | None
    run_on: dict[str, Any]
    """How `verify` and `bench` run models."""
    progress: Progress | None
    recipe: Recipe = field(init=False)
    """What was asked, without what was taken back since."""

    def fold(self, without: Iterable[str] = ()) -> FoldResult:
        """Fold the original again, the named tensors left alone."""
        self._say("fold")
        self.recipe = dataclasses.replace(self.asked, keep=(*self.asked.keep, *without))
        return self.recipe.fold()

    def write(self, folds: FoldResult) -> Path:
        """Write the draft; what is proven and timed is this file."""
        self._say("write")
        return self.draft.write(folds.stored, external=self.external)

    def prove(self, folds: FoldResult, **how: Any) -> EquivalenceReport:
        """Write the draft and hold it against the original."""
        return equivalence.verify(
            self.model, self.write(folds), progress=self.progress, **how, **self.run_on
        )

    def measure(
        self, folds: FoldResult, attribute: bool, **how: Any
    ) -> tuple[FoldResult, SpeedReport]:
        """Time the draft against the original, and its parts with `attribute`."""
        parts: dict[str, Any] = {}
        if attribute:
            self._say("fold")
            parts, note = variants(self.recipe, folds)
            folds = _noted(folds, note)
        report = speed.bench(
            self.model,
            self.draft.path,
            variants=parts,
            attribution=attribute,
            footprints=attribute,
            precision=speed.GLANCE,
            progress=self.progress,
            **how,
            **self.run_on,
        )
        return folds, report

    def _say(self, stage: str) -> None:
        if self.progress is not None:
            self.progress(stage, 0, 1)


def _noted(folds: Folds, *notes: str | None) -> Folds:
    added = [note for note in notes if note]
    return dataclasses.replace(folds, notes=(*folds.notes, *added)) if added else folds


def _stays(data: Path) -> str:
    return f"{data.name} is no longer needed; it stays, as bnfold did not write it"


def beside(output: str | Path, data: Path) -> Path:
    """A data file as a user names it who named the model so."""
    return Path(output).with_name(data.name)


def is_changed(folds: FoldReport) -> bool:
    """Whether a fold changed the model at all."""
    return bool(folds.folded or folds.merged or folds.frozen_inputs or folds.removed_movement)


@contextmanager
def _offering_no_proof() -> Iterator[None]:
    """A model that no runtime here can run can still be folded, unproven."""
    try:
        yield
    except ProviderUnavailable:
        raise
    except RuntimeUnavailable as error:
        hint = f"{error.hint}; --no-verify (verify=False) folds without a proof"
        raise RuntimeUnavailable(str(error), hint) from error


def _kept(data: Data | None) -> Data | None:
    """An iterator would be empty the second time; a list is not."""
    if data is None or isinstance(data, (str, Path, dict)) or hasattr(data, "dtype"):
        return data
    return list(data)


def _without_model(folds: FoldResult) -> FoldReport:
    names = (f.name for f in dataclasses.fields(FoldReport))
    return FoldReport(**{name: getattr(folds, name) for name in names})
