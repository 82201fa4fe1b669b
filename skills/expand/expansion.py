"""An expansion: ``hyde:``, ``lex:`` and ``vec:`` lines for one query. Read, write, and take a ``lex`` line apart.

``lex`` lines go to full-text search, ``vec`` lines and the ``hyde`` passage (a hypothetical document, Gao et al. 2022) to
vector search. Training, evaluation and serving all import this module; nothing here imports a model runtime.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.console import clean
from harness.readers.text import writable

TYPES = ("hyde", "lex", "vec")
"""In the order in which they are written."""
MOST = {"hyde": 1, "lex": 4, "vec": 4}
"""Lines of a type that a model may write."""
LONGEST = {"hyde": 600, "lex": 120, "vec": 240}
"""Characters of a line; a longer one is the product of a loop. The longest of 3,118 gold lines have 435, 75 and 125."""
_LINE = re.compile(r"\s*(hyde|lex|vec):(.*)", re.DOTALL)
_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
_END_OF_TURN = re.compile(r"<\|(?:im_end|endoftext)\|>")
_TERM = re.compile(r'(?P<minus>(?<!\S)-(?="|\w\w))?(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+)|")')


@dataclass(frozen=True)
class Line:
    """One line of an expansion."""

    type: str
    """``hyde``, ``lex`` or ``vec``."""
    text: str

    def __str__(self) -> str:
        return f"{self.type}: {self.text}"

    def record(self) -> dict[str, str]:
        """As it stands in JSON."""
        return {"type": self.type, "text": self.text}


@dataclass(frozen=True)
class Lexical:
    """What a ``lex`` line asks full-text search for."""

    words: tuple[str, ...]
    phrases: tuple[str, ...]
    """Quoted: their words stand together, in this order."""
    excluded: tuple[str, ...]
    """Words and phrases after a minus sign: a document that holds one is not wanted."""


def one_line(text: str) -> str:
    """Foreign text on one line, without control characters and halves of characters."""
    return " ".join(clean(writable(" ".join(text.split()))).split())


def parse_expansion(text: str) -> tuple[list[Line], list[str]]:
    """The lines of a model's answer, in its order, and what in it is no line (without its type, empty, a chat token).

    Thoughts before the answer and what follows the end of the turn do not count as a part of it.

    >>> parse_expansion("lex: auth settings\\nSure! Here is more:\\nvec: how to configure login")
    ([Line(type='lex', text='auth settings'), Line(type='vec', text='how to configure login')], ['Sure! Here is more:'])
    """
    answer = _END_OF_TURN.split(_THOUGHTS.sub("", text), maxsplit=1)[0]
    lines, malformed = [], []
    for raw in answer.split("\n"):
        match = _LINE.match(raw)
        content = one_line(match[2]) if match else ""
        if match and content and "<|" not in content:
            lines.append(Line(match[1], content))
        elif raw.strip():
            malformed.append(one_line(raw))
    return lines, malformed


def lines_of(pairs: Iterable[Iterable[Any]]) -> list[Line]:
    """Lines from ``[[type, text], …]``, as data sets and the journal keep them. ValueError for another type or no text."""
    lines = []
    for pair in pairs:
        kind, text = pair
        if kind not in TYPES or not isinstance(text, str) or not one_line(text):
            raise ValueError(f"not a line of an expansion: {pair!r}")
        lines.append(Line(kind, one_line(text)))
    return lines


def render(lines: Iterable[Line]) -> str:
    """One ``type: text`` line each: hyde, then lex, then vec, and within a type in the order given."""
    return "\n".join(map(str, ordered(lines)))


def ordered(lines: Iterable[Line]) -> list[Line]:
    """The lines sorted by type, in the order of ``TYPES``."""
    return sorted(lines, key=lambda line: TYPES.index(line.type))


def parse_lex(text: str) -> Lexical:
    """A ``lex`` line taken apart. A minus sign excludes where it begins a word of two letters or more, or a phrase.

    So ``-i`` remains a word (an option of some command), and so does a hyphen inside a word.

    >>> parse_lex('"cache miss" profiling -sports git rebase -i')
    Lexical(words=('profiling', 'git', 'rebase', '-i'), phrases=('cache miss',), excluded=('sports',))
    """
    words: list[str] = []
    phrases: list[str] = []
    excluded: list[str] = []
    for match, term in _terms(text):
        (excluded if match["minus"] else phrases if match["phrase"] else words).append(term)
    return Lexical(tuple(words), tuple(phrases), tuple(excluded))


def terms_of(text: str) -> list[tuple[str, bool]]:
    """The words and phrases of a ``lex`` line as they stand, each with whether it is excluded.

    >>> terms_of('"cache miss" profiling -sports')
    [('cache miss', False), ('profiling', False), ('sports', True)]
    """
    return [(term, bool(match["minus"])) for match, term in _terms(text)]


def _terms(text: str) -> Iterator[tuple[re.Match[str], str]]:
    for match in _TERM.finditer(text):
        if term := (match["phrase"] or match["word"] or "").strip():
            yield match, term
