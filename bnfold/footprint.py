"""What does a session cost besides its runs? Time to the first result and memory, in a process
of its own, so that nothing that was loaded before counts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from bnfold.errors import RuntimeUnavailable
from bnfold.isolation import Child
from bnfold.runtime import Level, Provider, open_session, write_loadable
from bnfold.scratch import scratch_folder
from bnfold.timings import Footprint

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
    with scratch_folder() as folder:
        if isinstance(model, onnx.ModelProto):
            model = write_loadable(model, folder)
        child = Child(PATIENCE_S)
        try:
            made: Footprint = child.call(
                "bnfold.footprint:measure",
                *(str(Path(model).resolve()), feeds, provider, level, threads),
                doing="loading the model",
            )
        except RuntimeUnavailable:
            return None
        finally:
            child.close()
    return made


# --- in the new process --------------------------------------------------------------------


def measure(
    path: str,
    feeds: Mapping[str, Array],
    provider: Provider,
    level: Level,
    threads: int | None,
) -> Footprint:
    """What it costs to load the model in this process and to run it once."""
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
