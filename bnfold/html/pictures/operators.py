"""Which operators are there, before and after? Pictures of what the model consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bnfold.html.canvas import FOLDED, GRID, INK, ORIGINAL, Canvas, Picture
from bnfold.html.words import number

Json = Mapping[str, Any]
Floats = NDArray[np.float64]

MOST_TYPES = 24
MOST_WORK = 10
LEAST = 1e-3
"""Share of the largest bar below which a bar cannot be seen."""
SCALES = (("operations", 1e6, "million operations"), ("bytes", 1e6, "megabytes moved"))
NONE = {"nodes": 0, "operations": 0, "bytes": 0, "unknown": 0}
FIGURES = ("nodes", "operations", "bytes")


def operators(before: Mapping[str, int], after: Mapping[str, int]) -> Picture | None:
    """How many operators of each type there are, before and after."""
    types = sorted({*before, *after}, key=lambda t: (-before.get(t, 0), -after.get(t, 0), t))
    if not types:
        return None
    changed = [t for t in types if before.get(t, 0) != after.get(t, 0)]
    drawn = [t for t in types if t in {*changed[:MOST_TYPES], *types[: MOST_TYPES // 2]}]
    drawn = drawn[:MOST_TYPES]
    canvas = Canvas("operators", 1, 0.8 + 0.36 * len(drawn))
    (axes,) = canvas.axes
    counted = [[part.get(t, 0) for t in drawn] for part in (before, after)]
    _pairs(axes, drawn, counted)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    canvas.legend()
    left = f" {len(types) - len(drawn)} more types are in the table." if drawn != types else ""
    caption = f"Operators in the file, those in subgraphs included.{left}"
    rows = [(t, str(before.get(t, 0)), str(after.get(t, 0))) for t in types]
    return canvas.picture("Operators by type", caption, ("operator", "before", "after"), rows)


def work(before: Mapping[str, Json], after: Mapping[str, Json]) -> Picture | None:
    """Operations and bytes of each operator type, before and after, where shapes are known."""
    known = [
        op_type
        for op_type in dict.fromkeys((*before, *after))
        if not any(part.get(op_type, NONE)["unknown"] for part in (before, after))
    ]
    if not known:
        return None
    drawn = [_most(known, key, before, after) for key, *_ in SCALES]
    canvas = Canvas("work", 2, 0.8 + 0.3 * max(map(len, drawn)))
    for axes, names, (key, unit, label) in zip(canvas.axes, drawn, SCALES, strict=True):
        _pairs(axes, names, [[p.get(t, NONE)[key] / unit for t in names] for p in (before, after)])
        axes.set_xlabel(label)
    canvas.legend()
    left = len({*before, *after}) - len(known)
    types = "type" if left == 1 else "types"
    unknown = f" Shapes or costs of {left} more {types} are not known." if left else ""
    caption = (
        "What the nodes in the files would do, each reading its inputs and writing its outputs "
        f"once; a runtime that merges operators moves less.{unknown}"
    )
    rows = [
        (t, *(f"{part.get(t, NONE)[key]:,}" for key in FIGURES for part in (before, after)))
        for t in known
    ]
    sums = (
        f"{sum(part.get(t, NONE)[key] for t in known):,}"
        for key in FIGURES
        for part in (before, after)
    )
    header = ("operator", *(f"{key} {when}" for key in FIGURES for when in ("before", "after")))
    return canvas.picture("Work by operator type", caption, header, [*rows, ("all", *sums)])


def _most(
    known: Sequence[str], key: str, before: Mapping[str, Json], after: Mapping[str, Json]
) -> list[str]:
    """The types with the most of something, those left out of which there is hardly any."""
    amounts = {t: max(part.get(t, NONE)[key] for part in (before, after)) for t in known}
    least = LEAST * max(amounts.values())
    found = sorted((t for t in known if amounts[t] > least), key=lambda t: -amounts[t])
    return found[:MOST_WORK]


def _pairs(axes: Axes, names: Sequence[str], lengths: Sequence[Sequence[float]]) -> None:
    """Two bars for each name: before above after."""
    height = np.arange(len(names))[::-1]
    for values, color, aside, label in zip(
        lengths, (ORIGINAL, FOLDED), (0.19, -0.19), ("before", "after"), strict=True
    ):
        bars = axes.barh(height + aside, values, 0.36, color=color, label=label)
        axes.bar_label(bars, [number(v) for v in values], padding=2, fontsize=8, color=INK)
    axes.set_yticks(height, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.margins(x=0.14)
    axes.grid(False, axis="y")
    axes.spines["left"].set_color(GRID)
