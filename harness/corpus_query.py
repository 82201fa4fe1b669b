"""What a user asks of the corpus, as SQL conditions and FTS5 queries that cannot be malformed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import UsageError
from harness.readers.text import writable

_TERM = re.compile(r'(-?)(?:"([^"]*)(?:"|$)|([^\s"]+))(\*?)')
_YEARS = re.compile(r"(\d{4})?\s*(\.\.|-|–)?\s*(\d{4})?")


@dataclass(frozen=True)
class Filters:
    """Which papers count; the empty filter takes all."""

    years: tuple[int | None, int | None] = (None, None)
    """First and last year, both included; None is open."""
    categories: tuple[str, ...] = ()
    """Any of them; ``cs`` takes ``cs.CL`` and all others of its archive."""
    terms: tuple[str, ...] = ()
    """Queries that title, abstract or moves of a paper must match, each of them."""
    min_confidence: float | None = None
    """Moves less sure than this, or of unknown confidence, count as not stated."""


@dataclass(frozen=True)
class Condition:
    """A piece of SQL for a WHERE clause and the values of its parameters."""

    sql: str = "1"
    values: tuple[str | int | float, ...] = ()

    def __and__(self, other: Condition) -> Condition:
        return Condition(f"{self.sql} AND {other.sql}", self.values + other.values)


def parse_years(text: str) -> tuple[int | None, int | None]:
    """``2024``, ``2024..2026``, ``2024..`` or ``..2026`` as the first and last year. Raises UsageError."""
    match = _YEARS.fullmatch(text.strip())
    if match is None or not (match[1] or match[3]) or (match[1] and match[3] and not match[2]):
        raise UsageError(f"{text!r} is no range of years", "write 2024, 2024..2026, 2024.. or ..2026")
    first, last = (int(year) if year else None for year in (match[1], match[3]))
    if match[2] is None:
        last = first
    if first and last and first > last:
        raise UsageError(f"{text!r} ends before it begins", f"write {last}..{first}")
    return first, last


def to_fts(query: str) -> str:
    """An FTS5 query that means what people mean: all words, "phrases", a OR b, -without, prefix*.

    OR binds its two neighbours. Everything else that FTS5 knows is taken as text. Raises UsageError for a query
    without a word to look for.

    >>> to_fts('latency "on device" gpu OR tpu -cloud')
    '("latency" AND "on device" AND ("gpu" OR "tpu")) NOT ("cloud")'
    """
    wanted: list[list[str]] = []
    unwanted: list[str] = []
    join = False
    for minus, phrase, word, star in _TERM.findall(writable(query).replace("\0", " ")):
        if word in {"OR", "AND"} and not minus:
            join = word == "OR" and bool(wanted)
            continue
        text = phrase or word.rstrip("*")
        if not any(char.isalnum() for char in text):
            continue  # FTS5 sees no word in it, and would find nothing at all
        term = f'"{text}"' + (" *" if star or word.endswith("*") else "")
        if minus:
            unwanted.append(term)
        elif join:
            wanted[-1].append(term)
        else:
            wanted.append([term])
        join = False
    if not wanted:
        raise UsageError(f"the query {query!r} has no word to look for", "give at least one word without a minus")
    groups = [f"({' OR '.join(group)})" if len(group) > 1 else group[0] for group in wanted]
    found = f"({' AND '.join(groups)})"
    return f"{found} NOT ({' OR '.join(unwanted)})" if unwanted else found


def which_papers(filters: Filters) -> Condition:
    """The condition on papers (alias ``p``) of everything in the filter but the confidence, which concerns moves."""
    condition = Condition()
    first, last = filters.years
    if first is not None:
        condition &= Condition("p.year >= ?", (first,))
    if last is not None:
        condition &= Condition("p.year <= ?", (last,))
    if filters.categories:
        one = "category = ? COLLATE NOCASE OR category LIKE ? ESCAPE '!'"
        any_of = " OR ".join([one] * len(filters.categories))
        values = [value for name in filters.categories for value in (name, f"{_like(name)}.%")]
        condition &= Condition(f"p.number IN (SELECT paper FROM categories WHERE {any_of})", tuple(values))
    for term in filters.terms:
        match = to_fts(term)
        condition &= Condition(
            "(p.number IN (SELECT rowid FROM papers_fts WHERE papers_fts MATCH ?) OR p.number IN"
            " (SELECT paper FROM moves WHERE number IN (SELECT rowid FROM moves_fts WHERE moves_fts MATCH ?)))",
            (match, match),
        )
    return condition


def which_moves(filters: Filters) -> Condition:
    """The condition under which a move (alias ``m``) counts as stated."""
    stated = Condition("m.text IS NOT NULL")
    if filters.min_confidence is not None:
        stated &= Condition("ifnull(m.confidence, -1) >= ?", (filters.min_confidence,))
    return stated


def _like(text: str) -> str:
    return re.sub(r"([!%_])", r"!\1", text)
