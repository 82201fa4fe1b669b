"""Papers on a topic out of local files: BM25 over title and abstract."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

from harness.readers.paper import Paper

DEFAULT_LIMIT = 25
_K1, _B = 1.2, 0.75
_STOP = frozenset(
    "a about all also an and any are as at be been being best between but by can could do does every find for from get "
    "give have how i in into is it its latest list me more most my new no not of on or our please show some such than "
    "that the their them these this those through to top under up us use used using versus via vs was we what when where "
    "which who why will with within you your".split()
)
_GENERIC = frozenset(
    "advance approach art article current introduction literature method overview paper progress publication recent "
    "research review state study survey technique tutorial work".split()
)
"""Words that say what kind of text is wanted, not what it is about; they count only where there is nothing else."""


def words(text: str) -> list[str]:
    """Words in lower case, a plain plural as its singular."""
    return [_singular(word) for word in re.findall(r"\w+", text.casefold())]


def content_words(topic: str) -> list[str]:
    """What the topic is about: its distinct words without function words and without generic ones.

    >>> content_words("Survey of RAG techniques")
    ['rag']
    """
    kept = [word for word in dict.fromkeys(words(topic)) if word not in _STOP]
    return [word for word in kept if word not in _GENERIC] or kept


def rank(topic: str, papers: Iterable[Paper], limit: int) -> list[Paper]:
    """The ``limit`` papers (0: DEFAULT_LIMIT) that fit the topic best, best first; only such as share a content word.

    ``papers`` is walked once, and only those that match are kept in memory. Rows with an error take no part.
    """
    terms = content_words(topic)
    wanted = set(terms)
    count = length = 0
    seen_in: Counter[str] = Counter()
    matches: list[tuple[Counter[str], int, Paper]] = []
    for paper in papers:
        if paper.error is not None:
            continue
        text = words(f"{paper.title} {paper.abstract}")
        count, length = count + 1, length + len(text)
        hits = Counter(word for word in text if word in wanted)
        if hits:
            seen_in.update(hits.keys())
            matches.append((hits, len(text), paper))
    if not matches:
        return []
    mean = length / count
    rarity = {term: math.log(1 + (count - n + 0.5) / (n + 0.5)) for term, n in seen_in.items()}

    def score(match: tuple[Counter[str], int, Paper]) -> float:
        hits, size, _ = match
        norm = _K1 * (1 - _B + _B * size / mean)
        return sum(rarity[term] * n * (_K1 + 1) / (n + norm) for term, n in hits.items())

    best = sorted(matches, key=score, reverse=True)  # stable: equal scores keep the order of the input
    return [paper for _, _, paper in best[: limit or DEFAULT_LIMIT]]


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
