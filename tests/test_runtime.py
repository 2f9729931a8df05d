"""Sessions: levels, providers, errors that say what to do."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from bnfold import runtime
from bnfold.errors import InputError, ProviderUnavailable, RuntimeUnavailable

CONV_BN = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N,2,H,W] x) => (float[N,2,P,Q] y)
<float[2,2,1,1] w = {1,2,3,4}, float[2] s = {1,2}, float[2] v = {0.5,2}>
{
    c = Conv(x, w)
    y = BatchNormalization(c, s, s, s, v)
}
"""
FEEDS = {"x": np.ones((1, 2, 3, 3), np.float32)}


@pytest.fixture
def model() -> onnx.ModelProto:
    return parser.parse_model(CONV_BN)


def test_importing_the_library_imports_no_runtime() -> None:
    """`import bnfold.pipeline` works where onnxruntime is not installed."""
    code = (
        "import sys, bnfold.pipeline, bnfold.testing;"
        "sys.exit(bool({'onnxruntime', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_runtime_names_both_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without onnxruntime the hint holds the two commands that install it."""

    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(RuntimeUnavailable) as caught:
        runtime.ort()
    assert 'pip install "bnfold[cpu]"' in caught.value.hint
    assert 'pip install "bnfold[gpu]"' in caught.value.hint


@pytest.mark.parametrize("level", runtime.LEVELS)
def test_every_level_runs(model: onnx.ModelProto, level: runtime.Level) -> None:
    """A level is given by name, and all of them give the same values here."""
    got = runtime.open_session(model, level=level).run(FEEDS)["y"]
    by_hand = [1 * (3 - 1) / np.sqrt(0.50001) + 1, 2 * (7 - 2) / np.sqrt(2.00001) + 2]
    np.testing.assert_allclose(got[0, :, 0, 0], by_hand, 1e-5)


def test_unknown_level_is_refused(model: onnx.ModelProto) -> None:
    """A level that does not exist is the caller's error, with those that do."""
    with pytest.raises(InputError, match="fastest") as caught:
        runtime.open_session(model, level="fastest")  # type: ignore[arg-type]
    assert "disable" in caught.value.hint


def test_a_path_and_a_proto_are_the_same(model: onnx.ModelProto, tmp_path: Path) -> None:
    """A file loads without passing through Python; the results agree bit by bit."""
    onnx.save(model, tmp_path / "m.onnx")
    by_path = runtime.open_session(tmp_path / "m.onnx").run(FEEDS)["y"]
    by_proto = runtime.open_session(model).run(FEEDS)["y"]
    np.testing.assert_array_equal(by_path, by_proto)


def test_a_model_past_protobufs_limit_goes_through_a_file(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proto too large to serialize runs all the same, and is not changed by it."""
    before = model.SerializeToString(deterministic=True)
    monkeypatch.setattr(runtime, "_PROTOBUF_LIMIT", 1)
    assert runtime.open_session(model).run(FEEDS)["y"].shape == (1, 2, 3, 3)
    assert model.SerializeToString(deterministic=True) == before


def test_inner_tensors_can_be_exposed(model: onnx.ModelProto) -> None:
    """`outputs` shows a tensor inside the graph, and leaves the model alone."""
    session = runtime.open_session(model, level="disable", outputs=["c"])
    np.testing.assert_array_equal(session.run(FEEDS)["c"][0, :, 0, 0], [3, 7])
    assert [o.name for o in model.graph.output] == ["y"]


def test_the_runtimes_own_fusion_can_be_switched_off(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    """`BN_FUSIONS` are the names that this runtime knows its folds by."""

    def operators(without: tuple[str, ...]) -> list[str]:
        path = tmp_path / "optimized.onnx"
        runtime.open_session(model, level="extended", without=without, save_optimized=path)
        return [node.op_type for node in onnx.load(path).graph.node]

    assert "BatchNormalization" not in operators(())
    assert "BatchNormalization" in operators(runtime.BN_FUSIONS)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("cpu", "CPUExecutionProvider"),
        ("CPU", "CPUExecutionProvider"),
        ("CPUExecutionProvider", "CPUExecutionProvider"),
        ("cuda", "CUDAExecutionProvider"),
        ("trt", "TensorrtExecutionProvider"),
        ("openvino", "OpenVINOExecutionProvider"),
        ("directml", "DmlExecutionProvider"),
        ("coreml", "CoreMLExecutionProvider"),
        ("rocm", "ROCMExecutionProvider"),
    ],
)
def test_aliases(alias: str, name: str) -> None:
    """A provider is known by its alias and by ONNX Runtime's name, whatever the case."""
    assert runtime.provider_name(alias) == name


def test_unknown_provider() -> None:
    """A provider that nobody knows is refused with those that are known."""
    with pytest.raises(ProviderUnavailable, match="abacus") as caught:
        runtime.resolve_provider("abacus")
    assert "cuda" in caught.value.hint


def test_absent_provider_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that this build lacks is refused with what it has and how to get it."""
    monkeypatch.setattr(runtime, "available_providers", lambda: ("CPUExecutionProvider",))
    with pytest.raises(ProviderUnavailable, match="CPUExecutionProvider") as caught:
        runtime.resolve_provider("cuda")
    assert "bnfold[gpu]" in caught.value.hint


def test_tf32_is_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's reduced precision would hide a fault; an option of the caller's own wins."""
    monkeypatch.setattr(runtime, "available_providers", lambda: ("CUDAExecutionProvider",))
    assert runtime.resolve_provider("cuda")[1] == {"use_tf32": "0"}
    assert runtime.resolve_provider(("cuda", {"use_tf32": "1"}))[1] == {"use_tf32": "1"}


def test_a_session_that_fell_back_is_an_error() -> None:
    """An answer by another provider than the one asked for is never a result."""

    class Handle:
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    with pytest.raises(ProviderUnavailable, match="fell back to CPUExecutionProvider"):
        runtime._refuse_fallback(Handle(), "CUDAExecutionProvider")


def test_wrong_shape_names_it(model: onnx.ModelProto) -> None:
    """A feed that does not fit is an InputError with the shape that was given."""
    session = runtime.open_session(model)
    with pytest.raises(InputError, match=r"x \(1, 5, 3, 3\)"):
        session.run({"x": np.ones((1, 5, 3, 3), np.float32)})


def test_missing_feed_names_it(model: onnx.ModelProto) -> None:
    """A missing input is an InputError with its name."""
    with pytest.raises(InputError, match="no data for input x"):
        runtime.open_session(model).run({})


def test_a_model_the_runtime_cannot_load() -> None:
    """An operator without a kernel is RuntimeUnavailable, in one line."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "nobody": 1]>'
        "g (float[2] x) => (float[2] y) { y = nobody.Unknown(x) }"
    )
    with pytest.raises(RuntimeUnavailable, match="cannot load") as caught:
        runtime.open_session(model)
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
def test_cuda_answers_itself(model: onnx.ModelProto) -> None:
    """On a GPU machine the session's provider is CUDA and its values are right."""
    if "CUDAExecutionProvider" not in runtime.available_providers():
        pytest.skip("onnxruntime has no CUDAExecutionProvider here")
    session = runtime.open_session(model, provider="cuda")
    assert session.provider == "CUDAExecutionProvider"
    np.testing.assert_allclose(
        session.run(FEEDS)["y"], runtime.open_session(model).run(FEEDS)["y"], 1e-5
    )
