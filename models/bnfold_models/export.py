"""How does a network become ONNX? By either exporter, BN nodes kept, the same bytes every time."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import onnx
import torch

from bnfold_models.network import Network, normalizations

Exporter = Literal["torchscript", "dynamo"]

EXPORTERS: tuple[Exporter, ...] = ("torchscript", "dynamo")

OPSET = 18

INPUT = "input"
OUTPUT = "output"
BATCH = "batch"


class ExportError(Exception):
    """An exporter that lost a BN on the way: what it made is no use to us."""


def export(network: Network, *, exporter: Exporter = "torchscript") -> onnx.ModelProto:
    """The network in eval mode as ONNX: float32 `input` (batch, C, H, W) to `output` (batch, K).

    Doc strings and the exporter's notes, which name files of this machine, are taken out. Raises
    ExportError if not every BN is a BatchNormalization node.
    """
    before = network.training
    network.eval()
    try:
        with _quiet():
            model = _EXPORT[exporter](network, torch.zeros(2, *network.input_shape))
    finally:
        network.train(before)
    strip_notes(model)
    _require_normalizations(network, model)
    return model


def save(model: onnx.ModelProto, path: str | Path) -> None:
    """Write a model; the same model gives the same bytes."""
    Path(path).write_bytes(model.SerializeToString(deterministic=True))


def strip_notes(model: onnx.ModelProto) -> None:
    """Take doc strings and metadata out, in place: they hold paths and traces of this machine."""
    graph = model.graph
    parts: Iterable[Any] = (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
        *model.functions,
        *(node for function in model.functions for node in function.node),
    )
    for part in parts:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def _export_torchscript(network: Network, images: torch.Tensor) -> onnx.ModelProto:
    buffer = io.BytesIO()
    torch.onnx.export(
        network,
        (images,),
        buffer,
        dynamo=False,
        # Not EVAL: with that, this exporter folds BN into Conv by itself.
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: BATCH}, OUTPUT: {0: BATCH}},
    )
    return onnx.load_from_string(buffer.getvalue())


def _export_dynamo(network: Network, images: torch.Tensor) -> onnx.ModelProto:
    program = torch.onnx.export(
        network,
        (images,),
        dynamo=True,
        optimize=False,  # the optimizer folds BN into Conv
        verbose=False,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim(BATCH)},),
    )
    assert program is not None  # it is None only when a file is written
    return program.model_proto


_EXPORT = {"torchscript": _export_torchscript, "dynamo": _export_dynamo}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch says about itself while it exports.

    It warns that its older exporter is deprecated (which is why both are here), that parts of
    its own are, and on its log that torchvision is not installed.
    """
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        log.setLevel(level)


def _require_normalizations(network: Network, model: onnx.ModelProto) -> None:
    expected = len(normalizations(network))
    found = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
    if found != expected:
        raise ExportError(f"the network has {expected} BN, its ONNX model {found}")
