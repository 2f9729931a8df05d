"""Where is the data of a tensor that is kept in another file, and may it be read?"""

from __future__ import annotations

import re
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

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
        known[location] = DataFile.at(data_file(owner, native(location), model_path))
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


def is_plain(location: str) -> bool:
    """Whether a location is a plain path below the folder of whatever names it."""
    return bool(location) and not ("\0" in location or _leaves(location))


def _leaves(location: str) -> bool:
    """Whether a path could lead out of the folder that it starts from, on any system."""
    if ".." in re.split(r"[/\\]", location) or PurePosixPath(location).is_absolute():
        return True
    return bool(PureWindowsPath(location).drive) or location.startswith("\\")


def data_file(owner: str, location: str, model_path: Path) -> Path:
    """The data file at a location of a model: a regular file in its folder, or below it.

    No folder on the way may be a link. The file itself may be one, if it ends in the model's
    folder or in that of what a link to the model points at: the Hugging Face cache keeps models
    and their data as links into one other folder. Raises ModelError.
    """
    _refuse_location(owner, location, model_path)
    folders = {model_path.parent.resolve(), model_path.resolve().parent}
    place = model_path.parent / location
    try:
        linked = any(folder.is_symlink() for folder in _folders_on_the_way(location, model_path))
        path = place.resolve()
        allowed = not linked and any(map(path.is_relative_to, folders))
        mode = path.stat().st_mode if allowed else 0
    except FileNotFoundError:
        raise _missing(owner, place, model_path) from None
    except (OSError, ValueError, RuntimeError):  # RuntimeError: a loop of links, before 3.13
        raise _unusable(owner, location) from None
    if not allowed:
        raise _outside(owner, location, model_path)
    if stat.S_ISDIR(mode):
        raise _missing(owner, place, model_path)
    if not stat.S_ISREG(mode):
        raise ModelError(
            f"{place} is not a regular file, and tensor `{owner}` has its data there",
            EXPORT_AGAIN,
        )
    return path


def _refuse_location(owner: str, location: str, model_path: Path) -> None:
    """Raise ModelError for a location that is no plain path below the model's folder."""
    if "\0" in location:
        raise _unusable(owner, location)
    if _leaves(location):
        raise _outside(owner, location, model_path)


def _folders_on_the_way(location: str, model_path: Path) -> list[Path]:
    """The folders between the model's own and the data file."""
    between = list((model_path.parent / location).parents)
    return between[: between.index(model_path.parent)] if PurePosixPath(location).name else []


def _missing(owner: str, place: Path, model_path: Path) -> ModelError:
    return ModelError(
        f"{place} does not exist, and tensor `{owner}` has its data there",
        f"put the data file beside {model_path.name}",
    )


def _unusable(owner: str, location: str) -> ModelError:
    return ModelError(
        f"tensor `{owner}` keeps its data in {location[:200]!r}, which is not a usable path",
        EXPORT_AGAIN,
    )


def _outside(owner: str, location: str, model_path: Path) -> ModelError:
    return ModelError(
        f"tensor `{owner}` keeps its data in {location[:200]}, outside of the model's folder or "
        "behind a link",
        f"if you trust it, put the file into {model_path.parent} and export the model again",
    )
