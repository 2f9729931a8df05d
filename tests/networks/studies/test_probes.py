"""Probes see what is there, and change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bnfold_models import build
from bnfold_models.data import Dataset
from bnfold_models.network import normalizations
from bnfold_models.studies.probes import (
    AVERAGE,
    SHARES,
    Gradients,
    InputQuantiles,
    MovingStatistics,
)
from bnfold_models.studies.running import Probe
from bnfold_models.train import TrainOptions, train

OPTIONS = TrainOptions(epochs=2, batch_size=32)


def watched(name: str, probe: Probe, digits: Dataset):
    network = build(name)
    with probe.watching(network):
        history = train(network, digits, OPTIONS)
    return network, history, probe.arrays()


@pytest.mark.parametrize("probe", [MovingStatistics, InputQuantiles, Gradients])
def test_watching_changes_nothing(probe: type[Probe], few_digits: Dataset) -> None:
    network = build("digits-relu-bn2")
    alone = train(network, few_digits, OPTIONS)
    other, history, _ = watched("digits-relu-bn2", probe(), few_digits)
    assert history == alone
    for one, another in zip(
        network.state_dict().values(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(one, another)


def test_an_average_that_keeps_nine_tenths_is_torch_s_own(few_digits: Dataset) -> None:
    """Momentum 0.1 in PyTorch's meaning, 0.9 in Keras's."""
    network, _, arrays = watched("digits-relu-bn2", MovingStatistics(), few_digits)
    for number, layer in enumerate(normalizations(network), 1):
        assert layer.momentum == 0.1
        for part, own in (("mean", layer.running_mean), ("var", layer.running_var)):
            np.testing.assert_allclose(arrays[f"EMA 0.9/norm{number}/{part}"], own, rtol=1e-4)


def test_the_plain_average_is_torch_s_without_momentum(few_digits: Dataset) -> None:
    network, probe = build("digits-relu-bn2"), MovingStatistics()
    for layer in normalizations(network):
        layer.momentum = None
    with probe.watching(network):
        train(network, few_digits, OPTIONS)
    layer = normalizations(network)[1]
    np.testing.assert_allclose(
        probe.arrays()[f"{AVERAGE}/norm2/mean"], layer.running_mean, rtol=1e-4
    )


def test_quantiles_rise_and_are_of_every_hidden_layer(few_digits: Dataset) -> None:
    _, _, arrays = watched("digits-sigmoid-bn4", InputQuantiles(), few_digits)
    for layer in ("dense2", "dense3", "dense4", "head"):
        track = arrays[f"quantiles/{layer}"]
        assert track.shape == (2, len(SHARES))  # 8 steps, one in five
        assert (np.diff(track, axis=1) >= 0).all()
    assert arrays["inputs/norm1"].shape == (len(few_digits.test), 512)


def test_only_the_bias_before_a_normalization_gets_no_gradient(few_digits: Dataset) -> None:
    network, _, arrays = watched("textbook-relu-bias", Gradients(), few_digits)
    hidden = [name for name, layer in network.named_children() if isinstance(layer, nn.Linear)]
    *hidden, head = hidden
    for name in hidden:
        assert arrays[f"{name}/bias"] < 1e-5 * arrays[f"{head}/bias"]
        assert arrays[f"{name}/weight"] > 1e-2 * arrays[f"{head}/weight"]
