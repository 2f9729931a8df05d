"""A sample of real graphs, where the corpus stands beside the project: none wrong, none left.

This is every so-manyth model of it, judged by the script that comes with it: each model is folded
in a process of its own and run with optimizations off and on, beside the noise that the original
shows between its own levels.
"""

from __future__ import annotations

import csv
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

import bnfold

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"
STRIDE = 12
SECONDS = 120.0
UNSUITABLE = {
    "ritnet_best_model.onnx",  # runs for a minute
    "winml_squeezenet_tensor_input.onnx",  # gives a sequence of maps, which the script cannot read
}

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not CORPUS.is_dir(), reason=f"there is no corpus at {CORPUS}"),
]


def possible() -> dict[str, int]:
    """What a plain implementation of the calculus leaves of each file."""
    with (CORPUS / "possible.tsv").open(encoding="utf-8") as file:
        return {row["name"]: int(row["left"]) for row in csv.DictReader(file, delimiter="\t")}


def sample() -> list[str]:
    """Every so-manyth file, in the order of their names."""
    if not CORPUS.is_dir():
        return ["absent"]
    return [name for name in sorted(possible())[::STRIDE] if name not in UNSUITABLE]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The corpus's own script."""
    spec = spec_from_file_location("corpus_check", CORPUS / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sample())
def test_a_model_of_the_corpus(
    name: str, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folded as far as it can be, and the same function."""
    home = str(Path(bnfold.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([home, *sys.path]))
    (path,) = (p for p in (CORPUS / "zoo" / name, CORPUS / "models" / name) if p.exists())
    row = script.check(path, SECONDS)
    assert script.verdict(row, possible()[name]) in ("ok", "unrun"), row
