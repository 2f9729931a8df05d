"""What happens inside a network while it learns? Watched by hooks that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bnfold_models.network import BatchNorm, Network

Arrays = Mapping[str, NDArray[Any]]

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Which quantiles of a layer's inputs are kept."""

EVERY = 5
"""Quantiles are taken in one step of so many."""

KEPT_KINDS = {"EMA 0.9": 0.9, "EMA 0.99": 0.99, "EMA 0.999": 0.999}
"""Exponential moving averages by the share of the old value that each step keeps."""

AVERAGE = "average of all batches"


def named_layers(network: Network, kind: type[nn.Module]) -> dict[str, nn.Module]:
    """The layers of that kind by name, in order."""
    return {name: layer for name, layer in network.named_children() if isinstance(layer, kind)}


class Hooks:
    """Sets hooks while a network is trained, and takes them away."""

    def hooks(self, network: Network) -> Iterator[RemovableHandle]:
        """Those of the probe, once they are set."""
        raise NotImplementedError

    @contextmanager
    def watching(self, network: Network) -> Iterator[None]:
        """Entered while the network is trained."""
        handles = list(self.hooks(network))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


See = Callable[[nn.Module, Tensor, str], None]


def on_inputs(layers: Mapping[str, nn.Module], see: See) -> Iterator[RemovableHandle]:
    """Call `see` with each layer, what it reads, and its name, whenever it is used."""
    for name, layer in layers.items():
        yield layer.register_forward_pre_hook(
            lambda layer, inputs, name=name: see(layer, inputs[0].detach(), name)
        )


class MovingStatistics(Hooks):
    """Every kind of moving statistics of one training at once: none of them changes it.

    In training a BN uses the statistics of the batch; those that it gathers meanwhile are used
    afterwards only. As torch does, the variance of a batch is taken in with n - 1.
    """

    def __init__(self) -> None:
        self.values: dict[str, NDArray[np.float64]] = {}
        self.steps: dict[str, int] = {}

    def hooks(self, network: Network) -> Iterator[RemovableHandle]:
        """On the input of each BN."""
        return on_inputs(named_layers(network, BatchNorm), self._see)

    def _see(self, layer: nn.Module, inputs: Tensor, name: str) -> None:
        if not layer.training:
            return
        values = inputs.double()
        found = {"mean": values.mean(dim=0).numpy(), "var": values.var(dim=0).numpy()}
        step = self.steps[name] = self.steps.get(name, 0) + 1
        for part, batch in found.items():
            initial = np.zeros_like(batch) if part == "mean" else np.ones_like(batch)
            for kind, kept in {**KEPT_KINDS, AVERAGE: 1 - 1 / step}.items():
                key = f"{kind}/{name}/{part}"
                old = self.values.get(key, initial)
                self.values[key] = kept * old + (1 - kept) * batch

    def arrays(self) -> Arrays:
        """ "KIND/LAYER/mean" and "KIND/LAYER/var"."""
        return self.values


class InputQuantiles(Hooks):
    """The distribution of what each hidden Dense layer reads, all its inputs together."""

    def __init__(self) -> None:
        self.seen: dict[str, list[NDArray[Any]]] = {}
        self.steps: dict[str, int] = {}
        self.last: dict[str, list[NDArray[Any]]] = {}

    def hooks(self, network: Network) -> Iterator[RemovableHandle]:
        """On the inputs of every Dense behind the first, and of every BN."""
        dense = named_layers(network, nn.Linear)
        dense.pop(next(iter(dense)))
        yield from on_inputs(dense, self._see)
        yield from on_inputs(named_layers(network, BatchNorm), self._keep)

    def _see(self, layer: nn.Module, inputs: Tensor, name: str) -> None:
        if not layer.training:
            return
        step = self.steps[name] = self.steps.get(name, 0) + 1
        if step % EVERY == 1:
            self.seen.setdefault(name, []).append(np.quantile(inputs.numpy(), SHARES))

    def _keep(self, layer: nn.Module, inputs: Tensor, name: str) -> None:
        """What the BN read of all test images, the last time: for its densities."""
        if layer.training:
            self.last[name] = []
        else:
            self.last[name].append(inputs.numpy())

    def arrays(self) -> Arrays:
        """ "quantiles/LAYER" (steps, shares) and "inputs/LAYER" (images, units)."""
        quantiles = {f"quantiles/{name}": np.array(rows) for name, rows in self.seen.items()}
        inputs = {f"inputs/{name}": np.concatenate(parts) for name, parts in self.last.items()}
        return quantiles | inputs


class Gradients(Hooks):
    """How large the gradients of biases and weights are, as root mean squares over all steps."""

    def __init__(self) -> None:
        self.squares: dict[str, float] = {}
        self.steps: dict[str, int] = {}

    def hooks(self, network: Network) -> Iterator[RemovableHandle]:
        """On the parameters of every Dense layer."""
        for name, layer in named_layers(network, nn.Linear).items():
            for part, parameter in layer.named_parameters():
                key = f"{name}/{part}"
                yield parameter.register_hook(lambda gradient, key=key: self._see(gradient, key))

    def _see(self, gradient: Tensor, key: str) -> None:
        self.squares[key] = self.squares.get(key, 0.0) + float(torch.square(gradient).mean())
        self.steps[key] = self.steps.get(key, 0) + 1

    def arrays(self) -> Arrays:
        """ "LAYER/bias" and "LAYER/weight", one number each."""
        return {
            key: np.array(np.sqrt(total / self.steps[key])) for key, total in self.squares.items()
        }
