"""A sentence turned into its opposite.

A part in its own words that follows a sentence of the abstract is laid beside it, stem by stem. Where they differ in a
negator, or in a word against its opposite, between words that agree, the meaning was turned. A longer difference is a
rewriting and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from curation.annotation import Annotation
from curation.checks.finding import Finding
from curation.lexicon import NEGATORS, OPPOSITES
from curation.text import content, plain, stem, stems

NAME = "negation-flip"
FOLLOWS = 0.55
"""Share of a part's content stems in the sentence it follows."""
LOOSE, CLOSE = 0.6, 0.8
"""Share of a part's stems that stand in the sentence in the same order: from which on it is laid beside it at all, and
from which on no other sentence can be meant."""
LONGEST = 4
"""Stems on either side of a difference that can be a mere turn."""
_NEGATORS = frozenset(map(stem, NEGATORS))
_OPPOSITES: dict[str, set[str]] = {}
for _poles in OPPOSITES:
    for _one, _other in (_poles, _poles[::-1]):
        for _word in _one:
            _OPPOSITES.setdefault(stem(_word), set()).update(map(stem, _other))


def check(annotation: Annotation) -> Iterator[Finding]:
    """One finding for each cell that says the opposite of the sentence it follows."""
    for cell in annotation.cells:
        for part in cell.parts:
            if part.verbatim or part.sentence is None or part.coverage < FOLLOWS:
                continue
            if turn := _turn(part.text, part.sentence, annotation.sentences):
                yield Finding(NAME, cell.move, f"turns sentence {part.sentence} round ({turn})")
                break


def _turn(text: str, number: int, sentences: Sequence[str]) -> str:
    own, given = stems(text), stems(plain(sentences[number - 1]))
    matcher = SequenceMatcher(None, own, given, autojunk=False)
    share = sum(block.size for block in matcher.get_matching_blocks()) / len(own)
    if share < LOOSE or (share < CLOSE and _negated_elsewhere(text, number, sentences)):
        return ""
    return turned(own, given)


def _negated_elsewhere(text: str, number: int, sentences: Sequence[str]) -> bool:
    """Whether another sentence on the same matter has a negator: a free text may follow that one instead."""
    wanted = set(content(text))
    others = (sentence for n, sentence in enumerate(sentences, 1) if n != number)
    return any(len(wanted & set(content(o))) >= 2 and _NEGATORS & set(stems(o)) for o in others)


def turned(own: Sequence[str], given: Sequence[str]) -> str:
    """How ``own`` turns ``given`` round, in a few words; empty where it does not."""
    blocks = SequenceMatcher(None, own, given, autojunk=False).get_opcodes()
    for index, (kind, a, b, c, d) in enumerate(blocks):
        if kind == "equal" or max(b - a, d - c) > LONGEST or not _between(blocks, index):
            continue
        left, right = own[a:b], given[c:d]
        negated = [sum(word in _NEGATORS for word in side) % 2 for side in (left, right)]
        if negated[0] != negated[1]:
            word = next(word for word in (left if negated[0] else right) if word in _NEGATORS)
            return f"{'adds' if negated[0] else 'drops'} '{word}'"
        for word in left:
            if other := _OPPOSITES.get(word, set()) & set(right) - set(left):
                return f"'{word}' for '{min(other)}'"
    return ""


def _between(blocks: Sequence[tuple[str, int, int, int, int]], index: int) -> bool:
    """Whether words that agree stand on both sides, or a run of them on one side at an end."""
    before = blocks[index - 1] if index else None
    after = blocks[index + 1] if index + 1 < len(blocks) else None
    runs = [block[2] - block[1] if block and block[0] == "equal" else 0 for block in (before, after)]
    return min(runs) >= 1 or max(runs) >= 3
