"""Expand many queries: content-addressed items, the journal, progress, records in the order of the input."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from harness.errors import MarginaliaError
from harness.jobs.journal import Journal, key_of
from harness.jobs.progress import Progress
from harness.jobs.runner import BatchSummary, Item, run_batch
from harness.models.base import Model, ModelInfo
from skills.expand.corpus import CorpusLines
from skills.expand.expander import Draft, Expander
from skills.expand.expansion import lines_of, ordered
from skills.expand.filters import REASONS, Removed, counts
from skills.expand.queries import QueryRow

if TYPE_CHECKING:
    from harness.context import Context

KIND = "expand"
REVISION = 10
"""Of the prompts, grammars and filters: another one makes no use of what the journal holds."""
COUNTED = 3
MARGIN = 1.15
AHEAD = 2
"""Drafts of a single query that are begun together: a small model computes each on a core of its own."""

Record = dict[str, Any]


@dataclass
class Batch:
    """A finished batch: one record a query, in their order, and what it took."""

    records: list[Record]
    summary: BatchSummary
    removed: list[list[Removed]]
    """Of each query, the lines that were taken out."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    context_used: int = 0

    @property
    def failed(self) -> int:
        """Queries without an expansion."""
        return sum(record["status"] == "error" for record in self.records)

    @property
    def reasons(self) -> dict[str, int]:
        """How many lines were removed for which reason."""
        total: Counter[str] = Counter()
        for record in self.records:
            total.update(record["removed"])
        return {why: total[why] for why in REASONS if total[why]}


@dataclass
class _Usage:
    """What the requests of a batch took, in tokens."""

    prompt: int = 0
    completion: int = 0
    largest: int = 0
    outcomes: dict[int, Any] = field(default_factory=dict)

    def take(self, index: int, outcome: Record | MarginaliaError, cached: bool) -> None:
        self.outcomes[index] = outcome
        if isinstance(outcome, dict) and not cached:
            prompt, completion, largest = outcome["usage"]
            self.prompt, self.completion = self.prompt + prompt, self.completion + completion
            self.largest = max(self.largest, largest)


def items_of(rows: Sequence[QueryRow], expander: Expander, info: ModelInfo, salt: object) -> list[Item]:
    """One item a query; the key is everything that shapes the result."""
    shape = [REVISION, expander.contract, expander.means, info.digest, info.name, salt]
    return [
        Item(index, key_of(KIND, row.query, row.text if row.error else "", shape), row.query, row.error)
        for index, row in enumerate(rows)
    ]


def reserve(items: Sequence[Item], expander: Expander, model: Model) -> None:
    """Have the model's context hold the largest request of the job, counted for the few longest prompts."""
    longest = nlargest(COUNTED, (expander.longest_prompt(item.payload) for item in items if not item.error), key=len)
    if longest:
        needed = round(MARGIN * max(map(model.count_tokens, longest))) + expander.output_tokens
        model.reserve(min(needed, model.info.context or needed))


def expand_all(
    rows: Sequence[QueryRow],
    expander: Expander,
    model: Model,
    context: Context,
    *,
    salt: object = None,
    corpus: CorpusLines | None = None,
) -> Batch:
    """Expand every query, taking from the journal what is there. KeyboardInterrupt leaves all finished ones in it."""
    info = model.info
    items = items_of(rows, expander, info, salt)
    reserve(items, expander, model)
    usage = _Usage()
    with ExitStack() as stack:
        journal = Journal(context.home / "journal.db")
        stack.callback(journal.close)
        progress = stack.enter_context(Progress(context.console, len(items), "queries"))

        def work(item: Item, cancel: threading.Event) -> Record:
            return result_of(expander.expand(item.payload, cancel, ahead=ahead))

        def on_done(index: int, outcome: Record | MarginaliaError, cached: bool) -> None:
            usage.take(index, outcome, cached)
            query = rows[index].query
            if corpus and query and isinstance(outcome, dict):
                more = [[line.type, line.text] for line in corpus(query)]
                usage.outcomes[index] = outcome | {"lines": [*outcome["lines"], *more]}
            progress.advance(failed=isinstance(outcome, MarginaliaError), cached=cached)

        workers = context.settings.workers or model.slots
        ahead = min(AHEAD, workers) if len(items) == 1 else 1
        summary = run_batch(items, work, journal=journal, workers=workers, on_done=on_done, kind=KIND)
    outcomes = [usage.outcomes.get(index) for index in range(len(rows))]
    return Batch(
        records=[record_of(row, outcome, info) for row, outcome in zip(rows, outcomes, strict=True)],
        summary=summary,
        removed=[_removed(outcome) for outcome in outcomes],
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        context_used=usage.largest,
    )


def result_of(draft: Draft) -> Record:
    """What the journal keeps of one query."""
    return {
        "lines": [[line.type, line.text] for line in draft.lines],
        "removed": [[one.why, one.text] for one in draft.removed],
        "usage": [draft.prompt_tokens, draft.completion_tokens, draft.context_used],
    }


def _removed(outcome: object) -> list[Removed]:
    return [Removed(*pair) for pair in outcome["removed"]] if isinstance(outcome, dict) else []


def record_of(row: QueryRow, outcome: Record | MarginaliaError | None, info: ModelInfo) -> Record:
    """The record of one query: DESIGN.md's ``query``, ``lines`` and ``model``, what was removed, and why it failed."""
    record: Record = {"query": row.text}
    if row.query and row.query.intent:
        record["intent"] = row.query.intent
    if row.query and row.query.only:
        record["only"] = list(row.query.only)
    done = isinstance(outcome, dict)
    return record | {
        "lines": [line.record() for line in ordered(lines_of(outcome["lines"]))] if isinstance(outcome, dict) else [],
        "removed": counts(_removed(outcome)),
        "model": info.record(),
        "status": "ok" if done else "error",
        "error": None if done else str(outcome) if outcome is not None else "not reached",
    }
