"""Which bytes lead where no test was? Coverage-guided fuzzing of reading and folding, by atheris.

    pip install -e ".[cpu,nightly]"
    python tests/coverage_fuzzing.py FOLDER [-max_total_time=600] [any option of libFuzzer]

FOLDER keeps the inputs that reached new code; the first time it is filled with small models. An
input is half of the time bytes of a file, and half of the time the choices from which
`damage.py` changes a model. What ends it is what no file may cause: an exception that is no
BnfoldError, a crash, a minute or 3 GB for one input; the input is then written as `crash-*`.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found]  # a tool of development only

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

with atheris.instrument_imports(include=["bnfold"]):
    from damage import damaged
    from exact_rows import build
    from exact_table import ROWS

    import bnfold
    from bnfold.errors import BnfoldError

TEXTS = [text for key in sorted(ROWS) for text in ROWS[key]]
SCRATCH = Path(tempfile.mkdtemp(prefix="bnfold-fuzz-"), "input.onnx")


class Choices(random.Random):
    """Random choices that come from bytes, so that the fuzzer can learn which of them matter."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self.provider = atheris.FuzzedDataProvider(data)

    def random(self) -> float:
        return float(self.provider.ConsumeProbability()) * (1 - 2**-53)

    def getrandbits(self, k: int) -> int:
        return int(self.provider.ConsumeIntInRange(0, (1 << k) - 1))


def one_input(data: bytes) -> None:
    """Fold what the bytes are, or what they ask for."""
    if data[:1] < b"\x80":
        content = data[1:]
    else:
        choices = Choices(data[1:])
        content, _ = damaged(build(choices.choice(TEXTS)).proto, choices)
    SCRATCH.write_bytes(content)
    try:
        bnfold.fold(SCRATCH)
    except BnfoldError:
        return


def main() -> None:
    """Fuzz until the time is up, or an input fails."""
    folder = Path(next((a for a in sys.argv[1:] if not a.startswith("-")), "fuzz-corpus"))
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        for index, text in enumerate(TEXTS):
            seed = b"\x00" + build(text).proto.SerializeToString()
            (folder / f"seed-{index}").write_bytes(seed)
    options = ["-timeout=60", "-rss_limit_mb=3000", "-max_len=20000"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
