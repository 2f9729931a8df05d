"""The words of each report, held against what they should be."""

from __future__ import annotations

from dataclasses import replace

import onnx
from results import MEASURED

from bnfold.report import (
    EquivalenceReport,
    FoldReport,
    FoldSite,
    MergedBlock,
    OptimizeResult,
    OutputComparison,
    Target,
)
from bnfold.stored import StoredModel
from bnfold.timings import SpeedReport
from bnfold_cli import render
from bnfold_cli.lines import Line, Span, columns, line, text_of
from bnfold_cli.render.outcome import sizes

BN = "BatchNormalization"


def folded(tensor: str, kind: str = "Conv", path: tuple[str, ...] = ()) -> FoldSite:
    target = Target(tensor.replace("bn", "conv"), kind)
    return FoldSite(tensor, BN, "folded", "backward", target.tensor, (target,), path)


SHARED = FoldSite(
    "/stage3/bn_2/Output_0",
    BN,
    "kept",
    code="BNF202",
    reason="shared-value",
    detail="/stage3/conv_2/Conv_output_0 has 2 consumers",
)
TRAINING = FoldSite(
    "/head/bn/Output_0",
    BN,
    "kept",
    code="BNF101",
    reason="training-mode",
    detail="it uses the statistics of the batch",
)
TAKEN_BACK = FoldSite(
    "/stage4/bn_0/Output_0",
    BN,
    "rolled_back",
    code="BNF401",
    reason="not-equivalent",
    detail="error 3.1e-02 on CUDAExecutionProvider",
)
SCALE = FoldSite(
    "/scale/Mul_output_0",
    "Mul",
    "kept",
    code="BNF203",
    reason="opaque-op",
    detail="Sigmoid stops",
)
EDGE = FoldReport(
    sites=(
        *(folded(f"/stage1/bn_{i}/Output_0") for i in range(3)),
        folded("/pool/bn/Output_0", path=("MaxPool",)),
        folded("/fc/bn/Output_0", "Gemm"),
        SHARED,
        TRAINING,
        SCALE,
    ),
    nodes_before=214,
    nodes_after=209,
    opset=17,
)
LOGITS = OutputComparison(
    tensor="logits",
    provider="CPUExecutionProvider",
    level="all",
    dtype="float32",
    passed=True,
    original_error=4.1e-7,
    candidate_error=3.3e-7,
    limit=4.1e-6,
    max_abs=2.9e-6,
    max_rel=1e-5,
    index=(3, 417),
    expected=0.481236,
    actual=0.512904,
    elements=8000,
    sample="normal, batch 3",
)
PROOF = EquivalenceReport(
    outputs=(LOGITS, replace(LOGITS, level="disable", candidate_error=1e-7)),
    seed=0,
    samples=("normal, batch 3", "uniform, batch 1"),
    judge="float64",
    providers=("CPUExecutionProvider",),
)
AT_ALL = replace(
    MEASURED,
    threads=4,
    shapes={"image": (1, 3, 224, 224)},
    rounds=200,
    original_ms=23.41,
    original_spread_ms=0.18,
    candidate_ms=23.38,
    candidate_spread_ms=0.2,
    speedup=1.0,
    interval=(0.99, 1.01),
    significant=False,
)
PLAIN = replace(
    AT_ALL,
    level="disable",
    original_ms=31.9,
    candidate_ms=28.75,
    speedup=1.11,
    interval=(1.09, 1.13),
    significant=True,
)
SPEED = SpeedReport(
    measurements=(AT_ALL, PLAIN),
    seed=0,
    sentence="at this level ONNX Runtime folds 4 of the 5 nodes itself",
)
RESULT = OptimizeResult(
    folds=EDGE,
    equivalence=PROOF,
    speed=SPEED,
    output="edge.folded.onnx",
    original_bytes=44_700_000,
    bytes=44_600_000,
    stored=StoredModel(onnx.ModelProto()),
)


def text(lines: list[Line]) -> str:
    return "\n".join(map(text_of, lines))


# -- optimize -----------------------------------------------------------------------------------


def test_optimize() -> None:
    """Verdict first, evidence next, next step last."""
    assert text(render.optimize(RESULT, "edge.onnx")) == (
        """\
Folded 5 of 7 BatchNormalization nodes: 4 into Conv, 1 into Gemm

Kept 2
  BNF202 shared-value   /stage3/bn_2/Output_0  /stage3/conv_2/Conv_output_0 has 2 consumers
  BNF101 training-mode  /head/bn/Output_0      it uses the statistics of the batch

Verified  CPUExecutionProvider  \
error against float64: original 4.1e-07, folded 3.3e-07 (2 samples, seed 0)
As fast:  ×1.00 [0.99, 1.01], within noise (original against itself ×1.00 [0.99, 1.01])  \
23.4 → 23.4 ms, CPUExecutionProvider, level all
Faster:   ×1.11 [1.09, 1.13] (original against itself ×1.00 [0.99, 1.01])                \
31.9 → 28.8 ms, CPUExecutionProvider, level disable
Note: at this level ONNX Runtime folds 4 of the 5 nodes itself
Wrote edge.folded.onnx (214 → 209 nodes, 44.7 → 44.6 MB)
Run `bnfold explain BNF101` to read about a reason."""
    )


def test_optimize_all_folded() -> None:
    """The common case is short: nothing kept, nothing explained."""
    folds = replace(EDGE, sites=(folded("bn1"), folded("bn2")))
    lines = render.optimize(replace(RESULT, folds=folds, speed=None), "edge.onnx")
    assert text(lines) == (
        """\
Folded 2 of 2 BatchNormalization nodes, all into Conv
Verified  CPUExecutionProvider  \
error against float64: original 4.1e-07, folded 3.3e-07 (2 samples, seed 0)
Wrote edge.folded.onnx (214 → 209 nodes, 44.7 → 44.6 MB)"""
    )


def test_optimize_rolled_back_and_unproven() -> None:
    """A fold that was taken back is listed apart; a result without proof says so."""
    folds = replace(EDGE, sites=(folded("bn1"), TAKEN_BACK))
    result = replace(RESULT, folds=folds, equivalence=None, speed=None)
    assert text(render.optimize(result, "edge.onnx")) == (
        """\
Folded 1 of 2 BatchNormalization nodes, into Conv

Rolled back 1
  BNF401 not-equivalent  /stage4/bn_0/Output_0  error 3.1e-02 on CUDAExecutionProvider

Not verified: equivalence was not proven
Wrote edge.folded.onnx (214 → 209 nodes, 44.7 → 44.6 MB)
Run `bnfold explain BNF401` to read about a reason."""
    )


def test_optimize_nothing() -> None:
    """Nothing to fold is an answer, and the file that a pipeline waits for is written."""
    folds = FoldReport(sites=(), nodes_before=9, nodes_after=9, opset=17)
    result = replace(RESULT, folds=folds, equivalence=None, speed=None)
    assert text(render.optimize(result, "edge.onnx")) == (
        """\
Nothing to fold: no BatchNormalization here
Wrote edge.folded.onnx, the same model, for what comes next in a pipeline"""
    )


def test_optimize_everything_else() -> None:
    """Every other change to the model has a line."""
    folds = replace(
        EDGE,
        sites=(folded("bn1"), replace(SCALE, verdict="folded"), SCALE),
        merged=(MergedBlock("sum", "Conv", ("Conv 3x3", "identity"), (8, 8, 3, 3), 5, 1),),
        frozen_inputs=("w",),
        flushed=1204,
        removed_movement=2,
        notes=("something to know",),
    )
    result = replace(RESULT, folds=folds, output=None, speed=None)
    assert text(render.optimize(result, "edge.onnx", dry_run=True)) == (
        """\
Folded 1 of 1 BatchNormalization node, into Conv
Also folded 1 of 2 nodes with constants (Mul)
Merged 1 block of parallel branches, each into one Conv
Removed 2 Transposes or Reshapes that stood around a folded node
1 weight is no longer a graph input; --keep-overridable leaves such alone
1,204 folded values were too small to matter (subnormal) and became zero
Verified  CPUExecutionProvider  \
error against float64: original 4.1e-07, folded 3.3e-07 (2 samples, seed 0)
Note: something to know
Wrote nothing (--dry-run); it would be 214 → 209 nodes, 44.7 → 44.6 MB"""
    )


def test_optimize_many_kept() -> None:
    """A long list is cut at a line that says how to see all of it; -v shows all."""
    folds = replace(EDGE, sites=tuple(replace(SHARED, tensor=f"t{i}") for i in range(15)))
    result = replace(RESULT, folds=folds, equivalence=None, speed=None)
    short = text(render.optimize(result, "edge.onnx"))
    assert "Kept 15" in short
    assert "  and 3 more; `bnfold inspect -v edge.onnx` lists them" in short
    assert "t14" in text(render.optimize(result, "edge.onnx", verbose=True))


def test_optimize_verbose() -> None:
    """-v shows plain constants too, and every output at every level."""
    lines = text(render.optimize(RESULT, "edge.onnx", verbose=True))
    assert "Kept 3" in lines
    assert "BNF203 opaque-op      /scale/Mul_output_0" in lines
    assert "folded 1.0e-07" in lines
    assert "logits[3, 417]" in lines


# -- inspect ------------------------------------------------------------------------------------


def test_inspect() -> None:
    """A line for each kind of target and each reason, then the count."""
    assert text(render.inspect(EDGE, "edge.onnx")) == (
        """\
edge.onnx  opset 17, 214 nodes, 7 BatchNormalization

   4  fold into Conv        3 directly, 1 through MaxPool
   1  fold into Gemm        1 directly
   1  BNF202 shared-value   /stage3/bn_2/Output_0
   1  BNF101 training-mode  /head/bn/Output_0
   1  constant Mul          none can be folded
5 of 7 can be folded. Nothing was changed; -v lists every site."""
    )


def test_inspect_verbose() -> None:
    """One site a line in stable columns, names whole."""
    sites = (folded("/pool/bn/Output_0", path=("MaxPool",)), SHARED, SCALE)
    assert text(render.inspect(replace(EDGE, sites=sites), "edge.onnx", verbose=True)) == (
        """\
edge.onnx  opset 17, 214 nodes, 2 BatchNormalization

fold  -       /pool/bn/Output_0      Conv  /pool/conv/Output_0  backward via MaxPool
keep  BNF202  /stage3/bn_2/Output_0  -     /stage3/conv_2/Conv_output_0 has 2 consumers
keep  BNF203  /scale/Mul_output_0    -     Sigmoid stops (Mul)

1 of 2 can be folded. Nothing was changed."""
    )


def test_inspect_nothing() -> None:
    """A model without anything to fold is said to be so in two lines."""
    assert text(render.inspect(FoldReport(sites=(), nodes_before=9, opset=17), "m.onnx")) == (
        """\
m.onnx  opset 17, 9 nodes, 0 BatchNormalization
Nothing to fold. Nothing was changed."""
    )


# -- verify -------------------------------------------------------------------------------------


def test_verify() -> None:
    """The judge is named, and both errors stand beside each other."""
    assert text(render.verify(PROOF)) == (
        """\
Equivalent by distance to a float64 evaluation of the original \
(2 samples, seed 0, original at optimization level disable)
  CPUExecutionProvider  logits[3, 417]  \
error against float64: original 4.1e-07, candidate 3.3e-07"""
    )


def test_verify_failed() -> None:
    """A failure shows the worst element, what was allowed, and the first tensor to differ."""
    bad = replace(LOGITS, passed=False, candidate_error=2e-3, max_abs=3.2e-2)
    report = replace(PROOF, outputs=(LOGITS, bad), culprit="/layer3/bn1/Output_0", notes=("n",))
    assert text(render.verify(report)) == (
        """\
Not equivalent (2 samples, seed 0, original at optimization level disable)
  CPUExecutionProvider  logits[3, 417]  \
error against float64: original 4.1e-07, candidate 2.0e-03, allowed 4.1e-06
                        expected 0.481236, got 0.512904
                        at optimization level all, sample normal, batch 3
  first tensor to differ /layer3/bn1/Output_0
Note: n"""
    )


def test_verify_by_tolerance() -> None:
    """With the plain rule the share of the tolerance is the scale."""
    output = replace(LOGITS, original_error=None, candidate_error=0.29, limit=1.0)
    report = replace(PROOF, outputs=(output,), judge="tolerance", atol=1e-5, rtol=1e-4)
    far = replace(output, passed=False, candidate_error=31.0)
    assert "31× tolerance" in text(render.verify(replace(report, outputs=(far,))))
    assert text(render.verify(report)) == (
        """\
Equivalent within atol 1e-05 + rtol 0.0001 \
(2 samples, seed 0, original at optimization level disable)
  CPUExecutionProvider  logits[3, 417]  worst |Δ| 2.9e-06, 29% of tolerance"""
    )


def test_verify_by_noise_and_of_integers() -> None:
    """The noise is named where it is the yardstick; integers are counted."""
    noisy = replace(PROOF, judge="noise", outputs=(LOGITS,))
    assert "error: the runtime's own noise 4.1e-07, candidate 3.3e-07" in text(
        render.verify(noisy)
    )
    labels = replace(LOGITS, dtype="int64", mismatched=2, max_abs=1.0)
    assert "2 of 8000 elements differ" in text(render.verify(replace(PROOF, outputs=(labels,))))
    ties = replace(labels, margin=1.2e-7)
    assert "2 of 8000 elements differ, where what decided was within 1.2e-07 of a tie" in text(
        render.verify(replace(PROOF, outputs=(ties,)))
    )


def test_verify_could_not_run() -> None:
    """A candidate that does not run is shown with the runtime's words."""
    dead = replace(LOGITS, passed=False, max_abs=float("nan"), detail="no kernel for Foo")
    shown = text(render.verify(replace(PROOF, outputs=(dead,))))
    assert shown.count("no kernel for Foo") == 1


def test_whose_error_it_is() -> None:
    """A candidate farther off than the original, by the runtime's rounding, says so."""
    far = replace(LOGITS, candidate_error=1.7e-6, exact_error=3.1e-8)
    shown = text(render.verify(replace(PROOF, outputs=(far,))))
    assert "candidate 1.7e-06 (evaluated in float64 the two lie 3.1e-08 apart)" in shown
    near = replace(far, candidate_error=4.2e-7)
    assert "apart" not in text(render.verify(replace(PROOF, outputs=(near,))))


def test_culprit_is_named_once() -> None:
    """Where a note says more of the first tensor to differ, the line on it is left out."""
    report = replace(PROOF, culprit="/layer3", notes=("/layer3 departs by 4e-03",))
    assert "first tensor to differ" not in text(render.verify(report))


# -- bench --------------------------------------------------------------------------------------


def test_bench() -> None:
    """Each level has its verdict, interval, control, times and setting."""
    assert text(render.bench(SPEED)) == (
        """\
As fast: ×1.00 [0.99, 1.01], within noise (original against itself ×1.00 [0.99, 1.01])
  original  23.4 ms, IQR 0.18  200 rounds, interleaved
  folded    23.4 ms, IQR 0.2
  CPUExecutionProvider, optimization level all, 4 threads, input image 1x3x224x224

Faster: ×1.11 [1.09, 1.13] (original against itself ×1.00 [0.99, 1.01])
  original  31.9 ms, IQR 0.18  200 rounds, interleaved
  folded    28.8 ms, IQR 0.2
  CPUExecutionProvider, optimization level disable, 4 threads, input image 1x3x224x224
Note: at this level ONNX Runtime folds 4 of the 5 nodes itself"""
    )


def test_bench_slower_and_unstable() -> None:
    """Slower is said; an unstable control says that nothing can be told."""
    slower = replace(PLAIN, speedup=0.9, interval=(0.88, 0.92))
    assert text(render.bench(replace(SPEED, measurements=(slower,)))).startswith("Slower: ×0.90")
    unstable = replace(PLAIN, stable=False, control=1.2, control_interval=(1.1, 1.3))
    both = replace(SPEED, measurements=(unstable, unstable), notes=("n",))
    assert text(render.bench(both)).endswith(
        """
Note: at this level ONNX Runtime folds 4 of the 5 nodes itself
Note: n
Note: this machine is busy: close other programs, or give a longer --budget"""
    )
    assert text(render.bench(replace(SPEED, measurements=(unstable,)))).startswith(
        "Cannot tell: ×1.11 [1.09, 1.13] (original against itself ×1.20 [1.10, 1.30])"
    )


# -- parts --------------------------------------------------------------------------------------


def test_columns() -> None:
    """Cells align to the widest; the last is not padded, short rows are allowed."""
    rows = [["a", "bb", "c"], ["aaa", "b"], []]
    assert text(columns(rows, indent=1)) == " a    bb  c\n aaa  b\n"


def test_text_of() -> None:
    """The text of a line does not depend on its styles."""
    assert text_of(line(Span("a", "good"), " b ")) == "a b"


def test_sizes() -> None:
    """Sizes are in one unit, the larger one's."""
    assert sizes(999, 10) == "999 → 10 bytes"
    assert sizes(44_700_000, 600_000) == "44.7 → 0.6 MB"
    assert sizes(5_000_000_000, 4_000_000_000) == "5.00 → 4.00 GB"


def test_an_ill_conditioned_fold_is_told() -> None:
    """Also where everything passed: a line with the tensor, its factors and the bound."""
    site = replace(folded("bn7"), scale_range=(-0.5, 3.2e6), bound=2e-3, flagged=True)
    shown = text(render.inspect(FoldReport(sites=(site,)), "m.onnx"))
    assert (
        "Ill-conditioned: bn7 scales by -5.0e-01 to 3.2e+06; rounding alone may change 2e-03 "
        "of its magnitude\n"
    ) in shown
    unknown = replace(site, bound=None)
    shown = text(render.inspect(FoldReport(sites=(unknown,)), "m.onnx"))
    assert "Ill-conditioned: bn7 scales by -5.0e-01 to 3.2e+06\n" in shown
