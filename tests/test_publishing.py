"""A model takes its place with its data, whole or not at all, whatever happens on the way."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bnfold import layout, publishing, target
from bnfold.errors import OutputError
from bnfold.files import whole_or_nothing
from bnfold.modelio import load_model, open_model, save_model
from bnfold.pipeline import optimize
from bnfold.publishing import drafted

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals and forks")


def network(value: float = 1.0) -> onnx.ModelProto:
    """Weights that all hold one value, one of them large."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,64] x) => (float[N,64] y) '
        "{ h = MatMul(x, w) k = Relu(h) y = BatchNormalization(k, s, b, m, v) z = Add(y, s) }"
    )
    for name, shape in {"w": (64, 64), "s": 64, "b": 64, "m": 64, "v": 64}.items():
        tensor = numpy_helper.from_array(np.full(shape, value, np.float32), name)
        model.graph.initializer.append(tensor)
    return model


def external(path: Path, value: float = 1.0, location: str = "weights.bin") -> Path:
    onnx.save(network(value), path, save_as_external_data=True, location=location)
    return path


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def location(path: Path) -> set[str]:
    model = onnx.load(path, load_external_data=False)
    return {
        e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.onnx"


# -- which kind ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, True, False])
@pytest.mark.parametrize("has_data", [True, False])
def test_kind(path: Path, has_data: bool, kind: bool | None) -> None:
    """Weights are kept as they were, or as it is asked for; the model is the same."""
    onnx.save(network(), path, save_as_external_data=has_data, location="weights.bin")
    target = path.with_name("out.onnx")
    save_model(open_model(path), target, external=kind)
    assert load_model(target) == network()
    expected = has_data if kind is None else kind
    assert location(target) == ({"out.onnx.data"} if expected else set())
    onnx.checker.check_model(target)


def test_what_is_small_stays_inside(path: Path) -> None:
    """Tensors below onnx's own threshold stay in the model file; the others are aligned."""
    save_model(network(), path, external=True)
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        assert bool(entries) == (tensor.name == "w")
        assert int(entries.get("offset", 0)) % layout.ALIGNMENT == 0


def test_past_two_gibibytes_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that would pass protobuf's limit gets a data file, and the report has a line."""
    monkeypatch.setattr(layout, "PROTOBUF_LIMIT", 8000)
    result = optimize(network(), path, bench=False, external=False)
    assert layout.OUTGROWN in result.folds.notes
    assert result.data == str(path) + ".data"
    assert location(path) == {"net.onnx.data"}


def test_same_bytes(path: Path) -> None:
    """The same model gives the same files, wherever it was read from and whatever stood there."""
    save_model(network(), path, external=True)
    first = [p.read_bytes() for p in (path, path.with_name("net.onnx.data"))]
    save_model(open_model(path), path)
    assert [p.read_bytes() for p in (path, path.with_name("net.onnx.data"))] == first


# -- in place -----------------------------------------------------------------------------------


@pytest.mark.parametrize("old", ["weights.bin", "net.onnx.data"])
def test_in_place(path: Path, old: str) -> None:
    """A model that replaces itself has new data; data that bnfold did not write stays, and a
    note says so."""
    before = external(path, location=old).with_name(old).read_bytes()
    result = optimize(path, path, force=True, bench=False)
    made = "net.onnx.2.data" if old == "net.onnx.data" else "net.onnx.data"
    assert names(path.parent) == sorted(["net.onnx", made, old])
    assert path.with_name(old).read_bytes() == before
    assert any(note.startswith(f"{old} is no longer needed") for note in result.folds.notes)
    assert result.folds.folded
    assert load_model(path) == result.model


def test_own_data_is_replaced(path: Path) -> None:
    """Data that bnfold wrote for a model goes with it, under whichever of its names."""
    save_model(network(), path, external=True)
    for value in (2, 3):
        save_model(network(value), path, external=True)
        assert names(path.parent) == ["net.onnx", "net.onnx.data"]
        assert load_model(path) == network(value)
    save_model(network(4), path, external=False)
    assert names(path.parent) == ["net.onnx"]


def test_data_that_others_append_to_stays(path: Path) -> None:
    """What somebody wrote behind bnfold's own bytes is not bnfold's to remove."""
    save_model(network(), path, external=True)
    data = path.with_name("net.onnx.data")
    with data.open("ab") as file:
        file.write(b"mine")
    save_model(network(2), path, external=True)
    assert data.read_bytes().endswith(b"mine")
    assert load_model(path) == network(2)


def test_data_of_another_model_stays(path: Path) -> None:
    """A model that names the data that bnfold wrote for another one does not take it away."""
    other = path.with_name("other.onnx")
    save_model(network(), other, external=True)
    path.write_bytes(other.read_bytes())
    other.rename(path.with_name("moved"))  # so that no model beside it names the data
    path.with_name("moved").unlink()
    save_model(network(2), path, external=True)
    assert "other.onnx.data" in names(path.parent)


@posix
def test_outputs_are_regular_files(path: Path) -> None:
    """A pipe, a device or a folder is no output, whether overwriting is allowed or not."""
    os.mkfifo(path.with_name("pipe"))
    path.with_name("device").symlink_to("/dev/null")
    path.with_name("folder").mkdir()
    for name in ("pipe", "device", "folder"):
        with pytest.raises(OutputError):
            save_model(network(), path.with_name(name), force=True)
        with pytest.raises(OutputError), whole_or_nothing() as writing:
            writing.open(path.with_name(name))
    assert names(path.parent) == ["device", "folder", "pipe"]
    assert path.with_name("pipe").is_fifo()


@pytest.mark.parametrize("old", ["weights.bin", "net.onnx.data"])
def test_shared_data_stays(path: Path, old: str) -> None:
    """Data that another model has too is neither overwritten nor removed."""
    other = path.with_name("other.onnx")
    other.write_bytes(external(path, location=old).read_bytes())
    save_model(network(2), path, external=True)
    assert load_model(other) == network()
    assert load_model(path) == network(2)


def test_data_of_nobody_known_stays(path: Path) -> None:
    """A data file is in the way like any other file, unless overwriting is allowed."""
    data = path.with_name("net.onnx.data")
    data.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"net\.onnx\.data already exists"):
        save_model(network(), path, external=True, force=False)
    assert names(path.parent) == ["net.onnx.data"]
    assert data.read_bytes() == b"mine"


def test_embedding_in_place(path: Path) -> None:
    """A model that takes its weights in needs no data file; that of others stays."""
    save_model(open_model(external(path)), path, external=False)
    assert names(path.parent) == ["net.onnx", "weights.bin"]
    assert load_model(path) == network()


def test_a_result_outlives_its_input(path: Path) -> None:
    """What was saved over its own input can still be asked for, and saved again."""
    from bnfold.folding import fold

    result = fold(external(path))
    result.save(path)
    assert load_model(path) == result.model
    result.save(path.with_name("again.onnx"))
    assert load_model(path.with_name("again.onnx")) == result.model


@posix
def test_link(path: Path) -> None:
    """Data beside a link would not be found, so a link takes an embedded model only."""
    external(path)
    link = path.with_name("link.onnx")
    link.symlink_to(path)
    with pytest.raises(OutputError, match="is a link"):
        save_model(network(), link, external=True)
    save_model(network(2), link, external=False)
    assert link.is_symlink()
    assert load_model(path) == network(2)


def test_without_hard_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system has no second names, the data is copied."""

    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    save_model(network(), path, external=True)
    save_model(network(2), path, external=True)
    assert load_model(path) == network(2)
    assert names(path.parent) == ["net.onnx", "net.onnx.data"]


def test_a_second_name_is_never_one_that_exists(path: Path) -> None:
    """Where a name is taken, what stands there is not written to: it may have other names."""
    path.write_bytes(b"mine")
    path.with_name("data").write_bytes(b"another")
    with pytest.raises(FileExistsError):
        publishing._link(path.with_name("data"), path)
    assert path.read_bytes() == b"mine"


# -- what goes wrong ----------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("limit", [1000, 5000, 16_000])
@pytest.mark.parametrize("copies", [True, False])
def test_full_disk(path: Path, limit: int, copies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file cannot grow, an error says so, and the old model and its data stay."""
    import resource

    if not copies:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    before = external(path, location="net.onnx.data"), names(path.parent)
    source = open_model(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OutputError, match=r"net\.onnx cannot be written: File too large"):
            save_model(source, path, external=limit != 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (path, names(path.parent)) == before
    assert load_model(path) == network()


CALLS = "replace rename link unlink mkdir rmdir fsync open chmod pwrite copy_file_range".split()
STEPS = f"""
CALLS = {CALLS}
import os, sys
from pathlib import Path
from bnfold.modelio import open_model, save_model

target, source, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "True"
alive = int(sys.argv[4])  # how many calls may pass

def dying(call):
    def counted(*args, **keywords):
        global alive
        if alive == 0:
            os._exit(9)
        alive -= 1
        return call(*args, **keywords)
    return counted

for name in CALLS:
    setattr(os, name, dying(getattr(os, name)))
save_model(open_model(source), target, external=kind)
"""
FORKS = """
import os, runpy, sys
import bnfold.modelio, bnfold.folding
script, check, *rest = sys.argv[1:]
for alive in range(1000):
    child = os.fork()
    if not child:
        sys.argv = ["steps", *rest, str(alive)]
        exec(script)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    exec(check)
    if code == 0:
        break
print(alive)
"""
CHECK = """
import numpy
from bnfold.modelio import load_model
tensors = load_model(rest[0]).graph.initializer  # some in the data file, some in the model
values = set(numpy.frombuffer(b"".join(t.raw_data for t in tensors), "f4"))
assert values in ({1.0}, {2.0}), alive
assert code in (0, 9), code
"""


@posix
@pytest.mark.parametrize("kind", [True, False])
@pytest.mark.parametrize("old", ["weights.bin", "net.onnx.data", None])
def test_ended_at_every_step(path: Path, old: str | None, kind: bool) -> None:
    """A process that ends before any one of its calls to the system leaves a whole model, be
    the data of the one before bnfold's own or not."""
    if old is None:
        save_model(network(1), path, external=True)
    else:
        external(path, 1.0, location=old)
    source = external(path.with_name("source.onnx"), 2.0, "source.data")
    script = [sys.executable, "-c", FORKS, STEPS, CHECK]
    done = subprocess.run(
        [*script, str(path), str(source), str(kind)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 8, "few steps were seen"
    assert load_model(path) == network(2)


@posix
@pytest.mark.parametrize("kind", [True, False])
def test_interrupted_at_every_step(path: Path, kind: bool) -> None:
    """An interrupt at any call to the system leaves the old model or the new, and nothing else."""
    external(path.with_name("source.onnx"), 2.0, "source.data")
    source = open_model(path.with_name("source.onnx"))
    outcomes = set()
    for calls in range(1000):
        save_model(network(1), path, external=True)
        is_interrupted = interrupted_after(calls, lambda: save_model(source, path, external=kind))
        made = load_model(path)
        assert made in (network(1), network(2))
        data = ["net.onnx.data"] if kind or made == network(1) else []
        assert names(path.parent) == ["net.onnx", *data, "source.data", "source.onnx"], calls
        outcomes.add((is_interrupted, made == network(2)))
        if not is_interrupted:
            break
    assert outcomes == {(True, False), (True, True), (False, True)}


def interrupted_after(calls: int, work: Callable[[], object]) -> bool:
    """Do some work, and be interrupted when so many calls to the system were made."""
    left = calls

    def counting(call: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **keywords: object) -> object:
            nonlocal left
            left -= 1
            if left == -1:
                # to this thread: another may take its time to tell the main one
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            return call(*args, **keywords)

        return counted

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, counting(getattr(os, name)))
            work()
    except KeyboardInterrupt:
        return True
    finally:
        signal.signal(signal.SIGTERM, before)
    return False


@pytest.mark.parametrize("name", ["twin", "transition", "net.onnx.data", "a.data"])
def test_any_name(path: Path, name: str) -> None:
    """No name of a model is one that bnfold needs for itself on the way."""
    target = path.with_name(name)
    for value in (1, 2):
        save_model(network(value), target, external=True)
        assert load_model(target) == network(value)
        assert names(path.parent) == [name, f"{name}.data"]


def test_a_model_that_cannot_take_its_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data, which was there before it, goes again."""
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target == path:
            raise PermissionError(13, "Permission denied")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        save_model(network(), path, external=True)
    assert names(path.parent) == []


def test_a_name_that_is_taken_meanwhile(path: Path) -> None:
    """What appears in the place of the model or of its data while it is made stays."""
    for taken in ("net.onnx", "net.onnx.data"):
        with drafted(path, force=taken == "net.onnx.data") as draft:
            draft.write(open_model(network()), external=True)
            path.with_name(taken).write_bytes(b"mine")
            with pytest.raises(OutputError, match="already exists"):
                draft.publish()
        assert names(path.parent) == [taken]
        assert path.with_name(taken).read_bytes() == b"mine"
        path.with_name(taken).unlink()


@posix
def test_a_link_to_nothing_is_no_output(path: Path) -> None:
    """It is not written through, whether overwriting is allowed or not."""
    path.symlink_to("elsewhere/net.onnx")
    path.with_name("other.onnx").symlink_to("gone.onnx")
    for name in ("net.onnx", "other.onnx"):
        with pytest.raises(OutputError, match="is a link to nothing"):
            save_model(network(), path.with_name(name), force=True)
    assert names(path.parent) == ["net.onnx", "other.onnx"]


KILLED = textwrap.dedent("""
    import sys
    from bnfold.folding import fold
    from bnfold.modelio import open_model, save_model
    models = [open_model(name) for name in sys.argv[2:]]
    kinds = (True, True, False, None)
    print("ready", flush=True)
    count = 0
    while True:
        save_model(models[count % 2], sys.argv[1], external=kinds[count // 2 % 4])
        count += 1
""")


def kill_at_random(path: Path, times: int, seed: int) -> int:
    """Kill a process that replaces a model again and again; how often it had replaced it."""
    sources = [
        external(path.with_name(f"source{value}.onnx"), value, f"source{value}.data")
        for value in (1, 2)
    ]
    external(path, 1, "net.onnx.data")
    rng, seen = random.Random(seed), set()
    for _ in range(times):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), *map(str, sources)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.communicate()
        loaded = load_model(path)
        assert loaded in (network(1), network(2))
        seen.add(path.stat().st_ino)
    return len(seen)


@posix
def test_killed(path: Path) -> None:
    """A process killed at any moment leaves the old or the new model, with its data."""
    assert kill_at_random(path, 5, seed=1) > 1


@posix
@pytest.mark.slow
def test_killed_a_hundred_times(path: Path) -> None:
    """The same, a hundred times."""
    assert kill_at_random(path, 100, seed=2) > 10


SIGNALS = {"KILL": -signal.SIGKILL, "TERM": 143, "HUP": 129} if os.name == "posix" else {}
COMMAND = "optimize net.onnx --in-place --no-bench --samples 2 --certificate proof.json --force"
MOMENTS = 40
"""At how many moments of a run each signal comes."""


@posix
@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
def test_ended_at_any_moment_of_a_run(tmp_path: Path, name: str) -> None:
    """A command that replaces its model leaves it as it was or folded, and only by KILL a trace:
    the moments are spread over the time that a run takes, from its start to its end."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    plain = save_for_runs(home)
    started = time.monotonic()
    assert run_in(home, temporary).wait() == 0
    takes = time.monotonic() - started
    folded = load_model(home / "net.onnx")
    seen = []
    for moment in range(MOMENTS):
        shutil.rmtree(home)
        save_for_runs(home)
        process = run_in(home, temporary)
        time.sleep(takes * moment / MOMENTS)
        process.send_signal(getattr(signal, f"SIG{name}"))
        code = process.wait(60)
        made = load_model(home / "net.onnx")
        assert made in (plain, folded)
        assert (home / "thesis.docx").read_bytes() == b"mine"
        if (home / "proof.json").exists():
            assert made == folded
            json.loads((home / "proof.json").read_bytes())
        if name == "KILL":
            shutil.rmtree(temporary)
            temporary.mkdir()
        else:
            expected = {"net.onnx", "net.onnx.data", "thesis.docx"}
            assert {*names(home)} - {"proof.json"} == expected
            assert not any(temporary.iterdir())
        seen.append(code)
    unheard = -getattr(signal, f"SIG{name}")  # by a process that could not yet listen
    assert set(seen) <= {0, unheard, SIGNALS[name]}
    assert seen.count(SIGNALS[name]) > MOMENTS // 2, "the moments are not within the run"


def save_for_runs(home: Path) -> onnx.ModelProto:
    """A model with data that bnfold wrote, and a file that it did not write."""
    home.mkdir()
    save_model(network(), home / "net.onnx", external=True)
    (home / "thesis.docx").write_bytes(b"mine")
    return load_model(home / "net.onnx")


def run_in(home: Path, temporary: Path) -> subprocess.Popen[bytes]:
    """A command in a folder, whose temporary files go to another."""
    return subprocess.Popen(
        [sys.executable, "-m", "bnfold_cli", *COMMAND.split()],
        cwd=home,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


# -- copying ------------------------------------------------------------------------------------


def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "copy_file_range", raising=False)


def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)


def giving_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0, raising=False)


@pytest.mark.parametrize("system", [absent, refusing, giving_up])
def test_copies_without_help(
    path: Path, system: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges arrive as they are where the system does not copy them by itself."""
    monkeypatch.setattr(target, "PIECE", 1000)
    source = open_model(external(path))
    system(monkeypatch)
    for kind in (True, False):
        save_model(source, path.with_name("out.onnx"), external=kind)
        assert load_model(path.with_name("out.onnx")) == network()


def test_a_constant_moves_too(path: Path) -> None:
    """The value of a Constant node goes into the data file like an initializer."""
    model = network()
    value = numpy_helper.from_array(np.ones(5000, np.float32))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["large"], value=value))
    save_model(model, path, external=True)
    assert path.stat().st_size < 4000
    assert load_model(path) == model
