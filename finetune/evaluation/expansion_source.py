"""Where the expansions that are scored come from: a model, a file of expansions, or the fixed template.

A model answers through the code that serves /expand: its grammar, its filters, its second question for a type that is
missing. ``raw`` leaves all of that out and keeps what the model writes by itself, as upstream's evaluation does.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.evaluation.expansion_queries import typed
from finetune.evaluation.models import Opened, open_model
from finetune.rewards.adversaries import Gold, wordy_template
from harness.config import Settings
from harness.errors import InputError, MarginaliaError
from harness.jobs.journal import Journal, key_of
from harness.jobs.progress import Progress
from harness.jobs.runner import BatchSummary, Cancelled, Item, run_batch
from harness.models.base import Delegate, Model, OnText, Reply, Request
from harness.readers.text import from_path
from skills.expand.batch import items_of, reserve
from skills.expand.expander import Expander, LinesExpander, make_expander, options_for
from skills.expand.expansion import Line, lines_of, parse_expansion, render
from skills.expand.filters import counts, filter_lines
from skills.expand.prompt import CONTRACT, Query, parse_query
from skills.expand.queries import QueryRow

if TYPE_CHECKING:
    from rich.console import Console

KIND = "evaluate-expand"
TEMPLATE = "fixed-template"
"""A source that needs no model: the same words for every query."""
UNREADABLE = ("malformed", "cut")
"""Reasons of filters for which an answer does not count as parseable."""


@dataclass(frozen=True)
class Expanded:
    """What a source makes of one query."""

    text: str
    """What is scored."""
    lines: tuple[Line, ...] = ()
    """What can be searched with."""
    parseable: bool = True
    """Whether every line that the model wrote first could be read."""
    removed: Mapping[str, int] = field(default_factory=dict)
    """How many lines the filters took out, by reason."""
    error: str = ""
    """Why there is nothing."""


@dataclass(frozen=True)
class Answers:
    """A source and its expansions, in the order of the queries."""

    name: str
    place: str
    """What ran it: ``ollama``, ``embedded``, ``remote``, ``transformers``, ``file`` or ``template``."""
    expanded: tuple[Expanded, ...]
    digest: str = ""
    contract: str = ""
    queries_per_second: float | None = None
    """Loading left out; None where all answers were known already."""


@dataclass(frozen=True)
class How:
    """How to ask models: the same for all that are compared."""

    settings: Settings
    console: Console
    journal: Path
    raw: bool = False
    fresh: bool = False
    contract: str = ""
    """Prompt contract of models that do not say which one they speak."""


def expansions(spec: str, queries: Sequence[Query], how: How) -> Answers:
    """The expansions of some queries by what ``spec`` names: a model, a ``.jsonl`` file, or ``fixed-template``.

    Raises InputError, NoModelError and ModelError where it cannot be opened; a query that fails is one with an error.
    """
    if spec == TEMPLATE:
        return Answers(TEMPLATE, "template", tuple(map(templated, queries)))
    path = Path(spec).expanduser()
    if path.suffix.lower() == ".jsonl":
        known = read_expansions(path)
        return Answers(spec, "file", tuple(known.get(query, Expanded("", error=f"not in {path}")) for query in queries))
    opened = open_model(spec, how.settings, contract=how.contract, task="expand")
    try:
        with Journal(how.journal) as journal:
            return _asked(spec, opened, queries, how, journal)
    finally:
        opened.model.close()


def templated(query: Query) -> Expanded:
    """The fixed template around a query."""
    return of_text(wordy_template(Gold(typed(query), ()), (), random.Random(0)))


# ---- files ----


def read_expansions(path: Path) -> dict[Query, Expanded]:
    """Expansions from JSONL: rows of data sets (``output``), of /expand (``lines``) or of models (``text``).

    Raises InputError naming file and line.
    """
    found: dict[Query, Expanded] = {}
    for number, line in enumerate(from_path(path, []).lines(), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            row = json.loads(line)
            query = parse_query(row["query"], row.get("intent") or "", _only(row.get("only")))
            found[query] = _row(row)
        except MarginaliaError as error:
            raise InputError(f"{where}: {error}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            remedy = 'needed: "query" and "output": [[type, text], …], or "lines", or "text"'
            raise InputError(f"{where}: is no expansion", remedy) from None
    if not found:
        raise InputError(f"{path}: holds no expansions", "one JSON object a line")
    return found


def _only(value: Any) -> Iterable[str]:
    return [value] if isinstance(value, str) else value or ()


def _row(row: Mapping[str, Any]) -> Expanded:
    if "text" in row:
        return of_text(str(row["text"]))
    if "output" in row:
        return _of_lines(lines_of(row["output"]))
    lines = lines_of((line["type"], line["text"]) for line in row["lines"])
    return replace(_of_lines(lines), error=str(row.get("error") or "")) if lines else Expanded("", error="no lines")


def of_text(text: str) -> Expanded:
    """What a model wrote, as it is."""
    lines, malformed = parse_expansion(text)
    return Expanded(text, tuple(lines), bool(lines) and not malformed)


def _of_lines(lines: Sequence[Line]) -> Expanded:
    return Expanded(render(lines), tuple(lines))


# ---- models ----


class _Free(Delegate):
    """A model that is given no grammar and no schema: what it writes by itself."""

    def generate(self, request: Request, *, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Reply:
        """As the protocol says."""
        return super().generate(replace(request, grammar=None, schema=None), on_text=on_text, cancel=cancel)


def _asked(spec: str, opened: Opened, queries: Sequence[Query], how: How, journal: Journal) -> Answers:
    model: Model = _Free(opened.model) if how.raw else opened.model
    ours = not how.contract and Path(spec).expanduser().exists()  # a file or folder that says nothing is a fine-tune
    expander = make_expander(model, options_for(None), lines=ours or how.contract == CONTRACT)
    salt: list[Any] = [KIND, how.raw]
    speed_key = key_of(KIND, "speed", model.info, expander.contract, salt, how.settings.workers)
    if how.fresh:
        from secrets import token_hex

        salt.append(token_hex(8))
    rows = [QueryRow(typed(query), query) for query in queries]
    items = items_of(rows, expander, model.info, salt)
    if len(journal.get_many(item.key for item in items)) < len({item.key for item in items}):
        reserve(items, expander, model)
        model.generate(Request(prompt="We", options=replace(options_for(None), max_tokens=1)))  # loading is no expanding
    found, summary = _batch(items, expander, model, how, journal)
    if summary.done > summary.cached:
        journal.put(speed_key, {"rate": round(summary.rate, 2)}, kind=KIND, seconds=summary.seconds)
    rate = (journal.get(speed_key) or {}).get("rate")
    return Answers(spec, opened.place, found, model.info.digest, expander.contract, rate)


def _batch(
    items: Sequence[Item], expander: Expander, model: Model, how: How, journal: Journal
) -> tuple[tuple[Expanded, ...], BatchSummary]:
    outcomes: dict[int, Expanded] = {}

    def work(item: Item, cancel: threading.Event) -> dict[str, Any]:
        return as_written(expander, model, item.payload, cancel) if how.raw else as_served(expander, item.payload, cancel)

    with Progress(how.console, len(items), "queries") as progress:

        def on_done(index: int, outcome: dict[str, Any] | MarginaliaError, cached: bool) -> None:
            failed = isinstance(outcome, MarginaliaError)
            outcomes[index] = Expanded("", (), False, error=str(outcome)) if failed else _stored(outcome)
            progress.advance(failed=failed, cached=cached)

        workers = how.settings.workers or model.slots
        summary = run_batch(items, work, journal=journal, workers=workers, on_done=on_done, kind=KIND)
    return tuple(outcomes[index] for index in range(len(items))), summary


def as_served(expander: Expander, query: Query, cancel: threading.Event) -> dict[str, Any]:
    """What /expand gives, for the journal."""
    draft = expander.expand(query, cancel)
    removed = counts(draft.removed)
    return {
        "text": render(draft.lines),
        "lines": [[line.type, line.text] for line in draft.lines],
        "parseable": not any(removed.get(why) for why in UNREADABLE),
        "removed": removed,
    }


def as_written(expander: Expander, model: Model, query: Query, cancel: threading.Event) -> dict[str, Any]:
    """What a model writes when it is asked once; the lines are those that filters would keep."""
    texts: list[str] = []

    def ask(request: Request) -> Reply:
        reply = model.generate(request, cancel=cancel)
        if reply.finish == "cancelled":
            raise Cancelled
        texts.append(reply.text)
        return reply

    lines, unread = expander.first(query, ask)
    kept = filter_lines(query, lines)
    return {
        "text": texts[0] if isinstance(expander, LinesExpander) else render(lines),
        "lines": [[line.type, line.text] for line in kept.lines],
        "parseable": bool(lines) and not unread,
        "removed": counts([*unread, *kept.removed]),
    }


def _stored(outcome: Any) -> Expanded:
    return Expanded(outcome["text"], tuple(lines_of(outcome["lines"])), outcome["parseable"], outcome["removed"])
