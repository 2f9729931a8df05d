"""Which networks tell two kinds of images apart? BN of the pixels, then up to seven Conv."""

from __future__ import annotations

import warnings

from torch import Tensor, nn

from bnfold_models.network import Network, dense, norm_images

IMAGES = (3, 224, 224)
CLASSES = 2


class SameConv2d(nn.Conv2d):
    """Conv of 2x2 whose output is as large as its input: a row of zeros below, a column right.

    That is what Keras and ONNX's `auto_pad=SAME_UPPER` do; torch calls it `padding="same"`.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_size=2, padding="same")

    def forward(self, images: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        with warnings.catch_warnings():
            # An even kernel costs torch a padded copy, of which it warns; it is what is wanted.
            warnings.filterwarnings("ignore", "Using padding='same' with even kernel", UserWarning)
            return super().forward(images)


def logistic() -> Network:
    """Logistic regression on normalized pixels: BN, Flatten, Dense 2."""
    return Network(
        {
            "norm": norm_images(3),
            "flatten": nn.Flatten(),
            "head": dense(3 * 224 * 224, CLASSES),
        },
        input_shape=IMAGES,
    )


def wide() -> Network:
    """One wide layer: BN, Conv 100 of 2x2 without padding, ReLU, MaxPool 16, Flatten, Dense 2."""
    return Network(
        {
            "norm": norm_images(3),
            "conv": nn.Conv2d(3, 100, kernel_size=2),  # (N, 100, 223, 223)
            "relu": nn.ReLU(),
            "pool": nn.MaxPool2d(16),  # (N, 100, 13, 13)
            "flatten": nn.Flatten(),
            "head": dense(100 * 13 * 13, CLASSES),
        },
        input_shape=IMAGES,
    )


def deep() -> Network:
    """BN, then seven times Conv 20 of 2x2 'same', ReLU and MaxPool 2, then Flatten, Dense 2.

    The first Conv reads zero padding, and BN's shift cannot be folded into it: a padded zero
    stays zero where every other pixel was shifted.
    """
    layers: dict[str, nn.Module] = {"norm": norm_images(3)}
    for number in range(1, 8):  # height and width: 224, 112, 56, 28, 14, 7, 3, 1
        layers[f"conv{number}"] = SameConv2d(3 if number == 1 else 20, 20)
        layers[f"relu{number}"] = nn.ReLU()
        layers[f"pool{number}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["head"] = dense(20, CLASSES)
    return Network(layers, input_shape=IMAGES)
