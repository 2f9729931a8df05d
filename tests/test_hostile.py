"""Hostile files: an error in two lines and exit code 2, or handled; within time and memory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from damage import flipped
from hostile import CASES, small

from bnfold.errors import BnfoldError
from bnfold.folding import fold
from bnfold_cli import app

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="makes links and pipes")

SUPPORT = str(Path(__file__).parent / "support")
SECONDS = 60
FLOOR = 150e6
"""Bytes that any file may cost beside ten times its own: libraries that are loaded, blocks."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


each_case = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * case.is_slow) for n, case in CASES.items()],
)


@each_case
def test_hostile(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Every command refuses the file in two lines, or handles it; none takes a minute."""
    case = CASES[name]
    path = case.make(folder).name
    for command in (["inspect", path], ["optimize", path, "--no-bench", "--samples", "2"]):
        start = time.monotonic()
        code = app.run(command)
        err = capsys.readouterr().err
        assert time.monotonic() - start < SECONDS
        if case.expected is None and command[0] == "inspect":
            assert code == 0, err
        if case.expected is not None or code:
            assert code == 2
            first, second = err.splitlines()
            assert first.startswith("error: ")
            assert second.startswith("hint: ")
            assert (case.expected or "") in first
            assert not Path("bad.folded.onnx").exists()


MEASURE = """
import json, resource, sys
sys.path.insert(0, {support!r})
from pathlib import Path
from hostile import CASES
import onnx.shape_inference, onnx.checker, onnx.reference
from bnfold import BnfoldError, fold
from hostile import small
fold(small())
def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, case in CASES.items():
    if case.is_slow:
        continue
    folder = Path({folder!r}, str(abs(hash(name))), "models")
    folder.mkdir(parents=True)
    size = case.make(folder).stat().st_size
    before = peak()
    try:
        fold(folder / "bad.onnx")
    except BnfoldError:
        pass
    print(json.dumps([name, size, peak() - before]), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts in kilobytes")
def test_memory(tmp_path: Path) -> None:
    """No file costs more memory than ten times its bytes and what any file may cost."""
    code = MEASURE.format(support=SUPPORT, folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, _, _ in found] == [n for n, case in CASES.items() if not case.is_slow]
    greedy = {name: grown for name, size, grown in found if grown > 10 * size + FLOOR}
    assert not greedy


def stands(path: Path) -> None:
    """A file is folded, or refused with a hint."""
    try:
        fold(path)
    except BnfoldError as error:
        if not error.hint:
            raise AssertionError(f"no proper error: {error!r}") from error


def test_every_truncation(folder: Path) -> None:
    """A file that ends anywhere is refused, or was whole without what it lost."""
    data = small().SerializeToString()
    for end in range(len(data)):
        path = folder / "cut.onnx"
        path.write_bytes(data[:end])
        with pytest.raises(BnfoldError):
            fold(path)


def test_every_flipped_bit(folder: Path) -> None:
    """Whichever bit of a file is wrong, there is an error or a valid model, and no other way."""
    data = small().SerializeToString()
    path = folder / "flipped.onnx"
    for at in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(bytes(damaged))
        stands(path)


def test_bytes_that_come_and_go(folder: Path) -> None:
    """Bytes cut out and put in, of a trained network too."""
    network = Path(__file__).parents[1] / "models/trained/textbook-relu.onnx"
    path, rng = folder / "damaged.onnx", random.Random(0)
    for data in (small().SerializeToString(), network.read_bytes()):
        for _ in range(100):
            path.write_bytes(flipped(data, rng))
            stands(path)


def test_unknown_fields_are_kept(folder: Path) -> None:
    """What a later onnx writes into model, graph, node and tensor goes through a fold."""
    model = small()
    mark = b"\xfa\xff\x07\x04kept"  # field 16383, four bytes
    for message in (model.graph.node[0], model.graph.input[0], model.graph, model):
        message.MergeFromString(mark)
    path = folder / "new.onnx"
    path.write_bytes(model.SerializeToString())
    result = fold(path)
    assert result.folded
    result.save(folder / "out.onnx")
    assert (folder / "out.onnx").read_bytes().count(mark) == 4
    onnx.load(folder / "out.onnx")
