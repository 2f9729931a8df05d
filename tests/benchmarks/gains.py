"""What is gained on real models? Makes the README's table, from the corpus beside the project.

    python tests/benchmarks/gains.py [--budget 20] [--threads 1] [--write]

Prints the tables; `--write` puts them into README.md between its two marks. The models are those
of which folding changes much: trained ones, and published architectures with parallel branches,
of which the corpus has no weights and fills in random ones. What gains the time is found by
switching each part of the fold off. Without the corpus there is nothing to do, and the exit code
is 0.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import onnx

import bnfold
from bnfold.errors import BnfoldError
from bnfold.report import OptimizeResult
from bnfold.timings import SpeedMeasurement

ROOT = Path(__file__).parents[2]
CORPUS = ROOT.parent / "shared" / "corpus"
README = ROOT / "README.md"
BEGIN, END = "<!-- gains: begin -->", "<!-- gains: end -->"
TRAINED = (
    "ultraface_version_slim_320",
    "ultraface_version_rfb_320",
    "paddle_pp_ocr_v2_det",
    "paddle_pp_ocr_v2_cls",
    "gtcrn_simple",
    "ritnet_best_model",
    "mesonet",
    "deeploy_autoencoder1d",
    "fastai_tabular",
)
BRANCHES = (
    "hand__mobileone_s0_like_train__ts17",
    "timm__mobileone_s0__ts17",
    "timm__fastvit_t8__ts17_dyn",
)
FILLED = (
    "Architectures with parallel branches. Their weights here are random, which does not change "
    "how long they take:"
)
HEADER = (
    "| model | BatchNormalization folded | nodes | runtime's default level | what that comes from "
    "| optimizations off |\n| --- | --- | --- | --- | --- | --- |"
)


@dataclass(frozen=True)
class Row:
    """One model in the table."""

    name: str
    result: OptimizeResult

    def text(self) -> str:
        """The row in Markdown."""
        folds, speed = self.result.folds, self.result.speed
        done = sum(site.verdict == "folded" for site in folds.normalizations)
        nodes = f"{folds.nodes_before} → {folds.nodes_after}"
        cells = [self.name, f"{done} of {len(folds.normalizations)}", nodes]
        if speed is None:
            return f"| {' | '.join([*cells, 'nothing changed', '', ''])} |"
        deployed, off = speed.measurements
        return f"| {' | '.join([*cells, _said(deployed), _gained(deployed), _said(off)])} |"


def _gained(m: SpeedMeasurement) -> str:
    """The parts that are worth more than noise, each timed by switching it off."""
    parts = sorted((v for v in m.variants if v.significant), key=lambda v: -v.worth)
    return ", ".join(f"{v.name} ×{v.worth:.2f}" for v in parts) or "—"


def _said(m: SpeedMeasurement) -> str:
    """A claim, or that none can be made."""
    low, high = m.interval
    if not m.stable:
        return "cannot tell"
    ratio = f"×{m.speedup:.2f} [{low:.2f}, {high:.2f}]"
    return ratio if m.significant else f"as fast, {ratio}"


def measured(path: Path, budget_s: float, threads: int) -> Row | None:
    """Fold, prove and time a model; None where it cannot be run."""
    name = path.name.split(".")[0]
    try:
        model = filled(path) if path.suffix == ".gz" else path
        result = bnfold.optimize(model, budget_s=budget_s, threads=threads, attribute=True)
    except BnfoldError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return None
    row = Row(name, result)
    print(row.text(), file=sys.stderr)
    return row


def filled(path: Path) -> onnx.ModelProto:
    """An architecture of the corpus with weights, by the corpus's own script."""
    found = importlib.util.spec_from_file_location("fill", path.parent / "fill.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["fill"] = module
    found.loader.exec_module(module)
    model: onnx.ModelProto = module.fill(path, 0)
    return model


def tables(trained: list[Row], branches: list[Row], budget_s: float, threads: int) -> str:
    """Both tables, with how they were made below."""
    speeds = [row.result.speed for row in (*trained, *branches) if row.result.speed]
    versions = speeds[0].environment if speeds else {}
    load = f"load average {os.getloadavg()[1]:.0f} meanwhile" if hasattr(os, "getloadavg") else ""
    note = (
        f"ONNX Runtime {versions.get('onnxruntime', '?')}, CPU, {threads} thread, processors "
        f"{versions.get('processors', '?')}; at most {budget_s:g} s a model; median of paired "
        f"ratios with its 95 % interval; {load}. Made by `tests/benchmarks/gains.py`."
    )
    parts = [HEADER, *(row.text() for row in trained), ""]
    if branches:
        parts += [FILLED, "", HEADER, *(row.text() for row in branches), ""]
    return "\n".join([*parts, note])


def write(text: str) -> None:
    """Put the tables into the README, between the marks, or at the end of its part on speed."""
    page = README.read_text("utf-8")
    if BEGIN not in page:
        page = page.replace("\n## On a GPU\n", f"\n{BEGIN}\n\n{END}\n\n## On a GPU\n", 1)
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    README.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of timing a model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    options = parser.parse_args()
    trained = [CORPUS / "models" / f"{name}.onnx" for name in TRAINED]
    branches = [CORPUS / "zoo" / f"{name}.onnx.gz" for name in BRANCHES]
    if not any(path.exists() for path in (*trained, *branches)):
        print("skipped: the corpus is not beside the project", file=sys.stderr)
        return 0
    how = (options.budget, options.threads)
    groups = [
        [row for path in paths if path.exists() and (row := measured(path, *how))]
        for paths in (trained, branches)
    ]
    text = tables(*groups, *how)
    print(text)
    if options.write:
        write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
