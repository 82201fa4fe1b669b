"""Written answers: one request over the passages, checks in code, one repair round, then honesty.

What is shown as the answer is only what holds: each sentence has a quote that the file has, its numbers, negations and
equations are those of the passages, and its words are supported. Sentences that do not hold are listed apart; where none
holds, the answer is that the papers do not answer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.errors import ContextOverflow, InputError, ModelError, ModelUnavailable
from harness.jobs.runner import Cancelled
from harness.models.base import Message, Model, OnText, Options, Reply, Request
from skills.ask import prompt, repair
from skills.ask.abstain import NOT_ANSWERED
from skills.ask.prompt import Draft
from skills.ask.record import Answer, Citation, Passage
from skills.ask.stream import AnswerStream
from skills.ask.support import ENTAILED, entailment
from skills.ask.verify import Checked, Problem, Verifier

TEMPLATE_TOKENS = 96
"""What a chat template adds to four messages, generously."""
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
        raise InputError(
            f"the question has {len(asked):,} characters", f"ask in 1 to {prompt.LONGEST_QUESTION:,}"
        )  # fmt: skip
    if not passages:
        return Answer(question, "", NOT_ANSWERED, abstained=True)
    # thoughts would use up the tokens that the answer needs
    options = replace(options or Options(max_tokens=prompt.OUTPUT_TOKENS), think=False, top_logprobs=0)
    fitted = fit(model, asked, passages, options.max_tokens)
    model.reserve(fitted.tokens)
    writer = _Writer(model, asked, fitted, options, on_text, cancel)
    draft, checked = writer.write()
    return _finished(model, question, draft, checked, [*fitted.notes, *writer.notes])


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

    def write(self) -> tuple[Draft, list[Checked]]:
        """The answer, after a repair round where the first try had faults and there is room for a second."""
        reply = self._ask(self._chat)
        draft, fault = self._read(reply)
        checked = self._checked(draft) if draft else []
        faulty = any(one.problems for one in checked)
        if draft is None or faulty:
            if self.fitted.repairs:
                return self._repaired(reply, draft, checked, fault)
            self.notes.append("there was no room in the model's context to have faults repaired")
        if draft is None:
            raise fault or ModelError("the model gave no answer")
        self._settle(checked)
        return draft, checked

    def _repaired(
        self, reply: Reply, draft: Draft | None, checked: list[Checked], fault: ModelError | None
    ) -> tuple[Draft, list[Checked]]:
        """The second answer; the first where that one is worse. Raises ModelError where neither can be read."""
        said = repair.malformed(fault) if fault else repair.complaint(checked)
        if self.on_text is not None:
            self.on_text(AGAIN)
        try:
            second, again = self._read(self._ask((*self._chat, Message("assistant", reply.text), Message("user", said))))
        except ModelUnavailable:
            raise
        except ModelError as error:  # the first answer stands
            second, again = None, error
        if second is None:
            if draft is None:
                raise again or ModelError("the model gave no answer")
            self.notes.append("the repair of the faulty sentences could not be read")
            self._settle(checked)
            return draft, checked
        rechecked = self._checked(second)
        if draft is None or repair.better(checked, rechecked):
            self.notes.append("the answer was repaired once, after checks against the passages")
            draft, checked = second, rechecked
        self._settle(checked)
        return draft, checked

    def _ask(self, chat: tuple[Message, ...]) -> Reply:
        show = AnswerStream(self.on_text).feed if self.on_text is not None else None
        request = Request(messages=chat, schema=self._schema, options=self.options)
        reply = self.model.generate(request, on_text=show, cancel=self.cancel)
        if reply.finish == "cancelled":
            raise Cancelled
        return reply

    def _read(self, reply: Reply) -> tuple[Draft | None, ModelError | None]:
        """What a reply says, or what is wrong with it."""
        if reply.finish == "length":
            draft = prompt.parse_part(reply.text)
            if draft is None:
                said = f"the answer did not get to its first sentence within {self.options.max_tokens} tokens"
                return None, ModelError(said, "take another model with --model")
            self.notes.append(
                f"the answer was stopped at {self.options.max_tokens} tokens; its complete sentences are kept"
            )
            return draft, None
        try:
            return prompt.parse(reply.text), None
        except ModelError as error:
            return None, error

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
        except ModelUnavailable:
            raise
        except ModelError:
            return None

    def _settle(self, checked: Sequence[Checked]) -> None:
        """Say what is still wrong, and what could not be checked."""
        for one in checked:
            for problem in one.problems:
                if problem.kind in ("number", "quote"):
                    kept = "; the sentence that supports it is cited instead" if one.holds else ""
                    self.notes.append(f"{problem.message}{kept}")
                else:
                    self.notes.append(f"“{one.text}”: {problem.message}")
        self.notes += self._verifier.notes


def _finished(model: Model, question: str, draft: Draft, checked: Sequence[Checked], notes: Sequence[str]) -> Answer:
    """The answer from what holds."""
    holding = [one for one in checked if one.holds]
    style: Literal["written"] = "written"
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
        style=style,
        notes=tuple(dict.fromkeys(notes)),
        model=model.info.record(),
    )


def _marked(one: Checked) -> str:
    """A sentence with its marks."""
    return f"{one.text} {''.join(f'[{n}]' for n in sorted({citation.n for citation in one.citations}))}"
