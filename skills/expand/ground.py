"""What the lines of a small model must stand on: pure functions that tell sense from nonsense by where the words come from.

A model of a few million parameters writes well-formed lines about what it has read, not about what was asked, and now and
then words that there are not. So its lines count where their words are those of the query, or of the terms that the
lexicon and the table found for it; with terms at hand a line of the terms themselves takes the place of one that does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from skills.expand.expansion import LONGEST, Line, parse_lex
from skills.expand.prompt import Query
from skills.expand.words import NEUTRAL, content_words, kin, singular, words

GROUNDED = {"hyde": 0.5, "lex": 1.0, "vec": 0.75}
"""Share of a line's content words that must be of the query or of its terms, where there are terms."""
UNHELPED = {"hyde": 0.25, "lex": 0.5, "vec": 0.75}
"""The same where nothing is known of the query's words, and all that can be said is the model's."""
SHORTEST = 3
"""Letters from which something is a word that one can know."""
OFTEN = 3
"""A content word that one line says so often shows a loop."""
LISTED, PASSAGE = 3, 6
"""Terms that a composed line names, and a passage."""


@dataclass(frozen=True)
class Ground:
    """What is known of a query."""

    query: Query
    terms: tuple[str, ...] = ()
    """Of the lexicon and the table, best first."""
    words: frozenset[str] = frozenset()
    """Every word that there is, singular; empty where that is not known."""

    @cached_property
    def own(self) -> frozenset[str]:
        """The content words of the query and of its intent."""
        return frozenset(content_words(f"{self.query.text} {self.query.intent}"))

    @cached_property
    def _asked(self) -> frozenset[str]:
        return frozenset(map(singular, self.own))

    @cached_property
    def _near(self) -> frozenset[str]:
        return frozenset(singular(word) for text in (*self.terms, *self.own) for word in words(text))

    def fault(self, line: Line) -> str:
        """Why a line is not worth keeping, one of ``REASONS`` of ``filters.py``; empty where nothing is wrong with it."""
        said = content_words(sought(line))
        if any(times >= self._too_often(word, line) for word, times in Counter(said).items()):
            return "loop"
        if self.words and any(not self._is_word(word) for word in said):
            return "word"
        telling = [word for word in said if line.type == "lex" or word not in NEUTRAL]
        if self.terms and line.type == "vec" and all(singular(word) in self._asked for word in telling):
            return "echo"
        least = (GROUNDED if self.terms else UNHELPED)[line.type]
        return "drift" if sum(map(self._is_near, telling)) < least * len(telling) else ""

    def _too_often(self, word: str, line: Line) -> int:
        """From how often on a word shows a loop; a question says it no more often than the query does."""
        return OFTEN if line.type != "vec" else max(2, content_words(self.query.text).count(word) + 1)

    def _is_word(self, word: str) -> bool:
        short = not word.isalpha() or len(word) < SHORTEST
        return short or singular(word) in self.words or singular(word) in self._near

    def _is_near(self, word: str) -> bool:
        return singular(word) in self._near or any(kin(word, other) for other in self.own)


def sought(line: Line) -> str:
    """What a line searches for: of a lex line, all but what it excludes."""
    if line.type != "lex":
        return line.text
    parts = parse_lex(line.text)
    return " ".join((*parts.words, *parts.phrases))


def asked_only(query: Query, lines: Iterable[Line]) -> list[Line]:
    """Lex lines without the exclusions that are the model's own: nobody said that these are not wanted.

    >>> asked_only(Query("seal repair -animal"), [Line("lex", 'seal "oil leak" repair -animal -car')])
    [Line(type='lex', text='seal "oil leak" repair -animal')]
    """
    wanted = {term.casefold() for term in parse_lex(query.text).excluded}
    found = []
    for line in lines:
        if line.type == "lex":
            text = line.text
            for term in parse_lex(text).excluded:
                if term.casefold() not in wanted:
                    text = text.replace(f'-"{term}"', "").replace(f"-{term}", "")
            line = Line("lex", " ".join(text.split()))
        if line.text:
            found.append(line)
    return found


def composed(ground: Ground, missing: Sequence[str]) -> list[Line]:
    """A passage and a ``vec`` line of the query and its best terms, of the types that are missing; none without terms."""
    if not ground.terms:
        return []
    asked = parse_lex(ground.query.text)
    said = " ".join((*asked.words, *asked.phrases)).rstrip(" ?!.")
    lines = []
    if "hyde" in missing:
        lines.append(Line("hyde", f"{said[:1].upper()}{said[1:]}: {listed(ground.terms[:PASSAGE])}."))
    if "vec" in missing:
        lines.append(Line("vec", f"{said} including {listed(ground.terms[:LISTED])}"))
        if len(ground.query.types) == 1 and len(ground.terms) > 1:
            lines.append(Line("vec", f"{listed(ground.terms[LISTED : 2 * LISTED] or ground.terms[-1:])} for {said}"))
    return [line for line in lines if len(line.text) < LONGEST[line.type]]


def listed(terms: Sequence[str]) -> str:
    """Terms as a sentence has them.

    >>> listed(["oven"]), listed(["oven", "dough", "yeast"])
    ('oven', 'oven, dough and yeast')
    """
    *some, last = terms
    return f"{', '.join(some)} and {last}" if some else last
