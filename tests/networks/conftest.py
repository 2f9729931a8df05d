"""Data small enough to learn from in a second, and one thread to do it with."""

from __future__ import annotations

import pytest
import torch

from bnfold_models.data import Dataset, load
from bnfold_models.embedded import pictures

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="session")
def few_digits(digits: Dataset) -> Dataset:
    return digits.head(128, 32)


@pytest.fixture(scope="session")
def few_pictures() -> Dataset:
    return pictures(train=8, test=4)


@pytest.fixture(scope="session")
def few(few_digits: Dataset, few_pictures: Dataset) -> dict[int, Dataset]:
    """By the channels that a network reads."""
    return {1: few_digits, 3: few_pictures}
