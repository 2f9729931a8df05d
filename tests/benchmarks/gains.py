"""What is gained on real models? Makes the README's table, from the corpus beside the project.

    python tests/benchmarks/gains.py [--budget 20] [--threads 1] [--write]

Prints the table; `--write` puts it into README.md between its two marks. The models are those of
which folding changes much; without the corpus there is nothing to do, and the exit code is 0.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import bnfold
from bnfold.errors import BnfoldError
from bnfold.report import OptimizeResult
from bnfold.timings import SpeedMeasurement

ROOT = Path(__file__).parents[2]
CORPUS = ROOT.parent / "shared" / "corpus" / "models"
README = ROOT / "README.md"
BEGIN, END = "<!-- gains: begin -->", "<!-- gains: end -->"
MODELS = (
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
HEADER = (
    "| model | BatchNormalization folded | nodes | runtime's default level | optimizations off |\n"
    "| --- | --- | --- | --- | --- |"
)


@dataclass(frozen=True)
class Row:
    """One model in the table."""

    name: str
    result: OptimizeResult

    def text(self) -> str:
        folds = self.result.folds
        done = sum(site.verdict == "folded" for site in folds.normalizations)
        nodes = f"{folds.nodes_before} → {folds.nodes_after}"
        cells = [self.name, f"{done} of {len(folds.normalizations)}", nodes]
        speed = self.result.speed
        cells += [_said(m) for m in speed.measurements] if speed else ["nothing changed", ""]
        return f"| {' | '.join(cells)} |"


def _said(m: SpeedMeasurement) -> str:
    """A claim, or that none can be made."""
    low, high = m.interval
    if not m.stable:
        return "cannot tell"
    ratio = f"×{m.speedup:.2f} [{low:.2f}, {high:.2f}]"
    return ratio if m.significant else f"as fast, {ratio}"


def measured(name: str, budget_s: float, threads: int) -> Row | None:
    """Fold, prove and time a model; None where it cannot be run."""
    try:
        result = bnfold.optimize(CORPUS / f"{name}.onnx", budget_s=budget_s, threads=threads)
    except BnfoldError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return None
    row = Row(name, result)
    print(row.text(), file=sys.stderr)
    return row


def table(rows: list[Row], budget_s: float, threads: int) -> str:
    """The table, with how it was made below."""
    versions = next((r.result.speed.environment for r in rows if r.result.speed), {})
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    note = (
        f"ONNX Runtime {versions.get('onnxruntime', '?')}, CPU, {threads} thread of {cpus} cores; "
        f"{budget_s:g} s a model; median of paired ratios with its 95 % interval; "
        f"load average {os.getloadavg()[1]:.0f} meanwhile. Made by `tests/benchmarks/gains.py`."
    )
    return "\n".join([HEADER, *(row.text() for row in rows), "", note])


def write(text: str) -> None:
    """Put the table into the README, between the marks, or at the end of its part on speed."""
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
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    options = parser.parse_args()
    present = [name for name in MODELS if (CORPUS / f"{name}.onnx").exists()]
    if not present:
        print("skipped: the corpus is not beside the project", file=sys.stderr)
        return 0
    rows = [measured(name, options.budget, options.threads) for name in present]
    text = table([row for row in rows if row], options.budget, options.threads)
    print(text)
    if options.write:
        write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
