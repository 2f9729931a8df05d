"""How is it written down what was proven of which files? As a JSON document, the certificate.

It holds the SHA-256 of both models with their external data, versions, seed, sizes and the digest
of every input that was run, the errors of every output, and each fold with its numbers: where the
affine went, its range, the a-priori bound of `bnfold.bounds` and beside it what was measured at
the fold's own tensor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

import bnfold
from bnfold import cpus, culprit, equivalence
from bnfold.certified import KIND, ROLES, SCHEMA, Document
from bnfold.errors import InputError
from bnfold.feeds import make_samples
from bnfold.files import check_output, sha256, unwritable, whole_or_nothing
from bnfold.modelio import PROTOBUF_LIMIT, byte_size, open_model
from bnfold.report import EquivalenceReport, FoldReport, FoldSite, finite, plain
from bnfold.runtime import default_threads
from bnfold.sessions import Sessions
from bnfold.visible import visible_json

Model = onnx.ModelProto | str | Path


# --- making one ----------------------------------------------------------------------------


def certify(
    original: Model,
    candidate: Model,
    proof: EquivalenceReport | None,
    *,
    folds: FoldReport | None = None,
    fingerprints: Mapping[str, Document] | None = None,
) -> Document:
    """The certificate of a proof; `proof` is None where nothing changed and nothing was run.

    `fingerprints` replaces what the files say, for one that was overwritten since.
    """
    models = dict(zip(ROLES, (original, candidate), strict=True))
    taken = dict(fingerprints or {})
    document: Document = {
        "kind": KIND,
        "schema": SCHEMA,
        "bnfold": bnfold.__version__,
        "machine": {"processor": cpus.model_name(), "threads": default_threads()},
        **{role: taken.get(role) or fingerprint(model) for role, model in models.items()},
        "equivalence": None if proof is None else proof.to_dict(),
        "folding": None,
        "folds": None,
        "merged": None,
    }
    if folds is not None:
        errors = {} if proof is None else _measured(original, candidate, proof, folds)
        document["folding"] = folds.options or None
        document["folds"] = [
            {**plain(site), "measured": errors.get(site.tensor)} for site in folds.sites
        ]
        document["merged"] = [
            {**plain(block), "measured": errors.get(block.tensor)} for block in folds.merged
        ]
    made: Document = finite(document)
    return made


def fingerprint(model: Model) -> Document:
    """Which model it is: the SHA-256 of its file, and of each file that holds its weights."""
    if isinstance(model, onnx.ModelProto):
        if byte_size(model) > PROTOBUF_LIMIT:
            raise InputError(
                "a model past 2 GiB that is no file has no hash", "write it first, then certify"
            )
        data = model.SerializeToString(deterministic=True)
        digest = hashlib.sha256(data).hexdigest()
        return {"path": None, "bytes": len(data), "sha256": digest, "data": {}}
    path = Path(model)
    files = open_model(path).data_files
    data = {file.name: sha256(file) for file in sorted(files)}
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256(path), "data": data}


def _measured(
    original: Model, candidate: Model, proof: EquivalenceReport, folds: FoldReport
) -> dict[str, float]:
    """How far each fold's tensor moved on the first sample, relative to its magnitude."""
    settings = proof.settings
    if settings.get("data") == equivalence.GIVEN:
        return {}
    models = open_model(original), open_model(candidate)
    made_by = {name for node in models[1].proto.graph.node for name in node.output}
    where = {site.tensor: _visible(site, made_by) for site in folds.folded}
    where |= {block.tensor: block.tensor for block in folds.merged if block.tensor in made_by}
    wanted = sorted({name for name in where.values() if name is not None})
    with Sessions() as sessions:
        made = make_samples(
            models[0].proto,
            sessions.open(original, level="disable").run,
            data=settings.get("data"),
            dims=dims_of(settings),
            samples=1,
            seed=proof.seed,
        )
        feeds = made.items[0].feeds
        found = culprit.distances(*models, wanted, feeds, open_session=sessions.open)
    return {site: found[name] for site, name in where.items() if name in found}


def _visible(site: FoldSite, names: set[str]) -> str | None:
    """The tensor at which a fold shows: the site's own, or that of the operator it went into."""
    return next((n for n in (site.tensor, site.target) if n is not None and n in names), None)


# --- files ---------------------------------------------------------------------------------


def save(document: Document, path: str | Path, *, force: bool = False) -> None:
    """Write a certificate, whole or not at all; models are named from its folder on."""
    check_output(path, force=force)
    target = Path(path).resolve()
    here = {role: {**document[role], "path": _seen_from(target, document[role])} for role in ROLES}
    text = json.dumps({**document, **here}, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        with whole_or_nothing() as writing:
            writing.open(target).write(f"{visible_json(text)}\n".encode())
    except OSError as error:
        raise unwritable(Path(path), error) from None


def _seen_from(certificate: Path, model: Document) -> str | None:
    """The path of a model from the certificate's folder on, where it is in it; else as it is."""
    if model["path"] is None:
        return None
    path = Path(model["path"]).resolve()
    inside = path.is_relative_to(certificate.parent)
    return path.relative_to(certificate.parent).as_posix() if inside else str(path)


def dims_of(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The sizes that a proof was asked for, as `verify` takes them."""
    dims = settings.get("dims")
    if dims is None:
        return None
    return {name: tuple(v) if isinstance(v, (list, tuple)) else v for name, v in dims.items()}
