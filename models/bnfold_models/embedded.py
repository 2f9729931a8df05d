"""Which data needs no download? Bundled digits, and two kinds of pictures made from a seed."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bnfold_models.dataset import DataError, Dataset, Images, Labels, Split

DIGIT_CLASSES = tuple(str(digit) for digit in range(10))

PICTURE_CLASSES = ("stripes", "discs")

TEST_SHARE = 0.2

Plane = NDArray[np.float64]


def digits(*, seed: int = 0) -> Dataset:
    """scikit-learn's 1,797 handwritten digits, (1, 8, 8), a seeded fifth of them to test on.

    Raises DataError where scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "the bundled digits come with scikit-learn, which is not installed",
            "run: pip install scikit-learn",
        ) from error
    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, np.newaxis]
    return shuffled("digits", DIGIT_CLASSES, images, bunch.target.astype(np.int64), seed=seed)


def pictures(*, train: int = 160, test: int = 40, size: int = 224, seed: int = 0) -> Dataset:
    """Noisy colour pictures (3, size, size) of stripes and of discs, each drawn from the seed."""
    random = np.random.default_rng(seed)
    return Dataset(
        name="pictures",
        classes=PICTURE_CLASSES,
        train=_pictures(train, size, random),
        test=_pictures(test, size, random),
    )


def shuffled(
    name: str, classes: tuple[str, ...], images: Images, labels: Labels, *, seed: int
) -> Dataset:
    """Cut images (N, C, H, W) in a seeded order into four fifths to train on, one to test on."""
    order = np.random.default_rng(seed).permutation(len(labels))
    test, train = np.split(order, [round(len(order) * TEST_SHARE)])
    return Dataset(
        name=name,
        classes=classes,
        train=Split(images[train], labels[train]),
        test=Split(images[test], labels[test]),
    )


def _pictures(count: int, size: int, random: Generator) -> Split:
    """As many of each class, in turn."""
    labels = np.arange(count, dtype=np.int64) % len(PICTURE_CLASSES)
    painters = (_stripes, _discs)
    images = np.empty((count, 3, size, size), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:] = _colour(painters[label](size, random), random)
    return Split(images, labels)


def _grid(size: int) -> tuple[Plane, Plane]:
    """Coordinates -1 to 1 down and across, (size, 1) and (1, size)."""
    line = np.linspace(-1, 1, size)
    return line[:, np.newaxis], line[np.newaxis, :]


def _stripes(size: int, random: Generator) -> Plane:
    """Soft parallel stripes of any direction, (size, size) from 0 to 1."""
    down, across = _grid(size)
    angle, phase = random.uniform(0, 2 * np.pi, 2)
    wave: Plane = random.uniform(6, 14) * (np.cos(angle) * across + np.sin(angle) * down) + phase
    return 0.5 + 0.5 * np.sin(wave)


def _discs(size: int, random: Generator) -> Plane:
    """Four to eight soft discs, more of them near the centre, (size, size) from 0 to 1."""
    down, across = _grid(size)
    plane = np.zeros((size, size))
    for _ in range(random.integers(4, 9)):
        y, x = random.normal(0, 0.4, 2)
        radius = random.uniform(0.1, 0.3)
        distance = np.hypot(down - y, across - x)
        plane = np.maximum(plane, np.clip((radius - distance) * 20, 0, 1))
    return plane


def _colour(plane: Plane, random: Generator) -> Images:
    """(size, size) from 0 to 1 -> uint8 (3, size, size) between two random colours, with noise."""
    dark = random.uniform(0, 0.4, (3, 1, 1))
    bright = random.uniform(0.5, 1, (3, 1, 1))
    image = dark + (bright - dark) * plane + random.normal(0, 0.05, (3, *plane.shape))
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
