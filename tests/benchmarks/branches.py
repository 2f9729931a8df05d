"""Is a folded multi-branch network as fast as its deploy form? Both beside the original.

    python tests/benchmarks/branches.py [NETWORK ...] [--rounds 30] [--threads 1]
    python tests/benchmarks/branches.py --pair train.onnx deploy.onnx

NETWORK: repvgg_a0, mobileone_s0, repmixer (all three where none is named). They are built by
hand, each in two forms that share nothing but their random weights: the training form with all
branches and normalizations, and the deploy form, whose kernels are computed here as the papers
say. `--pair` takes any two files instead, for example what a library exports before and after its
own re-parameterization.

Prints nodes, the largest difference of the outputs, and milliseconds with all of ONNX Runtime's
optimizations on, the median and the fastest; then ratios of interleaved rounds with their
quartiles, and of the fastest runs: original to folded (the gain), folded to deploy (the goal is
within 3 %), and deploy to itself (the noise). On a busy machine only the fastest runs tell.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import bnfold

EPSILON = 1e-5
Array = np.ndarray


@dataclass
class Model:
    """Nodes and weights of one form of a network."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)

    def node(self, op_type: str, *inputs: str | Array, **attributes: object) -> str:
        """A node; arrays become initializers. The name of its output."""
        names = [i if isinstance(i, str) else self.weight(i) for i in inputs]
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, names, [name], **attributes))
        return name

    def weight(self, array: Array) -> str:
        """An initializer."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def finish(self, output: str, size: int) -> onnx.ModelProto:
        """The model for an image of this size."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size])
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "branches", [x], [y], self.weights)
        opset = helper.make_opsetid("", 17)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)


@dataclass
class Norm:
    """A batch normalization: five numbers a channel, and what it is as scale and shift."""

    parameters: list[Array]

    @property
    def affine(self) -> tuple[Array, Array]:
        """`gamma / sqrt(var + epsilon)`, `beta - mean * scale`."""
        gamma, beta, mean, var = self.parameters
        scale = gamma / np.sqrt(var + EPSILON)
        return scale, beta - mean * scale


@dataclass
class Network:
    """Both forms of a network, grown block by block."""

    size: int
    train: Model = field(default_factory=Model)
    deploy: Model = field(default_factory=Model)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    ends: tuple[str, str] = ("x", "x")

    def norm(self, channels: int, gain: float) -> Norm:
        """Random statistics; some gammas are negative."""
        gamma = gain * self.rng.uniform(0.5, 1.5, channels)
        gamma *= np.where(self.rng.random(channels) < 0.05, -1, 1)
        beta, mean = self.rng.normal(0, 0.1, (2, channels))
        return Norm([gamma, beta, mean, self.rng.uniform(0.5, 2, channels)])

    def both(self, op_type: str, *inputs: Array, **attributes: object) -> None:
        """A node that is the same in both forms."""
        first, second = self.ends
        self.ends = (
            self.train.node(op_type, first, *inputs, **attributes),
            self.deploy.node(op_type, second, *inputs, **attributes),
        )

    def block(
        self, channels: int, out: int, group: int, kernels: Iterable[int], stride: int
    ) -> None:
        """One convolution in the deploy form; in training one for each kernel, and the input's
        normalization where nothing changes size."""
        kernels = list(kernels)
        largest, x = max(kernels), self.ends[0]
        shape = (out, channels // group, largest, largest)
        weight, bias = np.zeros(shape), np.zeros(out)
        branches = []
        gain = (len(kernels) + 1) ** -0.5
        for kernel in kernels:
            pad, edge = kernel // 2, (largest - kernel) // 2
            fan_in = shape[1] * kernel**2
            w = self.rng.normal(0, (2 / fan_in) ** 0.5, (*shape[:2], kernel, kernel))
            conv = self.train.node("Conv", x, w, pads=[pad] * 4, strides=[stride] * 2, group=group)
            norm = self.norm(out, gain)
            branches.append(self.train.node("BatchNormalization", conv, *norm.parameters))
            scale, shift = norm.affine
            inner = slice(edge, edge + kernel)
            weight[:, :, inner, inner] += w * scale[:, None, None, None]
            bias += shift
        if stride == 1 and channels == out:
            norm = self.norm(out, gain)
            branches.append(self.train.node("BatchNormalization", x, *norm.parameters))
            scale, shift = norm.affine
            rows = np.arange(out)
            weight[rows, rows % shape[1], largest // 2, largest // 2] += scale
            bias += shift
        total = branches[0]
        for branch in branches[1:]:
            total = self.train.node("Add", total, branch)
        attributes = {"pads": [largest // 2] * 4, "strides": [stride] * 2, "group": group}
        self.ends = (total, self.deploy.node("Conv", self.ends[1], weight, bias, **attributes))

    def models(self) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """Both forms with a classifier."""
        self.both("GlobalAveragePool")
        self.both("Flatten")
        return self.train.finish(self.ends[0], self.size), self.deploy.finish(
            self.ends[1], self.size
        )


def repvgg_a0() -> Network:
    """Ding et al. 2021: 3x3, 1x1 and the identity; widths of A0."""
    network = Network(224)
    channels = 3
    for out, blocks in ((48, 1), (48, 2), (96, 4), (192, 14), (1280, 1)):
        for index in range(blocks):
            network.block(channels, out, 1, (3, 1), 2 if index == 0 else 1)
            network.both("Relu")
            channels = out
    return network


def mobileone_s0() -> Network:
    """Vasu et al. 2022: four copies of each convolution, a 1x1 beside the depthwise ones."""
    network = Network(224)
    network.block(3, 48, 1, (3, 3, 3, 3, 1), 2)
    network.both("Relu")
    channels = 48
    for out, blocks in ((48, 2), (128, 8), (256, 10), (1024, 1)):
        for index in range(blocks):
            network.block(channels, channels, channels, (3, 3, 3, 3, 1), 2 if index == 0 else 1)
            network.both("Relu")
            network.block(channels, out, 1, (1, 1, 1, 1), 1)
            network.both("Relu")
            channels = out
    return network


def repmixer() -> Network:
    """Vasu et al. 2023: the stem of FastViT-T8 and mixers `x + g * (branches(x) - norm(x))`."""
    network = Network(256)
    network.block(3, 48, 1, (3, 1), 2)
    network.both("Relu")
    network.block(48, 48, 48, (3, 1), 2)
    network.both("Relu")
    for _ in range(6):
        mixer(network, 48)
        network.block(48, 48, 1, (1,), 1)
        network.both("Relu")
    return network


def mixer(network: Network, channels: int) -> None:
    """One token mixer of FastViT."""
    x = network.ends
    network.block(channels, channels, channels, (3, 1), 1)
    norm = network.norm(channels, 0.5)
    gamma = network.rng.uniform(0.1, 0.5, (channels, 1, 1))
    other = network.train.node("BatchNormalization", x[0], *norm.parameters)
    difference = network.train.node("Sub", network.ends[0], other)
    scaled = network.train.node("Mul", gamma, difference)
    merged = network.deploy.nodes.pop()
    weight, bias = (
        numpy_helper.to_array(next(t for t in network.deploy.weights if t.name == name)).astype(
            float
        )
        for name in merged.input[1:]
    )
    scale, shift = norm.affine
    weight = gamma[..., None] * weight
    weight[:, 0, 1, 1] += 1 - gamma[:, 0, 0] * scale
    bias = gamma[:, 0, 0] * (bias - shift)
    attributes = {"pads": [1] * 4, "group": channels}
    network.ends = (
        network.train.node("Add", x[0], scaled),
        network.deploy.node("Conv", x[1], weight, bias, **attributes),
    )


NETWORKS: dict[str, Callable[[], Network]] = {
    "repvgg_a0": repvgg_a0,
    "mobileone_s0": mobileone_s0,
    "repmixer": repmixer,
}


# ---------------------------------------------------------------------- measuring


def session(model: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    """With all optimizations on."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def measure(
    name: str, train: onnx.ModelProto, deploy: onnx.ModelProto, rounds: int, threads: int
) -> None:
    """One line for each form, and the ratios."""
    start = time.perf_counter()
    folded = bnfold.fold(train).model
    seconds = time.perf_counter() - start
    forms = {"original": train, "folded": folded, "deploy": deploy, "again": deploy}
    sessions = {form: session(model, threads) for form, model in forms.items()}
    info = next(iter(sessions["original"].get_inputs()))
    shape = [d if isinstance(d, int) else 1 for d in info.shape]
    x = {info.name: np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    outputs = {form: s.run(None, x)[0] for form, s in sessions.items()}
    times: dict[str, list[float]] = {form: [] for form in forms}
    shuffle = random.Random(0)
    for index in range(rounds + 3):
        for form in shuffle.sample(list(forms), len(forms)):
            start = time.perf_counter()
            sessions[form].run(None, x)
            if index >= 3:
                times[form].append(1000 * (time.perf_counter() - start))
    print(f"{name}: {threads} thread(s), {rounds} rounds, folded in {seconds:.2f} s")
    scale = np.abs(outputs["original"]).max()
    for form in ("original", "folded", "deploy"):
        nodes = sum(
            node.op_type not in ("Constant", "Identity") for node in forms[form].graph.node
        )
        error = np.abs(outputs[form] - outputs["original"]).max() / scale
        median = statistics.median(times[form])
        fastest = min(times[form])
        print(
            f"  {form:9} {nodes:5} nodes  median {median:8.2f} ms  fastest {fastest:8.2f} ms"
            f"  difference {error:.0e}"
        )
    for over, under in (
        ("original", "folded"),
        ("original", "deploy"),
        ("folded", "deploy"),
        ("again", "deploy"),
    ):
        ratios = [a / b for a, b in zip(times[over], times[under], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        best = min(times[over]) / min(times[under])
        print(f"  {over} / {under}: {middle:.3f} [{low:.3f}, {high:.3f}], fastest {best:.3f}")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", metavar="NETWORK", choices=[[], *NETWORKS])
    parser.add_argument("--pair", nargs=2, type=Path, metavar=("TRAIN", "DEPLOY"))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.pair:
        train, deploy = map(onnx.load, options.pair)
        measure(options.pair[0].stem, train, deploy, options.rounds, options.threads)
        return
    for name in options.networks or NETWORKS:
        train, deploy = NETWORKS[name]().models()
        measure(name, train, deploy, options.rounds, options.threads)


if __name__ == "__main__":
    main()
