"""A command that is told to end leaves nothing behind, and says by which signal it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")

SIGNALS = {"INT": 130, "TERM": 143, "HUP": 129}
COMMANDS = {
    "optimize": "optimize net.onnx --budget 60 --attribute --certificate c.json",
    "in place": "optimize net.onnx --in-place --samples 64 --certificate c.json --budget 60",
    "bench": "bench net.onnx net.onnx --budget 60",
    "recalibrate": "recalibrate net.onnx --data data.npz --batch-size 1",
    "sweep": "sweep . folded --budget 60 --samples 64 --manifest manifest",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that takes long enough to be interrupted at, and a folder for temporary files."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "temporary").mkdir()
    layers = [
        f"l{i} = Conv(n{i - 1}, w) n{i} = BatchNormalization(l{i}, g, g, g, g)"
        for i in range(1, 9)
    ]
    text = f"""<ir_version: 8, opset_import: ["": 17]>
    net (float[batch,8,32,32] n0) => (float[batch,8,32,32] n8)
    <float[8,8,1,1] w, float[8] g> {{ {" ".join(layers)} }}"""
    model = onnx.parser.parse_model(text)
    model.graph.ClearField("initializer")
    generator = np.random.default_rng(0)
    for name, shape in (("w", (8, 8, 1, 1)), ("g", (8,))):
        values = generator.uniform(0.5, 1.0, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, home / "net.onnx")
    np.savez(home / "data.npz", n0=generator.random((4096, 8, 32, 32), np.float32))
    return tmp_path


def begin(folder: Path, call: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """A command in the folder, whose temporary files go beside it."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "bnfold_cli", *call.split()],
        cwd=folder / "home",
        env={**os.environ, "TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def left_behind(folder: Path) -> list[str]:
    """Temporary files, and what stands beside the model that is not the user's."""
    drafts = [p for p in (folder / "home").iterdir() if p.name.startswith(".")]
    return [str(p) for p in (*(folder / "temporary").rglob("*"), *drafts)]


def children_of(pid: int) -> list[int]:
    """All processes below one."""
    told = Path(f"/proc/{pid}/task")
    found = []
    with contextlib.suppress(OSError):  # it ends while it is looked at
        for task in told.iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *children_of(child)]
    return found


def is_running(pid: int) -> bool:
    """Whether a process works on; one that waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("call", COMMANDS.values(), ids=COMMANDS)
def test_nothing_is_left(folder: Path, call: str, times: int) -> None:
    """At moments spread over the run, each signal ends it with its own code and no trace."""
    for number, (name, code) in enumerate(times * list(SIGNALS.items())):
        process = begin(folder, call)
        wait_for_work(folder, process)
        time.sleep(0.45 * number / times)
        children = children_of(process.pid)
        process.send_signal(getattr(signal, f"SIG{name}"))
        process.send_signal(getattr(signal, f"SIG{name}"))
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, (name, out, err)
        assert b"Traceback" not in err
        assert b"Exception ignored" not in err
        assert not left_behind(folder)
        assert not any(map(is_running, children))
        assert sorted(p.name for p in (folder / "home").glob("*.onnx")) == ["net.onnx"]


def wait_for_work(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Until its folder for temporary files is there: from then on there is something to lose."""
    while process.poll() is None and not any((folder / "temporary").iterdir()):
        time.sleep(0.01)


def test_a_second_signal_while_the_first_is_heeded(folder: Path) -> None:
    """Others that come while everything is removed change nothing of that."""
    process = begin(folder, COMMANDS["optimize"])
    wait_for_work(folder, process)
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.002)
    process.communicate()
    assert process.returncode in SIGNALS.values()  # of those that came while it was busy, any
    assert not left_behind(folder)


def test_what_was_ignored_stays_ignored(folder: Path) -> None:
    """Under `nohup` a terminal that hangs up ends nothing."""
    process = begin(folder, "optimize net.onnx --no-bench --samples 1", ("nohup",))
    wait_for_work(folder, process)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert not left_behind(folder)
    assert (folder / "home" / "net.folded.onnx").exists()


def test_a_child_that_is_ended_leaves_nothing(folder: Path) -> None:
    """The temporary files of a child are its parent's to remove: it may be killed at any time."""
    script = """
import os, pathlib, tempfile
from bnfold.isolation import Child
from bnfold.errors import RuntimeCrashed
child = Child(2.0)
made = pathlib.Path(child.call("tempfile:mkdtemp", doing="making a folder"))
assert made.exists()
try:
    child.call("time:sleep", 60, doing="sleeping")
except RuntimeCrashed:
    assert not made.exists()
    assert not os.listdir(tempfile.gettempdir())
    print("gone")
"""
    environment = {**os.environ, "TMPDIR": str(folder / "temporary")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True)
    assert done.stdout == b"gone\n", done.stderr


def test_an_interrupt_within_a_destructor(tmp_path: Path) -> None:
    """Python drops what a destructor raises; the interrupt comes again as soon as it is over."""
    script = """
import os, signal, sys, time
from bnfold_cli.signals import tidily

class Careless:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)

def work():
    careless = Careless()
    del careless
    time.sleep(30)
    return 0

sys.exit(tidily(work))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=20)
    assert (done.returncode, done.stderr) == (143, b"")


def test_an_interrupt_within_an_import(tmp_path: Path) -> None:
    """Native modules may crash at an interrupt while they load: it waits until that is over."""
    (tmp_path / "slow.py").write_text(
        "import os, signal, time\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "time.sleep(0.1)\n"
        "print('loaded', flush=True)\n"
    )
    script = """
import sys, time
from bnfold_cli.signals import tidily

def work():
    import slow
    time.sleep(30)
    return 0

sys.exit(tidily(work))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, timeout=20
    )
    assert (done.returncode, done.stdout, done.stderr) == (129, b"loaded\n", b"")
