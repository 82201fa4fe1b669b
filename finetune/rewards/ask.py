"""The reward of answers of contract ask@1: what /ask's own checks and the reference answer say of them, 0 to 1.

An answer is ``{"reasoning", "answered", "answer": [{"text", "citations": [{"n", "quote"}]}]}``, which /ask shows as
reasoning, ``#####``, answer. The reward is a product, so nothing makes up for anything:

- form: exactly this object and nothing around it, else 0;
- whether the passages answer: who answers a question that they do not answer, or does not answer one that they do, gets 0;
- reasoning: there is one, its words are those of question and passages, and so are its numbers;
- sound: the share of sentences that pass all checks (``skills/ask/verify.py``): marks of passages that exist, quotes that
  stand there word for word, numbers, negations and equations of the evidence, words that it supports; a sentence said
  twice fails;
- like: how much of the reference the answer has, and how little else (F1 over stems, weighted by how rare they are among
  the sentences of the passages). Copied passages are sound, and answer little.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import fsum
from typing import Any, NamedTuple

from finetune.dataset.qa_rows import passage
from skills.ask import equations, figures, prompt
from skills.ask.prompt import Claim, Draft
from skills.ask.record import Passage
from skills.ask.terms import Stemmer
from skills.ask.verify import Verifier

POOR_REASONING = 0.5
"""What a reasoning leaves of a reward that names what nobody has, or has nothing to do with question and passages."""
BEARS = 0.2
"""Share of a reasoning's stems that question and passages must have; the others say what it makes of them."""
SHORTEST_REASONING = 3
"""Words."""
_PASSAGES, _QUESTION = "Passages:\n", "\n\nQuestion: "
_STEMMER = Stemmer()


class Gold(NamedTuple):
    """A question with its passages, as the user's turn of the prompt has them, and an answer that is good."""

    query: str
    text: str

    @property
    def draft(self) -> Draft:
        """The answer, read."""
        return prompt.parse(self.text)


class Ask:
    """The reward over questions whose good answers are known."""

    def __init__(self, gold: Sequence[Gold]) -> None:
        self._gold = {one.query: one.draft for one in gold}

    def __call__(self, query: str, text: str) -> float:
        """0 to 1. ``query`` must be one of gold's (KeyError)."""
        return _score(query, text, self._gold[query])

    def parts(self, query: str, text: str) -> Mapping[str, float]:
        """What the reward is the product of, as far as it was looked at."""
        return _parts(query, text, self._gold[query])


def user_turn(row: Mapping[str, Any]) -> str:
    """The user's turn of a row of contract ask@1: what a reward is given as the query."""
    return str(next(one["content"] for one in row["prompt"] if one["role"] == "user"))


@lru_cache(maxsize=64)
def read_turn(query: str) -> tuple[str, tuple[Passage, ...]]:
    """Question and passages of a user's turn. Raises ValueError where it is none."""
    body, mark, question = query.partition(_QUESTION)  # a passage is a JSON string: it holds no line break
    if not mark or not body.startswith(_PASSAGES):
        raise ValueError("no user's turn of contract ask@1")
    rows = [json.loads(line) for line in body.removeprefix(_PASSAGES).split("\n") if line]
    return question, tuple(passage(row["text"], row["n"], row["from"]) for row in rows)


def _score(query: str, text: str, gold: Draft) -> float:
    score = 1.0
    for part in _parts(query, text, gold).values():
        score *= part
    return score


def _parts(query: str, text: str, gold: Draft) -> dict[str, float]:
    draft = in_form(text)
    found = {"form": float(draft is not None)}
    if draft is None:
        return found
    found["answered"] = float(draft.answered == gold.answered)
    if not found["answered"]:
        return found
    question, passages = read_turn(query)
    found["reasoning"] = reasoning(draft, question, passages)
    if gold.answered:
        found["sound"] = sound(draft.claims, passages)
        found["like"] = likeness(draft.claims, gold.claims, passages)
    return found


def in_form(text: str) -> Draft | None:
    """An answer that is exactly the contract's object; None for anything else."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or list(data) != ["reasoning", "answered", "answer"]:
        return None
    said, answered, claims = data.values()
    whole = isinstance(said, str) and isinstance(answered, bool) and isinstance(claims, list)
    if not whole or answered != bool(claims) or len(claims) > prompt.MOST_SENTENCES or not all(map(_is_claim, claims)):
        return None
    if len(said) > prompt.LONGEST_REASONING or len(said.split()) < SHORTEST_REASONING:
        return None
    return prompt.parse(text)


def _is_claim(item: Any) -> bool:
    if not isinstance(item, dict) or list(item) != ["text", "citations"] or not isinstance(item["citations"], list):
        return False
    if not isinstance(item["text"], str) or not 0 < len(item["text"].strip()) <= prompt.LONGEST_TEXT:
        return False
    return 0 < len(item["citations"]) <= prompt.MOST_CITATIONS and all(
        isinstance(one, dict)
        and list(one) == ["n", "quote"]
        and type(one["n"]) is int
        and isinstance(one["quote"], str)
        and len(one["quote"]) <= prompt.LONGEST_QUOTE
        for one in item["citations"]
    )


def reasoning(draft: Draft, question: str, passages: Sequence[Passage]) -> float:
    """1, or ``POOR_REASONING`` for numbers and names that nobody has, or, before an answer, for words of other things."""
    texts = [question, *(f"{one.title}\n{one.text}" for one in passages)]
    if figures.missing(equations.without(draft.reasoning), texts):
        return POOR_REASONING
    if not draft.answered:
        return 1.0
    there = {stem for text in texts for stem in _STEMMER.stems(text)}
    said = set(_STEMMER.stems(draft.reasoning))
    return 1.0 if len(said & there) >= BEARS * len(said) else POOR_REASONING


def sound(claims: Sequence[Claim], passages: Sequence[Passage]) -> float:
    """The share of sentences without a fault."""
    checked = _verifier(tuple(passages)).check(Draft("", True, tuple(claims)))
    said = [" ".join(_STEMMER.stems(one.text)) for one in checked]
    return sum(
        one.holds and not one.problems and text not in said[:at]
        for at, (one, text) in enumerate(zip(checked, said, strict=True))
    ) / len(checked)


def likeness(claims: Sequence[Claim], gold: Sequence[Claim], passages: Sequence[Passage]) -> float:
    """F1 of the answer's stems against the reference's, each by its weight among the passages."""
    weight = _verifier(tuple(passages)).evidence.weight
    ours, theirs = (set(_STEMMER.stems(" ".join(one.text for one in some))) for some in (claims, gold))
    total = fsum(map(weight, ours)) + fsum(map(weight, theirs))  # fsum: a set has no order
    return 2 * fsum(map(weight, ours & theirs)) / total if total else 0.0


@lru_cache(maxsize=16)
def _verifier(passages: tuple[Passage, ...]) -> Verifier:
    return Verifier(passages)
