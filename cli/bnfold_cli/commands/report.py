"""`bnfold report`: draw a result from earlier, or the manifest of a sweep, as a page."""

from __future__ import annotations

from bnfold_cli import options
from bnfold_cli.console import Console, finite
from bnfold_cli.exits import YES
from bnfold_cli.lines import line


def report(
    result: options.Result,
    output: options.Page = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Draw a result of `optimize --json`, or a whole sweep, as one self-contained HTML page."""
    from bnfold.fleet import drawing
    from bnfold.html import check_libraries

    console = Console(color, quiet=quiet)
    target = output or result.removesuffix(".json").removesuffix(".jsonl") + ".html"
    check_libraries()
    drawing.check_target(target, force=force)
    with console.progress("Drawing"):
        document = drawing.read_document(result, target)
        drawing.write_page(finite(document), target, force=force)
    console.show([line(f"Wrote {target}, the report")])
    return YES
