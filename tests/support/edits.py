"""What could be changed in a JSON document? Every value of it, to others of its type and not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

Where = tuple[str | int, ...]


def leaves(value: Any, where: Where = ()) -> Iterator[tuple[Where, Any]]:
    """Every place of a document, lists and objects too."""
    if where:
        yield where, value
    inside = enumerate(value) if isinstance(value, list) else ()
    for key, item in value.items() if isinstance(value, dict) else inside:
        yield from leaves(item, (*where, key))


def others(value: Any) -> Iterator[Any]:
    """Other values, of the same type and of others."""
    return (other for other in candidates(value) if differs(other, value))


def candidates(value: Any) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)):
        yield from (value + 1, value * 1.001 if isinstance(value, float) else -1, 1e30, 10**400)
    elif isinstance(value, str):
        yield from (f"{value}x", "", "\ud800\x00")
    elif isinstance(value, list):
        yield from ([], [*value, *value[:1]] if value else ["x"])
    elif isinstance(value, dict):
        yield from ({},) if value else ({"x": "y"},)
    yield from (None, 7, 0.5, True, "x", [], [1], {"x": 1})


def differs(one: Any, other: Any) -> bool:
    return type(one) is not type(other) or one != other


def edited(document: dict[str, Any], where: Where, change: Callable[[Any, Any], object]) -> str:
    """The certificate after a change of what holds a place, and the place's key."""
    made = copy.deepcopy(document)
    holder: Any = made
    for key in where[:-1]:
        holder = holder[key]
    change(holder, where[-1])
    return json.dumps(made)
