"""What does folding cost beside reading and writing the file? A ResNet-50 of 100 MB.

    python tests/benchmarks/resnet50.py [--rounds 5] [--profile]

Prints the median seconds of `onnx.load` + `onnx.save`, of `onnx.load` + `bnfold.fold` + save, and
the ratio of the two, measured in turns. The goal is a ratio of at most 2.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnx
from maker import Maker
from onnx import TensorProto, helper

from bnfold import fold

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Width, blocks and first stride of the four stages (He et al. 2015, table 1)."""


class ResNet(Maker):
    """A residual network, block by block."""

    def conv_bn(self, x: str, fan_in: int, out: int, kernel: int, stride: int = 1) -> str:
        """A convolution and its batch normalization."""
        pads = [kernel // 2] * 4
        weight = self.weight(out, fan_in, kernel, kernel)
        h = self.node("Conv", x, weight, pads=pads, strides=[stride, stride])
        return self.node("BatchNormalization", h, *(self.weight(out) for _ in range(4)))

    def bottleneck(self, x: str, fan_in: int, width: int, stride: int) -> str:
        """1x1, 3x3, 1x1, and the shortcut."""
        h = self.node("Relu", self.conv_bn(x, fan_in, width, 1))
        h = self.node("Relu", self.conv_bn(h, width, width, 3, stride))
        h = self.conv_bn(h, width, 4 * width, 1)
        if stride != 1 or fan_in != 4 * width:
            x = self.conv_bn(x, fan_in, 4 * width, 1, stride)
        return self.node("Relu", self.node("Add", h, x))


def resnet50() -> onnx.ModelProto:
    """The network with random weights: 53 BatchNormalizations, 25.6 million parameters."""
    m = ResNet()
    x = m.node("Relu", m.conv_bn("x", 3, 64, 7, 2))
    x = m.node("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    fan_in = 64
    for width, blocks, stride in STAGES:
        for block in range(blocks):
            x = m.bottleneck(x, fan_in, width, stride if block == 0 else 1)
            fan_in = 4 * width
    x = m.node("Flatten", m.node("GlobalAveragePool", x))
    y = m.node("Gemm", x, m.weight(1000, fan_in), m.weight(1000), transB=1)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 224, 224])]
    outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["N", 1000])]
    graph = helper.make_graph(m.nodes, "resnet50", inputs, outputs, m.weights)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9)


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Measure in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="the dearest functions at the end")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "resnet50.onnx", Path(folder) / "out.onnx"
        onnx.save(resnet50(), source)
        print(f"{source.stat().st_size / 1e6:.1f} MB")

        def copy() -> None:
            onnx.save(onnx.load(source), target)

        def folded() -> None:
            result = fold(source)
            assert not any(n.op_type == "BatchNormalization" for n in result.model.graph.node)
            onnx.save(result.model, target)

        copies, folds = [], []
        for _ in range(arguments.rounds):
            copies.append(timed(copy))
            folds.append(timed(folded))
        ratios = [b / a for a, b in zip(copies, folds, strict=True)]
        print(f"load + save         {statistics.median(copies):.3f} s")
        print(f"load + fold + save  {statistics.median(folds):.3f} s")
        print(f"ratio               {statistics.median(ratios):.2f} (goal: at most 2)")
        if arguments.profile:
            profile = cProfile.Profile()
            profile.runcall(folded)
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
