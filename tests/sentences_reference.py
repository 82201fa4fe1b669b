"""The sentence splitter as it was before it became linear: what ``harness.sentences.split`` must still give."""

from __future__ import annotations

import re

from harness.sentences import Sentence

_ABBREVIATIONS = frozenset(
    (
        "e.g|i.e|eg|ie|cf|vs|viz|al|etc|fig|figs|eq|eqs|sec|secs|ref|refs|tab|no|nos|vol|pp|approx|resp|dr|prof|mr|mrs|ms"
        "|st|inc|ltd|co|corp|dept|univ|esp|incl|w.r.t|a.k.a|aka|ph.d|m.sc|b.sc|u.s|u.k|e.u|a.m|p.m|ca|est|min|max|jr|sr"
    ).split("|")
)
# These may end a sentence too; they only hold one open when what follows does not start like a sentence.
_MAYBE_FINAL = frozenset("al|etc|inc|ltd|co|corp|u.s|u.k|e.u|a.m|p.m|no|jr|sr|st|min|max|est".split("|"))
_END = re.compile(r"[.!?…。！？]+[\"'”’)\]}]*(?=\s|$|[A-Z\[(]|\\)|\n[ \t]*\n+")
_STARTER = re.compile(
    r"(We|Our|The|This|These|Those|In|It|To|For|However|Moreover|Here|By|While|Although|On|At|As|They|Both|"
    r"Experiments?|Results?|Code|Finally|Furthermore|Additionally|A|An|With|From|There|Using|Extensive|"
    r"Unlike|Compared|Despite|Through|Based|Each|Such|Our)\b"
)
_MATH = re.compile(r"\$\$.*?\$\$|\$[^$\n]{1,400}?(?:\n[^$\n]{0,200}?){0,3}\$|\\\(.*?\\\)|\\\[.*?\\\]", re.S)
_WORD_BEFORE = re.compile(r"([^\s(\[{\"'“‘,;:/—–]+)$")
_ENUMERATION = re.compile(r"(?:^|\s)(?:\d{1,2}|[ivxIVX]{1,4}|[a-zA-Z])$")


def split(text: str) -> list[Sentence]:
    """The sentences of a text in order; white space between them belongs to none."""
    math = [match.span() for match in _MATH.finditer(text)]
    sentences: list[Sentence] = []
    start = 0
    for match in _END.finditer(text):
        if match.start() < start or any(a < match.start() < b - 1 for a, b in math):
            continue
        if match[0].isspace():
            end = match.start()
        elif _ends_sentence(text, start, match):
            end = match.end()
        else:
            continue
        _append(sentences, text, start, end)
        start = end
    _append(sentences, text, start, len(text))
    return sentences


def _append(sentences: list[Sentence], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    lead = len(piece) - len(piece.lstrip())
    stripped = piece.strip()
    if stripped:
        sentences.append(Sentence(stripped, start + lead, start + lead + len(stripped)))


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether the punctuation of ``match`` ends the sentence that began at ``start``."""
    mark, after = match[0], text[match.end() :]
    following = after.lstrip()
    if not following:
        return True
    glued = after[0] not in " \t\r\n"
    if glued:  # "end.Next" is a lost space only between words: never in "U.S.A", "GPT-4.Turbo" or "v1.(2)"
        before = text[start : match.start()]
        return len(mark) == 1 and bool(re.search(r"[a-z)\]]{2}$", before)) and bool(_STARTER.match(following))
    if mark[0] != ".":
        return not following[0].islower()
    if following[0].islower() and not re.match(r"[a-z]{1,3}[A-Z0-9]", following):
        return False
    if following[0] in ",;:)":
        return False
    word = _WORD_BEFORE.search(text[start : match.start()])
    if word is None:
        return True
    token = word[1].lower().rstrip(".")
    if token in _ABBREVIATIONS:
        return token in _MAYBE_FINAL and bool(_STARTER.match(following))
    if re.fullmatch(r"[A-Z]", word[1]):  # an initial, or a variable that ends a sentence
        return bool(_STARTER.match(following))
    return not (_ENUMERATION.search(text[start : match.start()]) and len(text[start : match.start()].strip()) <= 3)
