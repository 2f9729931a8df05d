"""What is left of each model's BN after folding, how exact is it, and how much faster?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import onnx
from tqdm import tqdm

import bnfold
from bnfold_models.studies.resuming import Shelf

BATCHES = (1, 128)

ROW = "fold.json"


@dataclass(frozen=True, slots=True)
class Timing:
    """Time of the original over that of the folded model, with its 95 % interval."""

    batch: int
    speedup: float
    low: float
    high: float
    significant: bool
    """Whether it is more than what the original shows against itself."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One model, folded, proven and timed."""

    label: str
    normalizations: tuple[int, int]
    """BatchNormalization nodes before and after."""
    affines: tuple[int, int]
    """Foldable nodes of every kind, decomposed ones included, before and after."""
    original_error: float
    folded_error: float
    timings: tuple[Timing, ...]
    reasons: tuple[str, ...]
    """Why nodes stayed."""


def fold_all(
    models: Mapping[str, Path],
    folder: Path,
    shelf: Shelf,
    *,
    budget_s: float,
    batches: Sequence[int] = BATCHES,
) -> list[Fold]:
    """Fold each model that has something to fold; NAME.folded.onnx is written beside NAME.onnx."""
    rows = []
    with tqdm(models.items(), unit="fold", leave=False, disable=None) as bar:
        for label, path in bar:
            bar.set_description(f"folding {label}")
            target = folder / f"{path.stem}.folded.onnx"
            rows.append(_fold_once(label, path, target, shelf, budget_s, tuple(batches)))
    return [row for row in rows if row.affines[0]]


def _fold_once(
    label: str, path: Path, target: Path, shelf: Shelf, budget_s: float, batches: tuple[int, ...]
) -> Fold:
    """The row of one model, from the shelf where it was folded before."""
    key = {
        "model": sha256(path.read_bytes()).hexdigest(),
        "bnfold": bnfold.__version__,
        "batches": batches,
        "budget": budget_s,
    }
    place = shelf.place("fold", key)
    if not place.exists():
        with shelf.making(place) as folder:
            fold(path, folder, budget_s, batches)
    entry = json.loads((place / ROW).read_text())
    timings = tuple(Timing(**timing) for timing in entry.pop("timings"))
    pairs = {name: tuple(entry.pop(name)) for name in ("normalizations", "affines", "reasons")}
    row = Fold(label=label, timings=timings, **pairs, **entry)
    if row.affines[0]:
        target.write_bytes((place / "folded.onnx").read_bytes())
    return row


def fold(path: Path, folder: Path, budget_s: float, batches: Sequence[int]) -> None:
    """Fold, prove and time; leave the model and its row in the folder."""
    target = folder / "folded.onnx"
    result = bnfold.optimize(path, target, bench=False)
    sites = result.folds.sites
    nodes = result.folds.normalizations
    outputs = result.equivalence.outputs if result.equivalence else ()
    row: dict[str, Any] = {
        "normalizations": _before_and_after(nodes),
        "affines": _before_and_after(_worth_counting(sites)),
        "original_error": max((o.original_error or 0.0 for o in outputs), default=0.0),
        "folded_error": max((o.candidate_error or 0.0 for o in outputs), default=0.0),
        "reasons": [f"{s.code} {s.reason}" for s in nodes if s.verdict != "folded"],
        "timings": [],
    }
    if outputs:
        row["timings"] = [asdict(_time(path, target, batch, budget_s)) for batch in batches]
    (folder / ROW).write_text(json.dumps(row, indent=1))


def _time(path: Path, folded: Path, batch: int, budget_s: float) -> Timing:
    symbol = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_param
    report = bnfold.bench(
        path, folded, dims={symbol: batch}, levels=("all",), threads=1, budget_s=budget_s
    )
    return Timing(batch, report.speedup, *report.interval, report.significant)


def _worth_counting(sites: Sequence[bnfold.FoldSite]) -> list[bnfold.FoldSite]:
    """BN, and what an exporter made of one; a bias that stands alone stays and is no site."""
    return [s for s in sites if s.op_type == "BatchNormalization" or s.verdict == "folded"]


def _before_and_after(sites: Sequence[bnfold.FoldSite]) -> tuple[int, int]:
    return len(sites), sum(site.verdict != "folded" for site in sites)
