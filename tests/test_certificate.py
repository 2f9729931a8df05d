"""Certificates: what was proven of which files can be checked again, and faults are seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bnfold
from bnfold import certificate
from bnfold.errors import InputError, OutputError
from bnfold.files import sha256
from bnfold.stored import StoredModel
from bnfold_cli import app

TRAINED = Path(__file__).parents[1] / "models" / "trained" / "digits-relu-bn1.onnx"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained network, in a folder where we are."""
    shutil.copy(TRAINED, tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def optimized(*more: str) -> dict[str, Any]:
    """What `optimize` certifies."""
    arguments = ["optimize", "net.onnx", "--no-bench", "--samples", "2", "-q"]
    assert app.run([*arguments, "--certificate", "proof.json", *more]) == 0
    document: dict[str, Any] = json.loads(Path("proof.json").read_bytes())
    return document


def test_it_holds_what_was_proven(folder: Path) -> None:
    """Hashes, versions, seed, data, errors, and each fold with its bound and what was measured."""
    document = optimized("--seed", "3")
    assert document["original"]["sha256"] == sha256("net.onnx")
    assert document["candidate"]["path"] == "net.folded.onnx"
    proof = document["equivalence"]
    assert proof["equivalent"]
    assert proof["seed"] == 3
    assert len(set(proof["digests"])) == len(proof["samples"]) == 2
    assert {"onnxruntime", "onnx", "numpy"} <= proof["environment"].keys()
    folds = [fold for fold in document["folds"] if fold["verdict"] == "folded"]
    assert folds
    for fold in folds:
        assert 0 < fold["bound"] < 1e-5
        assert 0 <= fold["measured"] < 1e-4
        assert fold["scale_range"][0] <= fold["scale_range"][1]


def test_it_can_be_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The files are those that were proven, and proven again they give the same numbers."""
    optimized()
    assert app.run(["verify", "--certificate", "proof.json"]) == 0
    assert capsys.readouterr().out.startswith("The certificate holds: proof.json")
    assert app.run(["verify", "--certificate", "proof.json", "--rerun", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["problems"] == []
    assert document["equivalence"]["outputs"]


def test_it_can_be_moved_with_its_models(folder: Path) -> None:
    """Models are named from the certificate's folder on."""
    optimized()
    moved = folder.parent / f"{folder.name}-moved"
    folder.rename(moved)
    assert certificate.check(moved / "proof.json")


@pytest.mark.parametrize("name", ["net.onnx", "net.folded.onnx"])
def test_another_file_is_seen(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One changed weight is another file, and the exit code is 1."""
    optimized()
    model = onnx.load(name)
    weight = next(t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] += 1e-3
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(model, name)
    assert app.run(["verify", "--certificate", "proof.json", "--rerun"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("The certificate does not hold")
    assert f"{name} is another file" in out


def test_a_missing_file_is_no_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate without its models cannot be checked: not that it does not hold."""
    optimized()
    moved = folder / "elsewhere"
    moved.mkdir()
    shutil.move("proof.json", moved)
    assert app.run(["verify", "--certificate", "elsewhere/proof.json", "--rerun"]) == 2
    assert "cannot be checked: original: " in capsys.readouterr().err
    shutil.move(moved / "proof.json", folder)
    (folder / "net.onnx").unlink()
    assert app.run(["verify", "--certificate", "proof.json"]) == 2
    Path("net.folded.onnx").write_bytes(b"another")
    assert app.run(["verify", "--certificate", "proof.json"]) == 1


def test_external_data_counts(folder: Path) -> None:
    """The file that holds the weights is a part of the model."""
    model = onnx.load("net.onnx")
    where = {"save_as_external_data": True, "location": "w.data", "size_threshold": 0}
    onnx.save_model(model, "net.onnx", **where)
    document = optimized()
    assert document["original"]["data"] == {"w.data": sha256("w.data")}
    data = bytearray(Path("w.data").read_bytes())
    data[100] ^= 1
    Path("w.data").write_bytes(data)
    (problem,) = certificate.check("proof.json").problems
    assert "its data file w.data is another one" in problem


def test_numbers_that_moved_are_seen(folder: Path) -> None:
    """Errors, verdict and inputs that differ from those certified are problems."""
    document = optimized()
    for edit, words in (
        (lambda proof: proof["digests"].reverse(), "the inputs are others"),
        (lambda proof: proof["outputs"][0].update(candidate_error=0.5), "certified 0.5"),
        (lambda proof: proof["outputs"].pop(), "`equivalence.outputs` is of 2 items"),
        (lambda proof: proof.update(equivalent=False), "says that the models are not"),
    ):
        changed = json.loads(json.dumps(document))
        edit(changed["equivalence"])
        Path("other.json").write_text(json.dumps(changed))
        problems = certificate.check("other.json", rerun=True).problems
        assert any(words in problem for problem in problems), problems


def test_verify_writes_one_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the verdict is no: then the certificate says so, and does not hold."""
    optimized()
    arguments = ["verify", "net.onnx", "net.folded.onnx", "--samples", "2"]
    assert app.run([*arguments, "--certificate", "other.json"]) == 0
    assert "Wrote other.json, the certificate" in capsys.readouterr().out
    found = certificate.check("other.json", rerun=True)
    assert found
    assert found.on_trust == ("equivalence.settings.judge_seconds",)
    same = ["verify", "net.onnx", "net.onnx", "--certificate", "same.json"]
    assert app.run(same) == 0
    assert certificate.check("same.json")
    assert app.run([*arguments, "--certificate", "other.json"]) == 2
    assert "other.json already exists" in capsys.readouterr().err
    assert app.run([*arguments, "--rtol", "0", "--certificate", "no.json"]) == 1
    assert not certificate.check("no.json")


def test_the_users_data_is_found_again(folder: Path) -> None:
    """Data from a file is named; data of a program cannot be run again, and that is said."""
    (spec,) = onnx.load("net.onnx").graph.input
    shape = [d.dim_value or 2 for d in spec.type.tensor_type.shape.dim]
    feeds = {spec.name: np.random.default_rng(0).random(shape, np.float32)}
    np.savez("inputs.npz", **feeds)
    optimized("--data", "inputs.npz")
    assert certificate.check("proof.json", rerun=True)
    proof = bnfold.verify("net.onnx", "net.folded.onnx", data=feeds)
    certificate.save(certificate.certify("net.onnx", "net.folded.onnx", proof), "given.json")
    assert certificate.check("given.json")
    with pytest.raises(InputError, match="data of the calling program"):
        certificate.check("given.json", rerun=True)


def test_in_place(folder: Path) -> None:
    """The original is gone, so both models have to be given to check the certificate."""
    shutil.copy("net.onnx", "before.onnx")
    optimized("--in-place")
    with pytest.raises(InputError, match="names no file for it"):
        certificate.check("proof.json")
    assert certificate.check("proof.json", "before.onnx", "net.onnx", rerun=True)


@pytest.mark.isolated
@pytest.mark.parametrize("location", ["net.data", "net.onnx.data", "parts/net.data"])
def test_in_place_keeps_what_was_there(
    folder: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original is measured though it was replaced, without being loaded; its data stays."""
    model = onnx.load("net.onnx")
    Path(location).parent.mkdir(exist_ok=True)
    onnx.save(model, "net.onnx", save_as_external_data=True, location=location, size_threshold=0)
    expected = optimized("-o", "other.onnx", "--embed")["folds"]
    Path("proof.json").unlink()
    before = set(folder.iterdir())

    def loaded(_: StoredModel) -> None:
        raise AssertionError("a model was loaded whole")

    monkeypatch.setattr(StoredModel, "whole", loaded)
    document = optimized("--in-place", "--external-data")
    assert document["original"]["path"] is None
    assert [fold["measured"] for fold in document["folds"]] == [f["measured"] for f in expected]
    assert any(fold["measured"] for fold in expected)
    left = {p.name for p in folder.iterdir()} - {p.name for p in before}
    made = "net.onnx.2.data" if location == "net.onnx.data" else "net.onnx.data"
    assert left == {"proof.json", made}


def test_a_model_in_memory(folder: Path) -> None:
    """A ModelProto is hashed as it would be saved; nothing was folded, nothing measured."""
    model = onnx.load("net.onnx")
    document = certificate.certify(model, model, None, folds=bnfold.inspect(model, keep=()))
    assert document["original"]["path"] is None
    assert document["equivalence"] is None
    assert {fold["measured"] for fold in document["folds"]} == {None}


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "other"}'])
def test_what_is_no_certificate(folder: Path, text: str) -> None:
    Path("x.json").write_text(text)
    assert app.run(["verify", "--certificate", "x.json"]) == 2
    with pytest.raises(InputError):
        certificate.check("x.json")


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify"],
        ["verify", "net.onnx"],
        ["verify", "net.onnx", "net.onnx", "--rerun"],
        ["verify", "--certificate", "absent.json"],
        ["optimize", "net.onnx", "--no-verify", "--certificate", "x.json"],
        ["optimize", "net.onnx", "--force", "--certificate", "net.onnx"],
        ["optimize", "net.onnx", "--force", "-o", "a.onnx", "--certificate", "a.onnx"],
    ],
)
def test_usage(folder: Path, arguments: list[str]) -> None:
    """What cannot be done ends in 2, and nothing is written."""
    assert app.run(arguments) == 2
    assert [path.name for path in folder.iterdir()] == ["net.onnx"]


def test_an_existing_certificate_stays(folder: Path) -> None:
    Path("proof.json").write_text("precious")
    with pytest.raises(OutputError):
        certificate.save({}, "proof.json")
    arguments = ["optimize", "net.onnx", "--no-bench", "--certificate", "proof.json"]
    assert app.run(arguments) == 2
    assert Path("proof.json").read_text() == "precious"
