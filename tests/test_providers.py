"""The equivalence suite on every provider: folds pass, faults do not. See docs/testing.md.

`pytest tests/test_providers.py -m "slow or not slow" --bnfold-provider openvino` runs all of it
on one.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from rows import build, parse_row

from bnfold import fold, runtime, verify

ROOT = Path(__file__).parents[1]
NETWORKS = sorted((ROOT / "models" / "trained").glob("*.onnx"))
TABLES = sorted((ROOT / "tests" / "rules").glob("test_*.py"))
HOLDERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Transpose"}
"""Operators that read a weight."""

each_network = pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)


@each_network
def test_a_fold_is_equivalent(path: Path, bnfold_provider: str) -> None:
    """A trained network folds to the same function, and the provider asked for computed it."""
    report = verify(path, fold(path).model, samples=4, providers=[bnfold_provider])
    assert report, report.outputs
    name = runtime.provider_name(bnfold_provider)
    assert {output.provider for output in report.outputs} == {name}


@each_network
def test_one_per_cent_of_one_weight_is_seen(path: Path, bnfold_provider: str) -> None:
    """A fault of one per cent in the first weight is seen, and the layer named."""
    wrong = onnx.load(path)
    stored = {t.name: t for t in wrong.graph.initializer}
    holders = (n for n in wrong.graph.node if n.op_type in HOLDERS)
    node, weight = next((n, stored[i]) for n in holders for i in n.input[:2] if i in stored)
    array = (numpy_helper.to_array(weight) * 1.01).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    report = verify(path, wrong, samples=4, providers=[bnfold_provider])
    assert not report
    assert report.culprit in node.output


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"rows_of_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_rows_are_equivalent(path: Path, bnfold_provider: str) -> None:
    """Every row of the rules' tables that the provider runs folds to the same function."""
    wrong = []
    for name, text in getattr(load(path), "CASES", {}).items():
        row = parse_row(name, text)
        if row.judge:  # the runtime does not run it
            continue
        built = build(row, "different")
        try:
            runtime.open_session(built.model, provider=bnfold_provider, level="disable")
        except runtime.RuntimeUnavailable:
            continue
        folded = fold(built.model, keep=row.keep, reparameterize=False).model
        data = [built.feeds]
        report = verify(built.model, folded, data=data, providers=[bnfold_provider])
        if not report:
            wrong.append((name, next(o for o in report.outputs if not o.passed), report.notes))
    assert not wrong, "\n".join(map(str, wrong))
