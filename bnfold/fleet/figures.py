"""Which figures of a result does a record hold? From the JSON document of one model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from bnfold.fleet.record import FleetSpeed, Outcome

Json = Mapping[str, Any]
NORMALIZATION = "BatchNormalization"


def figures(document: Json) -> dict[str, Any]:
    """The fields of a record that folding and proving tell."""
    folds = document["folds"]
    sites = folds["sites"]
    nodes = [site for site in sites if site["op_type"] == NORMALIZATION]
    kept = Counter(str(site["code"]) for site in sites if site["verdict"] != "folded")
    return {
        "outcome": _outcome(document),
        "sites": len(sites),
        "folded": _count(sites, "folded"),
        "merged": len(folds["merged"]),
        "normalizations": len(nodes),
        "normalizations_folded": _count(nodes, "folded"),
        "rolled_back": _count(sites, "rolled_back"),
        "kept": dict(sorted(kept.items())),
        "nodes_before": folds["nodes_before"],
        "nodes_after": folds["nodes_after"],
        "bytes_before": document["original_bytes"],
        "bytes_after": document["bytes"],
        **_proof(document["equivalence"]),
    }


def _count(sites: list[Json], verdict: str) -> int:
    return sum(site["verdict"] == verdict for site in sites)


def _outcome(document: Json) -> Outcome:
    """An `optimize` that ended without an error wrote a model; was it changed, and proven?"""
    folds = document["folds"]
    changed = _count(folds["sites"], "folded") or folds["merged"]
    if not (changed or folds["frozen_inputs"] or folds["removed_movement"]):
        return "unchanged"
    return "unproven" if document["equivalence"] is None else "equivalent"


def _proof(proof: Json | None) -> dict[str, Any]:
    """The error that came nearest to what it was allowed, and who judged."""
    if proof is None:
        return {}
    keys = ("original_error", "candidate_error", "limit")
    judged = [o for o in proof["outputs"] if all(o[key] is not None for key in keys)]
    worst = max(judged, key=_share, default=None)
    found = {} if worst is None else {key: worst[key] for key in keys}
    return {"judge": proof["judge"], "environment": proof["environment"], **found}


def _share(output: Json) -> float:
    return float(output["candidate_error"] / output["limit"]) if output["limit"] else 0.0


def speed_of(document: Json) -> FleetSpeed:
    """The first measurement of a speed report, which is at the runtime's default level."""
    first = document["measurements"][0]
    return FleetSpeed(
        speedup=first["speedup"],
        interval=(first["interval"][0], first["interval"][1]),
        control=first["control"],
        control_interval=(first["control_interval"][0], first["control_interval"][1]),
        significant=first["significant"],
        stable=first["stable"],
        original_ms=first["original_ms"],
        candidate_ms=first["candidate_ms"],
        provider=first["provider"],
        level=first["level"],
        threads=first["threads"],
    )
