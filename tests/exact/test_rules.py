"""Every rule is an identity over the rational numbers: folded equals original with `==`."""

from __future__ import annotations

import pytest
from exact_rows import build, check
from exact_table import ROWS, TABLE, faults_of, is_caught, rule_of
from mutants import all_rules


def test_every_rule_has_a_row() -> None:
    """The table of rows and the tables of rules name the same operators, without exception."""
    assert sorted(rule_of(key) for key in ROWS) == all_rules()
    assert all(ROWS.values())


@pytest.mark.parametrize(("key", "row"), TABLE, ids=[f"{key} {row}"[:60] for key, row in TABLE])
def test_folded_equals_original(key: str, row: str) -> None:
    """Folding leaves nothing, and every tensor keeps its value to the last digit."""
    check(build(row))


@pytest.mark.parametrize("key", ROWS)
def test_one_percent_shows(key: str) -> None:
    """Each number that a rule gives makes a row fail when it is one percent too large."""
    blind = [fault for fault in faults_of(key) if not is_caught(key, fault)]
    assert not blind, f"not caught: {', '.join(blind)}"
