"""`bnfold bench`: how much faster is one model than another?"""

from __future__ import annotations

from bnfold_cli import options, render, values
from bnfold_cli.console import Console
from bnfold_cli.documents import document_of
from bnfold_cli.exits import ANSWERS, COULD_NOT, NO, YES
from bnfold_cli.gates import baseline_of, gate, held
from bnfold_cli.pipes import incoming
from bnfold_cli.values import given


def bench(
    original: options.Original,
    candidate: options.Candidate,
    input: options.Input = None,
    dim: options.Dim = None,
    data: options.Data = None,
    seed: options.Seed = 0,
    provider: options.Provider = None,
    timeout: options.Timeout = None,
    ort_level: options.OrtLevel = None,
    threads: options.ThreadCounts = None,
    batch: options.Batches = None,
    pin: options.Pin = None,
    budget: options.Budget = None,
    fail_below: options.FailBelow = None,
    baseline: options.Baseline = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Measure how much faster one model is than another, and whether that is more than noise.

    The original is timed against itself too: what that shows is the noise of this machine.
    """
    dims = values.parse_dims(input, dim)
    counts = values.parse_counts(threads, "--threads")
    batches = values.parse_counts(batch, "--batch")
    processors = values.parse_processors(pin)
    console = Console(color, as_json=json, quiet=quiet)
    earlier = None if baseline is None else baseline_of(baseline)
    import bnfold

    with incoming(original, candidate) as models, console.progress("Loading") as progress:
        report = bnfold.bench(
            *(model.path for model in models),
            data=data,
            dims=dims,
            seed=seed,
            providers=values.parse_providers(provider),
            footprints=True,
            attribution=True,
            progress=progress,
            **given(
                levels=tuple(level.value for level in ort_level or ()),
                threads=counts,
                batches=batches,
                pin=processors,
                budget_s=budget,
                timeout_s=timeout,
            ),
        )
    console.show(render.bench(report, verbose=verbose))
    paths = {"original": original, "candidate": candidate}
    document = document_of("bench", report.to_dict(), **paths)
    codes = [YES]
    if fail_below is not None:
        codes.append(gate(report, fail_below))
        console.show(render.gate(codes[-1], fail_below))
        document["fail_below"] = {"least": fail_below, "answer": ANSWERS[codes[-1]]}
    if earlier is not None:
        compared = earlier(report)
        from bnfold.report import plain

        console.show(render.baseline(compared, str(baseline)))
        document["baseline"] = [plain(comparison) for comparison in compared]
        codes.append(held(compared))
    console.document(document)
    return max(codes, key=(YES, COULD_NOT, NO).index)  # a plain "no" outweighs "could not tell"
