"""The fuzzer itself: its cases can be made again, and what it looks for it finds."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from rows import row

import bnfold

SCRIPT = Path(__file__).with_name("fuzzing.py")


@pytest.fixture(scope="module")
def fuzzing() -> ModuleType:
    pytest.importorskip("resource", reason="limits memory as POSIX systems do")
    spec = importlib.util.spec_from_file_location("fuzzing", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def path(tmp_path: Path) -> Path:
    model = row("h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O,0](h)").model
    onnx.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def check(fuzzing: ModuleType, path: Path) -> str:
    return str(fuzzing.check(path, random.Random(0), lambda **_: None))


def test_a_case_is_its_number(fuzzing: ModuleType) -> None:
    """The same seed and number give the same bytes; another number others."""
    files = fuzzing.base_models(None)
    cases = [fuzzing.made(number, 7, files) for number in range(20)]
    assert cases == [fuzzing.made(number, 7, files) for number in range(20)]
    assert len({data for data, _ in cases}) > 15


def test_a_good_fold_passes(fuzzing: ModuleType, path: Path) -> None:
    """Nothing is said of a fold that is right, which was run."""
    assert check(fuzzing, path) == "ran"


def spoiled(change: Any) -> Any:
    """`bnfold.fold`, with a change of what it made."""
    real = bnfold.fold

    def fold(model: Any, **options: Any) -> Any:
        result = real(model, **options)
        change(result)
        return result

    return fold


def wrong_weight(result: Any) -> None:
    weight = result.model.graph.initializer[0]
    array = numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))


def cut_wire(result: Any) -> None:
    result.model.graph.node[0].input[0] = "nowhere"


def bug(result: Any) -> None:
    raise KeyError("a bug")


@pytest.mark.parametrize(
    ("change", "said"),
    [(wrong_weight, "something else"), (cut_wire, "not valid"), (bug, "a bug")],
)
def test_faults_are_found(
    fuzzing: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, said: str
) -> None:
    """A weight off by one per cent, a result that is no model, an exception: each is a failure."""
    monkeypatch.setattr(bnfold, "fold", spoiled(change))
    with pytest.raises(Exception, match=said):
        check(fuzzing, path)
