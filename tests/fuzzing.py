"""Does bnfold stand what it is given? Damaged models through fold, inspect and optimize.

    python tests/fuzzing.py [--cases 1000] [--seed 0] [--jobs 2] [--only NUMBER] [--corpus FOLDER]

Each case is a model (a random graph, a row of the rules' tables, a trained network, or one of the
corpus) after a few changes of its structure or its bytes, see `damage.py`. It is made from the
seed and its number alone. A case fails where

- anything but a BnfoldError comes out, the process ends, or a minute of the processor or 3 GB are
  not enough (on a busy machine a second of the processor lasts longer than one of the clock);
- the checker takes the original and not what was made of it, or folding again fails;
- the runtime runs the original, and what was folded computes something else.

Prints a line for each failure, keeps its model beside `--keep`, and sums up; the exit code is 1 if
any case failed. A crash of the runtime itself, while it runs the original, is counted apart.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import numpy as np  # noqa: E402  (the path comes first)
import onnx  # noqa: E402
from damage import damaged  # noqa: E402
from exact_rows import build  # noqa: E402
from exact_table import ROWS  # noqa: E402
from onnx import TensorProto  # noqa: E402
from random_graphs import Normal, Seeded, grow  # noqa: E402

import bnfold  # noqa: E402
from bnfold import runtime  # noqa: E402
from bnfold.errors import BnfoldError  # noqa: E402
from bnfold.modelio import load_model  # noqa: E402

PATIENCE_S = 60
"""Seconds of the processor that a case may take."""
STILL_S = 900
"""Seconds of the clock, for what waits and does not compute."""
MEMORY = 3 << 30
SMALL = 600_000
"""Bytes of the largest file that is taken from a folder of models."""
BATCH = 200
"""Cases that one process runs."""
CONTRADICTS = "contradicts its own shapes"
FAR = 1e-3
"""Relative distance at which two models compute different things, whatever the rounding."""

# -- one case -----------------------------------------------------------------------------------


class Failure(Exception):
    """What bnfold did that it must not do."""


def base_models(folder: Path | None) -> list[Path]:
    """Files to begin with: trained networks, and the small ones of a folder."""
    trained = ROOT.glob("models/trained/*.onnx")
    found = sorted(folder.rglob("*.onnx")) if folder and folder.is_dir() else []
    return [p for p in (*sorted(trained), *found) if p.stat().st_size < SMALL]


def made(number: int, seed: int, files: list[Path]) -> tuple[bytes, str]:
    """A case: its bytes, and what it is in words."""
    rng = random.Random(f"{seed}:{number}")
    kind = rng.random()
    if kind < 0.6:
        elem_type = TensorProto.DOUBLE if rng.random() < 0.1 else TensorProto.FLOAT
        draw = Seeded(rng.randrange(2**32))
        size = rng.choice((4, 6, 10))
        model = grow(draw, Normal(rng.randrange(2**32)), elem_type, size=size).proto
        name = "random graph"
    elif kind < 0.85 or not files:
        key = rng.choice(sorted(ROWS))
        model, name = build(rng.choice(ROWS[key])).proto, key
    else:
        path = rng.choice(files)
        model, name = onnx.load(path), path.name
    data, changes = damaged(model, rng)
    return data, f"{name}: {', '.join(changes) or 'nothing'}"


def check(path: Path, rng: random.Random, say: Any) -> str:
    """Run one case; how it ended. Raises Failure, and whatever bnfold raises by mistake."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = bnfold.fold(path)
    except BnfoldError as error:
        if not error.hint:
            raise Failure(f"an error without a hint: {error!r}") from error
        try:
            bnfold.inspect(path)
        except BnfoldError as same:
            if str(same) != str(error):
                raise Failure(f"inspect says {same}, fold says {error}") from same
        return f"refused: {type(error).__name__}"
    report = bnfold.inspect(path)
    if [s.verdict for s in report.sites] != [s.verdict for s in result.sites]:
        raise Failure("inspect and fold differ")
    original = load_model(path)
    still_sound(original, result)
    changed = original != result.model
    told = [site.detail for site in result.sites if CONTRADICTS in (site.detail or "")]
    say(stage="runtime")  # from here on a crash is the runtime's
    if told and is_valid(original):
        raise Failure(f"of a valid model it is said: {told[0]}")
    ran = compare(original, result.model, rng.randrange(2**32)) if changed else "unchanged"
    if changed and ran == "ran" and rng.random() < 0.1:
        optimize(path)
    return ran


def still_sound(original: onnx.ModelProto, result: Any) -> None:
    """What was made is a valid model, and as far folded as it goes in a second look."""
    try:
        load_model(result.model)
    except BnfoldError as error:
        raise Failure(f"the result is not valid: {error}") from error
    try:
        onnx.checker.check_model(original, full_check=True)
    except Exception:
        return  # the checker does not take the original
    try:
        onnx.checker.check_model(result.model, full_check=True)
    except Exception as error:
        raise Failure(f"the checker took the original, and says of the result: {error}") from error


def is_valid(model: onnx.ModelProto) -> bool:
    """Whether the checker takes the model, and the runtime runs it."""
    try:
        onnx.checker.check_model(model, full_check=True)
        session = runtime.open_session(model, level="disable", threads=1)
        session.run({port.name: fed(port, 0) for port in session.inputs})
    except Exception:  # of several libraries
        return False
    return True


def compare(original: onnx.ModelProto, folded: onnx.ModelProto, seed: int) -> str:
    """Both on the runtime, optimizations off. Raises Failure where they differ."""
    try:
        session = runtime.open_session(original, level="disable", threads=1)
        feeds = {port.name: fed(port, seed + i) for i, port in enumerate(session.inputs)}
        expected = session.run(feeds)
    except (BnfoldError, Unfed):
        return "not run"
    try:
        actual = runtime.open_session(folded, level="disable", threads=1).run(feeds)
    except BnfoldError as error:
        raise Failure(f"the runtime runs the original, and of the result says: {error}") from error
    finite = all(
        np.isfinite(v).all()
        for v in expected.values()
        if getattr(v, "dtype", np.dtype("i")).kind == "f"
    )
    if not finite:
        return "not finite"
    wrong = {
        name: off for name in expected if (off := distance(expected[name], actual[name])) > FAR
    }
    if wrong and not proven(original, folded, feeds):
        raise Failure(f"the result computes something else: {wrong}")
    return "ran"


class Unfed(Exception):
    """An input that this script cannot fill."""


def fed(port: runtime.Port, seed: int) -> Any:
    """Data for an input; symbolic dimensions become 2."""
    rng = np.random.default_rng(seed)
    shape = [d if isinstance(d, int) else 2 for d in port.shape]
    if port.dtype is None or np.prod(shape, dtype=np.float64) > 1e6 or min(shape, default=1) < 0:
        raise Unfed
    if port.dtype.kind == "f":
        return rng.standard_normal(shape).astype(port.dtype)
    return rng.integers(0, 2, shape).astype(port.dtype)


def distance(expected: Any, actual: Any) -> float:
    """By how much of its size a value moved; infinite where it is of another kind."""
    if not isinstance(expected, np.ndarray) or expected.dtype.kind != "f":
        return 0.0  # whole numbers flip where a float before them is rounded
    if not isinstance(actual, np.ndarray) or actual.shape != expected.shape:
        return float("inf")
    with np.errstate(all="ignore"):
        off = np.abs(actual.astype(np.float64) - expected).max(initial=0.0)
    return float(off / max(np.abs(expected).max(initial=0.0), 0.1)) if off == off else np.inf


def proven(original: onnx.ModelProto, folded: onnx.ModelProto, feeds: Any) -> bool:
    """Whether the proof, which knows how ill-conditioned the original is, lets the result pass."""
    report = bnfold.verify(original, folded, data=feeds, isolate=False, judge_seconds=10)
    return bool(report)


def optimize(path: Path) -> None:
    """The whole way. A fold may be taken back, for rounding; what is left must be written."""
    output = path.with_suffix(".out.onnx")
    try:
        bnfold.optimize(path, output, samples=2, bench=False, isolate=False, judge_seconds=10)
    except (BnfoldError, MemoryError):  # a batch may need more than this process is allowed
        return
    if not output.exists():
        raise Failure("optimize wrote nothing")
    output.unlink()


# -- a process that runs some cases -------------------------------------------------------------


def work(numbers: list[int], seed: int, files: list[Path], folder: Path) -> None:
    """Run cases; a line of JSON for each, and one before each step that may end the process."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    faulthandler.register(signal.SIGPROF, chain=True)  # says where it is, and ends the process

    def say(**line: Any) -> None:
        print(json.dumps(line), flush=True)

    for number in numbers:
        data, what = made(number, seed, files)
        path = folder / f"case-{seed}-{number}.onnx"
        path.write_bytes(data)
        say(case=number, what=what, stage="bnfold")
        faulthandler.dump_traceback_later(STILL_S, exit=True)
        signal.setitimer(signal.ITIMER_PROF, PATIENCE_S)
        start = time.perf_counter()
        problem = None
        try:
            ended = check(path, random.Random(number), partial(say, case=number, what=what))
        except Failure as failure:
            ended, problem = "failed", str(failure)
        except Exception:
            ended, problem = "failed", traceback.format_exc(limit=-4)
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        say(
            case=number,
            what=what,
            ended=ended,
            problem=problem,
            seconds=time.perf_counter() - start,
        )
        if problem is None:
            path.unlink()


# -- the run ------------------------------------------------------------------------------------


def batch(
    numbers: list[int], options: argparse.Namespace, folder: Path
) -> Iterator[dict[str, Any]]:
    """The results of some cases; a process that ends is followed by another."""
    left = list(numbers)
    while left:
        command = [
            sys.executable,
            __file__,
            "--worker",
            json.dumps(left),
            "--seed",
            str(options.seed),
        ]
        command += ["--corpus", str(options.corpus), "--keep", str(folder)]
        env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=said, text=True, env=env
            )
            assert process.stdout is not None
            last: dict[str, Any] = {"case": left[0], "stage": "start", "what": "?"}
            with process:
                for text in process.stdout:
                    if not text.startswith('{"case"'):
                        continue  # what a library prints is no result
                    last = json.loads(text)
                    if "ended" in last:
                        yield last
                        left.remove(last["case"])
            code = process.returncode
            said.seek(0)
            errors = said.read()[-1500:]
        if not left:
            return
        crash = code < 0 and code != -signal.SIGPROF and last.get("stage") == "runtime"
        yield {
            "case": left[0],
            "what": last["what"],
            "ended": "runtime crashed" if crash else "failed",
            "problem": None if crash else f"the process ended with {code}: {errors}",
            "seconds": 0.0,
        }
        left.pop(0)


def main() -> int:
    """Run all cases."""
    options = arguments()
    if options.worker:
        work(json.loads(options.worker), options.seed, base_models(options.corpus), options.keep)
        return 0
    start, ends, failures, slowest = time.monotonic(), Counter[str](), 0, (0.0, "")
    numbers = [options.only] if options.only is not None else list(range(options.cases))
    batches = [numbers[at : at + BATCH] for at in range(0, len(numbers), BATCH)]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as pool:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for results in pool.map(lambda some: list(batch(some, options, folder)), batches):
            for result in results:
                ends[result["ended"]] += 1
                slowest = max(
                    slowest, (result["seconds"], f"case {result['case']}, {result['what']}")
                )
                if result["problem"]:
                    failures += 1
                    print(
                        f"FAILED case {result['case']} ({result['what']}): {result['problem']}",
                        flush=True,
                    )
    print(", ".join(f"{count} {end}" for end, count in sorted(ends.items())))
    print(f"slowest: {slowest[0]:.1f} s, {slowest[1]}")
    print(
        f"{sum(ends.values())} cases, seed {options.seed}, {time.monotonic() - start:.0f} s: "
        f"{failures} failed"
    )
    return int(failures > 0)


def arguments() -> argparse.Namespace:
    """What to run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", type=int, help="one case, by its number")
    parser.add_argument("--corpus", type=Path, help="a folder whose small models are damaged too")
    parser.add_argument("--keep", type=Path, help="where the models of failing cases stay")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
