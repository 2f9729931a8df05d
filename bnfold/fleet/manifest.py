"""What is known of every model that was swept to a place? Records, each a file of its own.

A record is written in one piece when its model is done, so a sweep that is killed loses only what
was under way, and two sweeps at once never write into one file. `manifest.jsonl` and
`manifest.csv` are all records together, made anew from them; whoever makes it looks again
afterwards whether a record came in between, so the last of several sweeps leaves it complete.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from bnfold.errors import InputError
from bnfold.fleet.record import SweptModel, from_dict
from bnfold.fleet.storage import Place
from bnfold.regular import parsed
from bnfold.report import SCHEMA, finite
from bnfold.visible import visible_json

KIND = "bnfold fleet"
FOLDER = "bnfold"
"""Below the destination, where no other place was asked for."""
HEAD = "fleet.json"
LINES, TABLE = "manifest.jsonl", "manifest.csv"
RECORDS, RESULTS, REPORTS = "records", "results", "reports"
ROUNDS = 5
"""How often records that came in between are gathered again; their own sweep ends later."""

Document = Mapping[str, Any]


class Manifest:
    """The records of a destination."""

    def __init__(self, place: Place) -> None:
        self.place = place

    @property
    def url(self) -> str:
        """Where the lines are."""
        return f"{self.place.full_url.rstrip('/')}/{LINES}"

    def exists(self) -> bool:
        """Whether a sweep was here before."""
        return self.place.read(HEAD) is not None

    def begin(self) -> None:
        """Mark the place as one that sweeps may write to."""
        self.place.write(HEAD, _json({"schema": SCHEMA, "kind": KIND}))

    # -- records --------------------------------------------------------------------------------

    def record(self, model: str) -> SweptModel | None:
        """What is known of one model."""
        data = self.place.read(f"{RECORDS}/{model}.json")
        return None if data is None else _parsed(data)

    def records(self) -> dict[str, SweptModel]:
        """What is known of every model, in the order of their names."""
        names = self.place.names(RECORDS)
        parsed = map(_parsed, self.place.read_all(names))
        found = {record.model: record for record in parsed if record is not None}
        return dict(sorted(found.items()))

    def save(self, record: SweptModel) -> SweptModel:
        """Write one record, from then on its model is done; as it is written, with what earlier
        sweeps wrote for the model."""
        before = self.record(record.model)
        earlier = frozenset() if before is None else before.of_sweeps
        record = dataclasses.replace(record, written=sorted(earlier | {*record.written}))
        self.place.write(f"{RECORDS}/{record.model}.json", _json(record.to_dict()))
        return record

    def save_result(self, model: str, document: Document) -> None:
        """Keep what `bnfold optimize --json` would print of a model."""
        self.place.write(f"{RESULTS}/{model}.json", _json(document))

    def result(self, model: str) -> dict[str, Any] | None:
        """What `bnfold optimize --json` would have printed of a model."""
        data = self.place.read(f"{RESULTS}/{model}.json")
        try:
            return None if data is None else dict(json.loads(data))
        except (ValueError, TypeError):
            return None

    # -- all together ---------------------------------------------------------------------------

    def merge(self) -> dict[str, SweptModel]:
        """Write `manifest.jsonl` and `manifest.csv` from the records, which are returned."""
        current = self.records()
        for _ in range(ROUNDS):
            self.place.write(LINES, b"".join(_json(r.to_dict()) for r in current.values()))
            self.place.write(TABLE, table(current.values()).encode("utf-8"))
            written, current = current, self.records()
            if written == current:
                break
        return current


def _parsed(data: bytes) -> SweptModel | None:
    try:
        document = parsed(data)
    except ValueError:
        return None
    return from_dict(document) if isinstance(document, dict) else None


def _json(document: Document) -> bytes:
    text = visible_json(json.dumps(finite(document), ensure_ascii=False, allow_nan=False))
    return text.encode("utf-8") + b"\n"


def read_lines(data: bytes) -> list[SweptModel]:
    """The records of a `manifest.jsonl`. Raises InputError where it is something else."""
    lines = [line for line in data.splitlines() if line.strip()]
    records = [_parsed(line) for line in lines]
    if not records or None in records:
        number = records.index(None) + 1 if None in records else 1
        raise InputError(
            f"line {number} is no record of a sweep",
            f"give the {LINES} that `bnfold sweep` wrote, of this version of bnfold",
        )
    return [record for record in records if record is not None]


# -- as a table ---------------------------------------------------------------------------------

COLUMNS = (
    "model source outcome sha256 bnfold sites folded merged normalizations "
    "normalizations_folded rolled_back nodes_before nodes_after bytes_before bytes_after judge "
    "original_error candidate_error limit seconds peak_bytes finished host"
).split()
SPEED_COLUMNS = "speedup control significant stable original_ms candidate_ms".split()


def table(records: Iterable[SweptModel]) -> str:
    """The records as CSV: one row for each model, what is not known left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *SPEED_COLUMNS, "interval_low", "interval_high", "kept", "failure"])
    for record in records:
        writer.writerow(_row(record))
    return text.getvalue()


def _row(record: SweptModel) -> list[Any]:
    speed, failure = record.speed, record.failure or record.speed_failure
    return [
        *(getattr(record, column) for column in COLUMNS),
        *(getattr(speed, column, None) for column in SPEED_COLUMNS),
        *(speed.interval if speed else (None, None)),
        " ".join(f"{code}:{count}" for code, count in record.kept.items()),
        f"{failure.kind}: {failure.message}" if failure else None,
    ]
