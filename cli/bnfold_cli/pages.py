"""How does a command write its result as a page? The library draws it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bnfold_cli.console import finite


def check_page(path: Path, *, force: bool) -> None:
    """Whether a page can be made and written, asked before any work is done."""
    from bnfold.files import check_output
    from bnfold.html import check_libraries

    check_libraries()
    check_output(path, force=force)


def write_page(document: dict[str, Any], path: Path, *, force: bool) -> None:
    """Write the page of a document."""
    from bnfold.html import write

    write(finite(document), path, force=force)
