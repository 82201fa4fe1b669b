"""Annotate many papers: content-addressed items, the journal, progress, records in the order of the input."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import InputError, MarginaliaError
from harness.jobs.journal import Journal, key_of
from harness.jobs.progress import Progress
from harness.jobs.runner import BatchSummary, Item, run_batch
from harness.models.base import Model
from harness.readers.paper import Paper
from harness.sentences import Sentence
from skills.annotate.annotator import Annotator, check_readable
from skills.annotate.moves import Framework
from skills.annotate.record import Record, record_of, result_of, sentences_of

if TYPE_CHECKING:
    from harness.context import Context

KIND = "annotate"
COUNTED = 3
MARGIN = 1.15


@dataclass
class Batch:
    """A finished (or interrupted) batch: one record a paper, in the papers' order, and what it took."""

    records: list[Record]
    summary: BatchSummary = field(default_factory=BatchSummary)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    context_used: int = 0

    @property
    def failed(self) -> int:
        """Rows without an annotation."""
        return sum(record["status"] == "error" for record in self.records)

    @property
    def partial(self) -> int:
        """Rows whose annotation is marked as not wholly borne out by the abstract."""
        return sum(record["status"] == "partial" for record in self.records)


def items_of(
    papers: Sequence[Paper], annotator: Annotator, model: Model, framework: Framework, style: str, salt: object
) -> list[Item]:
    """One item a paper; rows that cannot be annotated carry their error.

    The key is everything that shapes the result: text, title, sentences, contract, moves, model and its serving values.
    """
    shape = [
        annotator.contract,
        [vars(move) for move in framework.moves],
        style,
        model.info.digest,
        model.info.name,
        salt,
    ]
    items = []
    for index, paper in enumerate(papers):
        sentences = [] if paper.error else sentences_of(paper)
        error = paper.error
        if error is None:
            try:
                check_readable([sentence.text for sentence in sentences])
            except InputError as unreadable:
                error = str(unreadable)
        key = key_of(KIND, paper.abstract, paper.title, [(s.start, s.end) for s in sentences], shape)
        items.append(Item(index=index, key=key, payload=(paper, sentences), error=error))
    return items


def reserve(items: Sequence[Item], annotator: Annotator, model: Model) -> None:
    """Have the model's context hold the largest request of the job; a row that no context can hold fails by itself.

    Tokens are counted for the few longest prompts only, with a margin for texts of fewer characters and more tokens.
    """
    payloads = [item.payload for item in items if item.error is None]
    prompts = (annotator.longest_prompt(paper.title, [s.text for s in sentences]) for paper, sentences in payloads)
    longest = nlargest(COUNTED, prompts, key=len)
    if longest:
        needed = round(MARGIN * max(map(model.count_tokens, longest))) + annotator.output_tokens
        model.reserve(min(needed, model.info.context or needed))


def annotate_all(
    papers: Sequence[Paper],
    annotator: Annotator,
    model: Model,
    framework: Framework,
    context: Context,
    *,
    style: str,
    salt: object = None,
) -> Batch:
    """Annotate every paper, taking from the journal what is there. KeyboardInterrupt leaves all finished rows in it."""
    items = items_of(papers, annotator, model, framework, style, salt)
    reserve(items, annotator, model)
    outcomes: dict[int, Any] = {}
    batch = Batch([])

    def work(item: Item, cancel: threading.Event) -> Record:
        paper, sentences = item.payload
        spans: list[Sentence] = sentences
        draft = annotator.annotate(paper.title, [sentence.text for sentence in spans], cancel)
        return result_of(draft, spans, framework)

    with ExitStack() as stack:
        journal = Journal(journal_path(context.home))
        stack.callback(journal.close)
        progress = stack.enter_context(Progress(context.console, len(items)))

        def on_done(index: int, outcome: Record | MarginaliaError, cached: bool) -> None:
            outcomes[index] = outcome
            if isinstance(outcome, dict) and not cached:
                prompt_tokens, completion_tokens, used = outcome["usage"]
                batch.prompt_tokens += prompt_tokens
                batch.completion_tokens += completion_tokens
                batch.context_used = max(batch.context_used, used)
            progress.advance(failed=isinstance(outcome, MarginaliaError), cached=cached)

        workers = context.settings.workers or model.slots
        batch.summary = run_batch(items, work, journal=journal, workers=workers, on_done=on_done, kind=KIND)
    batch.records = [record_of(p, outcomes.get(i), model.info, style, framework) for i, p in enumerate(papers)]
    return batch


def journal_path(home: Path) -> Path:
    """Where the journal of all jobs lies."""
    return home / "journal.db"
