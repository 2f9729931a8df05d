"""Who may import whom? The table is short; if an import breaks it, first doubt the import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx.defs
import pytest

ROOT = Path(__file__).parents[1]

GROUPS = {
    "values": "affine arguments bits conforms constants effort equation errors explanations "
    "extents functions inference moments nesting nodewise pool reasons report slicing target "
    "timings visible weights",
    "files": "external files layout modelio order pipes publishing regular scratch skeleton "
    "stored validation wire",
    "graph": "canonical contradictions dimensions elements evaluate facts features graph idioms "
    "seams sequences shapes wholeness writing",
    "rules": "rules",
    "engine": "apply bounds branches folding keeping magnitudes normalizations plan search "
    "vanishing",
    "proof": "arrays baseline batches chunks comparison cpus culprit decisions draws "
    "equivalence evaluation evidence feeds flips float64 footprint frames isolation judge kernels "
    "measuring memory operations ownfolds pairing ranges recount recurrence runtime "
    "sessions sizes speed turns worker yardstick",
    "page": "html",
    "fleet": "fleet",
    "conductor": "anatomy attribution audit certificate certified certifying pipeline "
    "pytest_plugin recalibration takeback testing",
}
"""Every module of bnfold, by what it is for. A new one needs a place here."""

MAY_IMPORT = {
    "values": "values",
    "files": "values files",
    "graph": "values graph",
    "rules": "values rules",
    "engine": "values files graph rules engine",
    "proof": "values files proof",
    "page": "values files page",
    "conductor": "values files engine proof conductor",
    "fleet": "values files proof page conductor fleet",
}
"""Rules never edit a graph, and a proof never knows how the fold was made."""

LIBRARIES = {
    "values": "numpy onnx ml_dtypes",
    "files": "numpy onnx google",
    "graph": "numpy onnx",
    "rules": "numpy",
    "engine": "numpy onnx",
    "proof": "numpy onnx",
    "page": "numpy jinja2 matplotlib",
    "conductor": "numpy onnx",
    "fleet": "onnx google",
}
"""What of others each group may import, beside Python's own. Nothing imports click, and what
sweeps need (Dask, fsspec, psutil) is loaded by name when a sweep is asked for."""

MODULE_LIBRARIES = {
    "affine": "numpy",
    "arguments": "",
    "baseline": "",
    "batches": "onnx",
    "cpus": "",
    "errors": "",
    "explanations": "",
    "frames": "",
    "kernels": "numpy",
    "memory": "onnx",
    "moments": "numpy",
    "pairing": "numpy",
    "pool": "",
    "pytest_plugin": "onnx pytest",
    "reasons": "",
    "recurrence": "numpy",
    "report": "",
    "runtime": "numpy onnx onnxruntime",
    "target": "",
    "testing": "",
    "timings": "",
    "turns": "numpy",
    "visible": "",
    "worker": "",
    "yardstick": "numpy onnx ml_dtypes",
}
"""Modules that may import less than their group, or more."""

EXCEPTIONS = {
    ("report", "modelio"): "FoldResult.save writes, and only then",
}

ENGINE_KNOWS = {
    "apply": {"Add"},  # the node that holds a bias of an operator that has none
    "folding": {"BatchNormalization"},  # what the tool is for: such a node goes even for nothing
    "normalizations": {"BatchNormalization"},  # whose statistics can be replaced
}
"""The operators that the engine names. Every other one is known by a rule only."""


@dataclass(frozen=True)
class Import:
    """One import: of which module, whether at the top of its file, and where."""

    module: str
    is_top: bool
    line: int


def parents_of(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file, except those for type checkers only."""
    tree = ast.parse(path.read_text("utf-8"))
    parents = parents_of(tree)
    for node in ast.walk(tree):
        names = imported_names(node)
        above = list(ancestors(node, parents)) if names else []
        if any(isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test) for n in above):
            continue
        inside = any(isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in above)
        for name in names:
            yield Import(name, not inside, getattr(node, "lineno", 0))


def ancestors(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    while node in parents:
        node = parents[node]
        yield node


def imported_names(node: ast.AST) -> list[str]:
    """Dotted names; for `from bnfold import x` also `bnfold.x`, which may be a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        assert node.module is not None
        if node.module == "bnfold":
            return [f"bnfold.{alias.name}" for alias in node.names]
        return [node.module]
    if is_dynamic(node):
        assert isinstance(node, ast.Call)
        return [str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant)]
    return []


def is_dynamic(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")


def module_of(path: Path) -> str:
    """The name in GROUPS: `bnfold/rules/product.py` is `rules`."""
    return path.relative_to(ROOT / "bnfold").parts[0].removesuffix(".py")


LIBRARY = [p for p in sorted((ROOT / "bnfold").rglob("*.py")) if p.parent.name != "__pycache__"]
PARTS = [p for p in LIBRARY if p != ROOT / "bnfold" / "__init__.py"]
GROUP = {module: group for group, modules in GROUPS.items() for module in modules.split()}

each_part = pytest.mark.parametrize("path", PARTS, ids=lambda p: str(p.relative_to(ROOT)))


@each_part
def test_a_module_imports_what_its_group_may(path: Path) -> None:
    """Of bnfold, only the groups in its row of the table."""
    module = module_of(path)
    allowed = MAY_IMPORT[GROUP[module]].split()
    for found in imports(path):
        if not found.module.startswith("bnfold."):
            continue
        other = found.module.split(".")[1]
        assert other in GROUP, f"{path.name}:{found.line}: {found.module} is no module of bnfold"
        if (module, other) not in EXCEPTIONS:
            assert GROUP[other] in allowed, f"{path.name}:{found.line} imports {found.module}"


@each_part
def test_a_module_imports_few_libraries(path: Path) -> None:
    """Only `runtime` imports onnxruntime; torch, typer, rich and click are nobody's."""
    module = module_of(path)
    allowed = set(MODULE_LIBRARIES.get(module, LIBRARIES[GROUP[module]]).split())
    for found in imports(path):
        library = found.module.split(".")[0]
        if library not in sys.stdlib_module_names and library != "bnfold":
            assert library in allowed, f"{path.name}:{found.line} imports {library}"


def test_exceptions_are_still_needed() -> None:
    """An exception that nothing uses is taken out of the table, and lazy ones stay lazy."""
    for module, other in EXCEPTIONS:
        (path,) = (p for p in PARTS if module_of(p) == module)
        used = [i for i in imports(path) if i.module == f"bnfold.{other}"]
        assert used, f"{module} no longer imports {other}"
        assert not any(i.is_top for i in used)


@pytest.mark.parametrize("module", sorted(set(GROUPS["engine"].split()) - {"branches"}))
def test_the_engine_knows_no_operator_by_name(module: str) -> None:
    """An operator is one function in bnfold/rules and one row in a test, and nothing else.

    Merging parallel branches, in bnfold/branches, is about certain operators by its nature.
    """
    operators = {schema.name for schema in onnx.defs.get_all_schemas()}
    tree = ast.parse((ROOT / "bnfold" / f"{module}.py").read_text("utf-8"))
    words = {str(n.value) for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    assert words & operators <= ENGINE_KNOWS.get(module, set())


# -- the other two packages ---------------------------------------------------------------------

COMMANDS = sorted((ROOT / "cli" / "bnfold_cli").rglob("*.py"))
NETWORKS = sorted((ROOT / "models" / "bnfold_models").rglob("*.py"))
STUDIES = ROOT / "models" / "bnfold_models" / "studies"


@pytest.mark.parametrize("path", COMMANDS, ids=lambda p: str(p.relative_to(ROOT / "cli")))
def test_the_command_line_imports_bnfold_and_typer_only(path: Path) -> None:
    """It does no arithmetic, and what a command needs is imported when the command runs."""
    for found in imports(path):
        library = found.module.split(".")[0]
        if library in sys.stdlib_module_names:
            continue
        assert library in {"bnfold", "bnfold_cli", "typer", "rich"}, f"{path.name}:{found.line}"
        if library in {"bnfold", "rich"}:
            assert not found.is_top, f"{path.name}:{found.line} imports {library} at the top"


@pytest.mark.parametrize("path", NETWORKS, ids=lambda p: p.name)
def test_the_reference_networks_do_not_know_the_library(path: Path) -> None:
    """What bnfold is tested on is made without it; only the studies use it, by public names."""
    import bnfold

    public = {f"bnfold.{name}" for name in bnfold.__all__} | {"bnfold"}
    for found in imports(path):
        library = found.module.split(".")[0]
        assert library not in {"bnfold_cli", "onnxruntime", "typer"}
        if library == "bnfold":
            assert STUDIES in path.parents, f"{path.name}:{found.line} imports {found.module}"
            assert found.module in public, f"{path.name}:{found.line} imports {found.module}"
