"""Reranking by a chat model, within a time budget: how much likelier it says that a passage helps than that it does not.

One token is generated for each passage and only its probabilities are read, as Nogueira et al. (EMNLP Findings 2020) do
with a model made for it. Whether it helps depends on the model, so nobody does it unless asked.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import ContextOverflow, ModelError
from harness.models.base import Message, Options, Reply, Request
from harness.search.fusion import Step

if TYPE_CHECKING:
    from harness.models.base import Model
    from harness.search.search import Found, Hit

TOP = 20
"""Passages that are judged, if there is time."""
SECONDS = 5.0
_ALTERNATIVES = 20
"""The most that Ollama gives for a token."""
_TEMPLATE_TOKENS = 64
"""What a chat template may add."""
_SYSTEM = "You judge whether a passage from a paper helps to answer a question. Reply with one word: yes or no."
_USER = "Question: {question}\n\nPassage: {passage}\n\nDoes the passage help to answer the question? Reply yes or no."


def rerank(
    found: Found, question: str, model: Model, *, seconds: float = SECONDS, top: int = TOP, limit: int | None = None
) -> Found:
    """The hits of a search with the first ``top`` reordered by ``model``, as far as ``seconds`` go, and the first
    ``limit`` of them.

    What was not judged keeps its place. Each judged hit has one step more; ``score`` stays the fused one. A model that
    fails or gives no log-probabilities is a note, not an error.
    """
    hits = found.hits[:top]
    if len(hits) < 2:
        return replace(found, hits=found.hits[:limit])
    started = time.monotonic()
    scores, problem = judge(model, question, [hit.chunk.indexed for hit in hits], seconds)
    spent = time.monotonic() - started
    order = reordered(len(hits), scores)
    rank_of = {place: rank for rank, place in enumerate(sorted(scores, key=lambda place: (-scores[place], place)), 1)}
    judged = {place: _judged(hits[place], question, rank, scores[place]) for place, rank in rank_of.items()}
    ranked = [judged.get(place, hits[place]) for place in order]
    note = f"reranked {len(scores)} of {len(hits)} passages in {spent:.1f} s by {model.info.name}"
    notes = (*found.notes, f"{note}: {problem}" if problem else note)
    return replace(found, hits=(*ranked, *found.hits[top:])[:limit], notes=notes)


def judge(model: Model, question: str, passages: Sequence[str], seconds: float) -> tuple[dict[int, float], str]:
    """The log-odds of *yes* for as many passages, from the first on, as can be judged in time, by their places; and what
    kept the others from it, "" for nothing."""
    requests = [request(question, passage, f"rerank-{place % model.slots}") for place, passage in enumerate(passages)]
    over, problems = threading.Event(), list[str]()
    timer = threading.Timer(seconds, over.set)
    timer.daemon = True

    def ask(place: int) -> float | None:
        if over.is_set():
            return None
        try:
            reply = model.generate(requests[place], cancel=over)
        except ContextOverflow:
            return None
        except ModelError as error:
            problems.append(error.message)
            over.set()
            return None
        if not reply.logprobs and reply.finish != "cancelled":
            problems.append("it gives no log-probabilities")
            over.set()
        return log_odds(reply)

    _reserve(model, requests)  # loads the model, which is not the passages' time
    timer.start()
    try:
        with ThreadPoolExecutor(model.slots) as pool:
            answers = list(pool.map(ask, range(len(passages))))
    finally:
        timer.cancel()
    scores = {place: score for place, score in enumerate(answers) if score is not None}
    late = "the time is over" if over.is_set() and len(scores) < len(passages) else ""
    return scores, problems[0] if problems else late


def request(question: str, passage: str, session: str | None = None) -> Request:
    """What the model is asked of one passage. The question comes first, so that all requests begin alike."""
    asked = _USER.format(question=" ".join(question.split()), passage=passage.strip())
    options = Options(max_tokens=1, top_logprobs=_ALTERNATIVES, think=False)
    return Request((Message("system", _SYSTEM), Message("user", asked)), options=options, session=session)


def log_odds(reply: Reply) -> float | None:
    """``ln(p(yes) / p(no))`` of the reply's first token; None where it has neither among its alternatives.

    One that is missing there is at most as likely as the least of them, and is taken for that.

    >>> from harness.models.base import TokenLogprob
    >>> token = TokenLogprob("Yes", math.log(0.6), {"Yes": math.log(0.6), " yes": math.log(0.2), "No": math.log(0.1)})
    >>> round(log_odds(Reply("Yes", "length", 9, 1, 0.1, (token,))), 3)
    2.079
    """
    if not reply.logprobs:
        return None
    first = reply.logprobs[0]
    chances = {first.token: first.logprob, **first.top}
    said = {word: sum(math.exp(chances[token]) for token in chances if _word(token) == word) for word in ("yes", "no")}
    if not any(said.values()):
        return None
    least = math.exp(max(min(chances.values()), -50.0))
    return math.log(said["yes"] or least) - math.log(said["no"] or least)


def reordered(count: int, scores: Mapping[int, float]) -> list[int]:
    """The places 0 to ``count`` - 1 anew: those with a score change places among themselves, best first.

    >>> reordered(4, {0: -1.0, 2: 3.0, 3: 0.5})
    [2, 1, 3, 0]
    """
    best = iter(sorted(scores, key=lambda place: (-scores[place], place)))
    return [next(best) if place in scores else place for place in range(count)]


def _word(token: str) -> str:
    return token.strip(" \t\n\r.,:;!*\"'▁Ġ").lower()


def _judged(hit: Hit, question: str, rank: int, score: float) -> Hit:
    return replace(hit, steps=(*hit.steps, Step("rerank", "original", question, rank, score, 0.0, 0.0)))


def _reserve(model: Model, requests: Sequence[Request]) -> None:
    """Room for the longest passage; where the model has less, the longest ones are simply not judged."""
    texts = (" ".join(message.content for message in one.messages) for one in requests)
    try:
        model.reserve(max(model.count_tokens(text) for text in texts) + _TEMPLATE_TOKENS)
    except ModelError:
        return
