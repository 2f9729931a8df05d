"""`python -m bnfold_models`: which study shall be run, or which trained files made again?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import onnx

from bnfold_models.data import NAMED, load
from bnfold_models.dataset import DataError
from bnfold_models.recipes import accuracy
from bnfold_models.studies import STUDIES
from bnfold_models.studies.plans import Setting
from bnfold_models.trained import RECIPES, remake

ALL = "all"

KERAS_STUDIES = ("speedup", "networks")
"""Those that need nothing of a network but its curve and its file, and were tried with Keras."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 when done, 2 when it could not be."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.command == "trained":
            _trained(options.out, options.only or tuple(RECIPES))
        else:
            for page in _studies(options):
                print(page, flush=True)
    except DataError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bnfold_models",
        description="Reference networks with batch normalization, and the studies they come from.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, title in {**STUDIES, ALL: "every study, one after the other"}.items():
        _add_study(commands.add_parser(name, help=title, description=title))
    trained = commands.add_parser("trained", help="train the shipped networks and write them")
    trained.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write the .onnx files to"
    )
    trained.add_argument(
        "--only", nargs="+", choices=tuple(RECIPES), metavar="NAME", help="these and no others"
    )
    return parser


def _add_study(study: argparse.ArgumentParser) -> None:
    study.add_argument(
        "--data",
        default="digits",
        metavar="|".join((*NAMED, "PATH")),
        help="digits and images need no file; PATH is an .npz file, or a folder of IDX files or "
        "of images (default: %(default)s)",
    )
    study.add_argument(
        "--epochs", type=_positive, metavar="N", help="instead of each study's own number"
    )
    study.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of weights and order (default: 0)"
    )
    study.add_argument(
        "--out",
        type=Path,
        default=Path("studies"),
        metavar="DIR",
        help="a folder for each study, and the trainings they share (default: %(default)s)",
    )
    study.add_argument(
        "--budget",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="for each timing (default: %(default)s)",
    )
    study.add_argument(
        "--keras",
        action="store_true",
        help=f"define, train and export by Keras on torch ({' and '.join(KERAS_STUDIES)})",
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return number


def _studies(options: argparse.Namespace) -> Iterator[Path]:
    """Run what was asked for; the page of each study when it is written."""
    names = list(STUDIES) if options.command == ALL else [options.command]
    if options.keras:
        from bnfold_models.studies.kerasing import require_keras

        require_keras()
        if options.command == ALL:
            names = list(KERAS_STUDIES)
        elif options.command not in KERAS_STUDIES:
            raise DataError(
                f"{options.command} looks inside of a network as PyTorch has it",
                f"--keras is for {' and '.join(KERAS_STUDIES)}",
            )
    from bnfold_models.studies.running import Workshop
    from bnfold_models.studies.summary import write

    dataset = load(options.data, seed=options.seed)
    setting = Setting.of(options.data, dataset, epochs=options.epochs, seed=options.seed)
    shop = Workshop(options.out, setting, dataset, options.keras, options.budget)
    for name in names:
        module = import_module(f"bnfold_models.studies.{name.replace('-', '_')}")
        yield write(module.run(shop), shop)


def _trained(folder: Path, names: Sequence[str]) -> None:
    for path in remake(folder, names):
        size, score = path.stat().st_size, accuracy(onnx.load(path))
        print(f"{path}  {size:>9,} bytes  test accuracy {score:.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
