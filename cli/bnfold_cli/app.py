"""The commands: options in, a library call, a renderer out, an exit code."""

# ruff: noqa: ARG001 - typer wants every option as an argument, also those that `run` reads

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from json import loads as json_of
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnfold_cli import options, render
from bnfold_cli.console import Console, finite
from bnfold_cli.exits import COULD_NOT, INTERRUPTED, NO, YES, describe
from bnfold_cli.lines import line

if TYPE_CHECKING:
    from bnfold.baseline import Comparison
    from bnfold.report import SpeedReport

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


# -- commands -----------------------------------------------------------------------------------


@app.command()
def optimize(
    context: typer.Context,
    model: options.Model,
    output: options.Output = None,
    report: options.Report = None,
    force: options.Force = False,
    in_place: options.InPlace = False,
    dry_run: options.DryRun = False,
    keep: options.Keep = None,
    no_reparameterize: options.Reparameterize = False,
    keep_overridable: options.KeepOverridable = False,
    input: options.Input = None,
    dim: options.Dim = None,
    data: options.Data = None,
    seed: options.Seed = 0,
    samples: options.Samples = None,
    provider: options.Provider = None,
    atol: options.Atol = None,
    rtol: options.Rtol = None,
    certificate: options.Certificate = None,
    no_verify: options.NoVerify = False,
    no_bench: options.NoBench = False,
    threads: options.Threads = None,
    budget: options.Budget = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Fold a model, prove that it is equivalent, measure the speedup, and write it.

    Nothing is written unless the proof passes. Folds that fail it are taken back.
    """
    dims = options.parse_dims(input, dim)
    console = Console(color, as_json=json, quiet=quiet)
    import bnfold

    target = None if dry_run else _target(model, output, force=force, in_place=in_place)
    if report is not None:
        _check_page(report, force=force)
    files = _file("original", model)  # now: --in-place replaces it
    certifier = _certifier(
        certificate, model, target, force=force, in_place=in_place, proven=not no_verify
    )
    with console.progress("Loading") as progress:
        result = bnfold.optimize(
            model,
            target,
            keep=tuple(keep or ()),
            reparameterize=not no_reparameterize,
            keep_overridable=keep_overridable,
            verify=not no_verify,
            bench=not no_bench,
            data=data,
            dims=dims,
            seed=seed,
            providers=provider,
            atol=atol,
            rtol=rtol,
            force=force or in_place,
            threads=threads,
            progress=progress,
            **_given(samples=samples, budget_s=budget),
        )
    console.show(render.optimize(result, str(model), verbose=verbose, dry_run=dry_run))
    document = _document("optimize", result.to_dict(), model=model)
    files += _file("folded", target)
    document |= {"reproduce": _typed(context), "files": files}
    if certifier is not None:
        certifier(target or result.model, result.equivalence, result.folds)
        console.show([line(f"Wrote {certificate}, the certificate")])
    if report is not None:
        _write_page(document, report, force=force)
        console.show([line(f"Wrote {report}, the report")])
    console.document(document)
    return YES


@app.command()
def inspect(
    model: options.Model,
    check: options.Check = False,
    keep: options.Keep = None,
    no_reparameterize: options.Reparameterize = False,
    keep_overridable: options.KeepOverridable = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Say what `optimize` would fold and why the rest would stay. Changes nothing."""
    console = Console(color, as_json=json, quiet=quiet)
    import bnfold

    with console.progress("Inspecting"):
        report = bnfold.inspect(
            model,
            keep=tuple(keep or ()),
            reparameterize=not no_reparameterize,
            keep_overridable=keep_overridable,
        )
    console.show(render.inspect(report, str(model), verbose=verbose))
    console.document(_document("inspect", report.to_dict(), model=model))
    return NO if check and (report.folded or report.merged) else YES


@app.command()
def verify(
    original: options.MaybeOriginal = None,
    candidate: options.MaybeCandidate = None,
    input: options.Input = None,
    dim: options.Dim = None,
    data: options.Data = None,
    seed: options.Seed = 0,
    samples: options.Samples = None,
    provider: options.Provider = None,
    atol: options.Atol = None,
    rtol: options.Rtol = None,
    certificate: options.AnyCertificate = None,
    rerun: options.Rerun = False,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Say whether two models compute the same. Exits with 1 if they do not.

    With --certificate and no models, the certificate is held against the files that it names.
    """
    dims = options.parse_dims(input, dim)
    console = Console(color, as_json=json, quiet=quiet)
    if original is None and candidate is None and certificate is not None:
        return _audit(console, certificate, rerun=rerun, verbose=verbose)
    if original is None or candidate is None:
        raise typer.BadParameter("give two models, or a --certificate and none")
    if rerun:
        raise typer.BadParameter(
            "it makes the proof of a certificate again; give no models", param_hint="--rerun"
        )
    import bnfold

    certifier = _certifier(certificate, original, candidate, force=force)
    with console.progress("Loading") as progress:
        report = bnfold.verify(
            original,
            candidate,
            data=data,
            dims=dims,
            seed=seed,
            providers=provider,
            atol=atol,
            rtol=rtol,
            progress=progress,
            **_given(samples=samples),
        )
    console.show(render.verify(report, verbose=verbose))
    if certifier is not None:
        certifier(candidate, report)
        console.show([line(f"Wrote {certificate}, the certificate")])
    paths = {"original": original, "candidate": candidate}
    console.document(_document("verify", report.to_dict(), **paths))
    return YES if report else NO


@app.command()
def bench(
    original: options.Original,
    candidate: options.Candidate,
    input: options.Input = None,
    dim: options.Dim = None,
    data: options.Data = None,
    seed: options.Seed = 0,
    provider: options.Provider = None,
    ort_level: options.OrtLevel = None,
    threads: options.ThreadCounts = None,
    batch: options.Batches = None,
    budget: options.Budget = None,
    fail_below: options.FailBelow = None,
    baseline: options.Baseline = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Measure how much faster one model is than another, and whether that is more than noise.

    The original is timed against itself too: what that shows is the noise of this machine.
    """
    dims = options.parse_dims(input, dim)
    counts = options.parse_counts(threads, "--threads")
    batches = options.parse_counts(batch, "--batch")
    console = Console(color, as_json=json, quiet=quiet)
    earlier = None if baseline is None else _baseline(baseline)
    import bnfold

    with console.progress("Loading") as progress:
        report = bnfold.bench(
            original,
            candidate,
            data=data,
            dims=dims,
            seed=seed,
            providers=provider,
            footprints=True,
            attribution=True,
            progress=progress,
            **_given(
                levels=tuple(level.value for level in ort_level or ()),
                threads=counts,
                batches=batches,
                budget_s=budget,
            ),
        )
    console.show(render.bench(report))
    paths = {"original": original, "candidate": candidate}
    document = _document("bench", report.to_dict(), **paths)
    codes = [YES if fail_below is None else _gate(report, fail_below)]
    if earlier is not None:
        compared = earlier(report)
        from bnfold.report import plain

        console.show(render.baseline(compared, str(baseline)))
        document["baseline"] = [plain(comparison) for comparison in compared]
        codes.append(_held(compared))
    console.document(document)
    return max(codes, key=(YES, COULD_NOT, NO).index)  # a plain "no" outweighs "could not tell"


@app.command()
def explain(
    code: Annotated[
        str | None,
        typer.Argument(
            metavar="[CODE]",
            help="A code such as BNF202, or its name, shared-value; all are listed if not given.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Explain why a node is kept: what a reason code means and what can be done about it."""
    console = Console(color, as_json=json)
    from bnfold.explanations import explain as text_of
    from bnfold.explanations import to_dict
    from bnfold.reasons import Reason

    chosen = list(Reason) if code is None else [_reason(code)]
    if code is None:
        console.show(render.reasons((r.code, r.slug, r.help) for r in chosen))
    else:
        console.show(line(text) for text in text_of(code).splitlines())
    entries = [to_dict(reason) for reason in chosen]
    console.document(_document("explain", {"reasons": entries}))
    return YES


@app.command()
def report(
    result: options.Result,
    output: options.Page = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    color: options.ColorOption = "auto",
    traceback: options.Traceback = False,
) -> int:
    """Draw a result of `optimize --json` as one self-contained HTML page."""
    console = Console(color, quiet=quiet)
    target = output or result.with_name(result.name.removesuffix(".json") + ".html")
    _check_page(target, force=force)
    with console.progress("Drawing"):
        _write_page(_read_result(result), target, force=force)
    console.show([line(f"Wrote {target}, the report")])
    return YES


# -- helpers ------------------------------------------------------------------------------------


def _target(model: Path, output: Path | None, *, force: bool, in_place: bool) -> Path:
    """Where the result goes, checked before any work is done."""
    from bnfold.modelio import check_output

    if in_place and output is not None:
        raise typer.BadParameter("say either --in-place or --output", param_hint="--in-place")
    if in_place:
        return model
    target = output or model.with_name(model.name.removesuffix(".onnx") + ".folded.onnx")
    if os.path.isfile(model):  # otherwise the error to tell is about the input
        check_output(target, force=force, source=model)
    return target


def _audit(console: Console, certificate: Path, *, rerun: bool, verbose: bool) -> int:
    """Hold a certificate against the files that it names."""
    import bnfold

    with console.progress("Loading") as progress:
        audit = bnfold.certificate.check(certificate, rerun=rerun, progress=progress)
    console.show(render.audit(audit, verbose=verbose))
    console.document(_document("verify", audit.to_dict()))
    return YES if audit else NO


def _certifier(
    path: Path | None,
    original: Path,
    candidate: Path | None,
    *,
    force: bool,
    in_place: bool = False,
    proven: bool = True,
) -> Callable[..., None] | None:
    """What writes a certificate when all is done; asked for before any work, so it can refuse."""
    if path is None:
        return None
    if not proven:
        raise typer.BadParameter("there is none without a proof", param_hint="--certificate")
    from bnfold.files import check_output

    check_output(path, force=force, source=original)
    if candidate is not None and candidate.resolve() == path.resolve():
        raise typer.BadParameter("the model is written there", param_hint="--certificate")
    if not os.path.isfile(original):  # the error to tell is about the input
        return lambda *_: None
    from bnfold import certificate
    from bnfold.modelio import load_model

    # What --in-place replaces is kept, and has no file any more.
    taken = {"original": certificate.fingerprint(original) | ({"path": None} if in_place else {})}
    model = load_model(original) if in_place else original

    def write(candidate: Any, proof: Any, folds: Any = None) -> None:
        made = certificate.certify(model, candidate, proof, folds=folds, fingerprints=taken)
        certificate.save(made, path, force=force)

    return write


def _check_page(path: Path, *, force: bool) -> None:
    """Whether a page can be made and written, asked before any work is done."""
    from bnfold.files import check_output
    from bnfold.html import check_libraries

    check_libraries()
    check_output(path, force=force)


def _write_page(document: dict[str, Any], path: Path, *, force: bool) -> None:
    from bnfold.html import write

    write(finite(document), path, force=force)


def _read_result(path: Path) -> Any:
    from bnfold.errors import InputError

    try:
        return json_of(path.read_bytes())
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path} cannot be read: {reason}", "check the path") from None
    except (ValueError, RecursionError):
        raise InputError(
            f"{path} is not JSON", "give what `bnfold` printed with --json, and nothing else"
        ) from None


def _file(role: str, path: Path | None) -> list[dict[str, Any]]:
    """A file by its hash; nothing for one that is not there."""
    from bnfold.files import sha256

    if path is None or not path.is_file():
        return []
    size = path.stat().st_size
    return [{"role": role, "path": str(path), "bytes": size, "sha256": sha256(path)}]


def _typed(context: typer.Context) -> str:
    """The command as it would be typed again."""
    return shlex.join(("bnfold", *(context.obj or ())))


def _given(**values: Any) -> dict[str, Any]:
    """The options that were given; for the others the library's own default holds."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def _document(command: str, report: dict[str, Any], **paths: Path) -> dict[str, Any]:
    from bnfold import __version__

    names = {name: str(path) for name, path in paths.items()}
    return {"schema": 1, "bnfold": __version__, "command": command, **names, **report}


def _gate(report: SpeedReport, least: float) -> int:
    """The answer to --fail-below, for every measurement at the deployment level."""
    gated = [m for m in report.measurements if m.level == report.primary.level]
    if not all(m.stable for m in gated):
        return COULD_NOT
    return NO if any(m.speedup < least for m in gated) else YES


def _baseline(path: Path) -> Callable[[SpeedReport], Sequence[Comparison]]:
    """An earlier measurement, read before any work: what holds a report against it."""
    from bnfold.baseline import compare, measurements

    document = _read_result(path)
    measurements(document)
    return lambda report: compare(report, document)


def _held(compared: Sequence[Comparison]) -> int:
    """The answer to --baseline."""
    changes = {comparison.change for comparison in compared}
    if "less" in changes:
        return NO
    return COULD_NOT if "cannot tell" in changes else YES


def _reason(code: str) -> Any:
    from bnfold.errors import InputError
    from bnfold.reasons import Reason

    try:
        return Reason.of(code)
    except KeyError:
        raise InputError(
            f"there is no reason {code!r}", "`bnfold explain` without a code lists all"
        ) from None
