"""What do recurrent layers compute? LSTM, GRU and RNN in the precision of their input.

Arithmetic only, as in `bnfold.kernels`: arrays in, arrays out. Formulas, the order of the gates
and the defaults of the activations are those of the ONNX operator pages
(https://onnx.ai/onnx/operators/); where these are silent, ONNX Runtime is followed, against which
every attribute is held in the tests. One direction at a time, time first: `T` steps of `N` rows
of `H` units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Activation = Callable[[Array], Array]
States = tuple[Array, ...]
"""What a layer hands to its next step, each (N, H); the hidden state is the first."""
Cell = Callable[[Array, States], States]
"""One step: what the input adds to each gate (N, gates * H), and the states before and after."""

_ACTIVATIONS: dict[str, tuple[Callable[..., Array], tuple[float, ...]]] = {
    "affine": (lambda x, a, b: a * x + b, (1.0, 0.0)),
    "elu": (lambda x, a: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x), (1.0,)),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), (0.2, 0.5)),
    "leakyrelu": (lambda x, a: np.where(x < 0, a * x, x), (0.01,)),
    "relu": (lambda x: np.maximum(x, 0), ()),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), (1.0, 1.0)),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), ()),
    "softplus": (lambda x: np.logaddexp(x.dtype.type(0), x), ()),
    "softsign": (lambda x: x / (1 + np.abs(x)), ()),
    "tanh": (np.tanh, ()),
    "thresholdedrelu": (lambda x, a: np.where(x >= a, x, 0), (1.0,)),
}
"""The function of each activation, by its name in small letters; defaults of alpha and beta."""


def activations(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> list[Activation]:
    """The functions of these names; those that have an alpha or beta take the next one given.

    Raises NotImplementedError for a name that ONNX does not list.
    """
    left = iter(alphas), iter(betas)
    found: list[Activation] = []
    for name in names:
        if name.lower() not in _ACTIVATIONS:
            raise NotImplementedError(f"an activation {name}")
        function, defaults = _ACTIVATIONS[name.lower()]
        values = [next(given, default) for given, default in zip(left, defaults, strict=False)]
        found.append(_bound(function, values))
    return found


def _bound(function: Callable[..., Array], values: Sequence[float]) -> Activation:
    return lambda x: function(x, *values)


def unroll(
    cell: Cell, gates: Array, states: States, lengths: Array | None, *, backwards: bool
) -> tuple[Array, States]:
    """The hidden states (T, N, H) of all steps, zero behind a row's end, and the last states.

    `gates` (T, N, gates * H) is what the input adds. A row of `lengths` (N) ends early, and
    backwards begins at its own end.
    """
    count, rows = gates.shape[:2]
    hidden = np.zeros((count, rows, states[0].shape[-1]), gates.dtype)
    last = [np.array(state, gates.dtype) for state in states]
    ends = np.full(rows, count) if lengths is None else lengths.astype(np.int64)
    for step in range(count):
        (row,) = np.nonzero(step < ends)
        time = ends[row] - 1 - step if backwards else step
        after = cell(gates[time, row], tuple(state[row] for state in last))
        for state, value in zip(last, after, strict=True):
            state[row] = value
        hidden[time, row] = after[0]
    return hidden, tuple(last)


def _limited(clip: float | None) -> Activation:
    """What stands before every activation: nothing, or a clip to both sides."""
    return (lambda x: x) if not clip else (lambda x: np.clip(x, -clip, clip))


def lstm(
    r: Array, p: Array, functions: Sequence[Activation], clip: float | None, *, coupled: bool
) -> Cell:
    """A cell of recurrent weights r (4H, H) and peepholes p (3H); gates are i, o, f, c.

    With `coupled` the forget gate is what the input gate leaves.
    """
    f, g, h = functions
    limit = _limited(clip)
    p_i, p_o, p_f = np.split(p, 3)

    def step(gates: Array, states: States) -> States:
        hidden, cell = states
        i, o, u, c = np.split(gates + hidden @ r.T, 4, axis=-1)
        i = f(limit(i + p_i * cell))
        u = 1 - i if coupled else f(limit(u + p_f * cell))
        cell = u * cell + i * g(limit(c))
        # The runtime clips what the gates are given, and the cell not.
        return f(limit(o + p_o * cell)) * h(cell), cell

    return step


def gru(
    r: Array, b: Array, functions: Sequence[Activation], clip: float | None, *, reset_behind: bool
) -> Cell:
    """A cell of recurrent weights r (3H, H), gates z, r, h; b (H) is added before the reset.

    With `reset_behind` the reset gate scales the product of the hidden state, and not the state.
    """
    f, g = functions
    limit = _limited(clip)
    size = r.shape[-1]
    r_gates, r_hidden = r[: 2 * size].T, r[2 * size :].T

    def step(gates: Array, states: States) -> States:
        (hidden,) = states
        both = gates[:, : 2 * size] + hidden @ r_gates
        z, reset = np.split(f(limit(both)), 2, axis=-1)
        product = hidden @ r_hidden + b
        inner = reset * product if reset_behind else (reset * hidden) @ r_hidden + b
        new = g(limit(gates[:, 2 * size :] + inner))
        return ((1 - z) * new + z * hidden,)

    return step


def rnn(r: Array, functions: Sequence[Activation], clip: float | None) -> Cell:
    """A cell of recurrent weights r (H, H)."""
    (f,) = functions
    limit = _limited(clip)

    def step(gates: Array, states: States) -> States:
        return (f(limit(gates + states[0] @ r.T)),)

    return step
