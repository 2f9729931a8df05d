"""Loaders read what is right, and say what is wrong and what to do."""

from __future__ import annotations

import gzip
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bnfold_models.data import FASHION_CLASSES, DataError, Dataset, Split, load
from bnfold_models.dataset import resize
from bnfold_models.embedded import pictures
from bnfold_models.readers import read_folder

IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}

Arrays = dict[str, np.ndarray]


@pytest.fixture
def arrays(rng: np.random.Generator) -> Arrays:
    """Seven training images of 5x4 and three to test on, in Keras's layout."""
    return {
        "x_train": rng.integers(0, 256, (7, 5, 4), np.uint8),
        "y_train": np.array([0, 1, 2, 3, 7, 8, 9], np.uint8),
        "x_test": rng.integers(0, 256, (3, 5, 4), np.uint8),
        "y_test": np.array([9, 0, 4], np.uint8),
    }


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path: Path, arrays: Arrays) -> Path:
    for key, name in IDX_NAMES.items():
        (tmp_path / name).write_bytes(idx_bytes(arrays[key]))
    return tmp_path


@pytest.fixture
def save_npz(tmp_path: Path, arrays: Arrays) -> Callable[..., Path]:
    """Write the arrays, some of them replaced or (None) left out."""

    def save(**changes: np.ndarray | None) -> Path:
        path = tmp_path / "data.npz"
        np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
        return path

    return save


def assert_holds(dataset: Dataset, arrays: Arrays) -> None:
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        np.testing.assert_array_equal(split.images[:, 0], arrays[f"x_{part}"])
        np.testing.assert_array_equal(split.labels, arrays[f"y_{part}"])
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)


class TestEmbedded:
    def test_digits_are_all_there_and_cut_once(self, digits: Dataset) -> None:
        assert (len(digits.train), len(digits.test)) == (1438, 359)
        assert digits.image_shape == (1, 8, 8)
        assert digits.train.images.max() == 255
        assert set(digits.test.labels) == set(range(10))

    def test_the_seed_decides_which_digits_are_for_testing(self, digits: Dataset) -> None:
        np.testing.assert_array_equal(load("digits", seed=0).test.images, digits.test.images)
        assert not np.array_equal(load("digits", seed=1).test.labels, digits.test.labels)

    def test_pictures_are_two_classes_in_equal_parts(self, few_pictures: Dataset) -> None:
        assert few_pictures.image_shape == (3, 224, 224)
        assert np.bincount(few_pictures.train.labels).tolist() == [4, 4]
        assert few_pictures.classes == ("stripes", "discs")

    def test_pictures_are_drawn_from_the_seed(self) -> None:
        first, same, other = (pictures(train=2, test=2, size=16, seed=seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first.train.images, same.train.images)
        assert not np.array_equal(first.train.images, other.train.images)
        assert not np.array_equal(first.train.images, first.test.images)

    def test_without_scikit_learn_the_digits_say_how_to_get_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        with pytest.raises(DataError, match="pip install scikit-learn"):
            load("digits")

    def test_what_is_not_there_is_answered_with_what_could_be(self) -> None:
        with pytest.raises(DataError, match="at mnits; give one of mnist, fashion, digits, im"):
            load("mnits")


class TestDataset:
    def test_labels_beyond_the_classes_are_refused(self) -> None:
        split = Split(np.zeros((2, 1, 3, 3), np.uint8), np.array([0, 2]))
        with pytest.raises(DataError, match=r"labels from 0 to 2, but 2 classes; .* 0 to 1"):
            Dataset("x", ("a", "b"), split, split)

    def test_negative_labels_are_refused(self) -> None:
        split = Split(np.zeros((2, 1, 3, 3), np.uint8), np.array([-1, 1]))
        with pytest.raises(DataError, match="labels from -1 to 1"):
            Dataset("x", ("a", "b"), split, split)

    @pytest.mark.parametrize(
        "images", [np.zeros((2, 3, 3), np.uint8), np.zeros((2, 1, 3, 3), np.float32)]
    )
    def test_images_of_another_shape_or_type_are_refused(self, images: np.ndarray) -> None:
        split = Split(images, np.array([0, 1]))
        with pytest.raises(DataError, match="images must be uint8"):
            Dataset("x", ("a", "b"), split, split)

    def test_an_empty_part_is_refused(self) -> None:
        split = Split(np.zeros((2, 1, 3, 3), np.uint8), np.array([0, 1]))
        with pytest.raises(DataError, match="the test part of x is empty"):
            Dataset("x", ("a", "b"), split, split.head(0))

    def test_parts_of_different_size_are_refused(self) -> None:
        parts = [Split(np.zeros((2, 1, 3, width), np.uint8), np.array([0, 1])) for width in (3, 4)]
        with pytest.raises(DataError, match=r"\(1, 3, 3\) and test images of \(1, 3, 4\)"):
            Dataset("x", ("a", "b"), *parts)

    def test_images_cannot_be_changed(self, digits: Dataset) -> None:
        with pytest.raises(ValueError, match="read-only"):
            digits.train.images[0] = 0

    def test_head_takes_the_first_of_each_part(self, digits: Dataset) -> None:
        head = digits.head(5, 3)
        assert (len(head.train), len(head.test)) == (5, 3)
        np.testing.assert_array_equal(head.train.images, digits.train.images[:5])


class TestResize:
    def test_a_constant_stays_constant(self) -> None:
        images = np.full((2, 1, 8, 8), 77, np.uint8)
        assert (resize(images, 28, 20) == 77).all()

    def test_a_ramp_stays_a_ramp(self) -> None:
        """Between the centres of the old pixels; outside it is as the nearest."""
        ramp = np.array([0, 100, 200], np.uint8).reshape(1, 1, 1, 3)
        assert resize(ramp, 1, 6)[0, 0, 0].tolist() == [0, 25, 75, 125, 175, 200]

    def test_height_and_width_are_not_confused(self, rng: np.random.Generator) -> None:
        images = rng.integers(0, 256, (2, 3, 4, 6), np.uint8)
        turned = resize(images.transpose(0, 1, 3, 2), 11, 9)
        np.testing.assert_array_equal(resize(images, 9, 11), turned.transpose(0, 1, 3, 2))

    def test_its_own_size_is_the_same(self, digits: Dataset) -> None:
        assert digits.resized(8, 8) is digits


class TestIdx:
    def test_files_as_published(self, idx_folder: Path, arrays: Arrays) -> None:
        dataset = load(idx_folder)
        assert_holds(dataset, arrays)
        assert dataset.image_shape == (1, 5, 4)

    def test_packed_files(self, idx_folder: Path, arrays: Arrays) -> None:
        for name in IDX_NAMES.values():
            path = idx_folder / name
            (idx_folder / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
        assert_holds(load(idx_folder), arrays)

    def test_names_with_a_dot(self, idx_folder: Path, arrays: Arrays) -> None:
        for name in IDX_NAMES.values():
            (idx_folder / name).rename(idx_folder / name.replace("-idx", ".idx"))
        assert_holds(load(idx_folder), arrays)

    def test_names_of_classes_are_given(self, idx_folder: Path) -> None:
        assert load(idx_folder, classes=FASHION_CLASSES).classes[9] == "Ankle boot"

    @pytest.mark.parametrize("key", ["y_train", "x_test"])
    def test_a_missing_file_is_named(self, idx_folder: Path, key: str) -> None:
        (idx_folder / IDX_NAMES[key]).unlink()
        with pytest.raises(DataError, match=f"has no {IDX_NAMES[key]}; put the four files"):
            load(idx_folder)

    @pytest.mark.parametrize("size", [0, 3, 15])
    def test_a_file_without_whole_header(self, idx_folder: Path, size: int) -> None:
        path = idx_folder / IDX_NAMES["x_train"]
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(DataError, match="is cut short: it has no whole header"):
            load(idx_folder)

    def test_a_file_cut_short(self, idx_folder: Path) -> None:
        path = idx_folder / IDX_NAMES["x_train"]
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(DataError, match=r"is cut short: its header says \(7, 5, 4\)"):
            load(idx_folder)

    def test_a_file_with_bytes_left_over(self, idx_folder: Path) -> None:
        path = idx_folder / IDX_NAMES["y_test"]
        path.write_bytes(path.read_bytes() + b"\0")
        with pytest.raises(DataError, match=r"bytes left over: its header says \(3,\)"):
            load(idx_folder)

    def test_a_header_of_absurd_size(self, idx_folder: Path) -> None:
        header = struct.pack(">4I", 0x0803, *[0xFFFFFFFF] * 3)
        (idx_folder / IDX_NAMES["x_train"]).write_bytes(header)
        with pytest.raises(DataError, match=r"cannot be read|is cut short"):
            load(idx_folder)

    def test_labels_in_place_of_images(self, idx_folder: Path) -> None:
        labels = np.zeros(40, np.uint8)
        (idx_folder / IDX_NAMES["x_train"]).write_bytes(idx_bytes(labels))
        with pytest.raises(DataError, match="begins with 0x00000801, not with 0x00000803"):
            load(idx_folder)

    def test_packed_bytes_that_are_not_gzip(self, idx_folder: Path) -> None:
        path = idx_folder / IDX_NAMES["x_train"]
        path.rename(f"{path}.gz")
        with pytest.raises(DataError, match=r"cannot be read: .*; download it again"):
            load(idx_folder)

    @pytest.mark.parametrize("keep", [12, -9])
    def test_a_packed_file_cut_short(self, idx_folder: Path, keep: int) -> None:
        path = idx_folder / IDX_NAMES["x_train"]
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes())[:keep])
        path.unlink()
        with pytest.raises(DataError, match="cannot be read"):
            load(idx_folder)

    def test_more_images_than_labels(self, idx_folder: Path, arrays: Arrays) -> None:
        short = idx_bytes(arrays["y_train"][:-1])
        (idx_folder / IDX_NAMES["y_train"]).write_bytes(short)
        with pytest.raises(DataError, match=r"7 images and labels of shape \(6,\)"):
            load(idx_folder)

    def test_a_label_that_names_no_class(self, idx_folder: Path) -> None:
        with pytest.raises(DataError, match="labels from 0 to 9, but 2 classes"):
            load(idx_folder, classes=("cat", "dog"))


class TestNpz:
    def test_grey_images(self, save_npz: Callable[..., Path], arrays: Arrays) -> None:
        assert_holds(load(save_npz()), arrays)

    def test_colours_last_and_labels_in_a_column(
        self, save_npz: Callable[..., Path], rng: np.random.Generator, arrays: Arrays
    ) -> None:
        """As CIFAR-10 comes from Keras."""
        x_train = rng.integers(0, 256, (7, 5, 4, 3), np.uint8)
        column = arrays["y_train"][:, np.newaxis]
        dataset = load(save_npz(x_train=x_train, y_train=column, x_test=x_train[:3]))
        assert dataset.image_shape == (3, 5, 4)
        np.testing.assert_array_equal(dataset.train.images[2, 1], x_train[2, :, :, 1])
        np.testing.assert_array_equal(dataset.train.labels, arrays["y_train"])

    def test_a_missing_array_is_named(self, save_npz: Callable[..., Path]) -> None:
        with pytest.raises(DataError, match=r"has no y_test; it has x_train, y_train, x_test"):
            load(save_npz(y_test=None))

    def test_images_of_another_type(self, save_npz: Callable[..., Path]) -> None:
        with pytest.raises(DataError, match=r"x_train in .* is float32; give uint8"):
            load(save_npz(x_train=np.zeros((7, 5, 4), np.float32)))

    def test_labels_of_another_type(self, save_npz: Callable[..., Path]) -> None:
        with pytest.raises(DataError, match=r"y_train in .* is float64; give whole numbers"):
            load(save_npz(y_train=np.zeros(7)))

    def test_images_of_another_shape(self, save_npz: Callable[..., Path]) -> None:
        with pytest.raises(DataError, match=r"x_test in .* has shape \(3, 20\)"):
            load(save_npz(x_test=np.zeros((3, 20), np.uint8)))

    def test_pickled_objects_are_not_opened(self, save_npz: Callable[..., Path]) -> None:
        with pytest.raises(DataError, match="cannot be read: Object arrays cannot be loaded"):
            load(save_npz(x_train=np.array([object()] * 7)))

    @pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4 and no more"])
    def test_a_file_that_is_no_archive(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "data.npz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"data\.npz is no \.npz archive, or one cut short"):
            load(path)

    def test_an_archive_cut_short(self, save_npz: Callable[..., Path]) -> None:
        path = save_npz()
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(DataError, match="one cut short"):
            load(path)

    def test_a_flipped_bit(self, save_npz: Callable[..., Path]) -> None:
        """The archive's own checksum tells."""
        path = save_npz()
        content = bytearray(path.read_bytes())
        content[300] ^= 1
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            load(path)

    def test_one_array_in_place_of_an_archive(self, tmp_path: Path) -> None:
        path = tmp_path / "data.npz"
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
        with pytest.raises(DataError, match=r"is no \.npz archive"):
            load(path)


class TestFolder:
    """Folders are made with Pillow, and most of these tests need it."""

    @pytest.fixture
    def fill(self) -> Callable[..., None]:
        image = pytest.importorskip("PIL.Image")

        def fill(folder: Path, count: int, grey: int, ending: str = "png") -> None:
            folder.mkdir(parents=True)
            for number in range(count):
                image.new("RGB", (9, 7), (grey, grey, 0)).save(folder / f"{number}.{ending}")

        return fill

    def test_a_folder_for_every_class(self, tmp_path: Path, fill: Callable[..., None]) -> None:
        """A fifth of the images is kept to test on; classes are in the order of their names."""
        fill(tmp_path / "dog", 6, 200)
        fill(tmp_path / "cat", 4, 50, "jpg")
        (tmp_path / "cat" / "Thumbs.db").write_bytes(b"not an image")
        dataset = read_folder(tmp_path, size=8)
        assert dataset.classes == ("cat", "dog")
        assert dataset.image_shape == (3, 8, 8)
        assert (len(dataset.train), len(dataset.test)) == (8, 2)
        for split in (dataset.train, dataset.test):
            bright = split.images[:, 0].mean(axis=(1, 2)) > 100
            np.testing.assert_array_equal(bright, split.labels == 1)
            assert split.images[:, 2].max() < 40

    def test_train_and_test_as_given(self, tmp_path: Path, fill: Callable[..., None]) -> None:
        for part, count in (("train", 3), ("test", 2)):
            for name in ("cat", "dog"):
                fill(tmp_path / part / name, count, 50)
        dataset = load(tmp_path)
        assert dataset.image_shape == (3, 224, 224)
        assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert dataset.test.labels.tolist() == [0, 0, 1, 1]

    def test_a_class_missing_in_test(self, tmp_path: Path, fill: Callable[..., None]) -> None:
        for folder in ("train/cat", "train/dog", "test/cat"):
            fill(tmp_path / folder, 1, 50)
        with pytest.raises(DataError, match=r"dog is missing; give every class a folder in"):
            load(tmp_path)

    def test_a_broken_image_is_named(self, tmp_path: Path, fill: Callable[..., None]) -> None:
        fill(tmp_path / "cat", 2, 50)
        fill(tmp_path / "dog", 2, 50)
        (tmp_path / "dog" / "1.png").write_bytes(b"\x89PNG and no more")
        with pytest.raises(DataError, match=r"1\.png cannot be read: .*; replace it or remove it"):
            load(tmp_path)

    def test_an_image_cut_short_is_named(self, tmp_path: Path, fill: Callable[..., None]) -> None:
        fill(tmp_path / "cat", 1, 50)
        fill(tmp_path / "dog", 1, 50, "jpeg")
        path = tmp_path / "dog" / "0.jpeg"
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(DataError, match=r"0\.jpeg cannot be read"):
            load(tmp_path)

    def test_one_class_is_not_enough(self, tmp_path: Path) -> None:
        (tmp_path / "cat").mkdir()
        (tmp_path / ".hidden").mkdir()
        with pytest.raises(DataError, match=r"has 1 folders of images; .* at least two"):
            load(tmp_path)

    def test_a_class_without_images(self, tmp_path: Path) -> None:
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir()
        with pytest.raises(DataError, match=r"cat has no image; put \.png or \.jpg files there"):
            load(tmp_path)

    def test_without_pillow_it_says_how_to_get_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "1.png").write_bytes(b"")
        monkeypatch.setitem(sys.modules, "PIL.Image", None)
        with pytest.raises(DataError, match="pip install pillow"):
            load(tmp_path)
