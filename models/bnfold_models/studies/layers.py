"""What do more BN layers do? From none to one after each of the four hidden layers."""

from __future__ import annotations

from itertools import pairwise

from bnfold_models.perceptrons import ACTIVATIONS, HIDDEN
from bnfold_models.studies import STUDIES
from bnfold_models.studies.curves import Finished
from bnfold_models.studies.figures import draw_curves, panels
from bnfold_models.studies.findings import NEAR, best, differs, epochs_to, percent
from bnfold_models.studies.plans import layers, words
from bnfold_models.studies.running import Workshop
from bnfold_models.studies.summary import Study

ABOUT = """The same perceptron, with a BN after the activation of the first 0, 1, 2, 3 or all 4 \
hidden layers."""


def run(shop: Workshop) -> Study:
    """Train the ten, and say what each further BN did."""
    runs = {run.label: run for run in shop.train(layers(shop.setting))}
    figure, axes = panels(2, 2)
    findings = []
    names = [words(count) for count in range(len(HIDDEN) + 1)]
    for column, activation in enumerate(ACTIVATIONS):
        mine = [runs[f"{activation}, {name}"] for name in names]
        for row, what in enumerate(("loss", "accuracy")):
            draw_curves(axes[2 * row + column], mine, names, what, activation)
        findings += told(activation, mine, len(shop.dataset.test))
    return Study(
        name="layers",
        title=STUDIES["layers"],
        about=ABOUT,
        runs=list(runs.values()),
        figure=figure,
        caption="Loss (above) and accuracy (below) on the test images after each "
        "epoch, for 0 to 4 BN layers.",
        findings=findings,
    )


def told(activation: str, runs: list[Finished], images: int) -> list[str]:
    """`runs` have 0, 1, 2, ... BN layers."""
    winner = best(runs)
    count = runs.index(winner)
    goal = NEAR * winner.last.accuracy
    reached = [epochs_to(run, goal) for run in runs]
    listed = ", ".join("never" if epoch is None else str(epoch) for epoch in reached)
    rivals = [
        str(other)
        for other, run in enumerate(runs)
        if other != count and not differs(run.last.accuracy, winner.last.accuracy, images)
    ]
    sentence = (
        f"{activation}: the best final accuracy, {percent(winner.last.accuracy)}, is that of "
        f"{count} BN"
    )
    if rivals:
        sentence += f"; {images} test images cannot tell it from {', '.join(rivals)} BN"
    times = [epoch if epoch is not None else float("inf") for epoch in reached]
    if all(later <= earlier for earlier, later in pairwise(times)):
        trend = "No further BN slows it down" if times[-1] < times[0] else "BN makes no difference"
    else:
        trend = "More BN is not always faster here"
    return [
        f"{sentence}.",
        f"{activation}: epochs to {percent(goal)} with 0 to 4 BN: {listed}. {trend}.",
    ]
