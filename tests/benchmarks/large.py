"""What does folding a large model take? Seconds and peak memory, beside what others take.

    python tests/benchmarks/large.py [--external 4] [--embedded 1.5] [--folder .]

Makes two models, one with its weights in a data file and one with them inside (sizes in GB; 0
leaves one out), and gives each to bnfold, to a copy, to `onnx.load` and `onnx.save`, to OnnxSlim
and to onnxscript's optimizer, every one in a process of its own with the file in the system's
cache. Time is from the import of the library to the file being on the disk; memory is the peak
that the system tells of the process, the interpreter and its libraries included. It needs about
three times the larger size on disk, and OnnxSlim and onnxscript installed.

The network is drawn once and tuned to nobody: convolutions, Gemm and MatMul, most with a
BatchNormalization behind or in front of them, some with none, and some BatchNormalizations that
nobody can fold. `--quick` makes both a hundredth as large.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

MEMORY = 12e9
"""Bytes that a process may take, beside the files that it maps."""
PATIENCE_S = 900.0
GOALS = {
    "external": "goal: memory at most 0.3 GB + 3 times the largest tensor, time at most 3 copies",
    "embedded": "goal: memory at most 2.5 times the file, time at most 1.5 times onnx",
}


# -- the network --------------------------------------------------------------------------------


class Maker:
    """Nodes and weights of a growing network; large weights go straight to the data file."""

    def __init__(self, size: float, data: Path) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self.rng = np.random.default_rng(7)
        self.width = max(64, int((size / 256) ** 0.5) // 64 * 64)
        self.budget = size
        self.largest = 0
        self.location = data.name
        self.file = data.open("wb")

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """A node; the name of its output."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def weight(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        """An initializer of random values, in the data file."""
        name = f"w{len(self.weights)}"
        count = int(np.prod(shape))
        self.file.seek(-self.file.tell() % 4096, os.SEEK_CUR)
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": self.location, "offset": self.file.tell(), "length": 4 * count}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        scale = np.float32((3 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 1.0)
        for start in range(0, count, 1 << 22):
            block = self.rng.random(min(1 << 22, count - start), np.float32)
            self.file.write((scale * (np.float32(low) + np.float32(high - low) * block)).tobytes())
        self.weights.append(tensor)
        self.largest = max(self.largest, 4 * count)
        self.budget -= 4 * count
        return name

    def normalized(self, x: str, channels: int) -> str:
        """Behind a BatchNormalization."""
        scale, variance = (self.weight(channels, low=0.5, high=2.0) for _ in range(2))
        shift, mean = (self.weight(channels) for _ in range(2))
        return self.node("BatchNormalization", x, scale, shift, mean, variance)

    def residual(self, x: str, channels: int) -> str:
        """Conv, BN, Relu twice, a BN of the sum that a Relu and the next sum read."""
        for kernel in (3, 1):
            weight = self.weight(channels, channels, kernel, kernel)
            h = self.node("Conv", x, weight, pads=[kernel // 2] * 4)
            h = self.node("Relu", self.normalized(h, channels))
        h = self.node("Add", h, x)
        return self.node("Add", h, self.node("Relu", self.normalized(h, channels)))

    def dense(self, x: str, width: int, kind: int) -> str:
        """A wide product and one back; a BN behind, in front, or nowhere."""
        if kind == 0:
            h = self.node("MatMul", x, self.weight(width, 4 * width))
            h = self.node("Relu", self.normalized(h, 4 * width))
        elif kind == 1:
            h = self.node("Gemm", self.normalized(x, width), self.weight(width, 4 * width))
            h = self.node("Sigmoid", h)
        else:
            h = self.node("Tanh", self.node("MatMul", x, self.weight(width, 4 * width)))
        h = self.node("Gemm", h, self.weight(width, 4 * width), self.weight(width), transB=1)
        return self.node("Relu", self.normalized(h, width) if kind != 2 else h)


def make(path: Path, gigabytes: float, *, external: bool) -> dict[str, Any]:
    """Write the network; what there is to know of it."""
    data = path.with_name(f"{path.name}.data")
    maker = Maker(1e9 * gigabytes, data)
    channels = max(32, maker.width // 4)
    x = maker.node("Conv", "x", maker.weight(channels, 3, 3, 3), pads=[1] * 4)
    for _ in range(4):
        x = maker.residual(maker.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), channels)
    x = maker.node("Flatten", maker.node("GlobalAveragePool", x))
    x = maker.node("Gemm", x, maker.weight(channels, maker.width))
    step, kind = 32 * maker.width**2, 0
    while maker.budget > step / 2:
        x, kind = maker.dense(x, maker.width, kind % 3), kind + 1
    maker.file.close()
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32])]
    outputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["N", maker.width])]
    graph = helper.make_graph(maker.nodes, "large", inputs, outputs, maker.weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    if not external:
        whole = onnx.load(path)
        onnx.save(whole, path)
        data.unlink()
    return {"bytes": sum(p.stat().st_size for p in files(path)), "largest": maker.largest}


def files(path: Path) -> list[Path]:
    """A model and its data file, where it has one."""
    return sorted(path.parent.glob(f"{path.name}*"))


# -- the tools, in their own processes ----------------------------------------------------------


def run_copy(source: Path, target: Path) -> None:
    for file in files(source):
        shutil.copyfile(file, target.parent / file.name)


def run_onnx(source: Path, target: Path) -> None:
    save_as(onnx.load(source), source, target)


def save_as(model: onnx.ModelProto, source: Path, target: Path) -> None:
    """Save a model in the way of the source."""
    if len(files(source)) > 1:
        onnx.save(model, target, save_as_external_data=True, location=f"{target.name}.data")
    else:
        onnx.save(model, target)


def run_bnfold(source: Path, target: Path) -> None:
    import bnfold

    bnfold.fold(source).save(target)


def run_inspect(source: Path, target: Path) -> None:
    import bnfold

    bnfold.inspect(source)


def run_onnxslim(source: Path, target: Path) -> None:
    import onnxslim

    onnxslim.slim(str(source), str(target), save_as_external_data=len(files(source)) > 1)


def run_onnxscript(source: Path, target: Path) -> None:
    import onnx_ir
    from onnxscript import optimizer, rewriter

    model = onnx_ir.load(source)
    model = rewriter.rewrite(optimizer.optimize(model))
    data = f"{target.name}.data" if len(files(source)) > 1 else None
    onnx_ir.save(model, target, external_data=data)


TOOLS: dict[str, Callable[[Path, Path], None]] = {
    "copy": run_copy,
    "onnx load and save": run_onnx,
    "bnfold": run_bnfold,
    "bnfold, inspect only": run_inspect,
    "onnxslim": run_onnxslim,
    "onnxscript": run_onnxscript,
}


def task(name: str, source: Path, target: Path) -> None:
    """One tool on one model, in this process; the figures as JSON on standard output."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(MEMORY), int(MEMORY)))
    start = time.perf_counter()
    TOOLS[name](source, target)
    for file in files(target):
        with file.open("rb") as written:
            os.fsync(written.fileno())
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "cpu": time.process_time(), "peak": peak()}))


def peak() -> int:
    """Bytes that this process held at most; `getrusage` tells its parent's where that is more."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def figures(name: str, source: Path, folder: Path) -> dict[str, Any]:
    """What a tool took, and how many normalizations it left; or why it did not end well."""
    target = folder / source.name
    for file in files(source):  # into the system's cache
        with file.open("rb") as read:
            while read.read(1 << 24):
                pass
    os.sync()
    command = [sys.executable, __file__, "--task", name, str(source), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            return {"failed": (lines or [f"exit code {done.returncode}"])[-1][:160]}
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if files(target):
            left = onnx.load(target, load_external_data=False).graph.node
            result["left"] = sum(node.op_type == "BatchNormalization" for node in left)
        return result
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {PATIENCE_S:g} s"}
    finally:
        for file in files(target):
            file.unlink()


# -- the table ----------------------------------------------------------------------------------


def report(kind: str, gigabytes: float, parent: Path, tools: list[str]) -> None:
    """Make one model, give it to every tool, and print a table."""
    with (
        tempfile.TemporaryDirectory(dir=parent) as name,
        tempfile.TemporaryDirectory(dir=parent) as results,
    ):
        source = Path(name, f"{kind}.onnx")
        # In a process of its own: a peak of this one would count as one of those it starts.
        command = [sys.executable, __file__, "--make", str(source), str(gigabytes), kind]
        known = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        nodes = onnx.load(source, load_external_data=False).graph.node
        count = sum(node.op_type == "BatchNormalization" for node in nodes)
        print(
            f"{kind}: {known['bytes'] / 1e9:.2f} GB, the largest tensor "
            f"{known['largest'] / 1e6:.0f} MB, {len(nodes)} nodes, {count} BatchNormalization"
        )
        titles = ("seconds", "of copy", "CPU s", "peak GB", "of file", "BN left")
        print(f"  {'':22}" + "".join(f"{title:>9}" for title in titles))
        copy = None
        for tool in tools:
            found = figures(tool, source, Path(results))
            if "failed" in found:
                print(f"  {tool:22} {found['failed']}", flush=True)
                continue
            copy = copy or found["seconds"]
            print(
                f"  {tool:22}{found['seconds']:9.2f}{found['seconds'] / copy:9.2f}"
                f"{found['cpu']:9.2f}"
                f"{found['peak'] / 1e9:9.2f}{found['peak'] / known['bytes']:9.2f}"
                f"{found.get('left', ''):>9}",
                flush=True,
            )
        print(f"  {GOALS[kind]}", flush=True)


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--external", type=float, default=4.0, metavar="GB")
    parser.add_argument("--embedded", type=float, default=1.5, metavar="GB")
    parser.add_argument("--quick", action="store_true", help="a hundredth of both sizes")
    parser.add_argument("--folder", type=Path, default=None, help="where the files are made")
    parser.add_argument("--tool", action="append", choices=TOOLS, help="only these")
    parser.add_argument("--task", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        path, size, kind = arguments.make
        print(json.dumps(make(Path(path), float(size), external=kind == "external")))
        return
    if arguments.task:
        name, source, target = arguments.task
        task(name, Path(source), Path(target))
        return
    part = 0.01 if arguments.quick else 1.0
    for kind in ("external", "embedded"):
        size = part * getattr(arguments, kind)
        if size:
            report(kind, size, arguments.folder, arguments.tool or list(TOOLS))


if __name__ == "__main__":
    main()
