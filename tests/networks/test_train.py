"""Training is short, leaves real statistics behind, and happens the same way every time."""

from __future__ import annotations

import pytest
import torch

from bnfold_models import build
from bnfold_models.data import DataError, Dataset
from bnfold_models.network import normalizations
from bnfold_models.train import Epoch, TrainOptions, batch, evaluate, train

SHORT = TrainOptions(epochs=2, batch_size=32)


def test_the_digits_are_learned(digits: Dataset) -> None:
    """Five passes are enough to tell nine of ten digits that were not trained on."""
    network = build("digits-relu-bn2")
    untrained = evaluate(network, digits.test)
    history = train(network, digits, TrainOptions(epochs=5, batch_size=32))
    assert untrained.accuracy < 0.3
    assert history[-1].test.accuracy > 0.9
    assert [epoch.number for epoch in history] == [1, 2, 3, 4, 5]
    assert history[-1].train.loss < history[0].train.loss / 3


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_same_seed_gives_the_same_weights_and_history(
    few_digits: Dataset, optimizer: str
) -> None:
    options = TrainOptions(epochs=2, batch_size=32, optimizer=optimizer)
    networks = [build("digits-sigmoid-bn4") for _ in range(2)]
    first, second = (train(network, few_digits, options) for network in networks)
    assert first == second
    for one, other in zip(*(net.state_dict().values() for net in networks), strict=True):
        assert torch.equal(one, other)


def test_another_seed_takes_the_images_in_another_order(few_digits: Dataset) -> None:
    histories = [
        train(build("textbook-relu"), few_digits, TrainOptions(epochs=1, batch_size=32, seed=seed))
        for seed in (0, 1)
    ]
    assert histories[0] != histories[1]


@pytest.mark.parametrize("name", ["fashion", "textbook-sigmoid", "images-deep"])
def test_running_statistics_are_real(name: str, few: dict[int, Dataset]) -> None:
    """Every BN has left its initial mean 0 and variance 1 behind."""
    network = build(name)
    train(network, few[network.input_shape[0]], TrainOptions(epochs=1, batch_size=4))
    for layer in normalizations(network):
        assert layer.running_mean.abs().max() > 0.01
        assert (layer.running_var - 1).abs().max() > 0.01


def test_running_statistics_come_close_to_those_of_the_data(digits: Dataset) -> None:
    """The BN of the pixels has nothing that learns before it, so its statistics are known."""
    dataset = digits.fit((1, 28, 28))
    network = build("fashion")
    train(network, dataset, SHORT)
    pixels, _ = batch(dataset.train, torch.arange(len(dataset.train)))
    exact = pixels.flatten(1).mean(dim=0)
    assert (network.norm0.running_mean - exact).abs().max() < 0.1


def test_the_network_is_left_ready_for_use(few_digits: Dataset) -> None:
    network = build("textbook-relu")
    train(network, few_digits, SHORT)
    assert not network.training


def test_settings_of_torch_are_put_back(few_digits: Dataset) -> None:
    def settings() -> tuple[int, bool]:
        return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()

    before = settings()
    inside = []
    options = TrainOptions(epochs=1, batch_size=32, threads=2)
    train(
        build("textbook-relu"),
        few_digits,
        options,
        after_epoch=lambda _: inside.append(settings()),
    )
    assert inside == [(2, True)]
    assert settings() == before


def test_every_epoch_is_reported(few_digits: Dataset) -> None:
    seen: list[Epoch] = []
    assert train(build("textbook-relu"), few_digits, SHORT, after_epoch=seen.append) == tuple(seen)


def test_a_last_batch_of_one_image_is_left_out(few_digits: Dataset) -> None:
    """33 images in batches of 32: the variance of one image is not defined."""
    history = train(build("textbook-relu"), few_digits.head(33, 1), SHORT)
    assert len(history) == 2


def test_images_of_other_channels_are_refused(few_digits: Dataset) -> None:
    with pytest.raises(DataError, match="reads images of 3 channels, those of digits have 1"):
        train(build("images-deep"), few_digits, SHORT)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 1}, {"threads": 0}])
def test_options_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        TrainOptions(**wrong)
