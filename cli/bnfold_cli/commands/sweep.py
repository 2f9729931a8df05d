"""`bnfold sweep`: fold, prove and time every model of a folder or bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bnfold_cli import fleet_options, options, render, values
from bnfold_cli.console import Console
from bnfold_cli.documents import document_of, typed
from bnfold_cli.exits import COULD_NOT, NO, YES
from bnfold_cli.fleet_progress import FleetProgress
from bnfold_cli.values import given

if TYPE_CHECKING:
    from bnfold.fleet.summary import FleetSummary


def sweep(
    context: typer.Context,
    source: fleet_options.Source,
    destination: fleet_options.Destination,
    manifest: fleet_options.ManifestUrl = None,
    reports: fleet_options.Reports = False,
    force: fleet_options.Force = False,
    scheduler: fleet_options.Scheduler = None,
    workers: fleet_options.Workers = None,
    memory_limit: fleet_options.MemoryLimit = None,
    timeout: fleet_options.Timeout = None,
    keep_going: fleet_options.KeepGoing = True,
    again: fleet_options.Again = False,
    checksum: fleet_options.Checksum = False,
    no_reparameterize: options.Reparameterize = False,
    keep_overridable: options.KeepOverridable = False,
    dim: fleet_options.Dim = None,
    seed: options.Seed = 0,
    samples: options.Samples = None,
    provider: options.Provider = None,
    atol: options.Atol = None,
    rtol: options.Rtol = None,
    no_verify: options.NoVerify = False,
    no_bench: options.NoBench = False,
    threads: options.Threads = None,
    budget: options.Budget = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Fold, prove and time every model of a folder or bucket, and again only what changed.

    Each model has a process of its own: one that fails, crashes or never ends is listed, and the
    others go on. Exits with 1 if any is not equivalent, with 2 if any could not be done.
    """
    dims = values.parse_dims(None, dim)
    console = Console(color, as_json=json, quiet=quiet)
    import bnfold
    from bnfold.fleet.summary import summarize

    records = []
    with FleetProgress(console, verbose=verbose) as progress:
        swept = bnfold.sweep(
            source,
            destination,
            again=again,
            checksum=checksum,
            force=force,
            reports=reports,
            bench=not no_bench,
            on_start=progress.begin,
            **given(
                manifest=manifest,
                scheduler=scheduler,
                workers=workers,
                memory_limit=memory_limit,
                timeout=timeout,
                budget_s=budget,
                threads=threads,
                dims=dims,
                samples=samples,
                providers=provider,
                atol=atol,
                rtol=rtol,
                seed=seed or None,
                verify=False if no_verify else None,
                reparameterize=False if no_reparameterize else None,
                keep_overridable=keep_overridable or None,
            ),
        )
        for record in swept:
            records.append(record)
            progress.show(record)
            if not (keep_going or record):
                swept.close()
                break
    summary = summarize(records)
    where = progress.manifest
    console.show(render.fleet(summary, records, where, found=progress.total, verbose=verbose))
    document = document_of("sweep", summary.to_dict())
    document |= {"source": source, "destination": destination, "manifest": where}
    document |= {"reproduce": typed(context), "swept": [r.to_dict() for r in records]}
    console.document(document)
    return _code(summary)


def _code(summary: FleetSummary) -> int:
    """A plain "no" outweighs what could not be done."""
    if summary.not_equivalent:
        return NO
    return COULD_NOT if summary.could_not else YES
