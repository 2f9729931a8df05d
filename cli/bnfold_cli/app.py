"""The command line: which commands there are, and how a call of one ends."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer

from bnfold_cli import options
from bnfold_cli.commands import COMMANDS
from bnfold_cli.console import Console
from bnfold_cli.exits import COULD_NOT, INTERRUPTED, YES, describe

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
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a tensor name must never fail to print
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _interrupt)  # so that temporary files are removed
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Every error ends here, as two lines."""
    flags = set(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    try:
        code = app(
            args=list(arguments), prog_name="bnfold", standalone_mode=False, obj=tuple(arguments)
        )
        return int(code or YES)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
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


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


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
