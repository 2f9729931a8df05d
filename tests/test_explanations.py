"""Every reason is explained, and every example is one."""

from __future__ import annotations

import onnx
import pytest

from bnfold.explanations import EXPLANATIONS, HEADER, explain, to_dict
from bnfold.folding import inspect
from bnfold.reasons import Reason

EXAMPLES = {reason: e.example for reason, e in EXPLANATIONS.items() if e.example is not None}
NO_GRAPH_ALONE = {
    Reason.KEPT_BY_REQUEST,  # it takes a caller who asks
    Reason.NOT_EQUIVALENT,  # and this one a proof that fails
    Reason.SEARCH_LIMIT,  # hundreds of operators
    Reason.TOO_LARGE,  # millions of elements
    Reason.UNREAD,
    Reason.UNSUPPORTED_DTYPE,
}


def test_every_reason_is_explained() -> None:
    """There is an explanation for each reason, with an example unless no graph alone has it."""
    assert set(EXPLANATIONS) == set(Reason)
    assert set(Reason) - set(EXAMPLES) == NO_GRAPH_ALONE


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.slug)
def test_explanation_is_readable(reason: Reason) -> None:
    """An explanation starts with its code and name, has sentences, and fits a terminal."""
    text = explain(reason.code)
    assert text == explain(reason.slug)
    assert text.startswith(f"{reason.code} {reason.slug}\n")
    assert all(len(line) <= 100 for line in text.splitlines())
    paragraph = EXPLANATIONS[reason].text
    assert paragraph.count(".") >= 1
    assert paragraph.endswith(".")
    assert set(to_dict(reason)) == {"code", "name", "help", "explanation", "example"}


@pytest.mark.parametrize("reason", EXAMPLES, ids=lambda reason: reason.slug)
def test_example_gives_the_reason(reason: Reason) -> None:
    """Inspecting the example of a reason keeps a node for that reason."""
    text = to_dict(reason)["example"]
    assert text is not None
    assert text.startswith(HEADER)
    report = inspect(onnx.parser.parse_model(text))
    assert reason.code in {site.code for site in report.sites}
    assert len(report.sites) == 1, "one node, one reason"


def test_unknown_code() -> None:
    """A code that does not exist is a KeyError."""
    with pytest.raises(KeyError):
        explain("BNF999")
