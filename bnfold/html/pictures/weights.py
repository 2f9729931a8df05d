"""What did the folds do to the weights? Pictures for those who quantize next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from bnfold.html.axis import cut, positive, power
from bnfold.html.canvas import FOLDED, INK, ORIGINAL, Canvas, Picture
from bnfold.html.words import number

Json = Mapping[str, Any]
Floats = NDArray[np.float64]

MOST_SITES = 300
"""Sites in one picture; a page of 5,000 still opens at once."""


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
        f"near zero are channels that training switched off.{cut(drawn, known)}"
    )
    rows = [(str(i), s["tensor"], *_figures(s["scale"])) for i, s in drawn]
    header = ("site", "tensor", "channels", "smallest", "median", "largest")
    return canvas.picture("Scale factors of each site", caption, header, rows)


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
    canvas.legend()
    caption = (
        "For those who quantize next: how far the channels of each target's weight lie apart "
        "before and after. Where the spread grew, one scale for the whole tensor loses more; "
        f"scales for each channel do not.{cut(drawn, known)}"
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
    return canvas.picture("Weight range, channel by channel", caption, header, rows)


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
    least = positive(p["largest"] for _, p in parts) * 1e-5
    place = np.array([i for i, _ in parts]) + aside
    low, first, middle, third, high = (
        np.maximum([p[key] for _, p in parts], least)
        for key in ("smallest", "quartile", "median", "third_quartile", "largest")
    )
    thin = float(np.clip(120 / len(parts), 0.5, 2))
    axes.vlines(place, low, high, color=color, linewidth=thin)
    axes.vlines(place, first, third, color=color, linewidth=3 * thin)
    # with an edge, for it is lost in a thick bar of its own colour
    edge: dict[str, Any] = {"markeredgecolor": INK, "markeredgewidth": 0.6}
    size = 2 + 1.5 * thin
    axes.plot(place, middle, marker, color=color, markersize=size, label=label, **edge, ls="")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(power)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(min(i for i, _ in parts) - 0.7, max(i for i, _ in parts) + 0.7)


def _figures(part: Json) -> tuple[str, ...]:
    figures = (number(part[key]) for key in ("smallest", "median", "largest"))
    return (str(part["channels"]), *figures)
