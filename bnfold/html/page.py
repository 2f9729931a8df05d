"""How does a result become a page? The JSON document, pictures of it, and a template."""

from __future__ import annotations

import base64
import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bnfold.errors import InputError
from bnfold.explanations import to_dict
from bnfold.files import check_output, unwritable, whole_or_nothing
from bnfold.html import fleet, words
from bnfold.reasons import Reason
from bnfold.report import SCHEMA
from bnfold.visible import visible

Json = Mapping[str, Any]
FOLDER = Path(__file__).parent / "template"
LIBRARIES = ("jinja2", "matplotlib")
COMMANDS = {"optimize": "bnfold optimize MODEL", "sweep": "bnfold sweep SOURCE DESTINATION"}
"""What makes the documents that can be drawn."""


SPOILED = (
    *(LookupError, TypeError, ValueError, AttributeError),
    *(ArithmeticError, RuntimeError),  # numbers past what can be drawn
)
"""What drawing a document raises where something in it is not as it should be."""


def check_libraries() -> None:
    """Raise InputError where what draws the page is not installed; call it before long work."""
    for library in LIBRARIES:
        try:
            importlib.import_module(library)
        except ImportError:
            raise InputError(
                f"a report needs {library}, which is not installed",
                'pip install "bnfold[report]"',
            ) from None


def write(document: Json, path: str | Path, *, force: bool = False) -> None:
    """Write the page of a document, whole or not at all. Raises InputError and OutputError."""
    check_output(path, force=force)
    text = page(document)
    try:
        with whole_or_nothing() as writing:
            writing.open(Path(path).resolve()).write(text.encode("utf-8"))
    except OSError as error:
        raise unwritable(Path(path), error) from None


def page(document: Json) -> str:
    """The page of what `bnfold optimize --json` prints, as one self-contained HTML text.

    What `bnfold sweep --json` prints becomes the page of the fleet, with links to the page of
    each model that `pages` names. Raises InputError for any other document, and where the
    extra `report` is not installed.
    """
    check_libraries()
    check_document(document)
    import jinja2

    try:
        return _render(_seen(document))
    except (*SPOILED, jinja2.TemplateError) as error:
        raise InputError(
            f"the result lacks or spoils something a report needs: {type(error).__name__} {error}",
            f"make it anew with `{COMMANDS[document['command']]} --json`",
        ) from error


def _seen(value: Any) -> Any:
    """All that models say, in keys too, as text that is seen; not where a page lies."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {_seen(key): _seen(item) for key, item in value.items()}
    return [_seen(item) for item in value] if isinstance(value, (list, tuple)) else value


def check_document(document: Json) -> None:
    """Raise InputError unless this is a result of `optimize` or `sweep` in a known schema."""
    known = isinstance(document, Mapping) and document.get("command") in (*COMMANDS,)
    if not known:
        raise InputError(
            "this is no result of `bnfold optimize --json`, nor of a sweep",
            f"give what `{COMMANDS['optimize']} --json` prints, or the manifest.jsonl of a sweep",
        )
    if document.get("schema") != SCHEMA:
        raise InputError(
            f"the result has schema {document.get('schema')}, and this bnfold reads {SCHEMA}",
            "make the report with the version of bnfold that made the result",
        )


def _render(document: Json) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    is_fleet = document["command"] == "sweep"
    name, parts = ("fleet", fleet.parts(document)) if is_fleet else ("page", _parts(document))
    script = _joined("table.js", f"{name}.js")
    return environment.get_template(f"{name}.html").render(
        document=document,
        style=_joined("page.css", "fleet.css") if is_fleet else _joined("page.css"),
        script=script,
        script_hash=_hash(script),
        **parts,
    )


def _parts(document: Json) -> dict[str, Any]:
    """What the template of a model's own page needs."""
    from bnfold.html import pictures

    return {
        "headline": words.headline(document["folds"]),
        "verdicts": words.verdicts(document),
        "rows": _rows(document),
        "details": _details(document),
        "reasons": _reasons(document),
        "pictures": pictures.every(document),
        "environment": _environment(document),
        "words": words,
    }


def _joined(*names: str) -> str:
    return "".join((FOLDER / name).read_text("utf-8") for name in names)


def _hash(script: str) -> str:
    """What the page's own policy lets run, and nothing else."""
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _rows(document: Json) -> list[dict[str, Any]]:
    """The table of sites."""
    return [
        {
            "number": number,
            "tensor": site["tensor"],
            "state": words.state(site),
            "verdict": site["verdict"],
            "operator": site["op_type"],
            "direction": site["direction"] or "",
            "path": ", ".join(dict.fromkeys(site["path"])),
            "outcome": words.outcome(site),
            "detail": site["detail"] or "",
        }
        for number, site in enumerate(document["folds"]["sites"], 1)
    ]


def _details(document: Json) -> list[dict[str, Any]]:
    """What unfolds below each row; the page's script draws it when it is asked for."""
    anatomy = document.get("anatomy") or {"sites": []}
    known = {site["tensor"]: site for site in anatomy["sites"]}
    return [
        {"code": site["code"], "detail": site["detail"], "facts": words.facts(site)}
        | ({"path": site["path"]} if len(site["path"]) > 1 else {})
        | _compact(known.get(site["tensor"]))
        for site in document["folds"]["sites"]
    ]


def _compact(anatomy: Json | None) -> dict[str, Any]:
    """Graphs and figures in few bytes: a page may have thousands of sites."""
    if anatomy is None:
        return {}
    figures = {key: anatomy[key] for key in ("scale", "weight_before", "weight_after")}
    spreads = {key: list(part.values()) for key, part in figures.items() if part}
    graphs = {key: [_box(box) for box in anatomy[key]] for key in ("before", "after")}
    return spreads | graphs


def _box(box: Json) -> list[Any]:
    return [box["op_type"], box["inputs"], box["outputs"], box["constants"], int(box["is_site"])]


def _reasons(document: Json) -> list[dict[str, str | None]]:
    """The explanation of every reason that occurs."""
    codes = {site["code"] for site in document["folds"]["sites"] if site["code"]}
    return [to_dict(reason) for reason in Reason if reason.code in codes]


def _environment(document: Json) -> dict[str, str]:
    """Versions and machine, once."""
    parts = [document[part] or {} for part in ("equivalence", "speed")]
    merged: dict[str, str] = {"bnfold": str(document.get("bnfold", ""))}
    for part in parts:
        merged |= {str(k): str(v) for k, v in part.get("environment", {}).items()}
    return merged
