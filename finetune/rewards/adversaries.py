"""Outputs that deserve nothing, made from gold by rules: what a reward must not be fooled by.

Each adversary is a function of a gold example, the other examples and dice, and knows nothing of the query's subject beyond
its words. All texts are ours.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from finetune.rewards.background import query_stems
from finetune.rewards.qmd_text import detect_only_mode
from finetune.rewards.qmd_words import TYPES


class Gold(NamedTuple):
    """A query (with its ``/only:TYPE``, if any) and an expansion that is good."""

    query: str
    lines: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The lines as a model writes them."""
        return written(self.lines)


Lines = Sequence[tuple[str, str]]
Adversary = Callable[[Gold, Sequence[Gold], random.Random], str]


def written(lines: Lines) -> str:
    """Lines as text, one a line."""
    return "\n".join(f"{kind}: {text}" for kind, text in lines)


def _asked(gold: Gold) -> tuple[str, tuple[str, ...]]:
    """The query without its suffix, and the types it asks for."""
    only, query = detect_only_mode(gold.query)
    return query, (only,) if only else TYPES


def _filled(lines: Mapping[str, Sequence[str]], gold: Gold) -> str:
    """Templates with the query in the place of ``{}``."""
    query, kinds = _asked(gold)
    return written(
        [(kind, text.replace("{}", query)) for kind in ("hyde", "lex", "vec") if kind in kinds for text in lines[kind]]
    )


_PLAIN = {
    "lex": ("{} guide", "{} examples tutorial", "{} best practices"),
    "vec": ("what is the best way to understand {} and use it well", "complete explanation of {} with practical examples"),
    "hyde": (
        "This page explains {} in clear steps, with examples, common mistakes and tips that help you get good results.",
    ),
}
_WORDY = {
    "lex": ("{} reference handbook", "{} detailed walkthrough steps", "{} troubleshooting checklist"),
    "vec": (
        "where can I find a detailed reference handbook or walkthrough that covers {} step by step",
        "which troubleshooting checklist helps when something about {} does not behave as expected",
    ),
    "hyde": (
        "The reference handbook opens its chapter on {} with a detailed walkthrough of all steps, followed by a "
        "troubleshooting checklist, answers to frequent questions and further material for experienced readers.",
    ),
}
_ODD = {
    "lex": ("{} lighthouse barometer", "{} walnut harpsichord", "{} glacier pendulum"),
    "vec": (
        "how does a lighthouse barometer or a glacier pendulum relate to {} in practice",
        "why would a walnut harpsichord be mentioned together with {} by so many authors",
    ),
    "hyde": (
        "In the lighthouse the barometer fell while the walnut harpsichord was tuned; a pendulum hung over the glacier, "
        "and the keeper wrote a short note on {} before the storm arrived.",
    ),
}  # fmt: skip


def template(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The fixed template that scores above most answers by QMD's rubric."""
    return _filled(_PLAIN, gold)


def wordy_template(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """A template of many words that come back in all types."""
    return _filled(_WORDY, gold)


def odd_template(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """A template of rare words, which look like news."""
    return _filled(_ODD, gold)


def empty(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """Nothing, or lines with nothing in them."""
    return dice.choice(("", "\n", "\n".join(f"{kind}:" for kind in _asked(gold)[1])))


def echo(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The query on each line, as it is or in other order and case."""
    query, kinds = _asked(gold)
    turned = " ".join(reversed(query.split()))
    return written([(kind, text) for kind in kinds for text in dice.sample((query, turned, f"{query}?", query.title()), 2)])


def shuffled(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The expansion of another query, of the types asked for."""
    return written(_others_lines(gold, others, dice))


def grafted(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The expansion of another query with this query written before each line."""
    query, _ = _asked(gold)
    return written([(kind, f"{query} {text}") for kind, text in _others_lines(gold, others, dice)])


def _others_lines(gold: Gold, others: Sequence[Gold], dice: random.Random) -> Lines:
    kinds = _asked(gold)[1]
    own = query_stems(gold.query)
    for other in dice.sample(others, len(others)):
        lines = [line for line in other.lines if line[0] in kinds]
        whole = len({kind for kind, _ in lines}) == len({kind for kind, _ in gold.lines})
        if whole and own.isdisjoint(query_stems(other.query)):
            return lines
    return [("lex", "unrelated words of nothing"), ("vec", "an unrelated sentence of no use at all")]


def stuffed(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """Words of the query and of many other expansions heaped on each line."""
    query, kinds = _asked(gold)
    heap = [word for other in dice.sample(others, min(8, len(others))) for _, text in other.lines for word in text.split()]
    sizes = {"lex": 9, "vec": 16, "hyde": 40}
    return written([(kind, " ".join([query, *dice.choices(heap, k=sizes[kind])])) for kind in kinds for _ in range(2)])


def neatly_stuffed(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """A few words of other lex lines after the query, the same ones in every line, at proper lengths."""
    query, kinds = _asked(gold)
    heap = [word for other in others for kind, text in other.lines if kind == "lex" for word in text.split()] or ["thing"]
    a, b, c, d, e, f = dice.choices(heap, k=6)
    texts = {
        "lex": (f"{query} {a} {b}", f"{query} {c} {d}", f"{query} {e} {f}"),
        "vec": (f"how does {query} relate to {a} and {b} in this case", f"what have {c} and {d} to do with {query}"),
        "hyde": (
            f"When it comes to {query}, the {a} and the {b} matter most, while {c}, {d}, {e} and {f} are often overlooked.",
        ),
    }
    return written([(kind, text) for kind in kinds for text in texts[kind]])


def repeated(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """The first gold line of each type, several times over."""
    first = dict(reversed(gold.lines))
    return written([(kind, text) for kind, text in first.items() for _ in range(3)])


def stuttered(gold: Gold, others: Sequence[Gold], dice: random.Random) -> str:
    """Gold with each line said twice on the same line."""
    return written([(kind, f"{text} {text}") for kind, text in gold.lines])


ADVERSARIES: Mapping[str, Adversary] = {
    "fixed template": template,
    "wordy template": wordy_template,
    "template of rare words": odd_template,
    "empty": empty,
    "echo": echo,
    "shuffled": shuffled,
    "grafted": grafted,
    "keyword stuffing": stuffed,
    "neat stuffing": neatly_stuffed,
    "repetition": repeated,
    "stutter": stuttered,
}
