"""Answers of a model to questions, through the code that serves /ask: search, verdict, answer, checks, repair.

The evidence of all questions is one library: every question is looked up among the evidence of all, and a question that
nothing answers finds what the others have. Answers are kept in a journal with the time that each took.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.dataset.qa_rows import Pair
from finetune.evaluation.ask_perplexity import Surprise, measurable, surprises
from finetune.evaluation.models import open_model
from harness.config import Settings
from harness.errors import MarginaliaError
from harness.jobs.journal import Journal
from harness.jobs.progress import Progress
from harness.jobs.runner import Item, run_batch
from harness.search.documents import Block, Document
from harness.search.indexing import bring_up_to_date, usual_workers
from harness.search.sqlite_store import SqliteStore
from harness.search.store import IndexedFile, Scope, Stamp
from skills.ask.answering import answer, record_of, threshold_for
from skills.ask.batch import finished, key
from skills.ask.look_up import Desk, LookedUp, look_up
from skills.ask.options import PASSAGES
from skills.ask.prompt import CONTRACT
from skills.ask.questions import Asked
from skills.ask.terms import Stemmer

if TYPE_CHECKING:
    from rich.console import Console

    from harness.models.base import Model

KIND = "evaluate-ask"
EXTRACTIVE = "extractive"
"""What stands for the answer without a chat model."""
EVIDENCE = "evidence"
"""What the file of all evidence is called in citations."""
Record = dict[str, Any]


@dataclass(frozen=True)
class How:
    """How to ask: the same for all models that are compared."""

    settings: Settings
    console: Console
    journal: Path
    passages: int = PASSAGES
    threshold: float | None = None
    """Evidence that an answer needs; None is what /ask asks for with the model, and without one."""
    fresh: bool = False
    """Ask again, whatever the journal holds."""
    contract: str = ""
    """Prompt contract of models that do not say theirs."""


@dataclass(frozen=True)
class Answers:
    """A model and its answers, in the order of the questions: /ask's records, with ``seconds`` each and ``error``."""

    name: str
    place: str
    """What ran it: ``ollama``, ``embedded``, ``remote``, ``transformers`` or ``sentences`` of the papers."""
    records: tuple[Record, ...]
    digest: str = ""
    contract: str = ""


@contextmanager
def library(pairs: Sequence[Pair], papers: Sequence[Path], settings: Settings, console: Console) -> Iterator[Desk]:
    """An index of the evidence of all questions, and of ``papers`` beside it, for as long as it is needed.

    Raises InputError for papers that cannot be read.
    """
    from harness.search.index import Options

    with tempfile.TemporaryDirectory(prefix="marginalia-ask-") as folder, SqliteStore(Path(folder) / "index.db") as store:
        store.put(IndexedFile(EVIDENCE, Stamp(0, 0, ""), ""), documents(pairs))
        if papers:
            reading = Options(workers=usual_workers(settings.workers))
            bring_up_to_date(store, papers, reading, console)
        yield Desk(store, Scope(), Stemmer())


def documents(pairs: Sequence[Pair]) -> Iterator[Document]:
    """The evidence, a document a paper, each piece once."""
    papers: dict[str, tuple[str, dict[str, None]]] = {}
    for pair in pairs:
        title, contexts = papers.get(pair.paper, ("", {}))
        papers[pair.paper] = title or pair.title, contexts | dict.fromkeys(pair.contexts)
    for name, (title, contexts) in papers.items():
        if contexts:
            yield Document(title, tuple(map(Block, contexts)), name, name)


def answers(
    spec: str, pairs: Sequence[Pair], desk: Desk, how: How, *, perplexity: bool
) -> tuple[Answers, list[Surprise | None]]:
    """The answers of what ``spec`` names, a model or ``extractive``, and how it likes the reference answers, where that is
    wanted and can be measured.

    Raises InputError, NoModelError and ModelError where it cannot be opened; a question that fails is one with an error.
    """
    unknown: list[Surprise | None] = [None] * len(pairs)
    if spec == EXTRACTIVE:
        return Answers(spec, "sentences", _asked(None, pairs, desk, how)), unknown
    opened = open_model(spec, how.settings, contract=how.contract, task="ask")
    try:
        records = _asked(opened.model, pairs, desk, how)
        if perplexity and measurable(opened.model, opened.place):
            unknown = surprises(opened.model, pairs, how.journal, how.console)
    finally:
        opened.model.close()
    info = opened.model.info
    return Answers(spec, opened.place, records, info.digest, info.contract or CONTRACT), unknown


def _asked(model: Model | None, pairs: Sequence[Pair], desk: Desk, how: How) -> tuple[Record, ...]:
    salt: list[Any] = [KIND]
    if how.fresh:
        from secrets import token_hex

        salt.append(token_hex(8))
    threshold = threshold_for(how.threshold, model is not None)
    outcomes: dict[int, Record | MarginaliaError] = {}

    def items() -> Iterator[Item]:
        for index, pair in enumerate(pairs):
            started = time.perf_counter()
            looked = look_up(desk, pair.question, how.passages, threshold)
            yield Item(index, key(looked, model, salt), (looked, time.perf_counter() - started))

    def work(item: Item, cancel: threading.Event) -> Record:
        looked: LookedUp = item.payload[0]
        started = time.perf_counter()
        found = record_of(answer(looked, model, cancel=cancel), looked)
        return {**found, "seconds": round(item.payload[1] + time.perf_counter() - started, 4)}

    with Journal(how.journal) as journal, Progress(how.console, len(pairs), "questions") as progress:

        def on_done(index: int, outcome: Record | MarginaliaError, cached: bool) -> None:
            outcomes[index] = outcome
            progress.advance(failed=isinstance(outcome, MarginaliaError), cached=cached)

        run_batch(items(), work, journal=journal, workers=how.settings.workers or 1, on_done=on_done, kind=KIND)
    return tuple(finished(Asked(pair.question), outcomes.get(index)) for index, pair in enumerate(pairs))
