"""Nothing in a certificate is believed unchecked: every value is edited, and every edit shows.

What a rerun cannot tell apart is named as taken on trust, and that list is short. The proofs are
made once for each set of arguments: what is tested is what is done with them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from edits import edited, leaves, others

from bnfold import audit, certificate, certifying, equivalence
from bnfold.errors import BnfoldError
from bnfold.recount import spelled
from bnfold_cli import app

TRAINED = Path(__file__).parents[1] / "models" / "trained" / "digits-relu-bn1.onnx"

ON_TRUST = (
    "equivalence.settings.judge_seconds",
    "folding.reparameterize",
    "folding.keep_overridable",
)
"""What a certificate of this machine leaves to trust: three settings."""
UNTOLD = {"folding": ("folds", "merged")}
"""What is on trust where another part is gone: how it was folded."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained network that was folded and certified, in a folder where we are."""
    shutil.copy(TRAINED, tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    arguments = ["optimize", "net.onnx", "--no-bench", "--samples", "2", "-q"]
    assert app.run([*arguments, "--certificate", "proof.json"]) == 0
    remember(monkeypatch)
    return tmp_path


def remember(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a proof once for each set of arguments."""
    for module, name in ((equivalence, "verify"), (certifying, "_measured")):
        monkeypatch.setattr(module, name, remembered(getattr(module, name)))


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[str, Any] = {}

    def call(*arguments: Any, progress: object = None, **keywords: Any) -> Any:
        key = repr((arguments, keywords))
        if key not in known:
            known[key] = function(*arguments, **keywords)
        return known[key]

    return call


def edits(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every edit: the place in words, and the document."""
    for where, value in leaves(document):
        for other in others(value):
            text = edited(document, where, lambda held, key, o=other: held.__setitem__(key, o))
            yield spelled(where), text
        yield spelled(where), edited(document, where, lambda held, key: held.__delitem__(key))


def checked(text: str) -> certificate.Audit | None:
    """What a check with a rerun finds; None where it cannot be made."""
    Path("edited.json").write_text(text)
    try:
        return certificate.check("edited.json", rerun=True)
    except BnfoldError:
        return None


def test_every_edit_is_seen(folder: Path) -> None:
    """Whatever is changed or removed: it does not hold, cannot be checked, or is on trust.

    Of an honest certificate three settings are; an edit adds its own place at most.
    """
    document = json.loads(Path("proof.json").read_bytes())
    assert certificate.check("proof.json", rerun=True).on_trust == ON_TRUST
    count, missed, added = 0, [], []
    for place, text in edits(document):
        count += 1
        found = checked(text)
        if not found:
            continue
        if place not in found.on_trust:
            missed.append(place)
        if not {*ON_TRUST, *UNTOLD.get(place, ()), place} >= {*found.on_trust}:
            added.append((place, found.on_trust))
    assert not missed
    assert not added
    assert count > 800


def test_what_is_unknown_is_told(folder: Path) -> None:
    """A field that no certificate has is named, wherever it stands."""
    document = json.loads(Path("proof.json").read_bytes())
    for where in (
        (),
        ("original",),
        ("equivalence",),
        ("equivalence", "outputs", 0),
        ("folding",),
    ):
        place = spelled((*where, "approved"))
        text = edited(document, (*where, "approved"), lambda held, key: held.__setitem__(key, 1))
        Path("edited.json").write_text(text)
        found = certificate.check("edited.json", rerun=True)
        assert place in found.on_trust
        assert any(place in note for note in found.notes)


def test_versions_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Made with other versions it may hold, and says so; errors then have some room."""
    document = json.loads(Path("proof.json").read_bytes())
    document["equivalence"]["environment"]["onnxruntime"] = "1.2.3"
    document["equivalence"]["outputs"][0]["candidate_error"] *= 1.5
    document["folds"][0]["measured"] *= 1.5
    Path("edited.json").write_text(json.dumps(document))
    assert app.run(["verify", "--certificate", "edited.json", "--rerun"]) == 0
    out = capsys.readouterr().out
    assert "made with equivalence.environment.onnxruntime 1.2.3; here it is" in out
    document["equivalence"]["outputs"][0]["candidate_error"] *= 40
    Path("edited.json").write_text(json.dumps(document))
    assert app.run(["verify", "--certificate", "edited.json", "--rerun"]) == 1


def test_without_a_rerun_the_rest_is_unverified(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hashes were compared, and everything else is named as taken on trust."""
    assert app.run(["verify", "--certificate", "proof.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["on_trust"] == list(audit.UNPROVEN)
    assert app.run(["verify", "--certificate", "proof.json"]) == 0
    assert f"taken on trust: {', '.join(audit.UNPROVEN)}" in capsys.readouterr().out


def test_nothing_proven_is_nothing_believed(folder: Path) -> None:
    """A certificate whose proof was taken out says that the fold changed nothing: it did."""
    document = json.loads(Path("proof.json").read_bytes())
    Path("edited.json").write_text(json.dumps({**document, "equivalence": None}))
    assert "holds no proof" in certificate.check("edited.json", rerun=True).problems[0]


def test_a_fold_that_was_taken_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That it failed cannot be shown again, and is on trust; that it is not folded is shown."""
    document = json.loads(Path("proof.json").read_bytes())
    site = document["folds"][0]["tensor"]
    result = certificate_of(without=site)
    certificate.save(result, "back.json", force=True)
    found = certificate.check("back.json", rerun=True)
    assert found, found.problems
    assert {"folding.taken_back", "folds[0].detail"} <= set(found.on_trust)
    result["folding"] = {**result["folding"], "taken_back": []}
    certificate.save(result, "back.json", force=True)
    assert not certificate.check("back.json", rerun=True)


def certificate_of(without: str) -> dict[str, Any]:
    """What is certified where the proof has failed for one fold."""
    import bnfold
    from bnfold.takeback import marked

    folds = marked(bnfold.fold("net.onnx", keep=[without]), {without: "output y: error 1"})
    folds.save("net.folded.onnx")
    proof = bnfold.verify("net.onnx", "net.folded.onnx", samples=2)
    return certificate.certify("net.onnx", "net.folded.onnx", proof, folds=folds)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda d: d["equivalence"].update(digests=5),
            "`equivalence.digests` is a whole number where a list",
        ),
        (lambda d: d.update(folds={}), "`folds` is an object"),
        (lambda d: d["equivalence"].pop("seed"), "`equivalence.seed` is missing"),
        (lambda d: d["equivalence"].update(seed=-1), "out of range"),
        (lambda d: d["equivalence"]["settings"].update(samples=10**9), "tells of 1000000000"),
        (lambda d: d["equivalence"]["settings"].update(dims={"N": 10**30}), "out of range"),
        (
            lambda d: d["equivalence"]["settings"].update(
                providers=[["CPUExecutionProvider", {"trt_extra_plugin_lib_paths": "./evil.so"}]]
            ),
            "could name a library",
        ),
        (lambda d: d["original"].update(path="/dev/zero"), "is a device"),
        (lambda d: d["original"].update(path="pipe"), "is a FIFO"),
        (lambda d: d["original"].update(path="a\0b"), "null"),
    ],
)
def test_what_cannot_be_checked(
    folder: Path,
    change: Callable[[dict[str, Any]], object],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A value of another type, or one that would hang or harm: one line that says which."""
    import os

    os.mkfifo("pipe")
    document = json.loads(Path("proof.json").read_bytes())
    change(document)
    Path("edited.json").write_text(json.dumps(document))
    assert app.run(["verify", "--certificate", "edited.json", "--rerun"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "not JSON"),
        ('{"kind": "bnfold certificate", "kind": "x"}', "the same name twice"),
        ('{"kind": NaN}', "which JSON has not"),
        ('{"kind": 1e999}', "past any float"),
        ("1" * 5000, "not JSON"),
    ],
)
def test_what_readers_differ_in(
    tmp_path: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON that one program reads so and another one otherwise is no certificate."""
    (tmp_path / "x.json").write_text(text)
    assert app.run(["verify", "--certificate", str(tmp_path / "x.json")]) == 2
    assert words in capsys.readouterr().err


def test_a_certificate_is_a_file_of_some_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A FIFO is not waited for, a device not read, and a huge file not loaded."""
    import os

    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 40)
    for path, words in (
        (tmp_path / "pipe", "is a FIFO"),
        ("/dev/zero", "is a device"),
        (tmp_path, "is a folder"),
        (tmp_path / "huge.json", "larger than"),
    ):
        assert app.run(["verify", "--certificate", str(path)]) == 2
        assert words in capsys.readouterr().err
