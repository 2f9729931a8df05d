"""How are the same networks defined, trained and exported by Keras? On its torch backend.

The definitions are read off the PyTorch networks, layer by layer, so that there is one source of
what a network is; initial weights, training and export are Keras's own. It keeps channels last,
and exports BN in parts: a Sub, a Mul and an Add by constants.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import nn

from bnfold_models import build
from bnfold_models.dataset import DataError, Dataset, Split
from bnfold_models.export import BATCH, INPUT, strip_notes
from bnfold_models.network import BatchNorm, Network
from bnfold_models.recipes import Recipe, describe
from bnfold_models.train import Epoch, Score, deterministic

BACKEND = "torch"


def require_keras() -> Any:
    """The keras module on its torch backend. Raises DataError where it is not there."""
    os.environ.setdefault("KERAS_BACKEND", BACKEND)
    try:
        keras = import_module("keras")
    except ImportError as error:
        raise DataError("Keras is not installed", "run: pip install keras") from error
    if keras.backend.backend() != BACKEND:
        raise DataError(f"Keras runs on {keras.backend.backend()} here", "set KERAS_BACKEND=torch")
    return keras


def make_by_keras(
    recipe: Recipe, dataset: Dataset, *, after_epoch: Callable[[Epoch], None] | None = None
) -> tuple[onnx.ModelProto, tuple[Epoch, ...]]:
    """Train and export one network by Keras; the model and its history."""
    keras = require_keras()
    network = build(recipe.network, seed=recipe.seed)
    dataset = dataset.fit(network.input_shape)
    history: list[Epoch] = []

    def note(number: int, logs: dict[str, float]) -> None:
        scores = [Score(logs[f"{p}loss"], logs[f"{p}accuracy"]) for p in ("", "val_")]
        history.append(Epoch(number + 1, *scores))
        if after_epoch:
            after_epoch(history[-1])

    keras.utils.set_random_seed(recipe.seed)
    model = define(network)
    model.compile(
        optimizer=_optimizer(keras, recipe),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=not _ends_in_softmax(network)),
        metrics=["accuracy"],
    )
    with deterministic(recipe.options.threads), _quiet():
        model.fit(
            *_arrays(dataset.train),
            validation_data=_arrays(dataset.test),
            batch_size=recipe.options.batch_size,
            epochs=recipe.options.epochs,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=note)],
            verbose=0,
        )
        exported = export_by_keras(model)
    describe(exported, recipe, dataset, history[-1].test)
    return exported, tuple(history)


def define(network: Network) -> Any:
    """The Keras model of the same layers, with new weights of Keras's own making."""
    keras = require_keras()
    channels, height, width = network.input_shape
    layers = [keras.Input((height, width, channels), name=INPUT)]
    layers += [_layer(keras, name, layer) for name, layer in network.named_children()]
    return keras.Sequential(layers)


def _layer(keras: Any, name: str, layer: nn.Module) -> Any:
    """One layer; sizes and settings are those of the PyTorch layer."""
    layers = keras.layers
    if isinstance(layer, nn.Linear):
        return layers.Dense(layer.out_features, use_bias=layer.bias is not None, name=name)
    if isinstance(layer, nn.Conv2d):
        padding = "same" if layer.padding == "same" else "valid"
        return layers.Conv2D(layer.out_channels, layer.kernel_size, padding=padding, name=name)
    if isinstance(layer, nn.MaxPool2d):
        return layers.MaxPooling2D(layer.kernel_size, name=name)
    if isinstance(layer, BatchNorm):
        # The share of the old value, where torch's is that of the new one.
        momentum = 1 - (layer.momentum or 0.0)
        return layers.BatchNormalization(momentum=momentum, epsilon=layer.eps, name=name)
    if isinstance(layer, nn.Flatten):
        return layers.Flatten(name=name)
    activation = {nn.ReLU: "relu", nn.Sigmoid: "sigmoid", nn.Softmax: "softmax"}[type(layer)]
    return layers.Activation(activation, name=name)


def export_by_keras(model: Any) -> onnx.ModelProto:
    """What Keras writes, its notes taken out; the input is `input`, any number of images."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        model.export(path, format="onnx", verbose=False)
        exported = onnx.load(path)
    strip_notes(exported)
    for port in (*exported.graph.input, *exported.graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = BATCH
    return exported


def _optimizer(keras: Any, recipe: Recipe) -> Any:
    rate = recipe.options.learning_rate
    if recipe.options.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)


def _ends_in_softmax(network: Network) -> bool:
    return isinstance(network[-1], nn.Softmax)


def _arrays(split: Split) -> tuple[Any, Any]:
    """Images float32 (N, H, W, C) from 0 to 1, and labels."""
    return split.images.transpose(0, 2, 3, 1).astype(np.float32) / 255, split.labels


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what Keras makes torch say: it traces sizes, which for it are constants."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
