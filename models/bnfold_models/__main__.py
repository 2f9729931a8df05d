"""`python -m bnfold_models`: which trained files shall be made again?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import onnx

from bnfold_models.dataset import DataError
from bnfold_models.trained import RECIPES, accuracy, remake


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 when done, 2 when it could not be."""
    options = _parser().parse_args(arguments)
    try:
        _trained(options.out, options.only or tuple(RECIPES))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bnfold_models", description="Reference networks with batch normalization."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    trained = commands.add_parser("trained", help="train the shipped networks and write them")
    trained.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write the .onnx files to"
    )
    trained.add_argument(
        "--only", nargs="+", choices=tuple(RECIPES), metavar="NAME", help="these and no others"
    )
    return parser


def _trained(folder: Path, names: Sequence[str]) -> None:
    for path in remake(folder, names):
        size, score = path.stat().st_size, accuracy(onnx.load(path))
        print(f"{path}  {size:>9,} bytes  test accuracy {score:.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
