"""LaTeX in names and titles as Unicode. Mathematics between dollars stays as it is."""

from __future__ import annotations

import re
import unicodedata

_ACCENTS = {
    "`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", '"': "\u0308", "=": "\u0304", ".": "\u0307",
    "c": "\u0327", "v": "\u030c", "u": "\u0306", "H": "\u030b", "k": "\u0328", "r": "\u030a", "d": "\u0323",
    "b": "\u0331",
}  # fmt: skip
_LETTERS = {
    "ss": "ß", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "aa": "å",
    "AA": "Å", "i": "ı", "j": "ȷ", "dh": "ð", "DH": "Ð", "th": "þ", "TH": "Þ", "ldots": "…", "dots": "…",
    "textendash": "–", "textemdash": "—",
}  # fmt: skip
_MATHS = re.compile(r"(\$[^$]*\$)")
# Accent signs may stand before their letter directly; accents named by a letter need a brace or a space (\c{c}, \v s).
_SIGN = re.compile(r"""\\([`'^~"=.])\s*(?:\{\s*(\\[ij]\b|\w)\s*\}|(\\[ij]\b\s*|\w))""")
_NAMED = re.compile(r"\\([cvuHkrdb])(?:\s*\{\s*(\\[ij]\b|\w)\s*\}|\s+(\w))")
_LETTER = re.compile(r"\\([A-Za-z]+)(?![A-Za-z])(?:\s*\{\}|\s+)?")
_STYLE = re.compile(r"\\(?:emph|text(?:it|bf|sc|tt|rm|sf|up|normal)|mbox|url)\s*(?=\{)")


def to_unicode(text: str) -> str:
    """``text`` without LaTeX accents, escapes, styles and braces, its white space collapsed."""
    parts = (part if part.startswith("$") and part != "$" else _plain(part) for part in _MATHS.split(text))
    return " ".join("".join(parts).split())


def _plain(text: str) -> str:
    text = text.replace(r"\$", "\ue000")  # a private character stands for the escaped dollar while braces go
    text = _STYLE.sub("", text)
    text = _NAMED.sub(_accented, _SIGN.sub(_accented, text))
    text = _LETTER.sub(lambda match: _LETTERS.get(match[1], match[0]), text)
    text = re.sub(r"\\([&%_#{} ])", lambda match: {"{": "\ue001", "}": "\ue002"}.get(match[1], match[1]), text)
    text = text.replace("~", " ").replace("---", "—").replace("--", "–").replace("``", "“").replace("''", "”")
    text = text.replace("{", "").replace("}", "")
    return unicodedata.normalize("NFC", text).translate({0xE000: "$", 0xE001: "{", 0xE002: "}"})


def _accented(match: re.Match[str]) -> str:
    letter = (match[2] or match[3]).strip().removeprefix("\\")
    return unicodedata.normalize("NFC", letter + _ACCENTS[match[1]])
