"""A runtime that crashes, hangs or is killed: an error for the caller, and never its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faults
import numpy as np
import onnx
import pytest
from onefold import FEEDS, network
from onnx import parser

import bnfold
from bnfold import errors, isolation
from bnfold.isolation import Child
from bnfold.sessions import Sessions
from bnfold_cli import app

pytestmark = pytest.mark.isolated


@pytest.fixture
def model() -> onnx.ModelProto:
    return network()


@pytest.fixture
def path(model: onnx.ModelProto, tmp_path: Path) -> Path:
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give every child that is started from now on a fault."""

    def install(fault: str) -> None:
        monkeypatch.setattr(isolation, "_BOOT", faults.boot(fault))

    return install


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    """Whatever a test does, its children are gone and reaped afterwards."""
    yield
    if os.name == "posix":
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


# -- what a session is ---------------------------------------------------------------------------


def test_a_session_in_a_child_is_a_session(model: onnx.ModelProto) -> None:
    """Ports, provider, level and values are those of a session in this process."""
    with Sessions() as sessions, Sessions(isolate=False) as here:
        theirs, ours = sessions.open(model, level="disable"), here.open(model, level="disable")
        for field in ("provider", "level", "inputs", "outputs"):
            assert getattr(theirs, field) == getattr(ours, field)
        np.testing.assert_array_equal(theirs.run(FEEDS)["y"], ours.run(FEEDS)["y"])
        assert theirs.create_ms > 0
        assert sessions.environment() == here.environment()


def test_inner_tensors_can_be_exposed(path: Path) -> None:
    """`outputs` reaches the child."""
    with Sessions() as sessions:
        assert set(sessions.open(path, outputs=["h"]).run(FEEDS)) == {"y", "h"}


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.bool_, object], ids=str)
def test_values_pass_as_they_are(dtype: Any) -> None:
    """Types, shapes (none and zero included) and texts survive the way, and can be written to."""
    name = {np.float16: "float16", np.int8: "int8", np.bool_: "bool", object: "string"}[dtype]
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 19]> '
        f"g ({name}[N,2] x) => ({name}[N,2] y) {{ y = Identity(x) }}"
    )
    for rows in (0, 1, 3):
        given = np.full((rows, 2), "ä" if dtype is object else 1, dtype)
        with Sessions() as sessions:
            got = sessions.open(model).run({"x": given})["y"]
        np.testing.assert_array_equal(got, given)
        assert got.dtype == given.dtype
        got[...] = given


def test_sequences_and_maps_pass() -> None:
    """An output that is a list of arrays arrives as one."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> '
        "g (float[2] x) => (seq(float[2]) y) { y = SequenceConstruct(x, x) }"
    )
    with Sessions() as sessions:
        (first, second) = sessions.open(model).run({"x": np.array([1, 2], np.float32)})["y"]
    np.testing.assert_array_equal(first, second)


def test_no_file_of_the_working_folder_is_imported(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A numpy.py beside a hostile model is not run, as `python -m` would run it."""
    trap = path.parent / "numpy.py"
    trap.write_text("import pathlib; pathlib.Path('sprung').touch()", "utf-8")
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    with Sessions() as sessions:
        sessions.open("net.onnx").run(FEEDS)
    assert not (path.parent / "sprung").exists()


# -- faults --------------------------------------------------------------------------------------

CRASHES = {
    "segfault": r"crashed \(SIGSEGV\) while loading net.onnx on CPUExecutionProvider at level all",
    "abort": rf"crashed \(SIGABRT\) while loading .*: {faults.SAID}",
    "killed": "was killed while loading net.onnx .*want of memory",
    "exit": r"crashed \(exit code 7\) while loading",
}


@pytest.mark.skipif(os.name != "posix", reason="signals have other names elsewhere")
@pytest.mark.parametrize("fault", CRASHES)
def test_a_crash_is_an_error(path: Path, broken: Callable[[str], None], fault: str) -> None:
    """However the child ends, the caller gets one error that says how and doing what."""
    broken(fault)
    with Sessions() as sessions, pytest.raises(errors.RuntimeCrashed, match=CRASHES[fault]) as e:
        sessions.open(path)
    assert "\n" not in str(e.value)
    assert e.value.hint


def test_after_a_crash_there_is_another_child(
    path: Path, broken: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session of before the crash runs again, in a new child."""
    with Sessions() as sessions:
        before = sessions.open(path)
        expected = before.run(FEEDS)["y"]
        assert isinstance(sessions._caller, Child)
        assert sessions._caller._process is not None
        sessions._caller._process.kill()
        with pytest.raises(errors.RuntimeCrashed, match="while running net"):
            before.run(FEEDS)
        np.testing.assert_array_equal(before.run(FEEDS)["y"], expected)
        assert sessions._caller.ends == 1


@pytest.mark.parametrize("fault", ["hang", "hold"])
def test_silence_ends(path: Path, broken: Callable[[str], None], fault: str) -> None:
    """A runtime that never answers is given up, also where it lets no thread of Python run."""
    broken(fault)
    start = time.monotonic()
    with (
        Sessions(patience_s=3) as sessions,
        pytest.raises(errors.RuntimeCrashed, match="no answer within 3 s while loading"),
    ):
        sessions.open(path)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("InputError", errors.InputError),
        ("RuntimeUnavailable", errors.RuntimeUnavailable),
        ("ProviderUnavailable", errors.ProviderUnavailable),
        ("KeyError", KeyError),
        ("MemoryError", MemoryError),
        ("odd", RuntimeError),
    ],
)
def test_errors_are_the_same(
    path: Path, broken: Callable[[str], None], fault: str, expected: type[Exception]
) -> None:
    """What is raised in the child is raised here, by type, text and hint, with its traceback."""
    broken(fault)
    with Sessions() as sessions, pytest.raises(expected, match="wrong") as caught:
        sessions.open(path)
    assert type(caught.value) is expected
    assert getattr(caught.value, "hint", "hint") == "hint"
    assert "in open_session" in str(caught.value.__cause__)


def test_a_real_error_of_the_runtime(path: Path) -> None:
    """A feed that does not fit is the InputError that it is in this process."""
    wrong = {"x": np.ones((1, 5, 3), np.float32)}
    texts = []
    for isolate in (True, False):
        with Sessions(isolate) as sessions, pytest.raises(errors.InputError) as caught:
            sessions.open(path).run(wrong)
        texts.append((str(caught.value), caught.value.hint))
    assert texts[0] == texts[1]


def test_chatter_is_not_an_answer(
    path: Path, broken: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """What the runtime prints reaches neither the answers nor the caller's standard output."""
    broken("chatter")
    with Sessions() as sessions:
        assert sessions.open(path).run(FEEDS)["y"].shape == (1, 2, 3)
    assert capfd.readouterr().out == ""


def test_what_cannot_be_sent(path: Path) -> None:
    """A feed that no other process can take is the caller's error, and says how to go on."""
    with Sessions() as sessions, pytest.raises(errors.InputError) as caught:
        sessions.open(path).run({"x": np.array([threading.Lock()])})
    assert "isolate=False" in caught.value.hint


@pytest.mark.parametrize("executable", ["", None])
def test_no_interpreter(path: Path, monkeypatch: pytest.MonkeyPatch, executable: Any) -> None:
    """A program that embeds Python is told how to do without a child, and can."""
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(errors.RuntimeUnavailable) as caught:
        bnfold.verify(path, path, samples=1)
    assert "isolate=False" in caught.value.hint
    assert bnfold.verify(path, path, samples=1, isolate=False)


# -- verify, bench, optimize ---------------------------------------------------------------------


def test_verify_of_a_crashing_candidate_is_no(path: Path, broken: Callable[[str], None]) -> None:
    """A candidate with which the runtime crashes does not pass, and the report says why."""
    broken("segfault folded")
    report = bnfold.verify(path, bnfold.fold(path).model, samples=2)
    assert not report
    assert all("crashed" in output.detail for output in report.outputs)


def test_verify_of_a_crashing_original_is_an_error(
    path: Path, broken: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """With a crashing original nothing can be compared: two lines, and exit code 2."""
    broken("segfault")
    assert app.run(["verify", str(path), str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "hint"]


def test_optimize_takes_back_what_crashes(path: Path, broken: Callable[[str], None]) -> None:
    """A fold with which the runtime crashes is taken back; what is written is equivalent."""
    broken("segfault folded")
    result = bnfold.optimize(path, samples=2, bench=False)
    (site,) = result.folds.sites
    assert site.verdict == "rolled_back"
    assert result.equivalence
    assert result.model.graph.node[-1].op_type == "BatchNormalization"


def test_optimize_survives_a_crash_while_timing(
    path: Path, broken: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was proven is written, and a note says that it was not timed."""
    real = bnfold.verify
    monkeypatch.setattr(
        "bnfold.equivalence.verify", lambda *a, **k: (real(*a, **k), broken("killed"))[0]
    )
    output = path.with_name("out.onnx")
    result = bnfold.optimize(path, output, samples=2)
    assert result.equivalence
    assert result.speed is None
    assert any("not timed: onnxruntime was killed while timing" in n for n in result.folds.notes)
    assert output.exists()


def test_bench_runs_in_a_child(path: Path) -> None:
    """The report is whole, progress is told here, and generators of data pass."""
    told: list[tuple[str, int, int]] = []
    report = bnfold.bench(
        path,
        network(),
        data=iter([FEEDS]),
        budget_s=0.5,
        progress=lambda *step: told.append(step),
    )
    assert [m.level for m in report.measurements] == ["all", "disable"]
    assert told == [("bench", 0, 2), ("bench", 1, 2)]


def test_bench_of_a_crashing_model(path: Path, broken: Callable[[str], None]) -> None:
    """A crash while timing is an error."""
    broken("segfault")
    with pytest.raises(errors.RuntimeCrashed, match="while timing"):
        bnfold.bench(path, path, budget_s=0.5)


def test_in_process_needs_no_child(path: Path, broken: Callable[[str], None]) -> None:
    """With isolate=False no child is asked, whatever state it would be in."""
    broken("segfault")
    assert bnfold.verify(path, path, samples=1, isolate=False)
    assert bnfold.bench(path, path, budget_s=0.5, isolate=False)
    assert bnfold.optimize(path, samples=1, bench=False, isolate=False).equivalence


# -- ends ----------------------------------------------------------------------------------------


def test_an_interrupt_ends_the_child(path: Path, broken: Callable[[str], None]) -> None:
    """Ctrl-C while the child is busy comes through at once; the fixture sees that none is left."""
    broken("hang")
    # A shell that puts its jobs into the background has them ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with Sessions() as sessions, pytest.raises(KeyboardInterrupt):
            sessions.open(path)
    finally:
        signal.signal(signal.SIGINT, before)


PARENT = """
import sys
sys.path.insert(0, {support!r})
import faults
from bnfold import isolation, sessions
isolation._BOOT = faults.boot({fault!r})
with sessions.Sessions() as sessions:
    print(sessions._caller._process.pid, flush=True)
    sessions.open({path!r})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("fault", ["hang", "hold"])
def test_no_orphan(path: Path, fault: str) -> None:
    """A parent that is killed takes its busy child along."""
    code = PARENT.format(support=faults.SUPPORT, fault=fault, path=str(path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().decode().strip())
        time.sleep(2.0)  # until it is in the fault
        assert child.exists()
        parent.kill()
    deadline = time.monotonic() + 20
    while child.exists() and "Z" not in (child / "stat").read_text().rsplit(")")[1][:3]:
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.05)


def test_ends_without_a_main_guard(path: Path, tmp_path: Path) -> None:
    """A script that calls `verify` at its top level needs no `if __name__ == "__main__"`."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import bnfold; print('once', bool(bnfold.verify({str(path)!r}, {str(path)!r})))"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "once True\n"
