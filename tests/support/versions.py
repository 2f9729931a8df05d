"""What a test needs of ONNX Runtime beyond what bnfold itself does."""

from __future__ import annotations

import onnxruntime
import pytest


def runtime_since(version: str, reason: str) -> pytest.MarkDecorator:
    """Skips a test where the runtime is older than `version` (`major.minor`)."""
    installed = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
    old = installed < tuple(map(int, version.split(".")))
    return pytest.mark.skipif(old, reason=f"{reason} only since ONNX Runtime {version}")


RUNS_RANDOM_GRAPHS = runtime_since("1.24", "each LayerNormalization of random graphs runs")
