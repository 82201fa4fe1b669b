"""Split a text into sentences that are spans of it, so that a quote can always be found again.

The rules are those of scientific abstracts: abbreviations, initials, decimal numbers, LaTeX, section labels
("Methods:"), line breaks inside a sentence and blank lines between paragraphs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_ABBREVIATIONS = frozenset(
    (
        "e.g|i.e|eg|ie|cf|vs|viz|al|etc|fig|figs|eq|eqs|sec|secs|ref|refs|tab|no|nos|vol|pp|approx|resp|dr|prof|mr|mrs|ms"
        "|st|inc|ltd|co|corp|dept|univ|esp|incl|w.r.t|a.k.a|aka|ph.d|m.sc|b.sc|u.s|u.k|e.u|a.m|p.m|ca|est|min|max|jr|sr"
    ).split("|")
)
# These may end a sentence too; they only hold one open when what follows does not start like a sentence.
_MAYBE_FINAL = frozenset("al|etc|inc|ltd|co|corp|u.s|u.k|e.u|a.m|p.m|no|jr|sr|st|min|max|est".split("|"))
_END = re.compile(r"(?<![.!?…。！？])[.!?…。！？]++[\"'”’)\]}]*+(?=\s|$|[A-Z\[(]|\\)|\n[ \t]*+\n+|[。！？]++[”’」』）]*+")
_STARTER = re.compile(
    r"(We|Our|The|This|These|Those|In|It|To|For|However|Moreover|Here|By|While|Although|On|At|As|They|Both|"
    r"Experiments?|Results?|Code|Finally|Furthermore|Additionally|A|An|With|From|There|Using|Extensive|"
    r"Unlike|Compared|Despite|Through|Based|Each|Such|Our)\b"
)
_OPENING = re.compile(r"\$\$|\$|\\\(|\\\[")
_CLOSING = {"$$": "$$", "\\(": "\\)", "\\[": "\\]"}
_INLINE = re.compile(r"\$[^$\n]{1,400}?(?:\n[^$\n]{0,200}?){0,3}\$")
_BEFORE_A_WORD = frozenset("([{\"'“‘,;:/—–")
_SOMETHING = re.compile(r"\S")
_CODE_NAME = re.compile(r"[a-z]{1,3}[A-Z0-9]")
"""``pH``, ``mRNA``: a sentence may begin so, although in lower case."""
_LOST_SPACE = re.compile(r"[a-z)\]]{2}$")
_ENUMERATION = re.compile(r"(?:^|\s)(?:\d{1,2}|[ivxIVX]{1,4}|[a-zA-Z])$")


@dataclass(frozen=True)
class Sentence:
    """One sentence: its text as it stands, and its character offsets ``[start, end)`` in the whole text."""

    text: str
    start: int
    end: int


def split(text: str) -> list[Sentence]:
    """The sentences of a text in order; white space between them belongs to none. Time grows with the text's length."""
    math = _formulas(text)
    sentences: list[Sentence] = []
    start = formula = 0
    for match in _END.finditer(text):
        at = match.start()
        while formula < len(math) and math[formula][1] - 1 <= at:
            formula += 1
        if at < start or (formula < len(math) and math[formula][0] < at):
            continue
        if match[0].isspace():
            end = at
        elif _ends_sentence(text, start, match):
            end = match.end()
        else:
            continue
        _append(sentences, text, start, end)
        start = end
    _append(sentences, text, start, len(text))
    return sentences


def locate(text: str, parts: Sequence[str]) -> list[Sentence] | None:
    """Spans of given sentences, in order, in a text; None when one of them does not stand there."""
    found: list[Sentence] = []
    position = 0
    for part in parts:
        start = text.find(part, position)
        if start < 0 or not part.strip():
            return None
        position = start + len(part)
        found.append(Sentence(part, start, position))
    return found


def _formulas(text: str) -> list[tuple[int, int]]:
    """The spans of formulas in LaTeX, from dollar to dollar or bracket to bracket."""
    spans: list[tuple[int, int]] = []
    unclosed: set[str] = set()  # no closing one follows, so nobody looks for it again
    at = 0
    while opening := _OPENING.search(text, at):
        mark, start, end = opening[0], opening.start(), -1
        if mark == "$":
            inline = _INLINE.match(text, start)
            end = inline.end() if inline else -1
        elif mark not in unclosed:
            closing = text.find(_CLOSING[mark], opening.end())
            end = closing + 2 if closing >= 0 else -1
            if closing < 0:
                unclosed.add(mark)
        if end < 0:
            at = start + 1
        else:
            spans.append((start, end))
            at = end
    return spans


def _append(sentences: list[Sentence], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    lead = len(piece) - len(piece.lstrip())
    stripped = piece.strip()
    if stripped:
        sentences.append(Sentence(stripped, start + lead, start + lead + len(stripped)))


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether the punctuation of ``match`` ends the sentence that began at ``start``."""
    mark, at, end = match[0], match.start(), match.end()
    if mark[0] in "。！？":  # no space and no capital follows in Chinese and Japanese
        return True
    something = _SOMETHING.search(text, end)
    if something is None:
        return True
    following, after = something[0], something.start()
    if text[end] not in " \t\r\n":
        # "end.Next" is a lost space only between words: never in "U.S.A", "GPT-4.Turbo" or "v1.(2)"
        lost = _LOST_SPACE.search(text[max(start, at - 3) : at])
        return len(mark) == 1 and bool(lost) and bool(_STARTER.match(text, after))
    if mark[0] != ".":
        return not following.islower()
    if following.islower() and not _CODE_NAME.match(text, after):
        return False
    if following in ",;:)":
        return False
    word = _word_before(text, start, at)
    if not word:
        return True
    token = word.lower().rstrip(".")
    if token in _ABBREVIATIONS:
        return token in _MAYBE_FINAL and bool(_STARTER.match(text, after))
    if re.fullmatch(r"[A-Z]", word):  # an initial, or a variable that ends a sentence
        return bool(_STARTER.match(text, after))
    before = text[start:at]
    return not (len(before.strip()) <= 3 and _ENUMERATION.search(before))


def _word_before(text: str, start: int, end: int) -> str:
    """The word that ends at ``end``, or at a line break just before it; "" for none."""
    end -= text[end - 1 : end] == "\n" and end > start
    first = end
    while first > start and not text[first - 1].isspace() and text[first - 1] not in _BEFORE_A_WORD:
        first -= 1
    return text[first:end]
