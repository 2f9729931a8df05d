"""What is BN worth beside an adaptive optimizer? SGD and Adam at one learning rate."""

from __future__ import annotations

from bnfold_models.perceptrons import ACTIVATIONS
from bnfold_models.studies import STUDIES
from bnfold_models.studies.curves import Finished
from bnfold_models.studies.figures import draw_curves, panels
from bnfold_models.studies.findings import differs, percent, race
from bnfold_models.studies.plans import optimizer, words
from bnfold_models.studies.running import Workshop
from bnfold_models.studies.summary import Study

ABOUT = """SGD (momentum 0.9, Nesterov) and Adam, both at a learning rate of 0.01, with one BN \
and without. 0.01 is ten times what Adam is used with: what BN does for an optimizer whose steps \
are too long is part of the question."""

KINDS = {"sgd": "SGD", "adam": "Adam"}


def run(shop: Workshop) -> Study:
    """Train the eight, and say what BN is worth to each optimizer."""
    runs = {run.label: run for run in shop.train(optimizer(shop.setting))}
    figure, axes = panels(2, 2)
    findings = []
    images = len(shop.dataset.test)
    for column, activation in enumerate(ACTIVATIONS):
        mine = {
            (kind, count): runs[f"{activation}, {kind}, {words(count)}"]
            for kind in KINDS
            for count in (1, 0)
        }
        labels = [f"{KINDS[kind]}, {words(count)}" for kind, count in mine]
        for row, what in enumerate(("loss", "accuracy")):
            draw_curves(axes[2 * row + column], list(mine.values()), labels, what, activation)
        findings += [
            race(f"{activation}, {name}", mine[kind, 1], mine[kind, 0], images)
            for kind, name in KINDS.items()
        ]
        findings.append(with_bn(activation, mine["sgd", 1], mine["adam", 1], images))
    return Study(
        name="optimizer",
        title=STUDIES["optimizer"],
        about=ABOUT,
        runs=list(runs.values()),
        figure=figure,
        caption="Loss (above) and accuracy (below) on the test images after each "
        "epoch, for both optimizers with and without BN.",
        findings=findings,
    )


def with_bn(activation: str, sgd: Finished, adam: Finished, images: int) -> str:
    """Which optimizer is ahead where both have BN."""
    one, other = sgd.last.accuracy, adam.last.accuracy
    ends = f"{activation}, with BN: SGD ends at {percent(one)}, Adam at {percent(other)}"
    if not differs(one, other, images):
        return f"{ends}, which {images} test images cannot tell apart."
    return f"{ends}: {'SGD' if one > other else 'Adam'} is ahead."
