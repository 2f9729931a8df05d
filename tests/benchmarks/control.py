"""Can the benchmark be believed? A model against itself, and one of a known doubled cost.

    python tests/benchmarks/control.py [--runs 100] [--budget 2] [--threads 1]

Against itself, at most five runs of a hundred may claim a difference. Of two chains of the same
layers one is twice as long, and its cost is measured within five percent; both are claims about
the median machine, so the load of this one is printed beside them. Exits with 1 if either fails.
"""

from __future__ import annotations

import argparse
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bnfold import bench
from bnfold.timings import SpeedReport

CHANNELS, SIZE = 32, 28
WRONG = 0.05
"""Share of runs that may claim a difference where there is none; error allowed of a known one."""


def chain(layers: int) -> onnx.ModelProto:
    """So many equal layers of Conv and Relu, one after the other."""
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(CHANNELS, CHANNELS, 3, 3)) * 0.06).astype(np.float32)
    nodes, value = [], "x"
    for index in range(layers):
        nodes.append(helper.make_node("Conv", [value, "w"], [f"c{index}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        value = f"r{index}"
    shape = [1, CHANNELS, SIZE, SIZE]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", value)]
    graph = helper.make_graph(
        nodes, "chain", ports[:1], ports[1:], [numpy_helper.from_array(weight, "w")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def timed(original: onnx.ModelProto, candidate: onnx.ModelProto, seed: int) -> SpeedReport:
    return bench(
        original,
        candidate,
        levels=("all",),
        threads=options.threads,
        budget_s=options.budget,
        seed=seed,
    )


def against_itself() -> bool:
    """Whether few enough runs claim a difference between a model and itself."""
    model = chain(6)
    reports = [timed(model, model, seed) for seed in range(options.runs)]
    claimed = [r.speedup for r in reports if r.significant]
    unstable = sum(not r.primary.stable for r in reports)
    ratios = np.quantile([r.speedup for r in reports], (0.05, 0.5, 0.95))
    print(f"A model against itself, {options.runs} runs of {options.budget:g} s each")
    print(f"  no measurable difference  {options.runs - len(claimed)} of {options.runs}")
    print(f"  of these 'cannot tell'    {unstable}")
    print(f"  claimed                   {', '.join(f'×{r:.3f}' for r in claimed) or 'none'}")
    print("  median ratios             5 %, 50 %, 95 %: " + ", ".join(f"×{r:.3f}" for r in ratios))
    return len(claimed) <= WRONG * options.runs


def doubled() -> bool:
    """Whether twice the layers are measured as twice the time."""
    reports = [timed(chain(16), chain(8), seed) for seed in range(max(1, options.runs // 10))]
    ratios = np.array([r.speedup for r in reports])
    wrong = np.abs(ratios / 2 - 1)
    print(f"A chain of twice the layers, {len(reports)} runs")
    print(f"  measured                  ×{np.median(ratios):.3f}, worst error {wrong.max():.1%}")
    print(f"  within 5 %                {(wrong <= WRONG).sum()} of {len(reports)}")
    return bool(np.median(wrong) <= WRONG)


def main() -> int:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{cpus} CPUs{load}, {options.threads} thread(s)")
    answers = [against_itself(), doubled()]  # both are made, whatever the first one says
    return 0 if all(answers) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for each run")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    sys.exit(main())
