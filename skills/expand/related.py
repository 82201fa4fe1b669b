"""Terms that go with the words of a query in a corpus: an association thesaurus (Jing and Croft 1994), read from a file.

A model of a few million parameters writes well about what a query says and knows little of what it does not say. Which
terms keep company with a word is plain counting, so it lies in a table beside the model, counted once over abstracts
(``finetune/expand_terms.py``), and gives up to two ``lex`` lines: the query's keywords with the terms that go with them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from harness.errors import InputError
from skills.expand.choice import LITTLE
from skills.expand.expansion import LONGEST, MOST, Line
from skills.expand.filters import Filtered
from skills.expand.prompt import Query
from skills.expand.words import content_words, keywords, kin, singular, words

LINES = 3
"""Lines at most of terms."""
TERMS = 3
"""Terms of such a line, so many words of them at most, and so many keywords before those of the second."""
TERM_WORDS, KEYWORDS = 6, 4
VOTES = 2
"""Words of a query that a term must go with, where it has so many. In the answers of the training rows there are 2% of the
terms that go with the only known word of several."""


@dataclass(frozen=True)
class Related:
    """The table."""

    terms: tuple[str, ...]
    weights: Mapping[str, Sequence[tuple[int, int]]]
    """For a key (``singular`` of a word) places of terms and how strongly they go with it, strongest first, 1 to 99."""
    digest: str = ""
    words: frozenset[str] = frozenset()
    """Every word of its corpus that several papers have, singular; empty where the file does not say."""

    def of(self, query: str, most: int) -> list[str]:
        """The terms that go best with a query; none that says only what the query says, or what a better one says.

        In a query of several words a term must go with two of them: a leak of memory is none of gas.
        """
        own = {singular(word) for word in content_words(query)}
        known = [key for key in sorted(own) if key in self.weights]
        scores: Counter[int] = Counter()
        votes: Counter[int] = Counter()
        for key in known:
            for place, weight in self.weights[key]:
                scores[place] += weight
                votes[place] += 1
        found: list[str] = []
        said = set(own)
        for place in sorted(scores, key=lambda one: (-scores[one], -len(self.terms[one].split()), one)):
            parts = {singular(word) for word in words(self.terms[place])}
            if votes[place] >= min(VOTES, len(own)) and not any(kin(part, word) for part in parts for word in said):
                found.append(self.terms[place])
                said |= parts
            if len(found) == most:
                break
        return found


@lru_cache(maxsize=2)
def read(path: Path) -> Related:
    """The table of a file. Raises InputError where it is none."""
    try:
        raw = path.read_bytes()
        data = json.loads(gzip.decompress(raw))
        terms = tuple(str(term) for term in data["terms"])
        weights = {str(key): [(int(a), int(b)) for a, b in pairs] for key, pairs in data["keys"].items()}
        if any(not 0 <= place < len(terms) for pairs in weights.values() for place, _ in pairs):
            raise ValueError
        known = frozenset(map(str, data.get("words", ())))
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: no table of related terms", "make it with: python -m finetune.expand_terms") from None
    return Related(terms, weights, hashlib.sha256(raw).hexdigest(), known)


def related_lines(query: Query, draft: Filtered, terms: Iterable[str]) -> list[Line]:
    """Lex lines of the query's keywords and of ``terms``, best first, that no line has yet.

    The first holds all keywords, so that none is lost, the second the names and a few. None where the type is not wanted,
    where there is no room, or no term.
    """
    lexical = [line for line in draft.lines if line.type == "lex"]
    room = min(LINES, MOST["lex"] - len(lexical))
    if "lex" not in query.types or room < 1:
        return []
    text = " ".join(line.text for line in lexical).casefold()
    found = [term for term in dict.fromkeys(terms) if term.casefold() not in text]
    names = list(draft.entities)
    head = keywords(query.text, names).split()
    lines: list[Line] = []
    half = -(-len(found) // 2)
    short = any(len(" ".join(some)) < LITTLE for some in (found[:half], found[half:]))
    most = TERMS if lexical or short or len(found) > TERMS else half  # two lines find more than one that is not short
    while found and len(lines) < room:
        some: list[str] = []
        while found and len(some) < most and len(" ".join([*some, found[0]]).split()) <= TERM_WORDS:
            some.append(found.pop(0))
        lines.append(Line("lex", " ".join([*head, *some])))
        head = [*names, *(word for word in head if word not in names)][: max(KEYWORDS, len(names))]
    return [line for line in lines if len(line.text) < LONGEST["lex"]]
