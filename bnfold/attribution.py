"""What did each part of a fold gain? The same fold with one part left out, for a bench to time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnx import ModelProto

from bnfold import folding
from bnfold.report import FoldReport, FoldResult
from bnfold.stored import StoredModel

WITHOUT: Mapping[str, Mapping[str, bool]] = {
    "folding": {"affines": False},
    "merged branches": {"reparameterize": False},
    "frozen inputs": {"keep_overridable": True},
    "removed movement": {"movement": False},
}
"""The parts of a fold by their names, and what leaves each of them out."""

MOST_BYTES = 1 << 30
"""All variants together may be so large: each one is another session in memory."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is folded, in the arguments of `fold`."""

    model: StoredModel
    keep: tuple[str, ...] = ()
    reparameterize: bool = True
    keep_overridable: bool = False

    def fold(self) -> FoldResult:
        """Fold."""
        return folding.fold(self.model, keep=self.keep, **self._switches)

    def fold_without(self, part: str) -> FoldResult:
        """Fold, and leave one part out."""
        return folding.fold_with(self.model, self.keep, **{**self._switches, **WITHOUT[part]})

    @property
    def _switches(self) -> dict[str, bool]:
        return {
            "reparameterize": self.reparameterize,
            "keep_overridable": self.keep_overridable,
        }


def variants(recipe: Recipe, folds: FoldResult) -> tuple[dict[str, ModelProto], str]:
    """The fold without each part that took part in it, by name, and a note if there are none.

    Parts lean on each other: where weights are inputs, nothing can be folded into them, so what a
    part is worth includes what it makes possible, and the parts need not multiply to the whole.
    """
    parts = list(took_part(folds))
    if len(parts) * folds.stored.byte_size > MOST_BYTES:
        return {}, "the model is too large to time each part of the fold switched off"
    made = {part: recipe.fold_without(part) for part in parts}
    return {part: less.model for part, less in made.items() if _differs(less, folds)}, ""


def took_part(folds: FoldReport) -> Iterator[str]:
    """The parts that did something."""
    for part, done in (
        ("folding", folds.folded),
        ("merged branches", folds.merged),
        ("frozen inputs", folds.frozen_inputs),
        ("removed movement", folds.removed_movement),
    ):
        if done:
            yield part


def _differs(less: FoldReport, folds: FoldReport) -> bool:
    """Whether less was done: branches that merge take in their affines without any fold."""
    done = ("folded", "merged", "frozen_inputs", "removed_movement")
    return any(getattr(less, part) != getattr(folds, part) for part in done)
