"""On the patterns of the comparison, bnfold leaves what must stay and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import bnfold

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "benchmarks" / "comparison.py"


def test_nothing_is_left_or_wrong() -> None:
    """The page that the script writes shows zeros for bnfold; it is what users are shown."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--tool", "bnfold"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    for line in ("left that could go", "wrong", "fails"):
        assert f"| **{line}** | | 0 |" in done.stdout, done.stdout


def test_the_page_is_of_this_version() -> None:
    """The committed page names the version that it was made with, and every pattern."""
    sys.path[:0] = [str(SCRIPT.parent)]
    try:
        from patterns import PATTERNS
    finally:
        del sys.path[0]
    text = (ROOT / "docs" / "comparison.md").read_text("utf-8")
    assert f"| bnfold | {bnfold.__version__} |" in text
    rows = re.findall(r"^\| ([^*|]+) \| \d+ \|", text, re.MULTILINE)
    assert rows == [pattern.name for pattern in PATTERNS]
    assert len({pattern.name for pattern in PATTERNS}) == len(PATTERNS)
