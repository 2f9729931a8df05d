"""A file that several threads fill holds what it should, or an error is told."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bnfold import pool, target
from bnfold.target import Target, Task, fill


class Letters:
    """The same letter many times, written in pieces by any thread."""

    def __init__(self, letter: bytes, count: int, seen: set[int] | None = None) -> None:
        self.letter, self.length = letter, count
        self.seen = set() if seen is None else seen

    def tasks(self, into: Target, place: int) -> Iterator[Task]:
        def write(start: int) -> None:
            self.seen.add(threading.get_ident())
            into.write(self.letter * min(1000, self.length - start), place + start)

        for start in range(0, self.length, 1000):
            yield lambda start=start: write(start)


@pytest.fixture(params=["pwrite", "seek"])
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With places given to the system, and where it takes none."""
    if request.param == "seek":
        monkeypatch.delattr(os, "pwrite", raising=False)


@pytest.mark.usefixtures("_system")
@pytest.mark.parametrize("threads", [1, 3])
def test_everything_at_its_place(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes first: pieces stand where they belong, with zeros where nobody wrote."""
    monkeypatch.setattr(target, "WORTH_THREADS", 0)
    monkeypatch.setattr(target, "SETTLED", 5000)
    monkeypatch.setattr(pool, "threads", lambda: threads)
    path, seen = tmp_path / "file", set[int]()
    with path.open("wb", buffering=0) as file:
        fill(file, [(0, Letters(b"a", 9500, seen)), (9600, b"end"), (9603, Letters(b"b", 4001))])
    assert path.read_bytes() == b"a" * 9500 + b"\0" * 100 + b"end" + b"b" * 4001
    assert (threading.get_ident() in seen) == (threads == 1)


@pytest.mark.usefixtures("_system")
def test_an_error_of_the_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system tells once that it could not write: whoever hears it must not keep it."""
    sync, calls = os.fsync, []

    def failing_once(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", failing_once)
    monkeypatch.setattr(target, "SETTLED", 1)
    with (
        (tmp_path / "file").open("wb", buffering=0) as file,
        pytest.raises(OSError, match="No space left"),
    ):
        fill(file, [(0, Letters(b"a", 3000))])


@pytest.mark.parametrize("count", [1, 4])
def test_tasks(count: int) -> None:
    """Results come in order, the iterable is read only a little ahead, an error ends the work."""
    begun: list[int] = []

    def tasks() -> Iterator[Callable[[], int]]:
        for index in range(1000):
            begun.append(index)
            yield lambda index=index: 10 // (5 - index)

    found = []
    with pytest.raises(ZeroDivisionError):
        found.extend(pool.run(tasks(), count))
    assert len(begun) < 6 + 2 * (pool.WAITING * count + 1)
    assert list(pool.run((lambda i=i: i for i in range(50)), count)) == list(range(50))
    assert threading.active_count() < 50
