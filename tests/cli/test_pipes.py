"""Models come over pipes and go over them, and files may have any name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.errors import ModelError
from bnfold.pipes import descriptor_of

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them"),
    pytest.mark.isolated,
]
QUICK = "--no-bench --samples 1"


def model(weight: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> onnx.ModelProto:
    """A product and a factor that folds into it."""
    size = weight.shape[0]
    factor = numpy_helper.from_array(np.full((1, size), 1.5, np.float32), "k")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Mul", ["a", "k"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, size])],
        [numpy_helper.from_array(weight, "w"), factor],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model, one whose weights are large enough to stay in the file, and one with data."""
    generator = np.random.default_rng(0)
    for name, size in (("small", 4), ("large", 96)):
        weight = generator.standard_normal((size, size)).astype(np.float32)
        onnx.save(model(weight), tmp_path / f"{name}.onnx")
    onnx.save(
        onnx.load(tmp_path / "large.onnx"),
        tmp_path / "data.onnx",
        save_as_external_data=True,
        location="data.bin",
    )
    return tmp_path


def run(folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A script of a shell in which `bnfold` is the command; it must not hang."""
    script = f'bnfold() {{ "{sys.executable}" -m bnfold_cli "$@"; }}\n{script}'
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )


ROUTES = ["- <M", "/dev/stdin <M", "/proc/self/fd/0 <M", "<(cat M)", "/dev/fd/7 7<M", "L <M"]
AT_ONCE = {("- <M", "small"), ("/dev/stdin <M", "large"), ("<(cat M)", "small")}
"""What is tried at every change: each case starts six processes, and routes share their code."""


@pytest.mark.parametrize(
    ("named", "size"),
    [
        pytest.param(*case, marks=() if case in AT_ONCE else pytest.mark.slow)
        for case in product(ROUTES, ("small", "large"))
    ],
)
def test_a_model_over_a_pipe(folder: Path, named: str, size: str) -> None:
    """Whatever stands for a descriptor is read whole, and proven in child processes as well."""
    (folder / "L").symlink_to("/dev/stdin")
    named = named.replace("M", f"{size}.onnx")
    name, _, redirection = named.partition(" ") if not named.startswith("<(") else (named, "", "")
    for script in (
        f"bnfold inspect {name} --check {redirection}; test $? = 1",
        f"bnfold optimize {name} -o out.onnx {QUICK} {redirection}",
        f"bnfold verify {name} {size}.onnx --samples 1 {redirection}",
        f"bnfold optimize {name} -o - {QUICK} {redirection} >piped.onnx",
    ):
        done = run(folder, script)
        assert done.returncode == 0, done.stderr
    folded = (folder / "out.onnx").read_bytes()
    assert folded == (folder / "piped.onnx").read_bytes()
    assert [node.op_type for node in onnx.load_from_string(folded).graph.node] == ["MatMul"]


def test_a_chain_of_pipes(folder: Path) -> None:
    """The model alone is on standard output; the result for people or programs is aside."""
    chain = f"cat small.onnx | bnfold optimize - -o - {QUICK} --json 2>one.json"
    done = run(folder, f"set -o pipefail; {chain} | bnfold inspect - --check")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"standard input  opset 17, 1 nodes")
    document = json.loads((folder / "one.json").read_text("utf-8"))
    assert document["output"] == "standard output"
    assert [file["path"] for file in document["files"]] == ["standard input", "standard output"]


def test_other_commands(folder: Path) -> None:
    """Statistics and times too come of a model over a pipe."""
    generator = np.random.default_rng(0)
    np.savez(folder / "x.npz", x=generator.standard_normal((2, 4)).astype(np.float32))
    done = run(folder, "bnfold bench - small.onnx --budget 0.1 <small.onnx")
    assert done.returncode == 0, done.stderr
    done = run(folder, "bnfold recalibrate - --data x.npz -o - <small.onnx")
    assert done.returncode == 2
    assert b"standard input" not in done.stdout


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (f"bnfold optimize - {QUICK} <small.onnx", "-o FILE, or -o - for standard output"),
        ("bnfold optimize - --in-place <small.onnx", "a model from a pipe has no place"),
        ("bnfold optimize - -o o.onnx --certificate c.json <small.onnx", "it names files"),
        ("bnfold optimize small.onnx -o - --certificate c.json | cat >&2", "it names files"),
        ("bnfold optimize small.onnx -o - --external-data | cat >&2", "takes no data file"),
        ("bnfold verify - - <small.onnx", "standard input can be read once"),
        ("bnfold verify - /dev/stdin <small.onnx", "standard input can be read once"),
        ("bnfold inspect - </dev/null", "standard input is empty"),
        ("bnfold inspect - <&-", "standard input cannot be read: Bad file descriptor"),
        ("bnfold inspect /dev/fd/63", "cannot be read: Bad file descriptor"),
        ("head -c 50 small.onnx | bnfold inspect -", "standard input is truncated"),
        ("echo text | bnfold inspect -", "standard input is text, not an ONNX model"),
        ("bnfold inspect - <data.onnx", "keeps weights in another file, which no pipe brings"),
        (f"bnfold optimize small.onnx -o - {QUICK} >/dev/full", "No space left on device"),
        (f"bnfold optimize small.onnx -o - {QUICK} >&-", "Bad file descriptor"),
        (f"bnfold optimize small.onnx -o - {QUICK} | true", "Broken pipe"),
        ("mkfifo pipe; bnfold inspect pipe", "pipe is not a regular file"),
        (f"mkfifo pipe; bnfold optimize pipe {QUICK}", "pipe is not a regular file"),
        ("bnfold inspect /dev/zero", "/dev/zero is not a regular file"),
    ],
)
def test_what_cannot_be(folder: Path, script: str, words: str) -> None:
    """What makes no sense over a pipe is an error that says so, and nothing hangs."""
    done = run(folder, f"set -o pipefail; {script}")
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert words in done.stderr.decode()
    assert b"/tmp/" not in done.stderr
    assert not done.stdout


def test_the_library_reads_no_stream(folder: Path) -> None:
    """A path that means another stream in a child process is an error in the library."""
    read, write = os.pipe()
    try:
        for path in (f"/dev/fd/{read}", Path(f"/proc/self/fd/{read}")):
            assert descriptor_of(path) == read
            with pytest.raises(ModelError, match="another stream in each process"):
                bnfold.inspect(path)
    finally:
        os.close(read)
        os.close(write)
    for other in (folder / "small.onnx", "/dev/null", "/dev/fd", "7", "\0", folder / "none"):
        assert descriptor_of(other) is None


ASCII = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii",
}
LOCALES: dict[str, dict[str, str]] = {"a UTF-8 locale": {}, "the C locale": ASCII}
QUICK_NAMES = {("latin-1", "a UTF-8 locale"), ("UTF-8", "the C locale")}
"""What is tried at every change; each case starts a dozen processes."""
NAMES = {"latin-1": b"lat\xe9", "UTF-8": "größe→".encode(), "control": b"a\x1b[2Jb\n"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize(
    ("name", "locale"),
    [
        pytest.param(
            NAMES[name],
            LOCALES[locale],
            marks=() if (name, locale) in QUICK_NAMES else pytest.mark.slow,
            id=f"{name} in {locale}",
        )
        for name, locale in product(NAMES, LOCALES)
    ],
)
def test_names_of_any_bytes(folder: Path, name: bytes, locale: dict[str, str]) -> None:
    """A legal file name is one in every locale: read, run, written, certified, reported."""
    os.rename(folder / "large.onnx", os.fsencode(folder) + b"/" + name + b".onnx")
    literal = "$'" + "".join(f"\\x{byte:02x}" for byte in name) + "'"
    paths = {end: f"{literal}.{end}" for end in ("onnx", "folded.onnx", "json", "html", "out")}
    for script in (
        f"bnfold inspect {paths['onnx']}",
        f"bnfold optimize {paths['onnx']} {QUICK} --certificate {paths['json']} "
        f"--report {paths['html']} --json >{paths['out']}",
        f"bnfold verify {paths['onnx']} {paths['folded.onnx']} --samples 1",
        f"bnfold verify --certificate {paths['json']}",
        f"bnfold bench {paths['onnx']} {paths['folded.onnx']} --budget 0.1 --ort-level all",
        f"bnfold report {paths['out']} -o {paths['html']} --force",
    ):
        done = run(folder, script, **locale)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        assert not set(b"\x1b\xe9") & set(done.stdout + done.stderr)
    out = Path(os.fsdecode(os.fsencode(folder) + b"/" + name + b".out"))
    document = json.loads(out.read_bytes())
    assert document["output"]
    script = f"bnfold optimize {paths['onnx']} -o {literal} {QUICK} --external-data"
    done = run(folder, script, **locale)
    expected = 2 if name == NAMES["latin-1"] else 0
    assert done.returncode == expected, done.stderr
