"""Follow-up questions in a conversation: "and what about rye?" made into a question that stands alone.

A search knows nothing of what was said before. Where there is a chat model it rewrites the question, and its rewriting is
taken only if it adds nothing that nobody said; else the telling words of the question before are carried over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ModelError
from harness.search.bm25 import STOP_WORDS
from skills.ask.terms import ASKING, Stemmer

if TYPE_CHECKING:
    from harness.models.base import Model

TURNS = 3
"""Earlier questions and answers that a rewriting looks at."""
OUTPUT_TOKENS = 120
LONGEST_ANSWER = 600
"""Characters of an earlier answer that are shown to the model."""
FEW_WORDS = 3
"""Telling words up to which "this" and "those" point back rather than at a noun of their own."""

_OPENING = re.compile(
    r"(?:and|but|or|so|then|also|what about|how about|why(?: is that| so| not)?\s*\??$|in that case"
    r"|compared (?:to|with) that)\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(
    r"\b(?:it|its|they|them|their|theirs|he|she|his|her|the (?:same|former|latter|others?))\b", re.IGNORECASE
)
_EMPTY_IT = re.compile(
    r"\b(?:is|was|would|does|can|could|may|might)\s+it\s+(?:possible|true|likely|make|matter|take)\b", re.I
)
_POINTING = re.compile(r"\b(?:this|that|these|those|such|there|here)\b", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:[-'’.][^\W_]+)*")

_SYSTEM = (
    "You rewrite the last question of a conversation so that it can be understood alone. Replace every pronoun and every "
    "reference to what was said before by what it stands for. Keep the meaning, add nothing, do not answer. "
    'Reply with JSON: {"question": "…"}.'
)
_SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string", "maxLength": 400}},
    "required": ["question"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Turn:
    """A question as it was understood, and its answer."""

    question: str
    answer: str


def is_follow_up(question: str, stemmer: Stemmer) -> bool:
    """Whether a question leans on what was said before.

    >>> stemmer = Stemmer()
    >>> [is_follow_up(text, stemmer) for text in ("And for rye?", "Does it scale?", "Why?", "What about the cost of this?")]
    [True, True, True, True]
    >>> is_follow_up("Is it possible to prune models that were trained with dropout?", stemmer)
    False
    """
    telling = telling_words(question)
    if not telling or _OPENING.match(question.strip()):
        return True
    if _PRONOUN.search(_EMPTY_IT.sub("", question)):
        return True
    return bool(_POINTING.search(question)) and len(telling) <= FEW_WORDS


def telling_words(text: str) -> list[str]:
    """The words of a text that say what it is about, in their order, each once."""
    words = dict.fromkeys(_WORD.findall(text))
    return [word for word in words if word.lower() not in STOP_WORDS and word.lower() not in ASKING]


def carried_over(question: str, before: Sequence[Turn], stemmer: Stemmer) -> str:
    """The question with the telling words of the one before that it lacks, in brackets.

    >>> carried_over("And for rye?", [Turn("When is wheat cut?", "")], Stemmer())
    'And for rye? (wheat cut)'
    """
    there = set(stemmer.stems(question))
    lacking = [word for word in telling_words(before[-1].question) if not there & set(stemmer.stems(word))]
    return f"{question} ({' '.join(lacking)})" if lacking else question


def rewritten(question: str, before: Sequence[Turn], stemmer: Stemmer, model: Model | None) -> str:
    """The question so that it stands alone: by the model where there is one and it keeps to what was said."""
    if not before:
        return question
    if model is not None and (own := by_model(question, before[-TURNS:], stemmer, model)):
        return own
    return carried_over(question, before, stemmer)


def by_model(question: str, before: Sequence[Turn], stemmer: Stemmer, model: Model) -> str:
    """The model's rewriting; "" where it fails, or brings in words of which nobody spoke."""
    from harness.models.base import Message, Options, Request

    said = [f"Q: {turn.question}\nA: {turn.answer[:LONGEST_ANSWER]}" for turn in before]
    chat = (Message("system", _SYSTEM), Message("user", "\n".join([*said, f"Last question: {question}"])))
    try:
        model.reserve(sum(model.count_tokens(message.content) + 32 for message in chat) + OUTPUT_TOKENS)
        options = Options(max_tokens=OUTPUT_TOKENS, think=False)
        reply = model.generate(Request(messages=chat, schema=_SCHEMA, options=options))
        data: Any = json.loads(reply.text)
    except (ModelError, ValueError):
        return ""
    text = " ".join(str(data.get("question") or "").split()) if isinstance(data, dict) else ""
    known = set(stemmer.stems(" ".join([question, *said])))
    keeps = set(stemmer.stems(" ".join(telling_words(question)))) <= set(stemmer.stems(text))
    return text if text and keeps and set(stemmer.stems(" ".join(telling_words(text)))) <= known else ""
