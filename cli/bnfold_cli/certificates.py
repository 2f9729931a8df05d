"""How does a command leave a certificate of what it proved?"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from bnfold_cli.pages import check_aside
from bnfold_cli.pipes import Incoming


def check_certifiable(path: Path | None, *models: Incoming, delivered: bool = False) -> None:
    """Refuse a certificate of what comes or goes over a pipe: it names files."""
    if path is not None and (delivered or any(model.is_stream for model in models)):
        raise typer.BadParameter(
            "it names files that can be held against it; give files", param_hint="--certificate"
        )


def certifier_of(
    path: Path | None,
    original: Path,
    candidate: Path | None,
    *,
    force: bool,
    replaced_in: typer.Context | None = None,
    proven: bool = True,
) -> Callable[..., None] | None:
    """What writes a certificate when all is done; asked for before any work, so it can refuse.

    An original that is replaced is kept beside the new one until that context closes.
    """
    if path is None:
        return None
    if not proven:
        raise typer.BadParameter("there is none without a proof", param_hint="--certificate")
    check_aside("--certificate", path, original, candidate, force=force)
    if not os.path.isfile(original):  # the error to tell is about the input
        return lambda *_: None
    from bnfold import certificate
    from bnfold.publishing import retained

    fingerprint, model = certificate.fingerprint(original), original
    if replaced_in is not None:
        model = replaced_in.with_resource(retained(original))
        fingerprint["path"] = None  # nobody will find it there
    taken = {"original": fingerprint}

    def write(candidate: Any, proof: Any, folds: Any = None) -> None:
        made = certificate.certify(model, candidate, proof, folds=folds, fingerprints=taken)
        certificate.save(made, path, force=force)

    return write
