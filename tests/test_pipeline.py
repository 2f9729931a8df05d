"""optimize: what comes out was proven, or nothing does."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from onnx import numpy_helper, parser

from bnfold import folding, pipeline, stored, takeback
from bnfold.errors import InputError, NotEquivalent, OutputError, RuntimeUnavailable
from bnfold.pipeline import optimize
from bnfold.report import FoldResult
from bnfold.rules.registry import BACKWARD, FORWARD, Step
from bnfold.testing import assert_equivalent
from bnfold_cli import app

TEXT = """
<ir_version: 8, opset_import: ["": 17]>
net (float[N,2,H,W] x) => (float[N,2,P,Q] y) {
    c1 = Conv(x, w1)
    b1 = BatchNormalization(c1, s, s, m, v)
    r = Relu(b1)
    c2 = Conv(r, w2)
    y = BatchNormalization(c2, s, m, m, v)
}
"""


@pytest.fixture
def model() -> onnx.ModelProto:
    """Two Conv, each with a BatchNormalization."""
    proto = parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"w1": (2, 2, 3, 3), "w2": (2, 2, 1, 1)}
    for name, shape in {**shapes, "s": (2,), "m": (2,), "v": (2,)}.items():
        array = (
            np.abs(rng.standard_normal(shape)) + 0.1 if name == "v" else rng.standard_normal(shape)
        )
        proto.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return proto


Folder = Callable[..., FoldResult]


def sabotage(*tensors: str, always: bool = False) -> Folder:
    """A `fold` whose weights behind `tensors` are one per cent off where they were folded."""
    right = folding.fold

    def wrong(model: Any, **options: Any) -> FoldResult:
        result = right(model, **options)
        for site in result.sites:
            if site.tensor in tensors and (always or site.verdict == "folded"):
                _spoil(result.model, site.tensor)
        return result

    return wrong


def _spoil(model: onnx.ModelProto, tensor: str) -> None:
    maker = next(node for node in model.graph.node if tensor in node.output)
    weight = next(t for t in model.graph.initializer if t.name == maker.input[1])
    array = numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))


def quick(model: Any, output: Any = None, **options: Any) -> Any:
    return optimize(model, output, bench=False, samples=3, **options)


def test_fold_prove_measure_write(model: onnx.ModelProto, tmp_path: Path) -> None:
    """One call folds, proves, measures and writes; the file is the model in the result."""
    path = tmp_path / "out.onnx"
    before = model.SerializeToString(deterministic=True)
    result = optimize(model, path, samples=3, budget_s=0.3)
    assert [site.verdict for site in result.folds.sites] == ["folded", "folded"]
    assert result.equivalence
    assert result.speed is not None
    assert result.output == str(path)
    assert "BatchNormalization" not in [n.op_type for n in onnx.load(path).graph.node]
    assert onnx.load(path) == result.model
    assert_equivalent(model, path)
    assert model.SerializeToString(deterministic=True) == before
    assert json.loads(json.dumps(result.to_dict()))["equivalence"]["outputs"]


def test_a_path_in(model: onnx.ModelProto, tmp_path: Path) -> None:
    """A model may be a path; the file is only read."""
    path = tmp_path / "in.onnx"
    onnx.save(model, path)
    digest = hashlib.sha256(path.read_bytes()).digest()
    assert quick(path, tmp_path / "out.onnx").equivalence
    assert hashlib.sha256(path.read_bytes()).digest() == digest


@pytest.mark.parametrize("tensor", ["b1", "y"])
def test_a_wrong_fold_is_taken_back(
    model: onnx.ModelProto, tensor: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One sabotaged fold ends in a proven model without it, and the reason is told."""
    monkeypatch.setattr(folding, "fold", sabotage(tensor))
    result = quick(model, tmp_path / "out.onnx")
    verdicts = {site.tensor: site for site in result.folds.sites}
    other = verdicts["y" if tensor == "b1" else "b1"]
    assert other.verdict == "folded"
    assert verdicts[tensor].verdict == "rolled_back"
    assert (verdicts[tensor].code, verdicts[tensor].reason) == ("BNF401", "not-equivalent")
    assert "output y on CPUExecutionProvider" in (verdicts[tensor].detail or "")
    assert "allowed" in (verdicts[tensor].detail or "")
    assert result.equivalence
    assert_equivalent(model, tmp_path / "out.onnx")


def test_all_folds_wrong(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    """When every fold is wrong all are taken back, and what is left passes."""
    monkeypatch.setattr(folding, "fold", sabotage("b1", "y"))
    result = quick(model)
    assert {site.verdict for site in result.folds.sites} == {"rolled_back"}
    assert result.equivalence
    assert sum(n.op_type == "BatchNormalization" for n in result.model.graph.node) == 2


def test_an_unknown_culprit_takes_everything_back(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure that nobody can place does not end in an unproven model."""
    monkeypatch.setattr(folding, "fold", sabotage("b1"))
    monkeypatch.setattr(takeback, "_suspects", lambda *_: [])
    result = quick(model)
    assert {site.verdict for site in result.folds.sites} == {"rolled_back"}
    assert result.equivalence


def test_nothing_left_to_take_back(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A model that fails with nothing folded is NotEquivalent, and no file is written."""
    right = folding.fold

    def broken(model: Any, **options: Any) -> FoldResult:
        result = right(model, **options)
        weight = next(t for t in result.model.graph.initializer if t.name.startswith("w2"))
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 2, weight.name))
        return result

    monkeypatch.setattr(folding, "fold", broken)
    path = tmp_path / "out.onnx"
    with pytest.raises(NotEquivalent, match="output y") as caught:
        quick(model, path)
    assert caught.value.hint
    assert not path.exists()


def test_without_proof_nothing_is_claimed(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`verify=False` proves nothing and says nothing: there is no equivalence report."""
    monkeypatch.setattr(folding, "fold", sabotage("b1"))
    result = optimize(model, verify=False, bench=False)
    assert result.equivalence is None
    assert result.speed is None
    assert len(result.folds.folded) == 2


def test_an_existing_output_is_refused_before_the_work(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is overwritten without `force`, and nothing is computed in vain."""
    path = tmp_path / "out.onnx"
    path.write_text("precious")
    with monkeypatch.context() as patch:
        patch.setattr(folding, "fold", lambda *_, **__: pytest.fail("it folded"))
        with pytest.raises(OutputError):
            quick(model, path)
    assert path.read_text() == "precious"
    assert quick(model, path, force=True).equivalence
    assert onnx.load(path).graph.node


def test_kept_by_request(model: onnx.ModelProto) -> None:
    """A tensor in `keep` stays, and is not called rolled back."""
    sites = {site.tensor: site for site in quick(model, keep=["b1"]).folds.sites}
    assert sites["b1"].verdict == "kept"
    assert sites["y"].verdict == "folded"


def test_an_iterator_of_data_serves_every_proof(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data that can be read once is kept for the proof after a fold was taken back."""
    monkeypatch.setattr(folding, "fold", sabotage("y"))
    data = ({"x": np.full((1, 2, 5, 5), i, np.float32)} for i in range(1, 3))
    result = quick(model, data=data)
    assert result.equivalence.samples == ("given 0", "given 1")


def test_errors_of_the_data_come_through(model: onnx.ModelProto, tmp_path: Path) -> None:
    """Data that does not fit is an InputError, and no file is written."""
    with pytest.raises(InputError):
        quick(model, tmp_path / "out.onnx", data={"z": np.ones(3)})
    assert not (tmp_path / "out.onnx").exists()


def test_progress(model: onnx.ModelProto, tmp_path: Path) -> None:
    """Every stage is told."""
    stages: list[str] = []
    optimize(
        model,
        tmp_path / "out.onnx",
        samples=2,
        budget_s=0.2,
        progress=lambda stage, *_: stages.append(stage),
    )
    assert {"fold", "judge", "bench", "write"} <= set(stages)


def test_nothing_to_fold_is_not_proven(model: onnx.ModelProto, tmp_path: Path) -> None:
    """Where nothing changed, no time goes into a proof, and a note says so."""
    path = tmp_path / "out.onnx"
    result = optimize(model, path, keep=["b1", "y"])
    assert (result.equivalence, result.speed) == (None, None)
    assert pipeline.UNCHANGED in result.folds.notes
    assert onnx.load(path).graph == model.graph


def test_sizes_past_what_protobuf_counts(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of a model is known also where protobuf refuses to count it."""
    expected = model.ByteSize()
    total = stored.with_weights(model, lambda tensor: tensor).ByteSize()
    assert total == expected

    class Refusing:
        def __init__(self, inner: onnx.ModelProto) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def ByteSize(self) -> int:
            raise EncodeError("too large")

    monkeypatch.setattr(stored, "with_weights", lambda m, f: _through(m.inner, f))
    assert expected - 40 <= stored.byte_size(Refusing(model)) <= expected  # type: ignore[arg-type]


def _through(model: onnx.ModelProto, replace: Callable[[Any], Any]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(map(replace, model.graph.initializer))
    return copy


@pytest.mark.parametrize(
    ("direction", "key", "tensor"), [("backward", "Conv", "b1"), ("forward", "Gemm", "b2")]
)
def test_a_wrong_rule_ends_in_a_proven_model(
    direction: str,
    key: str,
    tensor: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A rule that is one per cent off: its fold is taken back, the reason is printed, and what
    the other rules did stays."""
    table = {"backward": BACKWARD, "forward": FORWARD}[direction]
    right = table["", key]

    def wrong(op: Any, affine: Any, *more: Any) -> Any:
        answer = right(op, affine, *more)
        steps = [answer] if isinstance(answer, Step) else answer
        return [
            dataclasses.replace(
                step,
                constants={i: c.derived(lambda a: 1.01 * a) for i, c in step.constants.items()},
            )
            for step in steps
        ]

    monkeypatch.setitem(table, ("", key), wrong)
    onnx.save(two_rules(), tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    assert app.run(["optimize", "net.onnx", "--no-bench", "--samples", "3"]) == 0
    out = capsys.readouterr().out
    assert "Rolled back 1\n" in out
    (line,) = (line for line in out.splitlines() if "BNF401 not-equivalent" in line)
    assert f" {tensor} " in line
    assert "output y on CPUExecutionProvider" in line
    assert "allowed" in line
    assert "Verified" in out
    left = [node.op_type for node in onnx.load("net.folded.onnx").graph.node]
    assert left.count("BatchNormalization") == 1
    assert_equivalent("net.onnx", "net.folded.onnx")


def two_rules() -> onnx.ModelProto:
    """One normalization that goes back into a Conv, and one that goes ahead into a Gemm."""
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        net (float[N,2,6,6] x) => (float[N,3] y) {
            c1 = Conv(x, w1)
            b1 = BatchNormalization(c1, s, t, m, v)
            r = Relu(b1)
            p = GlobalAveragePool(r)
            f = Flatten(p)
            u = Sigmoid(f)
            b2 = BatchNormalization(u, s, t, m, v)
            y = Gemm(b2, w2)
        }"""
    )
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"w1": (4, 2, 3, 3), "w2": (4, 3)}
    for name, shape in {**shapes, "s": (4,), "t": (4,), "m": (4,), "v": (4,)}.items():
        array = rng.standard_normal(shape)
        array = np.abs(array) + 0.2 if name in "sv" else array
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return model


UNKNOWN = """<ir_version: 9, opset_import: ["" : 18, "my.ops" : 1]>
g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1, 2, 3, 4}, float[2] s = {2, 3}> {
  h = MatMul(x, w)
  z = Mul(h, s)
  y = my.ops.Thing(z)
}
"""


def test_what_no_runtime_runs_is_folded_only_unproven() -> None:
    """A model with an operator of an unknown domain is refused, and folded without a proof."""
    model = parser.parse_model(UNKNOWN)
    with pytest.raises(RuntimeUnavailable) as caught:
        optimize(model)
    assert "--no-verify" in caught.value.hint
    result = optimize(model, verify=False)
    assert [node.op_type for node in result.model.graph.node] == ["MatMul", "Thing"]
    assert result.equivalence is None
    assert result.speed is None
    assert any(note.startswith("not timed") for note in result.folds.notes)
