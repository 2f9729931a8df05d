"""How does a model come in safely, and go out whole or not at all?"""

from __future__ import annotations

import contextlib
import difflib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from google.protobuf.message import (  # type: ignore[import-untyped]  # it ships no types
    DecodeError,
    EncodeError,
)
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from bnfold.errors import ModelError, OutputError
from bnfold.validation import EXPORT_AGAIN, checked, count_bytes, is_external, tensors

Message = TypeVar("Message", ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto)

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes of the largest message that protobuf reads or writes."""
EXTERNAL_THRESHOLD = 1024
"""Tensors below this stay in the model file, as in onnx's own tools."""
ALIGNMENT = 4096
"""Where each tensor of a data file starts, so that a runtime can map it."""


# -- reading ------------------------------------------------------------------------------------


def load_model(model: str | Path | ModelProto, *, external: bool = True) -> ModelProto:
    """Read a model from a path and check it; a ModelProto is checked and comes back as it is.

    Nodes that are out of order, as runtimes accept them, come sorted (a ModelProto is copied for
    that). With `external=False` data in other files is not read (but its references are checked).
    Raises ModelError. Nobody may change the result: it may be the caller's own.
    """
    if isinstance(model, ModelProto):
        model = checked(model)
        if external:
            _refuse_unloaded(model)
        return model
    path = Path(model)
    name = str(path)
    loaded = checked(_parse(_read(path), name), name)
    for owner, tensor in tensors(loaded):
        if is_external(tensor):
            reference = _locate(owner, tensor, path)
            if external:
                reference.load_into(tensor)
    return loaded


def _refuse_unloaded(model: ModelProto) -> None:
    for owner, tensor in tensors(model):
        if is_external(tensor):
            raise ModelError(
                f"tensor `{owner}` keeps its data in another file that was not loaded",
                "pass the model's path instead, or load it with onnx.load(path)",
            )


def _read(path: Path) -> bytes:
    """The bytes of a file, or a ModelError that says what stands there instead."""
    try:
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
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist", _suggest(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"{path} cannot be read: {reason}", "check the path") from None


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


def _parse(data: bytes, name: str) -> ModelProto:
    if not data:
        raise ModelError(f"{name} is empty", EXPORT_AGAIN)
    for signature, (what, hint) in LOOKALIKES.items():
        if data[:64].lstrip().startswith(signature):
            raise ModelError(f"{name} is {what}, not an ONNX model", hint)
    try:
        model = ModelProto()
        model.ParseFromString(data)
        return model
    except DecodeError as error:
        raise ModelError(f"{name} {_why_unreadable(data, str(error))}", EXPORT_AGAIN) from None


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


def _why_unreadable(data: bytes, parser_message: str) -> str:
    if "MaxDepth" in parser_message or "recursion" in parser_message:
        return "nests its subgraphs too deeply to be read"
    missing = _missing_bytes(data)
    if missing:
        return f"is truncated: at least {missing:,} bytes are missing at its end"
    with contextlib.suppress(UnicodeDecodeError):
        data[:4096].decode("ascii")
        return "is text, not an ONNX model"
    return "is not an ONNX model, or is damaged"


def _missing_bytes(data: bytes) -> int:
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


def _varint(data: bytes, position: int) -> tuple[int, int]:
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


# -- external data ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExternalData:
    """A range of a data file: where one tensor's bytes are."""

    owner: str
    path: Path
    offset: int
    length: int

    def load_into(self, tensor: TensorProto) -> None:
        """Read the bytes and make the tensor hold them itself."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                tensor.raw_data = file.read(self.length)
        except OSError as error:
            raise ModelError(
                f"{self.path}, which holds tensor `{self.owner}`, cannot be read: "
                f"{error.strerror}",
                "check its permissions",
            ) from None
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _locate(owner: str, tensor: TensorProto, model_path: Path) -> ExternalData:
    """Where an external tensor's data is, once everything about it was checked."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = _inside(owner, entries.get("location", ""), model_path)
    needed = count_bytes(owner, tensor)
    assert needed is not None  # external strings were refused before
    offset = _natural(owner, "offset", entries.get("offset", "0"))
    length = _natural(owner, "length", entries.get("length", str(needed)))
    if length != needed:
        raise ModelError(
            f"tensor `{owner}` has {length} bytes in {path.name} where its dims need {needed}",
            EXPORT_AGAIN,
        )
    size = path.stat().st_size
    if offset + length > size:
        raise ModelError(
            f"{path} is too short: tensor `{owner}` is at bytes {offset} to {offset + length}, "
            f"and the file has {size}",
            "copy the data file again; it may be truncated or belong to another model",
        )
    return ExternalData(owner, path, offset, length)


def _natural(owner: str, key: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ModelError(
            f"tensor `{owner}` has external data with {key} {text[:40]!r}", EXPORT_AGAIN
        )
    return int(text)


def _inside(owner: str, location: str, model_path: Path) -> Path:
    """The data file, which must be in the model's folder.

    The folder of what a link to the model points at counts too: the Hugging Face cache keeps
    models and their data as links into one other folder.
    """
    folders = {model_path.parent.resolve(), model_path.resolve().parent}
    try:
        path = (model_path.parent / location).resolve()
        allowed = not Path(location).is_absolute() and any(map(path.is_relative_to, folders))
        found = path.is_file()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a loop of links, before 3.13
        raise ModelError(
            f"tensor `{owner}` keeps its data in {location[:200]!r}, which is not a usable path",
            EXPORT_AGAIN,
        ) from None
    if not allowed:
        raise ModelError(
            f"tensor `{owner}` keeps its data in {location}, outside of the model's folder",
            f"if you trust it, put the file into {model_path.parent} and export the model again",
        )
    if not found:
        raise ModelError(
            f"{model_path.parent / location} does not exist, and tensor `{owner}` has its data "
            "there",
            f"put the data file beside {model_path.name}",
        )
    return path


# -- writing ------------------------------------------------------------------------------------


def save_model(model: ModelProto, path: str | Path, *, force: bool = True) -> None:
    """Write a model, whole or not at all. The same model gives the same bytes.

    A model past protobuf's 2 GiB keeps its weights in `NAME.data` beside it. Raises OutputError.
    """
    check_output(path, force=force)
    target = Path(path).resolve()  # a link stays a link; what it points at is replaced
    try:
        with _whole_or_nothing() as writing:
            data = _serialize(model)
            if data is None:
                beside = target.with_name(target.name + ".data")
                data = _serialize(_move_weights(model, beside.name, writing.open(beside)))
            if data is None:
                raise OutputError(
                    f"{path} would pass protobuf's 2 GiB even without its weights",
                    "split the model, or move its large constants into initializers",
                )
            writing.open(target).write(data)
            check_output(path, force=force)
    except OSError as error:
        raise _unwritable(Path(path), error) from None


def check_output(path: str | Path, *, force: bool, source: str | Path | None = None) -> None:
    """Raise OutputError unless a file could be written there; call it before long work.

    `source` is a file that must not be overwritten, whatever `force` says.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise OutputError(f"{path} is a folder", "name a file, for example with -o")
        if source is not None and path.exists() and path.samefile(source):
            raise OutputError(f"{path} is the input itself", "pass --in-place, or another -o")
        if not force and os.path.lexists(path):
            raise OutputError(f"{path} already exists", "pass --force, or another path with -o")
        folder = path.resolve().parent
        if not folder.is_dir():
            raise OutputError(
                f"{path} cannot be written: there is no folder {folder}",
                "create the folder, or choose another path with -o",
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(
                f"{path} cannot be written: no permission in {folder}",
                "choose another path with -o",
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(f"{path} cannot be written: {reason}", "choose another path with -o")


class _Writing:
    """Files that are being written under other names, in the order they will appear."""

    def __init__(self) -> None:
        self.files: list[tuple[BinaryIO, Path, Path]] = []

    def open(self, target: Path) -> BinaryIO:
        """A file that becomes `target` once everything is written."""
        temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
        file = temporary.open("xb")
        self.files.append((file, temporary, target))
        return file

    def commit(self) -> None:
        for file, temporary, target in self.files:
            file.flush()
            os.fsync(file.fileno())
            file.close()
            with contextlib.suppress(OSError):
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        for _, temporary, target in self.files:
            temporary.replace(target)
        for folder in {target.parent for _, _, target in self.files}:
            _sync_folder(folder)

    def discard(self) -> None:
        for file, temporary, _ in self.files:
            with contextlib.suppress(OSError):
                file.close()
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextlib.contextmanager
def _whole_or_nothing() -> Iterator[_Writing]:
    writing = _Writing()
    try:
        yield writing
        writing.commit()
    finally:
        writing.discard()  # finds nothing to remove after a commit


def _sync_folder(folder: Path) -> None:
    """Make the renames last; not every system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _serialize(model: ModelProto) -> bytes | None:
    """The bytes of a model; None if it is past what protobuf writes."""
    with contextlib.suppress(EncodeError):
        data: bytes = model.SerializeToString(deterministic=True)
        return data if len(data) <= PROTOBUF_LIMIT else None
    return None


def _move_weights(model: ModelProto, location: str, file: BinaryIO) -> ModelProto:
    """Write the large weights to a data file; the model that refers to them there."""

    def move(tensor: TensorProto) -> TensorProto:
        data = tensor.raw_data
        if len(data) < EXTERNAL_THRESHOLD:
            return tensor
        file.write(bytes(-file.tell() % ALIGNMENT))
        entries = {"location": location, "offset": file.tell(), "length": len(data)}
        moved = _copy_without(tensor, "raw_data")
        moved.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            moved.external_data.add(key=key, value=str(value))
        file.write(data)
        return moved

    return _replace_weights(model, move)


def _replace_weights(
    model: ModelProto, replace: Callable[[TensorProto], TensorProto]
) -> ModelProto:
    """A copy of the model in which the main graph's initializers and Constants are replaced."""
    light = _copy_without(model, "graph")
    light.graph.CopyFrom(_copy_without(model.graph, "initializer", "node"))
    light.graph.initializer.extend(map(replace, model.graph.initializer))
    for node in model.graph.node:
        if node.op_type != "Constant":
            light.graph.node.add().CopyFrom(node)
            continue
        constant = _copy_without(node, "attribute")
        for attribute in node.attribute:
            if attribute.HasField("t"):
                copy = _copy_without(attribute, "t")
                copy.t.CopyFrom(replace(attribute.t))
                constant.attribute.append(copy)
            else:
                constant.attribute.append(attribute)
        light.graph.node.append(constant)
    return light


def _copy_without(message: Message, *skipped: str) -> Message:
    """A copy of a protobuf message without some of its fields."""
    copy = type(message)()
    for field, value in message.ListFields():
        if field.name in skipped:
            continue
        if isinstance(value, (bool, int, float, str, bytes)):
            setattr(copy, field.name, value)
        else:
            getattr(copy, field.name).MergeFrom(value)
    return copy
