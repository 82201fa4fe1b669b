"""What the corpus knows of a paper, from its annotation record and the row of the input it came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.annotation_tables import RECORD_KEYS
from harness.jobs.journal import key_of
from harness.readers import arxiv
from harness.readers.columns import NAMES, fold
from harness.readers.text import writable

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "year": ("year", "published", "publicationyear", "publicationdate", "pubdate", "date", "py", "dp", "updatedate"),
    "categories": (
        *("categories", "category", "primarycategory", "keywords", "keyword", "subjects", "subject", "tags"),
        *("fieldsofstudy", "authorkeywords", "de", "kw"),
    ),
    "authors": ("authors", "author", "au", "creators", "creator", "authornames"),
    "abstract": NAMES["abstract"],
}
"""Folded column names by meaning, the likeliest first."""

_YEAR = re.compile(r"(?<!\d)(?:18|19|20)\d\d(?=\d{4}(?!\d)|(?!\d))")
"""A year, also at the front of a date of eight digits."""
_DOI = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:\s*)?(10\.\d{4,9}/\S+)", re.IGNORECASE)
_ARXIV_CATEGORIES = re.compile(r"[a-z-]+(?:\.[A-Za-z-]+)?(?:\s+[a-z-]+\.[A-Za-z-]+)+")


@dataclass(frozen=True)
class Identity:
    """Which paper it is. ``id`` is without an arXiv version; ``version`` is that version, else 0."""

    id: str
    version: int = 0
    kind: str = ""
    """``arxiv``, ``doi`` or empty for an id that only its own input knows."""
    year: int | None = None
    """The year that an arXiv id tells."""


@dataclass(frozen=True)
class Facts:
    """A paper beside its moves; empty where neither record nor row says."""

    key: str
    """Papers with the same key are the same paper."""
    id: str
    version: int
    title: str
    year: int | None
    categories: tuple[str, ...]
    authors: str
    abstract: str

    def completed_by(self, older: Facts) -> Facts:
        """The same facts, gaps filled from an older entry of the same paper."""
        return replace(
            self,
            version=self.version or older.version,
            title=self.title or older.title,
            year=self.year or older.year,
            categories=self.categories or older.categories,
            authors=self.authors or older.authors,
            abstract=self.abstract or older.abstract,
        )

    def row(self) -> dict[str, str]:
        """The facts as columns of an output."""
        return {
            "id": self.id,
            "title": self.title,
            "authors": self.authors,
            "year": str(self.year or ""),
            "categories": "; ".join(self.categories),
            "abstract": self.abstract,
        }


def identify(text: str) -> Identity:
    """What an id says: arXiv ids and DOIs are recognised in all their spellings.

    >>> identify("https://arxiv.org/abs/2402.11651v2")
    Identity(id='2402.11651', version=2, kind='arxiv', year=2024)
    """
    text = writable(" ".join(text.split()))
    if found := arxiv.parse_id(text):
        paper, version = arxiv.split_version(found)
        return Identity(paper, version, "arxiv", arxiv.year_of(paper))
    if match := _DOI.fullmatch(text):
        return Identity(match[1].lower(), kind="doi")
    return Identity(text)


def facts_of(record: Mapping[str, Any], row: Mapping[str, str]) -> Facts:
    """The facts of one record; ``row`` is its input's row. What the record itself carries beside DESIGN.md's keys
    (an exported corpus does) serves where the row says nothing.
    """
    identity = identify(str(record.get("id") or ""))
    extra = {name: value for name, value in record.items() if name not in RECORD_KEYS}
    said = _by_meaning(extra) | _by_meaning(row)
    title = writable(" ".join(str(record.get("title") or "").split()))
    abstract = writable(str(said.get("abstract", "")))
    # Ids such as "7" or "row-7" are only known to one input: what tells papers of two inputs apart is the title.
    known = ("paper", identity.id) if identity.kind else ("input", identity.id, title or abstract)
    year = _YEAR.search(str(said.get("year", "")))
    return Facts(
        key=key_of(*known),
        id=identity.id,
        version=identity.version,
        title=title,
        year=int(year[0]) if year else identity.year,
        categories=_split_categories(said.get("categories")),
        authors=writable(_join(said.get("authors"))),
        abstract=abstract,
    )


def _by_meaning(row: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a row by meaning, those that are there."""
    folded = {fold(name): value for name, value in reversed(list(row.items()))}
    found = {}
    for meaning, names in _COLUMNS.items():
        value = next((folded[name] for name in names if folded.get(name)), None)
        if value is not None:
            found[meaning] = value
    return found


def _join(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "; ".join(str(part) for part in value)
    return " ".join(str(value or "").split())


def _split_categories(value: object) -> tuple[str, ...]:
    """Categories or keywords out of a cell: separated by ; or | or , or, where all are arXiv's, by spaces."""
    text = writable(_join(value)).strip("[]() ")
    if _ARXIV_CATEGORIES.fullmatch(text):
        parts = text.split()
    else:
        separator = next((mark for mark in ";|," if mark in text), ";")
        parts = text.split(separator)
    return tuple(dict.fromkeys(name for part in parts if (name := part.strip(" ,'\""))))
