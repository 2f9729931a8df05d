"""Does the page say what the result says, and is it one file that nothing can break into?"""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from results import HOSTILE, result
from tags import Reader

import bnfold
from bnfold.errors import BnfoldError, InputError, OutputError
from bnfold.html import page, words, write
from bnfold.visible import is_unseen
from bnfold_cli import app

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "trained" / "fashion.onnx"


@pytest.fixture(scope="module")
def made() -> Reader:
    return Reader(page(result(40)))


def test_every_tag_is_closed(made: Reader) -> None:
    """The page is well formed, pictures included."""
    assert made.open == []


def test_the_verdict_comes_first(made: Reader) -> None:
    """How many of how many, equivalent, faster with its interval and control, smaller."""
    start = made.text[: made.text.index("Every site")]
    assert "Folded 20 of 34 BatchNormalization nodes" in start
    order = ["Equivalent", "original 4.1e-07, folded 3.3e-07", "Faster", "×1.11 [1.09, 1.13]"]
    order += ["original against itself ×1.00 [0.99, 1.01]", "Smaller", "120 → 80 nodes"]
    places = [start.index(words) for words in order]
    assert places == sorted(places)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text(made: Reader, name: str) -> None:
    """A tensor's name is shown whole, and is never markup."""
    assert name in made.text
    assert {tag for tag, _ in made.tags} & {"img", "em", "i", "u", "b"} == set()
    assert sum(tag == "script" for tag, _ in made.tags) == 3


def test_what_a_model_says_is_seen() -> None:
    """Overrides, controls and halves of characters in names are shown by their numbers."""
    document = json.loads(json.dumps(result()).replace('"h1"', '"h\\u202e\\u009b\\udce91"'))
    document["model"] = "net\u202exnno.\udce9"
    text = page(document)
    assert "net\\u202exnno.\\udce9" in text
    assert not any(is_unseen(character) for character in text.replace("\n", ""))


def test_it_needs_nothing_else(made: Reader) -> None:
    """No address anywhere is followed: one file, also without a network."""
    for tag, attributes in made.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        for key in ("src", "href", "xlink:href", "action", "data"):
            assert (attributes.get(key) or "#").startswith("#"), (tag, attributes)
        assert not any(key.startswith("on") for key in attributes)
    policy = next(a["content"] for t, a in made.tags if "http-equiv" in a)
    assert (policy or "").startswith("default-src 'none'; ")


def test_ids_are_unique(made: Reader) -> None:
    """Many pictures in one page, and still each id names one thing, and each link finds it."""
    ids = [a["id"] for _, a in made.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    links = {a[k] for _, a in made.tags for k in ("href", "xlink:href") if a.get(k)}
    assert {str(link).removeprefix("#") for link in links} <= set(ids)


def test_pictures_have_words(made: Reader) -> None:
    """Each picture has a description, and a table behind it."""
    pictures = [a for t, a in made.tags if t == "svg" and a.get("role") == "img"]
    assert len(pictures) == 8
    assert all(len(str(a["aria-label"])) > 40 for a in pictures)
    assert made.text.count("The figures") == 8


def test_colors_follow_the_theme(made: Reader) -> None:
    """No picture has a colour of its own, except what has none."""
    for tag, attributes in made.tags:
        for color in re.findall(r"#[0-9a-fA-F]{6}", attributes.get("style") or ""):
            pytest.fail(f"{tag} has {color}")


def test_reasons_are_explained(made: Reader) -> None:
    """Each reason that occurs is told of once, with what can be done."""
    assert made.text.count("BNF202 shared-value:") == 1
    assert "Please report the model" in made.text


def test_environment_command_and_hashes(made: Reader) -> None:
    """What is needed to do it again."""
    for needed in ("bnfold optimize 'model & <b>co</b>.onnx'", "0" * 64, "1.31.1"):
        assert needed in made.text


def test_the_same_result_is_the_same_page() -> None:
    """Nothing of the time or of chance gets into the page."""
    assert page(result(9)) == page(result(9))


def test_size() -> None:
    """200 sites stay below 2 MB; 5,000 are a page too."""
    assert len(page(result(200)).encode()) < 2_000_000
    assert len(page(result(5000)).encode()) < 12_000_000


@pytest.mark.parametrize("part", ["equivalence", "speed", "anatomy"])
def test_parts_that_were_not_asked_for(part: str) -> None:
    """Without a proof, a timing or an anatomy the page says so or leaves it out."""
    assert "Folded" in Reader(page(result(3) | {part: None})).text


def test_no_sites() -> None:
    """A model without an affine has a page."""
    empty = result(0)
    assert "Nothing to fold" in Reader(page(empty)).text


def test_what_is_known_of_a_fold() -> None:
    """The range of its factors, and what rounding alone may change; nothing where nothing is."""
    assert words.facts(result(2)["folds"]["sites"][1]) == (
        "scale from -1.25 to 3.5; shift from 0 to 0.125; rounding the weights alone may change "
        "2e-07 of its magnitude; so ill-conditioned that samples which agree say little of others"
    )
    assert words.facts({}) == ""


def test_what_each_part_is_worth(made: Reader) -> None:
    """Every part with its worth, whether that is more than noise, and what is left without it."""
    start = made.text.index("speedup left without it")
    table = made.text[start : made.text.index("Error against float64")]
    assert "frozen inputs" in table
    assert "<b>more</b>" in table
    assert "×1.07 [1.06, 1.08]" in table
    assert "×1.04 [1.03, 1.05]" in table
    assert "These folds of its own are worth ×1.05 [1.04, 1.06]." in made.text


def test_counts_stand_beside_the_measurement() -> None:
    """What operations and bytes predict where all are known, and what was measured."""
    speed = result(2)["speed"]
    assert {row[0] for row in words.costs(speed)} == {
        "session made in, new process",
        "first run in, new process",
        "peak memory",
        "size of the model",
        "nodes",
        "parameters",
        "speedup, measured",
    }
    for which in ("original_work", "candidate_work"):
        del speed[which]["<s>"]
    costs = {row[0]: row[1:] for row in words.costs(speed)}
    assert costs["bytes moved, counted"] == ("55,000,000", "30,000,000 (predicts ×1.83)")
    assert costs["speedup, measured"] == ("", "×1.11 [1.09, 1.13]")


def test_work_has_no_bar_for_what_cannot_be_seen() -> None:
    """Types that do hardly anything, or of which nothing is known, stay out of the picture."""
    conv = {"nodes": 1, "operations": 10**9, "bytes": 10**6, "unknown": 0}
    tiny = {"nodes": 1, "operations": 3, "bytes": 3, "unknown": 0}
    document = result(2)
    document["speed"]["original_work"] = {"Conv": conv, "Tiny": tiny, "Odd": tiny | {"unknown": 1}}
    document["speed"]["candidate_work"] = {"Conv": conv}
    text = page(document)
    drawn = text[text.index("Work by operator type") :].split("</svg>")[0]
    assert "Conv" in drawn
    assert "Tiny" not in drawn
    assert "Shapes or costs of 1 more type are not known" in drawn


@pytest.mark.parametrize(
    ("value", "words_"),
    [
        (0.0123456, "0.0123"),
        (999.4, "999"),
        (4000.0, "4,000"),
        (-1234.5, "-1,234"),
        (1e9, "1e+09"),
    ],
)
def test_numbers(value: float, words_: str) -> None:
    """Three digits; thousands in full, until they are too long to read."""
    assert words.number(value) == words_


def test_a_failed_proof_says_so() -> None:
    spoiled = copy.deepcopy(result(3))
    spoiled["equivalence"]["outputs"][0]["passed"] = False
    assert words.verdicts(spoiled)[0].word == "Not equivalent"


@pytest.mark.parametrize(
    "spoiled",
    [
        {},
        [],
        None,
        "text",
        {"command": "inspect", "schema": 1},
        {"command": "optimize", "schema": 2},
        {"command": "optimize", "schema": 1},
        {"command": "optimize", "schema": 1, "folds": 3},
        result(3) | {"folds": {"sites": [{}]}},
        result(3) | {"speed": {"measurements": [{}]}},
    ],
)
def test_other_documents_are_refused(spoiled: Any) -> None:
    """What is no result of `optimize` ends in an error that says what to give."""
    with pytest.raises(InputError) as caught:
        page(spoiled)
    assert caught.value.hint


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_without_the_extra(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which command installs what is missing."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BnfoldError, match=library) as caught:
        page(result(3))
    assert caught.value.hint == 'pip install "bnfold[report]"'


def test_an_existing_page_stays(tmp_path: Path) -> None:
    """Nothing is overwritten without force."""
    path = tmp_path / "report.html"
    write(result(3), path)
    with pytest.raises(OutputError):
        write(result(4), path)
    write(result(4), path, force=True)
    assert list(tmp_path.iterdir()) == [path]


# -- the command line ---------------------------------------------------------------------------


def test_optimize_and_report_make_the_same_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`optimize --report` and `report RESULT.json` are two ways to one page."""
    first, second = tmp_path / "first.html", tmp_path / "result.html"
    command = ["optimize", str(MODEL), "-o", str(tmp_path / "out.onnx"), "--no-bench", "--json"]
    assert app.run([*command, "--report", str(first)]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "result.json").write_text(printed, "utf-8")
    assert app.run(["report", str(tmp_path / "result.json")]) == 0
    assert capsys.readouterr().out == f"Wrote {second}, the report\n"
    assert first.read_bytes() == second.read_bytes()
    roles = {f["role"]: f["sha256"] for f in json.loads(printed)["files"]}
    assert set(roles) == {"original", "folded"}
    assert all(digest in first.read_text("utf-8") for digest in roles.values())
    assert "Folded 3 of 3 BatchNormalization nodes" in first.read_text("utf-8")


def test_the_report_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra, or where the file exists, nothing is folded: exit code 2."""
    monkeypatch.setattr(bnfold, "optimize", lambda *_, **__: pytest.fail("it was folded"))
    page_path = tmp_path / "report.html"
    page_path.write_text("mine")
    command = ["optimize", str(MODEL), "-o", str(tmp_path / "out.onnx"), "--report"]
    assert app.run([*command, str(page_path)]) == 2
    assert "already exists" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert app.run([*command, str(tmp_path / "other.html")]) == 2
    assert 'hint: pip install "bnfold[report]"' in capsys.readouterr().err
    assert page_path.read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"3"])
def test_a_broken_result(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is no result is an error and no page."""
    path = tmp_path / "result.json"
    path.write_bytes(content)
    assert app.run(["report", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "hint: " in err
    assert not (tmp_path / "result.html").exists()


def test_a_missing_result(tmp_path: Path) -> None:
    assert app.run(["report", str(tmp_path / "none.json")]) == 2
