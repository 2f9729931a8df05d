"""How far is a sweep? A bar with counts, rate and time left on a terminal, else plain lines."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bnfold_cli import render
from bnfold_cli.lines import line, text_of

if TYPE_CHECKING:
    from bnfold.fleet.record import SweptModel
    from bnfold.fleet.sweeping import Plan
    from bnfold_cli.console import Console


class FleetProgress:
    """Told of every model, it shows each one that needs a look, and how many are left."""

    def __init__(self, console: Console, *, verbose: bool) -> None:
        self.console = console
        self.verbose = verbose
        self.manifest = ""
        self.total = 0
        self._done = 0
        self._failed = 0
        self._bar: Any = None
        self._task: Any = None

    def begin(self, plan: Plan) -> None:
        """Called with what was found, before the first model."""
        self.manifest, self.total = plan.manifest, plan.models
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        if terminal and not self.console.quiet:
            self._bar = _bar()
            self._task = self._bar.add_task("Sweeping", total=self.total, failed="", rate="")
            self._bar.start()

    def show(self, record: SweptModel) -> None:
        """One more model is done."""
        self._done += 1
        self._failed += not record
        number = f"{self._done:>{len(str(self.total))}}/{self.total}  "
        spans = line(number, *render.model(record))
        if self._bar is None:
            if self.verbose or not record.skipped:
                self.console.tell([spans])
            return
        from bnfold.visible import visible

        if self.verbose or not record:
            self._bar.console.print(visible(text_of(spans)), soft_wrap=True)
        speed = self._bar.tasks[0].speed
        self._bar.update(
            self._task,
            advance=1,
            failed=f"{self._failed} failed" if self._failed else "",
            rate=f"{60 * speed:.3g}/min" if speed else "",
        )

    def __enter__(self) -> FleetProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> Any:
    from rich.console import Console as RichConsole
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}", style="red", markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left", markup=False),
        TimeRemainingColumn(),
        console=RichConsole(file=sys.stderr, markup=False, highlight=False, emoji=False),
        transient=True,
        speed_estimate_period=600.0,
    )
