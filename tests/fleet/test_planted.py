"""Whatever models of a fleet name, and whatever stands at its destination: nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fleets
import planted
import pytest
from planted import ROWS, Planted

import bnfold
from bnfold.errors import OutputError
from bnfold.fleet.manifest import FOLDER, Manifest
from bnfold.fleet.record import SweptModel
from bnfold.fleet.storage import Place
from bnfold.modelio import load_model

pytestmark = [
    pytest.mark.isolated,
    pytest.mark.skipif(os.name != "posix", reason="makes links and pipes"),
]

PATIENCE_S = 300
SWEEP = """
import sys, bnfold
for record in bnfold.sweep(sys.argv[1], sys.argv[2], bench=False, samples=1, workers=2):
    print(record.model, flush=True)
"""


def tree(base: Path) -> dict[str, object]:
    """Every name below a folder: the bytes of a file, the target of a link, or its kind."""
    return {str(path.relative_to(base)): content(path) for path in base.rglob("*")}


def content(path: Path) -> object:
    if path.is_symlink():
        return os.readlink(path)
    return path.read_bytes() if path.is_file() else path.lstat().st_mode


def swept(source: Path, destination: Path, **options: Any) -> dict[str, SweptModel]:
    found = bnfold.sweep(str(source), str(destination), bench=False, samples=1, **options)
    return {record.model: record for record in found}


def test_whatever_models_name(tmp_path: Path) -> None:
    """What may not be read fails its model alone, unread; the source and all beside it stay."""
    source, target = tmp_path / "source", tmp_path / "folded"
    names = {f"{number:02}/m.onnx": name for number, name in enumerate(ROWS)}
    for path, name in names.items():
        planted.model(source / Path(path).parent, ROWS[name])
    before = tree(tmp_path)
    command = [sys.executable, "-c", SWEEP, str(source), str(target)]
    subprocess.run(command, env=fleets.environment(), timeout=PATIENCE_S, check=True)
    after = tree(tmp_path)
    assert {n: after[n] for n in before} == before
    assert all(n == "folded" or n.startswith("folded/") for n in after.keys() - before.keys())
    records = Manifest(Place(str(target / FOLDER))).records()
    for path, name in names.items():
        record = records[path]
        if ROWS[name].is_refused:
            assert record.failure is not None, name
            assert record.failure.kind == "invalid", name
            assert not (target / path).exists()
            assert set(record.inputs) <= {path, f"{Path(path).parent}/w.bin"}, name
        else:
            assert record.outcome == "equivalent", name
            assert load_model(target / path)


def external(source: Path, name: str = "net.onnx") -> Path:
    """A source of one model with a data file."""
    return planted.model(
        source, Planted("weights.bin", lambda f: planted.write(f / "weights.bin")), name
    )


def users_model(target: Path) -> Path:
    return fleets.save(fleets.small(5), target / "net.onnx")


def users_data(target: Path) -> Path:
    return planted.write(target / "net.onnx.data")


def users_link(target: Path) -> Path:
    aside = planted.write(target.parent / "precious.bin")
    (target / "net.onnx.data").symlink_to(aside)
    return target / "net.onnx.data"


def users_pipe(target: Path) -> Path:
    os.mkfifo(target / "net.onnx.data")
    return target / "net.onnx.data"


TAKEN: dict[str, tuple[Callable[[Path], Path], bool]] = {
    "a model": (users_model, True),
    "data": (users_data, False),
    "a link": (users_link, False),
    "a pipe": (users_pipe, False),
}
"""What stands at the destination, and whether `force` lets it be replaced."""


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("force", [True, False])
def test_what_no_sweep_wrote_stays(tmp_path: Path, name: str, force: bool) -> None:
    """A destination of an earlier sweep, in which somebody put a file of another's name since."""
    source, target = tmp_path / "source", tmp_path / "folded"
    fleets.save(fleets.small(), source / "first.onnx")
    swept(source, target)
    external(source)
    make, may_replace = TAKEN[name]
    taken = make(target)
    before = content(taken)
    record = swept(source, target, force=force)["net.onnx"]
    if force and may_replace:
        assert record.outcome == "equivalent", record.failure
        assert load_model(target / "net.onnx")
        return
    assert content(taken) == before
    assert record.failure is not None
    assert record.failure.kind == "taken", record.failure
    assert taken.name in record.failure.message
    assert not (target / "net.onnx").exists() or taken.name == "net.onnx"


def test_what_a_sweep_wrote_is_replaced(tmp_path: Path) -> None:
    """Its own outputs, by its records, and what a sweep wrote that died before its record."""
    source, target = tmp_path / "source", tmp_path / "folded"
    external(source)
    assert swept(source, target)["net.onnx"].outcome == "equivalent"
    assert swept(source, target, again=True)["net.onnx"].outcome == "equivalent"
    planted.write(source / "weights.bin", b"another")
    assert swept(source, target)["net.onnx"].outcome == "equivalent"
    (target / FOLDER / "records" / "net.onnx.json").unlink()
    assert swept(source, target)["net.onnx"].outcome == "equivalent"
    assert sorted(p.name for p in target.glob("net*")) == ["net.onnx", "net.onnx.data"]


def test_what_goes_along_takes_nothing(tmp_path: Path) -> None:
    """A file that is copied beside a model replaces no file that no sweep wrote."""
    source, target = tmp_path / "source", tmp_path / "folded"
    fleets.save(fleets.small(), source / "net" / "1" / "model.onnx")
    (source / "net" / "config.pbtxt").write_text("max_batch_size: 8")
    (target / "net").mkdir(parents=True)
    (target / "net" / "config.pbtxt").write_text("mine")
    record = swept(source, target)["net/1/model.onnx"]
    assert record.failure is not None
    assert record.failure.kind == "taken", record.failure
    assert (target / "net" / "config.pbtxt").read_text() == "mine"
    assert swept(source, target, force=True)["net/1/model.onnx"].outcome == "equivalent"
    assert (target / "net" / "config.pbtxt").read_text() == "max_batch_size: 8"


@pytest.mark.parametrize("force", [True, False])
def test_nothing_leaves_through_a_link(tmp_path: Path, force: bool) -> None:
    """A folder of the destination that is a link is not followed out of it."""
    source, target = tmp_path / "source", tmp_path / "folded"
    path = fleets.save(fleets.small(), source / "team" / "net.onnx")
    before = path.read_bytes()
    target.mkdir()
    (target / "team").symlink_to(source / "team")
    (target / "elsewhere").mkdir()
    try:
        record = swept(source, target, force=force)["team/net.onnx"]
        assert record.outcome == "failed"
    except OutputError:
        assert not force
    assert path.read_bytes() == before
    assert [p.name for p in (source / "team").iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("force", [True, False])
def test_the_source_under_another_name(tmp_path: Path, force: bool) -> None:
    """A destination that is a link to the source is the source."""
    source, link = tmp_path / "source", tmp_path / "link"
    before = fleets.save(fleets.small(), source / "net.onnx").read_bytes()
    link.symlink_to(source)
    with pytest.raises(OutputError, match="the same"):
        swept(source, link, force=force)
    assert (source / "net.onnx").read_bytes() == before
    assert [p.name for p in source.iterdir()] == ["net.onnx"]
