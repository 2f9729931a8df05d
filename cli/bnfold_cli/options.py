"""Which options do commands share? What is written behind them is read by `values`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import typer

Color = Literal["auto", "always", "never"]


class Level(str, Enum):
    """How much ONNX Runtime optimizes by itself; an enum because typer lists no Literals."""

    DISABLE = "disable"
    BASIC = "basic"
    EXTENDED = "extended"
    ALL = "all"


WHAT = "What to fold"
RUN = "How the models are run"
PROOF = "Proof"
SPEED = "Timing"
OUTPUT = "Output"

# -- arguments ----------------------------------------------------------------------------------

Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="The ONNX model to read; - is standard input.", show_default=False
    ),
]
Original = Annotated[
    Path,
    typer.Argument(
        metavar="ORIGINAL", help="The model as it was before folding.", show_default=False
    ),
]
Candidate = Annotated[
    Path,
    typer.Argument(metavar="CANDIDATE", help="The model to hold against it.", show_default=False),
]

MaybeOriginal = Annotated[
    Path | None,
    typer.Argument(
        metavar="[ORIGINAL]", help="The model as it was before folding.", show_default=False
    ),
]
MaybeCandidate = Annotated[
    Path | None,
    typer.Argument(
        metavar="[CANDIDATE]", help="The model to hold against it.", show_default=False
    ),
]

Result = Annotated[
    str,
    typer.Argument(
        metavar="RESULT",
        help="What `bnfold optimize --json` or `bnfold sweep --json` printed, in a file, or the "
        "manifest.jsonl of a sweep; a path, or a URL such as s3://folded/bnfold/manifest.jsonl.",
        show_default=False,
    ),
]

# -- what to fold -------------------------------------------------------------------------------

Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TENSOR",
        help="Leave the node alone whose output has this name, as `inspect` prints it. "
        "Can be given several times.",
        rich_help_panel=WHAT,
    ),
]
Reparameterize = Annotated[
    bool,
    typer.Option(
        "--no-reparameterize",
        metavar="",
        help="Do not merge parallel branches (RepVGG, MobileOne, ...) into one operator.",
        rich_help_panel=WHAT,
    ),
]
KeepOverridable = Annotated[
    bool,
    typer.Option(
        "--keep-overridable",
        metavar="",
        help="Leave weights alone that are also graph inputs, for callers who feed their own.",
        rich_help_panel=WHAT,
    ),
]

# -- running ------------------------------------------------------------------------------------

Input = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=1x3x224x224",
        help="The shape to give an input whose sizes the model leaves open. "
        "Can be given several times.",
        rich_help_panel=RUN,
    ),
]
Dim = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="The size of a symbolic dimension wherever it occurs, for example batch=4. "
        "Can be given several times.",
        rich_help_panel=RUN,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Run the models on your own inputs: an .npz or .npy file, or a folder of ONNX test "
        "sets. Without it inputs are generated.",
        rich_help_panel=RUN,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="NUMBER",
        help="Where the generated inputs start; the same seed gives the same inputs.",
        rich_help_panel=RUN,
    ),
]
Provider = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[:KEY=VALUE,...]",
        help="What ONNX Runtime computes with: cpu, cuda, tensorrt, openvino, ... or a full name, "
        "with its own options behind a colon: openvino:device_type=GPU. Can be given several "
        "times; cpu if not given.",
        rich_help_panel=RUN,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="COUNT",
        help="Threads that ONNX Runtime computes with.",
        rich_help_panel=RUN,
        show_default="as many as there are cores",
    ),
]

ThreadCounts = Annotated[
    str | None,
    typer.Option(
        "--threads",
        metavar="COUNT[,COUNT...]",
        help="Threads that ONNX Runtime computes with; several are timed one after the other.",
        rich_help_panel=RUN,
        show_default="as many as there are cores",
    ),
]
Batches = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="SIZE[,SIZE...]",
        help="The size of the open dimension in front of the inputs; several are timed one "
        "after the other.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]

# -- proof --------------------------------------------------------------------------------------

Samples = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="COUNT",
        help="How many generated inputs to compare the models on.",
        rich_help_panel=PROOF,
        show_default="as many as sizes and kinds of data ask for",
    ),
]
Atol = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="NUMBER",
        help="Judge by abs(actual - expected) <= atol + rtol * abs(expected) instead of by the "
        "distance to a float64 evaluation; this is the absolute part.",
        rich_help_panel=PROOF,
        show_default=False,
    ),
]
Rtol = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="NUMBER",
        help="The relative part of that rule.",
        rich_help_panel=PROOF,
        show_default=False,
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        "--certificate",
        metavar="PATH",
        help="Write what was proven of which files as JSON: hashes, versions, data, errors and "
        "every fold with its bound.",
        rich_help_panel=PROOF,
        show_default=False,
    ),
]
AnyCertificate = Annotated[
    Path | None,
    typer.Option(
        "--certificate",
        metavar="PATH",
        help="With two models: write what was proven of them as JSON. Without: hold this "
        "certificate against the files that it names.",
        rich_help_panel=PROOF,
        show_default=False,
    ),
]
Rerun = Annotated[
    bool,
    typer.Option(
        "--rerun",
        metavar="",
        help="With a certificate and no models: also prove them again, with the same data.",
        rich_help_panel=PROOF,
    ),
]
NoVerify = Annotated[
    bool,
    typer.Option(
        "--no-verify",
        metavar="",
        help="Do not prove that the result is equivalent. Needs no ONNX Runtime.",
        rich_help_panel=PROOF,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=1.0,
        metavar="SECONDS",
        help="Give up a session of the runtime that does not answer for so long; half an hour if "
        "not given.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]

JudgeSeconds = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="SECONDS",
        help="How long the float64 evaluation that judges both models may take; a minute if not "
        "given. What it could not judge in time is held against the runtime's noise, and a note "
        "says so.",
        rich_help_panel=PROOF,
        show_default=False,
    ),
]

# -- timing -------------------------------------------------------------------------------------

NoBench = Annotated[
    bool,
    typer.Option(
        "--no-bench",
        metavar="",
        help="Do not measure how much faster it is.",
        rich_help_panel=SPEED,
    ),
]
Attribute = Annotated[
    bool | None,
    typer.Option(
        "--attribute/--no-attribute",
        help="Also time what each part of the fold is worth, by switching it off in turn, and "
        "what a session costs. On where a --report is written.",
        rich_help_panel=SPEED,
        show_default=False,
    ),
]
Pin = Annotated[
    str | None,
    typer.Option(
        metavar="CPU[,CPU...]",
        help="The processors to run on while timing, by number; 0-3 are four of them. Not "
        "possible on macOS and Windows.",
        rich_help_panel=RUN,
        show_default="left to the system",
    ),
]
OrtLevel = Annotated[
    list[Level] | None,
    typer.Option(
        "--ort-level",
        metavar="disable|basic|extended|all",
        help="How much ONNX Runtime optimizes by itself while timed. Can be given several "
        "times; all, then disable, if not given.",
        rich_help_panel=SPEED,
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        metavar="SECONDS",
        help="About how long timing may take. Longer gives a narrower interval.",
        rich_help_panel=SPEED,
        show_default=False,
    ),
]
FailBelow = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="RATIO",
        help="Exit with 1 if the speedup is below this, for example 1.05; with 2 if the machine "
        "is too busy to tell.",
        rich_help_panel=SPEED,
        show_default=False,
    ),
]

Baseline = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="What `bench --json` printed earlier: exit with 1 if a speedup is clearly less than "
        "it was then, with 2 if the machine is too busy to tell.",
        rich_help_panel=SPEED,
        show_default=False,
    ),
]

# -- output -------------------------------------------------------------------------------------

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="Where to write the folded model, - for standard output; MODEL.folded.onnx beside "
        "the input if not given.",
        rich_help_panel=OUTPUT,
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="PATH",
        help="Also write the result as one self-contained HTML page, with pictures. "
        "Needs the extra `report`.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
Page = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PATH",
        help="Where to write the page, a path or URL; RESULT.html beside the result if not given.",
        rich_help_panel=OUTPUT,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        metavar="",
        help="Overwrite the output if it exists already.",
        rich_help_panel=OUTPUT,
    ),
]
InPlace = Annotated[
    bool,
    typer.Option(
        "--in-place",
        metavar="",
        help="Replace the input file itself by the folded model.",
        rich_help_panel=OUTPUT,
    ),
]
ExternalData = Annotated[
    bool | None,
    typer.Option(
        "--external-data/--embed",
        metavar="",
        help="Keep large weights in a data file beside the model (OUTPUT.data), or inside it; "
        "as the input has them if not given.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        metavar="",
        help="Do everything except writing the model.",
        rich_help_panel=OUTPUT,
    ),
]
Check = Annotated[
    bool,
    typer.Option(
        "--check",
        metavar="",
        help="Exit with 1 if anything can be folded; a test that a model was folded already.",
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        metavar="",
        help="Print one JSON document on standard output instead of text.",
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", metavar="", help="Print errors only.", rich_help_panel=OUTPUT),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        metavar="",
        help="Print every site, every output and every measurement.",
        rich_help_panel=OUTPUT,
    ),
]
ColorOption = Annotated[
    Color,
    typer.Option(
        "--color",
        help="When to use colour; auto means on a terminal, unless NO_COLOR is set.",
        rich_help_panel=OUTPUT,
    ),
]
Traceback = Annotated[
    bool,
    typer.Option(
        "--traceback",
        metavar="",
        help="On an error, also print where in bnfold it arose; for bug reports.",
        rich_help_panel=OUTPUT,
    ),
]
