"""Annotators: one abstract in, sentence numbers per move out, by the contract that the model speaks."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from uuid import uuid4

from harness.errors import ContextOverflow, InputError, ModelError
from harness.jobs.runner import Cancelled
from harness.language import is_foreign, word_count
from harness.models.base import Message, Model, Options, Reply, Request
from skills.annotate import mark, prompt
from skills.annotate.calibration import Calibration
from skills.annotate.moves import Framework

SHORTEST = 5
"""Words; anything shorter is no abstract."""
LONGEST = 60_000
"""Characters; anything longer is a whole paper, and would hold up a batch for minutes."""
FOREIGN = "not English, the only language that this model was trained to read"
"""Marks the row of a model that marks sentences: its "not stated" would look as sure as for an English abstract."""
TEMPLATE_TOKENS = 96
"""What a chat template adds to two or four messages, generously."""


@dataclass
class Cell:
    """One move of one annotation: sentence numbers from 1, best first; empty when not stated."""

    sentences: list[int] = field(default_factory=list)
    text: str = ""
    """The written text in prose style; quote style takes it from the sentences."""
    confidence: float | None = None
    """Calibrated, also for a move that is not stated; None where the model gives no probabilities."""


@dataclass
class Draft:
    """What an annotator makes of one abstract."""

    cells: dict[str, Cell]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    context_used: int = 0
    problem: str | None = None
    """Why the annotation holds only in part (prose that names what the abstract does not)."""

    def count(self, reply: Reply) -> None:
        """Add the usage of one reply."""
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        self.context_used = max(self.context_used, reply.prompt_tokens + reply.completion_tokens)


class Annotator(Protocol):
    """A contract bound to a model and a framework."""

    @property
    def contract(self) -> str: ...

    def longest_prompt(self, title: str, sentences: Sequence[str]) -> str:
        """The text of the largest request for this abstract."""
        ...

    @property
    def output_tokens(self) -> int:
        """What its output may take at most, and what a chat template adds."""
        ...

    def annotate(self, title: str, sentences: Sequence[str], cancel: threading.Event | None = None) -> Draft:
        """Annotate one abstract. Raises ModelError (ModelUnavailable where a retry may help)."""
        ...


def check_readable(sentences: Sequence[str]) -> None:
    """Raise InputError where there is nothing that could be annotated."""
    words = sum(map(word_count, sentences))
    if not words:
        raise InputError("no abstract")
    if words < SHORTEST:
        raise InputError(f"too short for an abstract ({words} word{'s' * (words > 1)})", "give all of it")
    characters = sum(map(len, sentences))
    if characters > LONGEST:
        raise InputError(f"too long for an abstract ({characters:,} characters)", "give the abstract alone")


class MarkAnnotator:
    """Contract mark@1: each sentence is one token after a prefix of the same cached prompt."""

    contract = mark.CONTRACT

    def __init__(self, model: Model, framework: Framework, calibration: Calibration, options: Options) -> None:
        self.model, self.framework, self.calibration = model, framework, calibration
        self.options = replace(options, max_tokens=1, temperature=0.0, top_logprobs=100)

    output_tokens = 1

    def longest_prompt(self, title: str, sentences: Sequence[str]) -> str:
        """That of the last sentence of the longest window."""
        last = [mark.prompts(title, sentences[start:end])[-1] for start, end in mark.windows(sentences)]
        return max(last, key=len, default="")

    def annotate(self, title: str, sentences: Sequence[str], cancel: threading.Event | None = None) -> Draft:
        """Probabilities of every sentence, then thresholds, order and calibration."""
        draft = Draft({}, problem=FOREIGN if is_foreign(" ".join(sentences)) else None)
        table: list[dict[str, float]] = []
        for start, end in mark.windows(sentences):
            table += self._fitting(title, sentences[start:end], draft, cancel)
        for move in self.framework.moves:
            draft.cells[move.name] = self._cell(move.name, move.most, [row[move.name] for row in table])
        return draft

    def _fitting(
        self, title: str, sentences: Sequence[str], draft: Draft, cancel: threading.Event | None
    ) -> list[dict[str, float]]:
        """A window, in halves where its characters took more tokens than expected."""
        try:
            return self._window(title, sentences, draft, cancel)
        except ContextOverflow:
            if len(sentences) == 1:
                raise
            half = len(sentences) // 2
            first = self._fitting(title, sentences[:half], draft, cancel)
            return first + self._fitting(title, sentences[half:], draft, cancel)

    def _window(
        self, title: str, sentences: Sequence[str], draft: Draft, cancel: threading.Event | None
    ) -> list[dict[str, float]]:
        session = uuid4().hex
        rows = []
        # The last sentence first: its prompt holds all the others, so one large batch computes them, and each sentence
        # before it costs a single token. In reading order it would be as many small batches, a fifth slower.
        for text in reversed(mark.prompts(title, sentences)):
            if cancel is not None and cancel.is_set():  # one token is not worth a stream that can be cancelled
                raise Cancelled
            reply = self.model.generate(Request(prompt=text, options=self.options, session=session))
            draft.count(reply)
            rows.append(self._marginals(reply))
        return rows[::-1]

    def _marginals(self, reply: Reply) -> dict[str, float]:
        """From log-probabilities where the backend gives them, else from the written label alone."""
        if reply.logprobs:
            first = reply.logprobs[0]
            found = mark.marginals({**first.top, first.token: first.logprob}, self.framework.names)
            if any(mark.label_moves(token) is not None for token in (*first.top, first.token)):
                return found
        stated = mark.label_moves(reply.text)
        if stated is None:
            raise ModelError(f"the model wrote {reply.text[:40]!r} where the names of moves belong")
        return {name: float(name in stated) for name in self.framework.names}

    def _cell(self, name: str, most: int, probabilities: Sequence[float]) -> Cell:
        ranked = sorted(range(len(probabilities)), key=lambda i: (-probabilities[i], i))
        threshold = self.calibration.threshold(name)
        chosen = [i + 1 for i in ranked if probabilities[i] >= threshold][:most]
        best = probabilities[ranked[0]]
        if not chosen and best >= self.calibration.floor(name):
            chosen = [ranked[0] + 1]
        curve = self.calibration.stated if chosen else self.calibration.absent
        return Cell(chosen, confidence=curve.confidence(name, best))


class ListAnnotator:
    """Contracts quote@1 and prose@1: one chat request an abstract, constrained by a schema."""

    def __init__(self, model: Model, framework: Framework, options: Options, *, prose: bool = False) -> None:
        self.model, self.framework, self.prose = model, framework, prose
        self.contract = prompt.PROSE if prose else prompt.QUOTE
        longest = prompt.PROSE_TOKENS if prose else prompt.QUOTE_TOKENS
        # thoughts would use up the tokens that the answer needs
        self.options = replace(options, max_tokens=longest, stop=(prompt.END,), think=False)

    @property
    def output_tokens(self) -> int:
        """Prose may need a second turn, which holds the first answer too."""
        return (2 if self.prose else 1) * self.options.max_tokens + TEMPLATE_TOKENS

    def longest_prompt(self, title: str, sentences: Sequence[str]) -> str:
        """The chat's texts and the schema, which some backends put into the prompt."""
        texts = [message.content for message in prompt.messages(self.framework, title, sentences, prose=self.prose)]
        return "\n".join([*texts, json.dumps(prompt.schema(self.framework, len(sentences), prose=self.prose))])

    def annotate(self, title: str, sentences: Sequence[str], cancel: threading.Event | None = None) -> Draft:
        """One request; in prose style one more where the text names what the abstract does not."""
        draft = Draft({})
        messages = prompt.messages(self.framework, title, sentences, prose=self.prose)
        reply, answer = self._ask(messages, len(sentences), draft, cancel)
        if self.prose and (missing := self._missing(answer, sentences)):
            complaint = (
                f"Not in the abstract: {', '.join(missing[:12])}. Write the JSON again without them; "
                "use only numbers and names that stand in the abstract."
            )
            again = (*messages, Message("assistant", reply.text), Message("user", complaint))
            _, answer = self._ask(again, len(sentences), draft, cancel)
            if missing := self._missing(answer, sentences):
                draft.problem = f"not in the abstract: {', '.join(missing[:5])}"
        draft.cells = {name: Cell(numbers, text) for name, (text, numbers) in answer.items()}
        return draft

    def _ask(
        self, messages: tuple[Message, ...], count: int, draft: Draft, cancel: threading.Event | None
    ) -> tuple[Reply, prompt.Answer]:
        schema = prompt.schema(self.framework, count, prose=self.prose)
        reply = self.model.generate(Request(messages=messages, schema=schema, options=self.options), cancel=cancel)
        draft.count(reply)
        if reply.finish == "cancelled":
            raise Cancelled
        if reply.finish == "length":
            raise ModelError(f"the answer did not end within {self.options.max_tokens} tokens")
        return reply, prompt.parse(self.framework, reply.text, count, prose=self.prose)

    def _missing(self, answer: prompt.Answer, sentences: Sequence[str]) -> list[str]:
        abstract = " ".join(sentences)
        return list(dict.fromkeys(m for text, _ in answer.values() for m in prompt.unsupported(text, abstract)))


def make_annotator(
    model: Model, framework: Framework, *, prose: bool, serving: Mapping[str, Any], options: Options
) -> Annotator:
    """The annotator of the contract that the model speaks. Raises ModelError where it cannot do what is asked."""
    contract = model.info.contract or (prompt.PROSE if prose else prompt.QUOTE)
    if contract == mark.CONTRACT:
        if prose:
            raise ModelError(f"{model.info.name} quotes sentences and cannot write prose", "use --model with a chat model")
        return MarkAnnotator(model, framework, Calibration.load(serving), options)
    if contract not in (prompt.QUOTE, prompt.PROSE):
        raise ModelError(f"{model.info.name} speaks {contract}, which is not known here", "use --model with another model")
    if contract == prompt.QUOTE and prose and model.info.contract:
        raise ModelError(f"{model.info.name} was tuned for quotes", "use --model with a chat model for --style prose")
    return ListAnnotator(model, framework, options, prose=contract == prompt.PROSE or prose)
