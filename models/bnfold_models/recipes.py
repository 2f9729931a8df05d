"""What decides the bytes of a trained ONNX file? Network, data, training and seed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import onnx

from bnfold_models import build
from bnfold_models.dataset import Dataset
from bnfold_models.export import export
from bnfold_models.network import Network
from bnfold_models.train import Epoch, Score, TrainOptions, train


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the bytes of one trained file."""

    network: str
    """Its name in the registry, and the name of the file."""
    data: str
    options: TrainOptions
    seed: int = 0
    """Draws the initial weights."""


@dataclass(frozen=True, slots=True)
class Made:
    """What comes of a recipe."""

    model: onnx.ModelProto
    """With metadata on what it was trained and how well it does."""
    network: Network
    history: tuple[Epoch, ...]


DIGITS_OPTIONS = TrainOptions(epochs=20, batch_size=32)
"""1,438 images of 8x8: as many steps as two epochs of MNIST."""

MNIST_OPTIONS = TrainOptions(epochs=10, batch_size=128)

PICTURES_OPTIONS = TrainOptions(epochs=4, batch_size=8, optimizer="adam", learning_rate=0.001)


def make(
    recipe: Recipe,
    dataset: Dataset,
    *,
    watch: Callable[[Network], AbstractContextManager[None]] = lambda _: nullcontext(),
    after_epoch: Callable[[Epoch], None] | None = None,
) -> Made:
    """Train and export one network on the recipe's own data, already loaded.

    `watch` makes of the network what is entered while it is trained: for those who want to see.
    """
    network = build(recipe.network, seed=recipe.seed)
    with watch(network):
        history = train(network, dataset, recipe.options, after_epoch=after_epoch)
    model = export(network)
    describe(model, recipe, dataset, history[-1].test)
    return Made(model, network, history)


def describe(model: onnx.ModelProto, recipe: Recipe, dataset: Dataset, score: Score) -> None:
    """Write into a model's metadata on what it was trained and how well it does."""
    options = recipe.options
    properties = {
        "network": recipe.network,
        "data": f"{dataset.name}, {len(dataset.train)} images",
        "training": f"{options.optimizer}, learning rate {options.learning_rate}, "
        f"batch {options.batch_size}, {options.epochs} epochs, seed {options.seed}",
        "test_accuracy": f"{score.accuracy:.3f}",
    }
    onnx.helper.set_model_props(model, properties)


def accuracy(model: onnx.ModelProto) -> float:
    """What the metadata of a trained file say of its test images, 0 to 1."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    return float(properties["test_accuracy"])
