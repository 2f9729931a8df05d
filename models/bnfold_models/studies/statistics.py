"""Which moving statistics should a BN keep? Averages that forget fast or slowly, or exact ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import bnfold
from bnfold_models.dataset import Split
from bnfold_models.studies import STUDIES
from bnfold_models.studies.curves import Finished
from bnfold_models.studies.figures import DASHES, MARKERS, SHADES, panels
from bnfold_models.studies.findings import differs, percent
from bnfold_models.studies.plans import statistics
from bnfold_models.studies.probes import AVERAGE, KEPT_KINDS, MovingStatistics
from bnfold_models.studies.running import Workshop, file_name
from bnfold_models.studies.summary import Study, table

EXACT = "exact"

ABOUT = """One training of the ReLU perceptron with four BN. In training a BN uses the statistics \
of its batch; which ones it gathers for later changes nothing of that, so all kinds are gathered \
at once: exponential moving averages (EMA) that keep 0.9, 0.99 or 0.999 of the old value in each \
step, and the plain average of all batches. The exact ones are measured afterwards, layer by \
layer over the whole training set, with `bnfold.recalibrate`."""

MOMENTUM = """## What is called momentum

**PyTorch and Keras mean opposite things by the word.** In PyTorch, `momentum` is the share of \
the *new* batch: `running = (1 - momentum) * running + momentum * batch`, by default 0.1. In \
Keras it is the share of the *old* value: `moving = momentum * moving + (1 - momentum) * batch`, \
by default 0.99. So "EMA 0.9" here is PyTorch's default `momentum=0.1` and Keras's \
`momentum=0.9`; Keras's default is "EMA 0.99", PyTorch's `momentum=0.01`. PyTorch's \
`momentum=None` is the plain average. An average starts from mean 0 and variance 1, and after n \
steps a share of `kept ** n` of that is still in it: of 0.99, 37 % after 100 steps; of 0.999, 37 \
% after 1,000."""

Statistics = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
Off = tuple[bnfold.RecalibratedLayer, ...]


def run(shop: Workshop) -> Study:
    """Train once, give the model each kind of statistics, and hold them against the exact ones."""
    (trained,) = shop.train(statistics(shop.setting), probe=MovingStatistics)
    folder = shop.folder / "statistics"
    folder.mkdir(parents=True, exist_ok=True)
    base = onnx.load(trained.model)
    shape = tuple(d.dim_value for d in base.graph.input[0].type.tensor_type.shape.dim)[1:]
    data = shop.dataset.fit(shape)
    images = pixels(data.train)
    models = {
        kind: with_statistics(base, of_kind(trained, kind)) for kind in (*KEPT_KINDS, AVERAGE)
    }
    off = {kind: bnfold.recalibrate(model, images).layers for kind, model in models.items()}
    models[EXACT] = bnfold.recalibrate(base, images).model
    scores = {kind: accuracy(model, data.test) for kind, model in models.items()}
    figure, axes = panels(1, 2, height=3.6)
    _draw_off(axes[0], off, "mean_off", "means off by (standard deviations)")
    _draw_accuracy(axes[1], scores)
    steps = len(trained.history) * -(-len(data.train) // trained.recipe.options.batch_size)
    return Study(
        name="statistics",
        title=STUDIES["statistics"],
        about=ABOUT,
        runs=[trained],
        figure=figure,
        caption="Left: how far the means of each kind are from the exact ones, median channel of "
        "each BN layer, in standard deviations (logarithmic). Right: accuracy on the test images.",
        findings=told(off, scores, steps, len(data.test)),
        sections=["## Each kind", _table(off, scores), MOMENTUM],
        models=_written(models, folder),
        note="The table has the training's own model first, and then one for each kind.",
    )


def pixels(split: Split) -> NDArray[np.float32]:
    """As the networks read them, from 0 to 1."""
    return split.images.astype(np.float32) / np.float32(255)


def of_kind(trained: Finished, kind: str) -> Statistics:
    """Mean and variance of each BN layer, in order."""
    names = [key.split("/")[1] for key in trained.watched if key.startswith(f"{kind}/")]
    return {
        name: (trained.watched[f"{kind}/{name}/mean"], trained.watched[f"{kind}/{name}/var"])
        for name in dict.fromkeys(names)
    }


def with_statistics(model: onnx.ModelProto, values: Statistics) -> onnx.ModelProto:
    """A copy whose BN nodes, in order, have these statistics."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in copy.graph.initializer}
    nodes = [node for node in copy.graph.node if node.op_type == "BatchNormalization"]
    for node, arrays in zip(nodes, values.values(), strict=True):
        for name, array in zip(node.input[3:], arrays, strict=True):
            stored[name].CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    return copy


def accuracy(model: onnx.ModelProto, split: Split) -> float:
    """The share of images that a model tells right, by ONNX's own evaluator."""
    (scores,) = ReferenceEvaluator(model).run(None, {"input": pixels(split)})
    return float((scores.argmax(axis=1) == split.labels).mean())


def _written(models: Mapping[str, onnx.ModelProto], folder: Path) -> dict[str, Path]:
    paths = {kind: folder / f"{file_name(kind)}.onnx" for kind in models}
    for kind, path in paths.items():
        path.write_bytes(models[kind].SerializeToString(deterministic=True))
    return paths


def _draw_off(axis: Any, off: Mapping[str, Off], what: str, label: str) -> None:
    for index, (kind, layers) in enumerate(off.items()):
        axis.plot(
            range(1, len(layers) + 1),
            [getattr(layer, what) for layer in layers],
            label=kind,
            color=SHADES[index],
            linestyle=DASHES[index],
            marker=MARKERS[index],
            markersize=5,
        )
    axis.set_yscale("log")
    axis.set_xticks(range(1, 1 + max(map(len, off.values()))))
    axis.set_xlabel("BN layer (1 is nearest to the input)")
    axis.set_ylabel(label)
    axis.set_title("how far from exact", loc="left")
    axis.legend(fontsize=8)


def _draw_accuracy(axis: Any, scores: Mapping[str, float]) -> None:
    kinds = list(scores)
    values = [100 * scores[kind] for kind in kinds]
    axis.barh(kinds, values, color="#8fa3bf", edgecolor="black")
    for place, value in enumerate(values):
        axis.text(value, place, f" {value:.1f}", va="center", fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 112)
    axis.set_xlabel("test accuracy (%)")
    axis.set_title("what that does", loc="left")
    axis.grid(visible=False, axis="y")


def _table(off: Mapping[str, Off], scores: Mapping[str, float]) -> str:
    header = (
        "statistics",
        "means off by (sd)",
        "at worst (sd)",
        "variance over exact",
        "accuracy",
    )
    rows = []
    for kind, score in scores.items():
        layers = off.get(kind, ())
        worst = max(layers, key=lambda layer: layer.mean_off, default=None)
        numbers = ["0", "0", "1"]
        if worst is not None:
            low = min(layer.variance_ratio[0] for layer in layers)
            high = max(layer.variance_ratio[2] for layer in layers)
            far = max(layer.worst_mean_off for layer in layers)
            numbers = [f"{worst.mean_off:.2g}", f"{far:.2g}", f"{low:.2g} to {high:.2g}"]
        rows.append([kind, *numbers, percent(score)])
    return table(header, rows)


def told(
    off: Mapping[str, Off], scores: Mapping[str, float], steps: int, images: int
) -> list[str]:
    """Which kind is nearest, what the farthest costs, and how much of the start is left."""
    distance = {kind: max(layer.mean_off for layer in layers) for kind, layers in off.items()}
    nearest, farthest = (
        min(distance, key=distance.__getitem__),
        max(distance, key=distance.__getitem__),
    )
    findings = [
        f"Nearest to the exact statistics is {nearest}: in its worst layer the median channel's "
        f"mean is {distance[nearest]:.2g} standard deviations off. Farthest is {farthest}, with "
        f"{distance[farthest]:.2g}.",
    ]
    left = {kind: kept**steps for kind, kept in KEPT_KINDS.items()}
    shares = ", ".join(f"{percent(share)} in {kind}" for kind, share in left.items())
    findings.append(
        f"After these {steps:,} steps, what is left of the initial values is {shares}."
    )
    for kind in off:
        one, exact = scores[kind], scores[EXACT]
        ends = f"{kind}: {percent(one)} of the test images, {percent(exact)} with the exact ones"
        if not differs(one, exact, images):
            findings.append(f"{ends}; {images} images cannot tell the two apart.")
        else:
            findings.append(
                f"{ends}: the moving statistics {'cost' if one < exact else 'gain'} accuracy."
            )
    findings.append(
        "Folding takes whatever statistics are there: it is exact for each of them (the errors in "
        "the table below), and repairs none."
    )
    return findings
