"""Does a certificate hold? Held against the files, and on demand against one made again.

What is made again is the whole document, from the files and from the settings that the
certificate tells: the proof with the same data, and the folds. `bnfold.recount` holds the one
against the other. Nothing is believed because it is written there: what could not be held
against anything is listed, as taken on trust.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnfold import equivalence, folding
from bnfold.certified import ROLES, Document, Fingerprint, load
from bnfold.certifying import certify, dims_of, fingerprint
from bnfold.errors import InputError, ModelError
from bnfold.files import sha256
from bnfold.modelio import open_model
from bnfold.pipeline import is_changed
from bnfold.recount import recount
from bnfold.regular import opened, size_of
from bnfold.report import EquivalenceReport, FoldResult, Report
from bnfold.sizes import input_specs
from bnfold.takeback import marked

Files = Mapping[str, str | Path | None]
Progress = Callable[[str, int, int], None]

SAFE_OPTIONS = frozenset(
    "device_id device_type precision num_streams num_of_threads arena_extend_strategy "
    "gpu_mem_limit cudnn_conv_algo_search use_tf32 prefer_nhwc trt_fp16_enable "
    "trt_bf16_enable".split()
)
"""Options of a provider that a certificate may set; others name libraries that would be loaded,
or folders that would be written to."""


# --- checking one --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Audit(Report):
    """What a check found; truthy where the certificate holds."""

    certificate: str
    problems: tuple[str, ...]
    checked: tuple[str, ...]
    """What was found as it should be, in words."""
    on_trust: tuple[str, ...] = ()
    """Which parts of the certificate nothing was held against, as `equivalence.seed`."""
    notes: tuple[str, ...] = ()
    equivalence: EquivalenceReport | None = None
    """The proof that was made again, where that was asked for."""

    def __bool__(self) -> bool:
        return not self.problems


UNPROVEN = ("bnfold", "machine", "equivalence", "folding", "folds", "merged")
"""What only a rerun can check."""


def check(
    path: str | Path,
    original: str | Path | None = None,
    candidate: str | Path | None = None,
    *,
    rerun: bool = False,
    progress: Progress | None = None,
) -> Audit:
    """Hold a certificate against the files that it names, or against those that are given.

    With `rerun` everything is made again, from the files and the settings that it tells: the
    proof with the same data, and the folds. Raises InputError for what is no certificate, and
    where it cannot be checked: models that are not there, or data that cannot be found again.
    """
    document, folder = load(path), Path(path).resolve().parent
    given = dict(zip(ROLES, (original, candidate), strict=True))
    files = {role: given[role] or _named(document, role, folder) for role in ROLES}
    taken = tuple(f"{role}.path" for role in ROLES if given[role] is not None)
    problems = _other_files(document, files)
    proof = document["equivalence"]
    if proof is not None and not proof["equivalent"]:
        problems.append("the certificate itself says that the models are not equivalent")
    checked = () if problems else tuple(map(_is_the_file, files.items()))
    if problems or not rerun:
        return Audit(str(path), tuple(problems), checked, (*taken, *UNPROVEN))
    return _Rerun(str(path), document, _there(files), progress).audit(checked, taken)


def _is_the_file(named: tuple[str, str | Path | None]) -> str:
    return f"{named[0]} {named[1]} is the file that was proven (SHA-256)"


def _named(document: Document, role: str, folder: Path) -> Path | None:
    path = document[role]["path"]
    return None if path is None else folder / path


def _there(files: Files) -> dict[str, str | Path]:
    return {role: path for role, path in files.items() if path is not None}


def _other_files(document: Document, files: Files) -> list[str]:
    """What is wrong with the files, in words. Raises InputError where one is not there and
    nothing is wrong with the others: that is no answer."""
    problems: list[str] = []
    missing: list[str] = []
    for role, file in files.items():
        try:
            problems += _differences(role, document[role], file)
        except (ModelError, InputError) as error:
            missing.append(f"{role}: {error}")
    if missing and not problems:
        raise InputError(
            f"the certificate cannot be checked: {'; '.join(missing)}",
            "put the models where the certificate names them, from its own folder on",
        )
    return problems


def _differences(role: str, expected: Document, path: str | Path | None) -> list[str]:
    """What is wrong with one file, in words. Raises ModelError and InputError for one that cannot
    be read."""
    if path is None:
        raise InputError("the certificate names no file for it", "give both models")
    with opened(path) as file:
        size, digest = size_of(file), sha256(path)
    if digest != expected["sha256"]:
        return [f"{role} {path} is another file: SHA-256 {digest[:16]}..."]
    if size != expected["bytes"]:
        return [f"{role} {path} has {size} bytes, certified {expected['bytes']}"]
    data = fingerprint(path)["data"]
    return [
        f"{role} {path}: its data file {name} is another one"
        for name in sorted(expected["data"].keys() | data.keys())
        if expected["data"].get(name) != data.get(name)
    ]


# --- making it again -----------------------------------------------------------------------


class _Rerun:
    """What a certificate tells, made again."""

    def __init__(
        self,
        path: str,
        document: Document,
        files: Mapping[str, str | Path],
        progress: Progress | None,
    ) -> None:
        self.path = path
        self.document = document
        self.files = files
        self.progress = progress
        self.proof: Document | None = document["equivalence"]

    def audit(self, checked: tuple[str, ...], taken: tuple[str, ...]) -> Audit:
        """Hold the certificate against what was made again."""
        folds = self._fold()
        again = self._prove()
        found = recount(self.document, self._certify(again, folds))
        problems = [*self._changed_unproven(folds), *found.problems]
        if not again and not problems:
            problems.append("the models are not equivalent here")
        on_trust = dict.fromkeys((*taken, *found.on_trust, *self._unchecked(folds)))
        return Audit(
            self.path,
            tuple(problems),
            checked if problems else (*checked, *_made_again(again, folds)),
            tuple(on_trust),
            tuple(found.notes),
            again,
        )

    # -- the parts

    def _fold(self) -> FoldResult | None:
        """The original folded again; None where the certificate does not tell how it was."""
        options = self.document["folding"]
        if options is None:
            return None
        folds = folding.fold(
            self.files["original"],
            keep=(*options["keep"], *options["taken_back"]),
            reparameterize=options["reparameterize"],
            keep_overridable=options["keep_overridable"],
        )
        if not options["taken_back"]:
            return folds
        told = {site["tensor"]: site.get("detail") for site in self.document["folds"] or ()}
        return marked(folds, {name: told.get(name) for name in options["taken_back"]})

    def _prove(self) -> EquivalenceReport:
        """The proof again; where there was none, for nothing was changed, one with defaults."""
        arguments = {} if self.proof is None else self._arguments(self.proof)
        again = equivalence.verify(
            *(self.files[role] for role in ROLES), **arguments, progress=self.progress
        )
        if self.proof is not None and (self.proof["judge"], again.judge) == ("float64", "noise"):
            raise InputError(
                "the certificate cannot be checked here: there is no float64 evaluation; "
                f"{'; '.join(again.notes)}",
                "try it on a machine with more memory, or on one that is less busy",
            )
        return again

    def _certify(self, again: EquivalenceReport, folds: FoldResult | None) -> Document:
        """The certificate as it would be written now, as JSON has it."""
        original, candidate = (self.files[role] for role in ROLES)
        proof = None if self.proof is None else again
        names = Fingerprint.__annotations__
        given = {r: {name: self.document[r][name] for name in names} for r in ROLES}  # held before
        fresh = certify(original, candidate, proof, folds=folds, fingerprints=given)
        document: Document = json.loads(json.dumps(fresh))
        if folds is None:  # as in a proof of two models, whose folds nobody tells
            document |= {key: self.document[key] for key in ("folds", "merged")}
        return document

    def _arguments(self, proof: Document) -> dict[str, Any]:
        """The keywords of `verify` that lead to the same proof. Raises InputError."""
        settings = proof["settings"]
        if settings["data"] == equivalence.GIVEN:
            raise InputError(
                "the proof was made with data of the calling program, which no certificate holds",
                "check the hashes only, or prove with --data FILE",
            )
        self._check_count(proof)
        return {
            "data": settings["data"],
            "samples": settings["samples"],
            "seed": proof["seed"],
            "dims": dims_of(settings),
            "providers": [_provider(entry) for entry in settings["providers"]],
            "atol": proof["atol"],
            "rtol": proof["rtol"],
            "judge_seconds": settings["judge_seconds"],
        }

    def _check_count(self, proof: Document) -> None:
        """A certificate may not make us run more samples than it has digests of."""
        asked, told = proof["settings"]["samples"], len(proof["digests"])
        if proof["settings"]["data"] is None and asked != told and self._has_inputs():
            raise InputError(
                f"the certificate cannot be checked: it tells of {asked} samples, and of the "
                f"inputs of {told}",
                "make it again",
            )

    def _has_inputs(self) -> bool:
        return bool(input_specs(open_model(self.files["original"]).proto))

    # -- what nothing was held against

    def _changed_unproven(self, folds: FoldResult | None) -> Iterator[str]:
        if self.proof is None and folds is not None and is_changed(folds):
            yield "the fold changes the model, and the certificate holds no proof of it"

    def _unchecked(self, folds: FoldResult | None) -> Iterator[str]:
        """Settings that only say what was asked for, and claims that were not made again."""
        if self.proof is not None:
            yield from _settings_on_trust(self.proof, has_inputs=self._has_inputs())
        if folds is None:
            if self.document["folds"] is not None or self.document["merged"] is not None:
                yield from ("folding", "folds", "merged")
            return
        yield from ("folding.reparameterize", "folding.keep_overridable")
        if folds.options["taken_back"]:
            yield "folding.taken_back"
        for index, site in enumerate(folds.sites):
            if site.verdict == "rolled_back":
                yield f"folds[{index}].detail"


def _settings_on_trust(proof: Document, *, has_inputs: bool) -> Iterator[str]:
    """What was asked for, where another number might have led to the same proof."""
    yield "equivalence.settings.judge_seconds"
    if proof["settings"]["data"] is not None or not has_inputs:
        yield from ("equivalence.seed", "equivalence.settings.samples")
    yield from (f"equivalence.{name}" for name in ("atol", "rtol") if proof[name] is not None)
    for index, provider in enumerate(proof["settings"]["providers"]):
        if isinstance(provider, list):
            yield f"equivalence.settings.providers[{index}]"


def _provider(entry: str | list[Any]) -> str | tuple[str, dict[str, Any]]:
    """A provider as `verify` takes it. Raises InputError for options that are not harmless."""
    if isinstance(entry, str):
        return entry
    name, options = entry
    unsafe = sorted(options.keys() - SAFE_OPTIONS)
    if unsafe:
        raise InputError(
            f"the proof was made with the option {unsafe[0]} of {name}, which no certificate may "
            "set: it could name a library to load",
            "if you trust it, prove with `bnfold verify ORIGINAL CANDIDATE --provider`",
        )
    return name, options


def _made_again(again: EquivalenceReport, folds: FoldResult | None) -> Iterator[str]:
    yield f"{len(again.outputs)} comparisons on {len(again.samples)} samples, made again"
    if folds is not None:
        yield f"{len(folds.sites)} folds and {len(folds.merged)} merged blocks, made again"
