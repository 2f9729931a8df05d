"""Small models, an object store and a cluster, for tests of many models."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from bnfold import isolation

SMALL = """
<ir_version: 8, opset_import: ["": 17]>
net (float[batch,2,6] image) => (float[batch,3,6] y)
<float[3,2,1] w = {1, 2, 3, 4, 5, 6}, float[3] gamma = {1, -2, 3}, float[3] beta = {0, 1, 2},
 float[3] mean = {1, 0, 2}, float[3] var = {1, 4, 9}> {
  h = Conv(image, w)
  y = BatchNormalization(h, gamma, beta, mean, var)
}
"""
PLAIN = """
<ir_version: 8, opset_import: ["": 17]> net (float[2] x) => (float[2] y) { y = Relu(x) }
"""
CHAOTIC = SMALL.replace("{1, 4, 9}", "{1.3, 4.7, 9.1}").replace(
    "y = BatchNormalization(h, gamma, beta, mean, var)",
    "b = BatchNormalization(h, gamma, beta, mean, var) "
    "far = Constant<value_float=1e9>() c = Mul(b, far) y = Sin(c)",
)
"""Any rounding decides its output: the runtime's levels differ, even with nothing folded."""
ENDLESS = """
<ir_version: 8, opset_import: ["": 17]>
net (float[1,2,6] image) => (float[1,3,6] y)
<float[3,2,1] w = {1.3, 2.1, 3.7, 4.9, 5.3, 6.1},
 float[3] gamma = {1, -2, 3}, float[3] beta = {0, 1, 2},
 float[3] mean = {1, 0, 2}, float[3] var = {1, 4, 9}, int64 trips = {4611686018427387904}> {
  h = Conv(image, w)
  b = BatchNormalization(h, gamma, beta, mean, var)
  y = Loop(trips, , b) <body = again (int64 i, bool on, float[1,3,6] v) =>
    (bool go, float[1,3,6] u) { go = Identity(on) u = Cos(v) }>
}
"""


def small(seed: int = 0) -> onnx.ModelProto:
    """A Conv with a BatchNormalization; another seed is another model."""
    model = onnx.parser.parse_model(SMALL)
    weight = np.random.default_rng(seed).normal(size=(3, 2, 1)).astype(np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    return model


def save(model: onnx.ModelProto | str, path: Path) -> Path:
    """Write a model, given as such or as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        (onnx.parser.parse_model(model) if isinstance(model, str) else model).SerializeToString()
    )
    return path


def fleet(folder: Path, count: int) -> Path:
    """A folder of so many models, some of them in folders of it."""
    for index in range(count):
        save(small(index), folder / f"team{index % 2}" / f"net{index}.onnx")
    return folder


def save_external(path: Path) -> None:
    """A model whose weight is in a file beside it."""
    model = small(7)
    weight = model.graph.initializer[0]
    data = weight.raw_data
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name("weights.bin").write_bytes(data)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", "offset": 0, "length": len(data)}.items():
        weight.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())


# -- what a model may do to its process -----------------------------------------------------------

MISCHIEF = """
import importlib.abc, importlib.machinery, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "bnfold.isolation":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            module._BOOT = BOOT
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""
SUPPORT = str(Path(__file__).parent)


def boot(call: str = "mischief.install()") -> str:
    """What a child is started with so that models called `crash` and `swell` do so."""
    plant = f"sys.path.insert(0, {SUPPORT!r}); import mischief; {call}; from bnfold.worker"
    return isolation._BOOT.replace("from bnfold.worker", plant)


def plant_mischief(folder: Path) -> None:
    """A folder for the import path of other programs, whose children then start with `boot`."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"BOOT = {boot()!r}\n{MISCHIEF}")


# -- servers on the loopback ----------------------------------------------------------------------


@contextlib.contextmanager
def _process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environment(**more: str) -> dict[str, str]:
    """That of a process which can import what this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def object_store() -> Iterator[str]:
    """The address of an S3-compatible server of its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with _process(
        sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)
    ) as server:
        wait_for(lambda: _answers(url) or server.poll() is not None, 60)
        yield url


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False


@contextlib.contextmanager
def cluster(workers: int = 2, *, resources: bool = True) -> Iterator[str]:
    """The address of a scheduler with workers, each a process of its own, over TCP."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port))
    worker = ("distributed.cli.dask_worker", address, "--nthreads", "1", "--memory-limit", "4GB")
    offered = ("--resources", "BENCH=1") if resources else ()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_process(sys.executable, "-m", *scheduler, "--no-dashboard"))
        for _ in range(workers):
            stack.enter_context(
                _process(sys.executable, "-m", *worker, "--no-dashboard", *offered)
            )
        yield address


def wait_for(condition: object, seconds: float) -> None:
    """Wait until something is so. Fails where it takes too long."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)
