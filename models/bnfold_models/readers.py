"""Which files of images can be read? MNIST's IDX, Keras's .npz, a folder for every class."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from bnfold_models.dataset import DataError, Dataset, Images, Labels, Split
from bnfold_models.embedded import DIGIT_CLASSES, shuffled

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

IDX_PARTS = {"train": "train", "test": "t10k"}

IDX_IMAGES = 0x0803
"""Magic number: unsigned bytes (08) in 3 dimensions."""

IDX_LABELS = 0x0801

NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})


def read_idx(folder: Path, *, classes: Sequence[str] = DIGIT_CLASSES) -> Dataset:
    """MNIST or Fashion-MNIST as published: four IDX files, plain or `.gz`.

    Raises DataError for a file that is missing, is not IDX, is cut short, or holds too much.
    """
    train, test = (
        Split(
            _read_idx_file(_idx_path(folder, part, "images-idx3"), IDX_IMAGES)[:, np.newaxis],
            _read_idx_file(_idx_path(folder, part, "labels-idx1"), IDX_LABELS).astype(np.int64),
        )
        for part in IDX_PARTS.values()
    )
    return Dataset(name=folder.name, classes=tuple(classes), train=train, test=test)


def read_npz(path: Path, *, classes: Sequence[str] = DIGIT_CLASSES) -> Dataset:
    """The layout of `keras.datasets`: x_train, y_train, x_test, y_test, colours last.

    Raises DataError for a file that is not an archive, misses an array, or holds another type.
    """
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is no .npz archive, or one cut short", "give a whole .npz file")
    try:
        # An open file, not its path: numpy leaves a path that it cannot read open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            _require_keys(path, archive.files)
            arrays = {key: archive[key] for key in NPZ_KEYS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}", "give a whole .npz file") from error
    train, test = (
        Split(
            _channels_first(path, f"x_{part}", arrays[f"x_{part}"]),
            _flat_labels(path, f"y_{part}", arrays[f"y_{part}"]),
        )
        for part in ("train", "test")
    )
    return Dataset(name=path.stem, classes=tuple(classes), train=train, test=test)


def read_folder(folder: Path, *, size: int = 224, seed: int = 0) -> Dataset:
    """PNG and JPEG files, a folder for every class, scaled to (3, size, size).

    Either `FOLDER/train/CLASS/*` and `FOLDER/test/CLASS/*`, or `FOLDER/CLASS/*`, of which a
    seeded fifth is kept to test on. Other files are passed over. Raises DataError for fewer than
    two classes, a class without images, an image that cannot be read, or without Pillow.
    """
    if not (folder / "train").is_dir():
        classes = _class_names(folder)
        split = _read_classes(folder, classes, size)
        return shuffled(folder.name, classes, split.images, split.labels, seed=seed)
    classes = _class_names(folder / "train")
    return Dataset(
        name=folder.name,
        classes=classes,
        train=_read_classes(folder / "train", classes, size),
        test=_read_classes(folder / "test", classes, size),
    )


def has_idx(folder: Path) -> bool:
    """Whether any of the four IDX files is there."""
    return any(_idx_candidates(folder, part, "images-idx3") for part in IDX_PARTS.values())


def _idx_candidates(folder: Path, part: str, kind: str) -> list[Path]:
    """Files that may be it: as published or unpacked, with a dot as some copies have it."""
    stems = (f"{part}-{kind}-ubyte", f"{part}-{kind.replace('-idx', '.idx')}-ubyte")
    names = [stem + ending for stem in stems for ending in ("", ".gz")]
    return [folder / name for name in names if (folder / name).is_file()]


def _idx_path(folder: Path, part: str, kind: str) -> Path:
    candidates = _idx_candidates(folder, part, kind)
    if not candidates:
        raise DataError(
            f"{folder} has no {part}-{kind}-ubyte",
            "put the four files train-* and t10k-* of MNIST there, plain or .gz",
        )
    return candidates[0]


def _read_idx_file(path: Path, magic: int) -> NDArray[np.uint8]:
    """Unsigned bytes in the shape that the header says."""
    try:
        with _open(path) as file:
            shape = _read_idx_header(path, file, magic)
            # One byte too many shows a file longer than it says, without reading all of it.
            content = file.read(math.prod(shape) + 1)
    except (OSError, EOFError, OverflowError, MemoryError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}", "download it again") from error
    if len(content) != math.prod(shape):
        state = "is cut short" if len(content) < math.prod(shape) else "has bytes left over"
        raise DataError(f"{path} {state}: its header says {shape}", "download it again")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_idx_header(path: Path, file: BinaryIO, magic: int) -> tuple[int, ...]:
    """The shape; the last byte of the magic number counts its dimensions."""
    dimensions = magic & 0xFF
    header = file.read(4 + 4 * dimensions)
    if len(header) < 4 + 4 * dimensions:
        raise DataError(f"{path} is cut short: it has no whole header", "download it again")
    found, *shape = struct.unpack(f">{1 + dimensions}I", header)
    if found != magic:
        raise DataError(
            f"{path} begins with 0x{found:08X}, not with 0x{magic:08X}",
            "give an IDX file of unsigned bytes; is it another file under this name?",
        )
    return tuple(shape)


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else path.open("rb"))


def _require_keys(path: Path, found: Sequence[str]) -> None:
    missing = [key for key in NPZ_KEYS if key not in found]
    if missing:
        raise DataError(
            f"{path} has no {', '.join(missing)}; it has {', '.join(found) or 'nothing'}",
            f"give an .npz with {', '.join(NPZ_KEYS)}",
        )


def _channels_first(path: Path, key: str, images: NDArray[Any]) -> Images:
    """(N, H, W) or (N, H, W, C) -> (N, C, H, W)."""
    if images.dtype != np.uint8:
        raise DataError(
            f"{key} in {path} is {images.dtype}", "give uint8 images with values 0 to 255"
        )
    if images.ndim == 3:
        return images[:, np.newaxis]
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    raise DataError(
        f"{key} in {path} has shape {images.shape}",
        "give (count, height, width) or (count, height, width, 1 or 3)",
    )


def _flat_labels(path: Path, key: str, labels: NDArray[Any]) -> Labels:
    """(N,) or (N, 1) of any integer type -> int64 (N,)."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{key} in {path} is {labels.dtype}", "give whole numbers, 0 for a class")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    return labels.astype(np.int64)


def _class_names(folder: Path) -> tuple[str, ...]:
    names = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if len(names) < 2:
        raise DataError(
            f"{folder} has {len(names)} folders of images",
            "make one folder for every class, at least two",
        )
    return tuple(names)


def _read_classes(folder: Path, classes: Sequence[str], size: int) -> Split:
    """Every image of every class, by class and by name."""
    files = [_image_files(folder / name) for name in classes]
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in files])
    images = np.empty((len(labels), 3, size, size), np.uint8)
    pillow = _pillow()
    for image, path in zip(images, (path for paths in files for path in paths), strict=True):
        image[:] = _read_image(pillow, path, size)
    return Split(images, labels.astype(np.int64))


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is missing", "give every class a folder in train and in test")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise DataError(f"{folder} has no image", "put .png or .jpg files there")
    return paths


def _read_image(pillow: ModuleType, path: Path, size: int) -> Images:
    """Any image Pillow can decode -> (3, size, size)."""
    try:
        with pillow.open(path) as image:
            pixels = image.convert("RGB").resize((size, size))
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read: {error}", "replace it or remove it") from error
    return np.asarray(pixels, np.uint8).transpose(2, 0, 1)


def _pillow() -> ModuleType:
    try:
        return import_module("PIL.Image")
    except ImportError as error:
        raise DataError(
            "images are read with Pillow, which is not installed", "run: pip install pillow"
        ) from error
