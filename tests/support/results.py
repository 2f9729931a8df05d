"""Results of `optimize --json` and `sweep --json` as they could be, for tests of their pages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bnfold.fleet.record import Failure, FleetSpeed, SweptModel
from bnfold.fleet.summary import summarize
from bnfold.timings import SpeedMeasurement

HOSTILE = (
    "<script>window.broken = 1</script>",
    "</script><script>window.broken = 2</script>",
    '"><img src=x onerror="window.broken = 3">',
    "<!-- <script>",
    "{{ 7 * 7 }}{% raise %}",
    "$\\alpha$ & 'quoted' `ticks`",
    "a/" + "very_long_name_of_a_tensor_" * 9,
)
"""Names that a model may have, and that a careless page would take for its own."""

MEASURED = SpeedMeasurement(
    provider="CPUExecutionProvider",
    level="all",
    threads=1,
    shapes={},
    rounds=3,
    original_ms=2.0,
    original_spread_ms=0.1,
    candidate_ms=1.0,
    candidate_spread_ms=0.1,
    speedup=2.0,
    interval=(1.9, 2.1),
    control=1.0,
    control_interval=(0.99, 1.01),
    significant=True,
    stable=True,
)
"""Twice as fast, and sure of it."""


def result(sites: int = 7, seed: int = 0) -> dict[str, Any]:
    """A whole result with so many sites, of every outcome, the first ones with hostile names."""
    rng = np.random.default_rng(seed)
    made = [_site(i, _name(i)) for i in range(sites)]
    return {
        "schema": 1,
        "bnfold": "0.1.0",
        "command": "optimize",
        "model": "model & <b>co</b>.onnx",
        "folds": {
            "sites": made,
            "merged": [_merged()],
            "nodes_before": 3 * sites,
            "nodes_after": 2 * sites,
            "notes": ["a note with <em>markup</em>"],
        },
        "equivalence": _equivalence(),
        "speed": _speed(rng),
        "output": "model.folded.onnx",
        "original_bytes": 44_600_000,
        "bytes": 44_500_000,
        "anatomy": {
            "operators_before": {"Conv": sites, "BatchNormalization": sites, "Relu": sites},
            "operators_after": {"Conv": sites, "Relu": sites, "<b>": 1},
            "sites": [_anatomy(i, _name(i), rng) for i in range(sites)],
        },
        "reproduce": "bnfold optimize 'model & <b>co</b>.onnx'",
        "files": [{"role": "original", "path": "m.onnx", "bytes": 7, "sha256": "0" * 64}],
    }


def _name(index: int) -> str:
    return HOSTILE[index] if index < len(HOSTILE) else f"/block{index // 9}/norm{index}/Output_0"


def _site(index: int, name: str) -> dict[str, Any]:
    outcome = ("folded", "folded", "kept", "folded", "rolled_back")[index % 5]
    folded = outcome == "folded"
    target = {"tensor": f"conv{index}", "op_type": "Conv"}
    return {
        "tensor": name,
        "op_type": "Mul" if index % 7 == 3 else "BatchNormalization",
        "verdict": outcome,
        "direction": ("backward", "forward")[index % 2] if folded else None,
        "target": target["tensor"] if folded else None,
        "targets": [target] if folded else [],
        "path": ["MaxPool"] if folded and index % 3 == 0 else [],
        "code": {"kept": "BNF202", "rolled_back": "BNF401"}.get(outcome),
        "reason": {"kept": "shared-value", "rolled_back": "not-equivalent"}.get(outcome),
        "scale_range": [-1.25, 3.5] if folded else None,
        "shift_range": [0.0, 0.125] if folded else None,
        "bound": 2e-7 if folded else None,
        "flagged": index == 1,
        "detail": None if folded else f"{name} has 2 consumers",
    }


def _anatomy(index: int, name: str, rng: np.random.Generator) -> dict[str, Any]:
    def box(op_type: str, inputs: list[str], output: str, *, is_site: bool = False) -> Any:
        boxed = {"op_type": op_type, "inputs": inputs, "outputs": [output], "constants": 2}
        return boxed | {"is_site": is_site}

    return {
        "tensor": name,
        "scale": _spread(rng),
        "weight_before": _spread(rng),
        "weight_after": _spread(rng) if index else None,
        "before": [
            box("Conv", ["x"], f"conv{index}"),
            box("BatchNormalization", [f"conv{index}"], name, is_site=True),
            box("Relu", [name], f"relu{index}"),
        ],
        "after": [box("Conv", ["x"], name), box("Relu", [name], f"relu{index}")],
    }


def _spread(rng: np.random.Generator) -> dict[str, Any]:
    values = np.sort(rng.lognormal(size=5)).tolist()
    keys = ("smallest", "quartile", "median", "third_quartile", "largest")
    return {"channels": 64, **dict(zip(keys, values, strict=True))}


def _merged() -> dict[str, Any]:
    return {
        "tensor": "<i>sum</i>",
        "op_type": "Conv",
        "branches": ["Conv 3x3", "identity"],
        "kernel": [8, 8, 3, 3],
        "nodes_before": 5,
        "nodes_after": 1,
    }


def _equivalence() -> dict[str, Any]:
    output = {
        "tensor": "<u>logits</u> $x$",
        "provider": "CPUExecutionProvider",
        "level": "all",
        "passed": True,
        "original_error": 4.1e-7,
        "candidate_error": 3.3e-7,
        "limit": 3e-6,
    }
    return {
        "outputs": [output, output | {"level": "disable", "candidate_error": 0.0}],
        "seed": 0,
        "samples": ["normal, batch 1"] * 8,
        "judge": "float64",
        "providers": ["CPUExecutionProvider"],
        "notes": [],
        "environment": {"onnxruntime": "1.31.1", "python": "3.11.7"},
    }


def _speed(rng: np.random.Generator) -> dict[str, Any]:
    times = {
        name: (factor * (23 + rng.exponential(size=400))).tolist()
        for name, factor in (("original", 1.0), ("again", 1.0), ("candidate", 0.9))
    }
    one = {
        "provider": "CPUExecutionProvider",
        "level": "all",
        "threads": 2,
        "shapes": {"<x>": [1, 3, 224, 224], "step": []},
        "rounds": 400,
        "original_ms": 23.7,
        "candidate_ms": 21.3,
        "speedup": 1.11,
        "interval": [1.09, 1.13],
        "control": 1.0,
        "control_interval": [0.99, 1.01],
        "significant": True,
        "stable": True,
        "outliers": 3,
        "warmup": 7,
        "original_session_ms": 12.0,
        "candidate_session_ms": 11.0,
        "times_ms": times,
    }
    measurements = [one | {"variants": _variants()}, one | {"level": "disable"}]
    conv = {"nodes": 20, "operations": 4_000_000_000, "bytes": 30_000_000, "unknown": 0}
    norm = {"nodes": 20, "operations": 9_000_000, "bytes": 25_000_000, "unknown": 0}
    return {
        "measurements": measurements,
        "sentence": "By itself: <none>.",
        "notes": [],
        "own_folds": one | {"speedup": 1.05, "interval": [1.04, 1.06]},
        "original_bytes": 44_600_000,
        "candidate_bytes": 44_500_000,
        "original_nodes": 120,
        "candidate_nodes": 80,
        "original_parameters": 11_000_000,
        "candidate_parameters": 10_900_000,
        "original_work": {"Conv": conv, "BatchNormalization": norm, "<s>": norm | {"unknown": 1}},
        "candidate_work": {"Conv": conv, "<s>": norm | {"unknown": 1}},
        "original_footprint": {"session_ms": 31.0, "first_ms": 9.0, "peak_bytes": 90_000_000},
        "candidate_footprint": {"session_ms": 28.0, "first_ms": 8.0, "peak_bytes": 80_000_000},
        "environment": {"onnxruntime": "1.31.1", "processors": "0,1 of 2, not pinned"},
    }


def _variants() -> list[dict[str, Any]]:
    worths = {"folding": 1.07, "frozen inputs": 1.0, "<b>more</b>": 1.04}
    return [
        {
            "name": name,
            "ms": 21.3 * worth,
            "speedup": 1.11 / worth,
            "interval": [1.1 / worth, 1.12 / worth],
            "worth": worth,
            "worth_interval": [worth - 0.01, worth + 0.01],
            "significant": worth > 1.01,
        }
        for name, worth in worths.items()
    ]


# -- many models --------------------------------------------------------------------------------


def swept_model(index: int, seed: int = 0) -> SweptModel:
    """What may have become of a model: one in ten could not be done, the others have figures."""
    rng = np.random.default_rng((seed, index))
    name = HOSTILE[index] if index < len(HOSTILE) else f"team{index % 7}/net{index}/1/model.onnx"
    base = SweptModel(name, "s3://models", "failed", "0.1.0", {}, seconds=float(rng.uniform(1, 9)))
    if index % 10 == 1:
        failure = Failure("timed_out", f"took <b>too long</b>, {name}", "pass --timeout & wait")
        return replace(base, failure=failure)
    if index % 50 == 3:
        failure = Failure("not_equivalent", "error 1e-2 is above 1e-5", "pass --keep")
        return replace(base, outcome="not_equivalent", failure=failure)
    if index % 10 == 4:
        return replace(base, outcome="unchanged")
    errors = {"original_error": 4e-7, "candidate_error": float(4e-7 * rng.lognormal())}
    return replace(
        base,
        outcome="equivalent",
        sites=20,
        folded=17,
        normalizations=18,
        normalizations_folded=16,
        nodes_before=90,
        nodes_after=70,
        bytes_before=9_000,
        bytes_after=8_000,
        kept={"BNF202": 2, "BNF999": 1},
        judge="float64",
        limit=4e-6,
        peak_bytes=10**8,
        speed=_fleet_speed(float(rng.normal(1.08, 0.05))) if index % 3 else None,
        **errors,
    )


def _fleet_speed(speedup: float) -> FleetSpeed:
    limits = (speedup - 0.01, speedup + 0.01)
    where = ("CPUExecutionProvider", "all", 1)
    is_significant = abs(speedup - 1) > 0.02
    return FleetSpeed(
        speedup, limits, 1.0, (0.99, 1.01), is_significant, True, 2.0, 2 / speedup, *where
    )


def fleet(count: int) -> dict[str, Any]:
    """What a sweep over so many models may have printed, the first ones with hostile names."""
    records = [swept_model(i) for i in range(count)]
    return {
        "command": "sweep",
        "bnfold": "0.1.0",
        **summarize(records).to_dict(),
        "source": "s3://models",
        "manifest": "s3://x/bnfold/<i>manifest</i>.jsonl",
        "reproduce": "bnfold sweep 's3://models' s3://x",
        "swept": [record.to_dict() for record in records],
        "pages": {records[0].model: "reports/first.html"} if records else {},
    }
