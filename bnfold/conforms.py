"""Has a JSON document the form of a report? The types of the report's own fields say it.

Where a report has a number, JSON may have null: infinities and NaN become that. Fields that have a
default may be missing.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

PLAIN = {
    str: "a text",
    bool: "a yes or no",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
    tuple: "a list",
    type(None): "nothing",
}
"""Types in words, those of JSON and those that become them."""


def misfits(value: Any, hint: Any, path: str = "") -> Iterator[str]:
    """Where a value has another form than the type tells, in words; nothing where it fits.

    What a document has beyond the type fits: a later version may have written it.
    """
    origin = get_origin(hint)
    if hint is Any:
        return
    if origin in (Union, types.UnionType):
        yield from _none_of(value, get_args(hint), path)
    elif origin is Literal:
        if value not in get_args(hint):
            known = ", ".join(map(str, get_args(hint)))
            yield f"`{path}` is {told(value)} where one of {known} belongs"
    elif is_typeddict(hint) or dataclasses.is_dataclass(hint):
        yield from _fields(value, hint, path)
    elif origin in (list, tuple):
        yield from _items(value, get_args(hint), path, is_row=origin is tuple)
    elif origin in (dict, Mapping):
        yield from _entries(value, get_args(hint)[1], path)
    elif not _is(value, hint):
        yield f"`{path}` is {told(value)} where {PLAIN[hint]} belongs"


def told(value: Any) -> str:
    """What kind of JSON value it is, in words."""
    return PLAIN.get(type(value), type(value).__name__)


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return value is None or type(value) in (int, float)
    return type(value) is kind


def _none_of(value: Any, hints: tuple[Any, ...], path: str) -> Iterator[str]:
    """What is wrong by the alternative that comes nearest: the one that sees the deepest fault."""
    found = [list(misfits(value, hint, path)) for hint in hints]
    if all(found):
        yield max(found, key=lambda faults: len(faults[0].split("`")[1]))[0]


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind)


@functools.cache
def _optional(kind: Any) -> frozenset[str]:
    """The fields that an earlier version need not have written: those with a default."""
    if not dataclasses.is_dataclass(kind):
        return frozenset()
    nothing = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    return frozenset(
        f.name for f in fields if f.default is not nothing or f.default_factory is not nothing
    )


def _fields(value: Any, kind: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"`{path}` is {told(value)} where an object belongs"
        return
    for name, hint in _hints(kind).items():
        where = f"{path}.{name}" if path else name
        if name not in value and name not in _optional(kind):
            yield f"`{where}` is missing"
        elif name in value:
            yield from misfits(value[name], hint, where)


def _items(value: Any, hints: tuple[Any, ...], path: str, *, is_row: bool) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"`{path}` is {told(value)} where a list belongs"
    elif is_row and hints[-1] is not Ellipsis:
        if len(value) != len(hints):
            yield f"`{path}` has {len(value)} items where {len(hints)} belong"
        for index, (item, hint) in enumerate(zip(value, hints, strict=False)):
            yield from misfits(item, hint, f"{path}[{index}]")
    else:
        for index, item in enumerate(value):
            yield from misfits(item, hints[0], f"{path}[{index}]")


def _entries(value: Any, hint: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"`{path}` is {told(value)} where an object belongs"
        return
    for name, item in value.items():
        yield from misfits(item, hint, f"{path}.{name}" if path else name)
