r"""How is text shown that others wrote? As it is, but for what would not be seen, or would act.

Names come from files. A control character in one may clear a terminal, a bidirectional override
lets `exe.xnno` be read backwards, and a space of no width makes two names look the same. Each is
shown by its number instead: `\x1b`, `\u202e`, `\U000e0041`.
"""

from __future__ import annotations

import re
import unicodedata

UNSEEN = frozenset({"Cc", "Cf", "Cn", "Cs", "Zl", "Zp"})
"""Categories of Unicode: controls, formats, what is not assigned, halves of characters, breaks."""
IGNORED = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xE0000, 0xE0FFF),
)
"""Letters and marks that Unicode lets fonts show as nothing (Default_Ignorable_Code_Point)."""

_SUSPECT = re.compile(r"[^\x20-\x7e]")


def visible(text: str) -> str:
    """The text with every character escaped that would not be seen as what it is."""
    return _SUSPECT.sub(lambda found: _shown(found[0]), text)


def visible_json(text: str) -> str:
    """A JSON document whose strings hold no such character; it is read as the same one."""
    return _SUSPECT.sub(lambda found: _in_json(found[0]), text)


def is_unseen(character: str) -> bool:
    """Whether a character would not be seen, or would act on the text around it."""
    code = ord(character)
    return unicodedata.category(character) in UNSEEN or any(a <= code <= b for a, b in IGNORED)


def _shown(character: str) -> str:
    if not is_unseen(character):
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else _numbered(code)


def _numbered(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _in_json(character: str) -> str:
    """As JSON escapes it: past 16 bits in two halves. Breaks between lines are its own."""
    if character == "\n" or not is_unseen(character):
        return character
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD7C0 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
