"""Which sentences of an abstract a text rests on: found again where it quotes them, else by shared words.

Written texts are matched as extractive labels are made for summarisation (Nallapati et al. 2017, section 3.1): sentences
are added greedily while the overlap of words with the text (ROUGE-1 F1, Lin 2004) rises.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

ENOUGH = 0.5
"""A text whose sentences hold fewer of its words rests on none of them."""
_WORD = re.compile(r"\w+")
_COMMON = frozenset(
    "a an and are as at be been but by can for from has have in into is it its may of on or our than that the their them "
    "these they this those to was we were which while with".split()
)


def tokens(text: str) -> list[str]:
    """The words of a text in any script, without case, punctuation and line breaks."""
    return _WORD.findall(text.casefold())


def quoted(text: str, sentences: Sequence[str]) -> list[int]:
    """Numbers (from 1) of the sentences that the text consists of, in its order; empty where it says anything else.

    >>> quoted("We win.  It is cheap!", ["It is cheap.", "We win."])
    [2, 1]
    """
    wanted = tokens(text)
    known = [tokens(sentence) for sentence in sentences]
    numbers: list[int] = []
    position = 0
    while position < len(wanted):
        fits = [
            index
            for index, words in enumerate(known)
            if words and index + 1 not in numbers and wanted[position : position + len(words)] == words
        ]
        if not fits:
            return []
        best = max(fits, key=lambda index: len(known[index]))
        numbers.append(best + 1)
        position += len(known[best])
    return numbers


def nearest(text: str, sentences: Sequence[str], most: int) -> tuple[list[int], float]:
    """Up to ``most`` sentence numbers that a written text rests on, best first, and the share of its words they hold.

    Function words do not count. Without a common word the list is empty and the share 0.
    """
    wanted = _content(text)
    known = [_content(sentence) for sentence in sentences]
    total = wanted.total()
    chosen: list[int] = []
    held, best = Counter[str](), 0.0
    while len(chosen) < most:
        scores = [0.0 if index + 1 in chosen else _f1(wanted, total, held + words) for index, words in enumerate(known)]
        score = max(scores, default=0.0)
        if score <= best:
            break
        index = scores.index(score)
        chosen.append(index + 1)
        held, best = held + known[index], score
    return chosen, (wanted & held).total() / total if total else 0.0


def _content(text: str) -> Counter[str]:
    return Counter(word for word in tokens(text) if word not in _COMMON)


def _f1(wanted: Counter[str], total: int, held: Counter[str]) -> float:
    size = total + held.total()
    return 2 * (wanted & held).total() / size if size else 0.0
