"""A study writes its page, figure, curves and models; the same ones each time; and goes on."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import onnx
import pytest

from bnfold.testing import assert_equivalent
from bnfold_models.__main__ import main
from bnfold_models.data import Dataset
from bnfold_models.studies import STUDIES, folds, running, statistics, summary
from bnfold_models.studies.plans import Setting
from bnfold_models.studies.resuming import Shelf, fingerprint
from bnfold_models.studies.running import Workshop

EMBEDDED_PICTURES = ("networks",)
"""These train on drawn pictures of 224x224, and take a minute."""


@pytest.fixture
def data(tmp_path: Path, digits: Dataset) -> Path:
    """Few digits, as a user's own file."""
    few, path = digits.head(96, 48), tmp_path / "few.npz"
    arrays = {"x_train": few.train, "x_test": few.test}
    images = {key: split.images[:, 0] for key, split in arrays.items()}
    labels = {key.replace("x", "y"): split.labels for key, split in arrays.items()}
    np.savez(path, **images, **labels)
    return path


@pytest.fixture
def study(data: Path, tmp_path: Path):
    """Run a study for one epoch, and return its folder."""

    def study(name: str, out: str = "out", *options: str) -> Path:
        arguments = ["--data", str(data), "--epochs", "1", "--out", str(tmp_path / out)]
        assert main([name, *arguments, "--budget", "0.1", *options]) == 0
        return tmp_path / out / name

    return study


def test_a_bias_before_normalization_learns_nothing(study, no_folds: None) -> None:
    """The sentence is computed: a free bias, the head's, is what it is held against."""
    page = (study("placement") / "summary.md").read_text("utf-8")
    assert page.count("which has no BN behind it: none to speak of.") == 2


@pytest.fixture
def no_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folding is the same for every study; one test of them does it."""
    monkeypatch.setattr(summary, "fold_all", lambda *_, **__: [])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in EMBEDDED_PICTURES else [])
        for name in STUDIES
    ],
)
def test_every_study_writes_a_whole_page(name: str, study, no_folds: None) -> None:
    """Figure with labelled axes, curves, models, and links that lead somewhere."""
    folder = study(name)
    page = (folder / "summary.md").read_text("utf-8")
    assert page.startswith(f"# {STUDIES[name]}\n")
    for target in re.findall(r"\]\(([^)]+)\)", page):
        assert (folder / target).exists(), target
    assert "\n- " in page
    assert not re.search(r"\bnan\b|\binf\b|(?<!=)None", page)
    svg = (folder / "figure.svg").read_text("utf-8")
    ET.fromstring(svg)
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    for path in folder.glob("*.onnx"):
        onnx.checker.check_model(onnx.load(path))
    header, *rows = (folder / "curves.csv").read_text().splitlines()
    assert header == "run,epoch,train_loss,train_accuracy,test_loss,test_accuracy"
    assert rows


def test_models_are_folded_proven_and_timed(study) -> None:
    """The page ends with the table, and the folded file is equivalent."""
    folder = study("speedup")
    last = (folder / "summary.md").read_text("utf-8").rstrip().splitlines()[-2:]
    assert [line.split(" | ")[0] for line in last] == ["| relu, 1 BN", "| sigmoid, 1 BN"]
    assert all("| 1 → 0 |" in line and line.count("×") == 2 for line in last)
    assert not (folder / "relu-without-bn.folded.onnx").exists()
    assert_equivalent(folder / "relu-1-bn.onnx", folder / "relu-1-bn.folded.onnx")


def test_the_same_seed_gives_the_same_bytes(study, no_folds: None) -> None:
    """Curves, figure and models; another seed gives others."""
    first, again = study("speedup", "first"), study("speedup", "again")
    for path in first.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    other = study("speedup", "other", "--seed", "1")
    assert (first / "curves.csv").read_bytes() != (other / "curves.csv").read_bytes()


def test_what_is_finished_is_not_done_again(
    study, no_folds: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an interruption the trainings that had ended are there."""
    make, made = running.make, []

    def interrupted(recipe, *arguments, **keywords):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(recipe)
        return make(recipe, *arguments, **keywords)

    monkeypatch.setattr(running, "make", interrupted)
    with pytest.raises(AssertionError):
        study("speedup")  # exits with 130
    assert len(made) == 2
    made.clear()
    monkeypatch.setattr(running, "make", lambda *a, **k: made.append(a[0]) or make(*a, **k))
    study("speedup")
    assert len(made) == 2
    made.clear()
    study("speedup")
    assert made == []


def test_a_fold_is_made_once(study, monkeypatch: pytest.MonkeyPatch) -> None:
    study("shift")
    monkeypatch.setattr(folds, "fold", lambda *_: pytest.fail("folded again"))
    study("shift")


class TestShelf:
    def test_work_that_fails_leaves_no_place(self, tmp_path: Path) -> None:
        shelf = Shelf(tmp_path)
        place = shelf.place("run", {"seed": 0})

        def fail() -> None:
            with shelf.making(place) as folder:
                (folder / "half").write_text("x")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert not place.exists()
        with shelf.making(place) as folder:
            assert list(folder.iterdir()) == []
        assert place.exists()

    def test_whatever_decides_a_run_decides_its_place(self, tmp_path: Path) -> None:
        shelf = Shelf(tmp_path)
        assert shelf.place("run", {"a": 1, "b": 2}) == shelf.place("run", {"b": 2, "a": 1})
        assert shelf.place("run", {"a": 1}) != shelf.place("run", {"a": 2})

    def test_a_pixel_makes_other_data(self, few_digits: Dataset) -> None:
        images = few_digits.train.images.copy()
        images[0, 0, 0, 0] += 1
        other = type(few_digits.train)(images, few_digits.train.labels)
        changed = type(few_digits)("x", few_digits.classes, other, few_digits.test)
        assert fingerprint(changed) != fingerprint(few_digits)


def test_a_model_takes_other_statistics(few_digits: Dataset, tmp_path: Path) -> None:
    """What the study writes into a file is what torch would compute with."""
    shop = Workshop(tmp_path, Setting(epochs=1), few_digits)
    (run,) = shop.train(
        {"r": Setting(epochs=1).perceptron("relu", 2)}, probe=statistics.MovingStatistics
    )
    base = onnx.load(run.model)
    own = statistics.with_statistics(base, statistics.of_kind(run, "EMA 0.9"))
    assert statistics.accuracy(own, few_digits.test) == run.last.accuracy
    assert_equivalent(base, own)  # the training's own are these, but for rounding
    other = statistics.with_statistics(base, statistics.of_kind(run, "EMA 0.999"))
    with pytest.raises(AssertionError):
        assert_equivalent(base, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speedup", "--data", "nowhere"], "no data at nowhere"),
        (["speedup", "--data", "mnist"], "mnist is not here"),
        (["speedup", "--data", "images"], "reads images of 1 channels"),
        (["shift", "--keras"], "--keras is for"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line on what is wrong and one on what to do; exit code 2."""
    pytest.importorskip("keras") if "--keras" in arguments else None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main([*arguments, "--epochs", "1"]) == 2
    error, hint = capsys.readouterr().err.strip().splitlines()[-2:]
    assert error.startswith("error: ")
    assert message in error + hint
    assert hint.startswith("hint: ")
