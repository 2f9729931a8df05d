"""How is the user's data cut into batches that the model takes? Once for every pass over it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.errors import InputError
from bnfold.feeds import Data, Feeds, load_data
from bnfold.sizes import InputSpec, input_specs

Array = NDArray[Any]

BATCH = 64
"""Rows that are run at a time, where the model lets us choose."""

ROWS = "rows of the data"
"""The symbol of the axis that is cut; no model's own symbol."""


class Chunks:
    """The data in batches; each iteration starts again.

    All inputs are cut along their first axis where they share it: where the model leaves its size
    open (into at most `batch` rows) and where it fixes it (into so many). Otherwise each set of
    inputs is run as it is given. Raises InputError where data and model do not fit.
    """

    def __init__(self, model: onnx.ModelProto, data: Data, *, batch: int = BATCH) -> None:
        if batch < 1:
            raise InputError(f"a batch of {batch} holds nothing", "give a size of 1 or more")
        self.data = _repeatable(data)
        self._size: int | None = None
        self._is_fixed = False
        self._model = _inputs_only(model)
        self._relax(batch)

    def __iter__(self) -> Iterator[Feeds]:
        """Batches by input name."""
        for sample in load_data(self._model, self.data):
            yield from self._cut(sample.name, sample.feeds)

    def _relax(self, batch: int) -> None:
        """Find what to cut, and let the data have any number of rows then."""
        ports = self._model.graph.input
        if not all(port.type.tensor_type.HasField("shape") for port in ports):
            return
        fronts = {_front(spec) for spec in input_specs(self._model)}
        if len(fronts) != 1:
            return
        (front,) = fronts
        if front is None:
            return
        self._is_fixed = isinstance(front, int)
        self._size = front if isinstance(front, int) else batch
        for port in ports:
            port.type.tensor_type.shape.dim[0].dim_param = ROWS

    def _cut(self, name: str, feeds: Feeds) -> Iterator[Feeds]:
        size = self._size
        if size is None:
            yield feeds
            return
        (rows,) = {len(array) for array in feeds.values()}
        if self._is_fixed and rows % size:
            raise InputError(
                f"{name} has {rows} rows, and the model takes {size} at a time",
                f"give a multiple of {size}",
            )
        for start in range(0, rows, size):
            yield {key: array[start : start + size] for key, array in feeds.items()}


def _front(spec: InputSpec) -> int | str | None:
    return spec.shape[0] if spec.shape else None


def _inputs_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of the same inputs to feed, and nothing else."""
    stored = {tensor.name for tensor in model.graph.initializer}
    stored |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    light = onnx.ModelProto()
    light.graph.input.extend(port for port in model.graph.input if port.name not in stored)
    return light


def _repeatable(data: Data) -> Data:
    """An iterator would be empty the second time; a list is not."""
    return list(data) if isinstance(data, Iterator) else data


def rows_of(feeds: Feeds) -> int:
    """How many rows a batch has; 1 where its inputs have none in common."""
    sizes = {np.shape(array)[0] if np.ndim(array) else None for array in feeds.values()}
    (size,) = sizes if len(sizes) == 1 else (None,)
    return size or 1
