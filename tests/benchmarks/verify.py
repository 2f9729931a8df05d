"""What does a proof cost? Time and peak memory of `verify` on a ResNet-50 of 100 MB.

    python tests/benchmarks/verify.py [--samples 4]

Each step runs in a process of its own, so that its peak memory is its own. Prints seconds, the
peak in MB beyond what the imports hold, and both as ratios: time to that of running both models
and the folded one at both levels (what any comparison of the two has to do), memory to the file.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from resnet50 import resnet50

import bnfold
from bnfold.runtime import open_session

MB = 1e6
SHAPE = (1, 3, 224, 224)
Paths = tuple[Path, Path]


def calm() -> onnx.ModelProto:
    """The network with weights that keep activations finite: zero mean, He's deviation."""
    model = resnet50()
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            array = numpy_helper.to_array(tensor)
            array = (array - array.mean()) / array.std() * np.sqrt(2 / np.prod(array.shape[1:]))
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))
    return model


def peak() -> float:
    """The most memory that this process, and the child that runs the sessions, have held."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    held = sum(resource.getrusage(one).ru_maxrss for one in who)
    return held * (1.0 if sys.platform == "darwin" else 1024.0)


def make(paths: Paths, samples: int) -> None:
    """Both files. Here too in a process of its own: on Linux a peak is inherited."""
    onnx.save(calm(), paths[0])
    bnfold.fold(paths[0]).save(paths[1])


def load(paths: Paths, samples: int) -> None:
    """Both models as protobufs, as a reference of memory."""
    assert all(onnx.load(path).graph.node for path in paths)


def run(paths: Paths, samples: int) -> None:
    """The original and the candidate at the levels that a proof needs, and nothing else."""
    x = np.random.default_rng(0).standard_normal((samples, *SHAPE)).astype(np.float32)
    for path, level in ((0, "disable"), (1, "disable"), (1, "all"), (0, "all")):
        session = open_session(paths[path], level=level)  # type: ignore[arg-type]
        for one in x:
            session.run({session.inputs[0].name: one})


def verify(paths: Paths, samples: int) -> None:
    """The proof."""
    rng = np.random.default_rng(0)
    name = onnx.load(paths[0], load_external_data=False).graph.input[0].name
    data = [{name: rng.standard_normal(SHAPE).astype(np.float32)} for _ in range(samples)]
    report = bnfold.verify(*paths, data=data)
    assert report
    print(report.judge, *report.notes, file=sys.stderr)


STEPS: dict[str, Callable[[Paths, int], None]] = {f.__name__: f for f in (make, load, run, verify)}


def measured(name: str, paths: Paths, samples: int) -> dict[str, float]:
    """One step in a process of its own."""
    command = [sys.executable, __file__, "--step", name, *map(str, paths)]
    command += ["--samples", str(samples)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if done.stderr.strip():
        print(f"  {name}: {done.stderr.strip()}")
    return dict(json.loads(done.stdout))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step is not None:
        name, *files = options.step
        before, start = peak(), time.perf_counter()
        paths = (Path(files[0]), Path(files[1]))
        STEPS[name](paths, options.samples)
        facts = {"seconds": time.perf_counter() - start, "peak": peak() - before}
        print(json.dumps(facts))
        return
    with tempfile.TemporaryDirectory() as folder:
        original, folded = Path(folder, "original.onnx"), Path(folder, "folded.onnx")
        measured("make", (original, folded), options.samples)
        size = original.stat().st_size
        print(f"ResNet-50, {size / MB:.0f} MB, {options.samples} samples")
        table = {
            name: measured(name, (original, folded), options.samples)
            for name in ("load", "run", "verify")
        }
    for name, row in table.items():
        print(
            f"{name:8}{row['seconds']:8.1f} s{row['seconds'] / table['run']['seconds']:7.2f}x run"
            f"{row['peak'] / MB:9.0f} MB{row['peak'] / size:7.2f}x file"
        )


if __name__ == "__main__":
    main()
