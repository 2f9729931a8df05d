"""What all tests share: the tables of rows, run once for each row."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet
from rows import Row, parse_row
from versions import runtime_since

from bnfold.isolation import Here

pytest.register_assert_rewrite("rowtests")


def _parameter(row: Row) -> ParameterSet:
    """The row as a parameter, skipped where the runtime is too old for it."""
    marks = [runtime_since(row.since, "this runs")] if row.since else []
    return pytest.param(row, id=row.name, marks=marks)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`case` and `refusal` are the rows of the module's tables, `regime` the two sets of sizes."""
    module, wanted = metafunc.module, set(metafunc.fixturenames)
    if not hasattr(module, "CASES"):
        return
    if "case" in wanted:
        rows = [parse_row(*item) for item in module.CASES.items()]
        metafunc.parametrize("case", [_parameter(row) for row in rows])
    if "refusal" in wanted:
        table = getattr(module, "REFUSALS", {})
        pairs = [(reason, parse_row(name, text)) for name, (reason, text) in table.items()]
        metafunc.parametrize("refusal", pairs, ids=list(table))
    if "regime" in wanted:
        metafunc.parametrize("regime", ["different", "equal"])


@pytest.fixture(autouse=True)
def _in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting Python takes half a second, so that only tests of isolation itself do it."""
    if not request.node.get_closest_marker("isolated"):
        monkeypatch.setattr("bnfold.isolation.Child", Here)
