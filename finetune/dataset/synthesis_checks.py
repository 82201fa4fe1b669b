"""Whether a written question with its answer is fit to train on: three stages, then near-duplicates. Pure functions.

1. Similarity to the source passage: the answer's words, quotes, numbers and equations are those of the passage.
2. Format: a question that stands alone, an answer and a reasoning of sensible size, LaTeX that closes.
3. Entropy: no text that repeats itself or is made of too few words.

Near-duplicates are found afterwards, by the Jaccard similarity of the questions' word stems.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from finetune.dataset.synthesis_prompt import Written
from finetune.rewards.words import content_stems
from skills.ask import equations, figures, quotes
from skills.ask.latex import formulas
from skills.ask.record import Passage
from skills.ask.support import Evidence
from skills.ask.terms import Stemmer
from skills.ask.turns import turned

_POINTING = re.compile(
    r"\b(?:(?:this|the (?:given|above|following|present|provided)) (?:paper|passage|text|context|excerpt|section|study|work"
    r"|article|abstract|document)|the (?:passage|excerpt|text|context|authors?|paper)|(?:mentioned|described|shown|given)"
    r" above|(?:in|from) (?:table|figure|fig\.|equation|eq\.|section) \d)",
    re.IGNORECASE,
)
_MATH_OPENS = re.compile(r"(?<!\\)\$")


@dataclass(frozen=True)
class Limits:
    """What a pair must reach."""

    similarity: float = 0.5
    """Share of the answer's weight (inverse document frequency) that the passage has."""
    question: tuple[int, int] = (20, 300)
    """Characters."""
    answer: tuple[int, int] = (30, 1200)
    reasoning: tuple[int, int] = (20, 1000)
    entropy: float = 3.0
    """Bits of the answer's words, Shannon's; eight different words have 3."""
    evenness: float = 0.75
    """The same as a share of the most that so many words could have."""
    repeated: float = 0.2
    """Share of the trigrams of words that stood before."""
    duplicate: float = 0.7
    """Jaccard similarity of stems from which two questions are one."""


def similarity(written: Written, passage: Passage, evidence: Evidence, limits: Limits) -> str:
    """Why the answer is not from the passage; "" where it is. ``evidence`` may hold other passages, for the weights."""
    if not any(quotes.says_something(quote) and quotes.find(quote, passage.text) for quote in written.quotes):
        return "no quote stands in the passage"
    if evidence.containment(written.answer, {passage.n}) < limits.similarity:
        return "the answer is not like the passage"
    texts = [f"{passage.title}\n{passage.text}"]
    if figures.missing(equations.without(written.answer), texts):
        return "a number or name is not the passage's"
    if equations.check(written.answer, texts).mismatched:
        return "an equation is not the passage's"
    best = evidence.best(written.answer, {passage.n})
    if best is not None and turned(written.answer, best[1].text, evidence.stemmer):
        return "the answer says the opposite"
    return ""


def form(written: Written, limits: Limits) -> str:
    """What is wrong with the form; "" where nothing is."""
    for name in ("question", "answer", "reasoning"):
        least, most = getattr(limits, name)
        if not least <= len(getattr(written, name)) <= most:
            return f"the {name} is too {'short' if len(getattr(written, name)) < least else 'long'}"
    if not written.question.endswith("?") or written.question.count("?") > 1:
        return "the question is not one question"
    if _POINTING.search(written.question):
        return "the question points at the passage"
    if "#####" in f"{written.reasoning}{written.answer}":
        return "a mark of the format stands in the text"
    if len(_MATH_OPENS.findall(written.answer)) % 2 or _unbalanced(written.answer):
        return "LaTeX that does not close"
    return ""


def _unbalanced(text: str) -> bool:
    for formula in formulas(text):
        plain = formula.replace("\\{", "").replace("\\}", "")
        if plain.count("{") != plain.count("}") or formula.count("\\left") != formula.count("\\right"):
            return True
    return text.count("\\begin{") != text.count("\\end{")


def poor(written: Written, limits: Limits) -> str:
    """Whether a text says too little for its length; "" where it does not."""
    words = re.findall(r"[^\W_]+|\\[A-Za-z]+", f"{written.reasoning} {written.answer}".lower())
    bits = entropy(words)
    if bits < limits.entropy:
        return "too few different words"
    if bits < limits.evenness * math.log2(len(words)):
        return "words that repeat"
    if repeated(words) > limits.repeated:
        return "phrases that repeat"
    return ""


def entropy(words: Sequence[str]) -> float:
    """Shannon's entropy of the words of a text, in bits.

    >>> entropy("a b a b".split()), entropy([])
    (1.0, 0.0)
    """
    counts = Counter(words)
    return sum(count / len(words) * math.log2(len(words) / count) for count in counts.values()) if words else 0.0


def repeated(words: Sequence[str]) -> float:
    """The share of the trigrams of words that stood before.

    >>> repeated("a b c a b c".split())
    0.25
    """
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0


def problem(written: Written, passage: Passage, evidence: Evidence, limits: Limits) -> str:
    """The first stage that a pair fails and why, as ``similarity: no quote …``; "" where it passes all."""
    stages = (
        ("similarity", similarity(written, passage, evidence, limits)),
        ("format", form(written, limits)),
        ("entropy", poor(written, limits)),
    )
    return next((f"{name}: {why}" for name, why in stages if why), "")


@dataclass
class Duplicates:
    """Questions so far; finds near ones without comparing all.

    A question is filed under a few of its stems only: with Jaccard similarity t, two sets of stems share one of the first
    (1 - t) n + 1 of either in any fixed order (prefix filtering, Chaudhuri et al. 2006). The order is that of hashes.
    """

    threshold: float
    stemmer: Stemmer = field(default_factory=Stemmer)
    _sets: list[frozenset[str]] = field(default_factory=list)
    _filed: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def seen(self, question: str) -> bool:
        """Whether a question is near one of those before; else it is remembered."""
        stems = frozenset(content_stems(question)) or frozenset((question.casefold(),))
        ordered = sorted(stems, key=lambda stem: hashlib.sha256(stem.encode()).digest())
        prefix = ordered[: len(ordered) - math.ceil(self.threshold * len(ordered)) + 1]
        near = {number for stem in prefix for number in self._filed.get(stem, ())}
        if any(len(stems & self._sets[n]) >= self.threshold * len(stems | self._sets[n]) for n in near):
            return True
        self._sets.append(stems)
        for stem in prefix:
            self._filed[stem].append(len(self._sets) - 1)
        return False
