"""A hundred faults are caught and their layer is named; a hundred equal pairs raise no alarm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from sabotage import FAULTS, NETWORKS, copied, network, renamed, reordered

from bnfold import fold, verify, yardstick
from bnfold.feeds import Sample, make_samples
from bnfold.judge import Judge
from bnfold.runtime import open_session

SEEDS = [pytest.param(s, marks=pytest.mark.slow) if s >= 30 else s for s in range(100)]
"""A hundred; a bare `pytest` runs thirty of them."""


def samples_of(model: onnx.ModelProto, seed: int) -> tuple[Sample, ...]:
    run = open_session(model, level="disable", threads=1).run
    return make_samples(model, run, samples=3, seed=seed).items


def changes(
    model: onnx.ModelProto, wrong: onnx.ModelProto, samples: Sequence[Sample]
) -> list[tuple[float, float]]:
    """By how much a fault changes the function, and the original's own error, per output; both
    against float64 and the largest over the samples, relative to the output's scale."""
    judges = Judge(model), Judge(wrong)
    session = open_session(model, level="disable", threads=1)
    found: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        truth, other = (judge.run(sample.feeds) for judge in judges)
        for name, own in session.run(sample.feeds).items():
            rule = yardstick.rule_for(own.dtype)
            scale = yardstick.scale_of([truth[name]], rule)
            pair = (yardstick.errors(a, truth[name], scale).larger for a in (other[name], own))
            found.setdefault(name, []).append(tuple(pair))
    return [tuple(np.max(pairs, axis=0)) for pairs in found.values()]


def broken(seed: int) -> tuple[onnx.ModelProto, onnx.ModelProto, str]:
    """A network, the same with a fault (folded or not), and the tensor where that must show."""
    rng = np.random.default_rng(seed)
    kinds = list(FAULTS)
    for attempt in range(20):  # not every fault applies to every network
        model = network(NETWORKS[(seed + attempt) % len(NETWORKS)], seed)
        candidate = fold(model).model if rng.random() < 0.5 else copied(model)
        shows = FAULTS[kinds[seed % len(kinds)]](candidate, rng)
        if shows is not None:
            return model, candidate, shows
    raise AssertionError(f"the fault of seed {seed} applies to no network")


def first_common(model: onnx.ModelProto, wrong: onnx.ModelProto, tensor: str) -> str:
    """The tensor itself, or the first behind it that both models have under one name."""
    known = {name for node in model.graph.node for name in node.output}
    reached = {tensor}
    for node in wrong.graph.node:
        if tensor in node.output or reached & set(node.input):
            reached.update(node.output)
            for name in node.output:
                if name in known:
                    return str(name)
    raise AssertionError(f"nothing behind {tensor} is in both models")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fault_is_caught_and_its_layer_named(seed: int) -> None:
    """Every fault that changes the function by more than ten times the original's own error."""
    model, wrong, shows = broken(seed)
    samples = samples_of(model, seed)
    visible = any(change > 10 * own for change, own in changes(model, wrong, samples))
    report = verify(model, wrong, data=[sample.feeds for sample in samples])
    if visible:
        assert not report, [(o.candidate_error, o.limit) for o in report.outputs]
    if not report:
        assert report.culprit == first_common(model, wrong, shows)


def test_most_faults_are_visible() -> None:
    """The suite is not idle: of the faults that a bare `pytest` makes nearly all must be seen."""
    seen = 0
    for seed in range(0, 30, 2):
        model, wrong, _ = broken(seed)
        pairs = changes(model, wrong, samples_of(model, seed))
        seen += any(change > 11 * own + 1e-6 for change, own in pairs)
    assert seen >= 12


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_models_raise_no_alarm(seed: int) -> None:
    """Folded, partly folded, renamed, reordered, or several of these: still the same function."""
    rng = np.random.default_rng(1000 + seed)
    model = network(NETWORKS[seed % len(NETWORKS)], seed)
    other = model
    if seed % 4 != 3:
        sites = [site.tensor for site in fold(model).folded]
        keep = [name for name in sites if rng.random() < 0.3] if seed % 2 else []
        other = fold(model, keep=keep).model
    if seed % 3:
        other = renamed(other, rng)
    if seed % 5:
        other = reordered(other, rng)
    data = [sample.feeds for sample in samples_of(model, seed)]
    report = verify(model, other, data=data)
    assert report, [(o.tensor, o.candidate_error, o.limit) for o in report.outputs]
