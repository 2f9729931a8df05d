"""Which trained networks are shipped, and how is each made again? They are rows of the studies."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bnfold_models.data import Dataset, load
from bnfold_models.export import save
from bnfold_models.recipes import Recipe, make
from bnfold_models.studies.plans import shipped

RECIPES: dict[str, Recipe] = {
    recipe.network: recipe for recipe in sorted(shipped(), key=lambda recipe: recipe.network)
}
"""The networks that fit well under 2 MB. Those of 28x28 MNIST (2.3 MB) are made when needed."""


def remake(folder: Path, names: Iterable[str] = tuple(RECIPES)) -> Iterable[Path]:
    """Make the files again, one by one, and yield each path once it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    datasets: dict[str, Dataset] = {}
    for name in names:
        recipe = RECIPES[name]
        if recipe.data not in datasets:
            datasets[recipe.data] = load(recipe.data)
        path = folder / f"{name}.onnx"
        save(make(recipe, datasets[recipe.data]).model, path)
        yield path
