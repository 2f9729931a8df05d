"""The pytest plugin: the documented example runs, and who does not use it pays nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = re.findall(
    r"^```python\n(.*?)^```$",
    (ROOT / "docs" / "testing.md").read_text("utf-8"),
    re.DOTALL | re.MULTILINE,
)[0]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's project with a test, and no settings of ours."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(EXAMPLE)
    return tmp_path


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: v for name, v in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "bnfold.pytest_plugin", "-rs", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_example_of_the_documentation(project: Path) -> None:
    """It passes on the CPU, as a test of its own."""
    done = run(project, "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_folding_changes_nothing[CPUExecutionProvider] PASSED" in done.stdout
    assert "Azure" not in done.stdout


def test_a_provider_that_was_asked_for_must_be_there(project: Path) -> None:
    """One that is absent fails; an alias is understood."""
    done = run(project, "-v", "--bnfold-provider", "rocm", "--bnfold-provider", "cpu")
    assert done.returncode == 1
    assert "test_folding_changes_nothing[cpu] PASSED" in done.stdout
    assert "ROCMExecutionProvider is not available" in done.stdout


def test_a_test_may_choose_providers_itself(project: Path) -> None:
    text = EXAMPLE.replace(
        "def test_folding",
        '@pytest.mark.parametrize("bnfold_provider", ["CPUExecutionProvider"])\ndef test_folding',
    )
    (project / "test_it.py").write_text(text)
    done = run(project, "-v")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_listed_provider_that_does_not_start_is_skipped(project: Path) -> None:
    """With the reason; builds for GPUs list providers whose libraries are not there."""
    (project / "conftest.py").write_text(
        "import pytest\nfrom bnfold import runtime\n\n"
        "@pytest.fixture(autouse=True, scope='session')\n"
        "def nothing(): pass\n\n"
        "runtime.available_providers = lambda: ('CUDAExecutionProvider', runtime.CPU)\n"
        "runtime.resolve_provider = lambda p: (p if isinstance(p, str) else p[0], {})\n"
    )
    done = run(project, "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[CUDAExecutionProvider] SKIPPED" in done.stdout
    assert "fell back" in done.stdout or "cannot load" in done.stdout


def test_without_a_test_that_asks_nothing_is_imported(project: Path) -> None:
    """No runtime, no onnx, no numpy for those who do not use it."""
    (project / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n"
        "    assert not {'onnxruntime', 'onnx', 'numpy'} & set(sys.modules)\n"
    )
    done = run(project)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_entry_point_has_the_modules_name() -> None:
    """So that `-p bnfold.pytest_plugin` and an installed bnfold do not register it twice."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert '"bnfold.pytest_plugin" = "bnfold.pytest_plugin"' in text
