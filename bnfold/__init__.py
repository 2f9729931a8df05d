"""Folds batch normalization into neighbouring weights of ONNX models, exactly, and proves it."""

__version__ = "0.1.0"
