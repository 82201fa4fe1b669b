"""Text that was cut off, and leftovers of markup, prompts and chat."""

from __future__ import annotations

import re
from collections.abc import Iterator

from curation.annotation import Annotation, Cell
from curation.checks.finding import Finding
from curation.lexicon import OPEN_ENDS
from curation.text import plain, stem, stems, tokens

TRUNCATED = "truncated"
DEBRIS = "markup-debris"
_MARKS = re.compile(
    r"```|<\|[^|]*\|?>?|</?(?:annotation|think|json|p|b|i|br|div|span|s|sup|sub|move|claim)\b[^>]*>|&(?:nbsp|amp|lt|gt|quot|#\d+);"
    r"|\*\*|__\w|^#{1,6}\s|\{\s*[\"']|[\"']\s*[}\]]|\\n|\\u[0-9a-f]{4}|\[/?(?:INST|SYS)|\(cid:\d+\)|�",
    re.IGNORECASE,
)
_CHAT = re.compile(
    r"^(?:sure[,!]|certainly[,!]|of course[,!]|here (?:is|are) (?:the|a|an|your)\b.*:|i'm sorry)"
    r"|\bas an ai (?:language )?model\b|\blet me know if\b"
    r"|\bnot (?:stated|mentioned|specified|provided) in the (?:abstract|text)\b",
    re.IGNORECASE,
)
CLOSE = 0.8
"""Share of a part's content stems in the sentence it follows."""
CUSTOM = 0.75
"""Share of the other cells that must end like sentences before one that does not is odd."""
TAIL = 3
"""Stems at its end that must stand there in this order, and at least so many must follow."""
_END = re.compile(r"[.!?…。！？][\"'”’)\]}$]*$")


def check_debris(annotation: Annotation) -> Iterator[Finding]:
    """One finding for each cell with marks that the abstract does not have, or with words to a chat partner."""
    for cell in annotation.cells:
        marks = [mark[0] for mark in _MARKS.finditer(cell.text) if mark[0] not in annotation.abstract]
        if marks:
            yield Finding(DEBRIS, cell.move, f"has leftovers of markup ({marks[0].strip()})")
        elif not cell.verbatim and _CHAT.search(cell.text.strip()):
            yield Finding(DEBRIS, cell.move, "speaks to the reader of a chat")


def check_truncated(annotation: Annotation) -> Iterator[Finding]:
    """One finding for each cell that stops before its sentence does."""
    ended = sum(bool(_END.search(cell.text.strip())) for cell in annotation.cells)
    custom = ended >= CUSTOM * (len(annotation.cells) - 1)
    known = frozenset(tokens(f"{annotation.title} {annotation.source}"))
    for cell in annotation.cells:
        if reason := _cut(cell, annotation, known, custom=custom):
            yield Finding(TRUNCATED, cell.move, reason)


def _cut(cell: Cell, annotation: Annotation, known: frozenset[str], *, custom: bool) -> str:
    """Why a cell counts as cut off; empty where it does not. ``custom``: the other cells end like sentences."""
    text = plain(cell.text).rstrip()
    if text.endswith(("...", "…")) and text not in annotation.source:
        return "ends in an ellipsis"
    if _END.search(text) or any(text.endswith(sentence) for sentence in annotation.sentences):
        return ""
    last = re.search(r"([^\W_]+)\W*$", text)
    word = last[1].lower() if last else ""
    if text.endswith((",", "-", ":", ";", "(", "[")) or word in OPEN_ENDS:
        return f"stops at '{text[-20:].strip()}'"
    if word.isalpha() and _is_stump(word, known):
        return f"stops inside a word ('{word}')"
    if custom and (text in annotation.source or _goes_on(cell, annotation)):
        return "stops in the middle of a sentence of the abstract"
    return ""


def _goes_on(cell: Cell, annotation: Annotation) -> bool:
    """Whether the cell follows a sentence of the abstract closely and leaves it while it goes on."""
    part = cell.parts[-1] if cell.parts else None
    if part is None or part.sentence is None or part.coverage < CLOSE:
        return False
    given, tail = stems(annotation.sentences[part.sentence - 1]), stems(part.text)[-TAIL:]
    ends = [i + TAIL for i in range(len(given) - TAIL + 1) if given[i : i + TAIL] == tail]
    return bool(ends) and ends[-1] + TAIL <= len(given)


def _is_stump(word: str, known: frozenset[str]) -> bool:
    """Whether the abstract has only longer words that begin so, beyond mere inflection."""
    if word in known or word in ("a", "i"):
        return False
    longer = [other for other in known if other.startswith(word)]
    return bool(longer) and all(stem(other) != stem(word) for other in longer)
