"""BN before or after the activation? And what is a bias before it good for?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from matplotlib.axes import Axes

from bnfold_models.perceptrons import ACTIVATIONS
from bnfold_models.studies import STUDIES
from bnfold_models.studies.curves import Finished
from bnfold_models.studies.figures import draw_curves, panels
from bnfold_models.studies.findings import differs, percent
from bnfold_models.studies.plans import placement
from bnfold_models.studies.probes import Gradients
from bnfold_models.studies.running import Workshop
from bnfold_models.studies.summary import Study, table

ABOUT = """Three hidden layers of 256, 128 and 64, each with a BN: on the pre-activation, as the \
original paper puts it (Dense, BN, activation), or on what the activation gives. With BN on the \
pre-activation, Dense is taken with and without a bias: BN subtracts the mean, and every constant \
with it, so the bias cannot change the output and gets no gradient but rounding."""

VARIANTS = {
    "before": "BN before the activation",
    "before, bias": "before, Dense with bias",
    "after": "BN after the activation",
}

NOTHING = 1e-4
"""A bias whose gradient is this small a part of a free bias's gets none to speak of."""


def run(shop: Workshop) -> Study:
    """Train the six, and compare gradients of biases."""
    runs = {run.label: run for run in shop.train(placement(shop.setting), probe=Gradients)}
    figure, axes = panels(2, 2)
    findings = []
    images = len(shop.dataset.test)
    for column, activation in enumerate(ACTIVATIONS):
        mine = [runs[f"{activation}, {variant}"] for variant in VARIANTS]
        draw_curves(axes[column], mine, list(VARIANTS.values()), "accuracy", activation)
        _draw_gradients(axes[2 + column], mine[1], activation)
        findings += told(activation, *mine, images)
    return Study(
        name="placement",
        title=STUDIES["placement"],
        about=ABOUT,
        runs=list(runs.values()),
        figure=figure,
        caption="Above: accuracy on the test images after each epoch. Below: root mean square of "
        "the gradients over the whole training (logarithmic), of the network with biases before "
        "its BN; the head's bias has no BN behind it.",
        findings=findings,
        sections=["## Gradients", _table(runs), folding(runs)],
    )


def _gradients(run: Finished) -> dict[str, tuple[float, float]]:
    """By layer, the head last: root mean squares of the bias's and of the weight's gradient."""
    layers = [key.split("/")[0] for key in run.watched if key.endswith("/weight")]
    layers.reverse()  # gradients come from the back
    return {
        name: (
            float(run.watched.get(f"{name}/bias", np.nan)),
            float(run.watched[f"{name}/weight"]),
        )
        for name in layers
    }


def _draw_gradients(axis: Axes, run: Finished, title: str) -> None:
    gradients = _gradients(run)
    places = np.arange(len(gradients))
    for shift, part, color, hatch in ((-0.2, 0, "#c0392b", ""), (0.2, 1, "#cfd8dc", "//")):
        axis.bar(
            places + shift,
            [pair[part] for pair in gradients.values()],
            0.38,
            color=color,
            hatch=hatch,
            edgecolor="black",
            label=("bias", "weight")[part],
        )
    axis.set_yscale("log")
    axis.set_ylim(top=50 * axis.get_ylim()[1])  # room for the legend
    axis.set_xticks(places, list(gradients))
    axis.set_xlabel("layer")
    axis.set_ylabel("gradient, root mean square (nats)")
    axis.set_title(f"{title}, with biases", loc="left")
    axis.legend(fontsize=8)


def told(
    activation: str, before: Finished, biased: Finished, after: Finished, images: int
) -> list[str]:
    """Where BN stands better, and whether the bias learns anything."""
    one, other = before.last.accuracy, after.last.accuracy
    ends = f"{activation}: {percent(one)} with BN before the activation, {percent(other)} after it"
    if differs(one, other, images):
        findings = [f"{ends}: {'before' if one > other else 'after'} is better here."]
    else:
        findings = [f"{ends}; {images} test images cannot tell the two apart."]
    gradients = _gradients(biased)
    *hidden, head = gradients
    share = max(gradients[name][0] for name in hidden) / gradients[head][0]
    verdict = "none to speak of" if share < NOTHING else "more than was expected"
    findings.append(
        f"{activation}: the largest gradient of a bias before BN is {share:.1e} of that of the "
        f"head's bias, which has no BN behind it: {verdict}."
    )
    return findings


def _table(runs: Mapping[str, Finished]) -> str:
    rows = [
        [f"{run.label}, {name}", "no bias" if np.isnan(bias) else f"{bias:.2e}", f"{weight:.2e}"]
        for run in runs.values()
        for name, (bias, weight) in _gradients(run).items()
    ]
    return table(("run and layer", "bias", "weight"), rows)


def folding(runs: Mapping[str, Finished]) -> str:
    """What becomes of the biases in the files."""
    activation = next(iter(ACTIVATIONS))
    plain, biased = (
        parameters(runs[f"{activation}, {kind}"]) for kind in ("before", "before, bias")
    )
    return (
        f"The bias is not only useless, it also disappears: the file with biases holds {biased:,} "
        f"parameters and the one without {plain:,}, but the folded BN leaves one bias for each "
        "unit in either, and both become the same sequence of Gemm and activation."
    )


def parameters(run: Finished) -> int:
    """Numbers in the initializers of an exported model."""
    return sum(int(np.prod(t.dims)) for t in onnx.load(run.model).graph.initializer)
