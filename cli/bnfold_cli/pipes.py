"""How does a command take a model from standard input, and give one to standard output?"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

STANDARD = Path("-")
"""Standard input or output, where a model could be named."""
NAMES = {0: "standard input", 1: "standard output"}


@dataclass(frozen=True, slots=True)
class Incoming:
    """A model that was named: the file to read, and what people call it."""

    path: Path
    name: str
    is_stream: bool = False


@contextlib.contextmanager
def incoming(*models: Path) -> Iterator[tuple[Incoming, ...]]:
    """The files of models, once those that come over a pipe were read whole."""
    from bnfold.pipes import received

    numbers = [_descriptor(model, 0) for model in models]
    streams = [number for number in numbers if number is not None]
    if len(set(streams)) < len(streams):
        raise typer.BadParameter(f"{NAMES[0]} can be read once, and is named twice")
    with contextlib.ExitStack() as stack:
        made = []
        for model, number in zip(models, numbers, strict=True):
            if number is None:
                made.append(Incoming(model, str(model)))
                continue
            name = NAMES[0] if number == 0 else str(model)
            path = stack.enter_context(received(number, name))
            stack.enter_context(_offering_a_file(name, path))
            made.append(Incoming(path, name, is_stream=True))
        yield tuple(made)


@contextlib.contextmanager
def _offering_a_file(name: str, path: Path) -> Iterator[None]:
    """Weights in other files cannot come over a pipe: say what would help."""
    from bnfold.errors import ModelError

    try:
        yield
    except ModelError as error:
        if "keeps its data in" in str(error) or "has its data there" in str(error):
            hint = "name the model's file, so that its data is found beside it"
            what = f"the model on {name} keeps weights in another file, which no pipe brings"
            raise ModelError(what, hint) from error
        raise


class Outgoing:
    """Where a model goes that has no place among the files: over a descriptor."""

    def __init__(self, descriptor: int, name: str, folder: Path) -> None:
        self.descriptor = descriptor
        self.name = name
        self.path = folder / "model.onnx"
        """Where it is written first."""

    @property
    def is_standard_output(self) -> bool:
        """Whether everything else has to go to standard error."""
        return self.descriptor == 1

    def deliver(self, data: Any = None) -> None:
        """Send what was written. Raises OutputError."""
        from bnfold.errors import OutputError
        from bnfold.pipes import send

        if data is not None:
            raise OutputError(
                f"the model would pass protobuf's 2 GiB, and {self.name} takes no data file",
                "name a file with -o",
            )
        send(self.path, self.descriptor, self.name)


@contextlib.contextmanager
def outgoing(output: Path | None, *, external: bool | None = None) -> Iterator[Outgoing | None]:
    """What takes the model where -o names no file; None where it does."""
    from bnfold.scratch import scratch_folder

    number = None if output is None else _descriptor(output, 1)
    if number is None:
        yield None
        return
    name = NAMES[1] if number == 1 else str(output)
    if os.isatty(number):
        raise typer.BadParameter(f"{name} is a terminal; send it on, > FILE", param_hint="-o")
    if external:
        raise typer.BadParameter(f"{name} takes no data file", param_hint="--external-data")
    with scratch_folder() as folder:
        yield Outgoing(number, name, folder)


def target_of(source: Incoming, output: Path | None, ending: str) -> Path:
    """Where a result goes: as -o says, or beside the model. Raises OutputError."""
    from bnfold.errors import OutputError

    if output is not None:
        return output
    if source.is_stream:
        raise OutputError(
            "a model from a pipe has no file beside which the result could go",
            "say where with -o FILE, or -o - for standard output",
        )
    model = source.path
    return model.with_name(f"{model.name.removesuffix('.onnx')}.{ending}.onnx")


def _descriptor(path: Path, standard: int) -> int | None:
    from bnfold.pipes import descriptor_of

    return standard if path == STANDARD else descriptor_of(path)
