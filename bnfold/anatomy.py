"""What did each site look like before, and what is there now? Small graphs and a few numbers.

It looks at the two models only, by the rule that the same name is the same value; it does not
know how a fold was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.nesting import nodes_within
from bnfold.report import FoldReport, FoldSite
from bnfold.stored import StoredModel

Array = NDArray[Any]

MOST_BOXES = 9
"""Operators in one small graph; more would be the hairball that nobody reads."""
MOST_NEIGHBOURS = 3
"""Readers of a value, or makers of inputs, that are drawn."""
OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}
"""Which axis of a weight counts output channels; Gemm's depends on transB."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Magnitudes of the channels of a tensor, in short."""

    channels: int
    smallest: float
    quartile: float
    median: float
    third_quartile: float
    largest: float


@dataclass(frozen=True, slots=True)
class Box:
    """One operator of a small graph: what it reads and makes, constants only counted."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: int = 0
    is_site: bool = False


@dataclass(frozen=True, slots=True)
class SiteAnatomy:
    """What a site was and what became of it: magnitudes of its channels, and what is around it.

    `scale` are the factors of the affine, `weight_before` and `weight_after` the largest
    magnitude in each output channel of the first target's weight (after: all folds into it).
    """

    tensor: str
    scale: Spread | None
    weight_before: Spread | None
    weight_after: Spread | None
    before: tuple[Box, ...]
    after: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What the whole model and each site consist of, before and after."""

    operators_before: dict[str, int]
    operators_after: dict[str, int]
    sites: tuple[SiteAnatomy, ...]


def dissect(original: StoredModel, folded: StoredModel, folds: FoldReport) -> Anatomy:
    """Describe every site in both models."""
    before, after = Body(original), Body(folded)
    return Anatomy(
        operators_before=_operators(original.proto.graph),
        operators_after=_operators(folded.proto.graph),
        sites=tuple(_site(site, before, after) for site in folds.sites),
    )


def _operators(graph: onnx.GraphProto) -> dict[str, int]:
    """How many nodes of each type are in a graph and its subgraphs, the most frequent first."""
    return dict(Counter(node.op_type for node in nodes_within(graph)).most_common())


class Body:
    """Who makes and who reads each tensor of a graph; what stands in subgraphs is not seen."""

    def __init__(self, model: StoredModel) -> None:
        graph, self.weights = model.proto.graph, model.weights
        self.makers: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        self.constants: dict[str, onnx.TensorProto] = {t.name: t for t in graph.initializer}
        for node in graph.node:
            self._add(node)

    def _add(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant":
            values = [a.t for a in node.attribute if a.name == "value"]
            self.constants.update(zip(node.output, values, strict=False))
            return
        self.makers.update((name, node) for name in node.output if name)
        for name in dict.fromkeys(filter(None, node.input)):
            self.readers.setdefault(name, []).append(node)

    def constant(self, name: str) -> Array | None:
        """The value of a float constant."""
        tensor = self.constants.get(name)
        if tensor is None:
            return None
        array = self.weights.constant(tensor).value()
        return array if array.dtype.kind == "f" else None

    def flowing(self, node: onnx.NodeProto) -> list[str]:
        """The inputs that are computed, or fed."""
        return [name for name in node.input if name and name not in self.constants]

    def around(self, names: Iterable[str], site: str) -> tuple[Box, ...]:
        """The makers of these tensors between what feeds them and who reads them, in order."""
        centres = [self.makers[name] for name in dict.fromkeys(names) if name in self.makers]
        chosen: dict[str, onnx.NodeProto] = {}
        for node in centres:
            feeding = [self.makers[n] for n in self.flowing(node) if n in self.makers]
            reading = [r for name in node.output for r in self.readers.get(name, ())]
            for near in (*feeding[:MOST_NEIGHBOURS], node, *reading[:MOST_NEIGHBOURS]):
                chosen.setdefault(next(filter(None, near.output), ""), near)
        order = sorted(chosen.values(), key=self._depth(chosen))
        return tuple(self._box(node, site) for node in order[:MOST_BOXES])

    def _depth(self, chosen: dict[str, onnx.NodeProto]) -> Any:
        """How many chosen operators stand before one, so that each follows its inputs."""
        depths: dict[int, int] = {}

        def depth(node: onnx.NodeProto) -> int:
            if id(node) not in depths:
                depths[id(node)] = 0  # a cycle cannot be, yet must not hang
                makers = [self.makers.get(name) for name in node.input]
                near = [m for m in makers if m is not None and m.output[0] in chosen]
                depths[id(node)] = 1 + max((depth(m) for m in near), default=0)
            return depths[id(node)]

        return depth

    def _box(self, node: onnx.NodeProto, site: str) -> Box:
        flowing = self.flowing(node)
        return Box(
            op_type=node.op_type,
            inputs=tuple(dict.fromkeys(flowing)),
            outputs=tuple(filter(None, node.output)),
            constants=len([name for name in node.input if name]) - len(flowing),
            is_site=site in node.output,
        )

    def weight(self, node: onnx.NodeProto) -> Spread | None:
        """The largest magnitude in each output channel of an operator's weight."""
        for name in node.input:
            array = self.constant(name)
            if array is not None and array.ndim >= 2 and array.size:
                return _spread(_magnitudes(array, _output_axis(node)))
        return None


def _site(site: FoldSite, before: Body, after: Body) -> SiteAnatomy:
    targets = [target.tensor for target in site.targets]
    old, new = (_target(body, site) for body in (before, after))
    centres = [site.tensor, *targets[:MOST_NEIGHBOURS]]
    left = [*centres, *(new.output if new is not None else ())]
    return SiteAnatomy(
        tensor=site.tensor,
        scale=_scale(before, site.tensor),
        weight_before=before.weight(old) if old is not None else None,
        weight_after=after.weight(new) if new is not None else None,
        before=before.around(centres, site.tensor),
        after=after.around(left, site.tensor if site.verdict != "folded" else ""),
    )


def _target(body: Body, site: FoldSite) -> onnx.NodeProto | None:
    """The operator that takes the affine in, by the names that it has before or after."""
    if site.target is None or site.verdict != "folded":
        return None
    kinds = {target.op_type for target in site.targets}
    kinds |= {"Gemm"} if "MatMul" in kinds else set()  # a product that got a bias
    names = (site.target, f"{site.target}_folded", f"{site.target}_product", site.tensor)
    for name in names:
        node = body.makers.get(name)
        if node is not None and node.op_type in kinds:
            return node
    return None


def _scale(body: Body, tensor: str) -> Spread | None:
    """The magnitudes of a site's factors, where they are constants that stand there."""
    node = body.makers.get(tensor)
    if node is None:
        return None
    if node.op_type == "BatchNormalization":
        return _normalizing(body, node)
    constants = [c for name in node.input if (c := body.constant(name)) is not None]
    if node.op_type not in {"Mul", "Div"} or len(constants) != 1:
        return None
    factor = np.abs(constants[0].astype(np.float64).ravel())
    if node.op_type == "Div":
        with np.errstate(divide="ignore"):
            factor = 1 / factor
    return _spread(factor)


def _normalizing(body: Body, node: onnx.NodeProto) -> Spread | None:
    gamma, variance = (body.constant(node.input[index]) for index in (1, 4))
    if gamma is None or variance is None:
        return None
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _spread(np.abs(gamma.astype(np.float64)) / np.sqrt(variance + float(epsilon)))


def _output_axis(node: onnx.NodeProto) -> int:
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return (0 if transposed else 1) if node.op_type == "Gemm" else OUTPUT_AXIS.get(node.op_type, 0)


def _magnitudes(array: Array, axis: int) -> Array:
    """The largest magnitude along all other axes, without a copy of the array."""
    others = tuple(i for i in range(array.ndim) if i != axis % array.ndim)
    highest = np.maximum(array.max(axis=others), -array.min(axis=others))
    return np.asarray(highest, np.float64)


def _spread(magnitudes: Array) -> Spread | None:
    finite = magnitudes[np.isfinite(magnitudes)]
    if not finite.size:
        return None
    return Spread(int(magnitudes.size), *map(float, np.percentile(finite, (0, 25, 50, 75, 100))))
