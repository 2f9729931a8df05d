"""What a model may do to its process, for children that are started with `fleets.boot`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from bnfold.fleet.process import GLANCE_S


def install() -> None:
    """Models with such names crash, or ask for more and more memory."""

    def mischief(name: str, _: Path) -> None:
        if "crash" in name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "swell" in name:
            held = [bytearray(1 << 20) for _ in range(1500)]
            time.sleep(3 * GLANCE_S)
            del held

    _before_each(mischief)


def install_late(count: int) -> None:
    """The process crashes at its model of this number, with a half of the output written."""
    seen = []

    def mischief(name: str, folder: Path) -> None:
        seen.append(name)
        if len(seen) == count:
            (folder / f".{name}.0.tmp").mkdir()
            os.kill(os.getpid(), signal.SIGSEGV)

    _before_each(mischief)


def _before_each(mischief: Any) -> None:
    from bnfold import pipeline

    optimize = pipeline.optimize

    def wrapped(model: Any, output: Any, **keywords: Any) -> Any:
        mischief(os.path.basename(str(model)), Path(output).parent)
        return optimize(model, output, **keywords)

    pipeline.optimize = wrapped  # type: ignore[assignment]
