"""A sentence that says the opposite of the one it follows: a negation added or dropped, a direction turned, sides swapped.

Similarity does not see these: the words are nearly the same. The two sentences are laid beside each other, stem by stem.
Only a short difference between words that agree counts; a longer one is a rewriting and says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache

from skills.ask.terms import Stemmer

FOLLOWS = 0.6
"""Share of a claim's stems that stand in a sentence in the same order, from which on the claim follows that sentence."""
MOST_WORDS = 150
"""Of a sentence; what has more is none."""
LONGEST = 4
"""Stems on either side of a difference that can be a mere turn."""
NEAR = 6
"""Words to each side of a comparison that are what is compared."""
NEGATORS = "not no never cannot without neither nor hardly barely fails fail failed lacks lack unable none"
OPPOSITES = """
increase raise rise grow up / decrease reduce fall drop shrink down
higher more larger greater above / lower less fewer smaller below
improve enhance / worsen degrade impair
better best superior / worse worst inferior
outperform exceed surpass beat / underperform
faster quicker accelerate / slower slow
stronger strong / weaker weak
gain benefit advantage / loss lose harm disadvantage
positive positively / negative negatively
enable allow / prevent block
always / never
most maximum highest / least minimum lowest
before / after
with / without
support confirm / contradict refute reject
succeed success / fail failure
likely / unlikely
possible / impossible
able / unable
effective / ineffective
efficient / inefficient
consistent / inconsistent
reliable / unreliable
sufficient / insufficient
necessary / unnecessary
stable / unstable
significant significantly / insignificant insignificantly
linear linearly / nonlinear nonlinearly
supervised / unsupervised
"""
_PIVOT = re.compile(r"\bthan\b|\b(?:outperform|exceed|surpass|beat)(?:s|ed|ing|en)?\b", re.IGNORECASE)
_OPEN = re.compile(r"\b(?:whether|hypothes[ie][sz]\w*|aims?|aimed|purpose|objective|goal)\b|\?", re.IGNORECASE)
"""A sentence that asserts nothing: an answer may well go against it."""
_PREFIXES = ("in", "un", "im", "ir", "il", "non", "dis")
_WORD = re.compile(r"[^\W_]+(?:['’]t\b)?")
_PARTICLE = re.compile(r"^\s*(?:yes|no)\s*[,:;.–—-]\s*", re.IGNORECASE)
"""``No: it fell`` answers the question; it negates nothing."""
_DOWNWARD = frozenset(
    "only few fewer little less least lower rarely seldom scarcely barely hardly rather instead except unless unlike"
    " despite although though but however whereas while neither nor none nothing nobody should must".split()
)
"""Words beside which a negation more or less says nothing: what they turn is not seen here."""
_PARTLY = frozenset("all every each many much just merely necessarily".split())
"""``not all``: what follows is not denied."""


def turned(claim: str, sentence: str, stemmer: Stemmer) -> str:
    """How ``claim`` turns ``sentence`` round, in a few words; "" where it does not, or does not follow it at all.

    >>> turned("The method does improve recall.", "The method does not improve recall.", Stemmer())
    "drops 'not'"
    >>> turned("Rye grows faster than oats in the north.", "Oats grows faster than rye in the north.", Stemmer())
    "swaps the sides of 'than'"
    """
    if _OPEN.search(sentence):
        return ""
    claim = _PARTICLE.sub("", claim)
    own, given = _words(claim), _words(sentence)
    if not own or not given or max(len(own), len(given)) > MOST_WORDS:
        return ""
    ours, theirs = [_stem(word, stemmer) for word in own], [_stem(word, stemmer) for word in given]
    blocks = SequenceMatcher(None, ours, theirs, autojunk=False)
    if sum(block.size for block in blocks.get_matching_blocks()) >= FOLLOWS * len(ours):
        opcodes = blocks.get_opcodes()
        for index, (kind, a, b, c, d) in enumerate(opcodes):
            if kind == "equal" or max(b - a, d - c) > LONGEST or not _between(opcodes, index):
                continue
            if said := _turn(own[a:b], ours[a:b], given[c:d], theirs[c:d], stemmer):
                return said
    return _swapped(claim, sentence, stemmer)


def denied(claim: str, quote: str, stemmer: Stemmer) -> str:
    """How a claim negates a word that its quote asserts, or the other way round, however else it is written; "" if not.

    Only words that are always negated on one side and never on the other count, and only where no other word can have
    turned the sentence.

    >>> denied("Reaction times after screens differed.", "Reaction times did not differ.", Stemmer())
    "drops 'not'"
    >>> denied("Few patients differed.", "Most patients did not differ.", Stemmer())
    ''
    """
    if _OPEN.search(quote):
        return ""
    ours, theirs = (_words(_PARTICLE.sub("", text)) for text in (claim, quote))
    if _DOWNWARD & {*ours, *theirs} or _opposed(ours, theirs, stemmer):
        return ""
    for kind, one, other in (("drops", theirs, ours), ("adds", ours, theirs)):
        if _negations(other, stemmer):
            continue
        asserted = {_stem(word, stemmer) for at, word in enumerate(other) if "without" not in other[max(0, at - 3) : at]}
        for stem, (negator, count) in _negations(one, stemmer).items():
            if stem in asserted and count == sum(_stem(word, stemmer) == stem for word in one):
                return f"{kind} '{negator}'"
    return ""


def _opposed(ours: Sequence[str], theirs: Sequence[str], stemmer: Stemmer) -> bool:
    """Whether a word of one has its opposite in the other: two turns may well make it right again."""
    opposites = _lexicon(stemmer)[1]
    there = {_stem(word, stemmer) for word in theirs}
    return any(opposites.get(_stem(word, stemmer), set()) & there for word in ours)


def _negations(words: Sequence[str], stemmer: Stemmer) -> dict[str, tuple[str, int]]:
    """The stems that stand right behind a negator, adverbs left aside, with it and how often they do."""
    found: dict[str, tuple[str, int]] = {}
    for at, word in enumerate(words):
        if word not in ("not", "never", "no") or _PARTLY & set(words[at + 1 : at + 2]):
            continue
        telling = [one for one in words[at + 1 : at + 4] if stemmer.stems(one) and not one.endswith("ly")]
        if telling:
            stem = _stem(telling[0], stemmer)
            found[stem] = word, found.get(stem, (word, 0))[1] + 1
    return found


def _turn(own: Sequence[str], ours: Sequence[str], given: Sequence[str], theirs: Sequence[str], stemmer: Stemmer) -> str:
    negators, opposites = _lexicon(stemmer)
    negated = [sum(stem in negators for stem in side) % 2 for side in (ours, theirs)]
    if negated[0] != negated[1] and not (_prefixed(own, given) or _prefixed(given, own)):
        words, stems = (own, ours) if negated[0] else (given, theirs)
        word = next(word for word, stem in zip(words, stems, strict=True) if stem in negators)
        return f"{'adds' if negated[0] else 'drops'} '{word}'"
    for word, stem in zip(own, ours, strict=True):
        for other, opposite in zip(given, theirs, strict=True):
            if opposite in opposites.get(stem, ()):
                return f"has '{word}' for '{other}'"
    return ""


def _prefixed(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether a word of one is negated by its prefix in the other: ``inadequate`` is ``not adequate``."""
    return any(prefix + word in other for word in one for prefix in _PREFIXES)


def _swapped(claim: str, sentence: str, stemmer: Stemmer) -> str:
    """Whether what stands before a comparison in one stands after it in the other, and the other way round."""
    ours, theirs = _PIVOT.search(claim), _PIVOT.search(sentence)
    if ours is None or theirs is None or _stem(ours[0].lower(), stemmer) != _stem(theirs[0].lower(), stemmer):
        return ""
    before, after = _sides(claim, ours, stemmer)
    left, right = _sides(sentence, theirs, stemmer)
    whole = set(stemmer.stems(claim))
    if len(whole & set(stemmer.stems(sentence))) < FOLLOWS * len(whole):
        return ""
    crossed = (before & right) - left, (after & left) - right
    return f"swaps the sides of '{ours[0].lower()}'" if all(crossed) else ""


def _sides(text: str, pivot: re.Match[str], stemmer: Stemmer) -> tuple[set[str], set[str]]:
    before, after = stemmer.stems(text[: pivot.start()]), stemmer.stems(text[pivot.end() :])
    return set(before[-NEAR:]), set(after[: NEAR // 2])


def _between(opcodes: Sequence[tuple[str, int, int, int, int]], index: int) -> bool:
    """Whether words that agree stand on both sides of a difference, or a run of them on one side at an end."""
    runs = [
        opcodes[at][2] - opcodes[at][1] if 0 <= at < len(opcodes) and opcodes[at][0] == "equal" else 0
        for at in (index - 1, index + 1)
    ]
    return min(runs) >= 1 or max(runs) >= 3


def _words(text: str) -> list[str]:
    """Lower-case words, a negation taken off what it hangs on: ``doesn't`` is ``does not``."""
    words = list[str]()
    for word in _WORD.findall(text.lower().replace("cannot", "can not")):
        words += [word[:-3], "not"] if word.endswith(("n't", "n’t")) else [word]
    return words


def _stem(word: str, stemmer: Stemmer) -> str:
    return "".join(stemmer.stems(word)) or word


@cache
def _lexicon(stemmer: Stemmer) -> tuple[frozenset[str], dict[str, set[str]]]:
    """Stems of the negators, and of each word with an opposite those of its opposites."""
    opposites: dict[str, set[str]] = {}
    for line in OPPOSITES.strip().splitlines():
        one, other = ({_stem(word, stemmer) for word in side.split()} for side in line.split("/"))
        for side, across in ((one, other), (other, one)):
            for stem in side:
                opposites.setdefault(stem, set()).update(across)
    return frozenset(_stem(word, stemmer) for word in NEGATORS.split()), opposites
