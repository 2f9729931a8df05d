"""Which perceptrons read digits and clothes? With BN after the activation, or before it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

from bnfold_models.network import Network, dense, norm

Activation = Literal["relu", "sigmoid"]

ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}

HIDDEN = (512, 256, 128, 64)
"""Widths of the hidden layers of the MNIST perceptron and of its 8x8 member."""

TEXTBOOK = (256, 128, 64)
"""Widths of the hidden layers of the textbook's perceptron."""

CLASSES = 10

DIGITS = (1, 8, 8)
MNIST = (1, 28, 28)


def perceptron(
    activation: Activation,
    normalized: int,
    *,
    input_shape: tuple[int, int, int] = MNIST,
    hidden: Sequence[int] = HIDDEN,
) -> Network:
    """Dense and activation a hidden layer, with BN *after* the activation of the first few.

    `normalized` says how many of the hidden layers have a BN, 0 to all. Its input (N, C, H, W) is
    flattened, its output are logits (N, 10).
    """
    if not 0 <= normalized <= len(hidden):
        raise ValueError(f"normalized must be 0 to {len(hidden)}, not {normalized}")
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    for number, (inputs, outputs) in enumerate(pairwise([_size(input_shape), *hidden]), 1):
        layers[f"dense{number}"] = dense(inputs, outputs)
        layers[f"{activation}{number}"] = ACTIVATIONS[activation]()
        if number <= normalized:
            layers[f"norm{number}"] = norm(outputs)
    layers["head"] = dense(hidden[-1], CLASSES)
    return Network(layers, input_shape=input_shape)


def fashion() -> Network:
    """The Fashion-MNIST perceptron: BN of the raw pixels and after both hidden layers, softmax.

    Reads (N, 1, 28, 28), returns probabilities (N, 10).
    """
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten(), "norm0": norm(_size(MNIST))}
    for number, (inputs, outputs) in enumerate(pairwise([_size(MNIST), 300, 100]), 1):
        layers[f"dense{number}"] = dense(inputs, outputs)
        layers[f"relu{number}"] = nn.ReLU()
        layers[f"norm{number}"] = norm(outputs)
    layers["head"] = dense(100, CLASSES)
    layers["softmax"] = nn.Softmax(dim=1)
    return Network(layers, input_shape=MNIST)


def textbook(
    activation: Activation,
    *,
    bias: bool = False,
    input_shape: tuple[int, int, int] = DIGITS,
    hidden: Sequence[int] = TEXTBOOK,
) -> Network:
    """The textbook order: Dense without bias, BN, activation.

    `bias=True` gives every hidden Dense a bias all the same. BN takes the mean away, and the bias
    with it: the output does not depend on it and no gradient reaches it.
    """
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    for number, (inputs, outputs) in enumerate(pairwise([_size(input_shape), *hidden]), 1):
        layers[f"dense{number}"] = dense(inputs, outputs, bias=bias)
        layers[f"norm{number}"] = norm(outputs)
        layers[f"{activation}{number}"] = ACTIVATIONS[activation]()
    layers["head"] = dense(hidden[-1], CLASSES)
    return Network(layers, input_shape=input_shape)


def _size(shape: tuple[int, int, int]) -> int:
    channels, height, width = shape
    return channels * height * width
