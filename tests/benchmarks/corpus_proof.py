"""How near to the original does a fold of a real model come? One line for each model of a folder.

    python tests/benchmarks/corpus_proof.py [FOLDER] [--seconds 60] [--shuffle 1] [--json LOG]

Skeletons without weights (`*.onnx.gz`) are filled by the `fill.py` that lies beside them. Each
model is proven in a process of its own, which is ended when it has used its time of the processor.
`--json LOG` appends each result to a file as it comes; a second run with the same file goes on
where the first one ended (`--minutes` ends it), and with `--again "out of time"` tries once more
what ended so. The last lines name what did not pass, and what is above twice the original's own
error. Of the latter `second_look.py` takes fifteen more samples of the kind that was worst, and
tells chance from what the runtime's own optimizer does and from the rounding of the weights.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
from second_look import Look, look

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"
NEAR = 2.0
"""A fold at more than so many times the original's own error is named at the end."""
ROUNDED = 1e-6
"""Below this an error is a few roundings: a ratio of two such numbers says nothing."""


def prove(path: Path, samples: int) -> dict[str, Any]:
    """Fold and verify one model; the facts that the table shows."""
    import bnfold

    model = filled(path) if path.suffix == ".gz" else path
    folded = bnfold.fold(model)
    facts: dict[str, Any] = {"folds": len(folded.folded), "merged": len(folded.merged)}
    if not folded.folded and not folded.merged:
        return {**facts, "verdict": "nothing to fold"}
    report = bnfold.verify(model, folded.model, samples=samples, judge_seconds=30)
    rows = [o for o in report.outputs if o.original_error is not None and o.candidate_error]
    worst = max(rows, key=ratio_of, default=None)
    verdict = "equivalent" if report else "not equivalent"
    facts |= {"verdict": verdict, "judge": report.judge, "notes": list(report.notes)}
    if worst is not None:
        facts |= {"original": worst.original_error, "candidate": worst.candidate_error}
        facts |= {"ratio": ratio_of(worst), "where": f"{worst.tensor} {worst.level}"}
        facts |= {"exact": worst.exact_error, "sample": worst.sample}
        facts["largest exact"] = max((o.exact_error or 0.0 for o in rows), default=0.0)
        facts |= {"tensor": worst.tensor, "level": worst.level}
    if not report:
        facts["culprit"] = report.culprit
    return facts


def look_again(path: Path, samples: int, seconds: float, facts: dict[str, Any]) -> dict[str, Any]:
    """A second look at the worst sample of a model, as the facts of `prove` name it."""
    import bnfold

    model = filled(path) if path.suffix == ".gz" else onnx.load(path)
    where = facts["tensor"], facts["level"], facts["sample"]
    return asdict(look(model, bnfold.fold(model).model, *where, samples, seconds))


def filled(path: Path) -> Any:
    """A skeleton with the deterministic weights that the corpus gives it."""
    spec = importlib.util.spec_from_file_location("fill", path.with_name("fill.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fill(path, 0)


def ratio_of(output: Any) -> float:
    """Error of the candidate in units of the original's; of a few roundings where that is less."""
    return float(output.candidate_error / max(output.original_error, ROUNDED / NEAR))


def prove_and_look(path: Path, samples: int, seconds: float) -> dict[str, Any]:
    """`prove`, and a second look where the fold is far from the original; each in a process."""
    facts = in_a_process(path, samples, seconds)
    if facts.get("ratio", 0.0) > NEAR and facts["judge"] == "float64":
        again = in_a_process(path, samples, seconds, facts)
        facts["look"] = None if "verdict" in again else again
    return facts


def in_a_process(
    path: Path, samples: int, seconds: float, facts: dict[str, Any] | None = None
) -> dict[str, Any]:
    """`prove`, or `look_again` at these facts, where a crash is only its own; it can be ended."""
    command = [sys.executable, __file__, "--one", str(path), "--samples", str(samples)]
    command += ["--seconds", str(seconds)]
    command += [] if facts is None else ["--look", json.dumps(facts)]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == -signal.SIGXCPU:
        return {"verdict": "out of time", "seconds": seconds}
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == 0 and last.startswith("{"):
        return {**json.loads(last), "seconds": round(time.monotonic() - start, 1)}
    return {"verdict": "cannot run", "why": (done.stderr.strip().splitlines() or ["crashed"])[-1]}


def line(path: Path, facts: dict[str, Any]) -> str:
    """One row of the table."""
    numbers = ""
    if "ratio" in facts:
        numbers = f"{facts['original']:9.1e} {facts['candidate']:9.1e} {facts['ratio']:6.2f}x"
    more = facts.get("why") or facts.get("culprit") or facts.get("where") or ""
    folds = f"{facts.get('folds', '-'):>4}"
    row = f"{facts['verdict']:<16}{folds} {numbers:<28} {path.stem}  {more}"[:200]
    return f"{row}\n    {reason(facts)}" if facts.get("ratio", 0.0) > NEAR else row


def reason(facts: dict[str, Any]) -> str:
    """What a second look found, in words."""
    seen = facts.get("look")
    if seen is None:
        return "not looked at: the proof or the second look did not end in its time"
    found = Look(**{key: value for key, value in seen.items() if key != "seconds"})
    return f"on sample ({facts['sample']}); {found}"


def earlier(log: Path | None, again: str) -> dict[str, dict[str, Any]]:
    """What a former run found, by file name, but for the verdict that is to be tried again."""
    if log is None or not log.exists():
        return {}
    rows = [json.loads(row) for row in log.read_text("utf-8").splitlines()]
    return {row["file"]: row for row in rows if row["verdict"] != again}


def main() -> int:
    """Run it; 1 where a fold is not equivalent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=CORPUS)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--look", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--shuffle", type=int, help="go in a random order of this seed")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the processor, a model")
    parser.add_argument("--limit-mb", type=float, default=200.0, help="leave larger ones out")
    parser.add_argument("--json", type=Path, metavar="LOG", help="keep results, and go on from it")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    parser.add_argument("--again", default="", metavar="VERDICT", help="try these once more")
    options = parser.parse_args()
    if options.one is not None:
        limit = math.ceil(options.seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        asked = options.one, options.samples
        if options.look is None:
            print(json.dumps(prove(*asked)))
        else:
            print(json.dumps(look_again(*asked, 0.7 * options.seconds, options.look)))
        return 0
    if not options.folder.is_dir():
        print(f"skipped: there is no corpus at {options.folder}")
        return 0
    paths = [p for kind in ("*.onnx", "*.onnx.gz") for p in options.folder.rglob(kind)]
    paths = [p for p in paths if p.stat().st_size <= options.limit_mb * 1e6]
    paths.sort(key=lambda p: (p.stat().st_size, p))
    if options.shuffle is not None:
        random.Random(options.shuffle).shuffle(paths)
    end = time.monotonic() + 60 * options.minutes
    known = earlier(options.json, options.again)
    found: dict[Path, dict[str, Any]] = {}
    for path in paths:
        if path.name not in known and time.monotonic() > end:
            print(f"stopped after {options.minutes:g} minutes, at {len(found)} of {len(paths)}")
            break
        if path.name not in known:
            facts = prove_and_look(path, options.samples, options.seconds)
            known[path.name] = {"file": path.name, **facts}
            print(line(path, facts), flush=True)
            if options.json is not None:
                with options.json.open("a", encoding="utf-8") as log:
                    print(json.dumps(known[path.name]), file=log)
        found[path] = known[path.name]
    return summary(found)


def summary(found: dict[Path, dict[str, Any]]) -> int:
    """The counts, and each case that needs a look."""
    verdicts = [facts["verdict"] for facts in found.values()]
    counts = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    print("\n" + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    wrong = [p for p, facts in found.items() if facts["verdict"] == "not equivalent"]
    far = [p for p, f in found.items() if f.get("ratio", 0.0) > NEAR and p not in wrong]
    for title, paths in (("Not equivalent:", wrong), (f"Above {NEAR:g} times:", far)):
        for path in paths:
            print(title, line(path, found[path]), *found[path].get("notes", ()), sep="\n    ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
