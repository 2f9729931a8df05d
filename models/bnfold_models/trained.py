"""Which trained networks are shipped, and how is each made again?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx

from bnfold_models import build
from bnfold_models.data import Dataset, load
from bnfold_models.export import export, save
from bnfold_models.train import Score, TrainOptions, train


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the bytes of one trained file."""

    network: str
    """Its name in the registry, and the name of the file."""
    data: str
    options: TrainOptions
    seed: int = 0
    """Draws the initial weights."""


DIGITS_OPTIONS = TrainOptions(epochs=20, batch_size=32)

PICTURES_OPTIONS = TrainOptions(epochs=4, batch_size=8, optimizer="adam", learning_rate=0.001)

_DIGITS = (
    *(f"digits-{kind}-bn{count}" for kind in ("relu", "sigmoid") for count in (1, 2, 3, 4)),
    "fashion",
    "textbook-relu",
    "textbook-sigmoid",
)

_PICTURES = ("images-deep", "images-logistic", "images-wide")

RECIPES = {
    **{name: Recipe(name, "digits", DIGITS_OPTIONS) for name in _DIGITS},
    **{name: Recipe(name, "images", PICTURES_OPTIONS) for name in _PICTURES},
}
"""The networks that fit well under 2 MB. Those of 28x28 MNIST (2.3 MB) are made when needed."""


def make(recipe: Recipe, dataset: Dataset | None = None) -> onnx.ModelProto:
    """Train and export one network; its metadata say on what and how well.

    `dataset`, where it is given, is the recipe's own data, already loaded.
    """
    network = build(recipe.network, seed=recipe.seed)
    dataset = load(recipe.data) if dataset is None else dataset
    history = train(network, dataset, recipe.options)
    model = export(network)
    onnx.helper.set_model_props(model, _properties(recipe, dataset, history[-1].test))
    return model


def remake(folder: Path, names: Iterable[str] = tuple(RECIPES)) -> Iterable[Path]:
    """Make the files again, one by one, and yield each path once it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    datasets: dict[str, Dataset] = {}
    for name in names:
        recipe = RECIPES[name]
        if recipe.data not in datasets:
            datasets[recipe.data] = load(recipe.data)
        path = folder / f"{name}.onnx"
        save(make(recipe, datasets[recipe.data]), path)
        yield path


def accuracy(model: onnx.ModelProto) -> float:
    """What the metadata of a trained file say of its test images, 0 to 1."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    return float(properties["test_accuracy"])


def _properties(recipe: Recipe, dataset: Dataset, score: Score) -> dict[str, str]:
    options = recipe.options
    return {
        "network": recipe.network,
        "data": f"{dataset.name}, {len(dataset.train)} images",
        "training": f"{options.optimizer}, learning rate {options.learning_rate}, "
        f"batch {options.batch_size}, {options.epochs} epochs, seed {options.seed}",
        "test_accuracy": f"{score.accuracy:.3f}",
    }
