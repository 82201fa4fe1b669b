"""Annotations as one self-contained HTML page (``page.html``) that loads nothing and runs only its own script."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from harness.annotation_tables import Annotations, Record, Row, clean, confidence, found, model_name, one_line
from harness.corpus_papers import facts_of
from harness.readers.arxiv import parse_id

LOW_CONFIDENCE = 0.6
"""Cells below this are marked as worth checking."""

_SCRIPT_UNSAFE = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def arxiv_link(identifier: object) -> str | None:
    """The arXiv page of a paper, only where its id is an arXiv id and nothing else."""
    found = parse_id(one_line(identifier))
    return f"https://arxiv.org/abs/{found}" if found else None


def script_json(value: object) -> str:
    """JSON that may stand inside a ``<script>`` element, whatever text it holds."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_SCRIPT_UNSAFE)


def segments(text: str, spans: Sequence[Sequence[tuple[int, int]]]) -> list[tuple[str, list[int]]]:
    """Cut ``text`` where a span begins or ends: pieces, each with the numbers (from 0) of the moves that cover it.

    ``spans`` holds each move's spans. Cut here, because JavaScript counts UTF-16 units and spans count characters.
    """
    inside = [[(max(0, start), min(end, len(text))) for start, end in of_move] for of_move in spans]
    edges = {edge for of_move in inside for span in of_move if span[0] < span[1] for edge in span}
    cuts = sorted({0, len(text)} | edges)
    pieces = []
    for start, end in pairwise(cuts):
        moves = [number for number, of_move in enumerate(inside) if any(a <= start and end <= b for a, b in of_move)]
        pieces.append((clean(text[start:end]), moves))
    return pieces


def _move(entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not entry:
        return None
    return {"text": one_line(entry.get("text")), "sentences": list(entry.get("sentences") or ())}


def _paper(record: Record, row: Row, moves: Sequence[str]) -> dict[str, Any]:
    """One record as the page's script wants it."""
    entries = [found(record, move) for move in moves]
    abstract = record.get("abstract")
    return {
        "id": one_line(record.get("id")),
        "title": one_line(record.get("title")),
        "year": facts_of(record, row).year,
        "status": one_line(record.get("status")),
        "error": one_line(record.get("error")),
        "link": arxiv_link(record.get("id")),
        "quotes": record.get("style") == "quote",
        "moves": [_move(entry) for entry in entries],
        "sure": [confidence(record, move) for move in moves],
        "abstract": segments(str(abstract), [(entry or {}).get("spans") or () for entry in entries]) if abstract else None,
    }


def _policy(template: str) -> str:
    """A Content-Security-Policy that lets only the template's own style and script run, and loads nothing."""
    inline = {tag: re.search(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL) for tag in ("style", "script")}
    digests = {tag: hashlib.sha256(match[1].encode()).digest() for tag, match in inline.items() if match}
    sources = " ".join(f"{tag}-src 'sha256-{base64.b64encode(digest).decode()}';" for tag, digest in digests.items())
    return f"default-src 'none'; {sources} img-src data:; base-uri 'none'; form-action 'none'"


def write_html(handle: IO[str], table: Annotations) -> None:
    """Write the page: the template, and inside it the records as data, one at a time."""
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    title = one_line(table.title) or "Annotated papers"
    models = list(dict.fromkeys(name for record in table.records if (name := model_name(record))))
    about = {"title": title, "moves": [one_line(move) for move in table.moves], "models": models, "low": LOW_CONFIDENCE}
    before, after = template.split("{{data}}")
    handle.write(before.replace("{{policy}}", _policy(template)).replace("{{title}}", html.escape(title)))
    handle.write(f'{{"about":{script_json(about)},"papers":[')
    for number, (record, row) in enumerate(table.pairs()):
        handle.write((",\n" if number else "\n") + script_json(_paper(record, row, table.moves)))
    handle.write("]}" + after)
