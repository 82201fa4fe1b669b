"""Other people's query expansions as our examples: which column is what, and which type a line without one has. Pure."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from finetune.dataset.expansion_schema import Example, stem_of
from finetune.rewards.qmd_text import Kind, parse_expansion
from finetune.rewards.words import FUNCTION_WORDS, tokens
from skills.expand.expansion import LONGEST, one_line

QUERY_COLUMNS = ("query", "input", "prompt", "question", "original_query")
OUTPUT_COLUMNS = ("output", "expansions", "expansion", "completion", "response", "queries")
TYPES: tuple[Kind, ...] = ("hyde", "lex", "vec")
MOST: Mapping[Kind, int] = {"hyde": 1, "lex": 3, "vec": 3}
"""Lines of a type that are taken."""
_SENTENCE = re.compile(r"[.!?](?:\s|$)")
_PROMPT = "Expand this search query:"


@dataclass
class Converted:
    """What became of the rows."""

    examples: list[Example] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def columns(names: Iterable[str], query: str = "", output: str = "") -> tuple[str, str]:
    """The columns of query and expansions: those given, else by their usual names. LookupError says what is missing."""
    there = list(names)
    found = []
    for given, usual, what in ((query, QUERY_COLUMNS, "query"), (output, OUTPUT_COLUMNS, "expansions")):
        name = given if given in there else "" if given else next((one for one in usual if one in there), "")
        if not name:
            raise LookupError(f"no column {given!r}" if given else f"no column holds the {what}")
        found.append(name)
    return found[0], found[1]


def convert(
    rows: Iterable[Mapping[str, Any]], query: str, output: str, *, source: str, known: Iterable[str] = (), count: int = 0
) -> Converted:
    """Examples from rows; one a question, none for those of ``known`` (stems). ``count``: so many at most (0: all)."""
    found, stems = Converted(), set(known)
    for row in rows:
        if count and len(found.examples) >= count:
            break
        text = one_line(str(row.get(query) or "").partition(_PROMPT)[2] or str(row.get(query) or ""))
        if not text:
            found.dropped["no query"] += 1
            continue
        lines = list(typed_lines(row.get(output)))
        if missing := {"lex", "vec"} - {kind for kind, _ in lines}:
            found.dropped[f"no {' and no '.join(sorted(missing))} among its expansions"] += 1
            continue
        try:
            example = Example(query=text, output=tuple(lines), source=source)
        except ValidationError as error:
            found.dropped[error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ").partition(":")[0]] += 1
            continue
        if stem_of(text) in stems:
            found.dropped["the question stands before"] += 1
            continue
        stems.add(stem_of(text))
        found.examples.append(example)
    return found


def typed_lines(value: object) -> Iterator[tuple[Kind, str]]:
    """The lines of one row, hyde first, at most ``MOST`` of a type.

    A text with ``lex:`` lines is read as that; of a list, also one that a table holds as text, each item is a pair of type
    and text or, without a type, a line whose type ``kind_of`` tells.
    """
    pairs = [(kind, one_line(text)) for kind, text in _pairs(value)]
    for wanted in TYPES:
        own = dict.fromkeys(text for kind, text in pairs if kind == wanted and text and len(text) <= LONGEST[wanted])
        yield from ((wanted, text) for text in list(own)[: MOST[wanted]])


def _pairs(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        parsed = parse_expansion(value)
        if parsed["lex"] or parsed["vec"] or parsed["hyde"]:
            for kind in TYPES:
                yield from ((kind, text) for text in parsed[kind])
            return
        value = _written_list(value)
    for item in value if isinstance(value, list | tuple) else ():
        if isinstance(item, str):
            yield kind_of(item), item
        elif isinstance(item, Mapping) and isinstance(item.get("text"), str):
            yield str(item.get("type", "")), item["text"]
        elif isinstance(item, Sequence) and len(item) == 2 and all(isinstance(part, str) for part in item):
            yield item[0], item[1]


def _written_list(text: str) -> list[Any]:
    """A list from the text of a table's cell: JSON, Python's own way, or one a line."""
    if text.lstrip().startswith("["):
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            return value if isinstance(value, list) else []
    return text.splitlines()


def kind_of(text: str) -> Kind:
    """The type of a line that has none: a passage of sentences, a keyword query, or a question or phrase.

    >>> kind_of("auth settings"), kind_of("how do I configure authentication")
    ('lex', 'vec')
    >>> kind_of("Set the secret in the environment first. Then restart the server.")
    'hyde'
    """
    words = tokens(text)
    share = sum(word in FUNCTION_WORDS for word in words) / len(words) if words else 0.0
    if len(words) >= 8 and _SENTENCE.search(text) and not text.rstrip().endswith("?"):
        return "hyde"
    return "lex" if len(words) <= 5 and share < 0.25 else "vec"
