"""What is wrong with an expansion, line by line and as a whole: pure functions; ``clean_data.py`` is their command.

A line is taken out or corrected for the first reason that fits it; an example goes when a type that it needs has no line
left or when no lex line keeps a name of its query.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from finetune.dataset.expansion_schema import Example
from finetune.rewards.qmd_text import Kind
from finetune.rewards.words import content_stems, tokens
from skills.expand.words import holds, named_entities

TERMS = Path(__file__).with_name("technical_terms.toml")
REPEATS = 4
"""So many queries of other stems whose lines are the same but for the query make a template."""
CHARACTERS = {"lex": (3, 75), "vec": (15, 200), "hyde": (50, 450)}
WORDS = {"lex": (1, 10), "vec": (4, 32), "hyde": (10, 90)}
"""Length of a line, from and to. Passages over the 200 characters of QMD's rubric are most of its own gold."""
_DOUBLED = re.compile(r"\b(\w[\w'’-]*)(?:\s+\1\b)+", re.IGNORECASE)
_EXCLUDED = re.compile(r'(?<!\S)-(?:"[^"]*"|\S+)')
_MAY_DOUBLE = frozenset("had that bora walla baden".split())
"""``the book that that city``, ``had had``: rare, right, and not worth a mistake."""

Lines = list[tuple[Kind, str]]


@dataclass
class Cleaned:
    """What became of a data set. Reasons of lines and of examples are counted by name."""

    kept: list[Example] = field(default_factory=list)
    lines: Counter[str] = field(default_factory=Counter)
    """Lines taken out or corrected, by reason."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Examples left out, by reason."""
    seen: Counter[str] = field(default_factory=Counter)
    """Examples by source."""

    @property
    def kept_by_source(self) -> Counter[str]:
        """Examples that remain, by source."""
        return Counter(example.source or "-" for example in self.kept)


def clean(examples: Sequence[Example], *, repeats: int = REPEATS) -> Cleaned:
    """The examples without bad lines, those that are left in their order; the first of several on one query stays."""
    found = Cleaned()
    known = templates(examples, repeats)
    queries: set[str] = set()
    for example in examples:
        found.seen[example.source or "-"] += 1
        if example.full_query.casefold() in queries:
            found.dropped["the query stands before"] += 1
            continue
        lines, reasons = clean_lines(example, known)
        found.lines.update(reasons)
        if why := missing(example, lines):
            found.dropped[why] += 1
            continue
        queries.add(example.full_query.casefold())
        # The suffix says what `only` said.
        changes = {"query": example.full_query, "only": None, "is_short": None, "output": tuple(lines)}
        found.kept.append(Example.model_validate(example.model_dump() | changes))
    return found


def clean_lines(example: Example, known: Mapping[Kind, frozenset[str]]) -> tuple[Lines, list[str]]:
    """The lines worth keeping, corrected, and a reason for each that was taken out or changed."""
    lines: Lines = []
    reasons: list[str] = []
    for kind, text in example.output:
        corrected = undoubled(" ".join(text.split()))
        if corrected != text:
            reasons.append("doubled words or spaces (corrected)")
        if why := _fault(example, kind, text, corrected, lines, known):
            reasons.append(why)
        else:
            lines.append((kind, corrected))
    return lines, reasons


def _fault(
    example: Example, kind: Kind, written: str, text: str, lines: Lines, known: Mapping[Kind, frozenset[str]]
) -> str:
    """Why a line goes; empty where it may stay. Templates are known by their line as written."""
    least, most = CHARACTERS[kind]
    few, many = WORDS[kind]
    if skeleton(example, written) in known[kind]:
        return f"template {kind}"
    if not least <= len(text) <= most or not few <= len(text.split()) <= many:
        return f"wrong length of {kind}"
    if any(own == kind and text.casefold() == other.casefold() for own, other in lines):
        return "the line stands before"
    if kind == "lex" and not set(content_stems(text)) - set(content_stems(example.bare_query)):
        return "lex adds nothing to the query"
    if misread(example.bare_query, text):
        return "misread technical term"
    return ""


def missing(example: Example, lines: Lines) -> str:
    """Why an example goes; empty where it may stay."""
    kinds = {kind for kind, _ in lines}
    needed: Iterable[Kind] = (example.asked,) if example.asked else ("lex", "vec")
    for kind in needed:
        if kind not in kinds:
            return f"no good {kind} line left"
    keepers = [text for kind, text in lines if kind == "lex"] or [text for _, text in lines]
    names = named_entities(example.bare_query, [text for kind, text in example.output if kind != "lex"])
    if any(not any(holds(text, name) for text in keepers) for name in names):
        return "a name of the query is lost"
    return ""


def templates(examples: Iterable[Example], repeats: int = REPEATS) -> dict[Kind, frozenset[str]]:
    """The skeletons that the lines of at least ``repeats`` queries of other stems have in common, by type."""
    stems: dict[tuple[Kind, str], set[str]] = defaultdict(set)
    for example in examples:
        for kind, text in example.output:
            stems[kind, skeleton(example, text)].add(example.stem)
    found: dict[Kind, set[str]] = {"lex": set(), "vec": set(), "hyde": set()}
    for (kind, outline), queries in stems.items():
        if len(queries) >= repeats:
            found[kind].add(outline)
    return {kind: frozenset(outlines) for kind, outlines in found.items()}


def skeleton(example: Example, text: str) -> str:
    """A line with a blank for each run of the query's words.

    >>> skeleton(Example(query="ancient rome", output=(("lex", "x y"),)), "Ancient overview Rome timeline")
    '_ overview _ timeline'
    """
    own = set(tokens(example.bare_query))
    words = ["_" if word in own else word for word in tokens(text)]
    return " ".join(word for number, word in enumerate(words) if word != "_" or number == 0 or words[number - 1] != "_")


def undoubled(text: str) -> str:
    """A text without words said twice in a row.

    >>> undoubled("guide guide to New York york and had had")
    'guide to New York and had had'
    """
    return _DOUBLED.sub(lambda match: match[0] if match[1].lower() in _MAY_DOUBLE else match[1], text)


def misread(query: str, text: str) -> str:
    """The technical term of a query that a line takes in another sense; empty where there is none. ``-words`` are unwanted.

    >>> misread("python memory leak", "ball python snake enclosure"), misread("python care", "ball python snake enclosure")
    ('python', '')
    """
    signs, senses = _terms()
    asked, said = set(tokens(query)), set(tokens(_EXCLUDED.sub(" ", text)))
    for term in sorted(asked & senses.keys()):
        if (asked - {term}) & signs and (said - asked) & senses[term]:
            return term
    return ""


@lru_cache(maxsize=1)
def _terms() -> tuple[frozenset[str], dict[str, frozenset[str]]]:
    """Signs of computing, and words of the other sense by term."""
    table = tomllib.loads(TERMS.read_text(encoding="utf-8"))
    senses = {term: frozenset(words.split()) for term, words in table["other_senses"].items()}
    return frozenset(table["signs"].split()), senses
