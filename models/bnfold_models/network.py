"""What is a network here? A named stack of layers that reads images, and its parameter counts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

EPSILON = 1e-3
"""Added to the variance, as Keras does: the networks come from studies made with Keras."""

MOMENTUM = 0.1
"""The share of a batch in the moving statistics (what Keras calls a momentum of 0.9).

Keras's own default, 0.99 in its meaning, leaves the initial values in the statistics after the
few hundred steps that these networks are trained for.
"""

BatchNorm = nn.modules.batchnorm._BatchNorm
"""Base class of every torch batch normalization."""


class Network(nn.Sequential):
    """Layers in order, by name, from images to classes.

    Reads float32 (N, *input_shape) with values 0 to 1 and returns float32 (N, classes).
    `input_shape` is (C, H, W).
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], *, input_shape: tuple[int, int, int]
    ) -> None:
        super().__init__(OrderedDict(layers))
        self.input_shape = input_shape

    def logits(self, images: Tensor) -> Tensor:
        """Class scores (N, classes) before the softmax, if the network ends in one."""
        for layer in self:
            if not isinstance(layer, nn.Softmax):
                images = layer(images)
        return images


def dense(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A dense layer initialised as Keras does: Glorot uniform weight, zero bias."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def norm(features: int) -> nn.BatchNorm1d:
    """Batch normalization of (N, features)."""
    return nn.BatchNorm1d(features, eps=EPSILON, momentum=MOMENTUM)


def norm_images(channels: int) -> nn.BatchNorm2d:
    """Batch normalization of (N, channels, H, W)."""
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=MOMENTUM)


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Numbers in a network as Keras counts them: moving statistics are parameters too."""

    total: int
    trainable: int
    normalization: int
    """Of the total: gamma, beta, moving mean and moving variance of every BN."""


def normalizations(network: nn.Module) -> list[BatchNorm]:
    """The batch normalizations of a network, in order."""
    return [module for module in network.modules() if isinstance(module, BatchNorm)]


def count_parameters(network: nn.Module) -> ParameterCount:
    """Count a network's parameters; torch's counter of batches is not one."""
    trainable = _elements(network.parameters())
    return ParameterCount(
        total=trainable + _elements(_statistics(network)),
        trainable=trainable,
        normalization=sum(
            _elements(layer.parameters()) + _elements(_statistics(layer))
            for layer in normalizations(network)
        ),
    )


def _statistics(network: nn.Module) -> list[Tensor]:
    return [buffer for buffer in network.buffers() if torch.is_floating_point(buffer)]


def _elements(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)
