"""Compares what bnfold and other tools leave of normalizations, and what they get wrong.

    python tests/benchmarks/comparison.py --write docs/comparison.md

Tools that are not installed are listed as such. To have them, make an environment of their own
and name its interpreter (see comparison-requirements.txt):

    python tests/benchmarks/comparison.py --python others/bin/python --write docs/comparison.md

Each tool runs in a process of its own. One that dies, or is silent for too long, is started again
behind the model that it stood at.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REGIMES = ("different", "equal")

TOLERANCE = {"float32": 1e-3, "float16": 2e-2}
"""Relative to the largest element of an output: what is wrong here is wrong by far more."""


# ------------------------------------------------------- the tools, in their own processes


def run_bnfold(path: str) -> Any:
    import bnfold

    return bnfold.fold(path).model


def run_onnxruntime(path: str) -> Any:
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = f"{path}.ort.onnx"
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


def run_onnxsim(path: str) -> Any:
    import onnx
    import onnxsim

    return onnxsim.simplify(onnx.load(path))[0]


def run_onnxslim(path: str) -> Any:
    import onnx
    import onnxslim

    return onnxslim.slim(onnx.load(path))


def run_onnxoptimizer(path: str) -> Any:
    import onnx
    import onnxoptimizer

    passes = onnxoptimizer.get_fuse_and_elimination_passes()
    return onnxoptimizer.optimize(onnx.load(path), passes, fixed_point=True)


def run_onnxscript(path: str) -> Any:
    import onnx
    from onnxscript import optimizer, rewriter

    return rewriter.rewrite(optimizer.optimize(onnx.load(path)))


def run_aimet(path: str) -> Any:
    import onnx
    from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight

    model = onnx.load(path)
    fold_all_batch_norms_to_weight(model)
    return getattr(model, "model", model)


def run_openvino(path: str) -> Any:
    """What it left, and its outputs: its result is no ONNX model."""
    import numpy as np

    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it would call home
    import openvino

    model = openvino.convert_model(path)
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    feeds = dict(np.load(f"{path}.npz"))
    names = {name for port in compiled.inputs for name in port.names}
    results = compiled({k: v for k, v in feeds.items() if k in names})
    outputs = [np.asarray(results[port]) for port in compiled.outputs]
    return openvino_left(model), outputs


def openvino_left(model: Any) -> int:
    """As `affines_left`; here every bias is an Add."""
    linear = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"}
    linear |= {"GroupConvolutionBackpropData", "Einsum"}
    left = 0
    affine = set()
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        sources = [port.get_source_output().get_node() for port in node.inputs()]
        data = [source for source in sources if not is_openvino_constant(source)]
        is_bias = kind == "Add" and any(source.get_type_name() in linear for source in data)
        arithmetic = kind in {"Multiply", "Divide", "Subtract", "Add"} and len(data) == 1
        if kind == "BatchNormInference" or (arithmetic and not is_bias):
            affine.add(node.get_friendly_name())
            left += data[0].get_friendly_name() not in affine
    return left


def is_openvino_constant(node: Any) -> bool:
    """A Constant, perhaps converted to another type."""
    while node.get_type_name() == "Convert":
        node = node.input(0).get_source_output().get_node()
    return bool(node.get_type_name() == "Constant")


TOOLS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "bnfold": ("bnfold", run_bnfold),
    "ONNX Runtime": ("onnxruntime", run_onnxruntime),
    "onnxsim": ("onnxsim", run_onnxsim),
    "onnxslim": ("onnxslim", run_onnxslim),
    "onnxoptimizer": ("onnxoptimizer", run_onnxoptimizer),
    "onnxscript": ("onnxscript", run_onnxscript),
    "aimet-onnx": ("aimet-onnx", run_aimet),
    "OpenVINO": ("openvino", run_openvino),
}


def work(tool: str) -> None:
    """In the tool's process: a path a line in, a JSON document a line out."""
    distribution, function = TOOLS[tool]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # tools print; only answers go to the parent

    def answer(**document: Any) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    answer(version=version_of(distribution))
    for line in sys.stdin:
        path = line.strip()
        try:
            answer(**saved(function(path), path, distribution))
        except Exception as error:
            answer(error=f"{type(error).__name__}: {' '.join(str(error).split())}"[:160])


def version_of(distribution: str) -> str:
    """As installed; bnfold may run from a checkout."""
    if distribution == "bnfold":
        import bnfold

        return bnfold.__version__
    return importlib.metadata.version(distribution)


def saved(result: Any, path: str, distribution: str) -> dict[str, Any]:
    """Where the result lies."""
    import numpy as np

    if isinstance(result, tuple):
        left, outputs = result
        target = f"{path}.{distribution}.npz"
        np.savez(target, *outputs)
        return {"outputs": target, "left": left}
    target = f"{path}.{distribution}.onnx"
    Path(target).write_bytes(result.SerializeToString())
    return {"model": target}


# ------------------------------------------------------------------------------ judging


def affines_left(model: Any) -> int:
    """Places where constants only scale and shift; the Add that is a MatMul's bias is none."""
    return sum(count_affines(graph) for graph in graphs_of(model.graph))


def graphs_of(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("g"):
                yield from graphs_of(a.g)


def count_affines(graph: Any) -> int:
    constants = {t.name for t in graph.initializer}
    makers: dict[str, str] = {}
    affine: set[str] = set()
    left = 0
    for node in graph.node:
        makers |= dict.fromkeys(node.output, node.op_type)
        data = [name for name in node.input if name and name not in constants]
        if not data and node.op_type != "If":
            constants |= set(node.output)
        elif is_affine(node.op_type, len(node.input), [makers.get(name, "") for name in data]):
            left += data[0] not in affine
            affine |= set(node.output)
    return left


def is_affine(op_type: str, inputs: int, makers: list[str]) -> bool:
    """By what makes its inputs that are not constant."""
    if op_type == "BatchNormalization":
        return True
    if op_type == "Add" and {"MatMul", "FusedMatMul", "Einsum"} & set(makers):
        return False
    return op_type in {"Mul", "Div", "Sub", "Add"} and inputs > len(makers)


def evaluate(model: Any, feeds: dict[str, Any], by_reference: bool) -> list[Any]:
    """The outputs, by ONNX Runtime with optimizations off, or by onnx's reference."""
    import onnxruntime as ort
    from onnx.reference import ReferenceEvaluator

    if by_reference:
        return list(ReferenceEvaluator(model).run(None, feeds))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    data = model if isinstance(model, str) else model.SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    return list(session.run(None, {k: v for k, v in feeds.items() if k in names}))


def is_wrong(got: list[Any], expected: list[Any]) -> bool:
    """Whether any output differs by far more than rounding does."""
    import numpy as np

    if [g.shape for g in got] != [e.shape for e in expected]:
        return True
    for g, e in zip(got, expected, strict=True):
        g, finite = g.astype(np.float64), np.isfinite(e)
        if not np.array_equal(np.isfinite(g), finite):
            return True
        scale = np.abs(e[finite].astype(np.float64)).max(initial=0) or 1.0
        limit = TOLERANCE.get(e.dtype.name, 1e-3)
        if np.abs(g[finite] - e[finite]).max(initial=0) / scale > limit:
            return True
    return False


# ------------------------------------------------------------------------------- parent


@dataclass
class Case:
    """One pattern at one set of sizes, as a file, with what is right."""

    pattern: Any
    path: str
    feeds: dict[str, Any]
    names: list[str]
    expected: list[Any]

    def verdict(self, answer: dict[str, Any]) -> int | str:
        """The nodes left, or what is the matter."""
        import numpy as np
        import onnx

        if "error" in answer:
            return "fails"
        if "outputs" in answer:
            with np.load(answer["outputs"]) as data:
                got = [data[name] for name in data.files]
            return "wrong" if is_wrong(got, self.expected) else int(answer["left"])
        model = onnx.load(answer["model"])
        if [o.name for o in model.graph.output] != self.names:
            return "wrong"
        try:
            got = evaluate(model, self.feeds, self.pattern.by_reference)
        except Exception:
            return "wrong"  # what it made does not run
        return "wrong" if is_wrong(got, self.expected) else affines_left(model)


def make_cases(folder: Path, only: str) -> list[Case]:
    """Write every pattern, twice."""
    sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "benchmarks")]
    import numpy as np
    from patterns import PATTERNS

    cases = []
    for index, pattern in enumerate(PATTERNS):
        if not fnmatch.fnmatch(pattern.name, only):
            continue
        for regime in REGIMES:
            built = pattern.built(regime)
            path = folder / f"{index:02}-{regime}.onnx"
            path.write_bytes(built.model.SerializeToString())
            np.savez(f"{path}.npz", **built.feeds)
            expected = evaluate(built.model, built.feeds, pattern.by_reference)
            names = [o.name for o in built.model.graph.output]
            cases.append(Case(pattern, str(path), built.feeds, names, expected))
    return cases


@dataclass
class Outcome:
    """What one tool did: its version, and a verdict for each pattern."""

    tool: str
    version: str = "not installed"
    verdicts: dict[str, int | str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def note(self, case: Case, answer: dict[str, Any]) -> None:
        """Of the two sizes, the worse verdict counts."""
        name, said = case.pattern.name, case.verdict(answer)
        if "error" in answer:
            self.errors[name] = answer["error"]
        both = [said, *([self.verdicts[name]] if name in self.verdicts else [])]
        words = [v for v in both if isinstance(v, str)]
        self.verdicts[name] = max(words) if words else max(both)


def interpreter_for(tool: str, pythons: list[str]) -> str | None:
    """The first that has the tool."""
    code = f"import importlib.metadata as m; m.version({TOOLS[tool][0]!r})"
    for python in pythons:
        if tool == "bnfold" and python == sys.executable:
            return python
        if subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0:
            return python
    return None


class Worker:
    """A tool's process, asked one model at a time."""

    def __init__(self, tool: str, python: str, timeout: float) -> None:
        self.timeout = timeout
        environment = dict(os.environ)
        if python != sys.executable:
            environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(
            [python, "-W", "ignore", __file__, "--work", tool],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def read(self) -> dict[str, Any]:
        """The next answer; an error where none comes in time."""
        assert self.process.stdout is not None
        timer = threading.Timer(self.timeout, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        return dict(json.loads(line)) if line else {"error": "it crashed, or took too long"}

    def ask(self, path: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{path}\n")
            self.process.stdin.flush()
        except OSError:
            return {"error": "it crashed"}
        return self.read()

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def try_tool(tool: str, cases: list[Case], pythons: list[str], timeout: float) -> Outcome:
    """All cases through one tool."""
    outcome = Outcome(tool)
    python = interpreter_for(tool, pythons)
    if python is None:
        return outcome
    worker: Worker | None = None
    for case in cases:
        if worker is None:
            worker = Worker(tool, python, timeout)
            greeting = worker.read()
            if "version" not in greeting:
                outcome.version = "does not start"
                return outcome
            outcome.version = greeting["version"]
        answer = worker.ask(case.path)
        outcome.note(case, answer)
        if answer.get("error", "").startswith("it crashed") or not worker.is_alive():
            worker.close()
            worker = None
    if worker is not None:
        worker.close()
    return outcome


# ------------------------------------------------------------------------------- output


def table(outcomes: list[Outcome], cases: list[Case]) -> list[str]:
    """One row a pattern, one column a tool; below it the sums."""
    patterns = list(dict.fromkeys(case.pattern for case in cases))
    tried = [o for o in outcomes if o.verdicts]
    lines = [f"| pattern | must stay | {' | '.join(o.tool for o in tried)} |"]
    lines.append("| --- |" + " ---: |" * (len(tried) + 1))
    for pattern in patterns:
        cells = [cell(o.verdicts[pattern.name], pattern.left) for o in tried]
        lines.append(f"| {pattern.name} | {pattern.left} | {' | '.join(cells)} |")
    sums = {
        "**left that could go**": [str(excess(o, patterns)) for o in tried],
        "**wrong**": [str(sum(v == "wrong" for v in o.verdicts.values())) for o in tried],
        "**fails**": [str(sum(v == "fails" for v in o.verdicts.values())) for o in tried],
    }
    lines += [f"| {name} | | {' | '.join(row)} |" for name, row in sums.items()]
    return lines


def cell(verdict: int | str, least: int) -> str:
    """A verdict; what is not as good as can be stands out."""
    if isinstance(verdict, str):
        return f"**{verdict}**"
    return str(verdict) if verdict <= least else f"*{verdict}*"


def excess(outcome: Outcome, patterns: list[Any]) -> int:
    """Places left beyond those that must stay, where the result is right."""
    verdicts = [(outcome.verdicts[p.name], p.left) for p in patterns]
    return sum(max(v - least, 0) for v, least in verdicts if isinstance(v, int))


def page(outcomes: list[Outcome], cases: list[Case]) -> str:
    """The whole document."""
    versions = [f"| {o.tool} | {o.version} |" for o in outcomes]
    errors = [
        f"- {o.tool}, *{name}*: `{text.replace('`', chr(39))}`"
        for o in outcomes
        for name, text in o.errors.items()
    ]
    patterns = len({case.pattern.name for case in cases})
    return "\n".join(
        [
            "# Other tools on the same patterns",
            "",
            f"Made by `tests/benchmarks/comparison.py` on {datetime.date.today().isoformat()} "
            f"with Python {platform.python_version()} on {platform.machine()}. {patterns} small "
            "models with random weights of both signs, each with all sizes different and with "
            "all sizes equal, where a wrong axis hides; the worse of the two is shown.",
            "",
            "A number is at how many places nodes are left that only scale or shift by constants: "
            "BatchNormalization, and Mul, Div, Sub and Add with a constant, of which several in a "
            "row count once, and the bias of a MatMul does not. *Slanted* is more than must stay. "
            "**wrong**: what came out differs from the original by more than a thousandth of the "
            "largest element (two hundredths in float16), or does not run, or has other outputs, "
            "on ONNX Runtime with optimizations off. **fails**: the tool ended with an error.",
            "",
            "The tools have other aims than this one, and do much that bnfold does not. ONNX "
            "Runtime is its own optimizer at level extended, with the model saved; onnxscript is "
            "its optimizer and its rewriter with the rules that come with it; aimet-onnx is "
            "`fold_all_batch_norms_to_weight`; OpenVINO is its converter, judged by its own CPU "
            "plugin in float32. onnxoptimizer leaves the arithmetic on weights as nodes for the "
            "runtime to compute; they are not counted.",
            "",
            "| tool | version |",
            "| --- | --- |",
            *versions,
            "",
            *table(outcomes, cases),
            "",
            *(["Errors:", "", *errors, ""] if errors else []),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", action="append", default=[], help="an interpreter with tools")
    parser.add_argument("--tool", action="append", choices=list(TOOLS), help="only this one")
    parser.add_argument("--only", default="*", help="a glob over the patterns' names")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for one model")
    parser.add_argument("--write", type=Path, help="where the page goes; printed if not given")
    parser.add_argument("--work", choices=list(TOOLS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(Path(folder), options.only)
        outcomes = []
        for tool in options.tool or list(TOOLS):
            pythons = [sys.executable, *options.python]
            outcomes.append(try_tool(tool, cases, pythons, options.timeout))
            print(tool, outcomes[-1].version, file=sys.stderr, flush=True)
    text = page(outcomes, cases)
    if options.write:
        options.write.write_text(text, "utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
