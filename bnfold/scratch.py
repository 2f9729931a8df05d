"""Where do files go that only this run needs?"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bnfold.errors import OutputError


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
            stack.callback(made.cleanup)  # the folder is gone by then; it need not be told of
            stack.callback(remove_folder, Path(made.name))
        yield Path(made.name)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it, also where an interrupt comes meanwhile.

    What a process that was just ended had yet to write may come late, so it is looked at again.
    """
    try:
        for pause in (0.0, 0.05, 0.5):
            time.sleep(pause)
            shutil.rmtree(folder, ignore_errors=True)
            if not os.path.lexists(folder):
                return
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
