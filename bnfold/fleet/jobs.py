"""What is done with one model, in the process that it has for itself?

These functions run in a child of `bnfold.isolation`; `process` asks for them. Whatever a model
does to its process, it does to that one only, so nothing here runs in yet another.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

Json = dict[str, Any]

RESULT = "result.json"
"""Where `optimize` leaves all that it found, beside the model that it writes."""


def warm_up() -> None:
    """Import what every job needs, before the first one's clock runs."""
    import bnfold
    from bnfold.errors import RuntimeUnavailable
    from bnfold.runtime import ort

    _ = bnfold.optimize, bnfold.fold, bnfold.bench  # each is loaded when it is first named
    with suppress(RuntimeUnavailable):
        ort()


def locations(path: str) -> list[str]:
    """The files that hold the weights of a model, as it names them; without names that could lead
    out of its folder, of which `optimize` says so."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from bnfold.external import is_plain
    from bnfold.validation import is_external, tensors

    model = onnx.ModelProto()
    try:
        model.ParseFromString(Path(path).read_bytes())
    except DecodeError:
        return []  # `optimize` says what is wrong with it
    external = (tensor for _, tensor in tensors(model) if is_external(tensor))
    entries = (entry for tensor in external for entry in tensor.external_data)
    named = {entry.value for entry in entries if entry.key == "location"}
    return sorted(filter(is_plain, named))


def optimize(path: str, output: str, model: str, options: Json, threads: int) -> Json:
    """Fold and prove a model and write it; what a record needs of the result.

    The folder of `output` holds nothing else afterwards, but the whole result in a file, as
    `bnfold optimize --json` has it.
    """
    import bnfold
    from bnfold.fleet.figures import figures
    from bnfold.report import finite
    from bnfold.runtime import THREADS
    from bnfold.visible import visible_json

    os.environ[THREADS] = str(threads)
    home = Path(output).parent
    shutil.rmtree(home, ignore_errors=True)  # what an earlier process left when it died
    home.mkdir()
    result = bnfold.optimize(
        path, output, bench=False, force=True, isolate=False, **_own(path, options)
    )
    document: Json = finite(
        {
            "schema": 1,
            "bnfold": bnfold.__version__,
            "command": "optimize",
            "model": model,
            **result.to_dict(),
        }
    )
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    (home / RESULT).write_text(visible_json(text), "utf-8")
    return figures(document)


def bench(path: str, candidate: str, options: Json) -> Json:
    """Time a model against its folded form, as `optimize` does."""
    import bnfold
    from bnfold.report import finite
    from bnfold.runtime import THREADS
    from bnfold.speed import GLANCE, GLANCE_S

    os.environ.pop(THREADS, None)
    options = {"budget_s": GLANCE_S, **_own(path, options)}
    measured = bnfold.bench(path, candidate, precision=GLANCE, isolate=False, **options)
    speed: Json = finite(measured.to_dict())
    return speed


def draw(path: str, output: str) -> None:
    """Draw the page of a result."""
    from bnfold.html import write

    write(json.loads(Path(path).read_bytes()), output, force=True)


def _own(path: str, options: Json) -> Json:
    """The options, with those of the symbolic dimensions that this model has."""
    if not options.get("dims"):
        return options
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    shapes = (value.type.tensor_type.shape for value in graph.input)
    symbols = {dim.dim_param for shape in shapes for dim in shape.dim}
    own = {name: size for name, size in options["dims"].items() if name in symbols}
    return options | {"dims": own or None}
