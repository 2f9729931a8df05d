"""What does the page of a fleet say? The totals and records of a sweep, put into words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bnfold.explanations import to_dict
from bnfold.html.words import Tone, Verdict, number, ratio, size
from bnfold.reasons import Reason

Json = Mapping[str, Any]

STATES = {
    "equivalent": "equivalent",
    "unchanged": "nothing to fold",
    "unproven": "not verified",
    "not_equivalent": "not equivalent",
    "failed": "could not be done",
}
OTHERS = ("unchanged", "unproven")
"""Outcomes that are neither good nor bad."""
MOST = 20
"""Rows of the tables of extremes."""


def parts(document: Json) -> dict[str, Any]:
    """What the template needs of what `bnfold sweep --json` prints.

    `pages`, where the document has it, maps models to the addresses of their own pages.
    """
    from bnfold.html.pictures import fleet as pictures

    records: Sequence[Json] = document["swept"]
    pages: Mapping[str, str] = document.get("pages", {})
    return {
        "headline": headline(document),
        "verdicts": verdicts(document),
        "rows": [_row(record, pages.get(record["model"])) for record in records],
        "failures": [_failure(record) for record in records if failure(record)],
        "extremes": extremes(records),
        "reasons": [to_dict(reason) for reason in Reason if reason.code in document["kept"]],
        "pictures": pictures.every(document),
    }


# -- the answers --------------------------------------------------------------------------------


def headline(document: Json) -> str:
    """How many of how many, in how many models."""
    models = _counted(document["models"], "model")
    nodes = document["normalizations"]
    if nodes:
        done = document["normalizations_folded"]
        return f"Folded {done:,} of {nodes:,} BatchNormalization nodes in {models}"
    if document["sites"]:
        return f"Folded {document['folded']:,} of {document['sites']:,} affines in {models}"
    return f"Nothing to fold in {models}"


def verdicts(document: Json) -> list[Verdict]:
    """The answers that stand at the top of the page."""
    return [_equivalent(document), _done(document), _faster(document), _smaller(document)]


def _equivalent(document: Json) -> Verdict:
    outcomes = document["outcomes"]
    wrong, proven = outcomes["not_equivalent"], outcomes["equivalent"]
    told = [f"{outcomes[key]:,} {STATES[key]}" for key in OTHERS if outcomes[key]]
    if document["rolled_back"]:
        told.append(_counted(document["rolled_back"], "fold") + " taken back")
    if wrong:
        return Verdict(f"{wrong:,} not equivalent", ", ".join([f"{proven:,} are", *told]), "bad")
    return Verdict(f"{proven:,} equivalent", ", ".join(told), "good" if proven else "neutral")


def _done(document: Json) -> Verdict:
    """How many could not be done, and why."""
    failures = document["failures"]
    took = f"all models together took {number(document['seconds'])} seconds"
    if not failures:
        return Verdict("No failure", took, "good" if document["models"] else "neutral")
    kinds = ", ".join(f"{count:,} {_plain(kind)}" for kind, count in failures.items())
    return Verdict(f"{sum(failures.values()):,} could not be done", f"{kinds}; {took}", "bad")


def _faster(document: Json) -> Verdict:
    paces = document["paces"]
    if not paces:
        return Verdict("Not timed", "no speedup was measured")
    told = ", ".join(f"{count:,} {pace}" for pace, count in paces.items())
    speedup = document["speedup"]
    if speedup is None:
        return Verdict("Cannot tell how fast", told)
    tone: Tone = "good" if paces.get("faster", 0) > paces.get("slower", 0) else "neutral"
    return Verdict(f"{ratio(speedup)} in the median", told, tone)


def _smaller(document: Json) -> Verdict:
    before, after = document["nodes_before"], document["nodes_after"]
    word = f"{before - after:,} fewer nodes" if after < before else "The same size"
    sizes = f"{size(document['bytes_before'])} → {size(document['bytes_after'])}"
    return Verdict(word, f"{before:,} → {after:,} nodes; {sizes}")


def _plain(kind: str) -> str:
    return kind.replace("_", " ")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


# -- the models ---------------------------------------------------------------------------------


def failure(record: Json) -> Json | None:
    """What went wrong with a model, while it was folded or timed."""
    found: Json | None = record["failure"] or record["speed_failure"]
    return found


def _failure(record: Json) -> tuple[str, str, str, str]:
    found = failure(record)
    assert found is not None
    timing = "while timed: " if record["failure"] is None else ""
    return record["model"], _plain(found["kind"]), timing + found["message"], found["hint"]


def _row(record: Json, page: str | None) -> dict[str, Any]:
    found = failure(record)
    return {
        "model": record["model"],
        "page": page,
        "outcome": record["outcome"],
        "state": STATES[record["outcome"]],
        "figures": {
            "folded": _cell(record["folded"], lambda _: _folded(record)),
            "error": _cell(record["candidate_error"], "{:.1e}".format),
            "speedup": _cell(_speedup(record), ratio),
            "seconds": _cell(record["seconds"], "{:.1f}".format),
        },
        "failure": "" if found is None else _plain(found["kind"]),
        "kept": ", ".join(f"{code} ({count})" for code, count in record["kept"].items()),
    }


def _cell(value: float | None, text: Callable[[Any], str]) -> dict[str, Any]:
    """What is shown, and by what it is sorted."""
    return {"value": value, "text": "" if value is None else text(value)}


def _folded(record: Json) -> str:
    return f"{record['folded']:,} of {record['sites']:,}" if record["sites"] else ""


def _speedup(record: Json) -> float | None:
    """Nothing where it cannot be told."""
    speed = record["speed"]
    return float(speed["speedup"]) if speed and speed["stable"] else None


def share(record: Json) -> float | None:
    """How much of what it was allowed the error of a model is; None where it is not known."""
    error, limit = record["candidate_error"], record["limit"]
    return error / limit if error is not None and limit else None


# -- the extremes -------------------------------------------------------------------------------


def extremes(records: Sequence[Json]) -> list[tuple[str, tuple[str, ...], list[Any]]]:
    """Tables of the models that need a look: the worst errors, what became slower, what took long.

    Each with its title and header.
    """
    judged = _most([r for r in records if share(r) is not None], lambda r: -(share(r) or 0.0))
    timed = [r for r in records if r["speed"] and r["speed"]["stable"]]
    slower = [r for r in timed if r["speed"]["significant"] and r["speed"]["speedup"] < 1]
    worked = [r for r in records if r["seconds"]]
    return [
        (
            "Worst errors",
            ("model", "judge", "original", "folded", "allowed", "share of what is allowed"),
            [_judged(r) for r in judged],
        ),
        (
            "Slower than before",
            ("model", "speedup", "original against itself", "median (ms)"),
            [
                _timed(r["model"], r["speed"])
                for r in _most(slower, lambda r: float(r["speed"]["speedup"]))
            ],
        ),
        (
            "Longest to fold and prove",
            ("model", "seconds", "peak memory", "size"),
            [_worked(r) for r in _most(worked, lambda r: -float(r["seconds"]))],
        ),
    ]


def _most(records: Sequence[Json], key: Callable[[Json], float]) -> list[Json]:
    return sorted(records, key=key)[:MOST]


def _judged(record: Json) -> tuple[str, ...]:
    errors = (record[key] for key in ("original_error", "candidate_error", "limit"))
    written = ("" if error is None else f"{error:.1e}" for error in errors)
    return record["model"], record["judge"] or "", *written, f"{share(record) or 0.0:.0%}"


def _timed(model: str, speed: Json) -> tuple[str, ...]:
    interval = "{} [{:.2f}, {:.2f}]"
    return (
        model,
        interval.format(ratio(speed["speedup"]), *speed["interval"]),
        interval.format(ratio(speed["control"]), *speed["control_interval"]),
        f"{speed['original_ms']:.3g} → {speed['candidate_ms']:.3g}",
    )


def _worked(record: Json) -> tuple[str, ...]:
    sizes = (_size(record[key]) for key in ("peak_bytes", "bytes_before"))
    return record["model"], f"{record['seconds']:.1f}", *sizes


def _size(count: int) -> str:
    return size(count) if count else ""
