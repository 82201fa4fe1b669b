"""A model, data set or system that the abstract does not name.

A name is a word with a shape: capitals inside, capitals with digits, or a capital where no sentence begins. It is
known where it stands in abstract or title in any case, plural or hyphenation, or abbreviates words that stand there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from curation.annotation import Annotation
from curation.checks.finding import Finding
from curation.lexicon import COMMON_NAMES
from curation.text import plain, spelt, stem, values

NAME = "invented-name"
_SHAPED = re.compile(r"(?<![\w$\\{])(?=[\w.]*[^\W\d_])\w[\w.+]*(?:-\w[\w.+]*)*(?![\w}])")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)[KMBTGkmbtgx]+")
"""``7B``, ``64k``: the abstract may spell it out."""
_WORD = re.compile(r"[^\W_]+")


def check(annotation: Annotation) -> Iterator[Finding]:
    """One finding for each cell that names such a thing."""
    source = f"{plain(annotation.title)} {annotation.source}"
    numbers = values(source) | spelt(source) | {float(quantity[1]) for quantity in _QUANTITY.finditer(source)}
    known = _known(source) | {f"{value:g}" for value in numbers}
    initials = _initials(source)
    for cell in annotation.cells:
        missing: dict[str, None] = {}
        for part in cell.parts:
            if not part.verbatim:
                missing |= dict.fromkeys(name for name in names(part.text) if not _stands(name, known, initials))
        if missing:
            yield Finding(NAME, cell.move, f"the abstract does not name {', '.join(list(missing)[:3])}")


def names(text: str) -> list[str]:
    """The words of a sentence that look like names."""
    found = []
    for match in _SHAPED.finditer(text):
        word = match[0].rstrip(".+")
        opens = not text[: match.start()].strip(" \"'([*-") or re.search(r"[.!?:;]\s+[\"'(]*$", text[: match.start()])
        inner = any(character.isupper() for character in word[1:].replace("-", ""))
        pieces = word.split("-")
        capitals = [piece for piece in pieces if piece[:1].isupper()]
        digits = any(c.isdigit() for c in word) and any(c.isupper() for c in word)
        if (inner and not _title_case(pieces)) or digits or (capitals and not opens):
            found.append(word)
    return found


def _title_case(pieces: list[str]) -> bool:
    """``Multi-Agent``: capitals at the parts' starts only."""
    return all(piece[1:].islower() or len(piece) < 2 for piece in pieces)


def _known(source: str) -> frozenset[str]:
    return frozenset(form for word in _WORD.findall(source) for form in _forms(word))


def _forms(word: str) -> set[str]:
    low = word.casefold()
    return {low, stem(low), low.rstrip("s")}


def _initials(source: str) -> str:
    """The first letters of all words in order, in which an abbreviation of some of them stands."""
    return "".join(word[0] for word in re.findall(r"[^\W\d_]+", source.casefold()))


def _stands(name: str, known: frozenset[str], initials: str) -> bool:
    if quantity := _QUANTITY.fullmatch(name):
        return f"{float(quantity[1]):g}" in known or name.casefold() in known
    pieces = [piece for piece in _WORD.findall(name) if not piece.isdigit()]
    if not pieces or name.casefold() in COMMON_NAMES:
        return True
    if _forms(name.replace("-", "")) & known or _forms(re.sub(r"[^\w]", "", name)) & known:
        return True
    short = name.rstrip("s").casefold()
    if name.rstrip("s").isupper() and len(short) >= 3 and short in initials:
        return True
    return all(_forms(piece) & known or piece.casefold() in COMMON_NAMES or piece.islower() for piece in pieces)
