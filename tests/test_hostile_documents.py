"""Documents that a hostile hand could make, of `bench --baseline` and `report`: exit code 2."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from edits import edited, leaves, others
from results import fleet, result, swept_model

from bnfold import baseline
from bnfold.errors import InputError
from bnfold.fleet.manifest import read_lines
from bnfold.html import page
from bnfold.regular import MOST_JSON
from bnfold_cli import app

ROOT = Path(__file__).parents[1]
NET = str(ROOT / "models" / "trained" / "digits-relu-bn1.onnx")
COMMANDS = (["report"], ["bench", NET, NET, "--baseline"])


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MOST_JSON + 1)


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "a FIFO": fifo,
    "a device": device,
    "a socket": listening,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "too large": huge,
    "nothing": text(""),
    "a number": text("5"),
    "a list": text("[]"),
    "text": text('"measurements"'),
    "many brackets": text("[" * 100_000),
    "brackets in a manifest": text('{"outcome": 1}\n' + "[" * 100_000),
    "no numbers": text('{"command": "optimize", "schema": 1, "speedup": NaN}'),
    "an infinite number": text('{"command": "optimize", "schema": 1e999}'),
    "a long number": text('{"command": "optimize", "schema": 1, "folds": 1' + "0" * 400 + "}"),
    "a name twice": text('{"command": "optimize", "command": "sweep", "schema": 1}'),
    "a command that is a list": text('{"command": [], "schema": 1}'),
    "a record of a list": text('{"schema": 1, "outcome": [], "model": 3}'),
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused(
    name: str,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two lines, nothing waited for and nothing written."""
    monkeypatch.chdir(tmp_path)
    HOSTILE[name](Path("x.json"))
    assert app.run([*command, "x.json"]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 2)
    assert os.listdir() == ["x.json"]


def test_a_url_of_this_machine_is_a_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A FIFO is not waited for whatever it is called."""
    os.mkfifo(tmp_path / "x.json")
    assert app.run(["report", f"file://{tmp_path}/x.json", "-o", str(tmp_path / "x.html")]) == 2
    assert "is a FIFO" in capsys.readouterr().err


def edits(document: Any, count: int) -> Iterator[Any]:
    """Some of all edits of one value each, the same ones every time."""
    document = json.loads(json.dumps(document))
    places = list(leaves(document))
    choose = random.Random(0)
    for where, value in choose.sample(places, min(count, len(places))):
        other = choose.choice([*others(value)])
        yield json.loads(edited(document, where, lambda h, k, o=other: h.__setitem__(k, o)))
        yield json.loads(edited(document, where, lambda held, key: held.__delitem__(key)))


@pytest.mark.parametrize("document", [fleet(2), result(2)], ids=["fleet", "result"])
def test_an_edited_result_is_drawn_or_refused(document: Any) -> None:
    """Never an error of bnfold's own making."""
    for made in edits(document, 4):
        with contextlib.suppress(InputError):
            page(made)


def test_an_edited_baseline_is_read_or_refused() -> None:
    """Never an error of bnfold's own making."""
    for made in edits(result(2)["speed"], 120):
        with contextlib.suppress(InputError):
            baseline.measurements(made)


def test_an_edited_record_is_read_or_refused() -> None:
    """What a manifest says has the types that pages and tables count on."""
    for made in edits(swept_model(0).to_dict(), 200):
        try:
            (record,) = read_lines(json.dumps(made).encode())
        except InputError:
            continue
        assert isinstance(record.kept, dict)
        assert isinstance(record.nodes_before, int)
