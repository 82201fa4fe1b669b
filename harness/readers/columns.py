"""Which column means what, and rows made into papers."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from harness.errors import InputError, UsageError
from harness.readers.paper import Paper
from harness.readers.source import PaperSource, Record, Table
from harness.readers.text import shown

NAMES: Mapping[str, tuple[str, ...]] = {
    "abstract": (
        *("abstract", "paperabstract", "articleabstract", "preprintabstract", "abstracttext", "abstractnote"),
        *("notesabstract", "dc:description", "wosabstract", "abstracten", "abstractenglish", "englishabstract"),
        *("abstract(en)", "abstract(english)", "summary", "ab", "n2", "description"),
    ),
    "title": (
        *("title", "papertitle", "articletitle", "documenttitle", "worktitle", "itemtitle"),
        *("primarytitle", "preprinttitle", "studytitle", "originaltitle", "titleen", "titleenglish", "englishtitle"),
        *("dc:title", "wostitle", "displayname", "titel", "titre", "titulo", "título", "titolo", "ti", "t1"),
        *("title(en)", "title(english)", "heading", "headline", "name", "paper", "article"),
    ),
    "id": (
        *("arxivid", "ut", "ut(uniquewosid)", "ut(uniqueid)", "id", "paperid", "doi", "key", "citekey", "citationkey"),
        *("bibtexkey", "pmid", "pubmedid", "pmcid"),
        *("eid", "docid", "documentid", "articleid", "recordid", "publicationid", "openalexid", "lensid"),
        *("corpusid", "semanticscholarid", "s2id", "s2paperid", "coreid", "wosid", "preprintdoi"),
        *("dc:identifier", "accessionnumber", "uid", "di", "pm", "an", "identifier", "recordnumber"),
    ),
}
"""Folded column names by meaning, the likeliest first.

They are meant to be those of the exports of Scopus (Title, Abstract, DOI, EID; dc:title), Web of Science (Article Title,
UT (Unique WOS ID); as tags TI, AB, DI, UT, PM, and ID for keywords, so UT comes first), PubMed (PMID, Title; TI, AB),
Zotero (Key, Title, Abstract Note), EndNote and RIS (T1, N2, Accession Number), OpenAlex (id, display_name), Semantic
Scholar (paperId, corpusId), arXiv (id, summary), IEEE Xplore (Document Title), Dimensions (Publication ID), Lens (Lens ID),
Springer (Item Title), bioRxiv (preprint_title). ``Publication Title`` and ``Source title`` name the journal and are left
out. The tags of Web of Science are from its documentation; the others were not held against a file of each kind.
"""
_NEAR = ("text", "body", "content", "notes", "tldr", "zusammenfassung", "resume", "resumen")

_SHORT = 150
"""Characters on average below which a column is hardly one of abstracts."""


@dataclass(frozen=True)
class Columns:
    """Columns of a table by meaning; None where there is none. Without ``abstract`` it is joined from ``sentences``."""

    abstract: str | None
    title: str | None
    id: str | None


@dataclass
class _Tally:
    """What is counted on the way and told at the end."""

    empty: int = 0
    repeated: int = 0
    nameless: int = 0
    strange: int = 0

    def notes(self, name: str) -> Iterator[str]:
        for count, what in (
            (self.empty, "without an abstract"),
            (self.nameless, "without an id, called row-N"),
            (self.repeated, "with an id that occurred before"),
            (self.strange, "with a list of sentences that are not in the abstract, ignored"),
        ):
            if count:
                yield f"{name}: {count} row{'s' * (count > 1)} {what}"


def fold(name: str) -> str:
    """A column name without case, spaces, underscores, hyphens and dots: ``Paper_Abstract `` is ``paperabstract``.

    Other signs stay: ``a,b`` is not the column AB but a header cut at the wrong delimiter.
    """
    return re.sub(r"[\s_.-]+", "", name.casefold())


def find(fieldnames: Sequence[str], meaning: str) -> str | None:
    """The column that means ``abstract``, ``title`` or ``id``, or None."""
    by_fold: dict[str, str] = {}
    for name in fieldnames:
        by_fold.setdefault(fold(name), name)
    return next((by_fold[known] for known in NAMES[meaning] if known in by_fold), None)


def check_given(given: Mapping[str, str]) -> None:
    """Raises UsageError where a meaning is named that there is not."""
    for meaning in given:
        if meaning not in NAMES:
            raise UsageError(f"--column {shown(meaning)}=…: there is no such meaning", f"it can be {', '.join(NAMES)}")


def resolve(table: Table, given: Mapping[str, str]) -> Columns:
    """Columns of ``table``: those ``given`` (meaning → name), the others found by meaning.

    Raises InputError where a given column is missing, or none holds the abstract.
    """
    found = {meaning: find(table.fieldnames, meaning) for meaning in NAMES}
    for meaning, wanted in given.items():
        found[meaning] = _given(table, meaning, wanted)
    columns = Columns(found["abstract"], found["title"], found["id"])
    if columns.abstract is None and not any(record.sentences for record in islice(table.records(), 20)):
        raise InputError(
            f"{table.name}: no column holds the abstract (columns: {_listed(table.fieldnames)})", _remedy(table)
        )
    return columns


def papers(table: Table, given: Mapping[str, str], notes: list[str]) -> PaperSource:
    """The papers of a table. Raises InputError as ``resolve`` does."""
    columns = resolve(table, given)
    taken = f"column '{shown(columns.abstract)}'" if columns.abstract else "the list of sentences"
    notes.append(f"{table.name}: abstract from {taken}")
    if table.total == 0:
        notes.append(f"{table.name} has columns and no rows")
    return PaperSource(table.name, table.kind, _walk(table, columns, notes), table.fieldnames, table.total, notes)


def _walk(table: Table, columns: Columns, notes: list[str]) -> Iterator[Paper]:
    tally, seen = _Tally(), set[str]()
    for record in table.records():
        paper = _paper(table.name, record, columns, tally)
        tally.repeated += paper.id in seen
        seen.add(paper.id)
        yield paper
    notes.extend(tally.notes(table.name))


def _paper(name: str, record: Record, columns: Columns, tally: _Tally) -> Paper:
    row = record.row
    own = _own_sentences(record.sentences)
    abstract = row.get(columns.abstract, "") if columns.abstract else " ".join(own or ())
    sentences = own if own and _in_order(own, abstract) else None
    identity = row.get(columns.id, "").strip() if columns.id else ""
    error = record.error
    if error is None:
        tally.empty += not abstract.strip()
        tally.nameless += columns.id is not None and not identity
        tally.strange += bool(record.sentences) and sentences is None and bool(abstract.strip())
        error = None if abstract.strip() else f"{name} row {record.number}: the abstract is empty"
    title = " ".join(row.get(columns.title, "").split()) if columns.title else ""
    return Paper(identity or f"row-{record.number}", title, abstract, name, record.number, sentences, row, error)


def _own_sentences(raw: object) -> tuple[str, ...] | None:
    if not isinstance(raw, list) or not raw:
        return None
    sentences = tuple(item for item in raw if isinstance(item, str) and item.strip())
    return sentences if len(sentences) == len(raw) else None


def _in_order(sentences: tuple[str, ...], abstract: str) -> bool:
    position = 0
    for sentence in sentences:
        at = abstract.find(sentence, position)
        if at < 0:
            return False
        position = at + len(sentence)
    return True


def _given(table: Table, meaning: str, wanted: str) -> str:
    if wanted in table.fieldnames:
        return wanted
    for name in table.fieldnames:
        if fold(name) == fold(wanted):
            return name
    raise InputError(
        f"{table.name} has no column '{shown(wanted)}' (columns: {_listed(table.fieldnames)})",
        f"correct --column {meaning}=NAME",
    )


def _remedy(table: Table) -> str:
    """How to name the column most likely meant: by its name, else the one with the longest text in the first rows."""
    for name in table.fieldnames:
        folded = fold(name)
        if "abstract" in folded or difflib.get_close_matches(folded, (*NAMES["abstract"], *_NEAR), 1, 0.75):
            return f"say which with --column abstract={shown(name)}"
    rows = [record.row for record in islice(table.records(), 20)]
    lengths = {name: sum(len(row.get(name, "")) for row in rows) for name in table.fieldnames}
    guess = shown(max(lengths, key=lengths.__getitem__)) if any(lengths.values()) else "NAME"
    remedy = f"say which with --column abstract={guess}"
    if max(lengths.values(), default=0) < _SHORT * len(rows):  # as of PubMed's CSV, which leaves abstracts out
        remedy += ", or export the papers with their abstracts (RIS, BibTeX and PubMed's .nbib are read too)"
    return remedy


def _listed(fieldnames: Sequence[str], most: int = 12) -> str:
    names = ", ".join(shown(name, 30) or "''" for name in fieldnames[:most])
    return f"{names}, and {len(fieldnames) - most} more" if len(fieldnames) > most else names or "none"
