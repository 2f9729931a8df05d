"""Where does text go, and in which colours? One decision, at the start of a command."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from bnfold_cli.lines import Line, Span, Style, line, text_of

if TYPE_CHECKING:
    from bnfold_cli.options import Color

PATIENCE = 0.5
"""Seconds of work before a progress line appears."""

STAGES = {
    "fold": "Folding",
    "judge": "Evaluating in float64",
    "run": "Running on",
    "bench": "Timing",
    "statistics": "Measuring statistics,",
    "write": "Writing",
}
"""The library's words for what it is at, in the words of a sentence."""

RICH_STYLES: dict[Style, str] = {
    "plain": "",
    "good": "green",
    "bad": "bold red",
    "code": "yellow",
    "dim": "dim",
}


def wants_color(choice: Color, stream: TextIO, environment: Mapping[str, str]) -> bool:
    """--color, then NO_COLOR, then FORCE_COLOR, then whether a person is looking."""
    if choice != "auto":
        return choice == "always"
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environment.get("TERM") != "dumb"


class Console:
    """The result on standard output; progress and errors on standard error."""

    def __init__(
        self,
        color: Color = "auto",
        *,
        as_json: bool = False,
        quiet: bool = False,
        aside: bool = False,
    ) -> None:
        self.color: Color = color
        self.as_json = as_json
        self.quiet = quiet
        self.aside = aside
        """Whether standard output is the model's own, and everything else goes to the other."""

    @property
    def results(self) -> TextIO:
        """Where results go."""
        return sys.stderr if self.aside else sys.stdout

    def show(self, lines: Iterable[Line]) -> None:
        """Print the result for people; nothing under --json or --quiet."""
        if not (self.as_json or self.quiet):
            self._write(self.results, lines)

    def tell(self, lines: Iterable[Line]) -> None:
        """Print how the work goes on; nothing under --quiet."""
        if not self.quiet:
            self._write(sys.stderr, lines)

    def document(self, content: Mapping[str, Any]) -> None:
        """Print the result for programs, under --json."""
        if self.as_json:
            _print(self.results, document_text(content, self.results.encoding) + "\n")

    def error(self, error: BaseException, message: str, hint: str) -> None:
        """Print what went wrong and what to do about it."""
        self.failure(message, hint)
        self.document(
            {
                "schema": 1,
                "error": {"type": type(error).__name__, "message": message, "hint": hint},
            }
        )

    def failure(self, message: str, hint: str) -> None:
        """Print the same for people alone."""
        self._write(
            sys.stderr,
            [line(Span("error:", "bad"), f" {message}"), line(Span("hint:", "dim"), f" {hint}")],
        )

    def trace(self, error: BaseException) -> None:
        """Print where an error arose."""
        text = "".join(traceback.format_exception(error))
        _print(sys.stderr, "".join(_seen(each) + "\n" for each in text.splitlines()))

    def progress(self, stage: str) -> Progress:
        """A line on standard error that shows itself if the work takes long, and goes again."""
        visible = sys.stderr.isatty() and not self.quiet and os.environ.get("TERM") != "dumb"
        return Progress(stage, sys.stderr if visible else None)

    def _write(self, stream: TextIO, lines: Iterable[Line]) -> None:
        clean = [tuple(Span(_seen(span.text), span.style) for span in spans) for spans in lines]
        if not wants_color(self.color, stream, os.environ):
            _print(stream, "".join(text_of(spans) + "\n" for spans in clean))
            return
        from rich.console import Console as RichConsole
        from rich.text import Text

        rich = RichConsole(
            file=stream,
            force_terminal=True,
            color_system="standard",  # it was decided already, whatever TERM and NO_COLOR say
            no_color=False,
            markup=False,
            highlight=False,
            emoji=False,
        )
        for spans in clean:
            styled = Text.assemble(*((s.text, RICH_STYLES[s.style]) for s in spans))
            rich.print(styled, soft_wrap=True)


def _seen(text: str) -> str:
    """What others wrote, as text that is seen; most of it is, and needs no library to say so."""
    if text.isascii() and text.isprintable():
        return text
    from bnfold.visible import visible

    return visible(text)


def document_text(content: Mapping[str, Any], encoding: str | None) -> str:
    """A JSON document as text: escaped as JSON does it where it would not be seen or encoded."""
    from bnfold.visible import visible_json

    is_unicode = (encoding or "utf-8").lower().startswith("utf")
    text = json.dumps(finite(content), indent=2, ensure_ascii=not is_unicode, allow_nan=False)
    return visible_json(text)


def finite(value: Any) -> Any:
    """The value with what JSON cannot say (infinities, NaN) as null, and no numpy scalars."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _print(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


class Progress:
    """Called with (stage, done, total) while work goes on; draws from a thread of its own."""

    def __init__(self, stage: str, stream: TextIO | None) -> None:
        self._state = (stage, 0, 0)
        self._stream = stream
        self._finished = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say how far the work is; `total` is 0 where that is not known."""
        word, *rest = stage.split(" ", 1)
        self._state = (_seen(" ".join([STAGES.get(word, word), *rest])), done, total)

    def __enter__(self) -> Progress:
        if self._stream is not None:
            self._thread = threading.Thread(target=self._draw, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finished.set()
        if self._thread is not None:
            self._thread.join()

    def _draw(self) -> None:
        if self._finished.wait(PATIENCE):
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        console = RichConsole(file=self._stream, markup=False, highlight=False)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with RichProgress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(self._state[0], total=None)
            while not self._finished.wait(0.1):
                stage, done, total = self._state
                bar.update(task, description=stage, completed=done, total=total or None)
