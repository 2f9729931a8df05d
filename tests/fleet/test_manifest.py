"""Does the manifest say what happened, whoever else writes to it?"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest

from bnfold.errors import InputError
from bnfold.fleet.manifest import LINES, RECORDS, TABLE, Manifest, read_lines
from bnfold.fleet.record import Failure, FileState, FleetSpeed, SweptModel, from_dict
from bnfold.fleet.storage import Place
from bnfold.fleet.summary import summarize

RECORD = SweptModel(
    model="a/net.onnx",
    source="s3://models",
    outcome="equivalent",
    bnfold="0.1.0",
    options={"samples": 2},
    sha256="0" * 64,
    inputs={"a/net.onnx": FileState("0" * 64, 10, "10 etag")},
    outputs={"a/net.onnx": FileState("1" * 64, 9)},
    sites=3,
    folded=2,
    normalizations=3,
    normalizations_folded=2,
    kept={"BNF202": 1},
    nodes_before=9,
    nodes_after=7,
    candidate_error=2e-7,
    original_error=1e-7,
    limit=1e-5,
    judge="float64",
    speed=FleetSpeed(1.2, (1.1, 1.3), 1.0, (0.99, 1.01), True, True, 12.0, 10.0, "CPU", "all", 1),
    speed_options={},
)
FAILED = dataclasses.replace(
    RECORD,
    model="b.onnx",
    outcome="failed",
    failure=Failure("crashed", "gone", "look"),
    speed=None,
)


def test_a_record_comes_back_as_it_was() -> None:
    """By way of JSON."""
    for record in (RECORD, FAILED):
        assert from_dict(json.loads(json.dumps(record.to_dict()))) == record


@pytest.mark.parametrize("change", [{"schema": 2}, {"inputs": {"a": {"size": 1}}}, {"inputs": 3}])
def test_a_record_of_another_kind_counts_as_none(change: dict[str, object]) -> None:
    """Then its model is done again."""
    assert from_dict(RECORD.to_dict() | change) is None


def test_merge(anywhere: str) -> None:
    """A line and a row for each record, in the order of their names."""
    manifest = Manifest(Place(anywhere))
    manifest.save(FAILED)
    manifest.save(RECORD)
    assert manifest.record("a/net.onnx") == RECORD
    assert manifest.merge() == {"a/net.onnx": RECORD, "b.onnx": FAILED}
    lines = manifest.place.read(LINES)
    assert lines is not None
    assert read_lines(lines) == [RECORD, FAILED]
    rows = list(csv.DictReader(io.StringIO((manifest.place.read(TABLE) or b"").decode())))
    assert [row["model"] for row in rows] == ["a/net.onnx", "b.onnx"]
    assert (rows[0]["speedup"], rows[0]["interval_low"], rows[0]["kept"]) == (
        "1.2",
        "1.1",
        "BNF202:1",
    )
    assert (rows[0]["failure"], rows[1]["failure"]) == ("", "crashed: gone")


def test_records_that_come_in_between_are_not_lost(tmp_path: Path) -> None:
    """Another sweep that merges while this one writes: the later write holds its record too."""
    mine = Manifest(Place(str(tmp_path)))
    mine.save(RECORD)
    write, others = mine.place.write, Manifest(Place(str(tmp_path)))

    def interrupted(name: str, data: bytes) -> None:
        if others.record(FAILED.model) is None:
            others.save(FAILED)
            others.merge()
        write(name, data)

    mine.place.write = interrupted  # type: ignore[method-assign]
    mine.merge()
    assert len(read_lines((tmp_path / LINES).read_bytes())) == 2


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    """Its model is done again; the others are as they were."""
    manifest = Manifest(Place(str(tmp_path)))
    manifest.save(RECORD)
    (tmp_path / RECORDS / "half.onnx.json").write_text('{"schema": 1, "model": "ha')
    assert list(manifest.records()) == ["a/net.onnx"]


def test_other_files_are_no_manifest() -> None:
    """An error that names the line."""
    good = json.dumps(RECORD.to_dict()).encode()
    for data, number in ((b"", 1), (b"{}", 1), (good + b"\n\nnonsense\n", 2)):
        with pytest.raises(InputError, match=f"line {number} is no record"):
            read_lines(data)


def test_summary() -> None:
    """Counts and sums; a failure is neither timed nor equivalent."""
    found = summarize([RECORD, FAILED, dataclasses.replace(RECORD, skipped=True)])
    assert (found.models, found.skipped, found.could_not, found.not_equivalent) == (3, 1, 1, 0)
    assert found.outcomes["equivalent"] == 2
    assert found.failures == {"crashed": 1}
    assert found.paces == {"faster": 2}
    assert found.speedup == 1.2
    assert (found.nodes_before, found.kept) == (27, {"BNF202": 3})
    empty = summarize([])
    assert (empty.models, empty.speedup, empty.could_not) == (0, None, 0)
