"""What stands in a JSON document beside the library's report, and how is one read again?"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import typer


def document_of(command: str, report: dict[str, Any], **paths: Path) -> dict[str, Any]:
    """What --json prints: a report of the library, by which command and of which models."""
    from bnfold import __version__

    names = {name: str(path) for name, path in paths.items()}
    return {"schema": 1, "bnfold": __version__, "command": command, **names, **report}


def typed(context: typer.Context) -> str:
    """The command as it would be typed again."""
    return shlex.join(("bnfold", *(context.obj or ())))


def file_of(role: str, path: Path | None, name: str | None = None) -> list[dict[str, Any]]:
    """A file by its hash, under another name if it has one; nothing for one that is not there."""
    from bnfold.files import sha256

    if path is None or not path.is_file():
        return []
    size = path.stat().st_size
    return [{"role": role, "path": name or str(path), "bytes": size, "sha256": sha256(path)}]


def read_result(path: Path) -> Any:
    """A document that was printed earlier. Raises InputError."""
    from bnfold.errors import InputError
    from bnfold.regular import MOST_JSON, parsed, read

    try:
        return parsed(read(path, MOST_JSON))
    except ValueError as error:
        raise InputError(
            f"{path} is not JSON: {error}",
            "give what `bnfold` printed with --json, and nothing else",
        ) from None
