"""How far from float64 are the two models? A picture of the proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from bnfold.html.axis import positive, power, short
from bnfold.html.canvas import FOLDED, INK, ORIGINAL, Canvas, Picture
from bnfold.html.words import badness

Json = Mapping[str, Any]
Floats = NDArray[np.float64]

MOST_SITES = 300
"""Rows of its table."""
MOST_OUTPUTS = 16


def errors(outputs: Sequence[Json]) -> Picture | None:
    """Each output's distance from the float64 evaluation, before and after."""
    known = [
        o for o in outputs if o["original_error"] is not None and o["candidate_error"] is not None
    ]
    if not known:
        return None
    worst = sorted(known, key=badness, reverse=True)
    drawn = worst[:MOST_OUTPUTS]
    canvas = Canvas("errors", 1, 0.9 + 0.34 * len(drawn))
    (axes,) = canvas.axes
    least = positive(v for o in drawn for v in (o["original_error"], o["candidate_error"]))
    height = np.arange(len(drawn))[::-1]
    for key, color, marker, label in (
        ("original_error", ORIGINAL, "o", "original"),
        ("candidate_error", FOLDED, "D", "folded"),
        ("limit", INK, "|", "allowed"),
    ):
        values = [max(o[key] or least / 3, least / 3) for o in drawn]
        axes.plot(values, height, marker, color=color, label=label, markersize=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.xaxis.set_major_formatter(power)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.6, len(drawn) - 0.4)
    axes.set_yticks(height, [short(o["tensor"]) + f" ({o['level']})" for o in drawn])
    axes.set_xlabel("relative error against float64")
    canvas.legend()
    left = f" The {len(drawn)} of {len(known)} nearest to their limit." if drawn != worst else ""
    caption = f"Both models against one float64 evaluation of the original.{left}"
    rows = [
        (
            o["tensor"],
            f"{o['provider']}, {o['level']}",
            f"{o['original_error']:.1e}",
            f"{o['candidate_error']:.1e}",
            "" if o["limit"] is None else f"{o['limit']:.1e}",
        )
        for o in worst[:MOST_SITES]
    ]
    header = ("output", "where", "original", "folded", "allowed")
    return canvas.picture("Error against float64", caption, header, rows)
