"""How is a manifest drawn, wherever it lies? As a document like that of a sweep, with links."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import bnfold
from bnfold.errors import InputError, OutputError
from bnfold.files import check_output
from bnfold.fleet.manifest import LINES, REPORTS, read_lines
from bnfold.fleet.record import SweptModel
from bnfold.fleet.storage import Place
from bnfold.fleet.summary import summarize
from bnfold.html import page, write
from bnfold.regular import MOST_JSON, parsed, read
from bnfold.report import SCHEMA, finite

Document = dict[str, Any]
OPENED = ("http://", "https://", "file://")
"""What a browser can follow."""


def is_url(where: str) -> bool:
    """Whether this is no path of this machine."""
    return "://" in where


def read_document(where: str, target: str) -> Any:
    """What lies at a path or URL, for a page at `target`: a document, or a manifest as one.

    What it is, its content tells. Raises InputError where it cannot be read or is neither.
    """
    data = _read(where)
    try:
        document = parsed(data)
    except ValueError:
        return _fleet(read_manifest(data, where), where, target)
    if isinstance(document, dict) and "command" not in document and "outcome" in document:
        return _fleet(read_lines(data), where, target)
    return document


def read_manifest(data: bytes, where: str) -> list[SweptModel]:
    """The records of a manifest. Raises InputError where these bytes are something else."""
    if not data.strip():
        raise InputError(f"{where} is empty", f"sweep again: that writes {LINES} anew")
    first = data.lstrip().splitlines()[0]
    try:
        is_record = "outcome" in parsed(first)
    except (ValueError, TypeError):
        is_record = False
    if not is_record:
        raise InputError(
            f"{where} is neither JSON nor the manifest of a sweep",
            f"give what `bnfold` printed with --json, and nothing else, or a {LINES}",
        )
    return read_lines(data)


def _fleet(records: Sequence[SweptModel], where: str, target: str) -> Document:
    """Like what `bnfold sweep --json` prints, with the addresses of the models' own pages."""
    document = {"schema": SCHEMA, "bnfold": bnfold.__version__, "command": "sweep"}
    document |= summarize(records).to_dict()
    document |= {"source": _source(records), "manifest": where, "reproduce": None}
    document["swept"] = [record.to_dict() for record in records]
    document["pages"] = links(where, (record.model for record in records), target)
    made: Document = finite(document)
    return made


def _source(records: Sequence[SweptModel]) -> str | None:
    """Where all models come from; None for more than one place."""
    sources = {record.source for record in records}
    return sources.pop() if len(sources) == 1 else None


def links(manifest: str, models: Iterable[str], target: str) -> dict[str, str]:
    """The address of each model's own page as a page at `target` has to name it.

    Only of pages that are there, and that a browser can open from there.
    """
    folder, _, _ = _split(manifest)
    start = _start(folder, target)
    if start is None:
        return {}
    there = _names(folder)
    return {m: f"{start}{quote(m)}.html" for m in models if f"{m}.html" in there}


def _start(folder: str, target: str) -> str | None:
    """What stands before the name of each page."""
    above, _, _ = _split(target)
    if above == folder:
        return f"{REPORTS}/"
    if not is_url(folder) and not is_url(target):
        relative = os.path.relpath(Path(folder, REPORTS).resolve(), Path(target).resolve().parent)
        return f"{quote(Path(relative).as_posix())}/"
    return f"{folder}/{REPORTS}/" if folder.startswith(OPENED) else None


def _names(folder: str) -> set[str]:
    """The pages that a sweep wrote, by their names."""
    if not is_url(folder):
        root = Path(folder, REPORTS)
        return {path.relative_to(root).as_posix() for path in root.rglob("*.html")}
    start = len(REPORTS) + 1
    return {name[start:] for name in Place(folder).names(REPORTS)}


# -- files, here and elsewhere ------------------------------------------------------------------


def _split(where: str) -> tuple[str, str, str]:
    """The folder, a slash, and the name."""
    if is_url(where):
        return where.rpartition("/")
    path = Path(where)
    return str(path.parent), "/", path.name


def _read(where: str) -> bytes:
    try:
        if not is_url(where):
            return read(where, MOST_JSON)
        folder, _, name = _split(where)
        place = Place(folder)
        if place.is_local:
            return read(place.path(name), MOST_JSON)
        data = place.read(name, most=MOST_JSON)
    except InputError:
        raise
    except Exception as error:  # each file system raises what it likes
        reason = f"{type(error).__name__} {error}"
        raise InputError(f"{where} cannot be read: {reason}", "check the address") from None
    if data is None:
        raise InputError(f"there is no {where}", "check the address")
    return data


def check_target(target: str, *, force: bool) -> None:
    """Raise OutputError unless a page could be written there; nothing is overwritten."""
    if not is_url(target):
        check_output(target, force=force)
        return
    folder, _, name = _split(target)
    if not force and Place(folder).exists(name):
        raise OutputError(f"{target} already exists", "pass --force, or another address with -o")


def write_page(document: Any, target: str, *, force: bool) -> None:
    """Write the page of a document to a path or URL, whole or not at all."""
    if not is_url(target):
        write(document, target, force=force)
        return
    check_target(target, force=force)
    folder, _, name = _split(target)
    data = page(document).encode("utf-8")
    try:
        Place(folder).write(name, data)
    except Exception as error:  # each file system raises what it likes
        raise OutputError(
            f"{target} cannot be written: {type(error).__name__} {error}",
            "name a place with -o that you may write to",
        ) from None
