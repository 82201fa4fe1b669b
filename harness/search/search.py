"""A question and its expansions to ranked chunks: BM25 and vectors, fused, with every score of every stage kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from harness.errors import UsageError
from harness.search.bm25 import LexicalQuery, parse
from harness.search.feedback import Feedback, TermStore, shown, with_feedback
from harness.search.fusion import Fused, K, QueryType, Ranking, Stage, Step, fuse
from harness.search.store import Ranked, Scope, Store, StoredChunk
from harness.search.vectors import Embedder

DEPTH = 100
"""Chunks taken from each ranking."""
SURE_RATIO = 1.5
"""How far the best chunk's BM25 must lead the second paper's for expansions to be left out."""
_LINE = re.compile(r"\s*(lex|vec|hyde)\s*:\s*(.+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Line:
    """One line of an expansion."""

    type: Literal["lex", "vec", "hyde"]
    text: str


@dataclass(frozen=True)
class Hit:
    """A chunk that was found, and how."""

    chunk: StoredChunk
    score: float
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Found:
    """The result of a search. ``notes`` say which stages were left out, and why."""

    hits: tuple[Hit, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How to search."""

    limit: int = 10
    depth: int = DEPTH
    scope: Scope = field(default_factory=Scope)
    sure_ratio: float = SURE_RATIO
    """0 uses the expansions always."""
    feedback: Feedback | None = None
    """Terms of the corpus join the question; None leaves them out."""


def parse_line(text: str) -> Line:
    """An expansion's line ``lex: …``, ``vec: …`` or ``hyde: …``. Raises UsageError for anything else."""
    match = _LINE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is no line of an expansion", "write lex: …, vec: … or hyde: …")
    return Line(cast(Any, match[1].lower()), match[2].strip())


def search(
    store: Store, question: str, *, lines: Sequence[Line] = (), embedder: Embedder | None = None, plan: Plan | None = None
) -> Found:
    """The chunks that answer a question best.

    The question is looked up by BM25 and, with an ``embedder``, by vector. ``lines`` of an expansion join in: lex by
    BM25, vec and hyde by vector. They are left out where BM25 is sure already. With ``plan.feedback`` terms of the corpus
    join the question, sure or not, and lex lines join it by score with less weight than these. Phrases and exclusions of
    the question hold for whatever is found in another way, too. Raises ModelError where the embedder fails.
    """
    plan = plan or Plan()
    query, notes = parse(question), list[str]()
    with ThreadPoolExecutor(1) as pool:  # the question's vector is made and compared while BM25 looks it up
        near = pool.submit(_dense, store, embedder, "original", question, query, plan) if embedder is not None else None
        rankings = [_lexical(store, "original", question, query, plan)]
        if lines and is_sure(store, rankings[0], plan.sure_ratio):
            notes.append("expansion left out: BM25 is sure")
            lines = ()
        rankings = _by_words(store, rankings[0], query, [line.text for line in lines if line.type == "lex"], plan, notes)
    dense = [line for line in lines if line.type != "lex"]
    if embedder is not None and near is not None:
        rankings.append(near.result())
        rankings += [_dense(store, embedder, line.type, line.text, query, plan) for line in dense]
    elif dense:
        notes.append("vec and hyde lines left out: there is no embedding model")
    fused = fuse(_accepted(store, query, rankings))[: plan.limit]
    return Found(_hits(store, fused), tuple(notes))


def is_sure(store: Store, ranking: Ranking, ratio: float) -> bool:
    """Whether BM25 has found *the* paper: its best chunk leads that of the next paper by ``ratio``.

    Expansions only add noise to such a query. With a single paper found nothing can be compared, so it is not sure.
    """
    if not ratio or len(ranking.ids) < 2:
        return False
    papers: dict[tuple[str, str], float] = {}
    score_of = dict(zip(ranking.ids, ranking.scores, strict=True))
    for chunk in store.chunks(ranking.ids[:20]):
        papers.setdefault((chunk.file, chunk.place), score_of[chunk.id])
    best = list(papers.values())
    return len(best) > 1 and best[0] >= ratio * best[1]


def explain(found: Found) -> list[str]:
    """Every score of every stage, a line each, for people."""
    lines = list(found.notes)
    for number, hit in enumerate(found.hits, 1):
        chunk = hit.chunk
        lines.append(f"[{number}] {hit.score:.5f}  chunk {chunk.id}  {chunk.header or chunk.file}")
        lines += map(_line, hit.steps)
    return lines


def _line(step: Step) -> str:
    if step.stage == "rerank":
        return f"      rerank: ln p(yes)/p(no) {step.score:8.4f}, rank {step.rank:3} of those that were judged"
    if step.stage == "late":
        return f"      late interaction: MaxSim {step.score:8.4f}, rank {step.rank:3}"
    return (
        f"      {step.stage:5} {step.type:8} score {step.score:8.4f}, rank {step.rank:3}:"
        f" {step.weight:g}/({K} + {step.rank}) = {step.points:.5f}  {step.query}"
    )


def record(hit: Hit, number: int, with_steps: bool) -> dict[str, Any]:
    """A hit for machines."""
    chunk = hit.chunk
    facts: dict[str, Any] = {
        "n": number,
        "score": round(hit.score, 6),
        "file": chunk.file,
        "page": chunk.page or None,
        "where": chunk.where or None,
        "id": chunk.paper or None,
        "title": chunk.title,
        "section": chunk.section,
        "text": chunk.text,
    }
    if with_steps:
        facts["steps"] = [vars(step) for step in hit.steps]
    return facts


def _lexical(store: Store, kind: QueryType, text: str, query: LexicalQuery, plan: Plan) -> Ranking:
    return _ranking("bm25", kind, text, store.lexical(query, plan.depth, plan.scope))


def _by_words(
    store: Store, original: Ranking, query: LexicalQuery, lines: Sequence[str], plan: Plan, notes: list[str]
) -> list[Ranking]:
    """The rankings by BM25: of the question and of each lex line, or one of the question with terms of the corpus and all
    lines, where the plan has feedback."""
    if plan.feedback is None or not isinstance(store, TermStore):
        notes += ["terms of the corpus left out: this store does not know its words"] if plan.feedback else []
        return [original, *(_lexical(store, "lex", line, parse(line), plan) for line in lines)]
    found = list(zip(original.ids, original.scores, strict=True))
    ranked, terms = with_feedback(store, query, found, plan.feedback, plan.depth, plan.scope, lines)
    if found and not terms:
        notes.append("terms of the corpus left out: what was found has none in common")
    if not (terms or lines):
        return [original]
    return [_ranking("bm25", "corpus", " + ".join(text for text in (original.query, shown(terms), *lines) if text), ranked)]


def _dense(store: Store, embedder: Embedder, kind: QueryType, text: str, query: LexicalQuery, plan: Plan) -> Ranking:
    vector = embedder.hypothetical(text) if kind == "hyde" else embedder.query(_without_operators(text, query, kind))
    return _ranking("dense", kind, text, store.dense(embedder, vector, plan.depth, plan.scope))


def _without_operators(text: str, query: LexicalQuery, kind: QueryType) -> str:
    """The question as a sentence: an embedding would take an excluded word for a wanted one."""
    if kind != "original" or not (query.phrases or query.without):
        return text
    kept = re.sub(r'(?<!\S)-(?:["“][^"“”]*["”]|[^\W\d][^\s"“”]*)', " ", text)
    return " ".join(re.sub(r'["“”]', " ", kept).split()) or text


def _ranking(stage: Stage, kind: QueryType, text: str, found: Ranked) -> Ranking:
    return Ranking(stage, kind, text, [chunk for chunk, _ in found], [score for _, score in found])


def _accepted(store: Store, query: LexicalQuery, rankings: Sequence[Ranking]) -> list[Ranking]:
    """The rankings without what the question's phrases and exclusions rule out."""
    if not (query.phrases or query.without):
        return list(rankings)
    allowed = store.accepted(sorted({chunk for ranking in rankings for chunk in ranking.ids}), query)
    kept = []
    for ranking in rankings:
        pairs = [pair for pair in zip(ranking.ids, ranking.scores, strict=True) if pair[0] in allowed]
        kept.append(_ranking(ranking.stage, ranking.type, ranking.query, pairs))
    return kept


def _hits(store: Store, fused: Iterable[Fused]) -> tuple[Hit, ...]:
    by_id = {item.id: item for item in fused}
    return tuple(Hit(chunk, by_id[chunk.id].score, by_id[chunk.id].steps) for chunk in store.chunks(list(by_id)))
