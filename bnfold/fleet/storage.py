"""Where do models come from and go to? Folders and object stores, both by way of fsspec.

A file appears whole or not at all on every one of them: an object store shows an object when its
upload is complete, a folder a file that was renamed, and any other system a file that was moved.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import posixpath
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bnfold.errors import InputError, OutputError
from bnfold.files import whole_or_nothing

LOCAL = frozenset({"file", "local"})
WHOLE_PUTS = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci", "memory", "hf"}
)
"""Protocols whose writes appear when they are complete."""
MAGIC = frozenset("*?[")
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Listed:
    """What a storage tells of a file without reading it: its size, and what changes with it."""

    bytes: int
    state: str | None


class Place:
    """A folder somewhere; names within it are relative, with slashes.

    Raises InputError for a protocol that is unknown or whose package is not installed.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self.url = url
        self.options = dict(options or {})
        self.fs, root = _filesystem(url, self.options)
        self.root = posixpath.normpath(root) if root else ""
        protocol = self.fs.protocol
        self.protocols = {protocol} if isinstance(protocol, str) else set(protocol)

    @property
    def is_local(self) -> bool:
        """Whether its files are files of this machine."""
        return bool(self.protocols & LOCAL)

    @property
    def is_in_memory(self) -> bool:
        """Whether only this process can see it."""
        return "memory" in self.protocols

    @property
    def full_url(self) -> str:
        """The address with its protocol; a local folder is its absolute path."""
        return self.root if self.is_local else str(self.fs.unstrip_protocol(self.root))

    @property
    def real_url(self) -> str:
        """The address that is the same for a local folder under each of its names."""
        return os.path.realpath(self.root) if self.is_local else self.full_url

    def path(self, name: str) -> str:
        """A name as the file system wants it."""
        return f"{self.root.rstrip('/')}/{name}" if name else self.root

    def sub(self, name: str) -> Place:
        """A folder within this one."""
        place = object.__new__(Place)
        place.__dict__.update(self.__dict__)
        place.url = f"{self.url.rstrip('/')}/{name}"
        place.root = self.path(name)
        return place

    # -- looking --------------------------------------------------------------------------------

    def names(self, folder: str = "") -> dict[str, Listed]:
        """Every file below a folder; none where there is no folder."""
        self.fs.invalidate_cache()
        try:
            found = self.fs.find(self.path(folder), detail=True)
        except FileNotFoundError:
            return {}
        return self._named(found)

    def matching(self, pattern: str) -> dict[str, Listed]:
        """The files that a glob names."""
        self.fs.invalidate_cache()
        return self._named(self.fs.glob(self.path(pattern), detail=True))

    def _named(self, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Listed]:
        start = len(self.root.rstrip("/")) + 1
        files = ((path, info) for path, info in found.items() if info.get("type") == "file")
        return {path[start:]: _listed(info) for path, info in files}

    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        self.fs.invalidate_cache()
        return bool(self.fs.exists(self.path(name)))

    def is_taken(self, name: str) -> bool:
        """Whether anything has that name, be it a link to nothing."""
        self.fs.invalidate_cache()
        return bool(self.fs.lexists(self.path(name)))

    def state(self, name: str) -> str | None:
        """What changes when a file does, as the storage tells it now."""
        self.fs.invalidate_cache()
        try:
            return _listed(self.fs.info(self.path(name))).state
        except FileNotFoundError:
            return None

    # -- reading --------------------------------------------------------------------------------

    def read(self, name: str, most: int | None = None) -> bytes | None:
        """The bytes of a small file; None where there is none.

        Raises InputError for one of more than `most` bytes.
        """
        try:
            if most is not None and (self.fs.info(self.path(name)).get("size") or 0) > most:
                raise InputError(f"{name} is larger than {most >> 20} MiB", "check the address")
            return bytes(self.fs.cat_file(self.path(name)))
        except FileNotFoundError:
            return None

    def sha256(self, name: str) -> str | None:
        """The SHA-256 of a file's bytes, read piece by piece; None for what is no file."""
        if not self.fs.isfile(self.path(name)):
            return None
        digest = hashlib.sha256()
        with self.fs.open(self.path(name), "rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
        return digest.hexdigest()

    def read_all(self, names: Iterable[str]) -> Iterator[bytes]:
        """The bytes of many small files, fetched together; without those that went away."""
        paths = [self.path(name) for name in names]
        if paths:
            found = self.fs.cat(paths, on_error="omit")
            yield from (found if isinstance(found, dict) else {"": found}).values()

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file to this machine."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self.fs.get_file(self.path(name), str(target))

    # -- writing --------------------------------------------------------------------------------

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a small file, whole or not at all."""
        if self.is_local:
            target = self._local_target(name)
            with whole_or_nothing() as writing:
                writing.open(target).write(data)
            return
        with self._appearing(name) as path:
            self.fs.pipe_file(path, data)

    def put(self, source: Path, name: str) -> None:
        """Move a file of this machine there, whole or not at all."""
        if self.is_local:
            _move(source, self._local_target(name))
            return
        with self._appearing(name) as path:
            self.fs.put_file(str(source), path)

    def _local_target(self, name: str) -> Path:
        """The path to write to. Raises OutputError for a folder that is a link out of here."""
        target, home = Path(self.path(name)), Path(self.root)
        if not target.parent.resolve().is_relative_to(home.resolve()):
            raise OutputError(f"{target.parent} leads out of {home}", "name another destination")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    @contextmanager
    def _appearing(self, name: str) -> Iterator[str]:
        """The path to write to, which becomes the name's own when the block is done."""
        path = self.path(name)
        if self.protocols & WHOLE_PUTS:
            yield path
            return
        folder, base = posixpath.split(path)
        temporary = f"{folder}/.{base[:100]}.{secrets.token_hex(6)}.tmp"
        self.fs.makedirs(folder, exist_ok=True)
        try:
            yield temporary
            self.fs.mv(temporary, path)
        except BaseException:
            with suppress(Exception):
                self.fs.rm_file(temporary)
            raise


TAGS = ("ETag", "etag", "md5Hash", "checksum")
"""Where object stores keep a hash of an object."""
TIMES = ("mtime", "created", "ino", "LastModified", "last_modified")
"""What else tells a file from the one that it replaced; a local `created` is the inode's."""


def _listed(info: Mapping[str, Any]) -> Listed:
    size = int(info.get("size") or 0)
    marks = [info[key] for key in TAGS if info.get(key)][:1]
    marks = marks or [_moment(info[key]) for key in TIMES if info.get(key)]
    return Listed(size, " ".join(map(str, (size, *marks))) if marks else None)


def _moment(value: Any) -> Any:
    """A time in seconds: some systems list a number and tell of one file by a datetime."""
    return value.timestamp() if hasattr(value, "timestamp") else value


def _filesystem(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    fsspec = require("fsspec")
    try:
        fs, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise InputError(f"{url} needs a package: {error}", "install it with pip") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{url} cannot be opened: {error}", "check the URL") from None
    return fs, str(root)


def check_libraries() -> None:
    """Raise InputError where the extra `sweep` is not installed; imports nothing."""
    for library in ("distributed", "fsspec", "psutil"):
        if find_spec(library) is None:
            raise _missing(library)


def _missing(library: str) -> InputError:
    return InputError(
        f"a sweep needs {library}, which is not installed", 'pip install "bnfold[sweep]"'
    )


def require(library: str) -> Any:
    """A library of the extra `sweep`. Raises InputError that says how to get it."""
    try:
        return importlib.import_module(library)
    except ImportError:
        raise _missing(library) from None


def _move(source: Path, target: Path) -> None:
    """Rename, or copy to another file system under a passing name and then rename."""
    with suppress(OSError):
        os.replace(source, target)
        return
    with whole_or_nothing() as writing, source.open("rb") as file:
        shutil.copyfileobj(file, writing.open(target), PIECE)
    source.unlink()


def split_glob(url: str) -> tuple[str, str]:
    """The folder before the first part with a wildcard, and the pattern from there on."""
    parts = url.split("/")
    first = next(i for i, part in enumerate(parts) if MAGIC & set(part))
    return "/".join(parts[:first]) or ("/" if url.startswith("/") else "."), "/".join(
        parts[first:]
    )


def check_writable(place: Place) -> None:
    """Raise OutputError unless something can be written there; asked for before any work."""
    name = f".bnfold-{secrets.token_hex(6)}.tmp"
    try:
        place.write(name, b"")
        place.fs.rm_file(place.path(name))
    except Exception as error:  # each file system raises what it likes
        raise OutputError(
            f"{place.url} cannot be written: {type(error).__name__} {error}",
            "check the address, that the bucket exists, and your permissions",
        ) from None
