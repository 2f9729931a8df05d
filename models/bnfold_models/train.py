"""How does a network learn? Shortly, from a seed, and the same way every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bnfold_models.dataset import Dataset, Split
from bnfold_models.network import Network

MINIMUM_BATCH = 2
"""A batch of one has no variance to normalize by."""


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train; the defaults are those of the studies."""

    epochs: int = 10
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    """"sgd" has momentum 0.9 and Nesterov's correction."""
    learning_rate: float = 0.01
    seed: int = 0
    """Orders the images; the weights have a seed of their own in `build`."""
    threads: int = 1
    """Another number of threads adds in another order, and may round differently."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < MINIMUM_BATCH or self.threads < 1:
            raise ValueError(f"epochs and threads must be 1 or more, batch_size 2: {self}")


@dataclass(frozen=True, slots=True)
class Score:
    """Mean cross entropy, and the share of images told right."""

    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training images: what it scored on the way, and on the test images."""

    number: int
    train: Score
    test: Score


def train(
    network: Network,
    dataset: Dataset,
    options: TrainOptions | None = None,
    *,
    after_epoch: Callable[[Epoch], None] | None = None,
) -> tuple[Epoch, ...]:
    """Train in place and return the history; the network is left in eval mode.

    Images are scaled to what the network reads. Torch's settings are as before when it returns.
    Raises DataError where images have other channels than the network reads.
    """
    options = options or TrainOptions()
    dataset = dataset.fit(network.input_shape)
    order = torch.Generator().manual_seed(options.seed)
    history = []
    with deterministic(options.threads):
        optimizer = make_optimizer(network, options)
        for number in range(1, options.epochs + 1):
            learned = _learn(network, dataset.train, optimizer, options.batch_size, order)
            tested = evaluate(network, dataset.test, batch_size=options.batch_size)
            history.append(Epoch(number, learned, tested))
            if after_epoch:
                after_epoch(history[-1])
    return tuple(history)


@torch.no_grad()
def evaluate(network: Network, split: Split, *, batch_size: int = 128) -> Score:
    """Score a network on images of the size it reads; it is left in eval mode."""
    network.eval()
    score = _RunningScore()
    for chosen in torch.arange(len(split)).split(batch_size):
        images, labels = batch(split, chosen)
        logits = network.logits(images)
        score.add(nn.functional.cross_entropy(logits, labels), logits, labels)
    return score.mean()


def make_optimizer(network: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    """The optimizer that the options name."""
    if options.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    return torch.optim.SGD(
        network.parameters(), lr=options.learning_rate, momentum=0.9, nesterov=True
    )


def batch(split: Split, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The chosen images as float32 (N, C, H, W) from 0 to 1, and their labels int64 (N,)."""
    places = chosen.numpy()
    images = torch.from_numpy(split.images[places]).to(torch.float32) / 255
    return images, torch.from_numpy(split.labels[places])


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Let torch compute the same way every time, and put its settings back afterwards."""
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    before = torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        torch.set_num_threads(before)


def _learn(
    network: Network,
    split: Split,
    optimizer: torch.optim.Optimizer,
    batch_size: int,
    order: torch.Generator,
) -> Score:
    """One pass over all images in a new order."""
    network.train()
    score = _RunningScore()
    for chosen in torch.randperm(len(split), generator=order).split(batch_size):
        if len(chosen) < MINIMUM_BATCH:
            continue
        images, labels = batch(split, chosen)
        optimizer.zero_grad()
        logits = network.logits(images)
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        score.add(loss, logits, labels)
    return score.mean()


class _RunningScore:
    """Sums over batches."""

    def __init__(self) -> None:
        self.images = 0
        self.loss = 0.0
        self.right = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.images += len(labels)
        self.loss += loss.item() * len(labels)
        self.right += int((logits.argmax(dim=1) == labels).sum())

    def mean(self) -> Score:
        images = max(self.images, 1)
        return Score(self.loss / images, self.right / images)
