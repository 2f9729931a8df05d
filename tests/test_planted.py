"""Whatever a model names as its data: nothing that bnfold did not write is changed or removed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import planted
import pytest
from planted import ROWS, Planted

import bnfold
from bnfold.errors import BnfoldError
from bnfold.modelio import load_model, open_model, save_model
from bnfold.publishing import retained
from bnfold_cli import app

pytestmark = pytest.mark.skipif(os.name != "posix", reason="makes links and pipes")

Tree = dict[str, object]
OWN = re.compile(r"home/(m|out)\.onnx(\.[0-9]+)?(\.data)?|home/(c\.json|r\.html)")
"""What bnfold may write: an output, its data under a name of its own, and documents."""
DATA = "data.npz"
ONCE = ["--no-bench", "--samples", "1"]


def tree(base: Path) -> Tree:
    """Every name below a folder: the bytes of a file, the target of a link, or its kind."""
    return {str(path.relative_to(base)): content(path) for path in base.rglob("*")}


def content(path: Path) -> object:
    if path.is_symlink():
        return os.readlink(path)
    return path.read_bytes() if path.is_file() else path.lstat().st_mode


def in_place(path: Path) -> int:
    return app.run(["optimize", str(path), "--in-place", *ONCE])


def certified_in_place(path: Path) -> int:
    certificate = path.with_name("c.json")
    return app.run(
        ["optimize", str(path), "--in-place", "--force", "--certificate", str(certificate), *ONCE]
    )


def unproven_in_place(path: Path) -> int:
    return app.run(["optimize", str(path), "--in-place", "--no-verify", "--no-bench"])


def embedded_in_place(path: Path) -> int:
    return app.run(["optimize", str(path), "--in-place", "--embed", *ONCE])


def forced(path: Path) -> int:
    output = path.with_name("out.onnx")
    return app.run(["optimize", str(path), "-o", str(output), "--force", *ONCE])


def reported(path: Path) -> int:
    output, page = path.with_name("out.onnx"), path.with_name("r.html")
    outputs = ["-o", str(output), "--report", str(page)]
    return app.run(["optimize", str(path), *outputs, "--no-attribute", "--force", *ONCE])


def recalibrated(path: Path) -> int:
    output, data = path.with_name("out.onnx"), path.parent.parent / DATA
    np.savez(data, x=np.random.default_rng(1).standard_normal((8, 64)).astype(np.float32))
    return app.run(["recalibrate", str(path), "--data", str(data), "-o", str(output), "--force"])


def in_the_library(operation: Callable[[Path], object]) -> Callable[[Path], int]:
    """An operation of the library, with the exit code that the command would have."""

    def run(path: Path) -> int:
        try:
            operation(path)
        except BnfoldError:
            return 2
        return 0

    return run


def saved(path: Path) -> None:
    save_model(open_model(path), path)


def folded(path: Path) -> None:
    bnfold.fold(path).save(path)


def recalibrated_in_place(path: Path) -> None:
    data = np.random.default_rng(1).standard_normal((8, 64)).astype(np.float32)
    bnfold.recalibrate(path, {"x": data}, isolate=False).save(path)


def kept_beside(path: Path) -> None:
    with retained(path) as kept:
        assert load_model(kept) == load_model(path)


OPERATIONS: dict[str, Callable[[Path], int]] = {
    "in place": in_place,
    "certified in place": certified_in_place,
    "unproven in place": unproven_in_place,
    "embedded in place": embedded_in_place,
    "forced": forced,
    "reported": reported,
    "recalibrated": recalibrated,
    "saved": in_the_library(saved),
    "folded": in_the_library(folded),
    "recalibrated in place": in_the_library(recalibrated_in_place),
    "kept beside": in_the_library(kept_beside),
}


REFUSED = {
    ("the name of the output", "forced"),
    ("the name of the output", "reported"),
    ("the name of the output", "recalibrated"),
    ("the name of the certificate", "certified in place"),
    ("the name of the report", "reported"),
}
"""Rows in which an operation is asked to write where the weights are."""


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", ROWS)
def test_nothing_planted_is_lost(tmp_path: Path, name: str, operation: str) -> None:
    """Nothing is changed but the output, which is whole, and nothing is written elsewhere."""
    row, home = ROWS[name], tmp_path / "home"
    path = planted.model(home, row)
    before = tree(tmp_path)
    code = OPERATIONS[operation](path)
    after = tree(tmp_path)
    after.pop(DATA, None)
    assert code == (2 if row.is_refused or (name, operation) in REFUSED else 0)
    if code:
        assert after == before
        return
    assert {n for n, what in before.items() if after.get(n) != what} <= {"home/m.onnx"}
    new = after.keys() - before.keys()
    assert all(OWN.fullmatch(name) for name in new)
    assert load_model(path)
    assert "home/out.onnx" not in new or load_model(home / "out.onnx")


def test_weights_in_the_model_are_kept_beside(tmp_path: Path) -> None:
    """A large model in one file has no other file to keep."""
    path = tmp_path / "m.onnx"
    save_model(open_model(planted.model(tmp_path, Planted("w.bin"))), path, external=False)
    assert path.stat().st_size > 2 * len(planted.WEIGHT)
    kept_beside(path)
