"""Perplexity of reference answers: how a model that has question and gold evidence before it likes each token of them.

The reference is set into the JSON of contract ask@1, with its reasoning before it, and only the tokens of the answer count.
A folder of weights is asked for the probabilities of the text itself. The embedded runtime gives none of texts that it did
not write, so a grammar has it write this one: then the tokens are those that the model would spell the text with, greedily,
which may not be the tokenizer's own. Figures of models with different tokenizers cannot be compared, and neither can those
of a folder and a GGUF. Ollama and remote models have no such grammar: not measured.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from finetune.dataset.qa_rows import MOST_EVIDENCE, Pair, passage, pieces
from harness.errors import ContextOverflow, MarginaliaError
from harness.jobs.journal import Journal, key_of
from harness.jobs.progress import Progress
from harness.jobs.runner import Cancelled, Item, run_batch
from harness.models.base import Message, Model, Options, Request
from skills.ask import prompt
from skills.ask.answer import TEMPLATE_TOKENS

if TYPE_CHECKING:
    from rich.console import Console

KIND = "perplexity-ask"
Surprise = tuple[float, int]
"""Nats of all tokens of a text, and how many these are."""


@runtime_checkable
class Scoring(Protocol):
    """A model that can say how likely a given text is."""

    def surprise(self, messages: Sequence[Message], before: str, text: str) -> Surprise:
        """Of ``text``, where the model's turn begins with ``before``."""
        ...


def measurable(model: Model, place: str) -> bool:
    """Whether a model's backend can be asked for the probability of a given text."""
    return isinstance(model, Scoring) or place == "embedded"


def surprises(model: Model, pairs: Sequence[Pair], journal: Path, console: Console) -> list[Surprise | None]:
    """The surprise of each reference answer; None for a question without one, or where it could not be computed."""
    found: dict[int, Surprise] = {}

    def work(item: Item, cancel: threading.Event) -> dict[str, Any]:
        nats = surprise(model, item.payload, cancel)
        return {"nats": nats[0], "tokens": nats[1]} if nats else {"tokens": 0}

    def on_done(index: int, outcome: dict[str, Any] | MarginaliaError, cached: bool) -> None:
        failed = isinstance(outcome, MarginaliaError)
        if not isinstance(outcome, MarginaliaError) and outcome["tokens"]:
            found[index] = outcome["nats"], outcome["tokens"]
        progress.advance(failed=failed, cached=cached)

    info, items = model.info, list[Item]()
    for place, pair in enumerate(pairs):
        if pair.answered:
            asked = pair.question, pair.reasoning, pair.answer, pair.contexts
            items.append(Item(place, key_of(KIND, prompt.CONTRACT, info.name, info.digest, *asked), pair))
    with Journal(journal) as kept, Progress(console, len(items), "references") as progress:
        run_batch(items, work, journal=kept, workers=1, on_done=on_done, kind=KIND)
    return [found.get(place) for place in range(len(pairs))]


def surprise(model: Model, pair: Pair, cancel: threading.Event | None = None) -> Surprise | None:
    """The surprise of one reference answer; None where it does not fit, or cannot be told apart from what stands before.

    Raises ModelError, Cancelled.
    """
    texts = [piece for context in pair.contexts for piece in pieces(context)][:MOST_EVIDENCE]
    passages = [passage(text, number, pair.title) for number, text in enumerate(texts, 1)]
    messages = prompt.messages(pair.question, passages)
    before, text = target(pair)
    try:
        if isinstance(model, Scoring):
            return model.surprise(messages, before, text)
        return _forced(model, messages, before, text, cancel)
    except ContextOverflow:
        return None


def target(pair: Pair) -> tuple[str, str]:
    """What the model's turn begins with, and the reference answer behind it, as contract ask@1 writes both."""
    reasoning, answer = (json.dumps(" ".join(part.split()), ensure_ascii=False) for part in (pair.reasoning, pair.answer))
    return f'{{"reasoning": {reasoning}, "answered": true, "answer": [{{"text": "', answer[1:-1]


def _forced(
    model: Model, messages: tuple[Message, ...], before: str, text: str, cancel: threading.Event | None
) -> Surprise | None:
    """By a grammar that allows nothing but the text. A token that begins before it and ends in it counts."""
    whole = before + text
    most = 2 * model.count_tokens(whole) + 16
    model.reserve(TEMPLATE_TOKENS + most + sum(model.count_tokens(one.content) for one in messages))
    literal = whole.replace("\\", "\\\\").replace('"', '\\"')
    options = Options(max_tokens=most, top_logprobs=1, think=False)
    reply = model.generate(Request(messages=messages, grammar=f'root ::= "{literal}"', options=options), cancel=cancel)
    if reply.finish == "cancelled":
        raise Cancelled
    if reply.text != whole or not reply.logprobs:
        return None
    ends, at = list[int](), 0
    for one in reply.logprobs:
        at += len(one.token)
        ends.append(at)
    if "".join(one.token for one in reply.logprobs)[: len(whole)] != whole:
        return None  # a character in several tokens: where the answer begins is not known
    counted = [
        one.logprob
        for one, end in zip(reply.logprobs, ends, strict=True)
        if len(before) < end and end - len(one.token) < len(whole)
    ]
    return -sum(counted), len(counted)
