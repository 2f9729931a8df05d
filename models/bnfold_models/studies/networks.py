"""How large are the networks of clothes and of images, and what is BN's part of them?"""

from __future__ import annotations

from bnfold_models import build
from bnfold_models.data import load
from bnfold_models.network import Network, count_parameters
from bnfold_models.studies import STUDIES
from bnfold_models.studies.curves import Finished
from bnfold_models.studies.figures import draw_curves, panels
from bnfold_models.studies.findings import differs, margin, percent
from bnfold_models.studies.plans import fashion, images
from bnfold_models.studies.running import Workshop
from bnfold_models.studies.summary import Study, table

ABOUT = """The Fashion-MNIST perceptron normalizes the raw pixels and both hidden layers; three \
networks tell two kinds of 224x224 images apart: logistic regression on normalized pixels, one \
wide convolution, and seven deep ones. Networks of images are trained on `--data` where that has \
colour images, else on drawn pictures of stripes and of discs; the perceptron likewise on \
`--data` where that is grey, else on digits. What is not cats and dogs, or clothes, is no such \
thing: only the sizes of the networks are those of the originals then."""

COLOURS = 3

BATCHES = (1, 8)


def run(shop: Workshop) -> Study:
    """Train the four, and count their parameters by layer."""
    is_colour = shop.dataset.image_shape[0] == COLOURS
    own = shop.setting.data
    grey = load("digits", seed=shop.setting.seed) if is_colour else shop.dataset
    colour = shop.dataset if is_colour else load("images", seed=shop.setting.seed)
    runs = shop.train(fashion(shop.setting), dataset=grey)
    runs += shop.train(images(shop.setting, own if is_colour else "images"), dataset=colour)
    figure, axes = panels(2, 2)
    for column, (part, title) in enumerate(((runs[:1], grey.name), (runs[1:], colour.name))):
        for row, what in enumerate(("loss", "accuracy")):
            labels = [run.label for run in part]
            draw_curves(axes[2 * row + column], part, labels, what, f"trained on {title}")
    return Study(
        name="networks",
        title=STUDIES["networks"],
        about=ABOUT,
        runs=runs,
        figure=figure,
        caption=f"Loss (above) and accuracy (below) on the test images after each "
        f"epoch; left the perceptron on {grey.name}, right the networks of images on "
        f"{colour.name}.",
        findings=told(runs, len(grey.test), len(colour.test)),
        sections=["## Parameters, layer by layer", *map(layers, runs)],
        batches=BATCHES,
        note="Batch 8 takes the place of 128: one value of the wide network would take 2.5 GB.",
    )


def layers(run: Finished) -> str:
    """A network as Keras sums it up: each layer, what it gives, and its parameters."""
    network = build(run.recipe.network)
    rows = []
    for name, shape, count in outline(network):
        rows.append([f"{name[0]} ({name[1]})", " × ".join(map(str, shape)), f"{count:,}"])
    counts = count_parameters(network)
    lines = [
        f"**{run.recipe.network}**",
        table(("layer", "output, without the batch", "parameters"), rows),
        f"Total {counts.total:,}; trainable {counts.trainable:,}, not trainable "
        f"{counts.total - counts.trainable:,}. BN holds {counts.normalization:,} of them, half of "
        "which (the moving statistics) are not trainable.",
    ]
    return "\n\n".join(lines)


def outline(network: Network) -> list[tuple[tuple[str, str], tuple[int, ...], int]]:
    """(name, type), shape of the output without the batch, and parameters, layer by layer."""
    import torch

    network.eval()
    values = torch.zeros(1, *network.input_shape)
    rows = []
    with torch.no_grad():
        for name, layer in network.named_children():
            values = layer(values)
            kind = type(layer).__name__
            count = count_parameters(layer).total
            rows.append(((name, kind), tuple(values.shape[1:]), count))
    return rows


def told(runs: list[Finished], grey_images: int, colour_images: int) -> list[str]:
    """The counts of the first, and whether depth helps the others."""
    counts = count_parameters(build(runs[0].recipe.network))
    findings = [
        f"The perceptron has {counts.total:,} parameters; {counts.normalization:,} are BN's, "
        f"{counts.normalization // 2:,} of these not trainable. It tells "
        f"{percent(runs[0].last.accuracy)} of {grey_images} test images right.",
    ]
    logistic, *others = runs[1:]
    for run in others:
        one, other = run.last.accuracy, logistic.last.accuracy
        ends = f"{run.label}: {percent(one)} of {colour_images} images, {percent(other)} by "
        ends += "logistic regression"
        if not differs(one, other, colour_images):
            spread = percent(margin(other, colour_images))
            findings.append(f"{ends}; so few images (± {spread}) cannot tell the two apart.")
        else:
            findings.append(f"{ends}: {'better' if one > other else 'worse'}.")
    return findings
