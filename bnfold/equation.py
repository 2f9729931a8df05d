"""What does the equation of an Einsum say? The labels of its operands and of its result."""

from __future__ import annotations


def read_equation(equation: str) -> tuple[list[str], str] | None:
    """`"ij, jk"` -> `(["ij", "jk"], "ik")`; None for ellipses and for a label that repeats.

    Without an arrow the result has the labels that occur once, in the order of the alphabet
    (the convention of numpy.einsum, which ONNX follows).
    """
    terms, arrow, result = equation.replace(" ", "").partition("->")
    if not arrow:
        result = "".join(sorted(c for c in set(terms) - {","} if terms.count(c) == 1))
    operands = terms.split(",")
    if "." in equation or any(len(set(term)) < len(term) for term in (*operands, result)):
        return None
    return operands, result
