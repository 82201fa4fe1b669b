"""Extractive answers: the sentences of the passages that answer a question best, word for word.

A sentence counts by what it has of the question (idf-weighted), by how well its paper and its passage fit, and by what
it does in a paper: one that reports a finding answers, one that states an aim has more of the question's words and answers
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from skills.ask.findings import probability
from skills.ask.passages import Evidence, Sentence, strengths
from skills.ask.record import Answer, Citation
from skills.ask.terms import Terms

MOST_SENTENCES = 3
WEIGHTS = {"own": 1.0, "paper": 3.0, "passage": 1.0, "finding": 1.25, "number": 0.3, "definition": 0.75, "short": -0.5}
"""The first four were chosen on the data of benchmarks/ask_calibrate.py, between the best values for its two sets; the
others, for kinds of questions that it lacks, by hand."""
OPEN_QUESTION = 0.4
"""How much of a finding's weight is left where a question may well ask for something else: what, which, when, how …"""
KEPT = 0.9
"""A further sentence is added where its score is at least this share of the best one's."""
TELLING = 0.2
"""Share of the best sentence's part of the question that a further one must have."""
ALIKE = 0.6
"""Share of stems from which two sentences say the same."""
SHORTEST = 4
"""Stems of a sentence; below, it is rather a heading or a crumb."""
LABEL = "No chat model took part: these are the sentences of the papers that fit the question best, word for word."

_OPEN = re.compile(
    r"(?:(?:and|but|so|then),? )?(?:(?:in|on|at|for|of|to|by|with|from|under) )?"
    r"(?:what|which|who|whom|whose|when|where|how|why)\b",
    re.IGNORECASE,
)
_AMOUNT = re.compile(
    r"\bhow (?:many|much|often|long|large|big|far|fast|old|high|low)\b|\b(?:percentage|proportion|rate)\b", re.I
)
_DEFINITION = re.compile(r"what (?:is|are) (?:an? |the )?(?P<what>[^?]+?)\s*\??$", re.IGNORECASE)
_NUMBER = re.compile(r"\d")


@dataclass(frozen=True)
class Scored:
    """A sentence with its score and what that is made of."""

    sentence: Sentence
    score: float
    parts: dict[str, float]


def ranked(question: str, evidence: Sequence[Evidence], terms: Terms, focus: Terms | None = None) -> list[Scored]:
    """All sentences, the best first; equal ones in the order of passages and text.

    ``focus`` are the words that a sentence should have, where they are not those by which its passage was found: what a
    follow-up question asks, and not what the question before it was about.
    """
    strong = strengths(evidence, terms)
    best = max(strong, default=0.0) or 1.0
    papers: dict[tuple[str, str, str], float] = {}
    for one, strength in zip(evidence, strong, strict=True):
        papers[one.paper] = max(papers.get(one.paper, 0.0), strength)
    found = [
        _scored(question, one, at, focus or terms, (papers[one.paper] / best, strength / best))
        for one, strength in zip(evidence, strong, strict=True)
        for at in range(len(one.sentences))
    ]
    return sorted(found, key=lambda one: (-one.score, one.sentence.n, one.sentence.at))


def _scored(question: str, evidence: Evidence, at: int, terms: Terms, strength: tuple[float, float]) -> Scored:
    sentence = evidence.sentences[at]
    parts = {
        "own": terms.coverage(sentence.stems),
        "paper": strength[0],
        "passage": strength[1],
        "finding": probability(sentence.text) * (OPEN_QUESTION if _OPEN.match(question) else 1.0),
        "number": float(bool(_AMOUNT.search(question) and _NUMBER.search(sentence.text))),
        "definition": float(_defines(question, sentence.text)),
        "short": float(len(set(sentence.stems)) < SHORTEST),
    }
    return Scored(sentence, sum(WEIGHTS[name] * value for name, value in parts.items()), parts)


def _defines(question: str, sentence: str) -> bool:
    """Whether a question asks what something is, and a sentence says so: ``A sparse check is …``."""
    asked = _DEFINITION.match(question)
    if asked is None:
        return False
    what = re.escape(asked["what"])
    return bool(re.search(rf"\b{what}s?(?: \([^)]*\))?,? (?:is|are|refers?|denotes?|means?)\b", sentence, re.IGNORECASE))


def chosen(scored: Sequence[Scored], most: int = MOST_SENTENCES) -> list[Scored]:
    """The best sentence and, where they come near it and say something else, further ones."""
    kept = list(scored[:1])
    for one in scored[1:]:
        if len(kept) == most or one.score < KEPT * kept[0].score:
            break
        is_new = not any(alike(one.sentence.stems, other.sentence.stems) for other in kept)
        if is_new and one.parts["own"] >= TELLING * kept[0].parts["own"] > 0:
            kept.append(one)
    return kept


def alike(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two sentences share most of the shorter one's stems."""
    few, many = sorted((set(one), set(other)), key=len)
    return len(few & many) >= ALIKE * len(few)


def extractive_answer(
    question: str, evidence: Sequence[Evidence], terms: Terms, focus: Terms | None = None, most: int = MOST_SENTENCES
) -> Answer:
    """The best sentences as an answer, each with its mark. Needs a passage with a sentence."""
    best = chosen(ranked(question, evidence, terms, focus), most)
    by_number = {one.passage.n: one.passage for one in evidence}
    lines, citations = [], []
    for one in best:
        sentence = one.sentence
        lines.append(f"{' '.join(sentence.text.split())} [{sentence.n}]")
        citations.append(Citation(sentence.n, by_number[sentence.n].file, sentence.page, sentence.text))
    return Answer(question, LABEL, "\n".join(lines), tuple(citations), style="extractive")
