"""Does BN speed training up? The perceptron with and without one, for both activations."""

from __future__ import annotations

from bnfold_models.perceptrons import ACTIVATIONS
from bnfold_models.studies import STUDIES
from bnfold_models.studies.figures import draw_curves, panels
from bnfold_models.studies.findings import race
from bnfold_models.studies.plans import speedup, words
from bnfold_models.studies.running import Workshop
from bnfold_models.studies.summary import Study

ABOUT = """A perceptron of hidden layers of 512, 256, 128 and 64 is trained by SGD with momentum \
0.9 and Nesterov's correction, once with a BN after the first hidden layer's activation and once \
without, for sigmoid and for ReLU."""


def run(shop: Workshop) -> Study:
    """Train the four, and say who was faster."""
    runs = {run.label: run for run in shop.train(speedup(shop.setting))}
    figure, axes = panels(2, 2)
    findings = []
    for column, activation in enumerate(ACTIVATIONS):
        without, with_bn = (runs[f"{activation}, {words(count)}"] for count in (0, 1))
        for row, what in enumerate(("loss", "accuracy")):
            draw_curves(
                axes[2 * row + column],
                [with_bn, without],
                ["1 BN", "without BN"],
                what,
                activation,
            )
        findings.append(race(activation, with_bn, without, len(shop.dataset.test)))
    return Study(
        name="speedup",
        title=STUDIES["speedup"],
        about=ABOUT,
        runs=list(runs.values()),
        figure=figure,
        caption="Loss (above) and accuracy (below) on the test images after each "
        "epoch; ReLU on the left, sigmoid on the right.",
        findings=findings,
    )
