"""`bnfold verify`: are two models equivalent, and does a certificate hold?"""

from __future__ import annotations

from pathlib import Path

import typer

from bnfold_cli import options, render, values
from bnfold_cli.certificates import certifier_of, check_certifiable
from bnfold_cli.console import Console
from bnfold_cli.documents import document_of
from bnfold_cli.exits import NO, YES
from bnfold_cli.lines import line
from bnfold_cli.pipes import incoming
from bnfold_cli.values import given


def verify(
    original: options.MaybeOriginal = None,
    candidate: options.MaybeCandidate = None,
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
    certificate: options.AnyCertificate = None,
    rerun: options.Rerun = False,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Say whether two models compute the same. Exits with 1 if they do not.

    With --certificate and no models, the certificate is held against the files that it names.
    """
    dims = values.parse_dims(input, dim)
    console = Console(color, as_json=json, quiet=quiet)
    if original is None and candidate is None and certificate is not None:
        return _audit(console, certificate, rerun=rerun, verbose=verbose)
    if original is None or candidate is None:
        raise typer.BadParameter("give two models, or a --certificate and none")
    if rerun:
        raise typer.BadParameter(
            "it makes the proof of a certificate again; give no models", param_hint="--rerun"
        )
    import bnfold

    with incoming(original, candidate) as models, console.progress("Loading") as progress:
        check_certifiable(certificate, *models)
        certifier = certifier_of(certificate, original, candidate, force=force)
        report = bnfold.verify(
            *(model.path for model in models),
            data=data,
            dims=dims,
            seed=seed,
            providers=values.parse_providers(provider),
            atol=atol,
            rtol=rtol,
            progress=progress,
            **given(samples=samples, judge_seconds=judge_seconds, timeout_s=timeout),
        )
    console.show(render.verify(report, verbose=verbose))
    if certifier is not None:
        certifier(candidate, report)
        console.show([line(f"Wrote {certificate}, the certificate")])
    paths = {"original": original, "candidate": candidate}
    console.document(document_of("verify", report.to_dict(), **paths))
    return YES if report else NO


def _audit(console: Console, certificate: Path, *, rerun: bool, verbose: bool) -> int:
    """Hold a certificate against the files that it names."""
    import bnfold

    with console.progress("Loading") as progress:
        audit = bnfold.certificate.check(certificate, rerun=rerun, progress=progress)
    console.show(render.audit(audit, verbose=verbose))
    console.document(document_of("verify", audit.to_dict()))
    return YES if audit else NO
