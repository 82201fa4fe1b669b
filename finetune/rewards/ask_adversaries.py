"""Answers that deserve nothing, made from good ones by rules: what the reward of /ask must not be fooled by."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from finetune.rewards.ask import Gold, read_turn
from harness.sentences import split
from skills.ask.prompt import MOST_SENTENCES, Claim, Draft, completion

Adversary = Callable[[Gold, Sequence[Gold], random.Random], str]
REASONING = "The passages bear on the question, and what they say of it is given below."


def empty(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """Nothing, or an object with nothing in it."""
    return dice.choice(("", "{}", "\n", json.dumps({"reasoning": "", "answered": True, "answer": []})))


def abstaining(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """ "Not answered", whatever is asked."""
    return completion(Draft("The passages do not answer the question.", False, ()))


def template(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The question's words in a sentence that says nothing, with a real quote."""
    question, passages = read_turn(gold.query)
    text = f"According to the passages, there is evidence on this question: {question}"
    return completion(Draft(REASONING, True, (Claim(text[:500], ((1, split(passages[0].text)[0].text[:400]),)),)))


def copied(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The sentences of the first passage, each with itself as its quote."""
    _, passages = read_turn(gold.query)
    return _quoting([(1, one.text) for one in split(passages[0].text)])


def copied_at_random(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """One sentence of the passages, any."""
    _, passages = read_turn(gold.query)
    return _quoting([dice.choice([(one.n, text.text) for one in passages for text in split(one.text)])])


def all_copied(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """As many sentences of all passages as an answer may have."""
    _, passages = read_turn(gold.query)
    return _quoting([(one.n, text.text) for one in passages for text in split(one.text)])


def _quoting(sentences: Sequence[tuple[int, str]]) -> str:
    kept = [(n, " ".join(text.split())[:400]) for n, text in sentences if len(text.split()) > 3][:MOST_SENTENCES]
    claims = tuple(Claim(text, ((n, text),)) for n, text in kept)
    return completion(Draft(REASONING, bool(claims), claims))


def shuffled(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The answer to another question."""
    strangers = [one for one in others if one.query != gold.query]
    return dice.choice(strangers or [gold]).text


def free(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The right answer as plain text: reasoning, ``#####``, answer."""
    draft = gold.draft
    return f"{draft.reasoning} ##### {' '.join(one.text for one in draft.claims)}"


def _changed(gold: Gold, change: Callable[[Claim], Claim]) -> str:
    draft = gold.draft
    if not draft.claims:  # a question that is not answered is answered all the same
        _, passages = read_turn(gold.query)
        text = " ".join(passages[0].text.split())[:300]
        draft = Draft(REASONING, True, (Claim(text, ((1, text),)),))
    return completion(replace(draft, claims=tuple(map(change, draft.claims))))


def unmarked(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The right answer without sources."""
    return _changed(gold, lambda one: Claim(one.text))


def wrongly_marked(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The right answer with marks of passages that do not exist."""
    return _changed(gold, lambda one: Claim(one.text, tuple((n + 50, quote) for n, quote in one.citations)))


def misquoted(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The right answer, itself as its quote with a word put in."""
    return _changed(
        gold, lambda one: Claim(one.text, tuple((n, f"indeed {one.text[:300]} indeed") for n, _ in one.citations))
    )


def miscounted(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The right answer with other numbers, or with one where it has none."""

    def other(one: Claim) -> Claim:
        text = re.sub(r"\d+", lambda match: str(int(match[0][:9]) + 7), one.text)
        return Claim(text if text != one.text else f"{one.text.rstrip('.')} in 73 of 97 cases.", one.citations)

    return _changed(gold, other)


def repeated(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The first sentence of the right answer again and again."""
    draft = gold.draft
    claims = draft.claims[:1] * MOST_SENTENCES
    return completion(replace(draft, claims=claims)) if claims else _changed(gold, lambda one: one)


def unreasoned(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The right answer without a reasoning."""
    return completion(replace(gold.draft, reasoning=""))


ADVERSARIES: Mapping[str, Adversary] = {
    "empty": empty,
    "always abstaining": abstaining,
    "template": template,
    "copied passage": copied,
    "copied sentence": copied_at_random,
    "all passages copied": all_copied,
    "shuffled": shuffled,
    "plain text": free,
    "without marks": unmarked,
    "marks of no passage": wrongly_marked,
    "made-up quotes": misquoted,
    "other numbers": miscounted,
    "repetition": repeated,
    "without reasoning": unreasoned,
}
