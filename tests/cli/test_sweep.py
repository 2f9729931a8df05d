"""Does `bnfold sweep` hand on its options, and say with its exit code what became of the fleet?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from results import HOSTILE, swept_model

import bnfold
from bnfold.fleet import storage
from bnfold.fleet.record import SweptModel
from bnfold.fleet.sweeping import Plan
from bnfold_cli import app

GOOD = swept_model(len(HOSTILE))
FAILED = swept_model(11)
WRONG = swept_model(53)


class Fleet:
    """What `bnfold.sweep` was asked for, and the records that it gives."""

    def __init__(self, records: list[SweptModel]) -> None:
        self.records = records
        self.asked: dict[str, Any] = {}
        self.given = 0

    def sweep(self, source: str, destination: str, **options: Any) -> Iterator[SweptModel]:
        self.asked = {"source": source, "destination": destination, **options}
        return self._records(options["on_start"])

    def _records(self, on_start: Any) -> Iterator[SweptModel]:
        on_start(Plan(len(self.records), "folded/bnfold/manifest.jsonl"))
        for record in self.records:
            self.given += 1
            yield record


@pytest.fixture
def fleet(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    made = Fleet(getattr(request, "param", [GOOD]))
    monkeypatch.setattr(bnfold, "sweep", made.sweep)
    return made


@pytest.mark.parametrize(
    ("fleet", "code"),
    [
        ([GOOD], 0),
        ([], 0),
        ([GOOD, FAILED], 2),
        ([GOOD, WRONG], 1),
        ([FAILED, WRONG, GOOD], 1),
    ],
    indirect=["fleet"],
)
def test_exit_codes(fleet: Fleet, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """0 where all is well, 2 where some could not be done, 1 where one is not equivalent."""
    assert app.run(["sweep", "models", "folded"]) == code
    out = capsys.readouterr().out
    count = len(fleet.records)
    assert out.startswith(f"Swept {count} model" + ("" if count == 1 else "s"))
    assert "Wrote folded/bnfold/manifest.jsonl" in out


@pytest.mark.parametrize("fleet", [[GOOD, FAILED, WRONG]], indirect=True)
def test_json_is_one_document(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """Totals, every record and the command, and nothing else on the standard output."""
    assert app.run(["sweep", "models", "folded", "--json", "--seed", "3"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "sweep"
    assert document["reproduce"] == "bnfold sweep models folded --json --seed 3"
    assert document["manifest"] == "folded/bnfold/manifest.jsonl"
    assert [record["model"] for record in document["swept"]] == [
        record.model for record in fleet.records
    ]
    assert document["outcomes"]["failed"] == document["outcomes"]["not_equivalent"] == 1


def test_options_are_handed_on(fleet: Fleet) -> None:
    """Each under the library's name; what was not typed is left to the library."""
    typed = """--manifest m --scheduler tcp://h:1 --workers 3 --memory-limit 2GB --timeout 9
        --again --checksum --force --reports --no-bench --dim batch=4 --samples 2 --seed 5
        --atol 0 --no-verify --no-reparameterize --keep-overridable"""
    assert app.run(["sweep", "s3://a", "gs://b", *typed.split()]) == 0
    fleet.asked.pop("on_start")
    assert fleet.asked == {
        "source": "s3://a",
        "destination": "gs://b",
        "manifest": "m",
        "workers": 3,
        "scheduler": "tcp://h:1",
        "memory_limit": "2GB",
        "timeout": 9.0,
        "again": True,
        "checksum": True,
        "force": True,
        "reports": True,
        "bench": False,
        "samples": 2,
        "dims": {"batch": 4},
        "seed": 5,
        "atol": 0.0,
        "verify": False,
        "reparameterize": False,
        "keep_overridable": True,
    }
    assert app.run(["sweep", "a", "b"]) == 0
    fleet.asked.pop("on_start")
    flags = dict.fromkeys(("again", "checksum", "force", "reports"), False)
    assert fleet.asked == {"source": "a", "destination": "b", "bench": True, **flags}


@pytest.mark.parametrize("fleet", [[GOOD, FAILED, GOOD]], indirect=True)
def test_the_first_failure_can_end_it(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """With --fail-fast nothing after it is asked for, and the totals say of how many."""
    assert app.run(["sweep", "models", "folded", "--fail-fast"]) == 2
    assert fleet.given == 2
    assert "Swept 2 models of 3" in capsys.readouterr().out


@pytest.mark.parametrize("library", ["distributed", "fsspec", "psutil"])
def test_without_the_extra(
    library: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The error says what installs it, and nothing is written."""
    found = storage.find_spec
    monkeypatch.setattr(
        "bnfold.fleet.storage.find_spec", lambda name: None if name == library else found(name)
    )
    assert app.run(["sweep", str(tmp_path), str(tmp_path / "folded")]) == 2
    error = capsys.readouterr().err
    assert f"error: a sweep needs {library}, which is not installed" in error
    assert 'hint: pip install "bnfold[sweep]"' in error
    assert not (tmp_path / "folded").exists()
