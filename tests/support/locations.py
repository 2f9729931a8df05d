"""Locations of external data that reach for files of others, and what stands where they lead."""

from __future__ import annotations

import os
from pathlib import Path

import onnx

LOCATIONS = {
    "leaves and returns": "../{folder}/w.bin",
    "leaves": "../w.bin",
    "backslashes": "..\\w.bin",
    "absolute": "{absolute}",
    "a drive": "C:\\w.bin",
    "through a linked folder": "linked/w.bin",
    "a linked file": "outside.bin",
    "a pipe": "pipe",
    "a device": "device",
    "a folder": "sub",
    "nothing": "",
}
"""By what each does; none of them is a plain path to a regular file below the model's folder."""


def planted(base: Path, model: onnx.ModelProto, attack: str) -> Path:
    """A model whose first initializer has its data at a location of the table.

    Around it stands what the location may lead to: files of somebody else, links, a pipe.
    """
    home = base / "home" / "net"
    (home / "sub").mkdir(parents=True)
    tensor = model.graph.initializer[0]
    for place in (home / "w.bin", home.parent / "w.bin", home / "sub" / "w.bin"):
        place.write_bytes(tensor.raw_data)
    (home / "linked").symlink_to(home.parent)
    (home / "outside.bin").symlink_to(home.parent / "w.bin")
    (home / "device").symlink_to("/dev/zero")
    os.mkfifo(home / "pipe")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    location = LOCATIONS[attack].format(folder=home.name, absolute=home / "w.bin")
    tensor.external_data.add(key="location", value=location)
    path = home / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every name below a folder, with the bytes of what is a regular file."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() and not p.is_symlink() else None
        for p in folder.rglob("*")
    }
