"""`bnfold report`: draw a result from earlier as a page."""

from __future__ import annotations

from bnfold_cli import options
from bnfold_cli.console import Console
from bnfold_cli.documents import read_result
from bnfold_cli.exits import YES
from bnfold_cli.lines import line
from bnfold_cli.pages import check_page, write_page


def report(
    result: options.Result,
    output: options.Page = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Draw a result of `optimize --json` as one self-contained HTML page."""
    console = Console(color, quiet=quiet)
    target = output or result.with_name(result.name.removesuffix(".json") + ".html")
    check_page(target, force=force)
    with console.progress("Drawing"):
        write_page(read_result(result), target, force=force)
    console.show([line(f"Wrote {target}, the report")])
    return YES
