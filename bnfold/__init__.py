"""Folds batch normalization into neighbouring weights of ONNX models, exactly, and proves it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnfold import certificate, testing
    from bnfold.equivalence import verify
    from bnfold.errors import (
        BnfoldError,
        InputError,
        MemoryUnavailable,
        ModelError,
        NotEquivalent,
        OutputError,
        ProviderUnavailable,
        RuntimeCrashed,
        RuntimeUnavailable,
    )
    from bnfold.explanations import explain
    from bnfold.fleet.record import SweptModel
    from bnfold.fleet.sweeping import sweep
    from bnfold.folding import fold, inspect
    from bnfold.pipeline import optimize
    from bnfold.reasons import Reason
    from bnfold.recalibration import KeptLayer, RecalibratedLayer, RecalibrationResult, recalibrate
    from bnfold.report import (
        EquivalenceReport,
        FoldReport,
        FoldResult,
        FoldSite,
        MergedBlock,
        OptimizeResult,
        OutputComparison,
        Target,
    )
    from bnfold.speed import bench
    from bnfold.timings import SpeedMeasurement, SpeedReport

__version__ = "0.1.0"

__all__ = [
    "BnfoldError",
    "EquivalenceReport",
    "FoldReport",
    "FoldResult",
    "FoldSite",
    "InputError",
    "KeptLayer",
    "MemoryUnavailable",
    "MergedBlock",
    "ModelError",
    "NotEquivalent",
    "OptimizeResult",
    "OutputComparison",
    "OutputError",
    "ProviderUnavailable",
    "Reason",
    "RecalibratedLayer",
    "RecalibrationResult",
    "RuntimeCrashed",
    "RuntimeUnavailable",
    "SpeedMeasurement",
    "SpeedReport",
    "SweptModel",
    "Target",
    "__version__",
    "bench",
    "certificate",
    "explain",
    "fold",
    "inspect",
    "optimize",
    "recalibrate",
    "sweep",
    "testing",
    "verify",
]

# Where each public name lives; a module is imported when a name of it is first asked for, so
# that `import bnfold` costs nothing that is not used.
_HOMES = {
    "equivalence": "verify",
    "errors": "BnfoldError InputError MemoryUnavailable ModelError NotEquivalent OutputError "
    "ProviderUnavailable RuntimeCrashed RuntimeUnavailable",
    "explanations": "explain",
    "fleet.record": "SweptModel",
    "fleet.sweeping": "sweep",
    "folding": "fold inspect",
    "pipeline": "optimize",
    "reasons": "Reason",
    "recalibration": "KeptLayer RecalibratedLayer RecalibrationResult recalibrate",
    "report": "EquivalenceReport FoldReport FoldResult FoldSite MergedBlock OptimizeResult "
    "OutputComparison Target",
    "speed": "bench",
    "timings": "SpeedMeasurement SpeedReport",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in ("certificate", "testing"):
        return import_module(f"bnfold.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'bnfold' has no attribute {name!r}")
    value = getattr(import_module(f"bnfold.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
