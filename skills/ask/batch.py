"""A file of questions: each looked up, answered once and kept in the journal, records in the order of the file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import InputError, MarginaliaError
from harness.jobs.journal import Journal, key_of
from harness.jobs.progress import Progress
from harness.jobs.runner import BatchSummary, Cancelled, Item, run_batch
from skills.ask.answering import answer, record_of
from skills.ask.look_up import LookedUp
from skills.ask.questions import Asked
from skills.ask.record import Answer

if TYPE_CHECKING:
    from harness.context import Context
    from harness.models.base import Model
    from harness.rate import Rate

KIND = "ask"
WORKERS = 1
"""Questions at once, unless told: one chat model on one machine answers no faster in parallel."""
REVISION = 3
"""Of prompts, scores and checks: another one makes no use of what the journal holds."""
Record = dict[str, Any]
Ready = tuple[LookedUp, "Model | None"]
"""A question that was looked up, and the model that shall answer it."""


def key(looked: LookedUp, model: Model | None, salt: object) -> str:
    """All that decides an answer: the question, what was found, the model."""
    passages = [[one.file, one.where, one.header, one.text] for one in looked.passages]
    info = [model.info.name, model.info.digest, model.info.contract] if model else []
    verdict = [round(looked.verdict.probability, 6), looked.verdict.threshold, looked.verdict.enough]
    return key_of(KIND, REVISION, looked.question, passages, verdict, info, salt)


def answer_all(
    rows: Sequence[Asked],
    ready: Callable[[str], Ready],
    context: Context,
    *,
    explain: bool,
    salt: object = None,
    rate: Rate | None = None,
) -> tuple[list[Record], BatchSummary]:
    """Answer every question, taking from the journal what is there; those that go to a chat model keep to ``rate``.

    KeyboardInterrupt leaves all finished ones in the journal.
    """
    outcomes: dict[int, Record | MarginaliaError] = {}

    def items() -> Iterator[Item]:
        for index, asked in enumerate(rows):
            if asked.error:
                yield Item(index, f"error {index}", error=asked.error)
                continue
            try:
                looked, model = ready(asked.text)
            except InputError as error:
                yield Item(index, f"error {index}", error=str(error))
                continue
            yield Item(index, key(looked, model, [explain, salt]), (looked, model))

    def work(item: Item, cancel: threading.Event) -> Record:
        looked, model = item.payload
        if rate is not None and model is not None and looked.verdict.enough and not rate.wait(cancel):
            raise Cancelled
        return record_of(answer(looked, model, cancel=cancel), looked, explain=explain)

    with Journal(context.home / "journal.db") as journal, Progress(context.console, len(rows), "questions") as progress:

        def on_done(index: int, outcome: Record | MarginaliaError, cached: bool) -> None:
            outcomes[index] = outcome
            progress.advance(failed=isinstance(outcome, MarginaliaError), cached=cached)

        workers = context.settings.workers or WORKERS
        summary = run_batch(items(), work, journal=journal, workers=workers, on_done=on_done, kind=KIND)
    return [finished(asked, outcomes.get(index)) for index, asked in enumerate(rows)], summary


def finished(asked: Asked, outcome: Record | MarginaliaError | None) -> Record:
    """The record of one row; one that failed is kept and says why."""
    if isinstance(outcome, dict):
        return {**outcome, "error": None}
    why = str(outcome) if outcome is not None else "not reached"
    return {**Answer(asked.text, "", "").record(), "error": why}
