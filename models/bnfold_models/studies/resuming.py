"""What was done already? Finished pieces of work, found again by everything that decides them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnfold_models.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder with a folder for each piece of work that was finished."""

    folder: Path

    def place(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Where a piece of work lies, or will lie; `key` is all that decides it, as JSON."""
        text = json.dumps(key, sort_keys=True, default=str)
        return self.folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @contextmanager
    def making(self, place: Path) -> Iterator[Path]:
        """A folder to work in, which takes its place only when the work has succeeded."""
        unfinished = place.with_name(f"{place.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was interrupted
        unfinished.mkdir(parents=True)
        yield unfinished
        unfinished.rename(place)


def fingerprint(dataset: Dataset) -> str:
    """Changes with every pixel and label."""
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for array in (split.images, split.labels):
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()
