"""`bnfold optimize`: fold, prove, time and write a model."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import typer

from bnfold_cli import options, render, values
from bnfold_cli.certificates import certifier_of, check_certifiable
from bnfold_cli.console import Console
from bnfold_cli.documents import document_of, file_of, typed
from bnfold_cli.exits import YES
from bnfold_cli.lines import line
from bnfold_cli.pages import check_page, write_page
from bnfold_cli.pipes import Incoming, Outgoing, incoming, outgoing, target_of
from bnfold_cli.values import given


def optimize(
    context: typer.Context,
    model: options.Model,
    output: options.Output = None,
    report: options.Report = None,
    force: options.Force = False,
    in_place: options.InPlace = False,
    external_data: options.ExternalData = None,
    dry_run: options.DryRun = False,
    keep: options.Keep = None,
    no_reparameterize: options.Reparameterize = False,
    keep_overridable: options.KeepOverridable = False,
    input: options.Input = None,
    dim: options.Dim = None,
    data: options.Data = None,
    seed: options.Seed = 0,
    samples: options.Samples = None,
    provider: options.Provider = None,
    atol: options.Atol = None,
    rtol: options.Rtol = None,
    judge_seconds: options.JudgeSeconds = None,
    timeout: options.Timeout = None,
    certificate: options.Certificate = None,
    no_verify: options.NoVerify = False,
    no_bench: options.NoBench = False,
    attribute: options.Attribute = None,
    threads: options.Threads = None,
    pin: options.Pin = None,
    budget: options.Budget = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Fold a model, prove that it is equivalent, measure the speedup, and write it.

    Nothing is written unless the proof passes. Folds that fail it are taken back.
    """
    dims = values.parse_dims(input, dim)
    processors = values.parse_processors(pin)
    import bnfold

    with incoming(model) as (source,), outgoing(output, external=external_data) as out:
        console = Console(
            color, as_json=json, quiet=quiet, aside=out is not None and out.is_standard_output
        )
        check_certifiable(certificate, source, delivered=out is not None)
        target = None if dry_run else _target(source, output, out, force=force, in_place=in_place)
        if report is not None:
            check_page(report, source.path, target, force=force)
        files = file_of("original", source.path, source.name)  # now: --in-place replaces it
        certifier = certifier_of(
            certificate,
            model,
            target,
            force=force,
            replaced_in=context if in_place else None,
            proven=not no_verify,
        )
        with console.progress("Loading") as progress:
            result = bnfold.optimize(
                source.path,
                target,
                keep=tuple(keep or ()),
                reparameterize=not no_reparameterize,
                keep_overridable=keep_overridable,
                verify=not no_verify,
                bench=not no_bench,
                attribute=report is not None if attribute is None else attribute,
                data=data,
                dims=dims,
                seed=seed,
                providers=values.parse_providers(provider),
                atol=atol,
                rtol=rtol,
                force=force or in_place,
                threads=threads,
                progress=progress,
                **given(
                    external=external_data if out is None else False,
                    samples=samples,
                    judge_seconds=judge_seconds,
                    budget_s=budget,
                    timeout_s=timeout,
                    pin=processors,
                ),
            )
        files += file_of("folded", target, None if out is None else out.name)
        files += file_of("weights", None if result.data is None else Path(result.data))
        if out is not None and target is not None:
            out.deliver(result.data)
            result = replace(result, output=out.name)
        console.show(render.optimize(result, str(model), verbose=verbose, dry_run=dry_run))
        document = document_of("optimize", result.to_dict(), model=model)
        document |= {"reproduce": typed(context), "files": files}
        if certifier is not None:
            certifier(target or result.model, result.equivalence, result.folds)
            console.show([line(f"Wrote {certificate}, the certificate")])
        if report is not None:
            write_page(document, report, force=force)
            console.show([line(f"Wrote {report}, the report")])
        console.document(document)
    return YES


def _target(
    source: Incoming, output: Path | None, out: Outgoing | None, *, force: bool, in_place: bool
) -> Path:
    """Where the result goes, checked before any work is done."""
    from bnfold.modelio import check_output

    if in_place and output is not None:
        raise typer.BadParameter("say either --in-place or --output", param_hint="--in-place")
    if in_place and source.is_stream:
        raise typer.BadParameter("a model from a pipe has no place", param_hint="--in-place")
    if in_place:
        return source.path
    if out is not None:
        return out.path
    target = target_of(source, output, "folded")
    if os.path.isfile(source.path):  # otherwise the error to tell is about the input
        check_output(target, force=force, source=source.path)
    return target
