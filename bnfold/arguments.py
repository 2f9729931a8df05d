"""What does a caller mean by an argument that may be one thing or several? A text is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from bnfold.errors import InputError

Provider = str | tuple[str, Mapping[str, str]]


def names(given: str | Iterable[str], argument: str) -> tuple[str, ...]:
    """One name or several. Raises InputError for anything else."""
    return _several(given, argument, "a name or several", lambda one: isinstance(one, str))


def numbers(given: int | Iterable[int], argument: str) -> tuple[int, ...]:
    """One whole number or several. Raises InputError for anything else."""
    found = _several(given, argument, "a whole number or several", _is_number)
    return tuple(map(int, found))


def providers(given: Provider | Sequence[Provider] | None) -> tuple[Provider, ...]:
    """One provider or several, each with options where it has some; none for None.

    Raises InputError for anything else.
    """
    what = 'names such as "cpu", or a name with options, ("cuda", {"device_id": "1"})'
    return _several(() if given is None else given, "providers", what, _is_provider)


def _several(
    given: Any, argument: str, what: str, is_one: Callable[[Any], bool]
) -> tuple[Any, ...]:
    if is_one(given):
        return (given,)
    usable = isinstance(given, Iterable) and not isinstance(given, (Mapping, bytes))
    found = tuple(given) if usable else (given,)
    wrong = [one for one in found if not is_one(one)]
    if wrong:
        raise InputError(
            f"{argument} cannot be {type(wrong[0]).__name__} {wrong[0]!r:.80}", f"give {what}"
        )
    return found


def _is_number(one: Any) -> bool:
    return isinstance(one, Integral) and not isinstance(one, bool)


def _is_provider(one: Any) -> bool:
    if isinstance(one, str):
        return True
    is_pair = isinstance(one, (tuple, list)) and len(one) == 2
    return is_pair and isinstance(one[0], str) and isinstance(one[1], Mapping)
