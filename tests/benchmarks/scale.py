"""Does the time of a fold grow linearly with the model? Chains of many kinds, doubled twice.

    python tests/benchmarks/scale.py [--sizes 2500 5000] [--kinds chain ...] [--profile]

Prints for each kind and size: nodes, BatchNormalizations before and after, CPU seconds of `fold`,
the ratio to the size before (about 2 where time is linear), and the peak of memory that Python
held beyond the model. Weights are tiny: what is measured is the graph, not arithmetic.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import onnx
from maker import Maker
from onnx import TensorProto, helper, numpy_helper

from bnfold import fold

CHANNELS = 2


class Chain(Maker):
    """A growing model of values of shape (1, CHANNELS, 4, 4); its weights are about 1."""

    def weight(self, *shape: int, low: float = 0.9, high: float = 1.1) -> str:
        """An initializer of values that a long product neither blows up nor lets vanish."""
        return super().weight(*shape, low=low, high=high)

    def condition(self) -> str:
        """A constant that chooses between two subgraphs."""
        if not any(tensor.name == "condition" for tensor in self.weights):
            self.weights.append(numpy_helper.from_array(np.array(True), "condition"))
        return "condition"

    def conv(self, x: str, channels_in: int = CHANNELS) -> str:
        """A 1x1 convolution to CHANNELS channels."""
        return self.node("Conv", x, self.weight(CHANNELS, channels_in, 1, 1))

    def norm(self, x: str, channels: int = CHANNELS) -> str:
        """A batch normalization."""
        return self.node("BatchNormalization", x, *(self.weight(channels) for _ in range(4)))

    def model(self, output: str) -> onnx.ModelProto:
        """The model with one input and one output."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, 4, 4])
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "scale", [x], [y], self.weights)
        opset = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opset, ir_version=9)


Block = Callable[[Chain, str], str]


def chain(m: Chain, x: str) -> str:
    """Conv, BN, Relu, pool: every BN folds into its neighbour."""
    x = m.node("Relu", m.norm(m.conv(x)))
    return m.node("MaxPool", x, kernel_shape=[1, 1])


def stuck(m: Chain, x: str) -> str:
    """A BN between two operators without rules: nothing folds."""
    x = m.norm(m.node("Sigmoid", x))
    return m.node("Tanh", m.node("Sigmoid", x))


def walks(m: Chain, x: str) -> str:
    """BNs that can go nowhere, behind long stretches of operators that would carry them."""
    x = m.norm(m.node("Identity", m.node("Identity", x)))
    return m.node("Identity", x) if len(m.nodes) % 300 > 3 else m.node("Sigmoid", x)


def stacked(m: Chain, x: str) -> str:
    """BN on BN on BN behind one Conv in a hundred: every BN folds into the next."""
    x = m.conv(x) if len(m.nodes) % 100 == 0 else m.norm(x)
    return m.norm(m.norm(m.norm(x)))


def residual(m: Chain, x: str) -> str:
    """The residual block of ResNet: the shortcut makes the value shared."""
    return m.node("Relu", m.node("Add", m.norm(m.conv(x)), x))


def preactivation(m: Chain, x: str) -> str:
    """BN, Relu, Conv, Add: the search asks all readers of the shortcut, block after block."""
    return m.node("Add", m.conv(m.node("Relu", m.norm(x))), x)


def dense(m: Chain, x: str) -> str:
    """DenseNet: each BN stands on the Concat of all before it, in groups of 32 layers."""
    features = [x]
    for _ in range(32):
        joined = m.node("Concat", *features, axis=1) if len(features) > 1 else x
        width = CHANNELS * len(features)
        features.append(m.conv(m.node("Relu", m.norm(joined, width)), width))
    return m.conv(m.node("Concat", *features, axis=1), CHANNELS * len(features))


def wide(m: Chain, x: str) -> str:
    """One BN on the Concat of 64 convolutions: one fold into many."""
    branches = [m.node("Relu", m.conv(x)) for _ in range(32)]
    branches += [m.conv(x) for _ in range(32)]
    joined = m.node("Concat", *branches, axis=1)
    return m.conv(m.norm(joined, 64 * CHANNELS), 64 * CHANNELS)


def decomposed(m: Chain, x: str) -> str:
    """A batch normalization written out as Mul and Add."""
    x = m.node("Mul", m.conv(x), m.weight(CHANNELS, 1, 1))
    return m.node("Relu", m.node("Add", x, m.weight(CHANNELS, 1, 1)))


def transposed(m: Chain, x: str) -> str:
    """A BN between two Transposes, which go with it."""
    x = m.node("Transpose", m.conv(x), perm=[0, 1, 3, 2])
    return m.node("Relu", m.node("Transpose", m.norm(x), perm=[0, 1, 3, 2]))


def signs(m: Chain, x: str) -> str:
    """Nothing but changes of sign, which go nowhere: every walk is long and in vain."""
    return m.node("Neg", x)


def factors(m: Chain, x: str) -> str:
    """Constants one after the other, which all end in one weight; its own name must not grow."""
    x = m.conv(x) if not m.nodes else x
    return m.node("Add", m.node("Mul", x, m.weight(CHANNELS, 1, 1)), m.weight(CHANNELS, 1, 1))


def bodies(m: Chain, x: str) -> str:
    """A subgraph at every node: inference hands each of them all names before it."""
    graphs = {}
    for branch in ("then_branch", "else_branch"):
        name = f"t{len(m.nodes)}_{branch}"
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        graphs[branch] = helper.make_graph(
            [helper.make_node("Relu", [x], [name])], "g", [], [output]
        )
    return m.node("If", m.condition(), **graphs)


KINDS: dict[str, Block] = {
    f.__name__: f
    for f in (
        chain, stuck, walks, stacked, residual, preactivation, dense, wide, decomposed, transposed,
        signs, factors, bodies,
    )
}  # fmt: skip


def make(kind: str, size: int) -> onnx.ModelProto:
    """A model of at least so many nodes."""
    maker = Chain()
    x = "x"
    while len(maker.nodes) < size:
        x = KINDS[kind](maker, x)
    return maker.model(x)


def count(model: onnx.ModelProto, op_type: str = "BatchNormalization") -> int:
    """The nodes of a type."""
    return sum(node.op_type == op_type for node in model.graph.node)


def measure(kind: str, sizes: list[int], *, memory: bool) -> None:
    """One kind in all sizes."""
    before = None
    for size in sizes:
        model = make(kind, size)
        if memory:
            tracemalloc.start()
        start = time.process_time()
        folded = fold(model).model
        seconds = time.process_time() - start
        peak = ""
        if memory:
            peak = f"{tracemalloc.get_traced_memory()[1] / 2**20:8.1f} MiB"
            tracemalloc.stop()
        ratio = f"x{seconds / before:5.2f}" if before else "      "
        print(
            f"{kind:14} {len(model.graph.node):7} nodes  {count(model):6} -> {count(folded):6} BN"
            f"  {seconds:7.2f} s  {ratio}  {1e6 * seconds / len(model.graph.node):6.0f} us/node"
            f"  {peak}",
            flush=True,
        )
        before = seconds


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2500, 5000, 10_000, 20_000])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--memory", action="store_true", help="trace memory, which slows it down")
    parser.add_argument("--profile", action="store_true", help="the dearest functions at the end")
    arguments = parser.parse_args()
    profile = cProfile.Profile()
    if arguments.profile:
        profile.enable()
    for kind in arguments.kinds:
        measure(kind, arguments.sizes, memory=arguments.memory)
    if arguments.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
