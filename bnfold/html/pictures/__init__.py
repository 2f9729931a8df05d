"""What is drawn of a result? Each function takes a part of the JSON document and makes a picture.

A picture is None where there is nothing to draw. matplotlib writes text into SVG escaped, so a
tensor may have any name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnfold.html.canvas import Picture, style
from bnfold.html.pictures.operators import operators, work
from bnfold.html.pictures.proof import errors
from bnfold.html.pictures.speed import latencies, ratios, worths
from bnfold.html.pictures.weights import scales, weights

Json = Mapping[str, Any]


def every(document: Json) -> list[Picture]:
    """All pictures that the document has data for, in the order of the page."""
    speed = document.get("speed") or {}
    timed = speed.get("measurements", [])
    proof = (document.get("equivalence") or {}).get("outputs", [])
    anatomy = document.get("anatomy") or {}
    sites = anatomy.get("sites", [])
    with style():
        made = [
            ratios(timed),
            latencies(timed),
            worths(timed),
            errors(proof),
            scales(sites),
            weights(sites),
            operators(anatomy.get("operators_before", {}), anatomy.get("operators_after", {})),
            work(speed.get("original_work", {}), speed.get("candidate_work", {})),
        ]
    return [picture for picture in made if picture is not None]
