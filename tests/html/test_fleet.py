"""Does the page of a fleet say what its manifest says, wherever it lies and whatever is in it?"""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import fleets
import pytest
from results import HOSTILE, fleet, swept_model
from tags import Reader

import bnfold
from bnfold.errors import InputError
from bnfold.fleet.manifest import FOLDER, Manifest
from bnfold.fleet.storage import Place
from bnfold.html import page
from bnfold_cli import app


@pytest.fixture(scope="module")
def made() -> Reader:
    return Reader(page(fleet(60)))


def manifest(folder: Path | str, count: int) -> str:
    """A manifest as a sweep over so many models leaves it, and where its lines are."""
    found = Manifest(Place(str(folder)))
    for index in range(len(HOSTILE), len(HOSTILE) + count):
        found.save(swept_model(index))
    found.merge()
    return found.url


# -- what it says -------------------------------------------------------------------------------


def test_every_tag_is_closed(made: Reader) -> None:
    """The page is well formed, pictures included."""
    assert made.open == []


def test_the_answers_come_first(made: Reader) -> None:
    """How many of how many, equivalent or not, done or not, gains, sizes."""
    start = made.text[: made.text.index("Not equivalent, or not done")]
    order = ["Folded 736 of 828 BatchNormalization nodes in 60 models", "2 not equivalent"]
    order += ["46 are, 6 nothing to fold", "6 could not be done", "6 timed out"]
    order += ["×1.08 in the median", "920 fewer nodes", "4,140 → 3,220 nodes"]
    places = [start.index(words) for words in order]
    assert places == sorted(places)


def test_failures_have_their_error(made: Reader) -> None:
    """The text of the error and what to do, for every model that came to nothing."""
    table = made.text[made.text.index("Not equivalent, or") : made.text.index("Every model")]
    assert table.count("took <b>too long</b>") == 6
    assert table.count("error 1e-2 is above 1e-5") == 2
    assert table.count("pass --timeout & wait") == 6


def test_reasons_over_all_models(made: Reader) -> None:
    """Sites and models of each reason, one that this version does not know included."""
    table = made.text[made.text.index("reasonsitesmodelsmeaning") :]
    assert "BNF202 shared-value9246" in table[:200]
    assert "BNF9994646" in table[:200]
    assert made.text.count("BNF202 shared-value:") == 1


def test_extremes(made: Reader) -> None:
    """The nearest to its limit comes first, and so do the slowest and the longest."""
    records = [r for r in fleet(60)["swept"] if r["limit"]]
    worst = max(records, key=lambda r: r["candidate_error"])
    after = made.text[made.text.index("share of what is allowed") :]
    assert worst["model"] in after[:200]
    longest = max(fleet(60)["swept"], key=lambda r: r["seconds"])["model"]
    after = made.text[made.text.index("Longest to fold and prove") :]
    assert longest in after[:200]
    slower = [r for r in fleet(60)["swept"] if (r["speed"] or {"speedup": 2})["speedup"] < 0.98]
    after = made.text[made.text.index("Slower than before") :]
    assert min(slower, key=lambda r: r["speed"]["speedup"])["model"] in after[:200]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text(made: Reader, name: str) -> None:
    """A model's name is shown whole, and neither it nor an error is ever markup."""
    assert name in made.text
    assert {tag for tag, _ in made.tags} & {"img", "em", "i", "u", "b"} == set()
    assert sum(tag == "script" for tag, _ in made.tags) == 1


def test_only_pages_that_are_there_are_linked(made: Reader) -> None:
    """A link for each page that was named, and nothing that is loaded from anywhere."""
    links = [str(a["href"]) for tag, a in made.tags if tag == "a" and a.get("href")]
    assert [link for link in links if not link.startswith("#")] == ["reports/first.html"]
    assert not any(a.get("src") for _, a in made.tags)
    policy = next(a["content"] for t, a in made.tags if "http-equiv" in a)
    assert (policy or "").startswith("default-src 'none'; ")


def test_no_models() -> None:
    """A sweep that was ended before its first model has a page, without pictures and tables."""
    text = Reader(page(fleet(0))).text
    assert "Nothing to fold in 0 models" in text
    assert "Every model" in text
    assert "Worst errors" not in text


def test_nothing_timed_and_nothing_wrong() -> None:
    """What was not asked for, or did not happen, is said or left out."""
    text = Reader(page(_without_speed(fleet(1)))).text
    assert "1 equivalent" in text
    assert "Not timed" in text
    assert "No failure" in text
    assert "Not equivalent, or" not in text


def _without_speed(document: dict[str, Any]) -> dict[str, Any]:
    swept = [record | {"speed": None} for record in document["swept"]]
    return document | {"swept": swept, "paces": {}, "speedup": None}


def test_only_float64_is_drawn_as_such() -> None:
    """An error that was judged by the runtime's noise is no error against float64."""
    document = fleet(60)
    for record in document["swept"]:
        record["judge"] = record["judge"] and "noise"
    text = Reader(page(document)).text
    assert "Errors against float64" not in text
    assert "Worst errors" in text


def test_many_models() -> None:
    """2,000 models are a page of less than 2 MB, drawn while somebody waits."""
    document = fleet(2000)
    start = time.perf_counter()
    assert len(page(document).encode()) < 2_000_000
    assert time.perf_counter() - start < 20  # about one second on an idle machine


@pytest.mark.parametrize("spoiled", [{"swept": 3}, {"swept": [{}]}, {"outcomes": {}}])
def test_a_spoiled_document_is_refused(spoiled: dict[str, Any]) -> None:
    """The error says how to make it anew."""
    with pytest.raises(InputError) as caught:
        page(fleet(3) | spoiled)
    assert "bnfold sweep" in caught.value.hint


# -- from where, and to where -------------------------------------------------------------------


def links(path: Path | str) -> list[str]:
    text = Path(path).read_text("utf-8") if isinstance(path, Path) else path
    found = [str(a["href"]) for tag, a in Reader(text).tags if tag == "a" and a.get("href")]
    return [link for link in found if not link.startswith("#")]


def test_a_manifest_is_told_by_its_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever its name; one line is a manifest too, and --force writes over a page."""
    for count in (1, 5):
        path = Path(manifest(tmp_path, count)).rename(tmp_path / "odd.json")
        assert app.run(["report", str(path), "--force"]) == 0
        assert capsys.readouterr().out == f"Wrote {tmp_path / 'odd.html'}, the report\n"
    assert "in 5 models" in (tmp_path / "odd.html").read_text("utf-8")
    assert app.run(["report", str(path)]) == 2
    assert "already exists" in capsys.readouterr().err


def test_what_sweep_prints_is_drawn_too(tmp_path: Path) -> None:
    """The document of `sweep --json` makes the page of its manifest."""
    (tmp_path / "swept.json").write_text(json.dumps(fleet(3)), "utf-8")
    assert app.run(["report", str(tmp_path / "swept.json")]) == 0
    assert "in 3 models" in (tmp_path / "swept.html").read_text("utf-8")


@pytest.mark.parametrize(
    "content", [b"", b"\n", b'{"schema": 1, "model": "x", "outcome": "equivalent"}\n', b"{}\n{}\n"]
)
def test_what_is_no_manifest(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty or damaged one is an error with a hint, and no page."""
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(content)
    assert app.run(["report", str(path)]) == 2
    assert "hint: " in capsys.readouterr().err
    assert not (tmp_path / "manifest.html").exists()


def test_at_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    """A manifest in a store is drawn beside itself, where the links to the pages hold."""
    place = Place(f"memory://{uuid.uuid4().hex}/{FOLDER}")
    url = manifest(place.url, 3)
    name = swept_model(len(HOSTILE)).model
    place.write(f"reports/{name}.html", b"a page")
    assert app.run(["report", url]) == 0
    assert links((place.read("manifest.html") or b"").decode()) == [f"reports/{name}.html"]
    assert app.run(["report", url]) == 2
    assert "already exists" in capsys.readouterr().err
    assert app.run(["report", f"{place.url}/none.jsonl"]) == 2
    assert "there is no memory://" in capsys.readouterr().err


@pytest.mark.isolated
def test_each_model_links_to_its_own_page(tmp_path: Path) -> None:
    """`--reports` writes a page for each model, and the fleet's page finds them from anywhere."""
    source = fleets.fleet(tmp_path / "source", 1)
    fleets.save(fleets.small(), source / "50% off & <b>#1?.onnx")
    (source / "garbage.onnx").write_bytes(b"this is no model")
    options: dict[str, Any] = {"bench": False, "samples": 1, "workers": 1, "reports": True}
    swept = list(bnfold.sweep(str(source), str(tmp_path / "folded"), **options))
    assert sorted(record.outcome for record in swept) == ["equivalent", "equivalent", "failed"]
    lines = tmp_path / "folded" / FOLDER / "manifest.jsonl"
    elsewhere = tmp_path / "web" / "fleet.html"
    elsewhere.parent.mkdir()
    assert app.run(["report", str(lines)]) == 0
    assert app.run(["report", str(lines), "-o", str(elsewhere)]) == 0
    for path in (lines.with_suffix(".html"), elsewhere):
        found = links(path)
        assert len(found) == 2
        for link in found:
            assert "Folded 1 of 1" in Path(_opened(path, link)).read_text("utf-8")


def _opened(path: Path, link: str) -> str:
    """The file that a browser would open."""
    return unquote(urlsplit(urljoin(path.as_uri(), link)).path)
