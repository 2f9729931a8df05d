"""Where in the files of a model does each tensor go? Inside the message, or into one data file."""

from __future__ import annotations

from itertools import accumulate
from typing import BinaryIO

from google.protobuf.message import EncodeError  # type: ignore[import-untyped]  # no types
from onnx import TensorProto

from bnfold.errors import OutputError
from bnfold.stored import StoredModel, copied, copy_without, movable, with_weights
from bnfold.target import fill
from bnfold.validation import tensors
from bnfold.weights import Held, Source, Weights
from bnfold.wire import refer, spliced

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes of the largest message that protobuf reads or writes."""
EXTERNAL_THRESHOLD = 1024
"""Tensors below this stay in the model file, as in onnx's own tools."""
ALIGNMENT = 4096
"""Where each tensor of a data file starts, so that a runtime can map it, and a system share it."""

DATA_MARK = b"\0these weights were written by bnfold\n"
"""The last bytes of every data file that bnfold writes. No tensor refers to them. A model can
claim anything of the files beside it, these bytes it cannot put into one; and who appends to the
file, as onnx does, takes the mark off its end."""

OUTGROWN = "the model would pass protobuf's 2 GiB, so its weights are in a data file beside it"


class Layout:
    """A model as it will be written, and which bytes go where."""

    def __init__(self, model: StoredModel, location: str, *, external: bool | None = None) -> None:
        """`location` is the name of the data file; `external` whether there shall be one.

        None keeps what the model has; a model past 2 GiB has one in any case.
        """
        wanted = model.is_external if external is None else external
        self.outgrown = not wanted and model.byte_size > PROTOBUF_LIMIT
        """Whether there is a data file that was not wanted."""
        self._inside = Weights()
        self._placed: list[tuple[int, Source]] = []
        if model.is_light:
            self.proto = copied(model.proto)
            for _, tensor in tensors(self.proto):
                if (source := model.weights.source(tensor)) is not None:
                    self._inside.hold(tensor, source)
        elif wanted or self.outgrown:
            self.proto = with_weights(model.proto, self._without_data)
        else:
            self.proto = model.proto
        if wanted or self.outgrown:
            self._place(location)

    def _without_data(self, tensor: TensorProto) -> TensorProto:
        """A tensor that has its data from the one it is a copy of."""
        length = len(tensor.raw_data)
        if length < EXTERNAL_THRESHOLD:
            return tensor
        copy = copy_without(tensor, "raw_data")
        self._inside.hold(copy, Held(tensor, length))
        return copy

    def _place(self, location: str) -> None:
        """Give each tensor that is large enough a place in the data file."""
        end = 0
        for tensor in movable(self.proto):
            source = self._inside.source(tensor) or _held(tensor)
            if source is None or source.length < EXTERNAL_THRESHOLD:
                continue
            end += -end % ALIGNMENT
            self._placed.append((end, source))
            tensor.ClearField("raw_data")
            refer(tensor, location, end, source.length)
            end += source.length

    @property
    def has_data(self) -> bool:
        """Whether there is a data file."""
        return bool(self._placed)

    def write_data(self, file: BinaryIO) -> None:
        """Write the data file. Raises OSError, and ModelError where a source is gone."""
        offset, last = self._placed[-1]
        fill(file, [*self._placed, (offset + last.length, DATA_MARK)])

    def write_model(self, file: BinaryIO) -> None:
        """Write the model file. Raises OSError, ModelError and OutputError."""
        pieces = spliced(self._serialized(), self._inside.kept_source)
        lengths = [len(p) if isinstance(p, bytes) else p.length for p in pieces]
        if sum(lengths) > PROTOBUF_LIMIT:
            raise _too_large()
        fill(file, zip(accumulate(lengths, initial=0), pieces, strict=False))

    def _serialized(self) -> bytes:
        try:
            data: bytes = self.proto.SerializeToString(deterministic=True)
        except EncodeError:
            raise _too_large() from None
        return data

    def relocate(self, location: str) -> None:
        """Say that the data file is elsewhere."""
        for tensor in movable(self.proto):
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if entries.get("location"):
                refer(tensor, location, int(entries["offset"]), int(entries["length"]))


def _held(tensor: TensorProto) -> Held | None:
    """The raw data of a tensor that is about to lose it."""
    if not tensor.HasField("raw_data"):
        return None
    return Held(TensorProto(raw_data=tensor.raw_data), len(tensor.raw_data))


def _too_large() -> OutputError:
    return OutputError(
        "the model would pass protobuf's 2 GiB even without its weights",
        "split the model, or move its large constants into initializers",
    )
