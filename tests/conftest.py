"""What all tests share: the tables of rows, run once for each row."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("rowtests")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`case`, `refusal` and `regime` are what the tables of the test's class say."""
    rows = {"case": "CASES", "refusal": "REFUSALS"}
    for argument, table in rows.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, list(getattr(metafunc.cls, table)))
    if "regime" in metafunc.fixturenames and metafunc.cls is not None:
        metafunc.parametrize("regime", ["different", "equal"])
