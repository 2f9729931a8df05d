"""Which options does `bnfold sweep` have that no other command has?"""

from __future__ import annotations

from typing import Annotated

import typer

from bnfold_cli.options import OUTPUT, RUN

WORK = "Who does the work"
WHICH = "What is done again"

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A folder of ONNX models, a glob such as 'models/**/*.onnx' (in quotes), or the "
        "same in any place that fsspec knows: s3://bucket/models, gs://..., az://..., memory://.",
        show_default=False,
    ),
]
Destination = Annotated[
    str,
    typer.Argument(
        metavar="DESTINATION",
        help="Where the folded models go, under the same names; a folder or a URL.",
        show_default=False,
    ),
]
Dim = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="The size of a symbolic dimension in every model that has it, for example batch=4. "
        "Can be given several times.",
        rich_help_panel=RUN,
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Work on the cluster of this Dask scheduler, for example tcp://10.0.0.1:8786.",
        rich_help_panel=WORK,
        show_default="a cluster of this machine",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="COUNT",
        help="Models that this machine works on at once, each in a process of its own.",
        rich_help_panel=WORK,
        show_default="by cores and memory",
    ),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="What a model may take, for example 4GB; one that needs more is given up.",
        rich_help_panel=WORK,
        show_default="its part of the machine's or the worker's memory",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="SECONDS",
        help="What a model may take to be folded and proven, and again to be timed; 0 is no "
        "limit.",
        rich_help_panel=WORK,
        show_default="1800",
    ),
]
KeepGoing = Annotated[
    bool,
    typer.Option(
        "--keep-going/--fail-fast",
        help="Go on where a model is not equivalent or could not be done, or stop there.",
        rich_help_panel=WORK,
    ),
]
Again = Annotated[
    bool,
    typer.Option(
        "--again",
        metavar="",
        help="Do everything, also what did not change.",
        rich_help_panel=WHICH,
    ),
]
Checksum = Annotated[
    bool,
    typer.Option(
        "--checksum",
        metavar="",
        help="Read every model to see whether it changed, instead of asking the storage.",
        rich_help_panel=WHICH,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        "-f",
        metavar="",
        help="Write over models at the destination that no sweep made.",
        rich_help_panel=OUTPUT,
    ),
]
Reports = Annotated[
    bool,
    typer.Option(
        "--reports",
        metavar="",
        help="Draw the page of every model beside the manifest (needs the extra report).",
        rich_help_panel=OUTPUT,
    ),
]
ManifestUrl = Annotated[
    str | None,
    typer.Option(
        "--manifest",
        metavar="URL",
        help="The folder for the manifest, where it should not lie among the models.",
        rich_help_panel=OUTPUT,
        show_default="DESTINATION/bnfold",
    ),
]
