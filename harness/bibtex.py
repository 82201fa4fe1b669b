"""Annotations as BibTeX: an annotated bibliography whose every value is escaped, so that no paper's text is LaTeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import IO

from harness.annotation_tables import Annotations, Record, found, one_line
from harness.corpus_papers import Facts, facts_of, identify

_ESCAPES = str.maketrans(
    {
        **{char: f"\\{char}" for char in "&%$#_"},
        # BibTeX counts escaped braces too: only named ones stay balanced.
        "{": r"\textbraceleft{}",
        "}": r"\textbraceright{}",
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)
_INITIALS = re.compile(r"([^\s,]{2,}(?: [^\s,]{2,})*) ((?:[^\W\d_a-z]\.-?){1,4}|[A-Z]{1,3})")
"""A family name and initials behind it: ``van der Berg J.A.``, ``Wang X.-Y.``, ``Smith JA``."""
_STOP_WORDS = frozenset("a an and as at by for from in is of on or the to with".split())


def escape(text: object) -> str:
    r"""Text as one line that LaTeX sets as it stands.

    >>> print(escape("50% of $n$, {a_b"))
    50\% of \$n\$, \textbraceleft{}a\_b
    """
    return one_line(text).translate(_ESCAPES)


def split_authors(authors: str) -> list[str]:
    """Names out of one cell: "A B; C D", "B, A and D, C", "A B, C D" or "B A.; D C."."""
    if ";" in authors:
        names = authors.split(";")
    else:
        names = re.split(r",?\s+and\s+", authors)
        given_first = all(" " in part.strip() for name in names for part in name.split(","))
        if given_first:  # else the comma stands inside a name: "Lovelace, Ada"
            names = [part for name in names for part in name.split(",")]
    return _family_first([name for part in names if (name := " ".join(part.split()))])


def _family_first(names: list[str]) -> list[str]:
    """Names all written as "Smith J.A." (Scopus, PubMed) get the comma without which BibTeX takes J.A. for the family."""
    found = [_INITIALS.fullmatch(name) for name in names]
    if len(names) == 1 and not names[0].endswith("."):  # "Acme AI" is no person
        return names
    return [f"{match[1]}, {match[2]}" for match in found if match] if all(found) else names


def write_bibtex(handle: IO[str], table: Annotations) -> None:
    """One entry a paper; the stated moves stand in ``annote``. Braces in values are balanced whatever the text."""
    taken: set[str] = set()
    for record, row in table.pairs():
        facts = facts_of(record, row)
        authors = split_authors(facts.authors)
        fields = [*_fields(record, facts, authors), *_annote(record, table.moves)]
        kind = "article" if identify(facts.id).kind == "doi" else "misc"
        handle.write(f"@{kind}{{{_key(facts, authors, taken)},\n")
        handle.writelines(f"  {name} = {{{value}}},\n" for name, value in fields if value)
        handle.write("}\n\n")


def _fields(record: Record, facts: Facts, authors: Sequence[str]) -> Iterator[tuple[str, str]]:
    # Doubled braces keep the title's capitals; a name with " and " inside would be two names without its own.
    yield "title", f"{{{escape(facts.title)}}}" if facts.title else ""
    yield "author", " and ".join(escape(name) for name in authors)
    yield "year", str(facts.year or "")
    kind = identify(facts.id).kind
    if kind == "arxiv":
        yield "eprint", facts.id
        yield "archiveprefix", "arXiv"
    elif kind == "doi":
        yield "doi", escape(facts.id)
    else:
        yield "note", escape(facts.id)
    yield "keywords", escape("; ".join(facts.categories))
    yield "abstract", escape(facts.abstract)


def _annote(record: Record, moves: Sequence[str]) -> Iterator[tuple[str, str]]:
    stated = [(move, entry) for move in moves if (entry := found(record, move))]
    yield "annote", " ".join(f"{escape(move)}: {escape(entry.get('text'))}" for move, entry in stated)


def _key(facts: Facts, authors: Sequence[str], taken: set[str]) -> str:
    """A citation key that no other entry has: last name, year, first telling word of the title."""
    author = authors[0] if authors else ""
    last_name = author.split(",")[0] if "," in author else author.rpartition(" ")[2]
    words = [_ascii(word) for word in facts.title.split()]
    word = next((word for word in words if word and word not in _STOP_WORDS), "")
    base = f"{_ascii(last_name)}{facts.year or ''}{word}" or "paper"
    key, number = base, 1
    while key in taken:
        number += 1
        key = f"{base}-{number}"
    taken.add(key)
    return key


def _ascii(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", plain.lower())[:30]
