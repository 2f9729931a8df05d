"""Where are the values of a model's tensors? In its protobuf, in files, or yet to be computed."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from bnfold.constants import FLOATS, Array, Constant, Part
from bnfold.errors import ModelError
from bnfold.target import Target, Task

MAPPED = 1 << 20
"""Bytes from which on a range is mapped and not read: a process has some 65,000 maps at most."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file as it was when it was looked at."""

    path: Path
    stamp: tuple[int, int, int, int]
    """Device, inode, size and time of its last change."""

    @classmethod
    def at(cls, path: Path) -> DataFile:
        """The file that stands there. Raises OSError."""
        return cls(path, _stamp(path.stat()))

    @classmethod
    def of(cls, path: Path, file: BinaryIO) -> DataFile:
        """The file that was opened there."""
        return cls(path, _stamp(os.fstat(file.fileno())))

    @property
    def is_current(self) -> bool:
        """Whether it still stands there as it was."""
        try:
            return _stamp(self.path.stat()) == self.stamp
        except OSError:
            return False

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.stamp[2]

    def open(self) -> BinaryIO:
        """The same file, for reading. Raises ModelError where it is gone or has changed."""
        try:
            file = self.path.open("rb", buffering=0)
        except OSError as error:
            raise ModelError(
                f"{self.path}, which holds weights, cannot be read: {error.strerror}",
                "check its permissions, and leave it where it is until the work is done",
            ) from None
        if _stamp(os.fstat(file.fileno())) != self.stamp:
            file.close()
            raise ModelError(
                f"{self.path}, which holds weights, has changed since the model was read",
                "start again, and leave the file as it is until the work is done",
            )
        return file


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a file."""

    file: DataFile
    offset: int
    length: int

    def read(self) -> bytes:
        """A copy of them. Raises ModelError."""
        with self.file.open() as file:
            return self._read(file, self.offset, self.length)

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """Them as a read-only array; a large one is mapped, and read where it is looked at."""
        if self.length < MAPPED:
            return _numbers(self.read(), dtype, shape)
        start = self.offset - self.offset % mmap.ALLOCATIONGRANULARITY
        with self.file.open() as file:
            reach = self.offset - start + self.length
            mapped = mmap.mmap(file.fileno(), reach, access=mmap.ACCESS_READ, offset=start)
        return _numbers(memoryview(mapped)[self.offset - start :], dtype, shape)

    def tasks(self, target: Target, place: int) -> Iterator[Task]:
        """What writes them to another file."""

        def copy() -> None:
            with self.file.open() as source:
                target.copy(source, self.offset, self.length, place, self._read)

        yield copy

    def _read(self, file: BinaryIO, offset: int, length: int) -> bytes:
        file.seek(offset)
        parts = []
        while length:
            part = file.read(length)
            if not part:
                raise ModelError(
                    f"{self.file.path} became shorter while it was read",
                    "leave the file as it is until the work is done",
                )
            parts.append(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _numbers(data: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    array = np.frombuffer(data, dtype.newbyteorder("<") if sys.byteorder == "big" else dtype)
    return array.reshape(shape)


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """Bytes that are computed each time somebody wants them, some at a time."""

    constant: Constant

    @property
    def length(self) -> int:
        """How many."""
        return self.constant.nbytes

    def read(self) -> bytes:
        """All of them at once."""
        return b"".join(as_bytes(part.compute()) for part in self.constant.stored_parts())

    def tasks(self, target: Target, place: int) -> Iterator[Task]:
        """What computes and writes them, some at a time."""
        for part in self.constant.stored_parts():
            yield partial(_compute, part, target, place + part.offset)


def _compute(part: Part, target: Target, place: int) -> None:
    target.write(as_bytes(part.compute()), place)


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The raw data of a tensor of another protobuf."""

    tensor: TensorProto
    length: int

    def read(self) -> bytes:
        """A copy of them."""
        data: bytes = self.tensor.raw_data
        return data

    def tasks(self, target: Target, place: int) -> Iterator[Task]:
        """What writes them to a file."""
        yield lambda: target.write(self.tensor.raw_data, place)


Source = Range | Computed | Held


class OutOfRation(Exception):
    """More would be read from files than may be."""


def as_bytes(array: Array) -> memoryview:
    """As ONNX stores numbers: little-endian, the last axis first. Not copied where it is so."""
    plain = np.ascontiguousarray(array if sys.byteorder == "little" else array.byteswap())
    return plain.reshape(-1).view(np.uint8).data


class Weights:
    """The sources of the tensors of one model whose data is not in its protobuf.

    Such a tensor is EXTERNAL there, with offset and length. Its location is a file in `files`, or
    empty: then its offset counts in `kept`.
    """

    __slots__ = ("_is_checking", "files", "kept", "ration", "unchecked")

    def __init__(self) -> None:
        self.files: dict[str, DataFile] = {}
        self.kept: list[Source] = []
        self.ration: int | None = None
        """Bytes of files that may still be read to check new weights; None for any number."""
        self.unchecked = 0
        """New weights that were not checked, because the ration did not last."""
        self._is_checking = False

    def copy(self) -> Weights:
        """An independent table of the same sources."""
        other = Weights()
        other.files, other.kept = dict(self.files), list(self.kept)
        return other

    def source(self, tensor: TensorProto) -> Source | None:
        """Where the tensor's data is; None where the protobuf has it."""
        if tensor.data_location != TensorProto.EXTERNAL:
            return None
        entries = {entry.key: entry.value for entry in tensor.external_data}
        offset = int(entries.get("offset", "0"))
        if not entries["location"]:
            return self.kept[offset]
        return Range(self.files[entries["location"]], offset, int(entries["length"]))

    def kept_source(self, tensor: TensorProto) -> Source | None:
        """Where the data of a tensor is that does not say so itself."""
        is_kept = any(e.key == "location" and not e.value for e in tensor.external_data)
        return self.source(tensor) if is_kept else None

    def hold(self, tensor: TensorProto, source: Source) -> None:
        """Let a tensor have its data from there."""
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("external_data")
        tensor.external_data.add(key="location", value="")
        tensor.external_data.add(key="offset", value=str(len(self.kept)))
        self.kept.append(source)

    def constant(self, tensor: TensorProto) -> Constant:
        """What the tensor is worth, read when it is needed."""
        source = self.source(tensor)
        if source is None:
            return Constant.of_tensor(tensor)
        if isinstance(source, Computed):
            return source.constant
        dtype = FLOATS.get(tensor.data_type)
        if dtype is None:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        shape = tuple(tensor.dims)
        if isinstance(source, Range) and source.length == Constant.bytes_of(shape, dtype):
            return Constant(lambda: self._array(source, dtype, shape), shape, dtype)
        # Elements of less than a byte are packed.
        return Constant(lambda: numpy_helper.to_array(self.loaded(tensor)), shape, dtype)

    def _array(self, source: Range, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        if self._is_checking and self.ration is not None:
            if source.length > self.ration:
                raise OutOfRation
            self.ration -= source.length
        return source.array(dtype, shape)

    @contextlib.contextmanager
    def checking(self) -> Iterator[None]:
        """Within, tensors are read from files only as far as the ration lasts.

        What is to be done with a number that was not read is left out, and counted.
        """
        self._is_checking = True
        try:
            yield
        except OutOfRation:
            self.unchecked += 1
        finally:
            self._is_checking = False

    def loaded(self, tensor: TensorProto) -> TensorProto:
        """A copy of the tensor that holds its data itself."""
        copy = TensorProto()
        copy.CopyFrom(tensor)
        self.load(copy)
        return copy

    def load(self, tensor: TensorProto) -> None:
        """Let a tensor hold its data itself. Raises ModelError where it cannot be read."""
        source = self.source(tensor)
        if source is not None:
            embed(tensor, source.read())


def embed(tensor: TensorProto, data: bytes) -> None:
    """Let a tensor hold its data itself."""
    tensor.raw_data = data
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
