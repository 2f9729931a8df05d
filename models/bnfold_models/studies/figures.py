"""How are curves drawn so that they can be read in grey? By line, marker and shade, with units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnfold_models.studies.curves import Finished

SHADES = ("#1b1b6b", "#c0392b", "#1e8449", "#b9770e", "#7d3c98")
"""Dark enough for white paper; each series also has a dash and a marker of its own."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (9, 3)))

MARKERS = ("o", "s", "^", "D", "v")

SETTINGS = {
    "svg.hashsalt": "bnfold",  # otherwise ids are random, and the same figure has other bytes
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}

WIDTH = 8.0
"""Inches."""


def panels(rows: int, columns: int, *, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """A figure with panels, row by row."""
    with rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, rows * height))
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [axis for row in axes for axis in row]


def style(index: int) -> dict[str, Any]:
    """How the series of that number is drawn."""
    return {
        "color": SHADES[index % len(SHADES)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
        "linewidth": 1.5,
    }


def draw_curves(
    axis: Axes, runs: Sequence[Finished], labels: Sequence[str], what: str, title: str
) -> None:
    """`what` ("loss" or "accuracy") of the test images against epochs, a line a run."""
    for index, (run, label) in enumerate(zip(runs, labels, strict=True)):
        epochs = [epoch.number for epoch in run.history]
        values = [
            getattr(epoch.test, what) * (100 if what == "accuracy" else 1) for epoch in run.history
        ]
        every = max(1, len(epochs) // 10)
        axis.plot(epochs, values, label=label, markevery=(index % every, every), **style(index))
    axis.set_title(title, loc="left")
    axis.set_xlabel("epoch")
    axis.set_ylabel("test accuracy (%)" if what == "accuracy" else "test loss (nats)")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if what == "loss" and _spans_much(runs):
        axis.set_yscale("log")
    axis.legend(fontsize=8)


def _spans_much(runs: Sequence[Finished]) -> bool:
    """Whether a linear axis would hide the small ones."""
    losses = [epoch.test.loss for run in runs for epoch in run.history]
    return max(losses) > 5 * min(losses) > 0


def save_figure(figure: Figure, folder: Path) -> None:
    """As SVG and PNG; the same figure gives the same bytes."""
    with rc_context(SETTINGS):
        figure.savefig(folder / "figure.svg", metadata={"Date": None})
        figure.savefig(folder / "figure.png", dpi=150, metadata={"Software": None})
