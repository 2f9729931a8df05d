"""How does the page say it? Verdicts and figures in words; plain text in, plain text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Json = Mapping[str, Any]
Tone = Literal["good", "bad", "neutral"]

NORMALIZATION = "BatchNormalization"
STATES = {"folded": "folded", "kept": "kept", "rolled_back": "taken back"}
JUDGES = {
    "float64": "judged by a float64 evaluation of the original",
    "noise": "judged by the noise between the runtime's own levels",
    "tolerance": "judged element by element, by atol and rtol",
}
BOTH = ("original", "candidate")
UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("bytes", 1))


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer: the word first, what supports it after."""

    word: str
    evidence: str
    tone: Tone = "neutral"


def number(value: float) -> str:
    """Three digits, which is more than most figures deserve; thousands in full."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def ratio(value: float) -> str:
    """A speedup."""
    return f"×{value:.2f}"


def interval(value: float, limits: Sequence[float]) -> str:
    """A speedup with its interval."""
    return f"{ratio(value)} [{limits[0]:.2f}, {limits[1]:.2f}]"


def where(measurement: Json) -> str:
    """Provider and level, short enough for a title."""
    provider = str(measurement["provider"]).removesuffix("ExecutionProvider")
    return f"{provider}, level {measurement['level']}"


def size(count: int) -> str:
    """Bytes in a readable unit."""
    unit, scale = next(((u, s) for u, s in UNITS if count >= s), UNITS[-1])
    return f"{count / scale:.3g} {unit}" if scale > 1 else f"{count} bytes"


def headline(folds: Json) -> str:
    """How many of how many."""
    nodes = [s for s in folds["sites"] if s["op_type"] == NORMALIZATION]
    chosen, what = (nodes, NORMALIZATION) if nodes else (folds["sites"], "affine")
    done = sum(s["verdict"] == "folded" for s in chosen)
    if not chosen:
        return "Nothing to fold: the model has no affine"
    return f"Folded {done} of {len(chosen)} {what} {'node' if len(chosen) == 1 else 'nodes'}"


def verdicts(document: Json) -> list[Verdict]:
    """The answers that stand at the top of the page."""
    made = [equivalent(document["equivalence"]), faster(document["speed"]), smaller(document)]
    return [verdict for verdict in made if verdict is not None]


def equivalent(proof: Json | None) -> Verdict:
    """Whether it was proven, and how well."""
    if proof is None:
        return Verdict("Not proven", "nothing was run to compare the two models")
    samples = f"{len(proof['samples'])} samples, seed {proof['seed']}"
    providers = ", ".join(proof["providers"])
    how = f"{JUDGES.get(proof['judge'], proof['judge'])}; {samples}; {providers}"
    worst = _worst(proof["outputs"])
    if worst is not None:
        how = (
            f"error against float64: original {worst['original_error']:.1e}, "
            f"folded {worst['candidate_error']:.1e}; {samples}; {providers}"
        )
    if all(output["passed"] for output in proof["outputs"]):
        return Verdict("Equivalent", how, "good")
    return Verdict("Not equivalent", how, "bad")


def _worst(outputs: Sequence[Json]) -> Json | None:
    known = [
        o for o in outputs if o["candidate_error"] is not None and o["original_error"] is not None
    ]
    return max(known, key=badness, default=None)


def badness(output: Json) -> tuple[bool, float]:
    """How near an output is to what it may not be."""
    return not output["passed"], output["candidate_error"] / (output["limit"] or 1.0)


def faster(speed: Json | None) -> Verdict:
    """The speedup at the deployment level."""
    if speed is None or not speed["measurements"]:
        return Verdict("Not timed", "no speedup was measured")
    first = speed["measurements"][0]
    control = interval(first["control"], first["control_interval"])
    evidence = (
        f"{interval(first['speedup'], first['interval'])}, original against itself {control}; "
        f"{where(first)}; {first['rounds']} rounds"
    )
    return Verdict(pace(first), evidence, _tone(first))


def own_folds(speed: Json) -> str:
    """What the runtime's own folds are worth, where that was timed."""
    own = speed.get("own_folds")
    if not own:
        return ""
    measured = interval(own["speedup"], own["interval"])
    if not own["stable"]:
        return f"What these folds of its own are worth cannot be told: {measured}."
    worth = "are worth" if own["significant"] else "are worth nothing that can be measured,"
    return f"These folds of its own {worth} {measured}."


def costs(speed: Json) -> list[tuple[str, ...]]:
    """What a session costs and what the models hold; only what is known."""
    before, after = speed.get("original_footprint"), speed.get("candidate_footprint")
    rows: list[tuple[str, ...]] = []
    if before and after:
        for title, key in (
            ("session made in, new process", "session_ms"),
            ("first run in, new process", "first_ms"),
        ):
            rows.append((title, *(f"{number(f[key])} ms" for f in (before, after))))
        if before["peak_bytes"] is not None and after["peak_bytes"] is not None:
            rows.append(("peak memory", size(before["peak_bytes"]), size(after["peak_bytes"])))
    if speed.get("original_bytes"):
        sizes = (size(speed[f"{which}_bytes"]) for which in BOTH)
        rows.append(("size of the model", *sizes))
    for title, key in (("nodes", "nodes"), ("parameters", "parameters")):
        if speed.get(f"original_{key}"):
            rows.append((title, *(f"{speed[f'{which}_{key}']:,}" for which in BOTH)))
    for title, key in (("operations", "operations"), ("bytes moved", "bytes")):
        sums = _counted(speed, key)
        if sums is not None:
            predicted = f" (predicts {ratio(sums[0] / sums[1])})" if sums[1] else ""
            rows.append((f"{title}, counted", f"{sums[0]:,}", f"{sums[1]:,}{predicted}"))
    if rows:
        first = speed["measurements"][0]
        rows.append(("speedup, measured", "", interval(first["speedup"], first["interval"])))
    return rows


def _counted(speed: Json, key: str) -> tuple[int, int] | None:
    """A sum over all nodes of both models; None where a node's shapes are not known."""
    works = [speed.get(f"{which}_work") or {} for which in BOTH]
    if not all(works) or any(w["unknown"] for work in works for w in work.values()):
        return None
    before, after = (sum(w[key] for w in work.values()) for work in works)
    return before, after


def pace(m: Json) -> str:
    """What a measurement says, in a word or two."""
    if not m["stable"]:
        return "Cannot tell how fast"
    if not m["significant"]:
        return "As fast"
    return "Faster" if m["speedup"] > 1 else "Slower"


def _tone(m: Json) -> Tone:
    if not (m["stable"] and m["significant"]):
        return "neutral"
    return "good" if m["speedup"] > 1 else "bad"


def smaller(document: Json) -> Verdict:
    """Nodes and bytes."""
    folds = document["folds"]
    nodes = f"{folds['nodes_before']} → {folds['nodes_after']} nodes"
    word = "Smaller" if folds["nodes_after"] < folds["nodes_before"] else "The same size"
    if not document.get("bytes"):
        return Verdict(word, nodes)
    sizes = f"{size(document['original_bytes'])} → {size(document['bytes'])}"
    return Verdict(word, f"{nodes}; {sizes}")


def state(site: Json) -> str:
    """What became of a site."""
    return STATES[site["verdict"]]


def facts(site: Json) -> str:
    """What is known of a fold's numbers before anything is run."""
    told = [
        f"{title} from {number(limits[0])} to {number(limits[1])}"
        for title, key in (("scale", "scale_range"), ("shift", "shift_range"))
        if (limits := site.get(key))
    ]
    if site.get("bound") is not None:
        told.append(f"rounding the weights alone may change {site['bound']:.0e} of its magnitude")
    if site.get("flagged"):
        told.append("so ill-conditioned that samples which agree say little of others")
    return "; ".join(told)


def outcome(site: Json) -> str:
    """Where a fold went, or why there is none."""
    if site["verdict"] != "folded":
        return f"{site['code'] or ''} {site['reason'] or ''}".strip()
    named = [f"{t['op_type']} {t['tensor']}" for t in site["targets"]]
    return ", ".join(named) or site["target"] or "a constant"
