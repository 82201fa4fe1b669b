"""Where the papers are in a JSON document, and where the text is in a record: lists inside answers of services
(Crossref, OpenAlex, Semantic Scholar, Zotero), records by their key, abstracts one level down."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from harness.readers.columns import find, fold

_DEEPEST = 3
_HEADING = re.compile(r"<jats:title>\s*Abstract\s*</jats:title>", re.IGNORECASE)
_BLOCK = re.compile(r"</?jats:(?:title|p|sec|list|list-item)\b[^>]*>")
_INLINE = re.compile(r"</?jats:[\w-]+[^>]*>")


def papers_in(document: Mapping[str, Any], given: Collection[str] = ()) -> tuple[list[Any], str]:
    """The records of an object that may be one, may hold a list of them, or may have one under each key; and where.

    ``given`` are column names that the user named; an object that has one of them is a paper. The place is empty
    where the object itself is the paper.
    """
    if _is_paper(document, given):
        return [document], ""
    lists = [(place, items) for place, items in _lists(document, "", 1) if any(_has_paper(item, given) for item in items)]
    if lists:
        place, items = max(lists, key=lambda found: len(found[1]))
        return items, place
    if document and all(_has_paper(value, given) for value in document.values()):
        return [{"id": key, **value} for key, value in document.items()], "each key"
    return [document], ""


def flattened(record: Mapping[str, Any]) -> dict[str, Any]:
    """``record`` with its abstract and title as text at the top, wherever they were; other values as they are.

    >>> flattened({"abstract_inverted_index": {"sentence.": [2], "A": [0], "short": [1]}})["abstract"]
    'A short sentence.'
    >>> flattened({"paper": {"title": ["On kites"], "abstract": {"text": "We fly."}}, "n": 3})
    {'title': 'On kites', 'abstract': 'We fly.', 'n': 3}
    """
    row = dict(record)
    if not _is_paper(row, ()):
        inner = [key for key, value in row.items() if isinstance(value, Mapping) and _is_paper(value, ())]
        if len(inner) == 1:
            lifted = row.pop(inner[0])
            row = {**lifted, **{key: value for key, value in row.items() if key not in lifted}}
    index = row.get("abstract_inverted_index")
    if isinstance(index, Mapping) and not row.get("abstract"):
        del row["abstract_inverted_index"]
        row["abstract"] = _in_order(index)
    for meaning in ("abstract", "title"):
        if (name := find(list(row), meaning)) is not None:
            row[name] = _text(row[name])
    return row


def _is_paper(value: Mapping[str, Any], given: Collection[str]) -> bool:
    folded = {fold(str(key)) for key in value}
    known = {"abstractinvertedindex", "sentences", *map(fold, given)}
    return bool(folded & known) or find([str(key) for key in value], "abstract") is not None


def _has_paper(value: object, given: Collection[str]) -> bool:
    if not isinstance(value, Mapping):
        return False
    return _is_paper(value, given) or any(isinstance(item, Mapping) and _is_paper(item, given) for item in value.values())


def _lists(value: Mapping[str, Any], place: str, depth: int) -> Iterator[tuple[str, list[Any]]]:
    for key, item in value.items():
        if isinstance(item, list):
            yield f"{place}{key}", item
        elif isinstance(item, Mapping) and depth < _DEEPEST:
            yield from _lists(item, f"{place}{key}.", depth + 1)


def _text(value: Any) -> Any:
    """The one text in ``value`` (a list of texts, an object with one text), without the tags of Crossref's abstracts."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return _text(" ".join(value))
    if isinstance(value, Mapping):
        texts = [item for item in value.values() if isinstance(item, str)]
        return _text(texts[0]) if len(texts) == 1 else value
    if isinstance(value, str) and "<jats:" in value:
        return html.unescape(_INLINE.sub("", _BLOCK.sub("\n", _HEADING.sub("", value)))).strip()
    return value


def _in_order(index: Mapping[str, Any]) -> str:
    """The text of an inverted index, words to positions, as OpenAlex keeps abstracts."""
    places = [(at, word) for word, found in index.items() if isinstance(found, list) for at in found if isinstance(at, int)]
    return " ".join(word for _, word in sorted(places))
