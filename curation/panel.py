"""Verdicts for many rows: checks, votes, quorum; every vote and verdict is in the journal before the next is shown."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation import checks, judge
from curation.annotation import Annotation
from curation.checks.finding import Finding
from curation.personas import Panel, Persona
from curation.rows import Row
from curation.votes import Vote, broken, by_checks, from_record, is_kept
from harness.errors import MarginaliaError
from harness.jobs.journal import Journal, key_of
from harness.jobs.progress import Progress
from harness.jobs.runner import BatchSummary, Item, run_batch
from harness.models.base import Model
from skills.annotate.moves import Framework

if TYPE_CHECKING:
    from rich.console import Console

KIND, VOTE_KIND = "curate", "curate-vote"
COUNTED = 3
"""Of the longest prompts, whose tokens are counted."""
MARGIN = 1.15
TEMPLATE_TOKENS = 96
"""What a chat template adds to two messages, generously."""
KEPT, REJECTED, FAILED = "kept", "rejected", "failed"
UNASKED = "not asked: the checks have decided this row"


@dataclass(frozen=True)
class Rules:
    """What a verdict follows from, besides the row."""

    panel: Panel
    framework: Framework
    threshold: float = 3
    """The score from which a vote is for keeping."""
    quorum: int = 3
    """Votes for keeping that a row needs."""
    model: Model | None = None
    """The chat model that votes; None leaves all votes to the checks."""
    salt: str = ""
    """Anything here keeps the journal from answering."""

    @property
    def voter(self) -> list[str]:
        """What identifies the model in a key."""
        return [judge.CONTRACT, self.model.info.name, self.model.info.digest] if self.model else []


@dataclass
class Curated:
    """The verdicts: one record a row, in the rows' order, and what it took."""

    records: list[dict[str, Any]]
    summary: BatchSummary = field(default_factory=BatchSummary)
    unjudged: int = 0
    """Rows that could have been judged but for the model: the same command goes on with them."""

    def count(self, verdict: str) -> int:
        """Rows with this verdict."""
        return sum(record["verdict"] == verdict for record in self.records)

    @property
    def kept(self) -> list[int]:
        """Positions of the kept rows."""
        return [position for position, record in enumerate(self.records) if record["verdict"] == KEPT]

    @property
    def failed_votes(self) -> int:
        """Replies that could not be read."""
        return sum(vote["score"] is None for record in self.records for vote in record["votes"])

    @property
    def sources(self) -> Counter[str]:
        """Votes by who cast them."""
        return Counter(vote["source"] for record in self.records for vote in record["votes"])


def subject(annotation: Annotation) -> list[Any]:
    """What of a row shapes votes and verdict."""
    numbers = {move: list(numbers) for move, numbers in annotation.numbers.items()}
    own = list(annotation.own_sentences)
    return [annotation.abstract, annotation.title, dict(annotation.texts), numbers, own, annotation.style]


def verdict_key(annotation: Annotation, rules: Rules) -> str:
    """The content address of a verdict: everything that shapes it, threshold and quorum included."""
    moves = [vars(move) for move in rules.framework.moves]
    shape = [rules.panel.digest, checks.version(), moves, rules.voter, rules.threshold, rules.quorum, rules.salt]
    return key_of(KIND, subject(annotation), shape)


def vote_key(annotation: Annotation, persona: Persona, rules: Rules) -> str:
    """The content address of a model's vote; neither threshold nor checks shape it."""
    moves = [vars(move) for move in rules.framework.moves]
    reader = [persona.name, persona.lens, list(persona.rubric)]
    return key_of(VOTE_KIND, subject(annotation), reader, moves, rules.voter, rules.salt)


def votes_of(annotation: Annotation, rules: Rules, journal: Journal, cancel: threading.Event) -> list[Vote]:
    """The vote of every persona. The model is asked only where the checks leave the row open. Raises ModelError."""
    found = checks.findings(annotation)
    personas = rules.panel.personas
    failed = [persona for persona in personas if broken(persona, found, guesses=rules.model is None)]
    decided = len(personas) - len(failed) < rules.quorum
    votes = []
    for persona in personas:
        if rules.model is None or persona in failed:
            votes.append(by_checks(persona, found))
        elif decided:
            votes.append(_unasked(persona, found))
        else:
            votes.append(_asked(rules.model, annotation, persona, rules, journal, cancel))
    return votes


def _unasked(persona: Persona, found: Sequence[Finding]) -> Vote:
    vote = by_checks(persona, found)
    return Vote(vote.persona, vote.score, f"{vote.reason} ({UNASKED})", vote.source)


def _asked(
    model: Model, annotation: Annotation, persona: Persona, rules: Rules, journal: Journal, cancel: threading.Event
) -> Vote:
    """The model's vote, from the journal where it is there; so a kill costs one vote, and a new threshold costs none."""
    key = vote_key(annotation, persona, rules)
    if (known := journal.get(key)) is not None:
        return from_record(known)
    started = time.monotonic()
    session = key_of(subject(annotation))
    vote = judge.ask(model, annotation, persona, rules.framework, session=session, cancel=cancel)
    journal.put(key, vars(vote), kind=VOTE_KIND, seconds=time.monotonic() - started)
    return vote


def reserve(rows: Sequence[Row], rules: Rules) -> None:
    """Have the model's context hold the longest request; a row that no context can hold fails by itself."""
    if rules.model is None:
        return
    personas, framework = rules.panel.personas, rules.framework
    prompts = (judge.longest_prompt(row.annotation, personas, framework) for row in rows if row.error is None)
    if longest := nlargest(COUNTED, prompts, key=len):
        needed = round(MARGIN * max(map(rules.model.count_tokens, longest))) + judge.TOKENS + TEMPLATE_TOKENS
        rules.model.reserve(min(needed, rules.model.info.context or needed))


def curate(rows: Sequence[Row], rules: Rules, *, journal_path: Path, console: Console, workers: int = 1) -> Curated:
    """Judge every row, taking from the journal what is there. KeyboardInterrupt leaves all finished work in it."""
    reserve(rows, rules)
    items = [Item(index, verdict_key(row.annotation, rules), row, row.error) for index, row in enumerate(rows)]
    outcomes: dict[int, dict[str, Any] | MarginaliaError] = {}
    with Journal(journal_path) as journal, Progress(console, len(items), "rows") as progress:

        def work(item: Item, cancel: threading.Event) -> dict[str, Any]:
            row: Row = item.payload
            return {"votes": [vars(vote) for vote in votes_of(row.annotation, rules, journal, cancel)]}

        def on_done(index: int, outcome: dict[str, Any] | MarginaliaError, cached: bool) -> None:
            outcomes[index] = outcome
            progress.advance(failed=isinstance(outcome, MarginaliaError), cached=cached)

        summary = run_batch(items, work, journal=journal, workers=workers, on_done=on_done, kind=KIND)
    records = [record_of(row, item.key, outcomes[item.index], rules) for row, item in zip(rows, items, strict=True)]
    unjudged = sum(row.error is None and record["error"] is not None for row, record in zip(rows, records, strict=True))
    return Curated(records, summary, unjudged)


def record_of(row: Row, key: str, outcome: dict[str, Any] | MarginaliaError, rules: Rules) -> dict[str, Any]:
    """One line of the log."""
    failed = isinstance(outcome, MarginaliaError)
    votes = [] if isinstance(outcome, MarginaliaError) else [from_record(vote) for vote in outcome["votes"]]
    kept = is_kept(votes, threshold=rules.threshold, quorum=rules.quorum)
    return {
        "row": row.number,
        "id": row.id,
        "title": row.annotation.title,
        "verdict": FAILED if failed else KEPT if kept else REJECTED,
        "passed": sum(vote.passes(rules.threshold) for vote in votes),
        "quorum": rules.quorum,
        "threshold": rules.threshold,
        "votes": [vote.record(rules.threshold) for vote in votes],
        "error": str(outcome) if failed else None,
        "key": key,
    }
