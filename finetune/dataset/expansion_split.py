"""From clean expansions to training rows: a split that no question crosses, short queries made of longer ones, prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from finetune.dataset.expansion_schema import Example
from finetune.rewards.words import FUNCTION_WORDS, content_stems, stem, tokens
from skills.expand.prompt import CONTRACT, Query, user_turn
from skills.expand.words import named_entities

SHORT = 2
"""Words of a short query."""
SHORTENED = "shortened"
"""The source of a query that was made of a longer one."""

__all__ = ["CONTRACT", "SHORTENED", "Split", "chance", "row", "shortened", "split"]


@dataclass
class Split:
    """Examples for training and validation, and what was left out, by reason."""

    train: list[Example] = field(default_factory=list)
    valid: list[Example] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def chance(seed: int, purpose: str, text: str) -> float:
    """A number from 0 to 1 that depends on nothing but these three."""
    return int.from_bytes(blake2b(f"{seed}/{purpose}/{text}".encode(), digest_size=8).digest(), "big") / 2**64


def split(examples: Iterable[Example], held_out: Iterable[str], *, valid: float, seed: int) -> Split:
    """Each question (``Example.stem``) goes to one side whole; those of ``held_out`` (stems) to none.

    Of several examples of one query the first stays. Order within a side depends on the seed and the queries alone.
    """
    found, away = Split(), frozenset(held_out)
    queries: set[str] = set()
    for example in examples:
        query = example.full_query.casefold()
        if example.stem in away:
            found.dropped["the question stands in an evaluation set"] += 1
        elif query in queries:
            found.dropped["the query stands before"] += 1
        else:
            queries.add(query)
            side = found.valid if chance(seed, "valid", example.stem) < valid else found.train
            side.append(example)
    for side in (found.train, found.valid):
        side.sort(key=lambda example: (chance(seed, "order", example.full_query.casefold()), example.full_query))
    return found


def shortened(examples: Sequence[Example], taken: Iterable[str], *, share: float, seed: int) -> list[Example]:
    """Examples of one or two words made of longer ones, so many that about ``share`` of all are short.

    The new query is the words that all lex lines keep, in the order of the query, names included; the lines stay. So it is
    answered by the same lines. ``taken`` are stems that no new query may have: those of the validation set and the like.
    """
    short = sum(len(example.bare_query.split()) <= SHORT for example in examples)
    wanted = int((share * len(examples) - short) / (1 - share)) if share < 1 else 0
    away = {example.stem for example in examples} | set(taken)
    made: list[Example] = []
    for example in sorted(examples, key=lambda one: chance(seed, "short", one.full_query.casefold())):
        if len(made) >= wanted:
            break
        query = _core(example)
        if not query:
            continue
        new = example.model_copy(update={"query": query, "source": SHORTENED, "intent": None, "is_short": None})
        if new.stem not in away:
            away.add(new.stem)
            made.append(new)
    return made


def _core(example: Example) -> str:
    """The one or two words that a longer query comes down to; empty where there are none or a name would be lost."""
    words = example.bare_query.split()
    lex = example.texts("lex")
    if example.asked or len(words) <= SHORT or not lex:
        return ""
    common = set.intersection(*[set(content_stems(text)) for text in lex])
    kept = [
        word.strip(".,!?:;()[]\"'") for word in words if common & {stem(t) for t in tokens(word) if t not in FUNCTION_WORDS}
    ]
    names = named_entities(example.bare_query)
    if not 1 <= len(kept) <= SHORT or len(kept) == len(words) or any(name not in kept for name in names):
        return ""
    query = " ".join(kept)
    # A line that says no more than the new query would teach to echo.
    return query if all(set(content_stems(text)) - set(content_stems(query)) for text in lex) else ""


def row(example: Example, *, intent: bool) -> dict[str, Any]:
    """A training row: the user's turn of contract ``expand@1`` and the lines, without the end of the turn."""
    query = Query(example.bare_query, (example.intent or "") if intent else "", (example.asked,) if example.asked else ())
    asked = user_turn(query)
    return {
        "id": blake2b(f"{asked}\n{example.text}".encode(), digest_size=8).hexdigest(),
        "source": example.source or "-",
        "query": example.full_query,
        "prompt": [{"role": "user", "content": asked}],
        "completion": example.text,
    }
