"""What do the heavy operators compute? NumPy kernels that keep float64 and run at BLAS speed.

Arithmetic only: arrays in, arrays out. Formulas are those of the ONNX operator pages
(https://onnx.ai/onnx/operators/); each kernel is held against the plain reference evaluator and
against ONNX Runtime in the tests. Layout is channels first: `(N, C, *spatial)`. PyTorch's float64
kernels were measured no faster, but for depthwise convolutions (half the time), and take seconds
to import.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pads = tuple[tuple[int, int], ...]
"""(before, after) for each spatial axis."""

COLUMN_BYTES = 4 << 20
"""How large the unrolled input of one convolution step may get: what the shared cache holds."""

CACHE_BYTES = 256 << 10
"""What a core holds close by: sums over taps are made in pieces of this size."""

FEW = 4
"""Up to so many outputs of a channel a sum over taps is faster than a matrix product."""


def resolve_pads(
    auto_pad: str,
    pads: Sequence[int] | None,
    sizes: Sequence[int],
    spans: Sequence[int],
    strides: Sequence[int],
) -> Pads:
    """Explicit pads for inputs of `sizes` under windows of `spans` (dilation included)."""
    rank = len(sizes)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        rows = zip(sizes, spans, strides, strict=True)
        needed = [max((-(-n // s) - 1) * s + span - n, 0) for n, span, s in rows]
        small, large = [n // 2 for n in needed], [n - n // 2 for n in needed]
        upper = auto_pad == "SAME_UPPER"
        return tuple(zip(small, large, strict=True) if upper else zip(large, small, strict=True))
    if auto_pad == "VALID" or pads is None:
        return ((0, 0),) * rank
    return tuple(zip(pads[:rank], pads[rank:], strict=True))


def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Pads,
    group: int = 1,
) -> Array:
    """Convolution of any rank: x (N, C, *in), w (O, C/group, *k), b (O) -> (N, O, *out)."""
    kernel = w.shape[2:]
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    padded = np.pad(x, ((0, 0), (0, 0), *pads)) if any(map(any, pads)) else x
    out = tuple(
        (n - span) // s + 1 for n, span, s in zip(padded.shape[2:], spans, strides, strict=True)
    )
    if w.shape[1] == 1 and w.shape[0] <= FEW * padded.shape[1]:
        y = _depthwise(padded, w, out, strides, dilations)
    else:
        y = _by_columns(_windows(padded, spans, strides, dilations), w, group)
    if b is not None:
        y += b.reshape(-1, *(1,) * len(kernel))
    return y


def _depthwise(
    x: Array, w: Array, out: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Array:
    """One input channel to each group: a sum over taps needs no columns and no matrix.

    Few channels at a time, so that what is summed stays in the processor's cache.
    """
    images, channels = x.shape[:2]
    kernel, many = w.shape[2:], w.shape[0] // channels
    y = np.zeros((images, channels, many, *out), np.result_type(x, w))
    weights = w.reshape(channels, many, -1, *(1,) * len(out))  # (C, O/C, taps, 1, ...)
    step = max(1, CACHE_BYTES // max(8 * many * math.prod(out), 1))
    scratch = np.empty((min(step, channels), many, *out), y.dtype)
    for image, first in itertools.product(range(images), range(0, channels, step)):
        some = slice(first, first + step)
        total, factors = y[image, some], weights[some]
        share = scratch[: len(total)]
        taps = _taps(x[image : image + 1, some], out, kernel, strides, dilations)
        for index, tap in enumerate(taps):
            np.multiply(tap[0][:, np.newaxis], factors[:, :, index], out=share)
            total += share
    return y.reshape(images, -1, *out)


def _by_columns(windows: Array, w: Array, group: int) -> Array:
    """The convolution as a matrix product: windows (N, C, *out, *k), w (O, C/group, *k)."""
    rank = w.ndim - 2
    out = windows.shape[2 : 2 + rank]
    y = np.empty((windows.shape[0], w.shape[0], *out), np.result_type(windows, w))
    # (O, C/group, *k) -> (group, O/group, C/group * taps)
    matrix = w.reshape(group, w.shape[0] // group, -1)
    for images, rows in _steps(windows):
        taken = windows[images, :, rows]
        product = matrix @ _columns(taken, group, rank)  # (n, group, O/group, outputs)
        y[images, :, rows] = product.reshape(len(taken), w.shape[0], *taken.shape[2 : 2 + rank])
    return y


def _windows(
    x: Array, spans: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Array:
    """A view (N, C, *out, *k) of all windows; no data is copied."""
    axes = tuple(range(2, x.ndim))
    view = np.lib.stride_tricks.sliding_window_view(x, tuple(spans), axes)
    starts = tuple(slice(None, None, s) for s in strides)
    taps = tuple(slice(None, None, d) for d in dilations)
    return view[(slice(None), slice(None), *starts, *taps)]


def _steps(windows: Array) -> Iterator[tuple[slice, slice]]:
    """(images, rows of the first output axis), cut so that the columns stay small."""
    height = windows.shape[2]
    per_row = 8 * math.prod(windows.shape[1:]) // max(height, 1)
    rows = min(height, max(1, COLUMN_BYTES // max(per_row, 1)))
    images = max(1, COLUMN_BYTES // max(per_row * height, 1))
    for first in range(0, windows.shape[0], images):
        for start in range(0, height, rows):
            yield slice(first, first + images), slice(start, start + rows)


def _columns(windows: Array, group: int, rank: int) -> Array:
    """(n, C, *out, *k) -> (n, group, C/group * taps, outputs)."""
    outs, taps = range(2, 2 + rank), range(2 + rank, 2 + 2 * rank)
    moved = windows.transpose(0, 1, *taps, *outs)
    return moved.reshape(len(windows), group, -1, math.prod(windows.shape[2 : 2 + rank]))


def conv_transpose(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Pads,
    output_padding: Sequence[int],
    group: int = 1,
) -> Array:
    """Transposed convolution: x (N, C, *in), w (C, O/group, *k), b (O) -> (N, O, *out).

    Each input element spreads its kernel over the output; pads cut the rim away.
    """
    kernel, sizes = w.shape[2:], x.shape[2:]
    channels = w.shape[1] * group
    full = tuple(
        (n - 1) * s + (k - 1) * d + 1 + extra
        for n, s, k, d, extra in zip(
            sizes, strides, kernel, dilations, output_padding, strict=True
        )
    )
    # (C, O/group, *k) -> (group, taps, O/group, C/group)
    matrix = w.reshape(group, w.shape[0] // group, w.shape[1], -1).transpose(0, 3, 2, 1)
    # (N, C, *in) -> (N, group, C/group, inputs)
    columns = x.reshape(x.shape[0], group, x.shape[1] // group, -1)
    y = np.zeros((x.shape[0], channels, *full), np.result_type(x, w))
    for tap, offsets in enumerate(itertools.product(*map(range, kernel))):
        spread = (matrix[:, tap] @ columns).reshape(x.shape[0], channels, *sizes)
        y[_spatial(_landing(offsets, dilations, strides, sizes))] += spread
    # A negative pad lies outside of what any kernel reaches: those outputs are zero.
    y = np.pad(y, ((0, 0), (0, 0), *((max(-lo, 0), max(-hi, 0)) for lo, hi in pads)))
    sizes_cut = zip(pads, y.shape[2:], strict=True)
    y = y[_spatial(slice(max(lo, 0), n - max(hi, 0)) for (lo, hi), n in sizes_cut)]
    return y if b is None else y + b.reshape(-1, *(1,) * len(kernel))


def _landing(
    offsets: Sequence[int], dilations: Sequence[int], strides: Sequence[int], sizes: Sequence[int]
) -> Iterator[slice]:
    """Where one tap of every kernel lands in the output."""
    for offset, d, s, n in zip(offsets, dilations, strides, sizes, strict=True):
        yield slice(offset * d, offset * d + (n - 1) * s + 1, s)


def transposed_pads(
    auto_pad: str,
    pads: Sequence[int] | None,
    output_shape: Sequence[int] | None,
    full: Sequence[int],
    targets: Sequence[int],
) -> Pads:
    """Pads of a ConvTranspose whose unpadded output is `full`; `targets` is in * stride."""
    rank = len(full)
    if output_shape is None and auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        return resolve_pads(auto_pad, pads, full, full, (1,) * rank)
    wanted = targets if output_shape is None else list(output_shape)[-rank:]
    totals = [f - want for f, want in zip(full, wanted, strict=True)]
    halves = [(total // 2, total - total // 2) for total in totals]
    # From opset 11 on the larger half goes to the end only for SAME_UPPER.
    return tuple((lo, hi) if auto_pad == "SAME_UPPER" else (hi, lo) for lo, hi in halves)


def pooled_sizes(
    sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], pads: Pads, ceil: bool
) -> tuple[int, ...]:
    """Output sizes of a pool; with `ceil` a last window must still start inside the input."""
    found = []
    for n, span, s, (lo, hi) in zip(sizes, spans, strides, pads, strict=True):
        room = n + lo + hi - span
        size = (-(-room // s) if ceil else room // s) + 1
        found.append(size - (ceil and (size - 1) * s >= n + lo))
    return tuple(found)


def _taps(
    padded: Array,
    out: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Iterator[Array]:
    """For each tap of the window, what all windows (N, C, *out) see there."""
    for offsets in itertools.product(*map(range, kernel)):
        slices = (
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, n, s in zip(offsets, dilations, out, strides, strict=True)
        )
        yield padded[_spatial(slices)]


def _padded(
    x: Array,
    out: Sequence[int],
    spans: Sequence[int],
    strides: Sequence[int],
    pads: Pads,
    value: float,
) -> Array:
    """`x` padded so that every window of `out` fits, those that `ceil` added too."""
    ends = [(n - 1) * s + span for n, s, span in zip(out, strides, spans, strict=True)]
    widths = [
        (lo, max(end - lo - n, hi))
        for (lo, hi), end, n in zip(pads, ends, x.shape[2:], strict=True)
    ]
    return np.pad(x, ((0, 0), (0, 0), *widths), constant_values=value)


def _spatial(slices: Iterable[slice]) -> tuple[slice, ...]:
    """An index that takes all images and channels, and `slices` of the other axes."""
    return (slice(None), slice(None), *slices)


def _sum(arrays: Iterator[Array]) -> Array:
    total = next(arrays).copy()
    for array in arrays:
        total += array
    return total


def max_pool(
    x: Array,
    kernel: Sequence[int],
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Pads,
    ceil: bool = False,
) -> Array:
    """Maximum over windows; padding never wins."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    out = pooled_sizes(x.shape[2:], spans, strides, pads, ceil)
    padded = _padded(x, out, spans, strides, pads, -np.inf)
    taps = _taps(padded, out, kernel, strides, dilations)
    y = next(taps).copy()
    for tap in taps:
        np.maximum(y, tap, out=y)
    return y


def average_pool(
    x: Array,
    kernel: Sequence[int],
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Pads,
    ceil: bool = False,
    count_padding: bool = False,
) -> Array:
    """Mean over windows; padding counts only on request, what `ceil` adds never does."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    out = pooled_sizes(x.shape[2:], spans, strides, pads, ceil)
    padded = _padded(x, out, spans, strides, pads, 0.0)
    total = _sum(_taps(padded, out, kernel, strides, dilations))
    ones = np.ones((1, 1, *x.shape[2:]))
    if count_padding:
        ones = np.pad(ones, ((0, 0), (0, 0), *pads), constant_values=1.0)
        room: Pads = ((0, 0),) * len(pads)
    else:
        room = pads
    seen = _padded(ones, out, spans, strides, room, 0.0)
    counts = _sum(_taps(seen, out, kernel, strides, dilations))
    return np.asarray(total / counts)


def batch_normalization(
    x: Array, scale: Array, b: Array, mean: Array, var: Array, epsilon: float
) -> Array:
    """Inference BatchNormalization over axis 1; statistics (C), or one for each element."""
    shape = (-1, *(1,) * (x.ndim - 2)) if scale.ndim == 1 and x.ndim > 1 else scale.shape
    gain = scale / np.sqrt(var + epsilon)
    return np.asarray(x * gain.reshape(shape) + (b - mean * gain).reshape(shape))


def local_response(x: Array, size: int, alpha: float, beta: float, bias: float) -> Array:
    """LRN over axis 1: the window reaches floor((size-1)/2) back and ceil((size-1)/2) ahead."""
    squares = np.cumsum(np.pad(x * x, ((0, 0), (1, 0), *((0, 0),) * (x.ndim - 2))), axis=1)
    channels = np.arange(x.shape[1])
    low = np.maximum(channels - (size - 1) // 2, 0)
    high = np.minimum(channels + size // 2, x.shape[1] - 1) + 1
    total = squares[:, high] - squares[:, low]
    return np.asarray(x / (bias + (alpha / size) * total) ** beta)


def softmax(x: Array, axis: int) -> Array:
    """exp(x) / sum(exp(x)) along one axis."""
    raised = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
    return np.asarray(raised / raised.sum(axis=axis, keepdims=True))


def log_softmax(x: Array, axis: int) -> Array:
    """log(softmax(x)), without taking the logarithm of what underflowed."""
    shifted = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


def resize(x: Array, scales: Sequence[float], *, linear: bool) -> Array:
    """Resize of opset 10 and Upsample: output i reads input i / scale, nearest or linearly."""
    for axis, scale in enumerate(scales):
        if scale == 1:
            continue
        size = x.shape[axis]
        position = np.arange(math.floor(size * scale)) / scale
        low = np.minimum(np.floor(position).astype(np.int64), size - 1)
        if not linear:
            x = x.take(low, axis)
            continue
        share = np.minimum(position, size - 1) - low
        share = share.reshape(-1, *(1,) * (x.ndim - axis - 1))
        high = np.minimum(low + 1, size - 1)
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x


def leaky_relu(x: Array, alpha: float) -> Array:
    """x where it is positive, alpha * x elsewhere; with no array in between."""
    y = np.multiply(x, alpha)
    np.copyto(y, x, where=x > 0)
    return np.asarray(y)


GRID = 64
"""Points to a unit at which the error function is tabulated."""
ERF_ENDS = 6.0
"""From here on the error function is 1 in float64."""
ERF_TERMS = 7
"""The next term of the series is below (1/128)^8, a tenth of float64's unit of rounding."""


@functools.cache
def _erf_series() -> Array:
    """(terms, points): the Taylor coefficients of erf around each point of the grid.

    The n-th derivative is `2/sqrt(pi) (-1)^(n-1) H_(n-1)(x) exp(-x^2)`, `H` Hermite's polynomials.
    """
    points = np.arange(round(ERF_ENDS * GRID) + 1) / GRID
    slope = 2 / math.sqrt(math.pi) * np.exp(-points * points)
    rows = [np.array([math.erf(x) for x in points])]
    for n in range(1, ERF_TERMS + 1):
        polynomial = np.polynomial.hermite.hermval(points, [0.0] * (n - 1) + [1.0])
        rows.append((-1) ** (n - 1) * slope * polynomial / math.factorial(n))
    return np.array(rows)


def erf(x: Array) -> Array:
    """The error function: a Taylor series around the nearest point of a grid."""
    series = _erf_series()
    size = np.minimum(np.abs(x).astype(np.float64), ERF_ENDS)
    nearest = np.rint(np.nan_to_num(size) * GRID).astype(np.intp)
    step = size - nearest / GRID
    value = np.zeros_like(size)
    for coefficients in series[::-1]:
        value = value * step + coefficients[nearest]
    return np.asarray(np.copysign(value, x))
