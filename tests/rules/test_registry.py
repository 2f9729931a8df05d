"""Every rule has rows, and every row has a rule."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from rowtests import TABLES, key_of

import bnfold.rules  # noqa: F401  (fills the tables)
from bnfold.rules.registry import ATTRIBUTES, register


def tables() -> dict[str, dict[str, str]]:
    """The tables of cases beside this file, by module."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path != Path(__file__):
            spec = spec_from_file_location(f"tables_{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            found[path.stem] = module.CASES
    return found


@pytest.mark.parametrize("direction", TABLES)
def test_every_rule_has_a_row(direction: str) -> None:
    """A rule without a row, and a row without a rule, are faults."""
    names = [name for cases in tables().values() for name in cases]
    rows = {key for name in names if (direction, key := key_of(name)[1]) == key_of(name)}
    assert rows == set(TABLES[direction])


def test_each_name_stands_once() -> None:
    """A row of the same name in two tables would be another test of the same data."""
    names = [name for cases in tables().values() for name in cases]
    assert len(names) == len(set(names))


def test_a_second_rule_is_an_error() -> None:
    """Entering an operator twice names the rule that it has."""
    with pytest.raises(ValueError, match="Relu already has the rule relu"):
        register(TABLES["backward"], print, "Relu", "", "")


def test_all_attributes_are_read() -> None:
    """Every operator of a table has said which attributes its rules have read."""
    assert {key for table in TABLES.values() for key in table} == set(ATTRIBUTES)
