"""What is a model whose large tensors stay where they are until somebody needs them?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import EncodeError  # type: ignore[import-untyped]  # no types
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from bnfold.files import utf8
from bnfold.nesting import graphs
from bnfold.validation import tensors
from bnfold.weights import Weights

Message = TypeVar("Message", ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto)


class StoredModel:
    """A ModelProto and where its tensors are that it does not hold itself.

    In `proto` such a tensor is EXTERNAL. Those in files refer to them as ONNX has it, with
    `path.parent` as the folder; data within the model file itself does too. So runtimes load
    `proto` from there as long as nothing in it was computed.
    """

    __slots__ = ("_whole", "data_files", "path", "proto", "weights")

    def __init__(
        self,
        proto: ModelProto,
        weights: Weights | None = None,
        path: Path | None = None,
        data_files: frozenset[Path] = frozenset(),
    ) -> None:
        self.proto = proto
        self.weights = weights or Weights()
        self.path = path
        """The file that it was read from."""
        self.data_files = data_files
        """The other files in which it kept weights."""
        self._whole: ModelProto | None = None

    def copy(self) -> StoredModel:
        """One of our own to change."""
        return self.over(copied(self.proto))

    def over(self, proto: ModelProto) -> StoredModel:
        """Another graph over the same weights."""
        return StoredModel(proto, self.weights.copy(), self.path, self.data_files)

    @property
    def is_external(self) -> bool:
        """Whether it kept weights in other files than its own."""
        return bool(self.data_files)

    @property
    def is_light(self) -> bool:
        """Whether some of its tensors are elsewhere."""
        return bool(self.weights.files or self.weights.kept)

    @property
    def folder(self) -> Path | None:
        """Where a runtime finds what the protobuf refers to; None where it would not find it."""
        if self.path is None or self.weights.kept or utf8(self.path.name) is None:
            return None
        return self.path.parent

    @property
    def loadable(self) -> Path | ModelProto:
        """What a runtime can load: its file where it has one, and nothing in it was computed."""
        return self.whole() if self.path is None or self.folder is None else self.path

    def whole(self) -> ModelProto:
        """The model with all of its data, loaded once. Raises ModelError where that is gone."""
        if not self.is_light:
            return self.proto
        if self._whole is None:
            whole = copied(self.proto)
            for _, tensor in tensors(whole):
                self.weights.load(tensor)
            self._whole = whole
        return self._whole

    @property
    def is_current(self) -> bool:
        """Whether all files that it needs are still there."""
        return all(file.is_current for file in self.weights.files.values())

    def become(self, other: StoredModel) -> None:
        """The same model, from other files."""
        self.proto, self.weights, self.path = other.proto, other.weights, other.path
        self.data_files = other.data_files

    @property
    def byte_size(self) -> int:
        """How many bytes the whole model takes in one message."""
        elsewhere = (self.weights.source(tensor) for _, tensor in tensors(self.proto))
        return byte_size(self.proto) + sum(s.length for s in elsewhere if s is not None)


def own_name(path: Path) -> str:
    """What a model calls the file that it is in; a name of our own where its own is no UTF-8."""
    return utf8(path.name) or ascii(path.name)


def copied(model: ModelProto) -> ModelProto:
    """A model of our own."""
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def byte_size(model: ModelProto) -> int:
    """How many bytes a model takes, also past what protobuf can count."""
    with contextlib.suppress(EncodeError):
        return int(model.ByteSize())
    weights = 0

    def left_out(tensor: TensorProto) -> TensorProto:
        nonlocal weights
        weights += len(tensor.raw_data)
        return copy_without(tensor, "raw_data")

    return int(with_weights(model, left_out).ByteSize()) + weights


def movable(model: ModelProto) -> Iterator[TensorProto]:
    """The tensors that may be kept in a data file: initializers, and values of Constants."""
    for graph in graphs(model.graph):
        yield from graph.initializer
        for node in graph.node:
            if node.op_type == "Constant" and not node.domain:
                yield from (a.t for a in node.attribute if a.HasField("t"))


def with_weights(model: ModelProto, replace: Callable[[TensorProto], TensorProto]) -> ModelProto:
    """A copy of the model in which the main graph's initializers and Constants are replaced.

    What is replaced is not copied.
    """
    light = copy_without(model, "graph")
    light.graph.CopyFrom(copy_without(model.graph, "initializer", "node"))
    light.graph.initializer.extend(map(replace, model.graph.initializer))
    for node in model.graph.node:
        if node.op_type != "Constant":
            light.graph.node.add().CopyFrom(node)
            continue
        constant = copy_without(node, "attribute")
        for attribute in node.attribute:
            if attribute.HasField("t"):
                copy = copy_without(attribute, "t")
                copy.t.CopyFrom(replace(attribute.t))
                constant.attribute.append(copy)
            else:
                constant.attribute.append(attribute)
        light.graph.node.append(constant)
    return light


def copy_without(message: Message, *skipped: str) -> Message:
    """A copy of a protobuf message without some of its fields."""
    copy = type(message)()
    for field, value in message.ListFields():
        if field.name in skipped:
            continue
        if isinstance(value, (bool, int, float, str, bytes)):
            setattr(copy, field.name, value)
        else:
            getattr(copy, field.name).MergeFrom(value)
    return copy
