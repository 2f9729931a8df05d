"""Data that a hostile hand could make: refused in words, before much of it is read."""

from __future__ import annotations

import io
import os
import socket
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from bnfold import memory
from bnfold.arrays import MOST_MEMBERS
from bnfold.errors import InputError
from bnfold.feeds import load_data
from bnfold_cli import app

MODEL = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["": 17]> g (float[N,3] x) => (float[N,3] y) '
    "<float[3] k = {1, 2, 3}> { y = Mul(x, k) }"
)
GOOD = np.ones((2, 3), np.float32)
Make = Callable[[Path], Any]


def npy(array: Any = GOOD, *, pickles: bool = False) -> bytes:
    held = io.BytesIO()
    np.lib.format.write_array(held, np.asarray(array), allow_pickle=pickles)
    return held.getvalue()


def header(text: str, body: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    """An .npy file whose header says what it likes."""
    line = text.encode("latin1").ljust(117) + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(line) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + line + body


def saying(shape: str, descr: str = "'<f4'", fortran: str = "False", **more: Any) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    return header(text, GOOD.tobytes(), **more)


def file(name: str, data: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as zipped, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a name that comes twice
        for name, data in members:
            zipped.writestr(name, data)
    return held.getvalue()


def patched(data: bytes, marks: tuple[bytes, ...], at: int, value: bytes) -> bytes:
    """An archive with a field of its headers changed, wherever a mark begins one."""
    made = bytearray(data)
    for mark, shift in zip(marks, (at, at + 2), strict=True):
        start = made.index(mark) + shift
        made[start : start + len(value)] = value
    return bytes(made)


MARKS = (b"PK\x03\x04", b"PK\x01\x02")


def tensor(change: Callable[[TensorProto], object] = lambda _: None) -> bytes:
    made = numpy_helper.from_array(GOOD, "x")
    change(made)
    return made.SerializeToString()


def external(made: TensorProto) -> None:
    made.ClearField("raw_data")
    made.data_location = TensorProto.EXTERNAL
    made.external_data.add(key="location", value="secret.bin")


def dims(*sizes: int) -> Callable[[TensorProto], object]:
    def change(made: TensorProto) -> None:
        del made.dims[:]
        made.dims.extend(sizes)

    return change


def set_of(data: bytes) -> Make:
    def make(folder: Path) -> Path:
        one = folder / "sets" / "test_data_set_0"
        one.mkdir(parents=True)
        (one / "input_0.pb").write_bytes(data)
        (Path.cwd() / "secret.bin").write_bytes(GOOD.tobytes())
        return folder / "sets"

    return make


def fifo(name: str) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(folder / name)
        return folder / Path(name).parts[0]

    return make


def listening(folder: Path) -> Path:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "s.npz"))
    server.close()
    return folder / "s.npz"


def loop(name: str) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).symlink_to(name)
        return folder / name

    return make


def looping_set(folder: Path) -> Path:
    (folder / "sets").mkdir()
    (folder / "sets" / "test_data_set_0").symlink_to(folder / "sets")
    (folder / "sets" / "input_0.pb").symlink_to("input_0.pb")
    return folder / "sets"


def device(folder: Path) -> Path:
    (folder / "zero.npy").symlink_to("/dev/zero")
    return folder / "zero.npy"


def nested(folder: Path) -> Path:
    one = folder / "sets" / "test_data_set_0" / "deeper" / "test_data_set_0"
    one.mkdir(parents=True)
    (one / "input_0.pb").write_bytes(tensor())
    return folder / "sets"


def folder_of_that_name(folder: Path) -> Path:
    (folder / "sets" / "input_0.pb").mkdir(parents=True)
    return folder / "sets"


FAR = 1 << 40
REFUSED: dict[str, tuple[Make, str]] = {
    # what is no file
    "a FIFO .npz": (fifo("p.npz"), "is a FIFO"),
    "a FIFO .npy": (fifo("p.npy"), "is a FIFO"),
    "a FIFO without a suffix": (fifo("p"), "is a FIFO"),
    "a FIFO in a test set": (fifo("sets/test_data_set_0/input_0.pb"), "is a FIFO"),
    "a socket": (listening, "is a socket"),
    "a device": (device, "is a device"),
    "a link to itself": (loop("x.npy"), "cannot be read"),
    "a folder that links to itself": (looping_set, "cannot be read"),
    "a folder named like a file": (folder_of_that_name, "is a folder"),
    "test sets further below": (nested, "holds no test_data_set"),
    "a null character": (lambda folder: str(folder / "a\0.npz"), "cannot be read"),
    "nothing": (lambda folder: folder / "x.npz", "cannot be read"),
    # .npy
    "no bytes": (file("x.npy", b""), "cannot be read"),
    "no magic": (file("x.npy", b"PK" * 80), "cannot be read"),
    "another version": (file("x.npy", b"\x93NUMPY\x09\x00" + b"x" * 99), "cannot be read"),
    "a header past the end": (file("x.npy", saying("(2, 3)", length=60_000)), "cannot be read"),
    "a header of 4 GB": (file("x.npy", saying("(2, 3)", version=2, length=2**32 - 1)), "cannot"),
    "a header that is code": (file("x.npy", header("__import__('os')")), "cannot be read"),
    "a header of brackets": (file("x.npy", header("(" * 110)), "cannot be read"),
    "a truncated array": (file("x.npy", npy()[:-4]), "20 bytes"),
    "more than the array": (file("x.npy", npy() + npy()), "bytes"),
    "a huge dim": (file("x.npy", saying(f"({FAR}, 3)")), "bytes"),
    "dims past 64 bits": (file("x.npy", saying(f"({2**63}, {2**63})")), "bytes"),
    "a negative dim": (file("x.npy", saying("(-2, 3)")), "cannot be read"),
    "two negative dims": (file("x.npy", saying("(-2, -3)")), "cannot be read"),
    "a dim that is true": (file("x.npy", saying("(True, 3)")), "cannot be read"),
    "a shape that is no tuple": (file("x.npy", saying("[2, 3]")), "cannot be read"),
    "24 dims": (file("x.npy", saying(f"({'1, ' * 23}6)")), "was given"),
    "another type": (file("x.npy", npy(GOOD.astype(np.float64))), "was given float64"),
    "big-endian": (file("x.npy", npy(GOOD.astype(">f4"))), "was given >f4"),
    "objects": (file("x.npy", npy(np.array([[1, 2, "x"]], object), pickles=True)), "object"),
    "objects by name": (file("x.npy", saying("(2, 3)", descr="'|O'")), "object"),
    "a record": (file("x.npy", saying("(2, 3)", descr="[('a', '<f4')]")), "was given"),
    "no such type": (file("x.npy", saying("(2, 3)", descr="'<q99'")), "cannot be read"),
    "text": (file("x.npy", npy(np.array([["a", "b", "c"]]))), "was given"),
    "too many columns": (file("x.npy", npy(np.ones((2, 4), np.float32))), "was given"),
    "another rank": (file("x.npy", npy(np.ones(3, np.float32))), "was given"),
    "no rows": (file("x.npy", npy(GOOD[:0])), "holds no numbers"),
    # .npz
    "no archive": (file("x.npz", b"no"), "cannot be read"),
    "half an archive": (file("x.npz", archive(("x.npy", npy()))[:-30]), "cannot be read"),
    "an empty archive": (file("x.npz", archive()), "found nothing"),
    "another name": (file("x.npz", archive(("../x.npy", npy()))), "found ../x"),
    "a name too many": (file("x.npz", archive(("x.npy", npy()), ("z.npy", npy()))), "found x, z"),
    "no array": (file("x.npz", archive(("x.npy", npy()), ("run.sh", b"rm"))), "cannot be read"),
    "many members": (
        file("x.npz", archive(*((f"{n}.npy", b"") for n in range(MOST_MEMBERS + 1)), method=0)),
        "cannot be read",
    ),
    "a name twice": (file("x.npz", archive(("x.npy", npy()), ("x.npy", npy(GOOD * 2)))), "twice"),
    "both names": (file("x.npz", archive(("x.npy", npy()), ("x", npy()))), "twice"),
    "locked": (
        file("x.npz", patched(archive(("x.npy", npy())), MARKS, 6, b"\x01\x00")),
        "cannot be read",
    ),
    "another method": (
        file("x.npz", patched(archive(("x.npy", npy())), MARKS, 8, b"\x63\x00")),
        "cannot be read",
    ),
    "a damaged member": (
        file("x.npz", archive(("x.npy", npy()), method=0).replace(b"\x80?", b"\x80@", 1)),
        "cannot be read",
    ),
    "a size that lies": (
        file("x.npz", patched(archive(("x.npy", npy())), MARKS, 22, b"\xff\xff\xff\x00")),
        "bytes",
    ),
    "objects in an archive": (
        file("x.npz", archive(("x.npy", npy(np.array([[None] * 3]), pickles=True)))),
        "object",
    ),
    "an array that is none": (file("x.npz", archive(("x.npy", b"no"))), "cannot be read"),
    # test sets
    "external data": (set_of(tensor(external)), "another file"),
    "external data that is named only": (
        set_of(tensor(lambda t: t.external_data.add(key="location", value="secret.bin"))),
        "another file",
    ),
    "a segment": (set_of(tensor(lambda t: setattr(t.segment, "end", 1))), "segment"),
    "dims that overflow": (set_of(tensor(dims(2**62, 2**62))), "bytes"),
    "dims that overflow to none": (set_of(tensor(dims(2**32, 2**32, 3))), "bytes"),
    "a negative dim of a tensor": (set_of(tensor(dims(-1, 3))), "negative"),
    "more dims than data": (set_of(tensor(dims(FAR, 3))), "bytes"),
    "less dims than data": (set_of(tensor(dims(1, 3))), "bytes"),
    "no such type of a tensor": (
        set_of(tensor(lambda t: setattr(t, "data_type", 999))),
        "type",
    ),
    "no type": (set_of(tensor(lambda t: setattr(t, "data_type", 0))), "type"),
    "text in a tensor": (
        set_of(numpy_helper.from_array(np.array([["a"] * 3], object), "x").SerializeToString()),
        "was given",
    ),
    "no tensor": (set_of(b"\xff" * 64), "no serialized tensor"),
    "no bytes of a tensor": (set_of(b""), "type"),
    "a tensor without rows": (
        set_of(numpy_helper.from_array(GOOD[:0], "x").SerializeToString()),
        "holds no numbers",
    ),
    # what a program gives
    "a list of lists": (lambda _: {"x": [[1.0, 2.0], [3.0]]}, "no array"),
    "a number": (lambda _: 5, "neither"),
    "names that are numbers": (lambda _: {1: GOOD, "x": GOOD}, "found 1, x"),
    "objects of a program": (lambda _: {"x": GOOD.astype(object)}, "was given object"),
    "nothing of a program": (lambda _: iter(()), "no sample"),
    "a list of numbers": (lambda _: [1, 2], "expected a dict"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where we are, with a model in it."""
    (tmp_path / "net.onnx").write_bytes(MODEL.SerializeToString())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(here: Path, name: str) -> None:
    """Each in words that say what is wrong, and as an error of the caller's data."""
    make, words = REFUSED[name]
    with pytest.raises(InputError) as caught:
        list(load_data(MODEL, make(here)))
    assert words in str(caught.value)


GIVEN: dict[str, Make] = {
    "an array by columns": file("x.npy", npy(np.asfortranarray(GOOD))),
    "a second version": file("x.npy", saying("(2, 3)", version=2)),
    "by columns in an archive": file("x.npz", archive(("x.npy", npy(np.asfortranarray(GOOD))))),
    "a stored archive": file("x.npz", archive(("x.npy", npy()), method=zipfile.ZIP_STORED)),
    "a member without a suffix": file("x.npz", archive(("x", npy()))),
    "a test set": set_of(tensor()),
    "a test set of floats": set_of(
        onnx.helper.make_tensor("x", TensorProto.FLOAT, (2, 3), [1.0] * 6).SerializeToString()
    ),
    "a number that is none": file("x.npy", npy(GOOD * np.nan)),
}


@pytest.mark.parametrize("name", GIVEN)
def test_it_is_read(here: Path, name: str) -> None:
    """What is as it says is read as it stands, however it is kept."""
    (sample,) = load_data(MODEL, GIVEN[name](here))
    expected = GOOD * np.nan if "none" in name else GOOD
    np.testing.assert_array_equal(np.asarray(sample.feeds["x"]), expected)


@pytest.mark.parametrize("command", ["verify net.onnx net.onnx", "recalibrate net.onnx"])
@pytest.mark.parametrize("name", ["a FIFO .npz", "external data", "a huge dim", "locked"])
def test_commands_exit_with_2(
    here: Path, name: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two lines and the exit code of what could not be done, whoever reads the data."""
    path = REFUSED[name][0](here)
    (here / "net.onnx").write_bytes(normalized().SerializeToString())
    assert app.run([*command.split(), "--data", str(path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def normalized() -> onnx.ModelProto:
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,3] x) => (float[N,3] y) '
        "<float[3] a = {1, 2, 3}, float[3] v = {1, 1, 1}> "
        "{ y = BatchNormalization(x, a, a, a, v) }"
    )


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_what_does_not_fit_is_not_read(
    here: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shapes are held against the model, and sizes against the free memory, by headers alone."""
    array = np.broadcast_to(np.float32(0), (1 << 16, 64)).copy()
    path = here / f"x.{kind}"
    np.savez_compressed(path, x=array) if kind == "npz" else np.save(path, array)
    with memory_held(lambda: pytest.raises(InputError, match="was given")) as held:
        list(load_data(MODEL, path))
    assert held() < array.nbytes / 8
    fitting = np.zeros((1 << 20, 3), np.float32)
    np.savez_compressed(path, x=fitting) if kind == "npz" else np.save(path, fitting)
    monkeypatch.setattr(memory, "free_memory", lambda: fitting.nbytes - 1)
    with memory_held(lambda: pytest.raises(InputError, match="of memory, and")) as held:
        list(load_data(MODEL, path))
    assert held() < fitting.nbytes / 8


class memory_held:
    """The most memory that Python allocated in a block in which an error is expected."""

    def __init__(self, raises: Callable[[], Any]) -> None:
        self.raises = raises()

    def __enter__(self) -> Callable[[], int]:
        import tracemalloc

        tracemalloc.start()
        self.raises.__enter__()
        return lambda: self.peak

    def __exit__(self, *error: Any) -> bool:
        import tracemalloc

        self.peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return bool(self.raises.__exit__(*error))
