"""How is text laid out? Lines of styled spans, columns, and counted words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Literal, NamedTuple

Style = Literal["plain", "good", "bad", "code", "dim"]


class Span(NamedTuple):
    """Some text in one style. The style adds to the words, it never replaces them."""

    text: str
    style: Style = "plain"


Line = tuple[Span, ...]


def line(*parts: str | Span) -> Line:
    """A line of text, plain where no style is given."""
    return tuple(part if isinstance(part, Span) else Span(part) for part in parts)


def text_of(spans: Line) -> str:
    """A line without its styles."""
    return "".join(span.text for span in spans).rstrip()


def columns(rows: Iterable[Sequence[str | Span]], indent: int = 2) -> list[Line]:
    """Rows with their cells aligned, except the last of a row; nothing is ever cut."""
    cells = [line(*row) for row in rows]
    count = max(map(len, cells), default=0)
    widths = [max(len(r[i].text) if i < len(r) - 1 else 0 for r in cells) for i in range(count)]
    lines = []
    for row in cells:
        padded = [Span(s.text.ljust(w), s.style) for s, w in zip(row[:-1], widths, strict=False)]
        spaced = chain.from_iterable((span, Span("  ")) for span in padded)
        lines.append(line(" " * indent, *spaced, *row[-1:]))
    return lines


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun in the right form."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """Words in a row, the last after an "and"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def notes(texts: Iterable[str]) -> list[Line]:
    """A line for each note."""
    return [line(f"Note: {text}") for text in texts]
