"""What the corpus commands print of hits, entries and shares: rows of tables, objects for ``--json``, bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.annotation_tables import escape_markdown, one_line
from harness.corpus import Entry, Hit, Share

BAR_CHARACTERS = 30
CELL_CHARACTERS = 160
"""What a cell of a shortened table shows on a terminal."""
_EIGHTHS = " ▏▎▍▌▋▊▉"


def hit_row(hit: Hit) -> list[str]:
    """Id, year, move, confidence, text, sentences, title."""
    sure = "" if hit.confidence is None else f"{hit.confidence:.2f}"
    sentences = ";".join(str(number) for number in hit.sentences)
    about = [hit.facts.id, str(hit.facts.year or ""), hit.move or "(abstract)", sure]
    return [*about, hit.text, sentences, hit.facts.title]


def hit_object(hit: Hit) -> dict[str, Any]:
    """A hit as ``--json`` prints it."""
    facts = hit.facts
    about = {"id": facts.id, "title": facts.title, "year": facts.year, "categories": list(facts.categories)}
    found = {"move": hit.move, "text": hit.text, "sentences": list(hit.sentences), "confidence": hit.confidence}
    return {**about, **found}


def entry_row(entry: Entry, moves: Sequence[str], min_confidence: float | None) -> list[str]:
    """Id, year, title, then the text of each move."""
    facts = entry.facts
    texts = [str((entry.move(move, min_confidence) or {}).get("text") or "") for move in moves]
    return [facts.id, str(facts.year or ""), facts.title, *texts]


def markdown_matrix(entries: Sequence[Entry], moves: Sequence[str], min_confidence: float | None) -> Iterable[str]:
    """Papers × moves as lines of one Markdown table."""
    yield f"| {' | '.join(escape_markdown(name) for name in ('id', 'year', 'title', *moves))} |\n"
    yield "|" + " --- |" * (3 + len(moves)) + "\n"
    for entry in entries:
        yield f"| {' | '.join(escape_markdown(cell) for cell in entry_row(entry, moves, min_confidence))} |\n"


def share_row(share: Share, moves: Sequence[str]) -> list[str]:
    """Group, papers, then the share of each move in per cent; blank where no paper was asked for the move."""
    values = [share.of(move) for move in moves]
    return [share.group, str(share.papers), *("" if value is None else f"{100 * value:.0f}%" for value in values)]


def share_object(share: Share, moves: Sequence[str]) -> dict[str, Any]:
    """A share as ``--json`` prints it: shares 0-1, null where no paper was asked for the move."""
    return {"group": share.group, "papers": share.papers, "shares": {move: share.of(move) for move in moves}}


def share_bars(shares: Sequence[Share], moves: Sequence[str]) -> Iterable[str]:
    """A bar for each move of each group, as lines of text."""
    width = max((len(one_line(move)) for move in moves), default=0)
    for share in shares:
        yield f"{one_line(share.group)} ({share.papers} paper{'s' * (share.papers != 1)})\n"
        for move in moves:
            if (value := share.of(move)) is not None:
                yield f"  {one_line(move):<{width}}  {bar(value):<{BAR_CHARACTERS}} {100 * value:3.0f}%\n"


def bar(value: float) -> str:
    """A bar for a value of 0-1, an eighth of a character exact.

    >>> bar(0.5)
    '███████████████'
    """
    full, eighths = divmod(round(value * BAR_CHARACTERS * 8), 8)
    return "█" * full + (_EIGHTHS[eighths] if eighths else "")
