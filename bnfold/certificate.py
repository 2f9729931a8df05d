"""What was proven of which files, so that anybody can check it again? A JSON document.

It holds the SHA-256 of both models with their external data, versions, seed, sizes and the digest
of every input that was run, the errors of every output, and each fold with its numbers: where the
affine went, its range, the a-priori bound of `bnfold.bounds` and beside it what was measured at
the fold's own tensor. `check` compares the files with it, and on demand proves them again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

import bnfold
from bnfold import culprit, equivalence
from bnfold.errors import InputError, ModelError
from bnfold.feeds import make_samples
from bnfold.files import check_output, sha256, unwritable, whole_or_nothing
from bnfold.modelio import PROTOBUF_LIMIT, byte_size, open_model
from bnfold.report import EquivalenceReport, FoldReport, FoldSite, Report, finite, plain
from bnfold.sessions import Sessions
from bnfold.visible import visible_json

Model = onnx.ModelProto | str | Path
Document = dict[str, Any]
Progress = Callable[[str, int, int], None]

KIND = "bnfold certificate"
SCHEMA = 1
"""Version of the document. 1: first. Adding keys keeps it."""
ROLES = ("original", "candidate")
DRIFT = 4.0
"""Another machine or runtime rounds otherwise: errors that are proven again may differ by this
factor, and by an error that is no more than rounding."""
ROUNDED = 1e-6


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
        **{role: taken.get(role) or fingerprint(model) for role, model in models.items()},
        "equivalence": None if proof is None else proof.to_dict(),
    }
    if folds is not None:
        errors = {} if proof is None else _measured(original, candidate, proof, folds)
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
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "data": {file.name: sha256(file) for file in sorted(files)},
    }


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
            dims=_dims(settings),
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


def load(path: str | Path) -> Document:
    """Read a certificate. Raises InputError."""
    hint = "`bnfold verify ORIGINAL CANDIDATE --certificate FILE` writes one"
    try:
        document = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not JSON", hint) from None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise InputError(f"{path} is no certificate of bnfold", hint)
    if document.get("schema") != SCHEMA or not all(r in document for r in (*ROLES, "equivalence")):
        raise InputError(f"{path} is a certificate of another version", "make it again")
    return document


# --- checking one --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Audit(Report):
    """What a check found; truthy where the certificate holds."""

    certificate: str
    problems: tuple[str, ...]
    checked: tuple[str, ...]
    """What was found as it should be, in words."""
    equivalence: EquivalenceReport | None = None
    """The proof that was made again, where that was asked for."""

    def __bool__(self) -> bool:
        return not self.problems


def check(
    path: str | Path,
    original: str | Path | None = None,
    candidate: str | Path | None = None,
    *,
    rerun: bool = False,
    progress: Progress | None = None,
) -> Audit:
    """Hold a certificate against the files that it names, or against those that are given.

    With `rerun` the proof is made again with the same data. Raises InputError for a certificate
    that cannot be read, and where it was made with data that it cannot find again.
    """
    document, folder = load(path), Path(path).resolve().parent
    given = dict(zip(ROLES, (original, candidate), strict=True))
    files = {role: given[role] or _named(document, role, folder) for role in ROLES}
    problems: list[str] = []
    checked: list[str] = []
    for role, file in files.items():
        wrong = _differences(role, document[role], file)
        problems += wrong
        if not wrong:
            checked.append(f"{role} {file} is the file that was proven (SHA-256)")
    proof = document["equivalence"]
    if proof is not None and not proof["equivalent"]:
        problems.append("the certificate itself says that the models are not equivalent")
    again: EquivalenceReport | None = None
    if rerun and proof is not None and not problems:
        again = equivalence.verify(
            *(_file(files[role]) for role in ROLES), **_arguments(proof), progress=progress
        )
        wrong = _numbers_that_moved(proof, again)
        problems += wrong
        if not wrong:
            checked.append(
                f"{len(again.outputs)} comparisons on {len(again.samples)} samples, made again"
            )
    return Audit(str(path), tuple(problems), tuple(checked), again)


def _named(document: Document, role: str, folder: Path) -> Path | None:
    path = document[role].get("path")
    return None if path is None else folder / path


def _file(path: str | Path | None) -> str | Path:
    assert path is not None  # a role without a file is a problem that was told before
    return path


def _differences(role: str, expected: Document, path: str | Path | None) -> list[str]:
    """What is wrong with one file, in words."""
    if path is None:
        return [f"the certificate names no file for the {role}; give both models"]
    try:
        found = fingerprint(path)
    except (ModelError, OSError) as error:
        return [f"{role}: {error}"]
    if found["sha256"] != expected["sha256"]:
        return [f"{role} {path} is another file: SHA-256 {found['sha256'][:16]}..."]
    names = sorted(expected["data"].keys() | found["data"].keys())
    return [
        f"{role} {path}: its data file {name} is another one"
        for name in names
        if expected["data"].get(name) != found["data"].get(name)
    ]


def _arguments(proof: Document) -> dict[str, Any]:
    """The keywords of `verify` that lead to the same proof."""
    settings = proof["settings"]
    if settings.get("data") == equivalence.GIVEN:
        raise InputError(
            "the proof was made with data of the calling program, which no certificate holds",
            "check the hashes only, or prove with --data FILE",
        )
    return {
        "data": settings.get("data"),
        "samples": settings["samples"],
        "seed": proof["seed"],
        "dims": _dims(settings),
        "providers": [p if isinstance(p, str) else (p[0], p[1]) for p in settings["providers"]],
        "atol": proof["atol"],
        "rtol": proof["rtol"],
        "judge_seconds": settings["judge_seconds"],
    }


def _dims(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    dims = settings.get("dims")
    if dims is None:
        return None
    return {name: tuple(v) if isinstance(v, (list, tuple)) else v for name, v in dims.items()}


def _numbers_that_moved(proof: Document, again: EquivalenceReport) -> list[str]:
    """Where a second proof differs from the first, in words."""
    if list(proof["digests"]) != list(again.digests):
        return ["the inputs are others than those that were proven"]
    problems = [] if again else ["the models are not equivalent here"]
    before = {_key(output): output for output in proof["outputs"]}
    for output in map(plain, again.outputs):
        known = before.get(_key(output))
        if known is None:
            problems.append(f"output {output['tensor']} was not proven before")
            continue
        where = f"output {output['tensor']} on {output['provider']}, level {output['level']}"
        problems += [
            f"{where}: {which.replace('_', ' ')} {output[which]}, certified {known[which]}"
            for which in ("original_error", "candidate_error")
            if not _agree(known[which], output[which])
        ]
    return problems


def _key(output: Document) -> tuple[str, str, str]:
    return output["tensor"], output["provider"], output["level"]


def _agree(left: float | None, right: float | None) -> bool:
    if left is None or right is None:
        return left is right
    return max(left, right) <= DRIFT * min(left, right) + ROUNDED
