"""Which networks does each study train, on what data and for how long?

A table and no more: what trains, folds and draws is elsewhere. The shipped files of
`models/trained` are rows of it, at the studies' own settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from bnfold_models.dataset import Dataset
from bnfold_models.perceptrons import ACTIVATIONS, HIDDEN
from bnfold_models.recipes import DIGITS_OPTIONS, MNIST_OPTIONS, PICTURES_OPTIONS, Recipe

SMALL = 8
"""Images of this height and width are read by the `digits` networks, others by `mnist` ones."""

BATCHES = (4, 64, 256, 1024)

Family = Literal["digits", "mnist"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a reader chose: data, and if they like how many epochs and which seed."""

    data: str = "digits"
    family: Family = "digits"
    epochs: int | None = None
    seed: int = 0

    @classmethod
    def of(cls, data: str, dataset: Dataset, *, epochs: int | None, seed: int) -> Setting:
        """The setting for data that is loaded: the size of its images decides the networks."""
        small = dataset.image_shape[1:] == (SMALL, SMALL)
        return cls(data, "digits" if small else "mnist", epochs, seed)

    def recipe(self, network: str, **changes: Any) -> Recipe:
        """That network on this data; `changes` are options of the training."""
        options = DIGITS_OPTIONS if self.family == "digits" else MNIST_OPTIONS
        return self._recipe(network, self.data, replace(options, **changes))

    def pictures(self, network: str, data: str) -> Recipe:
        """A network of images on data of its own."""
        return self._recipe(network, data, PICTURES_OPTIONS)

    def _recipe(self, network: str, data: str, options: Any) -> Recipe:
        epochs = self.epochs or options.epochs
        return Recipe(network, data, replace(options, epochs=epochs, seed=self.seed), self.seed)

    def perceptron(self, activation: str, normalized: int, **changes: Any) -> Recipe:
        """The perceptron with so many BN layers."""
        return self.recipe(f"{self.family}-{activation}-bn{normalized}", **changes)

    def textbook(self, activation: str, variant: Literal["", "-bias", "-after"] = "") -> Recipe:
        """Dense, BN, activation; or with a bias before BN, or with BN after the activation."""
        name = "textbook" if self.family == "digits" else "mnist-textbook"
        return self.recipe(f"{name}-{activation}{variant}")


Plan = dict[str, Recipe]
"""Label -> recipe, in the order of legend and tables."""


def words(normalized: int) -> str:
    """ "without BN", "1 BN", "2 BN" ..."""
    return f"{normalized} BN" if normalized else "without BN"


def speedup(setting: Setting) -> Plan:
    """One BN after the first hidden layer, or none."""
    return {
        f"{activation}, {words(count)}": setting.perceptron(activation, count)
        for activation in ACTIVATIONS
        for count in (0, 1)
    }


def layers(setting: Setting) -> Plan:
    """BN after the first 0 to 4 hidden layers."""
    return {
        f"{activation}, {words(count)}": setting.perceptron(activation, count)
        for activation in ACTIVATIONS
        for count in range(len(HIDDEN) + 1)
    }


def optimizer(setting: Setting) -> Plan:
    """SGD and Adam at the same learning rate."""
    return {
        f"{activation}, {kind}, {words(count)}": setting.perceptron(
            activation, count, optimizer=kind, learning_rate=0.01
        )
        for activation in ACTIVATIONS
        for kind in ("sgd", "adam")
        for count in (0, 1)
    }


def batch_size(setting: Setting) -> Plan:
    """The same perceptron at every size of the batch."""
    return {
        f"batch {batch}, {words(count)}": setting.perceptron("relu", count, batch_size=batch)
        for batch in BATCHES
        for count in (0, 1)
    }


def statistics(setting: Setting) -> Plan:
    """One training, of which every kind of statistics is gathered."""
    return {"relu, 4 BN": setting.perceptron("relu", len(HIDDEN))}


def placement(setting: Setting) -> Plan:
    """BN on the pre-activation, with and without a bias before it, and after the activation."""
    plan: Plan = {}
    for activation in ACTIVATIONS:
        plan[f"{activation}, before"] = setting.textbook(activation)
        plan[f"{activation}, before, bias"] = setting.textbook(activation, "-bias")
        plan[f"{activation}, after"] = setting.textbook(activation, "-after")
    return plan


def shift(setting: Setting) -> Plan:
    """The network that suffers most: sigmoids, with and without BN everywhere."""
    return {words(count): setting.perceptron("sigmoid", count) for count in (0, len(HIDDEN))}


def fashion(setting: Setting) -> Plan:
    """The perceptron with BN of the raw pixels."""
    return {"fashion": setting.recipe("fashion")}


def images(setting: Setting, data: str = "images") -> Plan:
    """Logistic regression with BN, one wide layer, seven deep."""
    return {
        kind: setting.pictures(f"images-{kind}", data) for kind in ("logistic", "wide", "deep")
    }


def shipped() -> Iterator[Recipe]:
    """The rows whose files stand in `models/trained`: normalized and well under 2 MB."""
    setting = Setting()
    for plan in (layers(setting), placement(setting), fashion(setting), images(setting)):
        for recipe in plan.values():
            if not recipe.network.endswith(("bn0", "-bias", "-after")):
                yield recipe
