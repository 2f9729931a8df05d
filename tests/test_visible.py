"""What would not be seen, or would act on the text around it, is shown by its number."""

from __future__ import annotations

import json
import sys

import pytest

from bnfold.visible import is_unseen, visible, visible_json

UNSEEN = [
    *range(0x20),
    *range(0x7F, 0xA0),
    0xAD,
    0x61C,
    0x180E,
    *range(0x200B, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    0xFE0F,
    0xFEFF,
    0xFFF9,
    0x3164,
    *range(0xD800, 0xE000),
    *range(0xE0000, 0xE0080),
    0xE01EF,
]


def test_what_is_not_seen_is_shown() -> None:
    """Controls, overrides, breaks, widths of nothing, halves and tags: all become ASCII."""
    for code in UNSEEN:
        shown = visible(f"a{chr(code)}b")
        assert shown.isascii(), hex(code)
        assert shown.isprintable(), hex(code)
        assert shown.startswith("a\\"), hex(code)
        assert len(shown) >= 6, hex(code)


@pytest.mark.parametrize(
    "text", ["", "conv1.weight", "größe/特徴量 → é", "𝛼 🙂 e\u0301", "~ \\x1b"]
)
def test_what_is_seen_stays(text: str) -> None:
    """Letters of any script, accents, arrows and pictures are nobody's disguise."""
    assert visible(text) == text


def test_forms() -> None:
    """Each escape has the form that Python gives it."""
    assert visible("\x1b[2J\x9b\u202egnp\U000e0041\udce9\n") == (
        "\\x1b[2J\\x9b\\u202egnp\\U000e0041\\udce9\\x0a"
    )


def test_json_means_the_same() -> None:
    """A document without unseen characters is read as the document that had them."""
    every = "".join(chr(code) for code in range(sys.maxunicode + 1) if is_unseen(chr(code)))
    content = {every[:200]: [*every[::97], "größe 🙂 \\ud800 \\"]}
    for indent in (None, 2):
        text = visible_json(json.dumps(content, ensure_ascii=False, indent=indent))
        assert json.loads(text) == content
        assert not any(map(is_unseen, text.replace("\n", "")))
