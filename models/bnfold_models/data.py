"""Where do images come from? One function for embedded data, files and folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bnfold_models.dataset import DataError, Dataset, Split
from bnfold_models.embedded import DIGIT_CLASSES, digits, pictures
from bnfold_models.readers import FASHION_CLASSES, has_idx, read_folder, read_idx, read_npz

__all__ = ["DIGIT_CLASSES", "EMBEDDED", "FASHION_CLASSES", "DataError", "Dataset", "Split", "load"]

EMBEDDED: dict[str, Callable[..., Dataset]] = {"digits": digits, "images": pictures}
"""Name -> a function of the seed; none of them downloads anything."""


def load(
    source: str | Path = "digits", *, seed: int = 0, classes: Sequence[str] = DIGIT_CLASSES
) -> Dataset:
    """Read the data of that name, or at that path.

    A path is an `.npz` file as Keras keeps them, a folder of MNIST's IDX files, or a folder with
    a folder of images for every class. `classes` names what the labels of `.npz` and IDX mean;
    the seed draws embedded pictures and cuts off a test part where there is none. Raises
    DataError that says what is wrong and what to do.
    """
    if source in EMBEDDED:
        return EMBEDDED[str(source)](seed=seed)
    path = Path(source)
    if path.is_dir():
        return read_idx(path, classes=classes) if has_idx(path) else read_folder(path, seed=seed)
    if path.suffix == ".npz" and path.is_file():
        return read_npz(path, classes=classes)
    raise DataError(
        f"there is no data at {path}",
        f"give one of {', '.join(EMBEDDED)}, an .npz file, or a folder of IDX files or of images",
    )
