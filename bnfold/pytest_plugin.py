"""Which providers does a test run on? A pytest plugin; it imports nothing until a test asks.

    def test_my_model(bnfold_provider):
        bnfold.testing.assert_equivalent("a.onnx", "b.onnx", providers=[bnfold_provider])

runs once for each execution provider that the installed ONNX Runtime offers and that starts here.
`pytest --bnfold-provider openvino` asks for certain ones; then one that is absent is a failure.
"""

from __future__ import annotations

import functools

import pytest

NAME = "bnfold_provider"
REMOTE = "AzureExecutionProvider"
"""In every build, yet it computes nothing here."""
TINY = '<ir_version: 8, opset_import: ["": 13]> g (float[4] x) => (float[4] y) { y = Relu(x) }'


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--bnfold-provider`."""
    parser.getgroup("bnfold").addoption(
        "--bnfold-provider",
        action="append",
        default=[],
        metavar="NAME",
        help="a provider that `bnfold_provider` takes, by alias or name; can be given several "
        "times; all that start here if not given",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each provider."""
    marks = metafunc.definition.iter_markers("parametrize")
    if NAME not in metafunc.fixturenames or any(NAME in str(mark.args[0]) for mark in marks):
        return
    names = metafunc.config.getoption("--bnfold-provider") or _available()
    metafunc.parametrize(NAME, names, indirect=True)


@pytest.fixture
def bnfold_provider(request: pytest.FixtureRequest) -> str:
    """An execution provider of ONNX Runtime that starts here, for `providers=[...]`."""
    name = str(request.param)
    problem = _problem(name)
    if problem and name in request.config.getoption("--bnfold-provider"):
        pytest.fail(problem, pytrace=False)
    if problem:
        pytest.skip(problem)
    return name


def _available() -> list[str]:
    """What the runtime lists; the CPU, to be skipped with a reason, where there is none."""
    from bnfold.errors import BnfoldError
    from bnfold.runtime import CPU, available_providers

    try:
        return [name for name in available_providers() if name != REMOTE]
    except BnfoldError:
        return [CPU]


@functools.cache
def _problem(name: str) -> str:
    """Why a provider cannot start; empty if it can."""
    import onnx.parser

    from bnfold.errors import BnfoldError
    from bnfold.runtime import open_session

    try:
        open_session(onnx.parser.parse_model(TINY), provider=name)
    except BnfoldError as error:
        return str(error)
    return ""
