"""How is a file written whole or not at all, and can it be written where it was asked for?"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import BinaryIO, TypeVar

from bnfold.errors import OutputError

Result = TypeVar("Result")

FORCE = "pass --force, or another path with -o"
"""What can be done where an output exists."""


def check_output(path: str | Path, *, force: bool, source: str | Path | None = None) -> None:
    """Raise OutputError unless a file could be written there; call it before long work.

    `source` is a file that must not be overwritten, whatever `force` says.
    """
    path = Path(path)
    try:
        refuse_special(path)
        if source is not None and path.exists() and path.samefile(source):
            raise OutputError(
                f"{path} is the input itself",
                "pass --in-place, or another -o",
            )
        if not force and os.path.lexists(path):
            raise OutputError(f"{path} already exists", FORCE)
        folder = path.resolve().parent
        if not folder.is_dir():
            raise OutputError(
                f"{path} cannot be written: there is no folder {folder}",
                "create the folder, or choose another path with -o",
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(
                f"{path} cannot be written: no permission in {folder}",
                "choose another path with -o",
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise unwritable(path, error) from None


def refuse_special(path: Path) -> None:
    """Raise OutputError for what exists and is no regular file, be it at the end of links.

    To replace a device or a pipe by a file would take it from whoever uses it.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.is_symlink():
            return
        raise OutputError(f"{path} is a link to nothing", "choose another path with -o") from None
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path} is a folder", "name a file, for example with -o")
    if not stat.S_ISREG(mode):
        raise OutputError(f"{path} is not a regular file", "choose another path with -o")


def unwritable(path: Path, error: Exception) -> OutputError:
    """The error for a file that the system does not let be written."""
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(f"{path} cannot be written: {reason}", "choose another path with -o")


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, read piece by piece. Raises OSError."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def utf8(path: str | Path) -> str | None:
    """A path as models and the runtime write it: its bytes as UTF-8, whatever the locale.

    None where they are no UTF-8, as is legal on most systems.
    """
    if os.name == "nt":
        return str(path)
    try:
        return os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        return None


def native(name: str) -> str:
    """A name out of a model as this system takes it, whatever the locale."""
    return name if os.name == "nt" else os.fsdecode(name.encode("utf-8", "surrogateescape"))


def uninterrupted(work: Callable[[], Result]) -> Result:
    """What some short work returns, all of which is done before an interrupt is heard.

    Python raises interrupts in the main thread, so the work is done in another.
    """
    interrupt: BaseException | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="bnfold-place") as executor:
        future = executor.submit(work)
        while not future.done():
            try:
                wait([future])
            except BaseException as error:
                interrupt = error
    if interrupt is not None:
        raise interrupt
    return future.result()


class Writing:
    """Files that are being written under other names, in the order they will appear."""

    def __init__(self) -> None:
        self.files: list[tuple[BinaryIO, Path, Path]] = []

    def open(self, target: Path) -> BinaryIO:
        """A file that becomes `target` once everything is written. Raises OutputError."""
        refuse_special(target)
        temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
        file = temporary.open("xb")
        self.files.append((file, temporary, target))
        return file

    def commit(self) -> None:
        """Make every file last under its own name, in the order they were opened."""
        for file, temporary, target in self.files:
            file.flush()
            os.fsync(file.fileno())
            file.close()
            with contextlib.suppress(OSError):
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        for _, temporary, target in self.files:
            temporary.replace(target)
        for folder in {target.parent for _, _, target in self.files}:
            sync_folder(folder)

    def discard(self) -> None:
        """Remove what is left of temporary files."""
        for file, temporary, _ in self.files:
            with contextlib.suppress(OSError):
                file.close()
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextlib.contextmanager
def whole_or_nothing() -> Iterator[Writing]:
    """Files that appear together once the block is done, or not at all."""
    writing = Writing()
    try:
        yield writing
        writing.commit()
    finally:
        writing.discard()  # finds nothing to remove after a commit


def sync_folder(folder: Path) -> None:
    """Make the renames last; not every system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
