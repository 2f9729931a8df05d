"""What does a sweep cost? Two workers against one, and one worker against a plain loop.

    python tests/benchmarks/fleet.py [--models 24] [--rounds 2] [--samples 8]

Makes residual networks of a few sizes and folds and proves all of them in four ways, each model
with one thread: in a plain loop over `optimize`, which starts a process for each proof; in the
same loop with all in this process, where one crash would end it; by a sweep with one worker, whose
process stays for the next model; and by a sweep with two. The ways take turns, and each ratio is
of two times of one round. A sweep's first seconds, in which its processes import what they need,
are told apart: they count for a small fleet and not for a large one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

os.environ["BNFOLD_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np
import onnx
from onnx import numpy_helper, parser

import bnfold

BLOCK = """
    c{i} = Conv<pads=[1,1,1,1]>(r{h}, w{i})
    b{i} = BatchNormalization(c{i}, s{i}, t{i}, m{i}, v{i})
    a{i} = Add(b{i}, r{h})
    r{i} = Relu(a{i})"""


def network(blocks: int, width: int, seed: int) -> onnx.ModelProto:
    """Residual blocks of 3×3 convolutions on 32×32 pixels."""
    body = "".join(BLOCK.format(i=i, h=i - 1) for i in range(1, blocks + 1))
    shape = f"float[1,{width},32,32]"
    text = f"g ({shape} r0) => ({shape} r{blocks}) {{{body}\n}}"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    rng = np.random.default_rng(seed)
    for i in range(1, blocks + 1):
        weight = rng.normal(0, (2 / (9 * width)) ** 0.5, (width, width, 3, 3))
        arrays = {f"w{i}": weight, f"v{i}": rng.uniform(0.5, 2, width)}
        arrays |= {f"{n}{i}": rng.normal(size=width) for n in "stm"}
        for name, array in arrays.items():
            model.graph.initializer.append(numpy_helper.from_array(array.astype("f4"), name))
    return model


def make(folder: Path, count: int) -> list[Path]:
    """A fleet of so many models, of three sizes."""
    paths = [folder / f"net{index}.onnx" for index in range(count)]
    for index, path in enumerate(paths):
        onnx.save(network(4 + 4 * (index % 3), 32, index), path)
    return paths


def loop(paths: list[Path], target: Path, samples: int, *, isolate: bool) -> float:
    """Seconds of what anybody would write first."""
    target.mkdir()
    start = time.perf_counter()
    for path in paths:
        bnfold.optimize(path, target / path.name, bench=False, samples=samples, isolate=isolate)
    return time.perf_counter() - start


def sweep(source: Path, target: Path, workers: int, samples: int) -> tuple[float, float]:
    """Seconds of a whole sweep, and those until its first model was done.

    It is told of as many cores as workers: with more it would give each model several threads.
    """
    start = time.perf_counter()
    first = 0.0
    options = {"bench": False, "samples": samples, "workers": workers}
    with mock.patch("bnfold.fleet.schedule.usable_cores", return_value=workers):
        for record in bnfold.sweep(str(source), str(target), **options):
            assert record.outcome == "equivalent", record.failure
            first = first or time.perf_counter() - start
    return time.perf_counter() - start, first


def warm_up(path: Path, folder: Path) -> None:
    """What this process imports once is nobody's time."""
    bnfold.optimize(path, folder / "warm.onnx", bench=False, samples=1)
    sweep(path, folder / "warm", 1, 1)


def measure(paths: list[Path], target: Path, samples: int) -> dict[str, float]:
    """Seconds of each way, once."""
    source = paths[0].parent
    apart = loop(paths, target / "apart", samples, isolate=True)
    together = loop(paths, target / "together", samples, isolate=False)
    one, first_of_one = sweep(source, target / "one", 1, samples)
    two, first_of_two = sweep(source, target / "two", 2, samples)
    return {
        "loop": apart,
        "loop in one process": together,
        "one": one,
        "first model of one": first_of_one,
        "two": two,
        "first model of two": first_of_two,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--models", type=int, default=24)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--samples", type=int, default=8)
    options = arguments.parse_args()
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="bnfold-") as name:
        folder = Path(name)
        source = folder / "source"
        source.mkdir()
        paths = make(source, options.models)
        warm_up(paths[0], folder)
        for number in range(options.rounds):
            target = folder / f"round{number}"
            target.mkdir()
            rounds.append(measure(paths, target, options.samples))
            shutil.rmtree(target)
            told = ", ".join(f"{way} {seconds:.1f} s" for way, seconds in rounds[-1].items())
            print(f"{told}; load {os.getloadavg()[0]:.1f}", flush=True)
    print(f"{options.models} models, {os.cpu_count()} processors; medians of the rounds:")
    for way, other in (("two", "one"), ("one", "loop"), ("one", "loop in one process")):
        ratio = statistics.median(seconds[other] / seconds[way] for seconds in rounds)
        print(f"{way} against {other}: ×{ratio:.2f}")


if __name__ == "__main__":
    main()
