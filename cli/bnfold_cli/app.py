"""The command line: which commands there are, and how a call of one ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from signal import SIGINT
from typing import Annotated

import typer

from bnfold_cli import options, streams
from bnfold_cli.commands import COMMANDS
from bnfold_cli.console import Console
from bnfold_cli.exits import COULD_NOT, NO, YES, describe, interrupted
from bnfold_cli.signals import EAR, tidily

app = typer.Typer(
    name="bnfold",
    help="Folds batch normalization into the weights of ONNX models, exactly, proves it on "
    "ONNX Runtime and measures the speedup.",
    epilog="Start with `bnfold optimize MODEL.onnx`. It writes MODEL.folded.onnx beside it.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    outlet = streams.secure()
    arguments = sys.argv[1:]
    code = tidily(partial(run, arguments))
    why = streams.refusal(outlet)
    if why is not None and code in (YES, NO):  # an answer that nobody got
        Console(_color(arguments)).failure(why, "print it somewhere else, or free some space")
        code = COULD_NOT
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Every error ends here, as two lines."""
    flags = set(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    try:
        code = app(
            args=list(arguments), prog_name="bnfold", standalone_mode=False, obj=tuple(arguments)
        )
        # Typer has a code of its own for every interrupt.
        return (
            EAR.code if EAR.first is not None and code == interrupted(SIGINT) else int(code or 0)
        )
    except (KeyboardInterrupt, typer.Abort):
        return EAR.code
    except Exception as error:
        if EAR.first is not None:  # an interrupt, as some library tells of it
            return EAR.code
        console = Console(_color(arguments), as_json="--json" in flags)
        if "--traceback" in flags:
            console.trace(error)
        message, hint, code = describe(error)
        console.error(error, message, hint)
        return code


def _color(arguments: Sequence[str]) -> options.Color:
    """The value of --color, where the command that knows it did not come to run."""
    text = " ".join(arguments).replace("=", " ")
    for choice in ("always", "never"):
        if f"--color {choice}" in text:
            return choice
    return "auto"


def _print_version(asked: bool) -> None:
    if asked:
        from bnfold import __version__

        typer.echo(f"bnfold {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def bnfold(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            is_eager=True,
            callback=_print_version,
            help="Print the version.",
        ),
    ] = False,
) -> int:
    """Print the help where no command is given."""
    if context.invoked_subcommand is None:
        help_text = context.get_help()
        if help_text:
            typer.echo(help_text)
        raise typer.Exit(COULD_NOT)
    return YES


for command in COMMANDS:
    app.command()(command)
