"""How does a command write its result as a page? The library draws it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from bnfold_cli.console import finite


def check_page(path: Path, original: Path, candidate: Path | None, *, force: bool) -> None:
    """Whether a page can be made and written, asked before any work is done."""
    from bnfold.html import check_libraries

    check_libraries()
    check_aside("--report", path, original, candidate, force=force)


def check_aside(
    option: str, path: Path, original: Path, candidate: Path | None, *, force: bool
) -> None:
    """Whether a document can be written beside its models, where none of their weights are."""
    from bnfold.modelio import check_beside
    from bnfold.publishing import is_data_name

    check_beside(path, original, force=force)
    if candidate is None:
        return
    place, model = path.resolve(), candidate.resolve()
    if place == model or is_data_name(place, model):
        raise typer.BadParameter("the model is written there", param_hint=option)


def write_page(document: dict[str, Any], path: Path, *, force: bool) -> None:
    """Write the page of a document."""
    from bnfold.html import write

    write(finite(document), path, force=force)
