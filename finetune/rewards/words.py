"""Words of short texts: content words and their stems, for rewards and for the care of data. English, and light."""

from __future__ import annotations

import re
from functools import lru_cache

FUNCTION_WORDS = frozenset(
    """
    a about above after again against all also am among an and any are as at be because been before being below between
    both but by can could did do does doing down during each either else ever every few for from further get gets getting
    had has have having he her here hers him his how however i if in into is it its itself just like made make makes many
    may me might more most much must my near need needs neither no nor not now of off on once one only onto or other our
    ours out over own per same shall she should since so some such than that the their theirs them then there these they
    this those through to too under until up upon us use used uses using very via was we were what when where whether which
    while who whom whose why will with within without would yet you your yours
    """.split()
)
"""Words that carry no subject."""

_WORD = re.compile(r"[^\W_]+(?:[-+#.'’@][^\W_]+)*[+#]*|\.[^\W_]+")
_ENDINGS = tuple(
    (ending, rest)
    for ending, _, rest in (
        pair.partition(":")
        for pair in """
        ization:iz isation:iz ational:at fulness:ful ousness:ous iveness:iv ations:at ation:at ments: ment: ingly: ities:it
        ity:it izing:iz ising:iz izes:iz ized:iz ises:iz ised:iz ize:iz ise:iz ating:at ated:at ates:at ate:at ators:at
        ator:at ings: ing: edly: ies:i ied:i ically:ic ical:ic ions: ion: ness: ers: er: ors: or: ed: ly: es: s: y:i e:
        """.split()
    )
)
"""Endings and what takes their place, longer ones first; the first that leaves a stem is taken off."""
_SHORTEST, _SHORTEST_LONG = 3, 4
"""Letters that must remain; the second where the ending has four or more, so that ferment keeps its own."""


def tokens(text: str) -> list[str]:
    """The words of a text in lower case; ``node.js``, ``c++`` and ``c#`` are one word.

    >>> tokens("Node.js, C++ and the user's e-mail")
    ['node.js', 'c++', 'and', 'the', "user's", 'e-mail']
    """
    return _WORD.findall(text.casefold())


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """A word without its ending, so that forms of one word are one; words with digits or technical signs stay.

    The endings are a small choice of those of Porter (1980); no more than equality of stems is asked for here.

    >>> [stem(word) for word in ("configure", "configuration", "running", "cities", "ferment", "c++")]
    ['configur', 'configur', 'run', 'cit', 'ferment', 'c++']
    """
    word = word.removesuffix("'s").removesuffix("’s")
    if not word.isalpha():
        return word
    for ending, rest in _ENDINGS:
        left = len(word) - len(ending) + len(rest)
        if word.endswith(ending) and left >= (_SHORTEST_LONG if len(ending) > 3 else _SHORTEST):
            word = word[: len(word) - len(ending)] + rest
            break
    if len(word) > _SHORTEST and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]  # runn(ing)
    for ending in ("at", "i", "e"):  # configurat(ion) and configur(e), citi(es) and cit(y)
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST:
            return word[: -len(ending)]
    return word


def content_stems(text: str) -> list[str]:
    """Stems of the words that carry a subject, in order and as often as they stand.

    >>> content_stems("how to configure the authentication")
    ['configur', 'authentic']
    """
    return [stem(word) for word in tokens(text) if word not in FUNCTION_WORDS]
