"""Folds batch normalization into neighbouring weights of ONNX models, exactly, and proves it."""

from bnfold.folding import fold, inspect
from bnfold.reasons import Reason
from bnfold.report import FoldReport, FoldResult, FoldSite

__version__ = "0.1.0"

__all__ = ["FoldReport", "FoldResult", "FoldSite", "Reason", "fold", "inspect"]
