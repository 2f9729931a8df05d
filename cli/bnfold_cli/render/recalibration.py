"""How far were the statistics off, and what stayed?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold_cli.lines import Line, Span, columns, counted, line, notes

if TYPE_CHECKING:
    from bnfold.recalibration import RecalibratedLayer, RecalibrationResult

LISTED = 12
"""Layers that are listed before `-v` is needed: those that were off by most."""


def recalibrate(result: RecalibrationResult, *, verbose: bool = False) -> list[Line]:
    """What was replaced, how far it was off, what stayed, and what to do next."""
    count = len(result.layers) + len(result.kept)
    data = f"{counted(result.rows, 'row')} of data in {counted(result.passes, 'pass', 'passes')}"
    nodes = "node" if count == 1 else "nodes"
    lines = [
        line(
            Span("Recalibrated", "good"),
            f" {len(result.layers)} of {count} BatchNormalization {nodes} on {data}",
        )
    ]
    layers = result.layers
    if not verbose and len(layers) > LISTED:
        layers = tuple(sorted(layers, key=_badness, reverse=True)[:LISTED])
    lines += columns([HEADER, *map(_row, layers)]) if layers else []
    if len(layers) < len(result.layers):
        more = len(result.layers) - len(layers)
        lines.append(line(f"  and {more} more that were off by less; -v lists all"))
    if result.kept:
        lines.append(line(f"Kept {len(result.kept)}"))
        lines += columns([kept.tensor, Span(kept.detail, "dim")] for kept in result.kept)
    lines += notes(result.notes)
    lines.append(line(f"Wrote {result.output}" if result.output else "Wrote nothing"))
    return lines


HEADER = ("tensor", "channels", "mean off by", "at worst", "old variance over exact")


def _row(layer: RecalibratedLayer) -> list[str | Span]:
    low, median, high = layer.variance_ratio
    return [
        layer.tensor,
        f"{layer.channels}",
        f"{layer.mean_off:.2g} sd",
        f"{layer.worst_mean_off:.2g} sd",
        f"×{median:.3g} (×{low:.3g} to ×{high:.3g})",
    ]


def _badness(layer: RecalibratedLayer) -> float:
    return layer.worst_mean_off if layer.worst_mean_off == layer.worst_mean_off else float("inf")
