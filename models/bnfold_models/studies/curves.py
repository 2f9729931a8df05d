"""What did each training do, epoch by epoch? Kept as JSON for us and as CSV for readers."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold_models.recipes import Recipe
from bnfold_models.train import Epoch, Score

COLUMNS = ("run", "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True, slots=True)
class Finished:
    """One training that is over: its curve, its model, and what was watched meanwhile."""

    label: str
    recipe: Recipe
    history: tuple[Epoch, ...]
    model: Path
    watched: Mapping[str, NDArray[Any]]
    """Arrays that a probe gathered; empty where none was set."""

    @property
    def last(self) -> Score:
        """On the test images, after the last epoch."""
        return self.history[-1].test


def write_history(history: Sequence[Epoch], path: Path) -> None:
    """As JSON, to the last digit."""
    path.write_text(json.dumps([asdict(epoch) for epoch in history], indent=1))


def read_history(path: Path) -> tuple[Epoch, ...]:
    """What `write_history` wrote."""
    return tuple(
        Epoch(entry["number"], Score(**entry["train"]), Score(**entry["test"]))
        for entry in json.loads(path.read_text())
    )


def write_csv(runs: Sequence[Finished], path: Path) -> None:
    """A row for each epoch of each run; the same runs give the same bytes."""
    rows = [
        (run.label, e.number, e.train.loss, e.train.accuracy, e.test.loss, e.test.accuracy)
        for run in runs
        for e in run.history
    ]
    write_rows(path, COLUMNS, rows)


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A CSV file; numbers with six digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else value
