"""What do networks learn from? Labelled images in two parts, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class DataError(Exception):
    """Data that cannot be used; `hint` is one sentence on what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images uint8 (N, C, H, W) and their labels int64 (N,); arrays that cannot be written to."""

    images: Images
    labels: Labels

    def __post_init__(self) -> None:
        self.images.flags.writeable = False
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, count: int) -> Split:
        """The first `count` images, or all if there are fewer."""
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Images of named classes, one part to train on and one to test on.

    Raises DataError for a part that is empty, has another shape or type than (N, C, H, W) uint8,
    not one label an image, or labels that name no class.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split

    def __post_init__(self) -> None:
        for part, split in (("training", self.train), ("test", self.test)):
            _check(f"the {part} part of {self.name}", split, len(self.classes))
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise DataError(
                f"{self.name} has training images of {self.train.images.shape[1:]} "
                f"and test images of {self.test.images.shape[1:]}",
                "make them the same size (channels, height, width)",
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def head(self, train: int, test: int) -> Dataset:
        """The first few of each part, for a short training."""
        return replace(self, train=self.train.head(train), test=self.test.head(test))

    def resized(self, height: int, width: int) -> Dataset:
        """Every image scaled to that size, linearly between pixel centres."""
        if self.image_shape[1:] == (height, width):
            return self
        return replace(
            self,
            train=Split(resize(self.train.images, height, width), self.train.labels),
            test=Split(resize(self.test.images, height, width), self.test.labels),
        )

    def fit(self, input_shape: tuple[int, int, int]) -> Dataset:
        """Scale to what a network reads, (C, H, W). Raises DataError on other channels."""
        channels, height, width = input_shape
        if self.image_shape[0] != channels:
            raise DataError(
                f"the network reads images of {channels} channels, "
                f"those of {self.name} have {self.image_shape[0]}",
                "choose other data, or another network",
            )
        return self.resized(height, width)


def resize(images: Images, height: int, width: int) -> Images:
    """Scale (N, C, H, W) to (N, C, height, width) linearly; outside is as the nearest edge."""
    rows = _interpolation(images.shape[2], height)  # (height, H)
    columns = _interpolation(images.shape[3], width)  # (width, W)
    scaled = rows @ images.astype(np.float64) @ columns.T
    return np.rint(scaled).astype(np.uint8)


def _interpolation(old: int, new: int) -> NDArray[np.float64]:
    """The matrix (new, old) that reads a line of pixels at `new` evenly spaced places."""
    places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    distance = np.abs(places[:, np.newaxis] - np.arange(old))
    weights: NDArray[np.float64] = np.clip(1 - distance, 0, None)
    return weights


def _check(what: str, split: Split, classes: int) -> None:
    images, labels = split.images, split.labels
    if images.ndim != 4 or images.dtype != np.uint8:
        raise DataError(
            f"{what} has images of shape {images.shape} and type {images.dtype}",
            "images must be uint8 (count, channels, height, width)",
        )
    if labels.shape != (len(images),):
        raise DataError(
            f"{what} has {len(images)} images and labels of shape {labels.shape}",
            "give one label an image",
        )
    if not len(images):
        raise DataError(f"{what} is empty", "give at least one image")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"{what} has labels from {labels.min()} to {labels.max()}, but {classes} classes",
            f"labels must be 0 to {classes - 1}",
        )
