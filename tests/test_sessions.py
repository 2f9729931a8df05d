"""How many sessions does the memory hold? Older ones close, large results go to disk."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onefold import FEEDS, network
from onnx import numpy_helper

import bnfold
from bnfold import errors, isolation, memory, runtime, sessions
from bnfold.sessions import Sessions

pytestmark = pytest.mark.isolated


@pytest.fixture
def model() -> onnx.ModelProto:
    return network()


@pytest.fixture
def path(model: onnx.ModelProto, tmp_path: Path) -> Path:
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_little_memory_holds_one_session(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory is short the older session closes, and opens again when it is run."""
    monkeypatch.setattr(sessions, "free_memory", lambda: 0)
    with Sessions() as opened:
        first, second = opened.open(path), opened.open(path, level="disable")
        for session in (first, second, first):
            assert session.run(FEEDS)["y"].shape == (1, 2, 3)
            assert len(opened._open) == 1


def test_a_proof_with_one_session_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a model fits once, the proof is the same: one session is open, results are on disk."""
    folded = path.with_name("folded.onnx")
    bnfold.fold(path).save(folded)
    expected = bnfold.verify(path, folded, samples=3)
    monkeypatch.setattr(sessions, "free_memory", lambda: 0)
    monkeypatch.setattr(sessions, "ON_DISK", 1)
    counts: list[int] = []
    kept: list[bool] = []
    load, keep = Sessions._load, Sessions._kept

    def loading(self: Sessions, handle: Any) -> dict[str, Any]:
        fields = load(self, handle)
        counts.append(len(self._open))
        return fields

    def keeping(self: Sessions, value: Any) -> Any:
        found = keep(self, value)
        kept.append(isinstance(found.base, np.memmap))
        return found

    monkeypatch.setattr(Sessions, "_load", loading)
    monkeypatch.setattr(Sessions, "_kept", keeping)
    report = bnfold.verify(path, folded, samples=3)
    assert report
    assert report.outputs == expected.outputs
    assert set(counts) == {1}
    assert len(counts) >= 3, "original, candidate, and the candidate at another level"
    assert kept
    assert all(kept)


def test_much_memory_holds_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is room nothing closes but what nobody holds any more."""
    monkeypatch.setattr(sessions, "free_memory", lambda: 1 << 40)
    with Sessions() as opened:
        first, second = opened.open(path), opened.open(path, level="disable")
        assert len(opened._open) == 2
        del first
        third = opened.open(path, level="basic")
        assert len(opened._open) == 2
        del second, third


def test_large_results_are_on_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large result is the map of a file, equal to the array, and outlives the sessions."""
    monkeypatch.setattr(sessions, "ON_DISK", 1)
    with Sessions() as opened:
        session = opened.open(path)
        got = session.run(FEEDS)["y"]
    assert isinstance(got.base, np.memmap)
    with Sessions(isolate=False) as here:
        np.testing.assert_array_equal(got, here.open(path).run(FEEDS)["y"] + 0)


def test_a_full_disk_is_an_error(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no temporary file can be written the error says so."""

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    with Sessions() as opened:
        monkeypatch.setattr(runtime, "write_loadable", full)
        with pytest.raises(errors.OutputError, match="No space left"):
            opened.open(model)


def test_steps_that_memory_forbids(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is skipped for want of memory is told in a line with both numbers."""
    monkeypatch.setattr(memory, "free_memory", lambda: 100)
    monkeypatch.setattr(isolation, "Child", isolation.Here)  # so that the patch holds there too
    line = r"it needs about \d\S* GB of memory, and 1e-07 GB are free"
    result = bnfold.optimize(path, samples=2)
    assert result.equivalence
    assert result.equivalence.judge == "noise"
    assert any(re.search(f"no float64 evaluation: {line}", n) for n in result.equivalence.notes)
    assert any(re.search(f"not timed: .* {line}", note) for note in result.folds.notes)
    with pytest.raises(errors.MemoryUnavailable, match=line):
        bnfold.bench(path, path)


def test_free_memory_is_told() -> None:
    """On Linux a number between nothing and what the machine has."""
    free = memory.free_memory()
    if sys.platform != "linux":
        assert free is None or free >= 0
        return
    assert free is not None
    assert 0 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_disk_size_counts_data_files(model: onnx.ModelProto, tmp_path: Path) -> None:
    """Weights in another file count; a file that is not there does not."""
    path = tmp_path / "m.onnx"
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    onnx.save_model(model, path, save_as_external_data=True, location="m.bin", size_threshold=0)
    data = tmp_path / "m.bin"
    assert memory.disk_size(path) == path.stat().st_size + data.stat().st_size
    data.unlink()
    assert memory.disk_size(path) == path.stat().st_size


@pytest.mark.skipif(sys.platform != "linux", reason="limits what a process may ask for")
def test_a_limit_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `ulimit -v` leaves is what is free, less what the process holds."""
    import resource

    held = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (held + (64 << 20), -1))
    free = memory.free_memory()
    assert free is not None
    assert abs(free - (64 << 20)) < 16 << 20  # the process goes on asking
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1, 1))
    assert memory.free_memory() == 0
