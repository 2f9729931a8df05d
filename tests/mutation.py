"""Is a rule that is wrong by one percent noticed? Each number of every rule, one after another.

    python tests/mutation.py [RULE ...]          for instance "forward Conv"

For each entry of the rules' tables, each number that its answers hold (the scale and the shift of
every input and output, new constants, attributes, a bias) is made one percent too large, and the
exact rows of that rule are run. Prints `caught` or `NOT CAUGHT` with the numbers, a line for each
rule; the exit code is 1 if any was not caught.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from exact_table import ROWS, faults_of, is_caught  # noqa: E402  (the path comes first)
from mutants import all_rules  # noqa: E402


def survivors(key: str) -> tuple[int, list[str]]:
    """How many faults the rule can have, and those that no row shows."""
    faults = faults_of(key)
    return len(faults), [fault for fault in faults if not is_caught(key, fault)]


def main(wanted: list[str]) -> int:
    """Try all rules, or those asked for."""
    keys = wanted or [str(rule) for rule in all_rules()]
    total = missed = 0
    for key in keys:
        if key not in ROWS:
            print(f"NOT CAUGHT  {key}: no rows")
            missed += 1
            continue
        count, blind = survivors(key)
        total, missed = total + count, missed + len(blind)
        verdict = f"NOT CAUGHT  {key}: {', '.join(blind)}" if blind else f"caught      {key}"
        print(f"{verdict}  ({count - len(blind)} of {count})", flush=True)
    print(f"{len(keys)} rules, {total} faults, {missed} not caught")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
