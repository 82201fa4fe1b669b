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
from harness.models.base import Message, Model, OnText, Options, Request
from skills.ask import equations, figures, prompt, repair
from skills.ask.abstain import NOT_ANSWERED
from skills.ask.circles import Circling, Watch
from skills.ask.prompt import Draft
from skills.ask.record import Answer, Citation, Passage
from skills.ask.stream import AnswerStream
from skills.ask.support import ENTAILED, can_judge, entailment
from skills.ask.verify import Checked, Problem, Verifier

TEMPLATE_TOKENS = 96
"""What a chat template adds to four messages, generously."""
_POINTERS = re.compile(r"\bpassages?\s+\d+(?:\s*(?:,|and|to|-|–)+\s*\d+)*|\[\d+(?:[,;\s]+\d+)*\]", re.IGNORECASE)
"""How a reasoning points at passages."""
LOOSENED = 1.1
"""Penalty on repeated tokens for a second try after one that went round in circles: Ollama's own default."""
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
    if not draft.answered and draft.reasoning:
        notes.append("the chat model says that the passages do not answer; its reasoning was not checked")
    return _finished(model, question, draft, checked, [note for note in notes if note])


@dataclass(frozen=True)
class _Try:
    """What a model wrote, and what is to be made of it: a draft with its checks, or what is wrong."""

    text: str
    draft: Draft | None = None
    checked: tuple[Checked, ...] = ()
    fault: ModelError | None = None
    stopped: str = ""
    """Why it is not complete."""
    circled: bool = False
    """It was stopped because it went round in circles."""

    @property
    def complaint(self) -> str:
        """What the model should be told of it; "" where all is well."""
        if self.circled:
            return self.stopped
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
        final = self._try(self._chat, self.options)
        if complaint := final.complaint:
            if self.fitted.repairs or final.circled:
                final = self._repaired(final, complaint)
            else:
                self.notes.append("there was no room in the model's context to have faults repaired")
        if final.draft is None:
            raise final.fault or ModelError("the model gave no answer")
        self._settle(final)
        return final.draft, final.checked

    def _repaired(self, first: _Try, complaint: str) -> _Try:
        """The second try; the first where that one is worse. What went round in circles is asked anew: a model that sees
        its own circle falls into it again."""
        if self.on_text is not None:
            self.on_text(AGAIN)
        try:
            if first.circled:
                second = self._try(self._chat, replace(self.options, repeat_penalty=LOOSENED))
            else:
                second = self._try(
                    (*self._chat, Message("assistant", first.text), Message("user", complaint)), self.options
                )
        except ModelError as error:
            second = _Try("", fault=error)
        if first.draft is None:
            return second
        if second.draft is None:
            self.notes.append(f"the faulty sentences could not be repaired: {second.fault}")
            return first
        if not repair.better(first.checked, second.checked):
            return first
        if not first.circled:
            self.notes.append("the answer was repaired once, after checks against the passages")
        return second

    def _try(self, chat: tuple[Message, ...], options: Options) -> _Try:
        """Ask, read, check. Raises ModelError where there is no reply, Cancelled."""
        watch = Watch(AnswerStream(self.on_text).feed if self.on_text is not None else None)
        request = Request(messages=chat, schema=self._schema, options=options)
        try:
            reply = self.model.generate(request, on_text=watch.feed, cancel=self.cancel)
        except Circling as circling:
            return self._partial(circling.text, "the model went round in circles and was stopped", circled=True)
        if reply.finish == "cancelled":
            raise Cancelled
        if reply.finish == "length":
            return self._partial(reply.text, f"the answer was stopped at {options.max_tokens} tokens")
        try:
            draft = prompt.parse(reply.text)
        except ModelError as error:
            return _Try(reply.text, fault=error)
        return _Try(reply.text, draft, tuple(self._checked(draft)))

    def _partial(self, text: str, stopped: str, *, circled: bool = False) -> _Try:
        """What can be made of an answer that was stopped in the middle."""
        if (draft := prompt.parse_part(text)) is None:
            fault = ModelError(f"{stopped} before its first sentence", "take another model with --model")
            return _Try(text, fault=fault, stopped=stopped, circled=circled)
        return _Try(text, draft, tuple(self._checked(draft)), stopped=stopped, circled=circled)

    def _checked(self, draft: Draft) -> list[Checked]:
        once = replace(draft, claims=prompt.each_once(draft.claims))
        return [self._judged(one) for one in self._verifier.check(once)] if draft.answered else []

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
        """None where the model cannot be asked: one that was tuned to answer knows no other task, a small one nothing."""
        if self.model.info.contract:
            return None
        try:
            able = can_judge(self.model, self.cancel)
            return entailment(self.model, one.evidence, one.text, self.cancel) if able else None
        except ModelError:
            return None

    def _settle(self, final: _Try) -> None:
        """Say of the answer that stands whether it was stopped, what is still wrong, and what could not be checked."""
        if final.stopped:
            self.notes.append(f"{final.stopped}; its complete sentences are kept")
        for one in final.checked:
            for problem in one.problems:
                if problem.kind in ("number", "quote"):
                    kept = "; the sentence that supports it is cited instead" if one.holds else ""
                    self.notes.append(f"{problem.message}{kept}")
                else:
                    self.notes.append(f"“{one.text}”: {problem.message}")
            self.notes += one.notes
            if one.remark and not one.wrong:
                self.notes.append(f"the model says of the passages, and it was not checked: {one.text}")


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
        unsupported=tuple(one.text for one in checked if one.fails),
        notes=tuple(dict.fromkeys(notes)),
        model=model.info.record(),
    )


def _marked(one: Checked) -> str:
    """A sentence with its marks."""
    return f"{one.text} {''.join(f'[{n}]' for n in sorted({citation.n for citation in one.citations}))}"
