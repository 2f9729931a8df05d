"""What does the size of the batch do to BN? Its statistics are those of so few images."""

from __future__ import annotations

import numpy as np
import onnx
from matplotlib.axes import Axes
from numpy.typing import NDArray
from onnx import numpy_helper

from bnfold_models.dataset import Split
from bnfold_models.studies import STUDIES
from bnfold_models.studies.curves import Finished
from bnfold_models.studies.figures import draw_curves, panels, style
from bnfold_models.studies.findings import differs, percent
from bnfold_models.studies.plans import BATCHES, batch_size, words
from bnfold_models.studies.running import Workshop
from bnfold_models.studies.summary import Study, table

ABOUT = """The ReLU perceptron with one BN and without, in batches of 4, 64, 256 and 1024 images, \
each for the same number of epochs: the larger the batch, the fewer the steps. Beside the curves: \
how much the mean and the variance that BN sees vary from batch to batch, for the weights as they \
were at the end, over 200 batches drawn without replacement."""

DRAWS = 200


def run(shop: Workshop) -> Study:
    """Train the eight, and measure how the batch statistics vary."""
    runs = {run.label: run for run in shop.train(batch_size(shop.setting))}
    kinds = {
        count: [runs[f"batch {size}, {words(count)}"] for size in BATCHES] for count in (1, 0)
    }
    figure, axes = panels(2, 2)
    labels = [f"batch {size}" for size in BATCHES]
    draw_curves(axes[0], kinds[1], labels, "accuracy", "1 BN")
    draw_curves(axes[1], kinds[0], labels, "accuracy", "without BN")
    train = shop.dataset.fit(_input_shape(shop)).train
    spread = {count: [spreads(run, train) for run in mine] for count, mine in kinds.items()}
    sizes = [min(size, len(train)) for size in BATCHES]
    expected = [(1 / size) * (len(train) - size) / (len(train) - 1) for size in sizes]
    for place, title in enumerate(("batch means", "batch variances")):
        _draw_spread(axes[2 + place], spread, expected if not place else None, place, title)
    return Study(
        name="batch-size",
        title=STUDIES["batch-size"],
        about=ABOUT,
        runs=list(runs.values()),
        figure=figure,
        caption="Above: accuracy on the test images after each epoch. Below: the variance of the "
        "batches' means (in units of the channel's variance) and of their variances (in units of "
        "its square), median over the channels of the first hidden layer; the dotted line is what "
        "drawing without replacement gives for independent images.",
        findings=told(kinds, spread, expected, len(shop.dataset.test)),
        sections=["## How much batch statistics vary", _table(spread, expected)],
    )


def _input_shape(shop: Workshop) -> tuple[int, int, int]:
    return (1, 8, 8) if shop.setting.family == "digits" else (1, 28, 28)


def spreads(run: Finished, split: Split) -> tuple[float, float]:
    """Variance over batches of their means and of their variances, relative, median channel."""
    hidden = first_layer(run, split)  # (images, channels)
    size = min(run.recipe.options.batch_size, len(hidden))
    variance = hidden.var(axis=0)
    alive = variance > 1e-6 * variance.max()
    hidden, variance = hidden[:, alive], variance[alive]
    random = np.random.default_rng(run.recipe.seed)
    drawn = [hidden[random.choice(len(hidden), size, replace=False)] for _ in range(DRAWS)]
    means = np.array([batch.mean(axis=0) for batch in drawn])
    variances = np.array([batch.var(axis=0) for batch in drawn])
    return (
        float(np.median(means.var(axis=0) / variance)),
        float(np.median(variances.var(axis=0) / variance**2)),
    )


def first_layer(run: Finished, split: Split) -> NDArray[np.float64]:
    """What the first hidden layer gives, (images, channels), by its exported weights."""
    model = onnx.load(run.model)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    product = next(node for node in model.graph.node if node.op_type == "Gemm")
    weight, bias = (
        numpy_helper.to_array(stored[name]).astype(float) for name in product.input[1:]
    )
    pixels = split.images.reshape(len(split), -1) / 255
    return np.maximum(pixels @ weight.T + bias, 0)


def _draw_spread(
    axis: Axes,
    spread: dict[int, list[tuple[float, float]]],
    expected: list[float] | None,
    place: int,
    title: str,
) -> None:
    for index, (count, values) in enumerate(spread.items()):
        axis.plot(BATCHES, [value[place] for value in values], label=words(count), **style(index))
    if expected is not None:
        axis.plot(BATCHES, expected, color="black", linestyle=":", label="independent images")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(BATCHES, [str(size) for size in BATCHES])
    axis.set_xlabel("batch size (images)")
    axis.set_ylabel("relative variance (no unit)")
    axis.set_title(f"variance of {title}", loc="left")
    axis.legend(fontsize=8)


def _table(spread: dict[int, list[tuple[float, float]]], expected: list[float]) -> str:
    header = ["batch", "means, 1 BN", "means, without BN", "means, expected"]
    header += ["variances, 1 BN", "variances, without BN"]
    rows = []
    for index, size in enumerate(BATCHES):
        values = [spread[count][index] for count in (1, 0)]
        numbers = [v[0] for v in values] + [expected[index]] + [v[1] for v in values]
        rows.append([str(size), *(f"{number:.2g}" for number in numbers)])
    return table(header, rows)


def told(
    kinds: dict[int, list[Finished]],
    spread: dict[int, list[tuple[float, float]]],
    expected: list[float],
    images: int,
) -> list[str]:
    """What BN gained or lost at each size, and whether statistics vary as they should."""
    findings = []
    for size, with_bn, without in zip(BATCHES, kinds[1], kinds[0], strict=True):
        one, other = with_bn.last.accuracy, without.last.accuracy
        ends = f"batch {size}: {percent(one)} with BN, {percent(other)} without"
        if not differs(one, other, images):
            findings.append(f"{ends}: {images} test images cannot tell them apart.")
        else:
            findings.append(f"{ends}: BN {'helps' if one > other else 'harms'}.")
    ratios = [value[0] / want for value, want in zip(spread[1], expected, strict=True) if want]
    low, high = min(ratios), max(ratios)
    agrees = low > 0.8 and high < 1.25
    findings.append(
        "The means of batches vary "
        + ("as those of independent images do" if agrees else "otherwise than expected")
        + f": {low:.2f} to {high:.2f} times the expected variance. From batch {BATCHES[0]} to "
        f"{BATCHES[-1]} it falls {spread[1][0][0] / spread[1][-1][0]:.0f} times: it is the noise "
        "that BN adds to small batches."
    )
    return findings
