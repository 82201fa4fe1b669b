"""Written answers: one request over the passages, checks in code, one repair round, then honesty.

What is shown as the answer is only what holds: each sentence has a quote that the file has, its numbers, negations and
equations are those of the passages, and its words are supported. Sentences that do not hold are listed apart; where none
holds, the answer is that the papers do not answer.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harness.errors import ContextOverflow, InputError, ModelError
from harness.jobs.runner import Cancelled
from harness.models.base import Message, Model, OnText, Options, Reply, Request
from skills.ask import equations, figures, prompt, repair
from skills.ask.abstain import NOT_ANSWERED
from skills.ask.prompt import Draft
from skills.ask.record import Answer, Citation, Passage
from skills.ask.stream import AnswerStream
from skills.ask.support import ENTAILED, entailment
from skills.ask.verify import Checked, Problem, Verifier

TEMPLATE_TOKENS = 96
"""What a chat template adds to four messages, generously."""
_POINTERS = re.compile(r"\bpassages?\s+\d+(?:\s*(?:,|and|to|-|–)+\s*\d+)*|\[\d+(?:[,;\s]+\d+)*\]", re.IGNORECASE)
"""How a reasoning points at passages."""
AGAIN = "\n\n(Some of this did not hold; it is written again.)\n\n"
"""Shown between a first answer and its repair."""


@dataclass(frozen=True)
class Fitted:
    """The passages that fit into a model's context beside the answer."""

    passages: tuple[Passage, ...]
    tokens: int
    """Of the whole request: prompt and output, and the repair round where there is room for one."""
    repairs: bool
    notes: tuple[str, ...] = ()


def fit(model: Model, question: str, passages: Sequence[Passage], output: int) -> Fitted:
    """As many of the first passages as fit, and whether a repair round does; what is left out is noted.

    Raises ContextOverflow where not even the first fits.
    """
    name, limit = model.info.name, model.info.context
    empty = [message.content for message in prompt.messages(question, ())]
    fixed = TEMPLATE_TOKENS + output + sum(map(model.count_tokens, [*empty, json.dumps(prompt.schema(len(passages)))]))
    costs = [model.count_tokens(prompt.line(passage) + "\n") for passage in passages]
    kept = len(passages)
    while kept and limit and fixed + sum(costs[:kept]) > limit:
        kept -= 1
    tokens = fixed + sum(costs[:kept])
    if not kept:
        raise ContextOverflow(
            f"{name}: question, answer and the best passage take {tokens + costs[0]} tokens, it holds {limit}",
            "take a model with a larger context with --model",
        )
    notes = []
    if left := [str(passage.n) for passage in passages[kept:]]:
        said = f"passage {left[0]} was" if len(left) == 1 else f"passages {left[0]} to {left[-1]} were"
        notes.append(f"{said} left out: {name} holds {limit} tokens with the answer")
    both = tokens + output + repair.TOKENS
    repairs = not limit or both <= limit
    return Fitted(tuple(passages[:kept]), both if repairs else tokens, repairs, tuple(notes))


def write_answer(
    model: Model,
    question: str,
    passages: Sequence[Passage],
    *,
    on_text: OnText | None = None,
    cancel: threading.Event | None = None,
    options: Options | None = None,
) -> Answer:
    """Have ``model`` answer a question from numbered passages, the best first, and check what it wrote.

    ``on_text`` gets the readable text as it comes: reasoning, ``#####``, the sentences with their marks; none of it is
    checked yet. ``options`` replaces greedy decoding with at most ``prompt.OUTPUT_TOKENS``. Without passages the answer is
    that there is none. Raises InputError for an empty or overlong question, ContextOverflow where not even one passage
    fits, ModelError for an answer that cannot be read after two tries or that ends before its first sentence, Cancelled.
    """
    asked = prompt.plain(question)
    if not asked or len(asked) > prompt.LONGEST_QUESTION:
        raise InputError(f"the question has {len(asked):,} characters", f"ask in 1 to {prompt.LONGEST_QUESTION:,} of them")
    if not passages:
        return Answer(question, "", NOT_ANSWERED, abstained=True)
    # thoughts would use up the tokens that the answer needs
    options = replace(options or Options(max_tokens=prompt.OUTPUT_TOKENS), think=False, top_logprobs=0)
    fitted = fit(model, asked, passages, options.max_tokens)
    model.reserve(fitted.tokens)
    writer = _Writer(model, asked, fitted, options, on_text, cancel)
    draft, checked = writer.write()
    notes = [*fitted.notes, *writer.notes, _unheard(draft.reasoning, asked, fitted.passages)]
    return _finished(model, question, draft, checked, [note for note in notes if note])


@dataclass(frozen=True)
class _Try:
    """One reply, and what is to be made of it: a draft with its checks, or what is wrong."""

    reply: Reply
    draft: Draft | None = None
    checked: tuple[Checked, ...] = ()
    fault: ModelError | None = None

    @property
    def complaint(self) -> str:
        """What the model should be told of it; "" where all is well."""
        if self.fault is not None:
            return repair.malformed(self.fault)
        return repair.complaint(self.checked) if any(one.problems for one in self.checked) else ""


@dataclass
class _Writer:
    """One answer in the making."""

    model: Model
    question: str
    fitted: Fitted
    options: Options
    on_text: OnText | None
    cancel: threading.Event | None
    notes: list[str] = field(default_factory=list)
    _entailed: dict[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._verifier = Verifier(self.fitted.passages)
        self._chat = prompt.messages(self.question, self.fitted.passages)
        self._schema = prompt.schema(len(self.fitted.passages))

    def write(self) -> tuple[Draft, Sequence[Checked]]:
        """The answer, after a repair round where the first try had faults and there is room for a second."""
        final = self._try(self._chat)
        if complaint := final.complaint:
            if self.fitted.repairs:
                final = self._repaired(final, complaint)
            else:
                self.notes.append("there was no room in the model's context to have faults repaired")
        if final.draft is None:
            raise final.fault or ModelError("the model gave no answer")
        self._settle(final)
        return final.draft, final.checked

    def _repaired(self, first: _Try, complaint: str) -> _Try:
        """The second try; the first where that one is worse."""
        if self.on_text is not None:
            self.on_text(AGAIN)
        try:
            second = self._try((*self._chat, Message("assistant", first.reply.text), Message("user", complaint)))
        except ModelError as error:
            second = _Try(first.reply, fault=error)
        if first.draft is None:
            return second
        if second.draft is None:
            self.notes.append(f"the faulty sentences could not be repaired: {second.fault}")
            return first
        if not repair.better(first.checked, second.checked):
            return first
        self.notes.append("the answer was repaired once, after checks against the passages")
        return second

    def _try(self, chat: tuple[Message, ...]) -> _Try:
        """Ask, read, check. Raises ModelError where there is no reply, Cancelled."""
        show = AnswerStream(self.on_text).feed if self.on_text is not None else None
        request = Request(messages=chat, schema=self._schema, options=self.options)
        reply = self.model.generate(request, on_text=show, cancel=self.cancel)
        if reply.finish == "cancelled":
            raise Cancelled
        try:
            draft = prompt.parse_part(reply.text) if reply.finish == "length" else prompt.parse(reply.text)
        except ModelError as error:
            return _Try(reply, fault=error)
        if draft is None:
            said = f"the answer did not get to its first sentence within {self.options.max_tokens} tokens"
            return _Try(reply, fault=ModelError(said, "take another model with --model"))
        return _Try(reply, draft, tuple(self._checked(draft)))

    def _checked(self, draft: Draft) -> list[Checked]:
        return [self._judged(one) for one in self._verifier.check(draft)] if draft.answered else []

    def _judged(self, one: Checked) -> Checked:
        """Where words leave it open whether a sentence is supported, the model is asked."""
        if not one.undecided or one.wrong or not one.citations:
            return one
        if one.text not in self._entailed:
            self._entailed[one.text] = self._entails(one)
        chance = self._entailed[one.text]
        if chance is None:
            return one
        problems = [problem for problem in one.problems if problem.kind != "support"]
        if chance < ENTAILED:
            problems.append(Problem("support", f"the model itself gives {chance:.0%} that its passages say this"))
        return replace(one, problems=tuple(problems))

    def _entails(self, one: Checked) -> float | None:
        """None where the model cannot be asked: one that was tuned to answer knows no other task."""
        if self.model.info.contract:
            return None
        try:
            return entailment(self.model, one.evidence, one.text, self.cancel)
        except ModelError:
            return None

    def _settle(self, final: _Try) -> None:
        """Say of the answer that stands whether it was stopped, what is still wrong, and what could not be checked."""
        if final.reply.finish == "length":
            limit = self.options.max_tokens
            self.notes.append(f"the answer was stopped at {limit} tokens; its complete sentences are kept")
        for one in final.checked:
            for problem in one.problems:
                if problem.kind in ("number", "quote"):
                    kept = "; the sentence that supports it is cited instead" if one.holds else ""
                    self.notes.append(f"{problem.message}{kept}")
                else:
                    self.notes.append(f"“{one.text}”: {problem.message}")
            self.notes += one.notes


def _unheard(reasoning: str, question: str, passages: Sequence[Passage]) -> str:
    """A note on numbers and names of a reasoning that neither passages nor question have; "" where there are none."""
    text = _POINTERS.sub(" ", equations.without(reasoning))
    lacking = figures.missing(text, [question, *(f"{one.title}\n{one.text}" for one in passages)])
    return f"the reasoning names what no passage has: {', '.join(lacking)}" if lacking else ""


def _finished(model: Model, question: str, draft: Draft, checked: Sequence[Checked], notes: Sequence[str]) -> Answer:
    """The answer from what holds."""
    holding = [one for one in checked if one.holds]
    citations: dict[Citation, None] = {}
    for one in holding:
        citations.update(dict.fromkeys(one.citations))
    return Answer(
        question=question,
        reasoning=draft.reasoning,
        answer=" ".join(map(_marked, holding)) or NOT_ANSWERED,
        citations=tuple(sorted(citations, key=lambda citation: citation.n)),
        abstained=not holding,
        unsupported=tuple(one.text for one in checked if not one.holds),
        notes=tuple(dict.fromkeys(notes)),
        model=model.info.record(),
    )


def _marked(one: Checked) -> str:
    """A sentence with its marks."""
    return f"{one.text} {''.join(f'[{n}]' for n in sorted({citation.n for citation in one.citations}))}"
