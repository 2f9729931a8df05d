"""How much memory is free, and how much would a model ask for?"""

from __future__ import annotations

import contextlib
from pathlib import Path

import onnx

from bnfold.errors import ModelError
from bnfold.external import data_file
from bnfold.files import native
from bnfold.validation import is_external, tensors

MOSTLY_GRAPH = 1 << 26
"""A model file below so many bytes may keep its weights in other files."""

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)
"""Limit and use of a container, in the two ways that Linux tells them."""
_OWN = Path("/proc/self/statm")


def free_memory() -> int | None:
    """Bytes that can be had without swapping; None on systems that do not tell."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = _MEMINFO.read_text("ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(1024 * int(line.split()[1]))
    for limit, used in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            found.append(int(limit.read_text("ascii")) - int(used.read_text("ascii")))
    own = _own_limit()
    if own is not None:
        found.append(own)
    return max(0, min(found)) if found else None


def _own_limit() -> int | None:
    """Bytes that this process may still ask for, where its user has set a limit (`ulimit -v`)."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        return limit - resource.getpagesize() * int(_OWN.read_text("ascii").split()[0])
    except (ImportError, OSError, ValueError):
        return None


def shortage(needed: int) -> str | None:
    """What is short, in words, where less than `needed` bytes are free; None where enough is."""
    free = free_memory()
    if free is None or needed <= free:
        return None
    return f"it needs about {_gigabytes(needed)} of memory, and {_gigabytes(free)} are free"


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB"


def disk_size(path: Path) -> int:
    """Bytes of a model file and of the data files that it names; 0 for what is not there."""
    try:
        total = path.stat().st_size
        if total > MOSTLY_GRAPH:  # its weights are in it
            return total
        model = onnx.load(path, load_external_data=False)
    except Exception:  # what is no model is told of by whoever loads it
        return 0
    named = {
        entry.value
        for _, tensor in tensors(model)
        if is_external(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for location in named:
        with contextlib.suppress(OSError, ModelError):
            total += data_file("", native(location), path).stat().st_size
    return total
