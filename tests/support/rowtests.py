"""What must hold of every row of every table of rules. A module of tests has tables and a class:

    CASES = {"MaxPool/backward": "h = Conv(X[N,C,H,W], w[O,C,3,3]); ..."}
    REFUSALS = {"a zero that is averaged in": (Reason.PADDED_SHIFT, "...")}

    class TestPooling(RowTests): ...

A case is named by what it shows: `Operator/backward`, `/forward` or `/source`, and a variant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from rows import Built, Row, build

import bnfold
from bnfold.affine import Affine
from bnfold.constants import Constant
from bnfold.judge import Judge
from bnfold.reasons import Reason
from bnfold.rules.registry import BACKWARD, FORWARD, MICROSOFT, SOURCES, Source, Step

TABLES: dict[str, dict[Any, Any]] = {"backward": BACKWARD, "forward": FORWARD, "source": SOURCES}
FAULT = {"float": 1.01, "double": 1.01, "float16": 1.5, "bfloat16": 3.0}
"""A rule that is one percent wrong must be seen; where weights are rounded coarsely, more."""

ROUNDING = {"float": 2.0**-24, "double": 2.0**-53, "float16": 2.0**-11, "bfloat16": 2.0**-8}
UNITS = {"float": 40, "double": 40, "float16": 8, "bfloat16": 8}
"""Units of rounding, of the largest element, that a fold may be off by: weights are rounded."""

DISABLED = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
EVERYTHING = ort.GraphOptimizationLevel.ORT_ENABLE_ALL


# ----------------------------------------------------------------------- running


def run(model: onnx.ModelProto, feeds: Mapping[str, Any], level: Any) -> dict[str, Any]:
    """The outputs by ONNX Runtime on the CPU."""
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(feeds)), strict=True))


def exposed(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The model with these tensors as its outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return copy


def tensors(model: onnx.ModelProto) -> list[str]:
    """All that the graph makes."""
    return [name for node in model.graph.node for name in node.output if name]


def constants(model: onnx.ModelProto) -> dict[str, Any]:
    """The initializers."""
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def data_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are no initializers."""
    stored = {t.name for t in model.graph.initializer}
    return [info for info in model.graph.input if info.name not in stored]


# --------------------------------------------------------------------- comparing


def distance(actual: Any, expected: Any) -> float:
    """The largest difference, relative to the largest element; infinite for other shapes."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape:
        return np.inf
    if expected.dtype.kind in "biu":
        return 0.0 if np.array_equal(actual, expected) else np.inf
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    if not np.array_equal(np.isfinite(actual), np.isfinite(expected)):
        return np.inf
    finite = np.isfinite(expected)
    if not finite.any():
        return 0.0
    scale = np.abs(expected[finite]).max()
    return float(np.abs(actual[finite] - expected[finite]).max() / (scale or 1.0))


PLAIN = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
"""com.microsoft's operators that without an activation are the plain ones."""

OLD = {"Dropout": "Identity"}
"""What operators with `is_test` do, which the evaluator does not know."""


def judged(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs in float64. Raises Unjudgeable."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type in PLAIN:
            node.op_type, node.domain = PLAIN[node.op_type], ""
        if node.op_type in OLD and any(a.name == "is_test" for a in node.attribute):
            node.op_type = OLD[node.op_type]
            del node.attribute[:]
    return Judge(copy).run(feeds)


def truth(built: Built) -> dict[str, Any] | None:
    """All tensors of the original in float64; None where the row says that it cannot be."""
    if built.row.runtime:
        return None
    return judged(exposed(built.model, tensors(built.model)), built.feeds)


def faults(built: Built, folded: onnx.ModelProto, exact: dict[str, Any] | None) -> list[str]:
    """Where the folded model is another function than the original, in words."""
    limit = UNITS[built.row.type] * ROUNDING[built.row.type]
    found: list[str] = []
    if exact is not None:
        common = [name for name in tensors(folded) if name in exact and name[0] != "_"]
        got = judged(exposed(folded, common), built.feeds)
        found += [
            f"{name}: {error:.2g} in float64"
            for name in common
            if (error := distance(got[name], exact[name])) > limit
        ]
    if built.row.judge:
        return found
    original = run(built.model, built.feeds, DISABLED)
    for level in (DISABLED, EVERYTHING):
        got = run(folded, built.feeds, level)
        for name, expected in original.items():
            reference = expected if exact is None else exact.get(name, expected)
            allowed = 8 * distance(expected, reference) + 4 * limit
            error = distance(got[name], reference)
            if error > allowed:
                found.append(f"{name}: {error:.2g} > {allowed:.2g} on ONNX Runtime, {level}")
    return found


# ------------------------------------------------------------------------- tables


def key_of(name: str) -> tuple[str, tuple[str, str]]:
    """`com.microsoft.Op/backward/variant` -> (direction, (domain, Op))."""
    operator, direction, *_ = name.split("/")
    if operator.startswith(f"{MICROSOFT}."):
        return direction, (MICROSOFT, operator.removeprefix(f"{MICROSOFT}."))
    return direction, ("", operator)


def fold(built: Built) -> bnfold.FoldResult:
    """A row folded as it asks for, by nothing but the rules."""
    result = bnfold.fold(built.model, keep=built.row.keep, reparameterize=False)
    require_no_contradiction(result)
    return result


def require_no_contradiction(result: bnfold.FoldReport) -> None:
    """Of a valid model nobody may say that it contradicts itself."""
    told = [s.detail for s in result.sites if "contradicts its own shapes" in (s.detail or "")]
    assert not told


def all_folded(result: bnfold.FoldResult, built: Built) -> list[str]:
    """The affines of the row that should have been folded and were not, in words."""
    nodes = {name: node.op_type for node in built.model.graph.node for name in node.output}
    stays = {*built.row.kept, *built.row.keep}
    left = [n.output[0] for n in result.model.graph.node if n.op_type == "BatchNormalization"]
    return [f"{name} is left" for name in left if name not in stays] + [
        f"{site.tensor} ({site.op_type}) was kept: {site.code} {site.detail}"
        for site in result.sites
        if site.verdict != "folded"
        and site.tensor not in stays
        and nodes.get(site.tensor) == site.op_type
    ]


class RowTests:
    """The generic tests; pytest collects the subclasses, `conftest.py` gives them the rows."""

    def test_folds_to_the_same_function(self, case: Row, regime: str) -> None:
        """The affine is gone, and every tensor that has kept its name has kept its value."""
        built = build(case, regime)
        onnx.checker.check_model(built.model, full_check=True)
        result = fold(built)
        assert not all_folded(result, built)
        assert result.sites
        onnx.checker.check_model(result.model, full_check=True)
        assert not faults(built, result.model, truth(built))

    def test_changes_nothing_else(self, case: Row, regime: str) -> None:
        """Argument, inputs and outputs stay; a second fold finds nothing; bytes are the same."""
        built = build(case, regime)
        before = content(built.model)
        folded = fold(built).model
        assert content(built.model) == before
        assert data_inputs(folded) == data_inputs(built.model)
        assert folded.graph.output == built.model.graph.output
        old, new = constants(built.model), constants(folded)
        assert [name for name in new if name in old and not same_bits(old[name], new[name])] == []
        assert content(fold(built).model) == content(folded)
        if not case.keep:  # that has another name now
            assert content(fold(replace(built, model=folded)).model) == content(folded)

    def test_has_teeth(self, case: Row) -> None:
        """Whatever the rule says, one percent off in any one place is seen."""
        built = build(case, "different")
        exact = truth(built)
        count = most_places(built)
        assert count, f"the rule of {case.name} is not used"
        for place in range(0 if case.teeth else count):
            with faulty(case, place) as spoiled:
                result = fold(built)
            assert all_folded(result, built) or faults(built, result.model, exact), spoiled

    def test_refuses(self, refusal: tuple[Reason, Row], regime: str) -> None:
        """Nothing is folded, for the reason given, and the file stays as it is."""
        reason, row = refusal
        refused(build(row, regime), reason)


def refused(built: Built, *reasons: Reason, **options: Any) -> bnfold.FoldResult:
    """Require that the row's sites stay, for these reasons, and that no node changes."""
    result = bnfold.fold(built.model, **options)
    if is_valid(built):
        require_no_contradiction(result)
    kept = [site for site in result.sites if site.verdict == "kept"]
    assert kept
    assert len(kept) == len(result.sites), [s.tensor for s in result.sites if s not in kept]
    assert {site.code for site in kept} <= {reason.code for reason in reasons}, [
        (site.tensor, site.code, site.detail) for site in kept
    ]
    assert all(site.detail for site in kept)
    assert result.model.graph.node == built.model.graph.node
    assert result.model.graph.initializer == built.model.graph.initializer
    return result


def is_valid(built: Built) -> bool:
    """Whether a runtime takes it: some refusals are about models that none does."""
    try:
        onnx.checker.check_model(built.model, full_check=True)
        run(built.model, built.feeds, DISABLED)
    except Exception:  # of several libraries
        return False
    return True


def content(model: onnx.ModelProto) -> bytes:
    """A model as a file."""
    return model.SerializeToString(deterministic=True)


def same_bits(left: Any, right: Any) -> bool:
    """Type, shape and every bit."""
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and left.tobytes() == right.tobytes()
    )


# -------------------------------------------------------------------------- teeth


@dataclass(frozen=True, order=True)
class Place:
    """One thing that a rule says: a field of its Step, an index in it, a part of the affine."""

    field: str
    index: str = ""
    part: str = ""


def places_of(answer: Step | Source) -> Iterator[Place]:
    """Every number that a rule says and that matters."""
    if isinstance(answer, Source):
        yield from (Place("affine", part=part) for part in parts_of(answer.affine))
        return
    for name in ("inputs", "outputs"):
        for index, affine in getattr(answer, name).items():
            yield from (Place(name, str(index), part) for part in parts_of(affine))
    for index, constant in answer.constants.items():
        if np.isfinite(constant.exact()).all() and constant.exact().any():
            yield Place("constants", str(index))
    for name, value in answer.attributes.items():
        if isinstance(value, float) and value:
            yield Place("attributes", name)
    if answer.bias is not None and answer.bias.exact().any():
        yield Place("bias")
    if answer.op_type in ("Max", "Min", "ReduceMax", "ReduceMin"):
        yield Place("op_type")


def parts_of(affine: Affine) -> Iterator[str]:
    """The arrays of an affine that do something."""
    if not affine.is_identity:
        yield from (part for part in ("scale", "shift") if getattr(affine, part).any())


def spoiled(answer: Step | Source, place: Place, factor: float) -> Step | Source:
    """The answer with a fault at one place."""
    if isinstance(answer, Source):
        return replace(answer, affine=wrong(answer.affine, place.part, factor))
    if place.field == "op_type":
        return replace(answer, op_type=None)
    if place.field == "bias":
        return replace(answer, bias=wrong(answer.bias, "", factor))
    entries = {
        key: wrong(value, place.part, factor) if str(key) == place.index else value
        for key, value in getattr(answer, place.field).items()
    }
    return replace(answer, **{place.field: entries})


def wrong(thing: Any, part: str, factor: float) -> Any:
    """A number, a constant or one part of an affine, larger than it should be."""
    if isinstance(thing, float):
        return thing * factor
    if isinstance(thing, Constant):
        return thing.derived(lambda array: array * factor)
    return replace(thing, **{part: getattr(thing, part) * factor})


@contextmanager
def rule_wrapped(row: Row, change: Callable[[Any], Any]) -> Iterator[None]:
    """The rule that a row is about, with all that it says passed through a function."""
    direction, key = key_of(row.name)
    table = TABLES[direction]
    rule = table[key]

    @wraps(rule)
    def changed(*arguments: Any) -> Any:
        answer = rule(*arguments)
        if answer is None or isinstance(answer, (Step, Source)):
            return None if answer is None else change(answer)
        return [change(step) for step in answer]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(table, key, changed)
        yield


def most_places(built: Built) -> int:
    """In how many places the rule can be wrong while the row is folded, in any one answer."""
    counts = [0]

    def record(answer: Any) -> Any:
        counts.append(len(list(places_of(answer))))
        return answer

    with rule_wrapped(built.row, record):
        fold(built)
    return max(counts)


@contextmanager
def faulty(row: Row, number: int) -> Iterator[set[Place]]:
    """The row's rule with a fault in one place of each answer; the places, as they are spoiled.

    Of several answers one is chosen, so counting through the places of all reaches all of its.
    """
    done: set[Place] = set()

    def change(answer: Any) -> Any:
        places = list(places_of(answer))
        if not places:
            return answer
        place = places[number % len(places)]
        done.add(place)
        return spoiled(answer, place, FAULT[row.type])

    with rule_wrapped(row, change):
        yield done
