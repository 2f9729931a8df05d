"""How does a model take its place, with the file of its weights? Whole, or not at all.

Both are made in a folder of their own beside the place, on the same file system, where they can
be run and proven as they are; then they are moved. At every instant the model's name stands for a
model that has its data: a process may be killed between any two lines below, and nothing is lost.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no types
from onnx import ModelProto, TensorProto

from bnfold.errors import OutputError
from bnfold.external import data_file
from bnfold.files import FORCE, check_output, native, sync_folder, uninterrupted, unwritable, utf8
from bnfold.layout import DATA_MARK, Layout
from bnfold.scratch import remove_folder, scratch_folder
from bnfold.stored import StoredModel
from bnfold.target import fill
from bnfold.validation import tensors
from bnfold.weights import DataFile, Range
from bnfold.wire import Unreadable, cut

PROVISIONAL = "weights.data"
"""What a data file is called until it is known how it can be called."""
INSIDE = "\0"
"""What the data of a tensor that is in the model file itself is referred by; no file's name."""
SEARCHED = 1 << 26
"""Bytes of a file that is no model in which the name of a data file is looked for."""


class Draft:
    """A model in the making: in a folder beside `target`, until it is published there."""

    def __init__(self, folder: Path, named: Path, *, force: bool) -> None:
        self.folder = folder
        self.named = named
        self.target = target = named.resolve()  # a link stays a link; what it points at goes
        self.force = force
        self.path = folder / target.name
        self._layout: Layout | None = None
        self._data: Path | None = None
        self.is_read = False
        """Whether the model at the target has its data in this folder."""
        self.orphans: tuple[Path, ...] = ()
        """Data files that the model before it had and nobody needs any more, but which stay,
        since bnfold did not write them. Known once it is published."""

    def write(self, model: StoredModel, *, external: bool | None = None) -> Path:
        """Write a model, in the place of one that was written before; the path to it.

        `external` says whether large weights go into a data file; None keeps the model's way.
        Raises OutputError, and ModelError where a file with weights is gone.
        """
        refuse_weights(self.named, model)
        try:
            layout = Layout(model, PROVISIONAL, external=external)
            self._data = self.folder / self._data_name() if layout.has_data else None
            if self._data is not None:
                self._refuse_link()
                layout.relocate(self._location(self._data))
                self._data.unlink(missing_ok=True)  # of the model that was written before
                with self._data.open("xb", buffering=0) as file:
                    layout.write_data(file)
            self.path.unlink(missing_ok=True)
            with self.path.open("xb", buffering=0) as file:
                layout.write_model(file)
        except OSError as error:
            raise unwritable(self.named, error) from None
        self._layout = layout
        return self.path

    def _location(self, data: Path) -> str:
        """The name of the data file as models have names: in UTF-8. Raises OutputError."""
        name = utf8(data.name)
        if name is None:
            raise OutputError(
                f"{self.named.with_name(data.name)} is a name that no model can hold: it is no "
                "UTF-8",
                "choose another path with -o, or pass --embed",
            )
        return name

    @property
    def outgrown(self) -> bool:
        """Whether there is a data file only because the model would pass 2 GiB without."""
        return self._layout is not None and self._layout.outgrown

    def _refuse_link(self) -> None:
        """Raise OutputError for a link: runtimes look for data beside it, where it is not."""
        if self.named.is_symlink():
            raise OutputError(
                f"{self.named} is a link, and a data file would not be found beside it",
                "name the file that it points at, or pass --embed",
            )

    @property
    def is_written(self) -> bool:
        """Whether there is a model in it."""
        return self._layout is not None

    @property
    def data(self) -> Path | None:
        """The data file, where it will stand."""
        return None if self._data is None else self.target.with_name(self._data.name)

    def _data_name(self) -> str:
        """A name for the data file that takes nothing from another model. Raises OutputError."""
        for count in range(1, 1000):
            name = f"{self.target.name}{'' if count == 1 else f'.{count}'}.data"
            place = self.target.with_name(name)
            if not os.path.lexists(place):
                return name
            if not self.force:
                raise _taken(self.named.with_name(name))
            if is_ours(place, self.target) and not is_mentioned(place, self.target):
                return name
        raise OutputError(f"{self.target.parent} is full of data files", "choose another path")

    def publish(self) -> None:
        """Move it to its place; data that only the model before it had goes.

        An interrupt is heard when all of it is done. Raises OutputError.
        """
        assert self._layout is not None
        check_output(self.named, force=self.force)
        try:
            with contextlib.suppress(OSError):
                self.path.chmod(stat.S_IMODE(self.target.stat().st_mode))
            uninterrupted(self._publish)
        except OSError as error:
            raise unwritable(self.named, error) from None

    def _publish(self) -> None:
        before = _data_files(self.target)
        with self._placed_data(before):
            if self.force:
                self.path.replace(self.target)
            else:
                _move(self.path, self.target)
            self.is_read = False
        sync_folder(self.target.parent)
        self.orphans = tuple(sorted(_removed(before - {self.data}, self.target)))

    @contextlib.contextmanager
    def _placed_data(self, before: set[Path]) -> Iterator[None]:
        """The data file in its place, for a model that comes; without that it goes again."""
        place = self.data
        if self._data is None or place is None:
            yield
            return
        is_new = not os.path.lexists(place)
        self._place_data(self._data, place, before)
        sync_folder(place.parent)
        try:
            yield
        except BaseException:
            if is_new:
                with contextlib.suppress(OSError):
                    place.unlink()
            raise

    def _place_data(self, data: Path, place: Path, before: set[Path]) -> None:
        """Move the data file. Where the model before has its own there, that stays until a model
        stands in its place that reads the new one from the draft's folder."""
        if not os.path.lexists(place):
            _move(data, place)
        elif not is_ours(place, self.target):
            raise _taken(place)
        elif place not in before:
            data.replace(place)
        else:
            twin = data.with_name(f"{data.name}.twin")
            _link(data, twin)
            self._publish_transition(data)
            twin.replace(place)

    def _publish_transition(self, data: Path) -> None:
        assert self._layout is not None
        transition = data.with_name(f"{data.name}.transition")
        self._layout.relocate(f"{utf8(self.folder.name)}/{self._location(data)}")
        with transition.open("xb", buffering=0) as file:
            self._layout.write_model(file)
        sync_folder(self.folder)
        self.is_read = True
        transition.replace(self.target)
        sync_folder(self.target.parent)


def _taken(place: Path) -> OutputError:
    return OutputError(f"{place} already exists", FORCE)


def _move(data: Path, place: Path) -> None:
    """Move a file to a place where none is. Raises OutputError where one has appeared."""
    try:
        os.link(data, place)
    except FileExistsError:
        raise _taken(place) from None
    except (OSError, NotImplementedError):  # a file system without second names
        data.rename(place)
    else:
        data.unlink()


@contextlib.contextmanager
def drafted(target: str | Path | None, *, force: bool = True) -> Iterator[Draft]:
    """A draft beside `target`, or in a temporary folder; what is not published goes at the end.

    Raises OutputError where nothing could be written there.
    """
    if target is None:
        with scratch_folder() as folder:
            yield Draft(folder, folder / "model.onnx", force=True)
        return
    check_output(target, force=force)
    path = Path(target).resolve()
    folder = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")
    draft = Draft(folder, Path(target), force=force)
    try:  # an interrupt may come at any moment from the next line on
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise unwritable(Path(target), error) from None
        yield draft
    finally:
        if not draft.is_read:
            remove_folder(folder)


@contextlib.contextmanager
def retained(path: str | Path) -> Iterator[Path]:
    """The same model with its data, in a folder beside it, while it may be replaced.

    Its files get second names, and are copied where the system has none. Raises OutputError.
    """
    path = Path(path)
    folder = path.resolve().with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.old")
    try:
        yield _linked(path, folder)
    finally:
        remove_folder(folder)


def _linked(path: Path, folder: Path) -> Path:
    """A model and its data under second names, in a new folder."""
    model = folder / path.name
    try:
        folder.mkdir(mode=0o700)
        _link(path.resolve(), model)
        for location in _locations(ModelProto.FromString(_light(model))):
            data = data_file("", location, path)  # no location leaves the folder after this
            twin = folder / location
            if not twin.exists():  # the model's own file, or one that it names in two ways
                twin.parent.mkdir(parents=True, exist_ok=True)
                _link(data, twin)
    except OSError as error:
        raise unwritable(path, error) from None
    return model


def _link(data: Path, twin: Path) -> None:
    """The same file under a second name; a copy where the system has no such links."""
    try:
        os.link(data, twin)
    except (OSError, NotImplementedError):
        file = DataFile.at(data)
        with twin.open("xb", buffering=0) as target:  # never into a file that has other names
            fill(target, [(0, Range(file, 0, file.size))])


# -- what belongs to whom -----------------------------------------------------------------------


def refuse_weights(path: str | Path, model: StoredModel) -> None:
    """Raise OutputError for an output where weights of the model itself are."""
    for data in model.data_files:
        with contextlib.suppress(OSError):
            if Path(path).samefile(data):
                raise OutputError(
                    f"{path} holds weights of the model", "choose another path with -o"
                )


def is_data_name(data: Path, owner: Path) -> bool:
    """Whether a path is one that the data file of a model may have which bnfold writes."""
    named = re.fullmatch(rf"{re.escape(owner.name)}(\.[0-9]+)?\.data", data.name)
    return named is not None and data.parent == owner.parent


def is_ours(data: Path, owner: Path) -> bool:
    """Whether bnfold wrote a file as the data of the model at `owner`.

    Its name and its last bytes say so. What the model says does not count: it may come from
    anywhere, and name any file.
    """
    if not is_data_name(data, owner) or data.is_symlink() or not data.is_file():
        return False
    try:
        with data.open("rb") as file:
            file.seek(-len(DATA_MARK), os.SEEK_END)
            return file.read() == DATA_MARK
    except OSError:  # unreadable, or shorter than the mark
        return False


def _removed(unneeded: set[Path], owner: Path) -> Iterator[Path]:
    """Remove data that only the model before had, if bnfold wrote it; the others that stay."""
    for old in unneeded:
        if is_mentioned(old, owner):
            continue
        if is_ours(old, owner):
            with contextlib.suppress(OSError):
                old.unlink()
        else:
            yield old


def is_mentioned(data: Path, owner: Path) -> bool:
    """Whether any file beside it, but for its owner, holds the name of a data file."""
    name = os.fsencode(data.name)
    others = (p for p in data.parent.iterdir() if p.name not in (data.name, owner.name))
    return any(_mentions(path, name) for path in others)


def _mentions(path: Path, name: bytes) -> bool:
    try:
        return path.is_file() and name in _light(path)
    except OSError:
        return True  # it cannot be read, so nobody knows


def _light(path: Path) -> bytes:
    """A model without its large data; the beginning of any other file."""
    with path.open("rb") as file:
        if path.suffix != ".onnx" or not file.seek(0, os.SEEK_END):
            return file.read(SEARCHED)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                with memoryview(data) as view:
                    return cut(view, INSIDE)
            except Unreadable:
                return data[:SEARCHED]


def _data_files(path: Path) -> set[Path]:
    """The files in its own folder, or below it, in which a model has its weights."""
    if not path.is_file():
        return set()
    model = ModelProto()
    try:
        model.ParseFromString(_light(path))
    except DecodeError:
        return set()
    return set(_inside(path, _locations(model)))


def _locations(model: ModelProto) -> set[str]:
    return {
        native(entry.value)
        for _, tensor in tensors(model)
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location" and entry.value != INSIDE
    }


def _inside(path: Path, locations: Iterable[str]) -> Iterator[Path]:
    folder = path.parent.resolve()
    for location in locations:
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            data = (folder / location).resolve()
            if data.is_relative_to(folder) and data.is_file() and data != path:
                yield data
