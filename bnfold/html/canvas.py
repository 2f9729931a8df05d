"""How does a drawing become SVG that lives in a page? Text stays text, colours follow the theme.

matplotlib knows no CSS variables, so it draws in stand-in colours, and each becomes a variable of
the page in the SVG: the same picture serves the light and the dark theme, and paper.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID = "#010101", "#020202", "#030303"
ORIGINAL, FOLDED, CONTROL = "#040404", "#050505", "#060606"
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    ORIGINAL: "--original",
    FOLDED: "--folded",
    CONTROL: "--control",
}
WIDTH = 5.0
"""Inches; small enough that text stays readable when the picture fills a phone's width."""
STYLE: Any = {  # the type that matplotlib gives its settings differs between versions
    "svg.fonttype": "none",
    "svg.hashsalt": "bnfold",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10.0,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.unicode_minus": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9.0,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing with its words: what it shows, and the same as a table."""

    title: str
    svg: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def style() -> AbstractContextManager[None]:
    """What holds while pictures are drawn."""
    return mpl.rc_context(STYLE)


class Canvas:
    """Axes one below the other, and the SVG of them."""

    def __init__(self, name: str, rows: int = 1, height: float = 2.3) -> None:
        self.name = name
        self.figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
        grid = self.figure.subplots(rows, 1, squeeze=False)
        self.axes: list[Axes] = [row[0] for row in grid]

    def legend(self) -> None:
        """One for all axes, above them, where it hides nothing."""
        handles, labels = self.axes[0].get_legend_handles_labels()
        self.figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))

    def svg(self, description: str) -> str:
        """The drawing as an element that screen readers announce by its description."""
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        self.figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
        text = buffer.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
        return _opened(_themed(_own_ids(text, self.name)), description)

    def picture(
        self,
        title: str,
        caption: str,
        header: tuple[str, ...],
        rows: Sequence[tuple[str, ...]],
    ) -> Picture:
        """The drawing with its words and the figures behind it."""
        description = f"{title}. {caption} The table below holds the figures."
        return Picture(title, self.svg(description), caption, header, tuple(rows))


def _own_ids(text: str, name: str) -> str:
    """Ids that nothing refers to go; the others get the picture's name, for a page has many."""
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))

    def owned(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r'\s+id="([^"]+)"', owned, text)
    return re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", text)


def _themed(text: str) -> str:
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    return re.sub(r"\n\s*", "\n", text)


def _opened(text: str, description: str) -> str:
    """The outer tag: scalable, and with a description instead of sizes."""
    box = re.search(r'viewBox="[^"]+"', text)
    body = text[text.index(">") + 1 :]
    view = box[0] if box else ""
    return f'<svg {view} role="img" aria-label="{_escaped(description)}">{body}'


def _escaped(text: str) -> str:
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(plain, entity)
    return text
