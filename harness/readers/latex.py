"""LaTeX in names, titles and abstracts as Unicode. Mathematics and commands that are not known stay as they are."""

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
    "textendash": "–", "textemdash": "—", "textbackslash": "\ue003", "textasciitilde": "\ue004", "textasciicircum": "^",
    "textbraceleft": "\ue001", "textbraceright": "\ue002",
}  # fmt: skip
# Private characters stand for what an escape wrote while unescaped dollars, braces and tildes go.
_PLACES = {"$": "\ue000", "{": "\ue001", "}": "\ue002", "\\": "\ue003", "~": "\ue004"}
_RESTORED = {ord(place): text for text, place in _PLACES.items()}
_MATHS = re.compile(r"((?<!\\)\$(?:\\.|[^$\\])*\$|\\\(.*?\\\))", re.DOTALL)
# Accent signs may stand before their letter directly; accents named by a letter need a brace or a space (\c{c}, \v s).
_SIGN = re.compile(r"""\\([`'^~"=.])\s*(?:\{\s*(\\[ij]\b|\w)\s*\}|(\\[ij]\b\s*|\w))""")
_NAMED = re.compile(r"\\([cvuHkrdb])(?:\s*\{\s*(\\[ij]\b|\w)\s*\}|\s+(\w))")
_LETTER = re.compile(r"\\([A-Za-z]+)(?![A-Za-z])(?:\s*\{\}|\s+)?")
_STYLE = re.compile(r"\\(?:emph|text(?:it|bf|sc|tt|rm|sf|up|normal)|mbox|url)\s*(?=\{)")
_UNKNOWN = re.compile(r"(\\[A-Za-z]+)\{([^{}]*)\}")


def to_unicode(text: str) -> str:
    r"""``text`` without LaTeX accents, escapes, styles and braces, its white space collapsed.

    >>> print(to_unicode(r"The {DNA} of {\"O}tzi: 5\,\% of $x^{2}$, see \cite{key}"))
    The DNA of Ötzi: 5 % of $x^{2}$, see \cite{key}
    """
    parts = _MATHS.split(text)  # mathematics at the odd places
    return " ".join("".join(part if place % 2 else _plain(part) for place, part in enumerate(parts)).split())


def _plain(text: str) -> str:
    text = text.replace(r"\$", _PLACES["$"])
    text = _STYLE.sub("", text)
    text = _NAMED.sub(_accented, _SIGN.sub(_accented, text))
    text = _LETTER.sub(lambda match: _LETTERS.get(match[1], match[0]), text)
    text = _UNKNOWN.sub(rf"\1{_PLACES['{']}\2{_PLACES['}']}", text)
    text = re.sub(r"\\([&%_#{} ,;])", lambda match: " " if match[1] in ",;" else _PLACES.get(match[1], match[1]), text)
    text = text.replace("~", " ").replace("---", "—").replace("--", "–").replace("``", "“").replace("''", "”")
    text = text.replace("{", "").replace("}", "")
    return unicodedata.normalize("NFC", text).translate(_RESTORED)


def _accented(match: re.Match[str]) -> str:
    letter = (match[2] or match[3]).strip().removeprefix("\\")
    return unicodedata.normalize("NFC", letter + _ACCENTS[match[1]])
