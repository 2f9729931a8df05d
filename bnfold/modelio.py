"""How does a model come in safely, and go out whole or not at all?"""

from __future__ import annotations

import contextlib
import difflib
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from google.protobuf.message import (  # type: ignore[import-untyped]  # it ships no types
    DecodeError,
    EncodeError,
)
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from bnfold.errors import ModelError, OutputError
from bnfold.external import locate
from bnfold.files import check_output, unwritable, whole_or_nothing
from bnfold.validation import EXPORT_AGAIN, checked, is_external, tensors

__all__ = ["byte_size", "check_output", "load_model", "save_model"]

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
            reference = locate(owner, tensor, path)
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


# -- writing ------------------------------------------------------------------------------------


def save_model(model: ModelProto, path: str | Path, *, force: bool = True) -> None:
    """Write a model, whole or not at all. The same model gives the same bytes.

    A model past protobuf's 2 GiB keeps its weights in `NAME.data` beside it. Raises OutputError.
    """
    check_output(path, force=force)
    target = Path(path).resolve()  # a link stays a link; what it points at is replaced
    try:
        with whole_or_nothing() as writing:
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
        raise unwritable(Path(path), error) from None


def _serialize(model: ModelProto) -> bytes | None:
    """The bytes of a model; None if it is past what protobuf writes."""
    with contextlib.suppress(EncodeError):
        data: bytes = model.SerializeToString(deterministic=True)
        return data if len(data) <= PROTOBUF_LIMIT else None
    return None


def byte_size(model: ModelProto) -> int:
    """How many bytes a model takes, also past what protobuf can count."""
    with contextlib.suppress(EncodeError):
        return int(model.ByteSize())
    weights = 0

    def left_out(tensor: TensorProto) -> TensorProto:
        nonlocal weights
        weights += len(tensor.raw_data)
        return _copy_without(tensor, "raw_data")

    return int(_replace_weights(model, left_out).ByteSize()) + weights


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
