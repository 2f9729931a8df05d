"""Nothing is shared: several threads work at once, and the host program is left as it was."""

from __future__ import annotations

import ast
import locale
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from random_graphs import Normal, Seeded, grow
from versions import RUNS_RANDOM_GRAPHS

import bnfold
from bnfold.report import EquivalenceReport

LIBRARY = sorted((Path(__file__).parents[1] / "bnfold").rglob("*.py"))
THREADS = 4


@pytest.fixture(scope="module")
def models() -> list[onnx.ModelProto]:
    """Different models."""
    grown = (grow(Seeded(seed), Normal(seed), onnx.TensorProto.FLOAT) for seed in range(24))
    return [one.proto for one in grown]


def at_once(work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    """The work on all items, in several threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, items))


def test_folds_in_threads(models: list[onnx.ModelProto]) -> None:
    """Models folded at the same time come out, byte by byte, as one after the other."""

    def folded(model: onnx.ModelProto) -> tuple[bytes, Any]:
        result = bnfold.fold(model)
        return result.model.SerializeToString(deterministic=True), result.sites

    assert at_once(folded, models) == [folded(model) for model in models]


def numbers(report: EquivalenceReport) -> list[Any]:
    """What a proof found."""
    return [(c.tensor, c.level, c.passed, c.original_error, c.actual) for c in report.outputs]


@RUNS_RANDOM_GRAPHS
def test_proofs_in_threads(models: list[onnx.ModelProto]) -> None:
    """Proofs at the same time give the numbers of one after the other: no clock, precision or
    filter of one reaches another."""
    pairs = [(model, bnfold.fold(model).model) for model in models[:8]]

    def proven(pair: tuple[onnx.ModelProto, onnx.ModelProto]) -> list[Any]:
        return numbers(bnfold.verify(*pair, samples=2, isolate=False))

    assert at_once(proven, pairs) == [proven(pair) for pair in pairs]


@RUNS_RANDOM_GRAPHS
@pytest.mark.isolated
def test_children_of_threads(models: list[onnx.ModelProto]) -> None:
    """Each proof has a child of its own, whichever thread asks."""
    pairs = [(model, bnfold.fold(model).model) for model in models[:4]]
    assert all(at_once(lambda pair: bool(bnfold.verify(*pair, samples=1)), pairs))


def settings() -> dict[str, Any]:
    """What a library must leave alone in the program that calls it."""
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "filters": list(warnings.filters),
        "level": logging.getLogger().level,
        "handlers": list(logging.getLogger().handlers),
        "errors": np.geterr(),
        "print": np.get_printoptions(),
        "locale": locale.setlocale(locale.LC_ALL),
        "path": list(sys.path),
        "recursion": sys.getrecursionlimit(),
        "profile": sys.getprofile(),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
    }


@RUNS_RANDOM_GRAPHS
@pytest.mark.parametrize("isolate", [pytest.param(True, marks=pytest.mark.isolated), False])
def test_the_host_is_left_as_it_was(models: list[onnx.ModelProto], isolate: bool) -> None:
    """No variable, filter, level or handler of the host differs after all of it."""
    before = settings()
    result = bnfold.optimize(models[0], samples=2, budget_s=0.2, isolate=isolate)
    assert result.equivalence
    assert settings() == before


CHANGES = {
    *("warnings.simplefilter", "warnings.filterwarnings", "warnings.catch_warnings"),
    *("warnings.resetwarnings", "logging.basicConfig", "logging.disable", "os.chdir"),
    *("os.putenv", "os.unsetenv", "os.umask", "signal.signal", "locale.setlocale"),
    *("np.seterr", "np.set_printoptions", "np.random.seed", "random.seed"),
    *("sys.setrecursionlimit", "sys.path.insert", "sys.path.append"),
}
"""Calls that change what belongs to the whole process, if only for a moment."""
OWN_PROCESS = {"worker.py", "jobs.py"}
"""What runs in a process of its own may do so."""


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.name)
def test_no_module_changes_the_process(path: Path) -> None:
    """Not for a moment either: another thread would see it."""
    if path.name in OWN_PROCESS:
        return
    tree = ast.parse(path.read_text("utf-8"))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not calls & CHANGES
    assert not any(isinstance(node, ast.Global) for node in ast.walk(tree))
    targets = [t for node in ast.walk(tree) if isinstance(node, ast.Assign) for t in node.targets]
    assert not any(ast.unparse(target).startswith("os.environ") for target in targets)
