"""How does a model come in safely, and go out whole or not at all?"""

from __future__ import annotations

import contextlib
import difflib
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no types
from onnx import ModelProto

from bnfold.errors import ModelError
from bnfold.external import locate
from bnfold.files import check_output
from bnfold.layout import PROTOBUF_LIMIT
from bnfold.pipes import descriptor_of
from bnfold.publishing import drafted, refuse_weights
from bnfold.stored import StoredModel, byte_size, own_name
from bnfold.validation import EXPORT_AGAIN, checked, is_external, tensors
from bnfold.weights import DataFile, embed
from bnfold.wire import SMALL, Unreadable, cut, refer

__all__ = [
    "PROTOBUF_LIMIT",
    "byte_size",
    "check_beside",
    "check_output",
    "load_model",
    "open_model",
    "save_model",
]

Model = str | Path | ModelProto | StoredModel


# -- reading ------------------------------------------------------------------------------------


def load_model(model: Model) -> ModelProto:
    """Read a model from a path and check it; a ModelProto is checked and comes back as it is.

    Nodes that are out of order, as runtimes accept them, come sorted (a ModelProto is copied for
    that). All data is read, that in other files too. Raises ModelError. Nobody may change the
    result: it may be the caller's own.
    """
    return open_model(model).whole()


def open_model(model: Model) -> StoredModel:
    """Read and check a model, but for the data of its large tensors: that is only located.

    Raises ModelError. The protobuf of a path is the caller's to change, that of a ModelProto is
    not; a StoredModel comes back as it is.
    """
    if isinstance(model, StoredModel):
        return model
    if isinstance(model, ModelProto):
        model = checked(model)
        _refuse_unloaded(model)
        return StoredModel(model)
    path = Path(model)
    with _opened(path) as file:
        loaded = checked(_parse(file, path), str(path))
        return _located(StoredModel(loaded, path=path), {own_name(path): DataFile.of(path, file)})


def _located(stored: StoredModel, known: dict[str, DataFile]) -> StoredModel:
    """The model, once it was checked where each external tensor is, and small ones were read."""
    assert stored.path is not None
    for owner, tensor in tensors(stored.proto):
        if not is_external(tensor):
            continue
        location, place = locate(owner, tensor, stored.path, known)
        if location != own_name(stored.path):
            stored.data_files |= {place.file.path}
        if place.length < SMALL:
            embed(tensor, place.read())
        else:
            refer(tensor, location, place.offset, place.length)
            stored.weights.files[location] = place.file
    return stored


def _refuse_unloaded(model: ModelProto) -> None:
    for owner, tensor in tensors(model):
        if is_external(tensor):
            raise ModelError(
                f"tensor `{owner}` keeps its data in another file that was not loaded",
                "pass the model's path instead, or load it with onnx.load(path)",
            )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A model file, or a ModelError that says what stands there instead."""
    try:
        if descriptor_of(path) is not None:
            raise ModelError(
                f"{path} stands for another stream in each process",
                "name a file, or read it yourself: onnx.load_model_from_string(data)",
            )
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ModelError(f"{path} is a folder, not a model file", _name_a_model_in(path))
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path} is not a regular file", "name an .onnx file")
        if status.st_size > PROTOBUF_LIMIT:
            raise ModelError(
                f"{path} is {status.st_size / 2**30:.1f} GiB; protobuf reads 2 GiB at most",
                "export the model with its weights as external data",
            )
        file = path.open("rb")
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist", _suggest(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"{path} cannot be read: {reason}", "check the path") from None
    with file:
        yield file


def _name_a_model_in(folder: Path) -> str:
    with contextlib.suppress(OSError):
        for model in sorted(folder.glob("*.onnx"))[:1]:
            return f"name a file in it, for example {model}"
    return "name an .onnx file"


def _suggest(path: Path) -> str:
    with contextlib.suppress(OSError):
        names = [entry.name for entry in path.parent.iterdir()]
        for name in difflib.get_close_matches(path.name, names, n=1):
            return f"did you mean {path.with_name(name)}?"
    return "check the path"


def _parse(file: BinaryIO, path: Path) -> ModelProto:
    """The model in a file, its large tensors referring to the file. Raises ModelError."""
    if os.fstat(file.fileno()).st_size == 0:
        raise ModelError(f"{path} is empty", EXPORT_AGAIN)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for signature, (what, hint) in LOOKALIKES.items():
            if data[:64].lstrip().startswith(signature):
                raise ModelError(f"{path} is {what}, not an ONNX model", hint)
        try:
            model = ModelProto()
            model.ParseFromString(_light(data, own_name(path)))
            return model
        except DecodeError as error:
            message = f"{path} {_why_unreadable(data, str(error))}"
            raise ModelError(message, EXPORT_AGAIN) from None


def _light(data: mmap.mmap, location: str) -> bytes:
    """The serialized model without large data; all of it where protobuf has to say why not."""
    if len(data) >= SMALL:
        with contextlib.suppress(Unreadable), memoryview(data) as view:
            return cut(view, location)
    return data[:]


LOOKALIKES = {
    b"version https://git-lfs": (
        "a Git LFS pointer",
        "fetch the file itself with `git lfs pull`",
    ),
    b"<": ("a web page or XML", "download the file itself, not the page that shows it"),
    b"PK\x03\x04": (
        "a ZIP archive or a PyTorch checkpoint",
        "unpack it, or export the network with torch.onnx.export",
    ),
    b"\x1f\x8b": ("compressed with gzip", "unpack it with gunzip first"),
    b"\x89HDF": ("an HDF5 file", "convert the network with tf2onnx first"),
}


def _why_unreadable(data: mmap.mmap, parser_message: str) -> str:
    if "MaxDepth" in parser_message or "recursion" in parser_message:
        return "nests its subgraphs too deeply to be read"
    missing = _missing_bytes(data)
    if missing:
        return f"is truncated: at least {missing:,} bytes are missing at its end"
    with contextlib.suppress(UnicodeDecodeError):
        data[:4096].decode("ascii")
        return "is text, not an ONNX model"
    return "is not an ONNX model, or is damaged"


def _missing_bytes(data: mmap.mmap) -> int:
    """How far the last top-level field reaches past the end; 0 if the fields make no sense."""
    position = 0
    with contextlib.suppress(IndexError):
        while position < len(data):
            key, position = _varint(data, position)
            if not 1 <= key >> 3 <= 25:  # the fields of ModelProto
                return 0
            if key & 7 == 0:
                _, position = _varint(data, position)
            elif key & 7 == 2:
                length, position = _varint(data, position)
                position += length
            else:
                return 0
    plausible = position - len(data) <= PROTOBUF_LIMIT
    return position - len(data) if plausible and position > len(data) else 0


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise IndexError


# -- writing ------------------------------------------------------------------------------------


def check_beside(path: Path, *models: Path, force: bool) -> None:
    """Raise OutputError unless what is said of models could be written to a file.

    That is never one of them, or one that holds weights of theirs, whatever `force` says. What is
    wrong with a model is told by whoever works on it.
    """
    check_output(path, force=force)
    for model in filter(os.path.isfile, models):
        check_output(path, force=force, source=model)
        with contextlib.suppress(ModelError):
            refuse_weights(path, open_model(model))


def save_model(
    model: ModelProto | StoredModel,
    path: str | Path,
    *,
    force: bool = True,
    external: bool | None = None,
) -> None:
    """Write a model, whole or not at all. The same model gives the same bytes.

    With `external` its weights go into `NAME.data` beside it, without into the file itself; None
    keeps the way of the file that it was read from. A model past protobuf's 2 GiB has a data file
    in any case. Raises OutputError, and ModelError where a file with weights is gone.
    """
    stored = model if isinstance(model, StoredModel) else StoredModel(model)
    with drafted(path, force=force) as draft:
        draft.write(stored, external=external)
        draft.publish()
    if not stored.is_current:  # it has replaced what it was read from
        stored.become(open_model(path))
