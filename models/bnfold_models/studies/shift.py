"""What is internal covariate shift? A hidden layer's inputs, while those before it learn."""

from __future__ import annotations

import numpy as np
import onnx
from matplotlib.axes import Axes
from numpy.typing import NDArray
from onnx import numpy_helper

from bnfold_models.perceptrons import HIDDEN
from bnfold_models.studies import STUDIES
from bnfold_models.studies.curves import Finished, write_rows
from bnfold_models.studies.figures import SHADES, panels
from bnfold_models.studies.plans import shift, words
from bnfold_models.studies.probes import EVERY, SHARES, InputQuantiles
from bnfold_models.studies.running import Workshop
from bnfold_models.studies.summary import Study

ABOUT = """The sigmoid perceptron without BN, and with a BN after each hidden layer. While they \
learn, the distribution of everything that the third Dense layer reads is kept, as quantiles. \
Below: one unit of the first BN before and after the transform, on the test images, with the \
normal densities of the same mean and variance that the BN maps between."""

LAYER = "dense3"

NORM = "norm1"


def run(shop: Workshop) -> Study:
    """Train the two, and draw what their third layer sees."""
    without, with_bn = shop.train(shift(shop.setting), probe=InputQuantiles)
    figure, axes = panels(2, 2)
    tracks = {run.label: run.watched[f"quantiles/{LAYER}"] for run in (without, with_bn)}
    for axis, (label, track) in zip(axes, tracks.items(), strict=False):
        _draw_track(axis, track, label)
    before, after, moments = transform(with_bn)
    _draw_density(axes[2], before, *moments[0], "before BN")
    _draw_density(axes[3], after, *moments[1], "after BN")
    folder = shop.folder / "shift"
    folder.mkdir(parents=True, exist_ok=True)
    header = ("run", "step", *(f"quantile_{share}" for share in SHARES))
    rows = [
        (label, 1 + EVERY * index, *map(float, row))
        for label, track in tracks.items()
        for index, row in enumerate(track)
    ]
    write_rows(folder / "quantiles.csv", header, rows)
    return Study(
        name="shift",
        title=STUDIES["shift"],
        about=ABOUT,
        runs=[without, with_bn],
        figure=figure,
        caption="Above: quantiles of what the third Dense layer reads, over the steps of the "
        "training (the light band is from 5 to 95 %, the dark one from 25 to 75 %, the line is "
        "the median); the two have scales of their own. Below: one unit's values on the test "
        "images, before and after the first BN.",
        findings=told(tracks, moments),
        sections=["The quantiles are in [quantiles.csv](quantiles.csv)."],
    )


def _draw_track(axis: Axes, track: NDArray[np.float64], label: str) -> None:
    """`track` is (times, shares)."""
    steps = 1 + EVERY * np.arange(len(track))
    low, lower, median, upper, high = track.T
    axis.fill_between(steps, low, high, color="#d6dbe4", label="5 to 95 %")
    axis.fill_between(steps, lower, upper, color="#8fa3bf", label="25 to 75 %")
    axis.plot(steps, median, color="black", linewidth=1.2, label="median")
    axis.set_xlabel("step")
    axis.set_ylabel("input of the third Dense layer (no unit)")
    axis.set_title(label, loc="left")
    axis.legend(fontsize=8)


Pair = tuple[float, float]


def transform(run: Finished) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[Pair, Pair]]:
    """A unit's values before and after its BN, and both times mean and standard deviation.

    The unit is the one whose variance is the median of the layer's.
    """
    node, stored = _norm(run)
    gamma, beta, mean, variance = (
        numpy_helper.to_array(stored[name]).astype(np.float64) for name in node.input[1:]
    )
    epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
    unit = int(np.argsort(variance)[len(variance) // 2])
    before = run.watched[f"inputs/{NORM}"][:, unit].astype(np.float64)
    scale = gamma[unit] / np.sqrt(variance[unit] + epsilon)
    after = scale * (before - mean[unit]) + beta[unit]
    deviation = float(np.sqrt(variance[unit]))
    pair = (float(mean[unit]), deviation), (float(beta[unit]), float(abs(scale) * deviation))
    return before, after, pair


def _norm(run: Finished) -> tuple[onnx.NodeProto, dict[str, onnx.TensorProto]]:
    """The first BN of the exported model, and its tensors."""
    graph = onnx.load(run.model).graph
    node = next(node for node in graph.node if node.op_type == "BatchNormalization")
    return node, {tensor.name: tensor for tensor in graph.initializer}


def _draw_density(
    axis: Axes, values: NDArray[np.float64], mean: float, deviation: float, title: str
) -> None:
    axis.hist(values, bins=30, density=True, color="#d6dbe4", edgecolor="#8fa3bf", label="unit")
    reach = max(3 * deviation, 1e-6)
    line = np.linspace(mean - reach, mean + reach, 200)
    density = np.exp(-(((line - mean) / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi))
    axis.plot(line, density, color=SHADES[0], label=f"normal, mean {mean:.2f}, sd {deviation:.2f}")
    axis.set_ylim(0, 1.6 * density.max())
    axis.set_xlabel("value (no unit)")
    axis.set_ylabel("density")
    axis.set_title(title, loc="left")
    axis.legend(fontsize=8)


def wander(track: NDArray[np.float64]) -> float:
    """How far the median travels in all, in units of the average width from 25 to 75 %."""
    width = float((track[:, 3] - track[:, 1]).mean())
    return float(track[:, 2].max() - track[:, 2].min()) / width


def told(tracks: dict[str, NDArray[np.float64]], moments: tuple[Pair, Pair]) -> list[str]:
    """Whose inputs move more, in units of their own width."""
    without, with_bn = words(0), words(len(HIDDEN))
    travel = {label: wander(track) for label, track in tracks.items()}
    calmer = travel[with_bn] < travel[without]
    widths = {label: track[:, 3] - track[:, 1] for label, track in tracks.items()}
    grows = {label: float(width.max() / width.min()) for label, width in widths.items()}
    return [
        f"The median of the layer's inputs travels {travel[without]:.2f} of the middle half's "
        f"width without BN and {travel[with_bn]:.2f} with it: "
        + ("BN holds it in place." if calmer else "here BN does **not** hold it in place."),
        f"The width of the middle half changes by a factor of {grows[without]:.1f} without BN and "
        f"of {grows[with_bn]:.1f} with it, from its narrowest to its widest.",
        f"The unit below goes from mean {moments[0][0]:.2f} and standard deviation "
        f"{moments[0][1]:.2f} to mean {moments[1][0]:.2f} and standard deviation "
        f"{moments[1][1]:.2f}. BN moves and scales; the shape of the distribution stays as it "
        "was, normal or not.",
    ]
