"""The commands: what they ask of the library, what they print, and how they exit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from results import MEASURED

import bnfold
from bnfold.errors import ModelError, NotEquivalent, ProviderUnavailable
from bnfold.report import (
    EquivalenceReport,
    FoldReport,
    FoldSite,
    OptimizeResult,
    OutputComparison,
    Target,
)
from bnfold.stored import StoredModel
from bnfold.timings import SpeedReport
from bnfold_cli import app
from bnfold_cli.values import parse_dims, parse_providers

SITE = FoldSite("y", "BatchNormalization", "folded", "backward", "h", (Target("h", "Conv"),))
FOLDS = FoldReport(sites=(SITE,), nodes_before=2, nodes_after=1, opset=17)
OUTPUT = OutputComparison(
    tensor="y",
    provider="CPUExecutionProvider",
    level="all",
    dtype="float32",
    passed=True,
    original_error=4.1e-7,
    candidate_error=3.3e-7,
    limit=4e-6,
    max_abs=float("inf"),
    max_rel=0.0,
)
PROOF = EquivalenceReport((OUTPUT,), 0, ("normal",), "float64", ("CPUExecutionProvider",))
SPEED = SpeedReport((MEASURED,), 0, "the runtime folds nothing here by itself")


class Library:
    """Fakes of the library's functions, and what they were called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.results: dict[str, Any] = {
            "inspect": FOLDS,
            "verify": PROOF,
            "bench": SPEED,
            "optimize": OptimizeResult(
                FOLDS, PROOF, SPEED, "out.onnx", stored=StoredModel(onnx.ModelProto())
            ),
        }
        for name in self.results:
            monkeypatch.setattr(bnfold, name, self._fake(name), raising=False)

    def _fake(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, arguments, options))
            result = self.results[name]
            if isinstance(result, BaseException):
                raise result
            return result

        return call

    @property
    def options(self) -> dict[str, Any]:
        """The keywords of the last call."""
        return self.calls[-1][2]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    return Library(monkeypatch)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.v2.onnx"
    path.write_bytes(b"a model")
    return path


# -- exit codes ---------------------------------------------------------------------------------


def test_yes(library: Library, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command exits with 0 where the answer is yes."""
    assert app.run(["optimize", str(model)]) == 0
    assert app.run(["inspect", str(model)]) == 0
    assert app.run(["verify", str(model), str(model)]) == 0
    assert app.run(["bench", str(model), str(model)]) == 0
    assert app.run(["explain"]) == 0
    assert capsys.readouterr().err == ""


def test_no(library: Library, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command that gives an answer exits with 1 where it is no."""
    assert app.run(["inspect", "--check", str(model)]) == 1
    library.results["verify"] = replace(PROOF, outputs=(replace(OUTPUT, passed=False),))
    assert app.run(["verify", str(model), str(model)]) == 1
    assert app.run(["bench", str(model), str(model), "--fail-below", "2.5"]) == 1
    library.results["optimize"] = NotEquivalent("even unfolded it differs", "Report it.")
    assert app.run(["optimize", str(model)]) == 1
    assert "error: even unfolded it differs\nhint: Report it.\n" in capsys.readouterr().err


def test_check_is_content_with_a_folded_model(library: Library, model: Path) -> None:
    """`inspect --check` exits with 0 when nothing is left to fold."""
    library.results["inspect"] = replace(FOLDS, sites=(replace(SITE, verdict="kept"),))
    assert app.run(["inspect", "--check", str(model)]) == 0


@pytest.mark.parametrize(
    ("changes", "expected", "words"),
    [
        ({}, 0, "Fast enough: at least ×1.05"),
        ({"speedup": 1.0}, 1, "Not fast enough: below the ×1.05"),
        ({"stable": False}, 2, "Cannot tell whether it is below the ×1.05"),
    ],
)
def test_fail_below(
    library: Library,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    expected: int,
    words: str,
) -> None:
    """--fail-below is answered by the speedup, or by nobody if the control is unstable; the
    answer is said."""
    library.results["bench"] = replace(SPEED, measurements=(replace(MEASURED, **changes),))
    command = ["bench", str(model), str(model), "--fail-below", "1.05"]
    assert app.run(command) == expected
    assert words in capsys.readouterr().out
    assert app.run([*command, "--json"]) == expected
    answer = json.loads(capsys.readouterr().out)["fail_below"]["answer"]
    assert answer == ("yes", "no", "cannot tell")[expected]


def test_a_report_tells_what_each_part_is_worth(library: Library, model: Path) -> None:
    """It is timed where a report is written, unless that is switched off, and else on demand."""
    command = ["optimize", str(model), "--force"]
    for options, asked in (
        ([], False),
        (["--attribute"], True),
        (["--report", "r.html"], True),
        (["--report", "r.html", "--no-attribute"], False),
    ):
        app.run([*command, *options])
        assert library.options["attribute"] is asked


def test_could_not(library: Library, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error about the user's input is two lines on standard error and exit code 2."""
    library.results["inspect"] = ProviderUnavailable("no CUDA\nhere", "Install it.")
    assert app.run(["inspect", str(model)]) == 2
    assert capsys.readouterr() == ("", "error: no CUDA here\nhint: Install it.\n")


def test_bug(library: Library, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Any other exception is 70, never 1, with its traceback only when asked for."""
    library.results["inspect"] = ValueError("oh\nno")
    assert app.run(["inspect", str(model)]) == 70
    err = capsys.readouterr().err
    assert err.startswith("error: this is a bug in bnfold: ValueError: oh no\nhint: ")
    assert err.count("\n") == 2
    assert app.run(["inspect", str(model), "--traceback"]) == 70
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_interrupted(library: Library, model: Path) -> None:
    """Ctrl-C is 130."""
    library.results["inspect"] = KeyboardInterrupt()
    assert app.run(["inspect", str(model)]) == 130


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["optimize"],
        ["optimize", "m.onnx", "--nonsense"],
        ["optimize", "m.onnx", "--in-place", "-o", "x.onnx"],
        ["optimize", "m.onnx", "--input", "x=1xb"],
        ["optimize", "m.onnx", "--input", "1x3"],
        ["optimize", "m.onnx", "--dim", "batch"],
        ["optimize", "m.onnx", "--dim", "batch=-1"],
        ["optimize", "m.onnx", "--seed", "x"],
        ["optimize", "m.onnx", "--samples", "0"],
        ["optimize", "m.onnx", "--pin", "0,x"],
        ["optimize", "m.onnx", "--pin", "3-1"],
        ["bench", "a.onnx", "b.onnx", "--pin", "0-99999999999"],
        ["verify", "m.onnx"],
        ["bench", "a.onnx", "b.onnx", "--ort-level", "some"],
        ["inspect", "m.onnx", "--color", "pink"],
        ["explain", "BNF999"],
    ],
)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong option or argument is one error line, one hint line and exit code 2."""
    assert app.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("error: ")
    assert second.startswith("hint: `bnfold ")


def test_errors_as_json(library: Library, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under --json an error is one document on standard output beside the human text."""
    library.results["inspect"] = ModelError("bad", "Mend it.")
    assert app.run(["inspect", str(model), "--json"]) == 2
    out, err = capsys.readouterr()
    assert err == "error: bad\nhint: Mend it.\n"
    error = {"type": "ModelError", "message": "bad", "hint": "Mend it."}
    assert json.loads(out) == {"schema": 1, "error": error}
    assert app.run(["inspect", "--json", "--nonsense"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["message"].startswith("no such option")


# -- where the result goes ----------------------------------------------------------------------


def test_default_output(library: Library, model: Path) -> None:
    """The result stands beside the input as NAME.folded.onnx, dots in the name kept."""
    app.run(["optimize", str(model)])
    assert library.calls[-1][1] == (model, model.with_name("net.v2.folded.onnx"))
    assert library.options["force"] is False


def test_chosen_output(library: Library, model: Path) -> None:
    """-o says where, --in-place says here, --dry-run says nowhere."""
    app.run(["optimize", str(model), "-o", "there.onnx"])
    assert library.calls[-1][1][1] == Path("there.onnx")
    app.run(["optimize", str(model), "--in-place"])
    assert library.calls[-1][1][1] == model
    assert library.options["force"] is True
    app.run(["optimize", str(model), "--dry-run", "-o", "there.onnx"])
    assert library.calls[-1][1][1] is None


def test_existing_output(
    library: Library, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An existing output is refused before any work, and replaced only with --force."""
    output = model.with_name("net.v2.folded.onnx")
    output.write_bytes(b"old")
    assert app.run(["optimize", str(model)]) == 2
    assert not library.calls
    assert capsys.readouterr().err == (
        f"error: {output} already exists\nhint: pass --force, or another path with -o\n"
    )
    assert app.run(["optimize", str(model), "--force"]) == 0
    assert library.options["force"] is True


def test_the_input_is_not_the_output(
    library: Library, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The input is never the output by accident, also with --force and through a link."""
    link = model.with_name("link.onnx")
    link.symlink_to(model)
    for output in (model, link):
        assert app.run(["optimize", str(model), "--force", "-o", str(output)]) == 2
        assert "is the input itself" in capsys.readouterr().err
    assert not library.calls


def test_bad_output(library: Library, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing folder or a folder as the output is refused before any work."""
    for output in ("no/such/m.onnx", "."):
        assert app.run(["optimize", str(model), "-o", output]) == 2
        assert capsys.readouterr().err.startswith(f"error: {output} ")
    assert not library.calls


# -- options ------------------------------------------------------------------------------------


def test_every_option_arrives(library: Library, model: Path) -> None:
    """What is given to `optimize` is what the library gets."""
    text = (
        "--keep a --keep b --no-reparameterize --keep-overridable --input x=1x3x8x8 "
        "--dim batch=4 --data inputs.npz --seed 7 --samples 3 --provider cpu --provider cuda "
        "--atol 1e-5 --rtol 1e-4 --no-verify --no-bench --threads 2 --budget 1.5 "
        "--timeout 90 --attribute --pin 0,2-3"
    )
    assert app.run(["optimize", str(model), *text.split()]) == 0
    options = dict(library.options)
    assert callable(options.pop("progress"))
    assert options == {
        "keep": ("a", "b"),
        "reparameterize": False,
        "keep_overridable": True,
        "dims": {"x": (1, 3, 8, 8), "batch": 4},
        "data": Path("inputs.npz"),
        "seed": 7,
        "samples": 3,
        "providers": ["cpu", "cuda"],
        "atol": 1e-5,
        "rtol": 1e-4,
        "verify": False,
        "bench": False,
        "attribute": True,
        "pin": (0, 2, 3),
        "threads": 2,
        "budget_s": 1.5,
        "timeout_s": 90.0,
        "force": False,
    }


def test_defaults_are_the_library_s(library: Library, model: Path) -> None:
    """What is not given is left to the library, where a number is a matter of measurement."""
    app.run(["optimize", str(model)])
    assert not {"samples", "budget_s", "timeout_s"} & set(library.options)
    app.run(["bench", str(model), str(model)])
    assert not {"levels", "budget_s", "timeout_s"} & set(library.options)


def test_levels(library: Library, model: Path) -> None:
    """--ort-level arrives as the library spells it, in the order given."""
    names = ["--ort-level", "disable", "--ort-level", "all"]
    app.run(["bench", str(model), str(model), *names])
    assert library.options["levels"] == ("disable", "all")


def test_parse_providers() -> None:
    """A name, or a name with options of its own."""
    assert parse_providers(["cpu", "openvino:device_type=GPU,num_streams=2"]) == [
        "cpu",
        ("openvino", {"device_type": "GPU", "num_streams": "2"}),
    ]
    assert parse_providers([]) is None


@pytest.mark.parametrize("text", ["cuda:", "cuda:device_id", ":a=b", "cuda:=1"])
def test_a_provider_with_bad_options(
    text: str, library: Library, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no KEY=VALUE behind a provider is a usage error that shows the form."""
    assert app.run(["verify", str(model), str(model), "--provider", text]) == 2
    assert "NAME:KEY=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify MODEL MODEL", "optimize MODEL"])
def test_judge_seconds(command: str, library: Library, model: Path) -> None:
    """The time of the judge arrives where it is given."""
    arguments = command.replace("MODEL", str(model)).split()
    app.run([*arguments, "--judge-seconds", "5"])
    assert library.options["judge_seconds"] == 5
    app.run(arguments)
    assert "judge_seconds" not in library.options


def test_parse_dims() -> None:
    """A name may contain the equals sign; a shape may be that of a scalar."""
    assert parse_dims(["a=b=2x3", "s="], ["n=5"]) == {"a=b": (2, 3), "s": (), "n": 5}
    assert parse_dims(None, None) is None
    assert parse_dims([], []) is None


# -- JSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["optimize", "inspect", "verify", "bench"])
def test_json(
    library: Library, model: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """--json prints one valid document and nothing else, with schema, version and command."""
    paths = [str(model)] * (1 if command in ("optimize", "inspect") else 2)
    assert app.run([command, *paths, "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out, parse_constant=pytest.fail)
    assert err == ""
    assert document["schema"] == 1
    assert document["bnfold"] == bnfold.__version__
    assert document["command"] == command
    assert str(model) in (document.get("model"), document.get("original"))


def test_json_contents(library: Library, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The document of `optimize` holds the folds, the proof and the speed as they are."""
    app.run(["optimize", str(model), "--json", "-q"])
    document = json.loads(capsys.readouterr().out)
    assert document["output"] == "out.onnx"
    assert document["folds"]["sites"][0]["targets"] == [{"tensor": "h", "op_type": "Conv"}]
    assert document["equivalence"]["outputs"][0]["candidate_error"] == 3.3e-7
    assert document["equivalence"]["outputs"][0]["max_abs"] is None, "no infinity in JSON"
    assert document["speed"]["measurements"][0]["interval"] == [1.9, 2.1]
    assert document["model"] == str(model)


def test_quiet(library: Library, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """-q prints nothing, and exits as it would."""
    assert app.run(["inspect", str(model), "-q", "--check"]) == 1
    assert capsys.readouterr() == ("", "")


# -- the process --------------------------------------------------------------------------------


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bnfold_cli", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
        check=False,
    )


LAZY = """
import sys
from bnfold_cli.app import run
code = run(sys.argv[1:])
heavy = {"onnx", "onnxruntime", "numpy", "torch", "bnfold"} & set(sys.modules)
sys.exit(f"imported {sorted(heavy)}" if heavy else code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["optimize", "--help"],
        ["inspect", "--help"],
        ["verify", "--help"],
        ["bench", "--help"],
        ["explain", "--help"],
        ["optimize", "m.onnx", "--nonsense"],
        ["optimize", "m.onnx", "--input", "x=1xb"],
    ],
)
def test_help_and_parsing_import_nothing_heavy(arguments: list[str]) -> None:
    """Help and wrong options answer without onnx, numpy, torch or a runtime."""
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", LAZY, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == (0 if "--help" in arguments else 2), done.stderr


def test_every_option_has_help() -> None:
    """Each option and argument of each command says what it does."""
    for name in ("optimize", "inspect", "verify", "bench", "explain"):
        text = process(name, "--help", COLUMNS="200", TERM="dumb").stdout
        rows = [row for row in text.splitlines() if row.startswith("│") and "--" in row[:12]]
        assert rows
        assert all(len(row.strip("│ ").split("  ")[-1]) > 10 for row in rows), rows


def test_version_and_bare_call() -> None:
    """--version prints the version; without a command the help is shown, with exit code 2."""
    assert process("--version").stdout == f"bnfold {bnfold.__version__}\n"
    bare = process()
    assert bare.returncode == 2
    assert "optimize" in bare.stdout


def test_ascii_terminal(tmp_path: Path) -> None:
    """A terminal that knows only ASCII gets escapes, not an error."""
    done = process("inspect", str(tmp_path / "é×Δ.onnx"), PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert "\\xe9" in done.stderr


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    """A code and its name explain the same; without one all are listed."""
    assert app.run(["explain", "BNF202", "--color", "never"]) == 0
    by_code = capsys.readouterr().out
    assert by_code.startswith("BNF202 shared-value\n")
    assert app.run(["explain", "Shared-Value", "--color", "never"]) == 0
    assert capsys.readouterr().out == by_code
    assert app.run(["explain"]) == 0
    assert "BNF302  padded-shift" in capsys.readouterr().out
    assert app.run(["explain", "BNF202", "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)["reasons"][0]
    assert entry["code"] == "BNF202"
