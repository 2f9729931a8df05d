"""How is one model of a fleet worked on? Fetch it, ask its process, publish, and record.

A task is what Dask runs. All transfer is done here, in the worker, so that a place that only this
process can see works too; the model itself is only ever opened in its own process. The record is
written last: until then nothing is known to be done.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any

import bnfold
from bnfold.errors import ModelError
from bnfold.external import data_file
from bnfold.files import native, sha256
from bnfold.fleet.figures import speed_of
from bnfold.fleet.jobs import RESULT
from bnfold.fleet.manifest import REPORTS, RESULTS, Manifest
from bnfold.fleet.process import Failed, Limits, Stopped, Workshop, workshop
from bnfold.fleet.record import Failure, FileState, Outcome, SweptModel
from bnfold.fleet.settings import Settings
from bnfold.fleet.storage import Place
from bnfold.scratch import scratch_folder
from bnfold.visible import visible_json

States = dict[str, FileState]

DATA = ".data"
"""How the names of data files end."""


@dataclass(frozen=True, slots=True)
class Task:
    """One model with all that a worker on any machine needs to know."""

    sweep: str
    model: str
    source: Place
    destination: Place
    manifest: Place
    companions: tuple[str, ...]
    settings: Settings
    memory_limit: int | None

    def ask(self, job: str, **arguments: Any) -> Any:
        """What a function of `jobs` returns in the process of this thread."""
        limits = Limits(self.settings.timeout, self.memory_limit)
        doing = f"working on {self.model}"
        return self.workshop.do(job, limits, doing=doing, **arguments)

    @property
    def workshop(self) -> Workshop:
        """Where this thread's jobs are done."""
        return workshop(self.sweep, self.settings.threads)


# -- folding and proving ------------------------------------------------------------------------


def work(task: Task) -> SweptModel:
    """Fold, prove and publish a model, unless its record says that this was done; the record."""
    began = time.monotonic()
    base = SweptModel(
        model=task.model,
        source=task.source.full_url,
        outcome="failed",
        bnfold=bnfold.__version__,
        options=task.settings.recorded,
        host=platform.node(),
    )
    record, failure = _attempt(lambda folder: _worked(task, base, folder))
    if record is None:
        assert failure is not None
        record = _failed(base, failure, task.workshop.peak_bytes)
    if not record.skipped:
        record = dataclasses.replace(record, seconds=time.monotonic() - began, finished=_now())
    return _saved(task, record)


def _attempt(
    what: Callable[[Path], SweptModel],
) -> tuple[SweptModel | None, Failure | None]:
    """What comes of work in a folder of its own, or why nothing did. Raises Stopped."""
    try:
        with scratch_folder() as folder:
            return what(folder), None
    except Stopped:
        raise
    except Failed as failed:
        return None, failed.failure
    except Exception as error:  # storage of any kind raises what it likes
        return None, _storage_failure(error)


def _saved(task: Task, record: SweptModel) -> SweptModel:
    """The record, once it is written; where that fails, the model is not done."""
    try:
        return Manifest(task.manifest).save(record)
    except Exception as error:
        return _failed(record, _storage_failure(error), record.peak_bytes)


def _worked(task: Task, base: SweptModel, folder: Path) -> SweptModel:
    record = Manifest(task.manifest).record(task.model)
    known = None if task.settings.again else record
    path, inputs = _fetched(task, folder / "in")
    companions = _states(task.source, task.companions)
    base = dataclasses.replace(
        base, inputs=inputs, companions=companions, sha256=inputs[task.model].sha256
    )
    if known is not None and is_same_work(known, base) and has_outputs(task, known):
        if _digests(companions) != _digests(known.companions):
            _refuse_taken(task, companions, known)
            _copy(task, companions)
        return dataclasses.replace(known, inputs=inputs, companions=companions, skipped=True)
    output = folder / "out" / PurePosixPath(task.model).name
    try:
        figures = task.ask(
            "optimize",
            path=str(path),
            output=str(output),
            model=task.model,
            options=task.settings.fold,
            threads=task.settings.threads,
        )
        _refuse_changed(task, inputs)
    except Failed as failed:
        return _failed(base, failed.failure, task.workshop.peak_bytes)
    made = dataclasses.replace(base, peak_bytes=task.workshop.peak_bytes, **figures)
    result = output.with_name(RESULT).rename(folder / RESULT)
    outputs = _states_of(task, output.parent)
    _refuse_taken(task, outputs | companions, record)
    if not (task.settings.bench and is_worth_timing(made)):
        _draw(task, result)
    _publish(task, output.parent, outputs)
    _copy(task, companions)
    task.manifest.put(result, f"{RESULTS}/{task.model}.json")
    return dataclasses.replace(made, outputs=outputs, written=[*outputs, *companions])


def is_worth_timing(record: SweptModel) -> bool:
    """Whether a fold changed the model."""
    return record.outcome in ("equivalent", "unproven")


def is_same_work(known: SweptModel, now: SweptModel) -> bool:
    """Whether a record is of the same bytes, version and options, and needs no other try."""
    return (
        known.is_final
        and (known.bnfold, known.source) == (now.bnfold, now.source)
        and known.options == now.options
        and _digests(known.inputs) == _digests(now.inputs)
    )


def has_outputs(task: Task, known: SweptModel) -> bool:
    """Whether the folded model that a record tells of is there."""
    return all(map(task.destination.exists, known.outputs))


def _digests(states: States) -> dict[str, str]:
    return {name: state.sha256 for name, state in states.items()}


# -- timing -------------------------------------------------------------------------------------


def time_it(task: Task) -> SweptModel:
    """Time a model that was folded before against its original; its record with the speedup."""
    manifest = Manifest(task.manifest)
    known = manifest.record(task.model)
    assert known is not None  # it was folded in this sweep or an earlier one
    base = dataclasses.replace(
        known, speed=None, speed_failure=None, speed_options=task.settings.speed_recorded
    )
    timed, failure = _attempt(lambda folder: _timed(task, base, folder))
    if timed is None:
        timed = dataclasses.replace(base, speed_failure=failure)
    return _saved(task, timed)


def _timed(task: Task, base: SweptModel, folder: Path) -> SweptModel:
    paths = [
        _all_local(place, task.model, files, folder / part)
        for place, files, part in (
            (task.source, base.inputs, "in"),
            (task.destination, base.outputs, "out"),
        )
    ]
    speed = task.ask(
        "bench",
        path=str(paths[0]),
        candidate=str(paths[1]),
        options=task.settings.speed,
    )
    document = Manifest(task.manifest).result(task.model)
    if document is not None:
        result = folder / RESULT
        text = json.dumps(document | {"speed": speed}, ensure_ascii=False)
        result.write_text(visible_json(text), "utf-8")
        _draw(task, result)
        task.manifest.put(result, f"{RESULTS}/{task.model}.json")
    return dataclasses.replace(base, speed=speed_of(speed))


def _all_local(place: Place, model: str, files: Iterable[str], folder: Path) -> Path:
    """A model on this machine, with the files that belong to it."""
    for name in files:
        _local(place, name, folder)
    return _local(place, model, folder)


# -- the page -----------------------------------------------------------------------------------


def _draw(task: Task, result: Path) -> None:
    """Draw the model's own page, where that was asked for."""
    if not task.settings.reports:
        return
    page = result.with_suffix(".html")
    with suppress(Failed):
        task.ask("draw", path=str(result), output=str(page))
        task.manifest.put(page, f"{REPORTS}/{task.model}.html")


# -- files --------------------------------------------------------------------------------------


def _fetched(task: Task, folder: Path) -> tuple[Path, States]:
    """The model on this machine with its weights beside it, and what all its files are."""
    source, name = task.source, task.model
    states = {name: source.state(name)}
    path = _local(source, name, folder)
    home = PurePosixPath(name).parent
    for location in task.ask("locations", path=str(path)):
        data = str(home / location)
        if _may_be_read(source, data, location, path):
            states[data] = source.state(data)
            _local(source, data, folder)
    return path, {name: _file_state(source, name, folder, s) for name, s in states.items()}


def _may_be_read(source: Place, data: str, location: str, model: Path) -> bool:
    """Whether a model may have its data there; where not, `optimize` says so."""
    if not source.is_local:
        return source.exists(data)
    try:
        data_file("", native(location), model)
    except ModelError:
        return False
    return True


def _local(source: Place, name: str, folder: Path) -> Path:
    """A file of the source as one of this machine."""
    if source.is_local:
        return Path(source.path(name))
    target = folder / name
    source.fetch(name, target)
    return target


def _file_state(source: Place, name: str, folder: Path, state: str | None) -> FileState:
    path = Path(source.path(name)) if source.is_local else folder / name
    return FileState(sha256(path), path.stat().st_size, state)


def _states(source: Place, names: Iterable[str]) -> States:
    """What files are, read one by one."""
    found = {}
    for name in names:
        with scratch_folder() as folder:
            state = source.state(name)
            _local(source, name, folder)
            found[name] = _file_state(source, name, folder, state)
    return found


def _refuse_changed(task: Task, inputs: States) -> None:
    """A file that was written to meanwhile: what was folded may be a mixture."""
    for name, known in inputs.items():
        if task.source.is_local and task.source.state(name) != known.state:
            raise Failed(Failure("changed", f"{name} changed while it was read", "sweep again"))


def _states_of(task: Task, folder: Path) -> States:
    """What was written, by its names at the destination; the model last, for it needs the rest."""
    home = PurePosixPath(task.model).parent
    own = PurePosixPath(task.model).name
    return {
        str(home / path.name): FileState(sha256(path), path.stat().st_size)
        for path in sorted(folder.iterdir(), key=lambda p: p.name == own)
    }


def _refuse_taken(task: Task, files: States, known: SweptModel | None) -> None:
    """Raise Failed where a file would replace one that no sweep wrote.

    What a sweep wrote is known by the records, or by being the same, if that sweep died before
    its record. `force` allows to replace others, except for data, which nobody named.
    """
    place, own = task.destination, frozenset() if known is None else known.of_sweeps
    for name in files.keys() - own:
        may_replace = task.settings.force and not name.endswith(DATA)
        if may_replace or not place.is_taken(name) or place.sha256(name) == files[name].sha256:
            continue
        if not any(name in r.of_sweeps for r in Manifest(task.manifest).records().values()):
            what = f"{name} stands at the destination already, and no sweep wrote it"
            hint = "move it away, name another destination, or pass --force (not for data)"
            raise Failed(Failure("taken", what, hint))


def _publish(task: Task, folder: Path, outputs: Iterable[str]) -> None:
    """Move what was written to the destination."""
    for name in outputs:
        task.destination.put(folder / PurePosixPath(name).name, name)


def _copy(task: Task, names: Iterable[str]) -> None:
    """Copy files as they are from the source to the destination."""
    for name in names:
        data = task.source.read(name)
        if data is not None:
            task.destination.write(name, data)


# -- failures -----------------------------------------------------------------------------------


def _failed(base: SweptModel, failure: Failure, peak_bytes: int = 0) -> SweptModel:
    """The record of a model that came to nothing; "not equivalent" is an answer of its own."""
    outcome: Outcome = "not_equivalent" if failure.kind == "not_equivalent" else "failed"
    return dataclasses.replace(base, outcome=outcome, failure=failure, peak_bytes=peak_bytes)


def _storage_failure(error: Exception) -> Failure:
    text = " ".join(str(error).split())[:400]
    return Failure("storage", f"{type(error).__name__}: {text}", "sweep again, once it is back")


def lost(task: Task, error: BaseException) -> SweptModel:
    """The record of a model whose worker went away too often."""
    failure = Failure(
        "lost",
        f"its worker went away: {type(error).__name__} {error}"[:400],
        "look at the logs of the workers; a machine may be short of memory",
    )
    return SweptModel(
        model=task.model,
        source=task.source.full_url,
        outcome="failed",
        bnfold=bnfold.__version__,
        options=task.settings.recorded,
        failure=failure,
        finished=_now(),
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
