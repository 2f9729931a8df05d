"""What is drawn of a result? Each function takes a part of the JSON document and makes a picture.

A picture is None where there is nothing to draw. matplotlib writes text into SVG escaped, so a
tensor may have any name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from bnfold.html.canvas import CONTROL, FOLDED, GRID, INK, ORIGINAL, Canvas, Picture, style
from bnfold.html.words import interval, number, where

Json = Mapping[str, Any]
Floats = NDArray[np.float64]

MOST_SITES = 300
"""Sites in one picture; a page of 5,000 still opens at once."""
MOST_OUTPUTS = 16
MOST_TYPES = 24
CURVE = 200
"""Points of a distribution function."""


def every(document: Json) -> list[Picture]:
    """All pictures that the document has data for, in the order of the page."""
    speed = (document.get("speed") or {}).get("measurements", [])
    proof = (document.get("equivalence") or {}).get("outputs", [])
    anatomy = document.get("anatomy") or {}
    with style():
        made = [
            ratios(speed),
            latencies(speed),
            errors(proof),
            scales(anatomy.get("sites", [])),
            weights(anatomy.get("sites", [])),
            operators(anatomy.get("operators_before", {}), anatomy.get("operators_after", {})),
        ]
    return [picture for picture in made if picture is not None]


# -- speed --------------------------------------------------------------------------------------


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
        axes.legend(loc="upper right")
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
    return _picture("Speedup, round by round", canvas, caption, header, rows)


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
        axes.legend(loc="lower right")
    canvas.axes[-1].set_xlabel("milliseconds")
    caption = (
        "The share of rounds that were at most so slow; a curve further left is faster. The "
        "slowest three percent lie outside of the picture."
    )
    header = ("where", "model", "5 % (ms)", "median (ms)", "95 % (ms)")
    return _picture("Latency", canvas, caption, header, rows)


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


# -- proof --------------------------------------------------------------------------------------


def errors(outputs: Sequence[Json]) -> Picture | None:
    """Each output's distance from the float64 evaluation, before and after."""
    known = [
        o for o in outputs if o["original_error"] is not None and o["candidate_error"] is not None
    ]
    if not known:
        return None
    worst = sorted(known, key=_share, reverse=True)
    drawn = worst[:MOST_OUTPUTS]
    canvas = Canvas("errors", 1, 0.9 + 0.34 * len(drawn))
    (axes,) = canvas.axes
    least = _positive(v for o in drawn for v in (o["original_error"], o["candidate_error"]))
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
    axes.xaxis.set_major_formatter(_power)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.6, len(drawn) - 0.4)
    axes.set_yticks(height, [_short(o["tensor"]) + f" ({o['level']})" for o in drawn])
    axes.set_xlabel("relative error against float64")
    canvas.figure.legend(loc="outside upper right", ncols=3)
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
    return _picture("Error against float64", canvas, caption, header, rows)


def _share(output: Json) -> float:
    return float(output["candidate_error"] / output["limit"]) if output["limit"] else 0.0


# -- weights ------------------------------------------------------------------------------------


def scales(sites: Sequence[Json]) -> Picture | None:
    """The range of the factors of each site."""
    known = [(i, s) for i, s in enumerate(sites, 1) if s["scale"]]
    if not known:
        return None
    drawn = known[:MOST_SITES]
    canvas = Canvas("scales")
    (axes,) = canvas.axes
    _ranges(axes, [(i, s["scale"]) for i, s in drawn], FOLDED, 0.0)
    axes.set_ylabel("|scale| of a channel")
    axes.set_xlabel("site, by its number in the table")
    caption = (
        "From the smallest to the largest factor of each site; the dot is the median. Factors "
        f"near zero are channels that training switched off.{_cut(drawn, known)}"
    )
    rows = [(str(i), s["tensor"], *_figures(s["scale"])) for i, s in drawn]
    header = ("site", "tensor", "channels", "smallest", "median", "largest")
    return _picture("Scale factors of each site", canvas, caption, header, rows)


def weights(sites: Sequence[Json]) -> Picture | None:
    """What the folds did to the range of each target's channels."""
    known = [(i, s) for i, s in enumerate(sites, 1) if s["weight_before"] and s["weight_after"]]
    if not known:
        return None
    drawn = known[:MOST_SITES]
    canvas = Canvas("weights")
    (axes,) = canvas.axes
    _ranges(axes, [(i, s["weight_before"]) for i, s in drawn], ORIGINAL, -0.17, "before", "o")
    _ranges(axes, [(i, s["weight_after"]) for i, s in drawn], FOLDED, 0.17, "after", "D")
    axes.set_ylabel("largest |weight| of a channel")
    axes.set_xlabel("site, by its number in the table")
    canvas.figure.legend(loc="outside upper right", ncols=2)
    caption = (
        "For those who quantize next: how far the channels of each target's weight lie apart "
        "before and after. Where the spread grew, one scale for the whole tensor loses more; "
        f"scales for each channel do not.{_cut(drawn, known)}"
    )
    rows = [
        (
            str(i),
            s["tensor"],
            number(s["weight_before"]["largest"]),
            spread(s["weight_before"]),
            number(s["weight_after"]["largest"]),
            spread(s["weight_after"]),
        )
        for i, s in drawn
    ]
    header = ("site", "tensor", "largest before", "spread before", "largest after", "spread after")
    return _picture("Weight range, channel by channel", canvas, caption, header, rows)


def spread(part: Json) -> str:
    """The largest channel over the smallest."""
    return f"{part['largest'] / part['smallest']:.3g}" if part["smallest"] > 0 else "a zero"


def _ranges(
    axes: Axes,
    parts: Sequence[tuple[int, Json]],
    color: str,
    aside: float,
    label: str | None = None,
    marker: str = "o",
) -> None:
    """A bar from the smallest to the largest, thick between the quartiles, a dot at the median."""
    least = _positive(p["largest"] for _, p in parts) * 1e-5
    place = np.array([i for i, _ in parts]) + aside
    low, first, middle, third, high = (
        np.maximum([p[key] for _, p in parts], least)
        for key in ("smallest", "quartile", "median", "third_quartile", "largest")
    )
    thin = float(np.clip(120 / len(parts), 0.5, 2))
    axes.vlines(place, low, high, color=color, linewidth=thin)
    axes.vlines(place, first, third, color=color, linewidth=3 * thin)
    axes.plot(
        place, middle, marker, color=color, markersize=2 + 1.5 * thin, label=label, linestyle=""
    )
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(_power)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(min(i for i, _ in parts) - 0.7, max(i for i, _ in parts) + 0.7)


def _figures(part: Json) -> tuple[str, ...]:
    figures = (number(part[key]) for key in ("smallest", "median", "largest"))
    return (str(part["channels"]), *figures)


# -- operators ----------------------------------------------------------------------------------


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
    height = np.arange(len(drawn))[::-1]
    for counts, color, aside, label in (
        (before, ORIGINAL, 0.19, "before"),
        (after, FOLDED, -0.19, "after"),
    ):
        lengths = [counts.get(t, 0) for t in drawn]
        bars = axes.barh(height + aside, lengths, 0.36, color=color, label=label)
        axes.bar_label(bars, padding=2, fontsize=8, color=INK)
    axes.set_yticks(height, drawn)
    axes.set_ylim(-0.6, len(drawn) - 0.4)
    axes.margins(x=0.12)
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines["left"].set_color(GRID)
    canvas.figure.legend(loc="outside upper right", ncols=2)
    left = f" {len(types) - len(drawn)} more types are in the table." if drawn != types else ""
    caption = f"Operators in the file, those in subgraphs included.{left}"
    rows = [(t, str(before.get(t, 0)), str(after.get(t, 0))) for t in types]
    return _picture("Operators by type", canvas, caption, ("operator", "before", "after"), rows)


# -- helpers ------------------------------------------------------------------------------------


def _picture(
    title: str,
    canvas: Canvas,
    caption: str,
    header: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
) -> Picture:
    description = f"{title}. {caption} The table below holds the figures."
    return Picture(title, canvas.svg(description), caption, header, tuple(rows))


def _cut(drawn: Sequence[Any], known: Sequence[Any]) -> str:
    return f" The first {len(drawn)} of {len(known)}." if len(drawn) < len(known) else ""


def _power(value: float, _: float) -> str:
    """A tick of a logarithmic axis, without the markup that matplotlib would use."""
    return f"{value:g}"


def _positive(values: Iterable[float]) -> float:
    """The least that a logarithmic axis can show."""
    return min((v for v in values if v > 0), default=1e-12)


def _short(name: str) -> str:
    """A name for an axis; the table has it whole."""
    return name if len(name) <= 18 else f"…{name[-17:]}"
