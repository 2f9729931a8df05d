"""How are values and names written on an axis?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def cut(drawn: Sequence[Any], known: Sequence[Any]) -> str:
    """That not all are drawn, where that is so."""
    return f" The first {len(drawn)} of {len(known)}." if len(drawn) < len(known) else ""


def power(value: float, _: float) -> str:
    """A tick of a logarithmic axis, without the markup that matplotlib would use."""
    return f"{value:g}"


def positive(values: Iterable[float]) -> float:
    """The least that a logarithmic axis can show."""
    return min((v for v in values if v > 0), default=1e-12)


def short(name: str) -> str:
    """A name for an axis; the table has it whole."""
    return name if len(name) <= 18 else f"…{name[-17:]}"
