"""What does a sweep do? List, skip what is done, work on the rest, and leave a manifest."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Container, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

import bnfold
from bnfold import arguments
from bnfold.errors import InputError, OutputError
from bnfold.fleet.manifest import FOLDER, Manifest
from bnfold.fleet.record import SweptModel
from bnfold.fleet.schedule import Crew, local_crew, remote_crew
from bnfold.fleet.settings import Settings
from bnfold.fleet.source import Found, find_models, open_source
from bnfold.fleet.storage import Place, check_libraries, check_writable, require
from bnfold.fleet.task import Task, is_worth_timing, time_it, work
from bnfold.html import check_libraries as check_drawing


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep is about to look at."""

    models: int
    manifest: str
    """Where the lines of all records will be."""


TIMEOUT_S = 1800.0
"""Seconds for one model; one that never ends must not hold up the others for ever."""


def sweep(
    source: str,
    destination: str,
    *,
    manifest: str | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    memory_limit: int | str | None = None,
    timeout: float = TIMEOUT_S,
    again: bool = False,
    checksum: bool = False,
    force: bool = False,
    reports: bool = False,
    bench: bool = True,
    budget_s: float | None = None,
    threads: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    on_start: Callable[[Plan], None] | None = None,
    **options: Any,
) -> Generator[SweptModel, None, None]:
    """Fold, prove and time every model of a folder or bucket; yields each one's record once.

    `source` (a folder, a file or a glob) and `destination` are paths or any URL that fsspec
    knows, opened with `storage_options`. What an earlier sweep did with the same bytes, version
    and options is not done again and comes first, with `skipped` set; `again` does everything,
    `checksum` reads every file instead of asking the storage whether it changed. Records are kept
    at `manifest`, by default the folder `bnfold` at the destination.

    Work runs on Dask: on `workers` models of this machine at once, or on the workers of the
    `scheduler` at an address. A model may take `timeout` seconds (0: any time) and `memory_limit`
    bytes (or a text such as "4 GB"); one that fails, crashes or never ends is a record like any
    other, with its `failure`. `reports` draws each model's page too. `bench`, `budget_s` and
    `threads` are about timing, which follows when all are folded; `options` are those of
    `optimize` that suit many models: `reparameterize`, `keep_overridable`, `keep`, `verify`,
    `dims` (of symbolic dimensions), `samples`, `seed`, `providers`, `atol`, `rtol`,
    `judge_seconds`.

    `on_start` is called once, with how many models were found. Nothing is done before the first
    record is asked for; closing the generator ends the sweep. Raises InputError and OutputError
    before any model is worked on, and never for a model.
    """
    check_libraries()
    if reports:
        check_drawing()
    settings = Settings(
        fold=_options(options),
        bench=bench,
        speed=_given(budget_s=budget_s, threads=threads, **_run_on(options)),
        timeout=timeout,
        memory_limit=_bytes(memory_limit),
        checksum=checksum,
        again=again,
        force=force,
        reports=reports,
    )
    return _Sweep(source, destination, manifest, settings, storage_options).run(
        scheduler, workers, force=force, on_start=on_start
    )


FOLD_OPTIONS = frozenset(
    "keep reparameterize keep_overridable verify dims samples seed providers atol rtol "
    "judge_seconds".split()
)


READ: Mapping[str, Callable[[Any], Any]] = {
    "keep": lambda keep: list(arguments.names(keep, "keep")),
    "providers": lambda given: list(arguments.providers(given)),
}
"""How options are read of which there may be one or several."""


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(options.keys() - FOLD_OPTIONS)
    if unknown:
        raise TypeError(f"sweep() has no option {', '.join(unknown)}")
    return _given(**options) | {
        name: read(options[name]) for name, read in READ.items() if options.get(name) is not None
    }


def _run_on(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _options(options).get(key) for key in ("dims", "seed", "providers")}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _bytes(limit: int | str | None) -> int | None:
    if limit is None:
        return None
    try:
        return int(require("dask.utils").parse_bytes(limit))
    except ValueError:
        raise InputError(f"{limit!r} is no amount of memory", 'say it as in "4 GB"') from None


class _Sweep:
    """Two places, a manifest, and what is to be done."""

    def __init__(
        self,
        source: str,
        destination: str,
        manifest: str | None,
        settings: Settings,
        storage_options: Mapping[str, Any] | None,
    ) -> None:
        self.settings = settings
        self.source, self.pattern = open_source(source, storage_options)
        self.destination = Place(destination, storage_options)
        place = Place(manifest, storage_options) if manifest else self.destination.sub(FOLDER)
        self.manifest = Manifest(place)
        self.places = (self.source, self.destination, place)

    def run(
        self,
        scheduler: str | None,
        workers: int | None,
        *,
        force: bool,
        on_start: Callable[[Plan], None] | None,
    ) -> Generator[SweptModel, None, None]:
        if scheduler and any(place.is_in_memory for place in self.places):
            raise InputError(
                "memory:// is seen by this process alone, not by the workers of a scheduler",
                "leave out --scheduler, or use a folder or a bucket",
            )
        if self.source.real_url == self.destination.real_url:
            raise OutputError(
                "source and destination are the same", "name another destination: models are kept"
            )
        found = find_models(self.source, self.pattern, beside=self.destination)
        self._begin(found, force=force)
        if on_start is not None:
            on_start(Plan(len(found), self.manifest.url))
        known, present = self.manifest.records(), self.destination.names()
        done = [self._known(model, known.get(model.model), present) for model in found]
        todo = [model for model, record in zip(found, done, strict=True) if record is None]
        timed = [r for r in done if r is not None and self._lacks_timing(r)]
        yield from (r for r in done if r is not None and not self._lacks_timing(r))
        if not (todo or timed):
            self.manifest.merge()
            return
        try:
            with self._crew(scheduler, workers) as crew:
                yield from self._worked(crew, todo, timed)
        finally:
            with suppress(Exception):  # the records are there, and the next sweep merges them
                self.manifest.merge()

    def _crew(self, scheduler: str | None, workers: int | None) -> AbstractContextManager[Crew]:
        sweep, limit = secrets.token_hex(8), self.settings.memory_limit
        if scheduler is None:
            return local_crew(sweep, workers, limit)
        return remote_crew(sweep, scheduler, limit, bench=self.settings.bench)

    def _begin(self, found: Sequence[Found], *, force: bool) -> None:
        """Refuse to write over what no sweep made, and mark the place."""
        if self.manifest.exists():
            return
        check_writable(self.destination)
        present = self.destination.names()
        taken = next((model.model for model in found if model.model in present), None)
        if taken is not None and not force:
            raise OutputError(
                f"{self.destination.url} holds {taken} already, and no sweep made it",
                "name another destination, or pass --force",
            )
        self.manifest.begin()

    # -- what is done already -------------------------------------------------------------------

    def _known(
        self, model: Found, record: SweptModel | None, present: Container[str]
    ) -> SweptModel | None:
        """The record of a model that needs no folding, by what the storage tells of its files."""
        settings = self.settings
        if record is None or settings.again or settings.checksum or not record.is_final:
            return None
        files = {**record.inputs, **record.companions}
        same = (
            record.bnfold == bnfold.__version__
            and record.source == self.source.full_url
            and record.options == settings.recorded
            and set(record.companions) == set(model.companions)
            and all(s.state and s.state == self._state(model, n) for n, s in files.items())
            and all(name in present for name in record.outputs)
        )
        return dataclasses.replace(record, skipped=True) if same else None

    def _state(self, model: Found, name: str) -> str | None:
        """What the storage tells of a file, from the listing where that has it."""
        listed = model.states.get(name)
        return self.source.state(name) if listed is None else listed.state

    def _lacks_timing(self, record: SweptModel) -> bool:
        """Whether timing was asked for and is not there."""
        wanted = self.settings.speed_recorded
        if wanted is None or not is_worth_timing(record):
            return False
        return record.speed is None or record.speed_options != wanted

    # -- the work -------------------------------------------------------------------------------

    def _worked(
        self, crew: Crew, todo: Sequence[Found], timed: Sequence[SweptModel]
    ) -> Iterator[SweptModel]:
        jobs = {model.model: self._task(crew, model) for model in todo}
        waiting = [record.model for record in timed]
        for record in crew.run(work, list(jobs.values())):
            if self._lacks_timing(record):
                waiting.append(record.model)
            else:
                yield record
        again = [jobs.get(model) or self._task(crew, Found(model, 0)) for model in waiting]
        yield from crew.run(time_it, again, alone=True)

    def _task(self, crew: Crew, model: Found) -> Task:
        return Task(
            sweep=crew.sweep,
            model=model.model,
            source=self.source,
            destination=self.destination,
            manifest=self.manifest.place,
            companions=model.companions,
            settings=dataclasses.replace(self.settings, threads=crew.threads),
            memory_limit=crew.memory_limit,
        )
