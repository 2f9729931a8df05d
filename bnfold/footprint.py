"""What does a session cost besides its runs? Time to the first result and memory, in a process
of its own, so that nothing that was loaded before counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.modelio import save_model
from bnfold.report import Footprint
from bnfold.runtime import Level, Provider, open_session

Array = NDArray[Any]
Model = onnx.ModelProto | str | Path

PATIENCE_S = 120.0
"""Seconds for one process; a model that takes longer has no footprint."""
STATUS = Path("/proc/self/status")


def footprint(
    model: Model,
    feeds: Mapping[str, Array],
    *,
    provider: Provider,
    level: Level = "all",
    threads: int | None = None,
) -> Footprint | None:
    """Load the model and run it once in a new process; None where that does not work.

    Memory is the peak above what the process held before; None on systems that do not tell.
    """
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        path = Path(model) if isinstance(model, (str, Path)) else Path(folder, "model.onnx")
        if isinstance(model, onnx.ModelProto):
            save_model(model, path)
        np.savez(Path(folder, "feeds.npz"), *feeds.values())  # a name may be any text
        name = provider if isinstance(provider, str) else provider[0]
        data = str(Path(folder, "feeds.npz"))
        return _ask(json.dumps([str(path.resolve()), data, list(feeds), name, level, threads]))


def _ask(task: str) -> Footprint | None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "bnfold.footprint"]
    try:
        done = subprocess.run(
            command,
            input=task,
            capture_output=True,
            text=True,
            env=environment,
            timeout=PATIENCE_S,
            check=True,
        )
        return Footprint(**json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


# --- in the new process --------------------------------------------------------------------


def _measure(
    path: str, data: str, names: list[str], provider: str, level: Level, threads: int | None
) -> Footprint:
    with np.load(data) as arrays:
        feeds = {name: arrays[f"arr_{index}"] for index, name in enumerate(names)}
    open_session(_nothing(), level="disable")  # so that the runtime itself does not count
    before = _memory("VmRSS")
    session = open_session(path, provider=provider, level=level, threads=threads)
    start = time.perf_counter()
    session.run(feeds)
    first_ms = 1e3 * (time.perf_counter() - start)
    peak = _memory("VmHWM")
    memory = None if before is None or peak is None else max(0, peak - before)
    return Footprint(session.create_ms, first_ms, memory)


def _nothing() -> onnx.ModelProto:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float x) => (float y) { y = Identity(x) }'
    return onnx.parser.parse_model(text)


def _memory(field: str) -> int | None:
    """Bytes of this process, by the name that Linux gives them."""
    try:
        lines = STATUS.read_text("ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith(f"{field}:")]
    return 1024 * found[0] if found else None


if __name__ == "__main__":
    from bnfold.report import plain

    print(json.dumps(plain(_measure(*json.loads(sys.stdin.read())))))
