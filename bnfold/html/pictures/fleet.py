"""What is drawn of a fleet? Why sites were kept, what was gained, and how near errors came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from bnfold.html.axis import power
from bnfold.html.canvas import FOLDED, GRID, INK, ORIGINAL, Canvas, Picture, style
from bnfold.html.words import interval, number, ratio
from bnfold.reasons import Reason

Json = Mapping[str, Any]

MOST_REASONS = 16
MOST_ROWS = 100
BINS = 30
KNOWN = {reason.code: reason for reason in Reason}


def every(document: Json) -> list[Picture]:
    """All pictures that the document has data for, in the order of the page."""
    records = document["swept"]
    with style():
        made = [kept(document["kept"], records), gains(records), errors(records)]
    return [picture for picture in made if picture is not None]


def kept(counts: Mapping[str, int], records: Sequence[Json]) -> Picture | None:
    """For which reasons sites were kept over all models."""
    if not counts:
        return None
    drawn = dict(list(counts.items())[:MOST_REASONS])
    canvas = Canvas("kept", 1, 0.7 + 0.3 * len(drawn))
    (axes,) = canvas.axes
    height = np.arange(len(drawn))[::-1]
    bars = axes.barh(height, list(drawn.values()), 0.7, color=ORIGINAL)
    axes.bar_label(bars, [number(v) for v in drawn.values()], padding=2, fontsize=8, color=INK)
    axes.set_yticks(height, [_named(code) for code in drawn])
    axes.set_ylim(-0.6, len(drawn) - 0.4)
    axes.margins(x=0.14)
    axes.grid(False, axis="y")
    axes.spines["left"].set_color(GRID)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_xlabel("sites")
    models = Counter(code for record in records for code in record["kept"])
    rows = [
        (
            _named(code),
            f"{count:,}",
            f"{models[code]:,}",
            KNOWN[code].help if code in KNOWN else "",
        )
        for code, count in counts.items()
    ]
    left = f" The {len(drawn)} most frequent of {len(counts)}." if len(drawn) < len(counts) else ""
    caption = f"Sites that were not folded, or whose fold was taken back, over all models.{left}"
    header = ("reason", "sites", "models", "meaning")
    return canvas.picture("Why sites were kept", caption, header, rows)


def _named(code: str) -> str:
    return f"{code} {KNOWN[code].slug}" if code in KNOWN else code


def _meaning(code: str) -> str:
    return KNOWN[code].help if code in KNOWN else ""


def gains(records: Sequence[Json]) -> Picture | None:
    """How the speedups are spread, where timing could tell one."""
    timed = [r for r in records if r["speed"] and r["speed"]["stable"]]
    if not timed:
        return None
    timed.sort(key=lambda r: -r["speed"]["speedup"])
    canvas = Canvas("gains")
    (axes,) = canvas.axes
    axes.hist([r["speed"]["speedup"] for r in timed], _bins(len(timed)), color=FOLDED)
    axes.axvline(1.0, color=INK, linewidth=1.0, linestyle=":")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_xlabel("speedup, time before / time after")
    axes.set_ylabel("models")
    rows = [
        (
            r["model"],
            interval(r["speed"]["speedup"], r["speed"]["interval"]),
            ratio(r["speed"]["control"]),
            "yes" if r["speed"]["significant"] else "no",
        )
        for r in timed[:MOST_ROWS]
    ]
    caption = f"Models of which timing could tell something.{_first(rows, timed)}"
    header = ("model", "speedup", "original against itself", "more than noise")
    return canvas.picture("Gains", caption, header, rows)


def errors(records: Sequence[Json]) -> Picture | None:
    """How the errors are spread, before and after, of models that float64 judged."""
    keys = ("original_error", "candidate_error")
    measured = [r for r in records if r["judge"] == "float64"]
    judged = [r for r in measured if all(r[key] is not None for key in keys)]
    known = [r for r in judged if r["candidate_error"] > 0 or r["original_error"] > 0]
    if not known:
        return None
    values = [[r[key] for r in known if r[key] > 0] for key in keys]
    together = np.log10([*values[0], *values[1]])
    ends = together.min() - 0.05, together.max() + 0.05
    edges = np.logspace(*ends, _bins(len(known)) + 1).tolist()
    canvas = Canvas("errors")
    (axes,) = canvas.axes
    axes.hist(values, edges, color=[ORIGINAL, FOLDED], label=["original", "folded"])
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_major_formatter(power)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_xlabel("relative error against float64")
    axes.set_ylabel("models")
    canvas.legend()
    exact = len(judged) - len(known)
    left = f" {exact:,} without any error are not drawn." if exact else ""
    known.sort(key=lambda r: -r["candidate_error"])
    rows = [(r["model"], *(f"{r[key]:.1e}" for key in keys)) for r in known[:MOST_ROWS]]
    caption = f"Each model's output that came nearest to its limit.{left}{_first(rows, known)}"
    header = ("model", "original", "folded")
    return canvas.picture("Errors against float64", caption, header, rows)


def _bins(count: int) -> int:
    """Few for few models."""
    return min(BINS, 4 + count // 4)


def _first(rows: Sequence[Any], known: Sequence[Any]) -> str:
    """That the table holds not all, where that is so."""
    return f" The table holds {len(rows)} of {len(known):,}." if len(rows) < len(known) else ""
