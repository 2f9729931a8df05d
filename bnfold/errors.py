"""Which errors can the caller do something about? Each says what is wrong and what to do."""

from __future__ import annotations

from typing import Any


class BnfoldError(Exception):
    """An error about the caller's own input; the command line prints it and exits with 2.

    `hint` is one sentence on what to do about it.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Both texts travel when an error passes from one process to another."""
        return type(self), (str(self), self.hint)


class ModelError(BnfoldError):
    """A model that cannot be read, or is not a valid ONNX model."""


class InputError(BnfoldError):
    """Data, shapes or options that do not fit the model."""


class OutputError(BnfoldError):
    """A result that cannot be written where it was asked for."""


class RuntimeUnavailable(BnfoldError):
    """ONNX Runtime is not installed, or cannot run the model."""


class RuntimeCrashed(RuntimeUnavailable):
    """ONNX Runtime ended its process, was killed for want of memory, or never answered."""


class MemoryUnavailable(RuntimeUnavailable):
    """More memory would be needed than is free; nothing was tried."""


class ProviderUnavailable(RuntimeUnavailable):
    """An execution provider that the installed runtime does not offer, or that fell back."""


class NotEquivalent(BnfoldError):
    """No equivalent model could be made: even with nothing folded the proof did not pass."""
