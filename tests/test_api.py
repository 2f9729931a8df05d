"""Is what the library promises there, and is importing it cheap?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import bnfold
import bnfold.testing

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "trained" / "digits-relu-bn1.onnx"


def test_all_is_sorted_and_complete() -> None:
    """`__all__` equals what can be imported, and `dir` shows it."""
    assert bnfold.__all__ == sorted(bnfold.__all__)
    for name in bnfold.__all__:
        assert getattr(bnfold, name) is not None
    assert set(bnfold.__all__) <= set(dir(bnfold))


def test_star_import_gives_all() -> None:
    space: dict[str, object] = {}
    exec("from bnfold import *", space)
    assert set(bnfold.__all__) <= set(space)


def test_what_the_design_promises_is_there() -> None:
    """The five functions, and the assertion for users' own tests."""
    for name in ("fold", "inspect", "verify", "bench", "optimize", "explain"):
        assert callable(getattr(bnfold, name)), name
        assert getattr(bnfold, name).__doc__, name
    assert callable(bnfold.testing.assert_equivalent)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'quantize'"):
        bnfold.quantize  # noqa: B018


def test_errors_are_one_family() -> None:
    """Catching BnfoldError catches what is about the caller's own input."""
    errors = [v for n in bnfold.__all__ if isinstance(v := getattr(bnfold, n), type)]
    for error in (e for e in errors if issubclass(e, Exception)):
        assert issubclass(error, bnfold.BnfoldError)


def test_reports_turn_into_json() -> None:
    """Every report has `to_dict`, which `json` writes, with the version of its schema."""
    report = bnfold.inspect(MODEL)
    document = json.loads(json.dumps(report.to_dict()))
    assert document["schema"] == 1
    assert document["sites"][0]["verdict"] == "folded"


def modules_after(code: str) -> set[str]:
    """The top names of what is imported in a new process that ran this."""
    program = f"{code}\nimport sys; print('MODULES', *sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("MODULES"))
    return {name.split(".")[0] for name in line.split()[1:]}


def test_importing_the_library_is_cheap() -> None:
    """`import bnfold` imports nothing that a caller may not use."""
    loaded = modules_after("import bnfold; bnfold.__version__")
    assert not loaded & {"onnxruntime", "torch", "typer", "rich", "onnx", "numpy"}


def test_folding_needs_no_runtime() -> None:
    """`fold` and `inspect` work where ONNX Runtime is not installed."""
    loaded = modules_after(
        "import sys; sys.modules['onnxruntime'] = None\n"
        f"import bnfold; assert bnfold.fold({str(MODEL)!r}).folded\n"
        "del sys.modules['onnxruntime']"
    )
    assert not loaded & {"onnxruntime", "torch", "typer", "rich"}


@pytest.mark.parametrize("arguments", [["--help"], ["optimize", "--help"], ["--version"]])
def test_help_is_cheap(arguments: list[str]) -> None:
    """Help is instant: it imports neither onnx nor a runtime."""
    loaded = modules_after(f"from bnfold_cli.app import run; assert run({arguments!r}) == 0")
    assert not loaded & {"onnx", "onnxruntime", "numpy", "torch"}
