"""Why an affine stays is told as it is: reasons that were untrue of their models."""

from __future__ import annotations

import pytest
from rows import row
from rowtests import faults, refused, truth

import bnfold
from bnfold.reasons import Reason

SCALARS = {
    "Mul": "m = Mul(c, k:float=2.5)",
    "Add": "m = Add(c, k:float=2.5)",
    "Sub": "m = Sub(c, k:float=2.5)",
    "Div": "m = Div(c, k:float=2.5)",
}


@pytest.mark.parametrize("op", SCALARS)
def test_a_number_before_a_sigmoid_is_folded(op: str) -> None:
    """It is a QuickGELU only where the result multiplies what the number is multiplied with."""
    text = f"c = Conv(X[N,C,H], w[O,C,1]); {SCALARS[op]}; y = Sigmoid(m)"
    assert len(bnfold.fold(row(text).model).folded) == 1


@pytest.mark.parametrize("op", SCALARS)
def test_a_quick_gelu_stays_whole(op: str) -> None:
    """`x * Sigmoid(alpha * x)` is one kernel of the runtime; with another operator it is none."""
    text = f"c = Conv(X[N,C,H], w[O,C,1]); {SCALARS[op]}; s = Sigmoid(m); y = Mul(c, s)"
    details = [site.detail or "" for site in bnfold.inspect(row(text).model).sites]
    assert any("QuickGELU" in detail for detail in details) == (op == "Mul")


TOLD = {
    "a scale that an operator makes of constants": (
        Reason.NOT_EVALUATED,
        "g = Hardmax(a[O]); h = Conv(X[N,C,H], w[O,C,1]); y = BatchNormalization(h, g, b[O], "
        "m[O], v+[O])",
        "computed from constants by Hardmax (g), which is not evaluated",
    ),
    "a scale some operators behind it": (
        Reason.NOT_EVALUATED,
        "g = Hardmax(a[O]); f = Neg(g); h = Conv(X[N,C,H], w[O,C,1]); "
        "y = BatchNormalization(h, f, b[O], m[O], v+[O])",
        "computed from constants by Hardmax (g), which is not evaluated",
    ),
    "a scale that is an input": (
        Reason.NOT_CONSTANT,
        "h = Conv(X[N,C,H], w[O,C,1]); y = BatchNormalization(h, G[O], b[O], m[O], v+[O])",
        "G is a model input",
    ),
    "a scale that is computed": (
        Reason.NOT_CONSTANT,
        "g = Hardmax(G[O]); h = Conv(X[N,C,H], w[O,C,1]); "
        "y = BatchNormalization(h, g, b[O], m[O], v+[O])",
        "g is computed at run time",
    ),
    "a weight normalized by itself": (
        Reason.NOT_EVALUATED,
        "n, _a, _b = BatchNormalization<training_mode=1>(a[1,O,C], b[O], c[O], m[O], v+[O]); "
        "y = Reshape(n, r{O,C,1})",
        "normalizes a constant by its own statistics",
    ),
    "one scale for six channels": (
        Reason.BAD_STATISTIC,
        "h = Conv(X[N,C,H], w[6,C,1]); y = BatchNormalization(h, g[1], b[1], m[1], v+[1])",
        "1 parameters for 6 elements",
    ),
    "a vector where each element has its own": (
        Reason.BAD_STATISTIC,
        "@opset=8 h = Conv(X[N,C,H], w[O,C,1]); "
        "y = BatchNormalization<spatial=0>(h, g[O], b[O], m[O], v+[O])",
        "the parameters are not one an element",
    ),
    "a node that does not fit": (
        Reason.CONTRADICTION,
        "h = Conv(X[N,C,H], w[O,C+1,1]); y = BN[O](h)",
        "the weight has 7 where 6 are needed",
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_the_reason_is_the_true_one(name: str) -> None:
    """Code and sentence say what keeps the affine."""
    reason, text, sentence = TOLD[name]
    at, _, rest = text.partition(" ") if text[0] == "@" else ("", "", text)
    built = row(f"{at} {rest}")
    result = refused(built, reason)
    assert any(sentence in (site.detail or "") for site in result.sites)


def test_a_normalization_without_channels_is_folded() -> None:
    """A vector has one channel: one scale and one shift for all of it."""
    built = row(
        "h = ReduceMean<keepdims=0>(X[N,C], a{1}); "
        "y = BatchNormalization(h, g[1], b[1], m[1], v+[1]); "
        "u = Unsqueeze(y, c{1}); z = MatMul(u, w[1,O])"
    )
    result = bnfold.fold(built.model)
    assert len(result.folded) == 1
    assert not faults(built, result.model, truth(built))


def test_the_one_line_of_a_reason_is_what_its_rule_says() -> None:
    """BNF205 is about shifts, BNF206 about signs."""
    assert "shift" in Reason.NOT_HOMOGENEOUS.help
    assert "positive" in Reason.NEGATIVE_SCALE.help
