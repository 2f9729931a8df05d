"""Which reference networks are there? By name, each built anew with seeded weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from bnfold_models.images import deep, logistic, wide
from bnfold_models.network import Network
from bnfold_models.perceptrons import (
    ACTIVATIONS,
    DIGITS,
    HIDDEN,
    MNIST,
    TEXTBOOK,
    fashion,
    perceptron,
    textbook,
)

__all__ = ["REGISTRY", "Network", "build"]


def _registry() -> dict[str, Callable[[], Network]]:
    """Every network by name; `bn2` counts the normalized hidden layers."""
    networks: dict[str, Callable[[], Network]] = {}
    for activation in ACTIVATIONS:
        for normalized in range(len(HIDDEN) + 1):
            ending = f"{activation}-bn{normalized}"
            networks[f"mnist-{ending}"] = partial(perceptron, activation, normalized)
            networks[f"digits-{ending}"] = partial(
                perceptron, activation, normalized, input_shape=DIGITS
            )
        for prefix, shape in (("textbook", DIGITS), ("mnist-textbook", MNIST)):
            ending = f"{prefix}-{activation}"
            networks[ending] = partial(textbook, activation, input_shape=shape)
            networks[f"{ending}-bias"] = partial(
                textbook, activation, bias=True, input_shape=shape
            )
            networks[f"{ending}-after"] = partial(
                perceptron, activation, len(TEXTBOOK), input_shape=shape, hidden=TEXTBOOK
            )
    networks["fashion"] = fashion
    networks["images-logistic"] = logistic
    networks["images-wide"] = wide
    networks["images-deep"] = deep
    return dict(sorted(networks.items()))


REGISTRY = _registry()
"""Name -> a function that makes the network with new random weights."""


def build(name: str, *, seed: int = 0) -> Network:
    """Make the network of that name; the same seed gives the same weights.

    Torch's own random state is left as it was. Raises ValueError that lists the names.
    """
    if name not in REGISTRY:
        raise ValueError(f"no network is called {name!r}; there are {', '.join(REGISTRY)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return REGISTRY[name]()
