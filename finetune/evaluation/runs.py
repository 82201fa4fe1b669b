"""Run one model over gold papers, through the code that serves /annotate: what it found, how fast, with how much memory.

Answers are kept in a journal of their own, so that a long evaluation that was killed goes on where it stopped; what speed
and memory were measured is kept beside them, because a run that takes all answers from the journal measures neither.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.evaluation.consistency import Answered, answered
from finetune.evaluation.memory import descendants, peak_of
from finetune.evaluation.models import Opened, open_model
from harness.config import Settings
from harness.errors import MarginaliaError
from harness.jobs.journal import Journal, key_of
from harness.jobs.progress import Progress
from harness.jobs.runner import BatchSummary, Item, run_batch
from harness.models.base import Delegate, Model, ModelInfo, OnText, Options, Reply, Request
from harness.readers.paper import Paper
from harness.sentences import Sentence
from skills.annotate.annotator import Annotator, Cell, Draft, make_annotator
from skills.annotate.batch import items_of, reserve
from skills.annotate.moves import Framework
from skills.annotate.prompt import END

if TYPE_CHECKING:
    from rich.console import Console

KIND = "evaluate"
_WARM_UP = Request(prompt="We", options=Options(max_tokens=1))


@dataclass
class Run:
    """What one model made of the papers, in their order."""

    name: str
    info: ModelInfo
    place: str
    """What ran it: ``ollama``, ``embedded``, ``remote`` or ``transformers``."""
    cells: list[dict[str, Cell] | None]
    """None for a paper without a usable annotation."""
    named: list[tuple[str, ...]]
    """The moves that each answer named, in its order."""
    errors: list[str]
    """A line for each paper without an annotation."""
    papers_per_minute: float | None = None
    """Loading left out; None where every answer came from the journal and nothing was measured before."""
    peak_bytes: int | None = None
    seconds: float = 0.0
    cached: int = 0

    def found(self) -> list[dict[str, list[int]]]:
        """Sentence numbers of each move for each paper; empty where there is no annotation."""
        return [{move: cell.sentences for move, cell in (cells or {}).items()} for cells in self.cells]

    def answers(self, papers: Sequence[Mapping[str, Any]]) -> list[Answered | None]:
        """The annotations as ``consistency.measure`` takes them."""
        return [
            None if cells is None else answered({m: c.sentences for m, c in cells.items()}, paper["sentences"], named)
            for cells, named, paper in zip(self.cells, self.named, papers, strict=True)
        ]


class Observed(Delegate):
    """A model that keeps the last text it wrote in each thread and, where it shall be ``free``, is given no schema.

    What constrained decoding forces says nothing about how consistent a model is.
    """

    def __init__(self, model: Model, *, free: bool = False) -> None:
        super().__init__(model)
        self._free = free
        self._last = threading.local()

    @property
    def text(self) -> str:
        """What this thread's last request got."""
        return getattr(self._last, "text", "")

    def generate(self, request: Request, *, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Reply:
        """As the protocol says."""
        if self._free and request.schema is not None:
            request = replace(request, schema=None)
        reply = super().generate(request, on_text=on_text, cancel=cancel)
        self._last.text = reply.text
        return reply


def names_in(text: str, moves: Sequence[str]) -> tuple[str, ...]:
    """The moves that an answer in JSON names, in its order; empty where it is no JSON object."""
    start, end = text.find("{"), text.split(END)[0].rfind("}")
    try:
        value = json.loads(text[start : end + 1])
    except ValueError:
        return ()
    return tuple(name for name in value if name in moves) if isinstance(value, dict) else ()


@dataclass(frozen=True)
class Evaluator:
    """How to run models: the same for all that are compared."""

    framework: Framework
    settings: Settings
    console: Console
    journal: Path
    """Where answers are kept."""
    fresh: bool = False
    """Ask again and measure again, whatever the journal holds."""
    free: bool = False
    """Without constrained decoding."""
    contract: str = ""
    """Prompt contract of models that do not say which one they speak."""

    def run(self, spec: str, papers: Sequence[Mapping[str, Any]]) -> Run:
        """Open a model, annotate the papers, close it. Raises MarginaliaError where it cannot be opened at all."""
        before = descendants(os.getpid())
        opened = open_model(spec, self.settings, contract=self.contract)
        try:
            with Journal(self.journal) as journal:
                return self._run(spec, opened, papers, journal, before)
        finally:
            opened.model.close()

    def _run(
        self, spec: str, opened: Opened, papers: Sequence[Mapping[str, Any]], journal: Journal, before: set[int]
    ) -> Run:
        model = Observed(opened.model, free=self.free)
        annotator = make_annotator(
            model, self.framework, prose=False, serving=opened.serving, options=Options(temperature=0.0)
        )
        salt: list[Any] = [KIND, dict(opened.serving), self.free]
        measured_as = key_of(KIND, "speed", model.info, annotator.contract, salt, self.settings.workers)
        if self.fresh:
            from secrets import token_hex

            salt.append(token_hex(8))
        items = items_of(
            [_paper(paper, n) for n, paper in enumerate(papers, 1)], annotator, model, self.framework, "quote", salt
        )
        if len(journal.get_many(item.key for item in items)) < len({item.key for item in items}):
            reserve(items, annotator, model)
            model.generate(_WARM_UP)  # the time that loading takes is not that of annotating
        gathered = _Gathered(len(papers))
        summary = self._batch(items, annotator, model, journal, gathered)
        if summary.done > summary.cached:  # rows that fail at once say nothing about speed
            measured = {
                "papers_per_minute": round(summary.rate * 60, 2),
                "peak_bytes": peak_of(opened.model, before, self.settings.ollama_host),
            }
            journal.put(measured_as, measured, kind=KIND, seconds=summary.seconds)
        speed = journal.get(measured_as) or {}
        return Run(
            spec,
            model.info,
            opened.place,
            gathered.cells,
            gathered.named,
            [f"{papers[row]['id']}: {why}" for row, why in sorted(gathered.errors.items())],
            speed.get("papers_per_minute"),
            speed.get("peak_bytes"),
            summary.seconds,
            summary.cached,
        )

    def _batch(
        self, items: Sequence[Item], annotator: Annotator, model: Observed, journal: Journal, into: _Gathered
    ) -> BatchSummary:
        moves = self.framework.names

        def work(item: Item, cancel: threading.Event) -> dict[str, Any]:
            paper, sentences = item.payload
            spans: list[Sentence] = sentences
            draft = annotator.annotate(paper.title, [sentence.text for sentence in spans], cancel)
            # a model that marks sentence by sentence writes no list that could lack a move or be out of order
            named = moves if annotator.contract.startswith("annotate/mark") else names_in(model.text, moves)
            return {"cells": _stored(draft), "named": list(named)}

        with Progress(self.console, len(items)) as progress:

            def on_done(index: int, outcome: dict[str, Any] | MarginaliaError, cached: bool) -> None:
                into.add(index, outcome)
                progress.advance(failed=isinstance(outcome, MarginaliaError), cached=cached)

            workers = self.settings.workers or model.slots
            return run_batch(items, work, journal=journal, workers=workers, on_done=on_done, kind=KIND)


def _paper(gold: Mapping[str, Any], number: int) -> Paper:
    """A gold paper as the readers would give it; its sentences are used as they are."""
    return Paper(gold["id"], gold["title"], gold["abstract"], "gold", number, tuple(gold["sentences"]))


def _stored(draft: Draft) -> dict[str, list[Any]]:
    """The cells as JSON: ``[sentences, confidence]``."""
    return {move: [cell.sentences, cell.confidence] for move, cell in draft.cells.items()}


@dataclass
class _Gathered:
    """Outcomes by row, as they come."""

    papers: int
    errors: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cells: list[dict[str, Cell] | None] = [None] * self.papers
        self.named: list[tuple[str, ...]] = [()] * self.papers

    def add(self, index: int, outcome: dict[str, Any] | MarginaliaError) -> None:
        """One row's outcome."""
        if isinstance(outcome, MarginaliaError):
            self.errors[index] = str(outcome)
            return
        self.cells[index] = {
            move: Cell(list(numbers), confidence=sure) for move, (numbers, sure) in outcome["cells"].items()
        }
        self.named[index] = tuple(outcome["named"])
