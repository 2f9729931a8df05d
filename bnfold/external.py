"""Where is the data of a tensor that is kept in another file, and may it be read?"""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto

from bnfold.errors import ModelError
from bnfold.files import native
from bnfold.validation import EXPORT_AGAIN, count_bytes
from bnfold.weights import DataFile, Range


def locate(
    owner: str, tensor: TensorProto, model_path: Path, known: dict[str, DataFile]
) -> tuple[str, Range]:
    """Where an external tensor's data is, once everything about it was checked.

    Its location as the model has it, and the range. `known` are the files by location that were
    looked at before; a new one is added. Raises ModelError.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if location not in known:
        known[location] = DataFile.at(_inside(owner, native(location), model_path))
    file = known[location]
    needed = count_bytes(owner, tensor)
    assert needed is not None  # external strings were refused before
    offset = _natural(owner, "offset", entries.get("offset", "0"))
    length = _natural(owner, "length", entries.get("length", str(needed)))
    if length != needed:
        raise ModelError(
            f"tensor `{owner}` has {length} bytes in {file.path.name} where its dims need "
            f"{needed}",
            EXPORT_AGAIN,
        )
    if offset + length > file.size:
        raise ModelError(
            f"{file.path} is too short: tensor `{owner}` is at bytes {offset} to "
            f"{offset + length}, and the file has {file.size}",
            "copy the data file again; it may be truncated or belong to another model",
        )
    return location, Range(file, offset, length)


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
