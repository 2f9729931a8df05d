"""Is every command and every claim of the README true?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM

import pytest

from bnfold.rules.registry import BACKWARD, FORWARD, SOURCES, Key

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")

NONE = "—"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands_of(block: str) -> list[str]:
    """Its commands; of a line that installs first, what comes after that."""
    return [
        line.split(" && ")[-1] if line.startswith("pip ") else line for line in block.splitlines()
    ]


def commands(program: str) -> list[list[str]]:
    """The commands of this program, block by block."""
    found = [[c for c in commands_of(b) if c.startswith(f"{program} ")] for b in blocks("bash")]
    return [block for block in found if block]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that looks like a clone to a command that reads."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "bnfold"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bnfold_cli "$@"\n')
    script.chmod(0o755)
    return tmp_path


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = [str(ROOT), str(ROOT / "cli"), *sys.path]
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(path),
    }
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.parametrize("block", commands("bnfold"), ids=lambda block: block[0][:30])
def test_every_command_works(block: list[str], clone: Path) -> None:
    """In the order of the page; those that say so in a comment exit with 1."""
    for command in block:
        done = run(command, clone)
        expected = 1 if "exits with 1" in command else 0
        assert done.returncode == expected, f"{command}\n{done.stdout}\n{done.stderr}"
        if "fashion.folded.onnx" in command:
            check_output(done.stdout)


def check_output(printed: str) -> None:
    """What the README shows is what is printed, figures aside."""
    (shown,) = blocks("text")
    words = [re.sub(r"\d[\d.e+-]*", "N", line) for line in printed.splitlines()]
    for line in shown.splitlines():
        assert line == "..." or re.sub(r"\d[\d.e+-]*", "N", line) in words, line
    assert printed.splitlines()[0] == shown.splitlines()[0]


def test_the_library_example_works(clone: Path) -> None:
    """Ten lines, run as they stand."""
    (example,) = blocks("python")
    assert len(example.splitlines()) <= 10
    (clone / "example.py").write_text(example)
    done = run(f'"{sys.executable}" example.py', clone)
    assert done.returncode == 0, done.stderr
    assert "folded" in done.stdout
    assert (clone / "fashion.library.onnx").exists()


@pytest.mark.parametrize("command", [c for b in commands("pytest") for c in b])
def test_pytest_takes_these_options(command: str) -> None:
    """The suite itself is not run from within; the options and markers are checked."""
    options = command.removeprefix("pytest").split()
    this = [sys.executable, "-m", "pytest", *options, "--collect-only", "-q", __file__]
    done = subprocess.run(this, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode in {0, 5}, done.stdout + done.stderr  # 5: none of them is here


def test_two_commands_install_first() -> None:
    """One line installs and runs the main job, another installs and runs the tests."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    installing = [line for line in lines if line.startswith("pip install ")]
    assert installing[0].startswith('pip install ".[cpu]" && bnfold optimize ')
    assert installing[1].startswith('pip install -e ".[test]" && pytest')


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


# -- the tables ---------------------------------------------------------------------------------


def rows(header: str) -> list[list[str]]:
    """The cells of the table whose first column has this header."""
    lines = README.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {header} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def names(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))


def registered(table: dict[Key, object]) -> set[str]:
    return {name for _, name in table}


@pytest.mark.parametrize(("column", "table"), [(1, BACKWARD), (2, FORWARD)])
def test_the_tables_name_every_operator(column: int, table: dict[Key, object]) -> None:
    """The tables say of each operator what its rules do: neither more nor less."""
    cells = [*rows("linear operator"), *rows("operator passed")]
    claimed: set[str] = set().union(*(names(c[0]) for c in cells if c[column] != NONE))
    assert claimed == registered(table)


def test_the_table_of_sources_is_complete() -> None:
    assert set().union(*(names(row[0]) for row in rows("node"))) == registered(SOURCES)


def test_no_operator_is_told_of_twice() -> None:
    told = [
        name for row in rows("linear operator") + rows("operator passed") for name in names(row[0])
    ]
    assert len(told) == len(set(told))


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    from bnfold_cli import exits

    told = [int(row[0]) for row in rows("exit code")]
    signals = map(exits.interrupted, (SIGINT, SIGTERM, SIGHUP))
    assert told == [exits.YES, exits.NO, exits.COULD_NOT, exits.BUG, *signals]
