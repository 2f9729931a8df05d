"""`bnfold explain`: what does a reason mean, and what can be done about it?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bnfold_cli import options, render
from bnfold_cli.console import Console
from bnfold_cli.documents import document_of
from bnfold_cli.exits import YES
from bnfold_cli.lines import line


def explain(
    code: Annotated[
        str | None,
        typer.Argument(
            metavar="[CODE]",
            help="A code such as BNF202, or its name, shared-value; all are listed if not given.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Explain why a node is kept: what a reason code means and what can be done about it."""
    console = Console(color, as_json=json)
    from bnfold.explanations import explain as text_of
    from bnfold.explanations import to_dict
    from bnfold.reasons import Reason

    chosen = list(Reason) if code is None else [_reason(code)]
    if code is None:
        console.show(render.reasons((r.code, r.slug, r.help) for r in chosen))
    else:
        console.show(line(text) for text in text_of(code).splitlines())
    entries = [to_dict(reason) for reason in chosen]
    console.document(document_of("explain", {"reasons": entries}))
    return YES


def _reason(code: str) -> Any:
    from bnfold.errors import InputError
    from bnfold.reasons import Reason

    try:
        return Reason.of(code)
    except KeyError:
        raise InputError(
            f"there is no reason {code!r}", "`bnfold explain` without a code lists all"
        ) from None
