"""What is done with every model of a sweep? Options that are the same for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bnfold.report import plain


@dataclass(frozen=True, slots=True)
class Settings:
    """The keywords of `optimize` that make sense for many models, and how long each may take.

    Only what differs from the defaults of `optimize` is in `fold` and `speed`.
    """

    fold: dict[str, Any] = field(default_factory=dict)
    """Keywords of folding and proving."""
    bench: bool = True
    speed: dict[str, Any] = field(default_factory=dict)
    """Keywords of timing."""
    timeout: float = 0.0
    """Seconds for one model, once for folding and proving and once for timing."""
    memory_limit: int | None = None
    """Bytes for one model; None for an equal part of what its worker may use."""
    threads: int = 1
    """Threads that a model is proven with."""
    checksum: bool = False
    """Read every file, also where the storage says that it did not change."""
    again: bool = False
    force: bool = False
    """Replace models that no sweep wrote."""
    reports: bool = False

    @property
    def recorded(self) -> dict[str, Any]:
        """What a record says that its model was folded and proven with."""
        found: dict[str, Any] = plain(self.fold)
        return found

    @property
    def speed_recorded(self) -> dict[str, Any] | None:
        """What a record says that its model was timed with."""
        if not self.bench:
            return None
        found: dict[str, Any] = plain(self.speed)
        return found
