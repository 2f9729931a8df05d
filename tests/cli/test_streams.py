"""Standard input, output and error may be closed or full: no answer is lost in silence."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

MODEL = """
<ir_version: 8, opset_import: ["": 17]>
net (float[batch,2,6] image) => (float[batch,3,6] y)
<float[3,2,1] w = {1, 2, 3, 4, 5, 6}, float[3] gamma = {1, -2, 3}, float[3] beta = {0, 1, 2},
 float[3] mean = {1, 0, 2}, float[3] var = {1, 4, 9}> {
  h = Conv(image, w)
  y = BatchNormalization(h, gamma, beta, mean, var)
}
"""
CALLS = {
    "help": "--help",
    "help of a command": "optimize --help",
    "version": "--version",
    "explain": "explain",
    "explain --json": "explain BNF202 --json",
    "inspect": "inspect net.onnx",
    "inspect --json": "inspect net.onnx --json",
    "inspect in colours": "inspect net.onnx --color always",
    "optimize": "optimize net.onnx --no-bench --force --samples 1",
    "optimize --json": "optimize net.onnx --no-bench --force --samples 1 --json",
    "verify": "verify net.onnx same.onnx --samples 1",
    "bench": "bench net.onnx same.onnx --budget 0.1 --ort-level all --json",
    "recalibrate": "recalibrate net.onnx --data data.npz --force",
    "report": "report result.json --force",
    "sweep": "sweep models folded --no-bench --samples 1 --again",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, data, and a result, for every command."""
    base = tmp_path_factory.mktemp("streams")
    (base / "models").mkdir()
    model = onnx.parser.parse_model(MODEL)
    for name in ("net.onnx", "same.onnx", "models/net.onnx"):
        onnx.save(model, base / name)
    image = np.random.default_rng(0).standard_normal((8, 2, 6)).astype(np.float32)
    np.savez(base / "data.npz", image=image)
    made = run(base, "optimize net.onnx --no-bench --samples 1 --json --dry-run")
    (base / "result.json").write_text(made.stdout, "utf-8")
    return base


def run(folder: Path, call: str, redirection: str = "") -> subprocess.CompletedProcess[str]:
    """A command as a shell runs it, its streams redirected."""
    return subprocess.run(
        ["sh", "-c", f'"$0" -m bnfold_cli {call} {redirection}', sys.executable],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_cannot_be_printed_is_an_error_of_the_system(folder: Path, call: str) -> None:
    """Standard output that is full or closed: exit code 2, and an error that says why."""
    for redirection, why in (
        (">/dev/full", "No space left on device"),
        (">&-", "Bad file descriptor"),
    ):
        done = run(folder, call, redirection)
        assert done.returncode == 2, done.stderr
        plain = re.sub(r"\x1b\[[\d;]*m", "", done.stderr)
        assert f"error: standard output cannot be written: {why}\nhint: " in plain
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_lost_standard_error_changes_no_answer(folder: Path, call: str) -> None:
    """Errors that nobody sees leave the result and the exit code as they are."""
    for redirection in ("2>/dev/full", "2>&-", "<&- 2>&-"):
        assert run(folder, call, redirection).returncode == 0


@pytest.mark.parametrize(
    ("call", "redirection", "code"),
    [
        ("inspect net.onnx --check", "2>&-", 1),
        ("inspect net.onnx --check", ">&-", 2),
        ("inspect net.onnx --check --quiet", ">&- 2>&- <&-", 1),
        ("inspect none.onnx", "2>&-", 2),
        ("inspect none.onnx --json", ">/dev/full", 2),
        ("inspect none.onnx", ">&- 2>&- <&-", 2),
        ("inspect net.onnx", ">&- 2>&- <&-", 2),
        ("nonsense", "2>&-", 2),
    ],
)
def test_exit_codes(folder: Path, call: str, redirection: str, code: int) -> None:
    """What cannot be printed makes no other answer than "could not", and no error another."""
    assert run(folder, call, redirection).returncode == code


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_reader_that_stops_reading(folder: Path, call: str) -> None:
    """`| head` is no error, whatever is printed."""
    script = f'("$0" -m bnfold_cli {call}; echo "exit $?" >&2) | true'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable], cwd=folder, capture_output=True, text=True
    )
    assert done.stderr.endswith("exit 0\n")
    assert "Exception ignored" not in done.stderr
    assert "error:" not in done.stderr
