"""What does ONNX Runtime fold by itself? Read off the graph that it makes of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from bnfold.errors import BnfoldError
from bnfold.nesting import nodes_within
from bnfold.runtime import open_session
from bnfold.scratch import scratch_folder

Model = onnx.ModelProto | str | Path


@dataclass(frozen=True, slots=True)
class OwnFolds:
    """How many BatchNormalization nodes there are, and how many of them the runtime leaves."""

    nodes: int
    left: int | None
    """None where the runtime does not tell; then `problem` says why."""
    problem: str = ""

    @property
    def any(self) -> bool:
        """Whether the runtime folds any of them."""
        return self.left is not None and self.left < self.nodes

    @property
    def sentence(self) -> str:
        """The same in plain words."""
        if self.nodes == 0:
            return "The original has no BatchNormalization node that ONNX Runtime could fold."
        if self.left is None:
            return f"What ONNX Runtime folds by itself is not known: {self.problem}"
        nodes = f"BatchNormalization node{'s' if self.nodes > 1 else ''}"
        if not self.any:
            what = f"folds none of the {self.nodes}" if self.nodes > 1 else "does not fold the one"
            return f"ONNX Runtime {what} {nodes} by itself."
        if self.left == 0:
            what = f"all {self.nodes}" if self.nodes > 1 else "the one"
            return (
                f"ONNX Runtime folds {what} {nodes} by itself at its default level; there, what "
                "is gained comes from elsewhere."
            )
        return (
            f"ONNX Runtime folds {self.nodes - self.left} of the {self.nodes} BatchNormalization "
            f"nodes by itself at its default level; {self.left} it cannot fold."
        )


def own_folds(model: Model, loaded: onnx.ModelProto) -> OwnFolds:
    """What the runtime folds of a model; `loaded` is the same model.

    Looked up at level "extended": "all" rewrites the nodes that were not folded into depthwise
    convolutions of its blocked layout, where they cannot be told from folded ones.
    """
    nodes = count(loaded.graph)
    if nodes == 0:
        return OwnFolds(0, 0)
    try:
        with scratch_folder() as folder:
            path = folder / "optimized.onnx"
            open_session(model, level="extended", save_optimized=path)
            return OwnFolds(nodes, count(onnx.load(path, load_external_data=False).graph))
    except BnfoldError as error:
        return OwnFolds(nodes, None, str(error))


def count(graph: onnx.GraphProto) -> int:
    """BatchNormalization nodes in a graph and its subgraphs."""
    return sum(node.op_type == "BatchNormalization" for node in nodes_within(graph))
