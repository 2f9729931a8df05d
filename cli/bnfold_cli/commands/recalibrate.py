"""`bnfold recalibrate`: what are the exact statistics of every BatchNormalization on some data?"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bnfold_cli import options, render
from bnfold_cli.console import Console
from bnfold_cli.documents import document_of
from bnfold_cli.exits import YES
from bnfold_cli.options import OUTPUT, RUN
from bnfold_cli.pipes import Incoming, Outgoing, incoming, outgoing, target_of
from bnfold_cli.values import given

Data = Annotated[
    Path,
    typer.Option(
        metavar="PATH",
        help="What to measure the statistics on, best all the training data: an .npz or .npy "
        "file, or a folder of ONNX test sets.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        metavar="ROWS",
        help="Rows of the data to run at a time, where the model leaves that open.",
        rich_help_panel=RUN,
        show_default="64",
    ),
]
Provider = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What ONNX Runtime computes with: cpu, cuda, tensorrt, openvino, ... or a full name.",
        rich_help_panel=RUN,
        show_default="cpu",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="Where to write the model, - for standard output; MODEL.recalibrated.onnx beside the "
        "input if not given.",
        rich_help_panel=OUTPUT,
    ),
]


def recalibrate(
    model: options.Model,
    data: Data,
    output: Output = None,
    force: options.Force = False,
    batch_size: BatchSize = None,
    provider: Provider = None,
    threads: options.Threads = None,
    timeout: options.Timeout = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Give every BatchNormalization the exact statistics of your data. CHANGES THE FUNCTION.

    Mean and variance are measured anew, layer by layer; how far the old ones were off is said.

    Nothing is folded: `bnfold optimize` does that.
    """
    import bnfold

    with incoming(model) as (source,), outgoing(output) as out:
        console = Console(
            color, as_json=json, quiet=quiet, aside=out is not None and out.is_standard_output
        )
        target = _target(source, output, out, force=force)
        with console.progress("Loading") as progress:
            result = bnfold.recalibrate(
                source.path,
                data,
                target,
                threads=threads,
                force=force,
                progress=progress,
                **given(batch=batch_size, provider=provider, timeout_s=timeout),
            )
        if out is not None:
            out.deliver()
            result = replace(result, output=out.name)
        console.show(render.recalibrate(result, verbose=verbose))
        console.document(document_of("recalibrate", result.to_dict(), model=model, data=data))
    return YES


def _target(source: Incoming, output: Path | None, out: Outgoing | None, *, force: bool) -> Path:
    """Where the result goes, checked before any work is done; never the input itself."""
    from bnfold.errors import OutputError
    from bnfold.modelio import check_output

    if out is not None:
        return out.path
    target = target_of(source, output, "recalibrated")
    if os.path.isfile(source.path):  # otherwise the error to tell is about the input
        if target.exists() and target.samefile(source.path):
            raise OutputError(f"{target} is the input itself", "choose another --output")
        check_output(target, force=force)
    return target
