"""Find papers of a training corpus that also stand in an evaluation set.

A paper leaks when it has the same identifier (arXiv versions are one paper), the same title, or an abstract that shares
most of its word 8-grams with the evaluation abstracts (the criterion of GPT-3, Brown et al. 2020, appendix C, with a
smaller n because abstracts are short), or that holds most of those of one of them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

NGRAM = 8
SHARE = 0.5
LEAST = 10
"""A text holds an evaluation abstract when it shares at least so many n-grams with it: a set phrase has fewer."""
_PREFIX = re.compile(r"^(?:arxiv:|https?://(?:www\.|export\.)?arxiv\.org/(?:abs|pdf)/)")
_SUFFIX = re.compile(r"(?:v\d+)?(?:\.pdf)?$")
_WORD = re.compile(r"[a-z0-9]+")


def words(text: str) -> list[str]:
    """The lower-case words of a text; markup, punctuation and line breaks do not count."""
    return _WORD.findall(text.lower())


def ngrams(text: str, n: int = NGRAM) -> set[tuple[str, ...]]:
    """All word n-grams of a text; a text shorter than n words is one gram."""
    tokens = words(text)
    if len(tokens) <= n:
        return {tuple(tokens)} if tokens else set()
    return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def paper_key(identifier: str) -> str:
    """An identifier without the address and the version that arXiv ids come with, so that all versions are one paper."""
    return _SUFFIX.sub("", _PREFIX.sub("", identifier.strip().lower()), count=1)


class LeakCheck:
    """Knows the papers of the evaluation sets and says why a training paper must go.

    Rows need ``abstract``; ``arxiv_id`` (or ``id``) and ``title`` are used where present.
    """

    def __init__(self, evaluation: Iterable[Mapping[str, Any]]) -> None:
        self.keys: set[str] = set()
        self.titles: set[str] = set()
        self.owners: dict[tuple[str, ...], list[int]] = defaultdict(list)
        """The evaluation abstracts, by number, that have an n-gram."""
        self.sizes: list[int] = []
        """How many n-grams each of them has."""
        for row in evaluation:
            if key := paper_key(str(row.get("arxiv_id") or row.get("id") or "")):
                self.keys.add(key)
            if title := " ".join(words(str(row.get("title") or ""))):
                self.titles.add(title)
            grams = ngrams(str(row.get("abstract") or ""))
            for gram in grams:
                self.owners[gram].append(len(self.sizes))
            self.sizes.append(len(grams))

    def reason(self, row: Mapping[str, Any]) -> str | None:
        """Why this training row leaks (``id``, ``title`` or ``text``), or None when it does not."""
        if paper_key(str(row.get("arxiv_id") or row.get("id") or "")) in self.keys:
            return "id"
        if " ".join(words(str(row.get("title") or ""))) in self.titles:
            return "title"
        grams = ngrams(str(row.get("abstract") or ""))
        shared = [gram for gram in grams if gram in self.owners]
        if shared and (len(shared) / len(grams) >= SHARE or self._holds_one(shared)):
            return "text"
        return None

    def _holds_one(self, shared: Iterable[tuple[str, ...]]) -> bool:
        """Whether these n-grams are most of an evaluation abstract, which may stand in a longer text."""
        counts = Counter(owner for gram in shared for owner in self.owners[gram])
        return any(count >= LEAST and count / self.sizes[owner] >= SHARE for owner, count in counts.items())
