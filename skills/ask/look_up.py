"""From a question to judged evidence: search, expansion, verdict, and the account of all of it for ``--explain``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.search.search import Found, Line, Plan, explain, search
from skills.ask.abstain import BACKGROUND, Verdict, judge
from skills.ask.passages import Evidence, passages_of, read
from skills.ask.record import Passage
from skills.ask.terms import Stemmer, Terms, terms_of

if TYPE_CHECKING:
    from harness.models.base import Model
    from harness.search.late import TokenEncoder
    from harness.search.store import Scope, Store
    from harness.search.vectors import Embedder


@dataclass(frozen=True)
class Desk:
    """What every question of a task is looked up with."""

    store: Store
    scope: Scope
    stemmer: Stemmer
    embedder: Embedder | None = None
    late: TokenEncoder | None = None
    """Reranks by late interaction."""


@dataclass(frozen=True)
class LookedUp:
    """What was found for a question."""

    question: str
    found: Found
    background: tuple[Evidence, ...]
    """The best passages, more than are read: the verdict needs to see what else there is."""
    terms: Terms
    verdict: Verdict
    count: int
    """How many passages are read."""
    focus: Terms | None = None
    """The words of a follow-up question itself."""

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The passages that are read."""
        return self.background[: self.count]

    @property
    def passages(self) -> list[Passage]:
        """The same, as an answer cites them."""
        return [one.passage for one in self.evidence]

    def account(self) -> list[str]:
        """Every score of every stage, a line each, for people."""
        verdict = self.verdict
        words = ", ".join(f"{self.terms.words[stem]} {self.terms.idf[stem]:.1f}" for stem in self.terms.stems)
        parts = ", ".join(f"{name} {value:.3f}" for name, value in verdict.measures.items())
        decided = "answered" if verdict.enough else "not answered"
        shown = Found(self.found.hits[: self.count], self.found.notes)
        return [
            f"telling words (idf): {words or 'none'}",
            *explain(shown),
            f"evidence: {verdict.probability:.3f}, asked {verdict.threshold:.3f}: {decided} ({parts})",
        ]


def look_up(
    desk: Desk,
    question: str,
    count: int,
    threshold: float,
    lines: Sequence[Line] = (),
    reranker: tuple[Model, float] | None = None,
    focus: str = "",
) -> LookedUp:
    """Search for a question and judge what is found; ``reranker`` is a chat model and how many seconds it may take;
    ``focus`` is a follow-up question as it was asked, where ``question`` has words of the one before.

    Raises ModelError where the embedding model or that of late interaction fails.
    """
    plan = Plan(limit=max(count, BACKGROUND), scope=desk.scope)
    found = search(desk.store, question, lines=lines, embedder=desk.embedder, plan=plan)
    if desk.late is not None:
        from harness.search.late import rerank_late

        found = rerank_late(found, question, desk.late)
    if reranker:
        from harness.search.rerank import rerank

        found = rerank(found, question, reranker[0], seconds=reranker[1])
    evidence = tuple(read(passages_of(found.hits), desk.stemmer))
    terms = terms_of(question, desk.store, desk.stemmer)
    own = terms_of(focus, desk.store, desk.stemmer) if focus else None
    verdict = judge(evidence[:BACKGROUND], terms, threshold)
    return LookedUp(question, found, evidence, terms, verdict, count, own if own and own.stems else None)
