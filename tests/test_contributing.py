"""Does the worked example of CONTRIBUTING.md work as it stands?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")

HEAD = """
from bnfold.reasons import Reason
from bnfold.rules.reduction import *
from bnfold.rules.reduction import Affine, Mapping, Operator, Step, backward, forward, only
from rowtests import RowTests
"""


def hunks() -> dict[str, str]:
    """The diff's text by the file that it changes."""
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    parts = re.split(r"^--- a/.*\n\+\+\+ b/(.*)\n", diff, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def added(text: str, after: str = "") -> str:
    """The added lines that follow a line of context."""
    _, _, rest = text.partition(f"\n {after}\n" if after else "\n")
    lines = rest.splitlines() if after else text.splitlines()
    found: list[str] = []
    for line in lines:
        if after and not line.startswith("+"):
            break
        if line.startswith("+"):
            found.append(line[1:])
    return "\n".join(found)


def test_the_diff_fits_the_files() -> None:
    """The files it changes are there, with the lines that it shows around the change."""
    for name, text in hunks().items():
        lines = (ROOT / name).read_text("utf-8").splitlines()
        for line in text.splitlines():
            if line.startswith(" "):
                assert line[1:] in lines, f"{name}: {line}"


def test_the_example_passes_the_generic_tests(tmp_path: Path) -> None:
    """Rule and rows, put together in one file, go through what every rule goes through."""
    rule, rows = hunks().values()
    cases, refusals = (added(f"\n{rows}", f"{table} = {{") for table in ("CASES", "REFUSALS"))
    assert cases
    assert refusals
    file = tmp_path / "test_example.py"
    file.write_text(
        f"{HEAD}\n{added(rule)}\n\nCASES = {{\n{cases}\n}}\nREFUSALS = {{\n{refusals}\n}}\n\n"
        "class TestExample(RowTests):\n    pass\n"
    )
    path = [str(ROOT / "tests"), str(ROOT / "tests" / "support"), str(ROOT), *sys.path]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider"),
            *("-c", str(ROOT / "pyproject.toml"), str(file)),
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) == 2 * (2 + 2 + 1) + 2  # per case: both sizes twice, teeth; the refusal


def test_the_commands_are_those_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        assert block in readme


def test_the_words_are_those_of_the_registry() -> None:
    """Decorators and fields that the page names exist."""
    from dataclasses import fields

    from bnfold.rules import registry

    for decorator in set(re.findall(r"`@(\w+)`", PAGE)):
        assert callable(getattr(registry, decorator))
    assert {f.name for f in fields(registry.Step)} <= set(re.findall(r"`(\w+)`", PAGE))
