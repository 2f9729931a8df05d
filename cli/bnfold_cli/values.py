"""What do the values of options mean? Texts of the command line as the library wants them."""

from __future__ import annotations

from typing import Any

import typer

Dims = dict[str, int | tuple[int, ...]]

MOST_PROCESSORS = 1 << 16
"""No machine has more; a range must not fill the memory."""


def parse_dims(inputs: list[str] | None, dims: list[str] | None) -> Dims | None:
    """What `--input` and `--dim` say, as the library wants it; None if they say nothing."""
    parsed: Dims = {}
    for text in inputs or ():
        name, shape = _split(text, "--input", "NAME=1x3x224x224")
        parsed[name] = tuple(_size(part, text, "--input") for part in shape.split("x") if shape)
    for text in dims or ():
        name, size = _split(text, "--dim", "NAME=VALUE, for example batch=4")
        parsed[name] = _size(size, text, "--dim")
    return parsed or None


def parse_providers(names: list[str] | None) -> list[str | tuple[str, dict[str, str]]] | None:
    """What `--provider` says, with options where it gives some; None if it says nothing."""
    if not names:
        return None
    return [_provider(text) for text in names]


def _provider(text: str) -> str | tuple[str, dict[str, str]]:
    name, colon, rest = text.partition(":")
    if not colon:
        return text
    found: dict[str, str] = {}
    for part in rest.split(","):
        key, equals, value = part.partition("=")
        if not (name and key and equals):
            raise typer.BadParameter(
                f"{text!r} is not of the form NAME:KEY=VALUE, for example cuda:device_id=1",
                param_hint="--provider",
            )
        found[key] = value
    return name, found


def parse_counts(text: str | None, option: str) -> tuple[int, ...]:
    """Whole numbers from 1 on, between commas; none for no text."""
    parts = [part.strip() for part in text.split(",")] if text is not None else []
    for part in parts:
        if not (part.isascii() and part.isdecimal() and int(part) > 0):
            raise typer.BadParameter(
                f"{part!r} is not a whole number from 1 on, as in 1,8,64", param_hint=option
            )
    return tuple(map(int, parts))


def parse_processors(text: str | None) -> tuple[int, ...]:
    """Numbers from 0 on between commas, and ranges of them; none for no text."""
    numbers: list[int] = []
    for part in text.split(",") if text is not None else []:
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdecimal() for end in ends):
            raise typer.BadParameter(
                f"{part.strip()!r} is no processor, as in 0,1 or 0-3", param_hint="--pin"
            )
        low, high = map(int, ends)
        if not low <= high < MOST_PROCESSORS:
            raise typer.BadParameter(f"{part.strip()!r} holds no processor", param_hint="--pin")
        numbers += range(low, high + 1)
    return tuple(dict.fromkeys(numbers))


def given(**values: Any) -> dict[str, Any]:
    """The options that were given; for the others the library's own default holds."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def _split(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")  # names may contain the sign, values never
    if not equals or not name:
        raise typer.BadParameter(f"{text!r} is not of the form {form}", param_hint=option)
    return name, value


def _size(text: str, whole: str, option: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise typer.BadParameter(
            f"in {whole!r}, {text!r} is not a size: sizes are whole numbers, as in 1x3x224x224",
            param_hint=option,
        )
    return int(text)
