"""Where in a serialized model are the bytes of its tensors? Cut out of it, and put back in.

Most of a model file is the raw data of tensors. `cut` gives the same model without them: each
becomes a reference to a range of the file, in the form that ONNX has for external data, so what
is left is a valid model that takes no memory to speak of. `spliced` is the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no types
from onnx import TensorProto

from bnfold.errors import ModelError
from bnfold.target import Contents
from bnfold.validation import count_bytes

Bytes = bytes | memoryview

SMALL = 1 << 14
"""Bytes from which on the data of a tensor is left in the file."""
DEEPEST = 100
"""Levels of messages within each other that protobuf reads."""

INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
"""The fields of onnx.proto that lead to tensors: by message and number, what they hold."""

MOST_FIELDS = 1 << 22
"""Fields that are looked at; a file of more is left to protobuf, which is quicker."""
VARINT, FIXED64, MESSAGE, FIXED32 = 0, 1, 2, 5
RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 9, 13, 14
ONCE = {5, 6}
"""Fields of an attribute that protobuf would merge if they came twice."""


class Unreadable(Exception):
    """It is not what protobuf writes."""


Find = Callable[[TensorProto], Contents | None]
"""Says where the data of a tensor is; None where it should stay there."""


class Field(NamedTuple):
    """One field of a message: its number and wire type, and where it begins, is, and ends."""

    number: int
    kind: int
    key: int
    start: int
    end: int


def fields(data: Bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of a message. Raises Unreadable."""
    position = start
    while position < end:
        begin = position
        key, position = varint(data, position, end)
        kind = key & 7
        if key < 8:  # protobuf numbers fields from 1 on
            raise Unreadable
        if kind == MESSAGE:
            length, position = varint(data, position, end)
        elif kind == VARINT:
            _, after = varint(data, position, end)
            length = after - position
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise Unreadable
        if length > end - position:
            raise Unreadable
        yield Field(key >> 3, kind, begin, position, position + length)
        position += length


def varint(data: Bytes, position: int, end: int) -> tuple[int, int]:
    """A number, and the position after it. Raises Unreadable."""
    value = shift = 0
    while position < end and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise Unreadable


def encoded(value: int) -> bytes:
    """A number as a varint."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


# -- out ----------------------------------------------------------------------------------------


def cut(data: memoryview, location: str) -> bytes:
    """The model without the data of its large tensors, which refer to `location` instead.

    A tensor whose data does not fit its dims stays whole, for others to say so. Raises Unreadable.
    """
    pieces = _Cutter(data, location).light(0, len(data), "model")
    return b"".join(pieces) if pieces is not None else bytes(data)


class _Cutter:
    """One walk over a serialized model."""

    def __init__(self, data: memoryview, location: str) -> None:
        self.data = data
        self.location = location
        self.fields_left = MOST_FIELDS

    def light(
        self, start: int, end: int, message: str, levels: int = DEEPEST
    ) -> list[Bytes] | None:
        """A message without large data; None where it holds none."""
        if levels == 0:
            raise Unreadable
        pieces: list[Bytes] = []
        done, seen = start, set()
        for field in self.fields(start, end):
            holds = INSIDE[message].get(field.number)
            if holds is None:
                continue
            if message == "attribute" and field.number in ONCE:
                if field.number in seen:
                    return None
                seen.add(field.number)
            if field.kind != MESSAGE or field.end - field.start < SMALL:
                continue
            if holds == "tensor":
                inner = self.tensor(field)
            else:
                inner = self.light(field.start, field.end, holds, levels - 1)
            if inner is not None:
                length = encoded(sum(map(len, inner)))
                pieces += [self.data[done : field.key], _key(field.number), length, *inner]
                done = field.end
        return [*pieces, self.data[done:end]] if pieces else None

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of a message, if there are not too many."""
        for field in fields(self.data, start, end):
            self.fields_left -= 1
            if self.fields_left < 0:
                raise Unreadable
            yield field

    def is_elsewhere(self, field: Field) -> bool:
        """Whether a field of a tensor says that its data is in another file. One that says the
        opposite is left by `onnx.load`."""
        if field.number == DATA_LOCATION:
            return any(self.data[field.start : field.end])
        return field.number == EXTERNAL_DATA

    def tensor(self, tensor: Field) -> list[Bytes] | None:
        """A tensor that refers to its data; None where it has to stay as it is."""
        found = list(self.fields(tensor.start, tensor.end))
        raw = [field for field in found if field.number == RAW_DATA]
        is_plain = not any(map(self.is_elsewhere, found))
        if len(raw) != 1 or raw[0].kind != MESSAGE or not is_plain:
            return None
        offset, length = raw[0].start, raw[0].end - raw[0].start
        if length < SMALL or tensor.end - tensor.start - length > SMALL:
            return None
        rest = bytes(self.data[tensor.start : raw[0].key]) + bytes(
            self.data[raw[0].end : tensor.end]
        )
        if not _fits(rest, length):
            return None
        reference = TensorProto()
        refer(reference, self.location, offset, length)
        return [rest, reference.SerializeToString()]


def _key(number: int) -> bytes:
    return encoded(number << 3 | MESSAGE)


def _fits(tensor: bytes, length: int) -> bool:
    """Whether the dims and the type of a tensor ask for that many bytes."""
    try:
        return count_bytes("", TensorProto.FromString(tensor)) == length
    except (DecodeError, ModelError):
        return False


def refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    """Let a tensor say where its data is."""
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        tensor.external_data.add(key=key, value=str(value))


# -- back ---------------------------------------------------------------------------------------


def spliced(light: bytes, find: Find) -> list[bytes | Contents]:
    """The serialized model with the data of every tensor for which `find` knows it, in pieces.

    They stand where protobuf would have written them.
    """
    pieces, _ = _whole(light, 0, len(light), "model", find)
    return pieces


def _whole(
    light: bytes,
    start: int,
    end: int,
    message: str,
    find: Find,
) -> tuple[list[bytes | Contents], int]:
    """The pieces of a message, and their length."""
    pieces: list[bytes | Contents] = []
    done, total, inside = start, 0, INSIDE[message]
    for field in fields(light, start, end):
        holds = inside.get(field.number)
        if holds is None or light.find(b"location", field.start, field.end) < 0:
            continue
        if holds == "tensor":
            inner, length = _whole_tensor(light[field.start : field.end], find)
        else:
            inner, length = _whole(light, field.start, field.end, holds, find)
        before = light[done : field.key] + _key(field.number) + encoded(length)
        pieces += [before, *inner]
        total += len(before) + length
        done = field.end
    return [*pieces, light[done:end]], total + end - done


def _whole_tensor(light: bytes, find: Find) -> tuple[list[bytes | Contents], int]:
    tensor = TensorProto.FromString(light)
    data = find(tensor) if tensor.data_location == TensorProto.EXTERNAL else None
    if data is None:
        return [light], len(light)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    rest: bytes = tensor.SerializeToString(deterministic=True)
    place = next((f.key for f in fields(rest, 0, len(rest)) if f.number > RAW_DATA), len(rest))
    before = rest[:place] + _key(RAW_DATA) + encoded(data.length)
    return [before, data, rest[place:]], len(before) + data.length + len(rest) - place
