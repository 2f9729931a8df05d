"""Who works on the models, and when? Dask does: a cluster of this machine, or one that runs.

Models are folded and proven first, as many at once as the workers have threads. When that is over
they are timed, one at a time on each worker (the resource BENCH), so that nothing else of the
sweep disturbs a measurement. What a model does, it does to a process of its own (`process`), so
that no worker is ever lost to one; what else becomes of a worker is Dask's to repair.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import bnfold
from bnfold.errors import InputError
from bnfold.fleet.manifest import Manifest
from bnfold.fleet.process import Stopped, stop
from bnfold.fleet.record import SweptModel
from bnfold.fleet.storage import require
from bnfold.fleet.task import Task, lost

BENCH = "BENCH"
"""The resource that a worker offers once: a model is timed alone on it."""
ROOM = 2 * 10**9
"""Bytes of memory that a model should have, at the least, when the machine is divided."""
SHARE = 0.9
"""Of the memory, what models may take; the rest is for the system and the sweep itself."""
ANY_PORT = "127.0.0.1:0"
"""Where a cluster of this machine tells of itself: to this machine only, beside any other."""
PATIENCE_S = 30
"""Seconds to wait for a scheduler and its first worker."""

Work = Callable[[Task], SweptModel]


@dataclasses.dataclass(frozen=True, slots=True)
class Crew:
    """Workers that wait for tasks."""

    client: Any
    sweep: str
    memory_limit: int | None
    """Bytes for each model; None where each worker knows its own."""
    threads: int
    """Threads for each model while it is proven."""

    def run(
        self, work: Work, jobs: Sequence[Task], *, alone: bool = False
    ) -> Iterator[SweptModel]:
        """Records in the order in which models are done."""
        distributed = require("distributed")
        needs = {BENCH: 1} if alone else None
        given = {
            self.client.submit(_on_worker, work, job, pure=False, resources=needs): job
            for job in jobs
        }
        try:
            for future in distributed.as_completed(list(given), loop=self.client.loop):
                yield self._record(future, given.pop(future))
        finally:
            if given:
                self._give_up(list(given))

    def _give_up(self, futures: list[Any]) -> None:
        """End what is under way, and take back what has not begun."""
        with suppress(Exception):
            self.client.run(stop, self.sweep)
        with suppress(Exception):  # what is stopped ends at once, and so does what then begins
            require("distributed").wait(futures, timeout=PATIENCE_S)

    def _record(self, future: Any, job: Task) -> SweptModel:
        record: SweptModel | None = future.result() if future.status == "finished" else None
        if record is not None:
            return record
        error = future.exception() if future.status == "error" else None
        record = lost(job, error or ConnectionError("the scheduler gave it up"))
        with suppress(Exception):  # the record is returned in any case
            record = Manifest(job.manifest).save(record)
        return record


def _on_worker(work: Work, job: Task) -> SweptModel | None:
    """Run on a worker, by its own memory limit where the sweep has none; None once it ended."""
    if job.memory_limit is None:
        job = dataclasses.replace(job, memory_limit=_own_limit())
    with suppress(Stopped):
        return work(job)
    return None


def _own_limit() -> int | None:
    """This worker's memory divided by the models that it works on at once."""
    worker = require("distributed").get_worker()
    limit = worker.memory_manager.memory_limit
    return int(SHARE * limit / worker.state.nthreads) if limit else None


# -- this machine -------------------------------------------------------------------------------


@contextmanager
def local_crew(sweep: str, workers: int | None, memory_limit: int | None) -> Iterator[Crew]:
    """A worker in this very process, with a thread for each model at once.

    The models have processes of their own, so the worker only waits and moves files: as a part
    of this process it starts at once, needs no guard in the caller's script, and sees `memory://`.
    """
    distributed = require("distributed")
    cores = usable_cores()
    memory = int(SHARE * distributed.system.MEMORY_LIMIT)
    count = workers or max(1, min(cores, memory // ROOM))
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=count,
            processes=False,
            memory_limit=0,  # of the models' processes; see `process`
            resources={BENCH: 1},
            dashboard_address=ANY_PORT,
            worker_dashboard_address=ANY_PORT,
            silence_logs=logging.CRITICAL,  # every failure is a record
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        try:
            yield Crew(client, sweep, memory_limit or memory // count, max(1, cores // count))
        finally:
            stop(sweep)  # the processes that wait for another model


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# -- a cluster that runs ------------------------------------------------------------------------


@contextmanager
def remote_crew(
    sweep: str, address: str, memory_limit: int | None, *, bench: bool
) -> Iterator[Crew]:
    """The workers of a scheduler. Raises InputError where they cannot do the work."""
    distributed = require("distributed")
    try:
        client = distributed.Client(address, timeout=PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"there is no scheduler at {address}: {error or 'no answer'}",
            "start one with `dask scheduler`, or leave out --scheduler",
        ) from None
    with client:
        _check_workers(client, address, bench=bench)
        try:
            yield Crew(client, sweep, memory_limit, 1)
        finally:
            with suppress(Exception):
                client.run(stop, sweep)


def _check_workers(client: Any, address: str, *, bench: bool) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE_S)
    except TimeoutError:
        raise InputError(
            f"the scheduler at {address} has no workers",
            f"start some with `dask worker {address} --nthreads 1 --resources {BENCH}=1`",
        ) from None
    try:
        versions = set(client.run(_version).values())
    except Exception as error:
        raise InputError(
            f"the workers of {address} cannot run bnfold: {type(error).__name__} {error}",
            f'pip install "bnfold[sweep,cpu]=={bnfold.__version__}" for them too',
        ) from None
    if versions != {bnfold.__version__}:
        raise InputError(
            f"the workers of {address} have bnfold {', '.join(sorted(versions))}, "
            f"and this is {bnfold.__version__}",
            "install the same version everywhere",
        )
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if bench and not any(worker["resources"].get(BENCH) for worker in workers):
        raise InputError(
            f"no worker of {address} offers the resource {BENCH}, so none may time models",
            f"start one worker a machine with --resources {BENCH}=1, or pass --no-bench",
        )


def _version() -> str:
    return bnfold.__version__
