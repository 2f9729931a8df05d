"""How does a command end? Exit codes, and errors in words."""

from __future__ import annotations

import errno

from typer.exceptions import TyperException

YES, NO, COULD_NOT, BUG = 0, 1, 2, 70
SYSTEM_REFUSES = frozenset(
    getattr(errno, name, None)
    for name in "ENOSPC EDQUOT EFBIG EROFS EIO EMFILE ENFILE ENOMEM ESTALE".split()
) - {None}
"""What the system says where it is full, broken or worn out: no program can do without."""
ANSWERS = {YES: "yes", NO: "no", COULD_NOT: "cannot tell"}


def interrupted(signal: int) -> int:
    """The exit code of a command that a signal ended, as shells count it."""
    return 128 + signal


def describe(error: Exception) -> tuple[str, str, int]:
    """An error in words: what is wrong, what to do, and the exit code."""
    if isinstance(error, TyperException):
        return _usage(error)
    if isinstance(error, MemoryError):
        return "out of memory", "close other programs, or use a machine with more", COULD_NOT
    from bnfold.errors import BnfoldError, NotEquivalent

    if isinstance(error, BnfoldError):
        code = NO if isinstance(error, NotEquivalent) else COULD_NOT
        return _one_line(str(error)), _one_line(error.hint), code
    if isinstance(error, OSError) and error.errno in SYSTEM_REFUSES:
        hint = "see whether disks are full, and TMPDIR names a folder with space"
        return _one_line(f"the system refuses: {error}"), hint, COULD_NOT
    message = _one_line(f"this is a bug in bnfold: {type(error).__name__}: {error}")
    return message, "please report it, with what the same command prints with --traceback", BUG


def _usage(error: TyperException) -> tuple[str, str, int]:
    """A usage error, with the command whose help tells more."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "bnfold"
    message = _one_line(error.format_message().replace("Value error, ", "")).rstrip(".")
    lists = "the options" if " " in command else "the commands"
    return message[:1].lower() + message[1:], f"`{command} --help` lists {lists}", COULD_NOT


def _one_line(text: str) -> str:
    return " ".join(text.split())
