"""Which models are there, and what belongs to each? A listing of the source.

A Triton repository keeps `name/VERSION/model.onnx`, and `name/config.pbtxt` with labels and the
like beside the versions: these go with each version of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from bnfold.errors import InputError
from bnfold.fleet.storage import MAGIC, Listed, Place, split_glob

SUFFIX = ".onnx"
CONFIG = "config.pbtxt"


@dataclass(frozen=True, slots=True)
class Found:
    """A model by its name from the source's folder on, its size, and what is copied with it.

    `states` are what the storage told of files while it was listed.
    """

    model: str
    bytes: int
    companions: tuple[str, ...] = ()
    states: Mapping[str, Listed] = field(default_factory=dict, repr=False)


def open_source(url: str, options: Mapping[str, Any] | None = None) -> tuple[Place, str]:
    """The folder that names are relative to, and a glob within it ("" for everything)."""
    place = Place(url, options)
    if MAGIC & set(url) and not place.fs.exists(place.root):
        folder, pattern = split_glob(url)
        return Place(folder, options), pattern
    if place.fs.isfile(place.root):
        folder, _, name = place.url.rpartition("/")
        return Place(folder or ("/" if url.startswith("/") else "."), options), name
    return place, ""


def find_models(place: Place, pattern: str = "", *, beside: Place | None = None) -> list[Found]:
    """The models of a source, the largest first; `beside` is a place whose files are none.

    Raises InputError where there is none.
    """
    try:
        files = place.matching(pattern) if pattern else place.names()
    except Exception as error:  # each file system raises what it likes
        raise InputError(
            f"{place.url} cannot be listed: {type(error).__name__} {error}",
            "check the address and your permissions",
        ) from None
    own = _within(place, beside)
    models = {
        name: file.bytes
        for name, file in files.items()
        if name.endswith(SUFFIX) and not (own and name.startswith(own))
    }
    if not models:
        where = f"{place.url}/{pattern}" if pattern else place.url
        raise InputError(
            f"there is no {SUFFIX} file in {where}",
            "name a folder, or a glob such as 'models/**/*.onnx' (in quotes)",
        )
    found = [
        Found(name, size, _companions(place, name, None if pattern else files), files)
        for name, size in models.items()
    ]
    return sorted(found, key=lambda f: (-f.bytes, f.model))


def _within(place: Place, other: Place | None) -> str:
    """The name of another place below this one, with a slash; "" if it is elsewhere."""
    if other is None or other.fs != place.fs:
        return ""
    inside = other.root.startswith(place.root.rstrip("/") + "/")
    return other.root[len(place.root.rstrip("/")) + 1 :] + "/" if inside else ""


def _companions(place: Place, model: str, files: Mapping[str, Listed] | None) -> tuple[str, ...]:
    """What of a Triton repository stands beside the versions of a model."""
    path = PurePosixPath(model)
    if not path.parent.name.isdecimal():
        return ()
    home = "" if path.parent.parent == PurePosixPath(".") else f"{path.parent.parent}/"
    if files is None:
        files = place.names(home.rstrip("/")) if place.exists(home + CONFIG) else {}
    if home + CONFIG not in files:
        return ()
    beside = (name for name in files if name.startswith(home))
    return tuple(sorted(n for n in beside if not n[len(home) :].split("/")[0].isdecimal()))
