"""A lexicon of search terms: for a word or phrase of a query its long forms, and what good documents on it say.

Written for this project from general knowledge, without sight of an evaluation set (``lexicon/*.txt``, MIT). A file is of
the field that its name has before a hyphen. A line is ``headword[, other form …] [| headword …]: term; term; …``, the best
term first; lines that begin with # are comments. What a comma joins are names of one thing; a | joins things that have
terms in common and are not each other. A ~ before a word says that it means other things as well: it counts only where
another word of the query is of its field (after Lesk 1986).

The longest phrase of a query that is a headword counts, whatever its case, plural or -ing. A single word counts in its
singular and plural alone: ``setting``, ``fasting`` and ``core`` are not ``set``, ``fast`` and ``cors``.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import zip_longest
from pathlib import Path

from harness.errors import InputError
from skills.expand.expansion import parse_lex
from skills.expand.words import NEUTRAL, STOP_WORDS, singular, words

FOLDER = Path(__file__).parent / "lexicon"
FEW = 3
"""Terms that a headword gives which is a single word or less than half of the query: later ones seldom suit all of it."""
FIELDS = 2
"""Fields in whose headwords a word stands at most that says which is meant: ``make`` and ``best`` stand in most."""
_VOWEL = re.compile("[aeiouy]")
_SHORTEST = 3
"""Letters that must be left where an -ing is cut off."""
_SCIENCE = "ics"
"""The end of words that are a headword of their own where there is one: ``logistics`` is no plural of ``logistic``."""
_MARK = "~"

Key = tuple[str, ...]
"""The folded words of a phrase; of a headword of one word its singular."""
Words = frozenset[str]


@dataclass(frozen=True)
class Entry:
    """What is known of a headword."""

    forms: tuple[str, ...]
    """All names of it, itself among them."""
    terms: tuple[str, ...]
    field: Words | None = None
    """Folded words that say its field: the query must have one of them, or of its own words, beside it. None where the
    headword says enough."""

    def means(self, others: Words) -> bool:
        """Whether it is what is meant beside these words."""
        if self.field is None or not self.field.isdisjoint(others):
            return True
        return any(word in others for text in (*self.forms, *self.terms) for word in folded(text))

    def found(self, said: Container[str]) -> list[str]:
        """Another name that shares no word with what is said (``RAG`` written out), the terms, more such names."""
        names = [form for form in self.forms if not any(word in said for word in folded(form))]
        return [*names[:1], *self.terms, *names[1:]]


@dataclass(frozen=True)
class Lexicon:
    """Entries by headword."""

    entries: Mapping[Key, Sequence[Entry]]
    """Several where a word is one of several fields."""
    digest: str = ""

    @cached_property
    def longest(self) -> int:
        """Words of the longest headword."""
        return max(map(len, self.entries), default=0)

    @cached_property
    def words(self) -> Words:
        """Every word of it, singular."""
        texts = {text for found in self.entries.values() for entry in found for text in (*entry.forms, *entry.terms)}
        return frozenset(singular(word) for text in texts for word in words(text))

    def related(self, query: str, intent: str = "") -> list[str]:
        """The terms of the headwords in a query and in what is said of its intent, best first, each once.

        What several headwords name comes before the rest, of which the best term of each headword comes first, that of
        the longest before the others. No term that says only what the query says, none with a word that it excludes.

        >>> entry = Entry(("RAG", "retrieval-augmented generation"), ("embeddings", "rag scores"))
        >>> Lexicon({("rag",): [entry]}).related("RAG for papers")
        ['retrieval-augmented generation', 'embeddings', 'rag scores']
        """
        asked = parse_lex(query)
        texts = [" ".join(asked.words), *asked.phrases, intent]
        heads = dict.fromkeys(head for text in texts for head in self._heads(words(text)))
        said, unwanted = set(folded(query)), {word for text in asked.excluded for word in folded(text)}
        context = frozenset(folded(" ".join(texts)))
        ranked = sorted(heads, key=lambda head: -len(head))
        lists = [self._found(head, said, context) for head in ranked]
        votes = Counter(term for row in zip_longest(*lists) for term in row if term)
        found = [term for term in votes if not said.issuperset(key := folded(term)) and unwanted.isdisjoint(key)]
        return sorted(found, key=lambda term: -votes[term])

    def _found(self, head: Key, said: Container[str], context: Words) -> list[str]:
        """What a headword brings in its context."""
        others = context.difference(head, map(_fold, head))
        entries = [entry for entry in self.entries[head] if entry.means(others - STOP_WORDS)]
        found = dict.fromkeys(term for entry in entries for term in entry.found(said))
        is_part = 2 * len(context - others) < len(context - STOP_WORDS - _neutral())
        return list(found)[: FEW if is_part or len(head) == 1 else None]

    def _heads(self, text: Sequence[str]) -> Iterator[Key]:
        """The headwords of a text from left to right; where several begin at a word, the longest."""
        start = 0
        while start < len(text):
            lengths = range(min(self.longest, len(text) - start), 0, -1)
            keys = (key for length in lengths for key in keys_of(text[start : start + length]))
            head = next((key for key in keys if key in self.entries), ())
            if head:
                yield head
            start += len(head) or 1


def keys_of(phrase: Sequence[str]) -> Sequence[Key]:
    """What the words of a phrase, as ``words`` gives them, are looked up as, the first also what a headword lies under.

    >>> keys_of(["settings"]), keys_of(["mechanics"]), keys_of(["caching", "queries"])
    ([('setting',)], [('mechanics',), ('mechanic',)], [('cach', 'query')])
    """
    if len(phrase) > 1:
        return [tuple(map(_fold, phrase))]
    word = phrase[0]
    return [(word,), (singular(word),)] if word.endswith(_SCIENCE) else [(singular(word),)]


@lru_cache(maxsize=1)
def _neutral() -> Words:
    return frozenset(map(_fold, NEUTRAL))


def folded(text: str) -> Key:
    """The words of a text as headwords are compared.

    >>> folded("Cached queries, caching a bus"), folded("string-running C++")
    (('cached', 'query', 'cach', 'a', 'bus'), ('string', 'run', 'c++'))
    """
    return tuple(map(_fold, words(text)))


@lru_cache(maxsize=1 << 16)
def _fold(word: str) -> str:
    """A word without the ending of a plural, -ing or a last e; not where a stop word would be left (``canning``)."""
    stem = _stem(singular(word))
    return word if stem in STOP_WORDS else stem


def _stem(word: str) -> str:
    """Without -ing, the consonant that it has doubled single again, or without a last e."""
    stem = word.removesuffix("ing")
    if stem == word or len(stem) < _SHORTEST or not _VOWEL.search(stem):
        return word.removesuffix("e") if len(word) > _SHORTEST else word
    doubled = stem[-1] == stem[-2] and stem[-1] not in "aeiouylsz"
    return stem[:-1] if doubled else stem.removesuffix("e")


def parse(text: str, name: str) -> Iterator[tuple[str, Entry]]:
    """The entries of a file with each of their headwords, marks and all, in its order.

    Raises InputError naming file and line for what is none.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        before, _, after = line.partition(": ")
        terms = _parts(after, ";")
        groups = [_parts(group, ",") for group in before.split("|")]
        heads = [(form, group) for group in groups for form in group if not STOP_WORDS.issuperset(words(form))]
        if not terms or not heads:
            raise InputError(f"{name}:{number}: no entry of a lexicon", "needed: headword[, other form]: term; term")
        yield from ((form, Entry(tuple(one.lstrip(_MARK) for one in group), terms)) for form, group in heads)


def _parts(text: str, mark: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(mark) if part.strip())


def lexicon_of(fields: Sequence[Iterable[tuple[str, Entry]]], digest: str = "") -> Lexicon:
    """The lexicon of some fields: what several say of a headword stands side by side."""
    parsed = [[(head, words(head), entry) for head, entry in field] for field in fields]
    said = [{_fold(word) for _, parts, _ in field for word in parts} for field in parsed]
    spread = Counter(word for field in said for word in field)
    entries: dict[Key, list[Entry]] = {}
    for field, own in zip(parsed, said, strict=True):
        telling = frozenset(word for word in own if spread[word] <= FIELDS) - STOP_WORDS
        for head, parts, entry in field:
            known = entries.setdefault(keys_of(parts)[0], [])
            one = replace(entry, field=telling) if head.startswith(_MARK) else entry
            if one not in known:
                known.append(one)
    return Lexicon(entries, digest)


@lru_cache(maxsize=1)
def load(folder: Path = FOLDER) -> Lexicon:
    """All files of a folder. Raises InputError for a line that is no entry."""
    raw = {path.name: path.read_bytes() for path in sorted(folder.glob("*.txt"))}
    digest = hashlib.sha256(b"".join(raw.values())).hexdigest()
    fields: dict[str, list[tuple[str, Entry]]] = {}
    for name, text in raw.items():
        fields.setdefault(field_of(name), []).extend(parse(text.decode("utf-8"), name))
    return lexicon_of(list(fields.values()), digest)


def field_of(name: str) -> str:
    """The field of a file.

    >>> field_of("ml.txt"), field_of("ml-vision.txt")
    ('ml', 'ml')
    """
    return name.removesuffix(".txt").partition("-")[0]
