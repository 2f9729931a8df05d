"""The networks are those of the source material, to the last parameter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnfold_models import REGISTRY, build
from bnfold_models.images import SameConv2d
from bnfold_models.network import Network, ParameterCount, count_parameters, normalizations
from bnfold_models.perceptrons import HIDDEN, fashion, perceptron, textbook

LAYERS = {
    "mnist-relu-bn0": "Flatten Linear ReLU Linear ReLU Linear ReLU Linear ReLU Linear",
    "mnist-sigmoid-bn2": "Flatten Linear Sigmoid BatchNorm1d Linear Sigmoid BatchNorm1d "
    "Linear Sigmoid Linear Sigmoid Linear",
    "fashion": "Flatten BatchNorm1d Linear ReLU BatchNorm1d Linear ReLU BatchNorm1d "
    "Linear Softmax",
    "textbook-relu-after": "Flatten Linear ReLU BatchNorm1d Linear ReLU BatchNorm1d "
    "Linear ReLU BatchNorm1d Linear",
    "textbook-relu": "Flatten Linear BatchNorm1d ReLU Linear BatchNorm1d ReLU "
    "Linear BatchNorm1d ReLU Linear",
    "images-logistic": "BatchNorm2d Flatten Linear",
    "images-wide": "BatchNorm2d Conv2d ReLU MaxPool2d Flatten Linear",
    "images-deep": "BatchNorm2d " + 7 * "SameConv2d ReLU MaxPool2d " + "Flatten Linear",
}

MNIST_DENSE = 784 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 10 + sum(HIDDEN) + 10

COUNTS = {
    "mnist-relu-bn0": (MNIST_DENSE, 0),
    "mnist-relu-bn1": (MNIST_DENSE + 2048, 2048),
    "mnist-sigmoid-bn4": (MNIST_DENSE + 3840, 3840),
    "fashion": (271_346, 4_736),
    "images-logistic": (2 * 150_528 + 2 + 12, 12),
    "images-wide": (12 + 1_300 + 33_802, 12),
    "images-deep": (12 + 260 + 6 * 1_620 + 42, 12),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_stand_in_the_order_of_the_source(name: str) -> None:
    assert " ".join(type(layer).__name__ for layer in build(name)) == LAYERS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_count_as_in_keras(name: str) -> None:
    """Moving statistics are parameters, and half of a BN's cannot be trained."""
    total, normalization = COUNTS[name]
    expected = ParameterCount(total, total - normalization // 2, normalization)
    assert count_parameters(build(name)) == expected


def test_fashion_has_its_normalization_parameters_layer_by_layer() -> None:
    counts = [count_parameters(layer).total for layer in normalizations(fashion())]
    assert counts == [3_136, 1_200, 400]


def test_the_registry_holds_every_family() -> None:
    perceptrons = {
        f"{family}-{activation}-bn{count}"
        for family in ("mnist", "digits")
        for activation in ("relu", "sigmoid")
        for count in range(5)
    }
    others = {"fashion"} | {
        f"{prefix}textbook-{activation}{variant}"
        for prefix in ("", "mnist-")
        for activation in ("relu", "sigmoid")
        for variant in ("", "-bias", "-after")
    }
    images = {"images-logistic", "images-wide", "images-deep"}
    assert set(REGISTRY) == perceptrons | others | images


@pytest.mark.parametrize("name", REGISTRY)
def test_a_batch_of_images_gives_a_batch_of_scores(name: str) -> None:
    network = build(name).eval()
    classes = 2 if name.startswith("images") else 10
    with torch.no_grad():
        assert network(torch.rand(3, *network.input_shape)).shape == (3, classes)


@pytest.mark.parametrize("count", range(5))
def test_the_name_says_how_many_layers_are_normalized(count: int) -> None:
    assert len(normalizations(build(f"mnist-relu-bn{count}"))) == count


def test_a_layer_too_many_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 4, not 5"):
        perceptron("relu", 5)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'resnet'; there are digits-relu-bn0, "):
        build("resnet")


def test_the_seed_decides_the_weights_and_nothing_else() -> None:
    """Building a network leaves torch's own random state as it was."""
    before = torch.get_rng_state()
    first, same, other = (build("textbook-relu", seed=seed).dense1.weight for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_logits_are_what_the_softmax_reads() -> None:
    network = build("fashion").eval()
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(network(images), network.logits(images).softmax(dim=1))


def test_same_convolution_pads_right_and_below_as_keras_does() -> None:
    """The last row and column read zeros, the first ones do not."""
    layer = SameConv2d(1, 1)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        image = layer(torch.ones(1, 1, 3, 3))[0, 0]
    assert image.tolist() == [[4, 4, 2], [4, 4, 2], [2, 2, 1]]


def _biased_twin(network: Network) -> Network:
    """The same textbook network, but with biases, far from zero, before its BN."""
    twin = textbook("relu", bias=True)
    twin.load_state_dict(network.state_dict(), strict=False)
    for layer in (twin.dense1, twin.dense2, twin.dense3):
        nn.init.uniform_(layer.bias, -5, 5)
    return twin


def test_a_bias_before_normalization_changes_nothing() -> None:
    """In training, BN takes the mean away and the bias with it; only its own statistics know."""
    torch.manual_seed(0)
    plain = textbook("relu")
    biased = _biased_twin(plain)
    images = torch.rand(64, 1, 8, 8)
    torch.testing.assert_close(biased(images), plain(images), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(biased.norm1.running_mean, plain.norm1.running_mean)


def test_a_bias_before_normalization_gets_no_gradient() -> None:
    """Its gradient is rounding; that of the weight beside it is not."""
    torch.manual_seed(0)
    network = _biased_twin(textbook("relu"))
    labels = torch.arange(64) % 10
    nn.functional.cross_entropy(network(torch.rand(64, 1, 8, 8)), labels).backward()
    for layer in (network.dense1, network.dense2, network.dense3):
        assert layer.bias.grad.abs().max() < 1e-6
        assert layer.weight.grad.abs().max() > 1e-3
    assert network.head.bias.grad.abs().max() > 1e-3
