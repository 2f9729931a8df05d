"""`bnfold inspect`: what would be folded, and why the rest would stay."""

from __future__ import annotations

from bnfold_cli import options, render
from bnfold_cli.console import Console
from bnfold_cli.documents import document_of
from bnfold_cli.exits import NO, YES
from bnfold_cli.pipes import incoming


def inspect(
    model: options.Model,
    check: options.Check = False,
    keep: options.Keep = None,
    no_reparameterize: options.Reparameterize = False,
    keep_overridable: options.KeepOverridable = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Say what `optimize` would fold and why the rest would stay. Changes nothing."""
    console = Console(color, as_json=json, quiet=quiet)
    import bnfold

    with incoming(model) as (source,), console.progress("Inspecting"):
        report = bnfold.inspect(
            source.path,
            keep=tuple(keep or ()),
            reparameterize=not no_reparameterize,
            keep_overridable=keep_overridable,
        )
    console.show(render.inspect(report, source.name, verbose=verbose))
    console.document(document_of("inspect", report.to_dict(), model=model))
    return NO if check and (report.folded or report.merged) else YES
