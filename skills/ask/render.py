"""Answers for people: plain text for the terminal, Markdown for files, tables for batches."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.console import json_line
from harness.outputs import atomic_write
from skills.ask.questions import Questions

Record = Mapping[str, Any]
LINE = "#####"
"""Between reasoning and answer, as the spec has it."""
SHOWN = 300
"""Characters of a closest passage that people see."""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~$])|(?m:^(\s*)([#+=-]|\d+[.)])(?=\s|=|-))")


def where(citation: Record) -> str:
    """``rye.pdf, p. 3``, or ``table.csv, row 12``."""
    place = f"p. {citation['page']}" if citation["page"] else str(citation.get("where") or "")
    return ", ".join(part for part in (Path(str(citation["file"])).name or str(citation["file"]), place) if part)


def text_of(record: Record) -> str:
    """One answer: reasoning, ``#####``, the answer with its marks, then the sources, or the closest passages.

    >>> source = {"n": 1, "file": "a.pdf", "page": 2, "quote": "y"}
    >>> text_of({"reasoning": "So.", "answer": "Yes. [1]", "citations": [source]})
    'So.\\n#####\\nYes. [1]\\n\\n[1] a.pdf, p. 2: "y"'
    """
    return _laid_out(record, lambda text: text, LINE)


def markdown_of(record: Record) -> str:
    """The same as Markdown: what papers say is escaped, so that it can be nothing but text."""
    return _laid_out(record, escaped, "\\" + LINE, "- ")


def escaped(text: str) -> str:
    """Text as Markdown that shows it as it is.

    >>> escaped("*p* < 0.05 [link](x)")
    '\\\\*p\\\\* \\\\< 0.05 \\\\[link\\\\](x)'
    """
    return _MARKDOWN.sub(lambda match: f"\\{match[1]}" if match[1] else f"{match[2]}\\{match[3]}", text)


def _laid_out(record: Record, safe: Callable[[str], str], line: str, bullet: str = "") -> str:
    if record.get("error"):
        return f"error: {record['error']}"
    parts = [safe(record["reasoning"])] if record["reasoning"] else []
    parts += [line, safe(record["answer"])]
    if cited := [bullet + _source(one, safe, 0) for one in record["citations"]]:
        parts += ["", *cited]
    if closest := record.get("closest"):
        parts += ["", "Closest:", *([""] if bullet else []), *(bullet + _source(one, safe, SHOWN) for one in closest)]
    if unsupported := record.get("unsupported"):
        parts += ["", "Not supported by the passages:", *(f"- {safe(one)}" for one in unsupported)]
    if notes := record.get("notes"):
        parts += ["", *(f"note: {safe(note)}" for note in notes)]
    return "\n".join(parts)


def _source(citation: Record, safe: Callable[[str], str], most: int) -> str:
    quote = " ".join(str(citation["quote"]).split())
    if most and len(quote) > most:
        quote = (quote[:most].rpartition(" ")[0] or quote[:most]) + " …"
    mark = safe(f"[{citation['n']}]")
    return f'{mark} {safe(where(citation))}: "{safe(quote)}"'


def all_text(records: Sequence[Record]) -> str:
    """Several answers, each under its question."""
    if len(records) == 1:
        return text_of(records[0])
    return "\n\n\n".join(f"Question: {record['question']}\n\n{text_of(record)}" for record in records)


def jsonl_of(records: Sequence[Record]) -> str:
    """One record a line."""
    return "\n".join(map(json_line, records))


def _markdown(records: Sequence[Record], source: Questions) -> str:
    return "\n\n".join(f"## {escaped(record['question'])}\n\n{markdown_of(record)}" for record in records) + "\n"


def _csv(records: Sequence[Record], source: Questions, delimiter: str = ",") -> str:
    """The input's columns, then answer, sources and how it came about; names that are taken get ``ask_`` before them."""
    cells: Mapping[str, Callable[[Record], str]] = {
        "answer": lambda record: record["answer"],
        "reasoning": lambda record: record["reasoning"],
        "sources": lambda record: "\n".join(_source(one, lambda text: text, 0) for one in record["citations"]),
        "abstained": lambda record: "yes" if record["abstained"] else "no",
        "style": lambda record: record["style"],
        "model": lambda record: str(record["model"].get("name", "")),
        "error": lambda record: record.get("error") or "",
    }
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow([*source.fieldnames, *(f"ask_{name}" if name in source.fieldnames else name for name in cells)])
    for record, asked in zip(records, source.rows, strict=True):
        own = [asked.row.get(name, "") for name in source.fieldnames]
        writer.writerow([*own, *(cell(record) for cell in cells.values())])
    return out.getvalue()


WRITERS: Mapping[str, Callable[[Sequence[Record], Questions], str]] = {
    ".md": _markdown,
    ".txt": lambda records, source: all_text(records) + "\n",
    ".json": lambda records, source: "[\n" + ",\n".join(map(json_line, records)) + "\n]\n",
    ".jsonl": lambda records, source: jsonl_of(records) + "\n",
    ".csv": _csv,
    ".tsv": lambda records, source: _csv(records, source, "\t"),
}


def save(path: Path, records: Sequence[Record], source: Questions, *, overwrite: bool) -> None:
    """Write the answers in the format of the suffix, all of them or nothing. Raises InputError."""
    text = WRITERS[path.suffix.lower()](records, source)
    with atomic_write(path, overwrite=overwrite) as handle:
        handle.write(text)
