"""Expanders: one query in, its lines out, by the contract that the model speaks.

Both ask, take out what is not worth searching with (``filters.py``), and ask once more for a type that is then missing. A
small model's registry entry may allow several drafts: another is asked for until one is good enough (``choice.py``). It may
also grant ``lex`` lines of the query's keywords with terms of the lexicon (``lexicon.py``), and with those that go with the
query's words in a table beside the model (``related.py``). A model tuned for ``expand@1`` is not asked in words for what
is missing but made to go on: its answer so far and the beginning of the line stand in the prompt, for a ``lex`` line the
keywords of the query and every name in it.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path

from harness.errors import ModelError, ModelUnavailable
from harness.jobs.runner import Cancelled
from harness.models.base import Message, Model, Options, Reply, Request
from skills.expand import chat_prompt, prompt
from skills.expand.choice import GOOD_ENOUGH, excluding, faults, lengthened, lost_keywords, phrased, without_echoes
from skills.expand.expansion import TYPES, Line, one_line, ordered, parse_expansion, render
from skills.expand.filters import REASONS, Filtered, Removed, counts, filter_lines
from skills.expand.ground import Ground, asked_only, composed
from skills.expand.lexicon import Lexicon, load
from skills.expand.prompt import Query
from skills.expand.related import LINES, TERMS, Related, read, related_lines
from skills.expand.words import keywords

TEMPLATE_TOKENS = 96
"""What a chat template adds to two or four messages, generously."""
SAMPLING = Options(temperature=0.7, top_p=0.8, top_k=20)
"""For another expansion than the likeliest: the values that upstream's runtime has."""
MOST_DRAFTS = 8
"""More would cost more than they bring."""
SHOWN = 200
"""Characters of a line that a complaint repeats."""

_NUMBERS = count()

Ask = Callable[[Request], Reply]
Found = tuple[list[Line], list[Removed]]
"""Lines of an answer, and what in it was none."""


@dataclass(frozen=True)
class Draft:
    """What an expander makes of one query."""

    lines: tuple[Line, ...]
    removed: tuple[Removed, ...]
    prompt_tokens: int
    completion_tokens: int
    context_used: int


def options_for(seed: int | None) -> Options:
    """Greedy without a seed, else sampling with it."""
    return Options() if seed is None else replace(SAMPLING, seed=seed)


class Expander(ABC):
    """A contract bound to a model."""

    contract: str
    output_tokens: int
    """What its output may take at most, and what a chat template adds."""

    def __init__(
        self,
        model: Model,
        options: Options,
        drafts: int = 1,
        table: Related | None = None,
        lexicon: Lexicon | None = None,
    ) -> None:
        self._model = model
        self._options = options
        self.drafts = drafts
        """Answers to a query at most, of which the best is taken (``choice.py``)."""
        self.table = table
        """Which terms go with which words (``related.py``)."""
        self.lexicon = lexicon
        """What headwords are also called, and what is said of them (``lexicon.py``)."""

    @property
    def means(self) -> tuple[int, str, str]:
        """What beside the model shapes a result: the number of drafts, the hashes of the table and of the lexicon."""
        return self.drafts, self.table.digest if self.table else "", self.lexicon.digest if self.lexicon else ""

    def expand(self, query: Query, cancel: threading.Event | None = None, *, ahead: int = 1) -> Draft:
        """Expand one query, ``ahead`` drafts at a time: more than one where the model has nothing else to do.

        Raises ModelError (ModelUnavailable where a retry may help), Cancelled.
        """
        replies: list[Reply] = []
        ask, ground = self._asking(replies, cancel), self.ground(query)
        kept, removed, answer = self.best(query, ground, cancel, replies, ahead)
        kept = joined(query, ground, kept, self.added(query, ground, kept), removed)
        if missing := self.missing(query, kept):
            more, bad = self.more(query, missing, kept, ask, answer)
            removed += bad
            kept = joined(query, ground, kept, more, removed)
        kept = self.finished(query, kept)
        removed += kept.removed
        if ground:
            kept = rescued(query, kept, removed)
        if not kept.lines:
            why = ", ".join(f"{number} × {REASONS[reason]}" for reason, number in counts(removed).items())
            raise ModelError(f"the model wrote no usable line ({why or 'nothing at all'})", "take another with --model")
        return Draft(
            lines=tuple(phrased(query, excluding(query, ordered(kept.lines)))),
            removed=tuple(removed),
            prompt_tokens=sum(reply.prompt_tokens for reply in replies),
            completion_tokens=sum(reply.completion_tokens for reply in replies),
            context_used=max(reply.prompt_tokens + reply.completion_tokens for reply in replies),
        )

    def _asking(self, replies: list[Reply], cancel: threading.Event | None) -> Ask:
        """What sends a request to the model and keeps the reply."""

        def ask(request: Request) -> Reply:
            reply = self._model.generate(request, cancel=cancel)
            if reply.finish == "cancelled":
                raise Cancelled
            replies.append(reply)
            return reply

        return ask

    def ground(self, query: Query) -> Ground | None:
        """What the lines must stand on; None for a model that is trusted to write sense."""
        if not self.lexicon and not self.table:
            return None
        terms = self.lexicon.related(query.text, query.intent) if self.lexicon else []
        terms += self.table.of(query.text, LINES * TERMS + 2) if self.table else []
        return Ground(query, tuple(dict.fromkeys(terms)), self._words)

    @cached_property
    def _words(self) -> frozenset[str]:
        """The words that there are, where the table says so."""
        known = self.table.words if self.table else frozenset()
        return known | self.lexicon.words if known and self.lexicon else known

    def best(
        self, query: Query, ground: Ground | None, cancel: threading.Event | None, replies: list[Reply], ahead: int
    ) -> tuple[Filtered, list[Removed], str]:
        """The draft with the least faults, what of it could not be read, and its text.

        Asking ends at one that is good enough: most of the first are, and each takes as long as the first. Which is
        taken does not depend on ``ahead``: what was begun after it is left to itself.
        """

        def draft(number: int) -> tuple[int, Filtered, list[Removed], list[Reply]]:
            own: list[Reply] = []
            lines, unread = self.first(asked, self._asking(own, cancel), number)
            if not ground:
                kept = filter_lines(query, lines)
                return faults(query, kept, len(unread)), kept, unread, own
            kept = filter_lines(query, asked_only(query, lines), ground)
            whole = filter_lines(query, [*kept.lines, *self.added(query, ground, kept)])
            return faults(without_passage(query), replace(whole, removed=()), len(unread)), kept, unread, own

        asked = replace(query, only=("vec",)) if ground and ground.terms and "vec" in query.types else query
        ahead = ahead if asked is query else 1
        pool = ThreadPoolExecutor(ahead)
        try:
            drafts = [pool.submit(draft, number) for number in range(min(ahead, self.drafts))]
            found = None
            for number in range(self.drafts):
                one = drafts[number].result()
                replies += one[3]
                if found is None or one[0] < found[0]:
                    found = one
                if one[0] <= GOOD_ENOUGH:
                    break
                if len(drafts) < self.drafts:
                    drafts.append(pool.submit(draft, len(drafts)))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        assert found is not None
        return found[1], found[2], found[3][-1].text

    def finished(self, query: Query, kept: Filtered) -> Filtered:
        """The lines to serve, of those that are kept."""
        return kept

    def added(self, query: Query, ground: Ground | None, kept: Filtered) -> list[Line]:
        """Lines that are not the model's but of the terms that are known."""
        if ground is None:
            return []
        missing = [kind for kind in query.types if kind not in kept.types]
        return related_lines(query, kept, ground.terms) + composed(ground, missing)

    def missing(self, query: Query, kept: Filtered) -> list[str]:
        """The types that are asked for again: those without a line."""
        return [kind for kind in query.types if kind not in kept.types]

    @abstractmethod
    def longest_prompt(self, query: Query) -> str:
        """The text of the largest request for this query, but for what the model wrote itself."""

    @abstractmethod
    def first(self, query: Query, ask: Ask, number: int = 0) -> Found:
        """The answer; ``number`` counts the drafts of one query."""

    @abstractmethod
    def more(self, query: Query, missing: Sequence[str], kept: Filtered, ask: Ask, answer: str) -> Found:
        """Lines of the types of which ``answer`` has none that could be kept."""


class LinesExpander(Expander):
    """Contract expand@1: a raw prompt, an answer of lines, bound by a grammar where the backend has grammars."""

    contract = prompt.CONTRACT
    output_tokens = prompt.OUTPUT_TOKENS + prompt.LINE_TOKENS

    def longest_prompt(self, query: Query) -> str:
        """The prompt; what is written after it counts as output."""
        return prompt.render_prompt(query)

    def first(self, query: Query, ask: Ask, number: int = 0) -> Found:
        """The answer; where it ends at the limit of tokens, its last line is only a part of one.

        The first is as the user asked, the others are sampled, each with dice of its own.
        """
        how = replace(SAMPLING, seed=self._options.seed + number) if number else self._options
        options = replace(how, max_tokens=prompt.OUTPUT_TOKENS, stop=prompt.STOPS)
        text, grammar = prompt.render_prompt(query), prompt.grammar(query.types)
        reply = ask(Request(prompt=text, grammar=grammar, options=options, session=alone()))
        text, cut = reply.text, ""
        if reply.finish == "length":
            text, _, cut = text.rpartition("\n")
        lines, malformed = parse_expansion(text)
        removed = [Removed("malformed", line) for line in malformed]
        return lines, [*removed, Removed("cut", one_line(cut))] if cut else removed

    def finished(self, query: Query, kept: Filtered) -> Filtered:
        """Those without lex lines that find what the query finds, or with such lines made longer."""
        return without_echoes(query, kept)

    def missing(self, query: Query, kept: Filtered) -> list[str]:
        """Also lex, where no line holds some keyword of the query: a line that begins with all of them is added."""
        lost = "lex" in query.types and bool(lost_keywords(query, kept))
        return [kind for kind in query.types if kind not in kept.types or (kind == "lex" and lost)]

    def more(self, query: Query, missing: Sequence[str], kept: Filtered, ask: Ask, answer: str) -> Found:
        """For each type one line, begun for the model: for ``lex`` with the keywords of the query and its names.

        A line of another type has no such beginning: where one was written and removed it would come again.
        """
        lines = list(kept.lines)
        for kind in missing:
            start = f" {keywords(query.text, kept.entities)}" if kind == "lex" else ""
            if not start and any(one.text.startswith(f"{kind}:") for one in kept.removed):
                continue
            before = render(line for line in lines if TYPES.index(line.type) < TYPES.index(kind))
            text = prompt.render_prompt(query) + (f"{before}\n" if before else "") + f"{kind}:{start}"
            options = replace(self._options, max_tokens=prompt.LINE_TOKENS, stop=("\n", *prompt.STOPS))
            grammar = prompt.line_grammar(kind, start)
            reply = ask(Request(prompt=text, grammar=grammar, options=options, session=alone()))
            content = one_line(start + reply.text)
            if reply.finish == "stop" and content and "<|" not in content:
                lines.append(Line(kind, content))
        return lines[len(kept.lines) :], []


class JsonExpander(Expander):
    """Contract expand/json@1: a chat request bound by a JSON schema, for general models."""

    contract = chat_prompt.CONTRACT
    output_tokens = 2 * (chat_prompt.OUTPUT_TOKENS + TEMPLATE_TOKENS)
    """A second turn holds the first answer too."""

    def longest_prompt(self, query: Query) -> str:
        """The chat's texts and the schema, which some backends put into the prompt."""
        return "\n".join([*(m.content for m in chat_prompt.messages(query)), json.dumps(chat_prompt.schema(query))])

    def first(self, query: Query, ask: Ask, number: int = 0) -> Found:
        """The answer to the chat."""
        return self._ask(query, chat_prompt.messages(query), ask)

    def more(self, query: Query, missing: Sequence[str], kept: Filtered, ask: Ask, answer: str) -> Found:
        """The answer to a complaint that says what was wrong; only the missing types are asked for.

        One that cannot be read adds nothing: the first answer's lines stand.
        """
        chat = (
            *chat_prompt.messages(query),
            Message("assistant", answer),
            Message("user", complaint(missing, kept)),
        )
        try:
            return self._ask(replace(query, only=tuple(missing)), chat, ask)
        except ModelUnavailable:
            raise
        except ModelError:
            return [], []

    def _ask(self, query: Query, chat: tuple[Message, ...], ask: Ask) -> Found:
        # thoughts would use up the tokens that the answer needs
        options = replace(self._options, max_tokens=chat_prompt.OUTPUT_TOKENS, think=False)
        reply = ask(Request(messages=chat, schema=chat_prompt.schema(query), options=options))
        if reply.finish == "length":
            raise ModelError(f"the answer did not end within {options.max_tokens} tokens", "take another with --model")
        lines, malformed = chat_prompt.parse(reply.text, query)
        return lines, [Removed("malformed", text) for text in malformed]


def complaint(missing: Sequence[str], kept: Filtered) -> str:
    """What to tell a chat model of which some types had no usable line."""
    lines = [f"None of these could be used: {', '.join(missing)}."]
    lines += [f"- {one.text[:SHOWN]} ({REASONS[one.why]})" for one in kept.removed if one.text.partition(":")[0] in missing]
    if kept.entities and "lex" in missing:
        lines.append(f"Every lex line must hold {', '.join(kept.entities)} as written.")
    lines.append(f"Write the JSON again with other lines, with only these keys: {', '.join(missing)}.")
    return "\n".join(lines)


def alone() -> str:
    """A session of one request. What a slot still has of others' prompts, or of an answer that it wrote itself, differs in
    the last digits from what is computed anew, and a line would hang on which queries came before.
    """
    return f"expand {next(_NUMBERS)}"


def joined(query: Query, ground: Ground | None, kept: Filtered, lines: Sequence[Line], removed: list[Removed]) -> Filtered:
    """Further lines beside those that are kept, filtered together; ``removed`` gets what had been removed before.

    Lex lines that lacked a name stand again beside one that holds it.
    """
    if not lines:
        return kept
    removed += [one for one in kept.removed if one.why != "entity"]
    return filter_lines(query, [*kept.lines, *kept.nameless, *lines], ground)


def without_passage(query: Query) -> Query:
    """The query without the type that may stay away where others are asked for."""
    return replace(query, only=tuple(kind for kind in query.types if kind != "hyde") or query.only)


def rescued(query: Query, kept: Filtered, removed: Sequence[Removed]) -> Filtered:
    """The lines with what must not be missing: all keywords in some lex line and a vec line, both as plain as need be, and
    where a passage alone was asked for, one that was removed.
    """
    lines = list(kept.lines)
    words = keywords(query.text, kept.entities)
    if "lex" in query.types and (lost_keywords(query, kept) or "lex" not in kept.types):
        others = [line.text for line in lines if line.type == "lex"]
        lines.append(Line("lex", lengthened(query, words, others)))
    if "vec" in query.types and "vec" not in kept.types:
        plain = (f"what is known about {words}", f"an introduction to {words}")
        lines += [Line("vec", text) for text in plain[: 2 if len(query.types) == 1 else 1]]
    if not lines:
        texts = [one.text for why in ("drift", "word", "loop") for one in removed if one.why == why]
        lines = parse_expansion("\n".join(texts))[0][:1]
    return replace(kept, lines=tuple(lines))


def means_of(model: Model) -> tuple[int, Related | None, Lexicon | None]:
    """What the ``serving`` table of the model's registry entry grants it: ``drafts``, ``terms``, a file beside the entry,
    and ``lexicon``, whether it has the lexicon.

    One draft and neither for a model without an entry. Raises InputError for a table or lexicon that cannot be read.
    """
    from harness.registry import find

    entry = find(model.info.name) if model.info.contract else None
    serving = entry.serving if entry else {}
    drafts, terms = serving.get("drafts", 1), serving.get("terms", "")
    if not isinstance(drafts, int) or not 1 <= drafts <= MOST_DRAFTS:
        drafts = 1
    lexicon = load() if serving.get("lexicon") is True else None
    if not entry or not isinstance(terms, str) or Path(terms).name != terms or not terms:
        return drafts, None, lexicon
    return drafts, read(entry.folder / terms), lexicon


def make_expander(model: Model, options: Options, *, lines: bool = False) -> Expander:
    """The expander of the contract that the model speaks; ``lines`` says that one without a contract speaks expand@1.

    Raises ModelError for a contract that is not known here.
    """
    contract = model.info.contract or (prompt.CONTRACT if lines else chat_prompt.CONTRACT)
    if contract == prompt.CONTRACT:
        return LinesExpander(model, options, *means_of(model))
    if contract == chat_prompt.CONTRACT:
        return JsonExpander(model, options)
    raise ModelError(f"{model.info.name} speaks {contract}, which is not known here", "use --model with another model")
