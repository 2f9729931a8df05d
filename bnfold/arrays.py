"""What arrays does a file hold? Their headers first, the numbers when they are asked for.

A header says type and shape in a few bytes, and an archive the size of each member: so what does
not fit the model, or the memory, is refused before anything of it is read or unpacked. A header
is not believed either: the bytes must be as many as it says.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from bnfold.errors import InputError
from bnfold.memory import shortage
from bnfold.regular import opened, read, size_of

Array = NDArray[Any]

HEADER = (1 << 16) + 12
"""Bytes that the header of an .npy file takes at most."""
PIECE = 1 << 20
MOST_MEMBERS = 10_000
"""Arrays of an archive; a model has fewer inputs."""
MOST_TENSOR = 2**31 - 1
"""Bytes of a serialized tensor: protobuf reads no more."""
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    TypeError,
    RecursionError,
    MemoryError,
    RuntimeError,  # a member that is locked
    NotImplementedError,  # one that is packed in a way that Python does not know
    tokenize.TokenError,  # a header that is no Python
    zipfile.BadZipFile,
    zlib.error,
)
"""What the readers of headers and archives raise where something is wrong."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An array that was not read yet."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    load: Callable[[], Array]

    @property
    def bytes(self) -> int:
        """How much memory it takes."""
        return self.dtype.itemsize * math.prod(self.shape)


def load_all(stored: Mapping[str, Stored], where: str) -> dict[str, Array]:
    """The arrays themselves. Raises InputError where they do not fit into the memory."""
    short = shortage(sum(array.bytes for array in stored.values()))
    if short is not None:
        raise InputError(f"{where} cannot be read: {short}", "give less data at a time")
    return {name: array.load() for name, array in stored.items()}


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """A file that is open; whatever is wrong with it is an InputError."""
    with opened(path) as file:
        try:
            yield file
        except UNREADABLE as error:
            raise InputError(
                f"{path} cannot be read: {error}",
                "numpy.savez(path, input_name=array) writes one",
            ) from error


# --- NumPy's own files ---------------------------------------------------------------------


def read_npy(path: Path) -> Stored:
    """The array of an .npy file. Raises InputError."""
    with _reading(path) as file:
        header = _header(file, size_of(file))

    def load() -> Array:
        with _reading(path) as file:
            return header.fill(file)

    return Stored(header.dtype, header.shape, load)


def read_npz(path: Path) -> dict[str, Stored]:
    """The arrays of an .npz file by their names. Raises InputError."""
    found: dict[str, Stored] = {}
    with _reading(path) as file, zipfile.ZipFile(file) as archive:
        if len(archive.infolist()) > MOST_MEMBERS:
            raise ValueError(f"it holds more than {MOST_MEMBERS} arrays")
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in found:
                raise ValueError(f"it holds {name} twice")
            found[name] = _member(path, archive, member)
    return found


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Stored:
    with archive.open(member) as file:
        header = _header(file, member.file_size)

    def load() -> Array:
        with _reading(path) as whole, zipfile.ZipFile(whole) as again, again.open(member) as file:
            return header.fill(file)

    return Stored(header.dtype, header.shape, load)


@dataclass(frozen=True, slots=True)
class _Header:
    """What the beginning of an .npy file says, and how long it is."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype[Any]
    length: int

    def fill(self, file: Any) -> Array:
        """The array, from a file that stands at its start. Raises ValueError."""
        file.read(self.length)
        flat = np.empty(math.prod(self.shape), self.dtype)
        room, filled = flat.view(np.uint8).data, 0
        while filled < len(room):
            piece = file.read(min(PIECE, len(room) - filled))
            if not piece:
                raise ValueError(f"it ends after {filled} bytes of {len(room)}")
            room[filled : filled + len(piece)] = piece
            filled += len(piece)
        if file.read(1):  # the end is where an archive checks the sum of a member
            raise ValueError("it has more bytes than its header says")
        return flat.reshape(self.shape[::-1]).T if self.by_columns else flat.reshape(self.shape)


def _header(file: Any, size: int) -> _Header:
    """The header of an .npy file of so many bytes. Raises ValueError, and what NumPy raises."""
    start = io.BytesIO(file.read(HEADER))
    version = np.lib.format.read_magic(start)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"its format {version} is not that of plain numbers")
    shape, by_columns, dtype = readers[version](start)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, whose reading could run a program")
    if any(type(dim) is not int or dim < 0 for dim in shape):
        raise ValueError(f"its shape {shape} is none")
    held, said = size - start.tell(), dtype.itemsize * math.prod(shape)
    if held != said:
        raise ValueError(f"it holds {held} bytes where its header says {said}")
    return _Header(shape, by_columns, dtype, start.tell())


# --- tensors of ONNX -----------------------------------------------------------------------


def read_tensor(path: Path) -> tuple[str, Stored]:
    """The tensor of a test set, with its name. Raises InputError."""
    tensor = _parsed(path)
    if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
        raise _no_tensor(path, "its data is in another file, which a test set may not name")
    if tensor.HasField("segment"):
        raise _no_tensor(path, "it is a segment of another one")
    if any(dim < 0 for dim in tensor.dims):
        raise _no_tensor(path, "it has a negative dim")
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError):
        raise _no_tensor(path, f"its type {tensor.data_type} is none") from None
    shape = tuple(tensor.dims)
    if tensor.HasField("raw_data") and dtype.isbuiltin == 1:
        held, said = len(tensor.raw_data), dtype.itemsize * math.prod(shape)
        if held != said:
            raise _no_tensor(path, f"it holds {held} bytes where its dims say {said}")

    def load() -> Array:
        try:
            return numpy_helper.to_array(tensor)
        except UNREADABLE as error:
            raise _no_tensor(path, str(error)) from error

    return tensor.name, Stored(dtype, shape, load)


def _parsed(path: Path) -> TensorProto:
    tensor = TensorProto()
    try:
        tensor.ParseFromString(read(path, MOST_TENSOR))
    except InputError:
        raise
    except Exception as error:  # protobuf's DecodeError shares no base but Exception
        raise _no_tensor(path, str(error)) from error
    return tensor


def _no_tensor(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is no serialized tensor that can be fed: {why}",
        "onnx.numpy_helper.from_array makes one",
    )
