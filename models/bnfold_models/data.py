"""Where do images come from? One function for embedded data, files and folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bnfold_models.dataset import DataError, Dataset, Split
from bnfold_models.embedded import DIGIT_CLASSES, digits, pictures
from bnfold_models.readers import FASHION_CLASSES, has_idx, read_folder, read_idx, read_npz

__all__ = [
    "DIGIT_CLASSES",
    "EMBEDDED",
    "FASHION_CLASSES",
    "NAMED",
    "DataError",
    "Dataset",
    "Split",
    "load",
]

EMBEDDED: dict[str, Callable[..., Dataset]] = {"digits": digits, "images": pictures}
"""Name -> a function of the seed; none of them downloads anything."""

PUBLISHED: dict[str, tuple[tuple[str, ...], Sequence[str]]] = {
    "mnist": (("data/mnist", "data/mnist.npz", "~/.keras/datasets/mnist.npz"), DIGIT_CLASSES),
    "fashion": (
        ("data/fashion", "data/fashion-mnist", "~/.keras/datasets/fashion-mnist"),
        FASHION_CLASSES,
    ),
}
"""Name -> where it is looked for, and its classes. Keras keeps downloads in these places."""

NAMED = (*PUBLISHED, *EMBEDDED)
"""Every name that `load` knows."""


def load(
    source: str | Path = "digits", *, seed: int = 0, classes: Sequence[str] = DIGIT_CLASSES
) -> Dataset:
    """Read the data of that name, or at that path.

    "mnist" and "fashion" are looked for, never downloaded. A path is an `.npz` file as Keras
    keeps them, a folder of MNIST's IDX files, or a folder with a folder of images for every
    class. `classes` names what the labels of `.npz` and IDX mean; the seed draws embedded
    pictures and cuts off a test part where there is none. Raises DataError that says what is
    wrong and what to do.
    """
    if source in EMBEDDED:
        return EMBEDDED[str(source)](seed=seed)
    if source in PUBLISHED:
        source, classes = _published(str(source))
    path = Path(source)
    if path.is_dir():
        return read_idx(path, classes=classes) if has_idx(path) else read_folder(path, seed=seed)
    if path.suffix == ".npz" and path.is_file():
        return read_npz(path, classes=classes)
    raise DataError(
        f"there is no data at {path}",
        f"give one of {', '.join(NAMED)}, an .npz file, or a folder of IDX files or of images",
    )


def _published(name: str) -> tuple[Path, Sequence[str]]:
    """The first place that is there. Raises DataError that lists them all."""
    places, classes = PUBLISHED[name]
    for place in places:
        path = Path(place).expanduser()
        if path.exists():
            return path, classes
    raise DataError(
        f"{name} is not here: looked for {', '.join(places)}",
        "put its four IDX files, or Keras's .npz, in one of these places, or give their path",
    )
