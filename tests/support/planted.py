"""Models that name files which are not theirs: what stands where, and what each calls its data.

A row plants files beside a model and gives the locations that its two weights have. Nothing of
what was planted is bnfold's, so whatever is done with the model, all of it stays as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

TEXT = """<ir_version: 8, opset_import: ["": 17]> g (float[N,64] x) => (float[N,64] y) {
  h = MatMul(x, w) r = Relu(h) i = MatMul(r, v) y = BatchNormalization(i, s, b, m, k)
}"""
WEIGHT = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32).tobytes()
"""Of as many bytes as are left in a file."""
MARK = b"\0these weights were written by bnfold\n"


@dataclass(frozen=True)
class Planted:
    """A row: `plant` makes the files in the model's folder; the locations of both weights."""

    location: str
    plant: Callable[[Path], object] = lambda folder: write(folder / "w.bin")
    second: str | None = None
    """Of the other weight, where it is not the same."""
    is_refused: bool = False
    """Whether nobody may read it."""


def model(folder: Path, row: Planted, name: str = "m.onnx") -> Path:
    """The model of a row in a folder, after what it names was planted."""
    folder.mkdir(parents=True, exist_ok=True)
    row.plant(folder)
    made = onnx.parser.parse_model(TEXT)
    for vector, value in {"s": 2, "b": 1, "m": 0, "k": 1}.items():
        made.graph.initializer.append(
            numpy_helper.from_array(np.full(64, value, np.float32), vector)
        )
    location = row.location.format(folder=folder.name, absolute=folder.resolve())
    for weight, place in (("w", location), ("v", row.second or location)):
        made.graph.initializer.append(reference(weight, place))
    made.metadata_props.add(key="bnfold.data", value=location)  # it claims what it likes
    path = folder / name
    path.write_bytes(made.SerializeToString())
    if row.location == name:
        path.write_bytes(referring_to_itself(made, name))
    return path


def referring_to_itself(made: onnx.ModelProto, name: str) -> bytes:
    """The model with the bytes of a weight in a tensor of its own, which others refer to."""
    made.graph.initializer.add(name="held", data_type=1, dims=[64, 64], raw_data=WEIGHT)
    for offset in ("0" * 9, None):  # as long as the one that is known then
        offset = offset or f"{made.SerializeToString().index(WEIGHT):09}"
        for tensor in made.graph.initializer:
            if any(entry.value == name for entry in tensor.external_data):
                tensor.CopyFrom(reference(tensor.name, name, offset))
    return made.SerializeToString()


def reference(name: str, location: str, offset: str = "0") -> TensorProto:
    """A weight in another file."""
    made = TensorProto(name=name, data_type=1, dims=[64, 64], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", len(WEIGHT))):
        made.external_data.add(key=key, value=str(value))
    return made


def write(path: Path, after: bytes = b"") -> Path:
    """A file of the user's that serves as weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(WEIGHT + after)
    return path


def file(name: str) -> Callable[[Path], object]:
    return lambda folder: write(folder / name)


def link(name: str, target: str) -> Callable[[Path], object]:
    def plant(folder: Path) -> None:
        write(folder / "w.bin")
        write(folder.parent / "secret.bin")
        (folder / name).symlink_to(target)

    return plant


def linked_blob(folder: Path) -> None:
    """A link to a file beside the model's own folder, whose name begins alike."""
    write(folder.with_name(f"{folder.name}-too") / "w.bin")
    (folder / "w.bin").symlink_to(f"../{folder.name}-too/w.bin")


def second_name(folder: Path) -> None:
    """A data file that is the user's own file under a second name."""
    os.link(write(folder.parent / "precious.bin"), folder / "m.onnx.data")


def marked_for_another(folder: Path) -> None:
    """A data file that bnfold wrote, of another model."""
    write(folder / "other.onnx.data", MARK)


def shared(folder: Path) -> None:
    """A data file that bnfold wrote for this name and that another model uses too."""
    write(folder / "m.onnx.data", MARK)
    (folder / "other.onnx").write_bytes(
        onnx.helper.make_model(
            onnx.helper.make_graph([], "g", [], [], [reference("w", "m.onnx.data")])
        ).SerializeToString()
    )


def marked_link(folder: Path) -> None:
    """A link of the right name to a file that bnfold wrote for another model."""
    write(folder / "other.onnx.data", MARK)
    (folder / "m.onnx.data").symlink_to("other.onnx.data")


def all_taken(folder: Path) -> None:
    """Each name that a data file of the output would have first is the user's."""
    for name in ("m.onnx.data", "out.onnx.data", "m.onnx.recalibrated.onnx.data"):
        write(folder / name)


ROWS: dict[str, Planted] = {
    # -- may not be read
    "leaves and returns": Planted("../{folder}/w.bin", is_refused=True),
    "leaves": Planted("../secret.bin", link("l", "w.bin"), is_refused=True),
    "leaves and returns within": Planted("sub/../w.bin", file("sub/x"), is_refused=True),
    "backslashes": Planted("..\\secret.bin", link("l", "w.bin"), is_refused=True),
    "absolute": Planted("{absolute}/w.bin", is_refused=True),
    "a linked folder": Planted("up/secret.bin", link("up", ".."), is_refused=True),
    "a folder linked to itself": Planted("me/w.bin", link("me", "."), is_refused=True),
    "a link that leaves": Planted("l", link("l", "../secret.bin"), is_refused=True),
    "a link to a neighbour": Planted("w.bin", linked_blob, is_refused=True),
    "a link to itself": Planted("l", link("l", "l"), is_refused=True),
    "a link to nothing": Planted("l", link("l", "gone.bin"), is_refused=True),
    "a device": Planted("l", link("l", "/dev/zero"), is_refused=True),
    "a full device": Planted("l", link("l", "/dev/full"), is_refused=True),
    "a pipe": Planted("pipe", lambda f: os.mkfifo(f / "pipe"), is_refused=True),
    "a pipe of the right name": Planted(
        "m.onnx.data", lambda f: os.mkfifo(f / "m.onnx.data"), is_refused=True
    ),
    "a folder": Planted("sub", file("sub/w.bin"), is_refused=True),
    "its own folder": Planted(".", is_refused=True),
    "nothing": Planted("gone.bin", is_refused=True),
    "a null character": Planted("w.bin\0", is_refused=True),
    "one good, one bad": Planted("w.bin", second="../{folder}/w.bin", is_refused=True),
    # -- may be read, and stays
    "another file": Planted("thesis.docx", file("thesis.docx")),
    "what other exporters write": Planted("m.onnx.data", file("m.onnx.data")),
    "a second file of that kind": Planted("m.onnx.2.data", file("m.onnx.2.data")),
    "a second name": Planted("m.onnx.data", second_name),
    "of another model of bnfold": Planted("other.onnx.data", marked_for_another),
    "a link to that": Planted("m.onnx.data", marked_link),
    "shared": Planted("m.onnx.data", shared),
    "the model itself": Planted("m.onnx"),
    "the model itself and another file": Planted("m.onnx", second="w.bin"),
    "below": Planted("sub/w.bin", file("sub/w.bin")),
    "below a folder of that name": Planted("m.onnx.data/w", file("m.onnx.data/w")),
    "under two spellings": Planted("w.bin", second="./w.bin"),
    "under a doubled slash": Planted("sub//w.bin", file("sub/w.bin"), second="sub/w.bin"),
    "the name of the output": Planted("out.onnx", file("out.onnx")),
    "the name of its data": Planted("out.onnx.data", file("out.onnx.data")),
    "every name of its data": Planted("m.onnx.data", all_taken),
    "the name of the certificate": Planted("c.json", file("c.json")),
    "the name of the report": Planted("r.html", file("r.html")),
}
