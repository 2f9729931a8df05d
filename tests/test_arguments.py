"""An argument that takes one or several reads a text as one, and says what it cannot read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bnfold
from bnfold import arguments
from bnfold.errors import InputError

MODEL = """
<ir_version: 8, opset_import: ["": 17]>
net (float[batch,2,6] image) => (float[batch,3,6] result)
<float[3,2,1] w = {1, 2, 3, 4, 5, 6}, float[3] gamma = {1, -2, 3}, float[3] beta = {0, 1, 2},
 float[3] mean = {1, 0, 2}, float[3] var = {1, 4, 9}> {
  h = Conv(image, w)
  result = BatchNormalization(h, gamma, beta, mean, var)
}
"""
DATA = np.random.default_rng(0).standard_normal((8, 2, 6)).astype(np.float32)
PROVING: dict[str, Callable[..., Any]] = {
    "verify": lambda m, **k: bnfold.verify(m, m, samples=1, **k),
    "bench": lambda m, **k: bnfold.bench(m, m, budget_s=0.1, **{"levels": ("all",), **k}),
    "optimize": lambda m, **k: bnfold.optimize(m, samples=1, bench=False, **k),
    "assert_equivalent": lambda m, **k: bnfold.testing.assert_equivalent(m, m, samples=1, **k),
}
FOLDING: dict[str, Callable[..., Any]] = {
    "fold": bnfold.fold,
    "inspect": bnfold.inspect,
    "optimize": PROVING["optimize"],
}


@pytest.fixture
def model() -> onnx.ModelProto:
    return onnx.parser.parse_model(MODEL)


@pytest.mark.parametrize("call", FOLDING.values(), ids=FOLDING)
def test_a_name_to_keep(model: onnx.ModelProto, call: Callable[..., Any]) -> None:
    """A text is one name, and not its letters."""
    for keep in ("result", ["result"], {"result"}, iter(["result"])):
        told = call(model, keep=keep)
        (site,) = getattr(told, "folds", told).sites
        assert site.verdict == "kept"


@pytest.mark.parametrize("call", PROVING.values(), ids=PROVING)
def test_a_provider(model: onnx.ModelProto, call: Callable[..., Any]) -> None:
    """A text is one provider, and so is a name with options."""
    for chosen in ("cpu", ("cpu", {}), ["cpu"], [("cpu", {})]):
        assert call(model, providers=chosen)


@pytest.mark.parametrize("call", PROVING.values(), ids=PROVING)
@pytest.mark.parametrize("chosen", [1, [1], {"cpu": {}}, b"cpu", [None], [("cpu", 1)]])
def test_what_is_no_provider(
    model: onnx.ModelProto, call: Callable[..., Any], chosen: Any
) -> None:
    """Anything else is an error that says what to give."""
    with pytest.raises(InputError, match="providers cannot be") as raised:
        call(model, providers=chosen)
    assert '"cpu"' in raised.value.hint


@pytest.mark.parametrize("call", FOLDING.values(), ids=FOLDING)
@pytest.mark.parametrize("keep", [1, [1], {"result": 1}, b"result", [None]])
def test_what_is_no_name(model: onnx.ModelProto, call: Callable[..., Any], keep: Any) -> None:
    """The same for names."""
    with pytest.raises(InputError, match="keep cannot be"):
        call(model, keep=keep)


def test_levels_threads_and_batches(model: onnx.ModelProto) -> None:
    """What `bench` sweeps over may be one of it."""
    (measured,) = PROVING["bench"](model, levels="disable", threads=1, batches=2).measurements
    assert (measured.level, measured.threads) == ("disable", 1)
    assert measured.shapes == {"image": (2, 2, 6)}
    for wrong in ({"levels": 1}, {"threads": "2"}, {"batches": 1.5}, {"pin": "0"}):
        with pytest.raises(InputError, match="cannot be"):
            PROVING["bench"](model, **wrong)


def test_recalibrate(model: onnx.ModelProto) -> None:
    """It has one provider."""
    assert bnfold.recalibrate(model, DATA, provider="cpu")
    with pytest.raises(InputError, match="providers cannot be"):
        bnfold.recalibrate(model, DATA, provider=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("call", PROVING.values(), ids=PROVING)
def test_sizes_by_name(model: onnx.ModelProto, call: Callable[..., Any]) -> None:
    """Sizes that have no names are an error."""
    for wrong in ("batch=2", [2], 2):
        with pytest.raises(InputError, match="dims cannot be"):
            call(model, dims=wrong)


@pytest.mark.isolated
def test_sweep(model: onnx.ModelProto, tmp_path: Path) -> None:
    """A whole sweep reads its options alike, before any work."""
    (tmp_path / "in").mkdir()
    onnx.save(model, tmp_path / "in" / "net.onnx")
    places = str(tmp_path / "in"), str(tmp_path / "out")
    (record,) = bnfold.sweep(*places, bench=False, keep="result", providers="cpu", samples=1)
    assert record, record.failure
    assert record.options["keep"] == ["result"]
    with pytest.raises(InputError, match="keep cannot be"):
        bnfold.sweep(*places, keep=1)


def test_one_or_several() -> None:
    """Names and numbers come as tuples."""
    assert arguments.names("one", "x") == ("one",)
    assert arguments.numbers(np.int64(3), "x") == (3,)
    assert arguments.providers(None) == ()
    with pytest.raises(InputError):
        arguments.numbers(True, "x")


def test_bench_of_models_with_other_inputs(model: onnx.ModelProto) -> None:
    """Models that take different inputs are not timed; the error says what each takes."""
    other = onnx.parser.parse_model(MODEL.replace("image", "picture"))
    with pytest.raises(InputError, match=r"different inputs: image .* against picture"):
        bnfold.bench(model, other, budget_s=0.1)
