"""Does what is installed hold what it should, and nothing else?"""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[1]
SILENT = {"__pycache__"}

IMPORT_NAMES = {"protobuf": "google", "ml-dtypes": "ml_dtypes"}
"""Where a distribution's import name is another."""


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def names_in(folder: str) -> set[str]:
    return {p.name for p in (ROOT / folder).iterdir()} - SILENT


def test_folders_hold_one_package_each() -> None:
    """In an editable install these folders are on the path: a stray file becomes a module."""
    assert names_in("cli") == {"bnfold_cli"}
    assert names_in("models") == {"README.md", "bnfold_models", "trained"}


@pytest.mark.parametrize("folder", ["cli", "models", "tests"])
def test_folders_are_no_packages(folder: str) -> None:
    """A package `tests` or `models` in the root would hide the caller's own."""
    assert not (ROOT / folder / "__init__.py").exists()


def test_tests_are_no_package() -> None:
    """Tests import nothing from each other by way of a package."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_the_command_is_declared(project: dict[str, Any]) -> None:
    """`bnfold` starts the command line."""
    assert project["project"]["scripts"] == {"bnfold": "bnfold_cli.app:main"}
    module = importlib.util.find_spec("bnfold_cli.app")
    assert module is not None
    assert module.origin is not None
    tree = ast.parse(Path(module.origin).read_text("utf-8"))
    assert "main" in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def test_dependencies_are_declared(project: dict[str, Any]) -> None:
    """Everything that the two installed packages import is a dependency or an extra of users."""
    extras = project["project"]["optional-dependencies"]
    declared = project["project"]["dependencies"] + extras["cpu"] + extras["report"]
    names = {line.split(">")[0].split("=")[0].strip() for line in declared}
    allowed = {IMPORT_NAMES.get(name, name) for name in names} | {"rich", "pytest"}
    # rich comes with typer, and pytest loads its plugin itself
    for folder in ("bnfold", "cli/bnfold_cli"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for library in libraries(path) - {"bnfold", "bnfold_cli"}:
                assert library in allowed, f"{path.name} imports {library}"


def libraries(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return {name for name in found if name not in sys.stdlib_module_names}


def test_both_runtimes_are_never_asked_for_together(project: dict[str, Any]) -> None:
    """With onnxruntime beside onnxruntime-gpu, CUDA vanishes."""
    extras = project["project"]["optional-dependencies"]
    assert extras["test"] == ["bnfold[cpu,report,sweep,test-tools]"]
    assert extras["test-gpu"] == ["bnfold[gpu,report,sweep,test-tools]"]
    assert not [line for line in extras["test-tools"] if line.startswith("onnxruntime")]


def test_torch_is_pinned(project: dict[str, Any]) -> None:
    """Any looser request may pull gigabytes that no test needs."""
    asked = [
        line
        for lines in project["project"]["optional-dependencies"].values()
        for line in lines
        if line.startswith("torch")
    ]
    assert asked == ["torch==2.13.0"]


def test_licence_and_types_are_there() -> None:
    """The licence is the whole text, and type checkers are told that bnfold has types."""
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert (ROOT / "bnfold" / "py.typed").exists()


@pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None or importlib.util.find_spec("pip") is None,
    reason="needs hatchling and pip in this environment",
)
def test_the_wheel_holds_two_packages(tmp_path: Path) -> None:
    """Users get bnfold and its command line: no torch code, no tests, no models."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(tmp_path), str(ROOT)], check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"bnfold", "bnfold_cli"}
    assert "bnfold/py.typed" in names
    assert {f"bnfold/html/template/page.{kind}" for kind in ("html", "css", "js")} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any("__pycache__" in name for name in names)


HOLE = {"id": "CVE-0000-0000", "fix_versions": ["2.0"]}
REPORTS = {
    "nothing looked up": ([{"name": "numpy", "skip_reason": "not found"}], 75),
    "no hole": ([{"name": "numpy", "version": "1.0", "vulns": []}], 0),
    "a hole": ([{"name": "numpy", "version": "1.0", "vulns": [HOLE]}], 1),
    "only our own": ([{"name": "bnfold", "version": "0.1", "vulns": []}], 75),
}


@pytest.mark.parametrize("name", REPORTS)
def test_an_audit_that_looked_nothing_up_is_no_good_news(name: str, tmp_path: Path) -> None:
    """The nightly script tells a clean result, a hole, and a service that knows nothing, apart."""
    script = ROOT / ".ci/audit.py"
    if not script.exists():
        pytest.skip("no .ci here: this is no checkout")
    packages, code = REPORTS[name]
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"dependencies": packages}), "utf-8")
    done = subprocess.run(
        [sys.executable, script, report], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
