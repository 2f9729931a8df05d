"""How fast is it, and how sure is that? Pictures of the timings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bnfold.html.axis import short
from bnfold.html.canvas import CONTROL, FOLDED, INK, ORIGINAL, Canvas, Picture
from bnfold.html.words import interval, number, where

Json = Mapping[str, Any]
Floats = NDArray[np.float64]

CURVE = 200
"""Points of a distribution function."""


def ratios(measurements: Sequence[Json]) -> Picture | None:
    """How the paired ratios scatter, and how those of the control do."""
    timed = [m for m in measurements if m.get("times_ms")]
    if not timed:
        return None
    canvas = Canvas("ratios", len(timed))
    for axes, m in zip(canvas.axes, timed, strict=True):
        original, again, candidate = _times(m)
        pairs = {"original / folded": original / candidate, "control": original / again}
        edges = _edges(np.concatenate(list(pairs.values())))
        for (label, values), color in zip(pairs.items(), (FOLDED, CONTROL), strict=True):
            _histogram(axes, values, edges, color, label)
        axes.axvline(1.0, color=INK, linewidth=0.8)
        axes.axvline(m["speedup"], color=FOLDED, linewidth=1.2, linestyle="--")
        axes.set_title(where(m))
        axes.set_yticks([])
    canvas.legend()
    canvas.axes[-1].set_xlabel("ratio of a round; above 1 is faster")
    caption = (
        "Each round times the original, the original again and the folded model in random order. "
        "What the control (the original against itself) shows is the noise of the machine; a "
        "speedup is claimed only beyond it. Dashed: the median. What lies outside of the picture "
        "is counted at its edge."
    )
    rows = [
        (
            where(m),
            interval(m["speedup"], m["interval"]),
            interval(m["control"], m["control_interval"]),
            str(m["rounds"]),
        )
        for m in timed
    ]
    header = ("where", "speedup [95 %]", "control [95 %]", "rounds")
    return canvas.picture("Speedup, round by round", caption, header, rows)


def latencies(measurements: Sequence[Json]) -> Picture | None:
    """The share of rounds that took at most so long."""
    timed = [m for m in measurements if m.get("times_ms")]
    if not timed:
        return None
    canvas = Canvas("latencies", len(timed))
    rows: list[tuple[str, ...]] = []
    names = ("original", "original again", "folded")
    styles = ((ORIGINAL, "-"), (CONTROL, ":"), (FOLDED, "--"))
    for axes, m in zip(canvas.axes, timed, strict=True):
        streams = _times(m)
        for name, times, (color, dashes) in zip(names, streams, styles, strict=True):
            share = np.linspace(0, 1, min(CURVE, max(2, len(times))))
            axes.plot(np.quantile(times, share), share, dashes, color=color, label=name)
            quantiles = np.quantile(times, (0.05, 0.5, 0.95))
            rows.append((where(m), name, *(number(float(q)) for q in quantiles)))
        everything = np.concatenate(streams)
        low, high = float(everything.min()), float(np.quantile(everything, 0.97))
        margin = 0.05 * max(high - low, 1e-3 * high)
        axes.set_xlim(low - margin, high + margin)
        axes.set_ylim(0, 1.02)
        axes.set_title(where(m))
    canvas.legend()
    canvas.axes[-1].set_xlabel("milliseconds")
    caption = (
        "The share of rounds that were at most so slow; a curve further left is faster. The "
        "slowest three percent lie outside of the picture."
    )
    header = ("where", "model", "5 % (ms)", "median (ms)", "95 % (ms)")
    return canvas.picture("Latency", caption, header, rows)


def _times(m: Json) -> tuple[Floats, Floats, Floats]:
    original, again, candidate = (
        np.asarray(m["times_ms"][name], np.float64) for name in ("original", "again", "candidate")
    )
    return original, again, candidate


def _edges(values: Floats) -> Floats:
    low, middle, high = np.quantile(values, (0.01, 0.5, 0.99))
    low, high = max(min(low, 0.98), 0.5 * middle), min(max(high, 1.02), 2 * max(middle, 1.0))
    bins = int(np.clip(np.sqrt(len(values)), 12, 40))
    return np.linspace(low, high, bins + 1)


def _histogram(axes: Axes, values: Floats, edges: Floats, color: str, label: str) -> None:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    axes.stairs(counts, edges, fill=True, color=color, alpha=0.25)
    axes.stairs(counts, edges, color=color, label=label)


# -- what gained it -----------------------------------------------------------------------------


def worths(measurements: Sequence[Json]) -> Picture | None:
    """What each part of the fold is worth, with its interval, beside the whole."""
    m = measurements[0] if measurements else {}
    parts = sorted(m.get("variants") or [], key=lambda v: -float(v["worth"]))
    if not parts:
        return None
    canvas = Canvas("worths", 1, 0.9 + 0.4 * (len(parts) + 1))
    (axes,) = canvas.axes
    drawn = [("the whole fold", m["speedup"], m["interval"], FOLDED)]
    drawn += [(v["name"], v["worth"], v["worth_interval"], ORIGINAL) for v in parts]
    control = m["control_interval"]
    axes.axvspan(*control, color=CONTROL, alpha=0.25, linewidth=0, label="noise (control)")
    axes.axvline(1.0, color=INK, linewidth=0.8)
    for place, (_, middle, (low, high), color) in enumerate(reversed(drawn)):
        axes.hlines(place, low, high, color=color, linewidth=3)
        axes.plot([middle], [place], "D", color=color, markersize=6)
    axes.set_yticks(range(len(drawn)), [short(name) for name, *_ in reversed(drawn)])
    axes.set_ylim(-0.6, len(drawn) - 0.4)
    axes.set_xlabel("how many times faster with it; above 1 is faster")
    canvas.legend()
    caption = (
        "Each part was switched off in turn and that model timed in the same rounds: so many "
        "times faster is the folded model with the part than without it. In all of them ONNX "
        "Runtime folds what it can by itself. Parts lean on each other, so that their worths need "
        "not multiply to the whole."
    )
    rows = [("the whole fold", interval(m["speedup"], m["interval"]), "", "")]
    rows += [
        (
            v["name"],
            interval(v["worth"], v["worth_interval"]),
            "yes" if v["significant"] else "no",
            interval(v["speedup"], v["interval"]),
        )
        for v in parts
    ]
    header = ("part", "worth [95 %]", "beyond noise", "speedup left without it [95 %]")
    return canvas.picture("What each part is worth", caption, header, rows)
