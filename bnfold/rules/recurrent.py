"""How do recurrent layers take an affine of their input in? Into W and the input bias."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bnfold.affine import Affine
from bnfold.constants import Constant
from bnfold.rules.registry import Operator, Step, forward, only
from bnfold.rules.shared import Array, combined, per_channel

RECURRENT = """activation_alpha activation_beta activations clip direction hidden_size
input_forget layout linear_before_reset output_sequence"""


@forward("LSTM GRU RNN", attributes=RECURRENT)
def recurrent_input(op: Operator, affines: Mapping[int, Affine]) -> Step:
    """`W (s x + t) + b = (W s) x + (b + W t)`, for each direction.

    W is `(directions, gates * hidden, input)`, B is `(directions, 2 * gates * hidden)`, the input
    bias before the recurrent one. The input's last axis is its features in both layouts.
    """
    scale, shift = per_channel(only(affines), 2, op)
    inputs = {1: Affine.of_scale(scale.reshape(1, 1, -1))}
    if not shift.any():
        return Step(inputs=inputs)
    weight = op.constant(1)
    directions, rows, _ = weight.shape
    shape = (directions, 2 * rows)
    zero = Constant.of_array(np.zeros(shape), weight.dtype)
    bias = op.constant(3) if op.has_input(3) else zero

    def moved(bias: Array, weight: Array) -> Array:
        added = (weight * shift).sum(-1)
        return np.concatenate([bias[:, :rows] + added, bias[:, rows:]], 1)

    return Step(inputs=inputs, constants={3: combined(moved, shape, weight, bias, weight)})
