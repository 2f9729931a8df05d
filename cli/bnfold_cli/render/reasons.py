"""Which reasons are there?"""

from __future__ import annotations

from collections.abc import Iterable

from bnfold_cli.lines import Line, Span, columns, line


def reasons(rows: Iterable[tuple[str, str, str]]) -> list[Line]:
    """All codes with their slug and sentence."""
    return [
        *columns(([Span(code, "code"), slug, help] for code, slug, help in rows), indent=0),
        line("Run `bnfold explain CODE` to read more about one."),
    ]
