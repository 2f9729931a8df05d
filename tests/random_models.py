"""Is any of many random models folded wrongly, not wholly, or otherwise in another order?

    python tests/random_models.py [--cases 1000] [--seed 0] [--jobs 2] [--only KIND:SEED]
                                  [--keep FOLDER]

Each case is a model of one of the kinds in `support/properties.py`, made from its seed alone, and
checked in every way that file knows: all values against float64 and the runtime, what must stay as
it is, a second fold that changes nothing, and the same graph in another order and under other
names. Cases of one seed follow those of the one before: `--seed 1 --cases 1000` makes the numbers
from 1000 on.

Prints a line for each failure with its kind and seed, which `--only` takes, keeps the model in
`--keep`, and sums up; the exit code is 1 if any case failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read when NumPy is imported
        os.environ[name] = "1"

from properties import GENERATORS, check_all  # noqa: E402  (the path comes first)

BATCH = 100
"""Cases between two lines of progress of one process."""


def kind_of(number: int) -> str:
    """The kind of a case: all in turn."""
    return list(GENERATORS)[number % len(GENERATORS)]


def failure(kind: str, seed: int, keep: Path | None) -> str | None:
    """What is wrong with one case, in a line; its model is kept."""
    grown = None
    try:
        grown = GENERATORS[kind](seed)
        check_all(grown, seed)
    except Exception as error:
        if keep is not None and grown is not None:
            (keep / f"{kind}-{seed}.onnx").write_bytes(grown.proto.SerializeToString())
        if isinstance(error, AssertionError):
            return f"{kind}:{seed}: {error}"
        return f"{kind}:{seed}: {traceback.format_exc(limit=-4)}"
    return None


def batch(numbers: range, keep: Path | None) -> tuple[Counter[str], list[str]]:
    """Run some cases: how many there were of each kind, and what failed."""
    found = [failure(kind_of(number), number, keep) for number in numbers]
    return Counter(map(kind_of, numbers)), [line for line in found if line is not None]


def main() -> int:
    """Run all cases."""
    options = arguments()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    if options.only:
        kind, seed = options.only.split(":")
        problem = failure(kind, int(seed), options.keep)
        print(problem or "nothing is wrong")
        return int(problem is not None)
    start, done, failures = time.monotonic(), Counter[str](), 0
    first, last = options.seed * options.cases, (options.seed + 1) * options.cases
    batches = [range(at, min(at + BATCH, last)) for at in range(first, last, BATCH)]
    with ProcessPoolExecutor(options.jobs) as pool:
        for counts, problems in pool.map(batch, batches, [options.keep] * len(batches)):
            done += counts
            failures += len(problems)
            for problem in problems:
                print(f"FAILED {problem}", flush=True)
    seconds = time.monotonic() - start
    print(", ".join(f"{count} {kind}" for kind, count in done.items()))
    print(
        f"{done.total()} models from {first} on, {seconds:.0f} s "
        f"({1000 * seconds / max(done.total(), 1):.0f} ms each): {failures} failed"
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
    parser.add_argument("--only", metavar="KIND:SEED", help="one case, as a failure names it")
    parser.add_argument("--keep", type=Path, help="where the models of failing cases stay")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
