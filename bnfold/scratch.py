"""Where do files go that only this run needs?"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from bnfold.errors import OutputError
from bnfold.runtime import write_loadable


@contextlib.contextmanager
def writing_scratch() -> Iterator[None]:
    """A full disk is the user's to know, and no fault of bnfold: raises OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"a temporary file cannot be written: {error.strerror or error}",
            "free some space, or set TMPDIR to a folder with more",
        ) from error


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is gone afterwards. Raises OutputError where none can be made."""
    with contextlib.ExitStack() as stack:
        with writing_scratch():
            made = tempfile.TemporaryDirectory(prefix="bnfold-", ignore_cleanup_errors=True)
            folder = stack.enter_context(made)
        yield Path(folder)


def write_scratch(model: onnx.ModelProto, folder: Path) -> Path:
    """The model as a file in a new folder. Raises OutputError where it cannot be written."""
    with writing_scratch():
        folder.mkdir()
        return write_loadable(model, folder)
