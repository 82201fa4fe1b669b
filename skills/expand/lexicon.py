"""A lexicon of search terms: for a word or phrase of a query its long forms, and what good documents on it say.

Written for this project from general knowledge, without sight of an evaluation set (``lexicon/*.txt``, MIT). A line is
``headword[, other form …]: term; term; …``, the best term first; lines that begin with # are comments. The longest phrase
of a query that is a headword counts, whatever its case, plural or -ing.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import zip_longest
from pathlib import Path

from harness.errors import InputError
from skills.expand.expansion import parse_lex
from skills.expand.words import STOP_WORDS, singular, words

FOLDER = Path(__file__).parent / "lexicon"
OF_A_WORD = 3
"""Terms that a headword of one word gives: its later ones suit a whole query seldom (in the training rows' answers there
are 5% of them against 13% of the first three; of a phrase 6% against 10%)."""
_VOWEL = re.compile("[aeiouy]")
_SHORTEST = 3
"""Letters that must be left where an -ing is cut off."""

Key = tuple[str, ...]
"""The folded words of a phrase."""


@dataclass(frozen=True)
class Entry:
    """What is known of a headword."""

    forms: tuple[str, ...]
    """All names of it, itself among them."""
    terms: tuple[str, ...]

    def found(self, said: Container[str]) -> list[str]:
        """Another name that shares no word with what is said (``RAG`` written out), the terms, more such names."""
        names = [form for form in self.forms if not any(word in said for word in folded(form))]
        return [*names[:1], *self.terms, *names[1:]]


@dataclass(frozen=True)
class Lexicon:
    """Entries by headword."""

    entries: Mapping[Key, Entry]
    digest: str = ""

    @cached_property
    def longest(self) -> int:
        """Words of the longest headword."""
        return max(map(len, self.entries), default=0)

    def related(self, query: str, intent: str = "") -> list[str]:
        """The terms of the headwords in a query and in what is said of its intent, best first, each once.

        What several headwords name comes before the rest, of which the best term of each headword comes first, that of
        the longest before the others. No term that says only what the query says, none with a word that it excludes.

        >>> entry = Entry(("RAG", "retrieval-augmented generation"), ("embeddings", "rag scores"))
        >>> Lexicon({("rag",): entry}).related("RAG for papers")
        ['retrieval-augmented generation', 'embeddings', 'rag scores']
        """
        asked = parse_lex(query)
        texts = [" ".join(asked.words), *asked.phrases, intent]
        heads = dict.fromkeys(head for text in texts for head in self._heads(folded(text)))
        said, unwanted = set(folded(query)), {word for text in asked.excluded for word in folded(text)}
        ranked = sorted(heads, key=lambda head: -len(head))
        lists = [self.entries[head].found(said)[: None if len(head) > 1 else OF_A_WORD] for head in ranked]
        votes = Counter(term for row in zip_longest(*lists) for term in row if term)
        found = [term for term in votes if not said.issuperset(key := folded(term)) and unwanted.isdisjoint(key)]
        return sorted(found, key=lambda term: -votes[term])

    def _heads(self, text: Key) -> Iterator[Key]:
        """The headwords of a text from left to right; where several begin at a word, the longest."""
        start = 0
        while start < len(text):
            lengths = range(min(self.longest, len(text) - start), 0, -1)
            head = next(
                (text[start : start + length] for length in lengths if text[start : start + length] in self.entries), ()
            )
            if head:
                yield head
            start += len(head) or 1


def folded(text: str) -> Key:
    """The words of a text as headwords are compared.

    >>> folded("Cached queries, caching a bus"), folded("string-running C++")
    (('cached', 'query', 'cach', 'a', 'bus'), ('string', 'run', 'c++'))
    """
    return tuple(map(_fold, words(text)))


@lru_cache(maxsize=1 << 14)
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


def parse(text: str, name: str) -> Iterator[tuple[Key, Entry]]:
    """The entries of a file, each under all of its forms. Raises InputError naming file and line for what is none."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        before, _, after = line.partition(": ")
        forms, terms = (tuple(one.strip() for one in part if one.strip()) for part in (before.split(","), after.split(";")))
        keys = [key for form in forms if (key := folded(form)) and (len(key) > 1 or key[0] not in STOP_WORDS)]
        if not terms or not keys:
            raise InputError(f"{name}:{number}: no entry of a lexicon", "needed: headword[, other form]: term; term")
        yield from ((key, Entry(forms, terms)) for key in keys)


@lru_cache(maxsize=1)
def load(folder: Path = FOLDER) -> Lexicon:
    """All files of a folder; what several say of a headword is joined. Raises InputError for a line that is no entry."""
    entries: dict[Key, Entry] = {}
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.txt")):
        raw = path.read_bytes()
        digest.update(raw)
        for key, entry in parse(raw.decode("utf-8"), path.name):
            known = entries.get(key)
            entries[key] = _joined(known, entry) if known else entry
    return Lexicon(entries, digest.hexdigest())


def _joined(one: Entry, other: Entry) -> Entry:
    if one is other:
        return one
    return Entry(tuple(dict.fromkeys(one.forms + other.forms)), tuple(dict.fromkeys(one.terms + other.terms)))
