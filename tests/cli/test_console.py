"""Text goes to the right stream, in colours only where a person looks."""

from __future__ import annotations

import io
import json
import os
import sys
import time

import pytest

from bnfold_cli import console as module
from bnfold_cli import streams
from bnfold_cli.console import Console, finite, wants_color
from bnfold_cli.lines import Span, line


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


PIPE, TERMINAL = io.StringIO(), Terminal()


@pytest.mark.parametrize(
    ("choice", "stream", "environment", "expected"),
    [
        ("auto", TERMINAL, {}, True),
        ("auto", PIPE, {}, False),
        ("auto", TERMINAL, {"TERM": "dumb"}, False),
        ("auto", TERMINAL, {"NO_COLOR": "1"}, False),
        ("auto", TERMINAL, {"NO_COLOR": ""}, True),
        ("auto", PIPE, {"FORCE_COLOR": "1"}, True),
        ("auto", PIPE, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ("always", PIPE, {"NO_COLOR": "1", "TERM": "dumb"}, True),
        ("never", TERMINAL, {"FORCE_COLOR": "1"}, False),
    ],
)
def test_color(
    choice: module.Color, stream: io.StringIO, environment: dict[str, str], expected: bool
) -> None:
    """--color is asked before NO_COLOR, that before FORCE_COLOR, that before the terminal."""
    assert wants_color(choice, stream, environment) is expected


VERDICT = line(Span("Folded", "good"), " [red]/a/[b]:1 ", Span("\x1b[2Jx\n", "code"))


def test_same_words_with_and_without_color(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colour adds nothing to the words, and markup in names is left as it is."""
    Console("never").show([VERDICT])
    plain = capsys.readouterr().out
    assert plain == "Folded [red]/a/[b]:1 \\x1b[2Jx\\x0a\n"
    monkeypatch.setenv("NO_COLOR", "1")  # the option wins
    monkeypatch.setenv("TERM", "dumb")
    Console("always").show([VERDICT])
    colored = capsys.readouterr().out
    assert "\x1b[32mFolded\x1b[0m" in colored
    for code in ("\x1b[32m", "\x1b[33m", "\x1b[0m"):
        colored = colored.replace(code, "")
    assert colored == plain


def test_long_lines_stay_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name longer than the terminal is neither wrapped nor cut."""
    monkeypatch.setenv("COLUMNS", "20")
    for color in ("always", "never"):
        Console(color).show([line("x" * 300)])
        assert capsys.readouterr().out == "x" * 300 + "\n"


def test_streams(capsys: pytest.CaptureFixture[str]) -> None:
    """Results are on standard output, errors on standard error, JSON alone on the former."""
    Console("never").show([line("result")])
    Console("never").error(ValueError(), "what", "how")
    assert capsys.readouterr() == ("result\n", "error: what\nhint: how\n")
    console = Console("never", as_json=True)
    console.show([line("result")])
    console.error(ValueError(), "what", "how")
    out, err = capsys.readouterr()
    assert err == "error: what\nhint: how\n"
    error = {"type": "ValueError", "message": "what", "hint": "how"}
    assert json.loads(out) == {"schema": 1, "error": error}


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """-q silences results but neither errors nor JSON."""
    Console("never", quiet=True).show([line("result")])
    assert capsys.readouterr() == ("", "")
    Console("never", quiet=True).error(ValueError(), "what", "how")
    assert capsys.readouterr().err
    Console("never", quiet=True, as_json=True).document({"a": 1})
    assert json.loads(capsys.readouterr().out) == {"a": 1}


DISGUISED = "conv\u202exnno.\u200b\x9b\udce9\U000e0041"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_what_a_model_says_is_seen(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """Names that would not be seen are, on either stream and in JSON, which has the true ones."""
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace") for _ in range(2)
    )
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    for color in ("always", "never"):
        console = Console(color)
        console.show([line(DISGUISED)])
        console.tell([line(DISGUISED)])
        console.error(ValueError(DISGUISED), DISGUISED, DISGUISED)
        console.trace(ValueError(DISGUISED))
    Console("never", as_json=True).document({DISGUISED: [DISGUISED, "größe 🙂"]})
    texts = [stream.buffer.getvalue().decode(encoding) for stream in (out, err)]
    for character in DISGUISED.removeprefix("conv").replace("xnno.", ""):
        assert not any(character in text for text in texts)
    assert texts[1].count("conv\\u202exnno.\\u200b\\x9b\\udce9\\U000e0041") == 8
    document = texts[0][texts[0].index("{") :]
    assert json.loads(document) == {DISGUISED: [DISGUISED, "größe 🙂"]}


def test_progress_says_it_too() -> None:
    """What is under way is told with names of models."""
    progress = Console().progress("")
    progress(f"run {DISGUISED}", 0, 0)
    assert progress._state[0].isprintable()


def test_finite() -> None:
    """JSON gets null for what it cannot say, and no numpy scalars."""
    np = pytest.importorskip("numpy")
    value = {"a": float("inf"), "b": [float("nan"), 1.5], "c": np.float32(2), "d": (np.int64(3),)}
    assert finite(value) == {"a": None, "b": [None, 1.5], "c": 2.0, "d": [3]}


def test_closed_pipe() -> None:
    """A reader that went away (`| head`) raises nothing, and is remembered as no refusal."""
    read, write = os.pipe()
    os.close(read)
    outlet = streams.Outlet(write)
    with io.TextIOWrapper(io.BufferedWriter(outlet)) as stream:
        module._print(stream, "x" * 10)
        module._print(stream, "more")
    assert outlet.failure is not None
    assert streams.refusal(outlet) is None
    os.close(write)


# -- progress -----------------------------------------------------------------------------------


def test_no_progress_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard error is no terminal, nothing is drawn and no thread is started."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with Console().progress("Folding") as progress:
        progress("Verifying", 1, 2)
        assert progress._thread is None
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_no_progress_for_short_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that is done before the patience ends shows nothing."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with Console().progress("Folding"):
        pass
    assert stream.getvalue() == ""


def test_progress_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long work shows its stage and count, and the line is erased at the end."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with Console().progress("Folding") as progress:
        progress("Verifying", 5, 8)
        deadline = time.monotonic() + 10
        while "5/8" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
    drawn = stream.getvalue()
    assert "Verifying" in drawn
    assert "5/8" in drawn
    assert drawn.rstrip("\n").endswith("\x1b[2K"), "the line is erased"


def test_no_progress_when_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """-q shows no progress on a terminal either."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with Console(quiet=True).progress("Folding"):
        time.sleep(0.05)
    assert stream.getvalue() == ""
