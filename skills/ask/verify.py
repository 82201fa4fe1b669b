"""Checks of a written answer against its passages, in code: citations, quotes, numbers, negations, equations, support.

Nothing here asks a model. A quote that is found is replaced by the file's own words, with the page they stand on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from skills.ask import equations, figures, quotes, silence
from skills.ask.prompt import Claim, Draft
from skills.ask.record import Citation, Passage
from skills.ask.support import ALONE, SUPPORTED, UNSUPPORTED, Evidence, Place
from skills.ask.turns import denied, turned

Kind = Literal["number", "quote", "figure", "turn", "equation", "support"]
"""Of a problem: no such passage, words that it does not have, a number or name that the evidence does not have, the
opposite of a sentence, an equation that the evidence does not have, nothing that supports the sentence."""
HARD = frozenset({"figure", "turn", "equation"})
"""What makes a sentence wrong, however its words are supported."""
BEARS = 0.5
"""A quote must have this share of what the best sentence of its passages has of a claim."""
REPEATS = 0.9
"""Share of a claim's weight in one sentence from which on it repeats that sentence."""
NEARLY = 0.9
"""A sentence of this share of the best one's support may be the one that a claim follows."""


_NUMBER = re.compile(r"\d\S*")


@dataclass(frozen=True)
class Problem:
    """One check that a sentence of an answer fails."""

    kind: Kind
    message: str
    """In words that tell both a reader and the model that wrote it."""


@dataclass(frozen=True)
class Checked:
    """A sentence of an answer after the checks."""

    text: str
    citations: tuple[Citation, ...]
    """Those that hold and bear on it; where none of the model's does, the sentence that supports it best."""
    problems: tuple[Problem, ...] = ()
    support: float = 0.0
    """By its words, 0 to 1."""
    undecided: bool = False
    """Its words neither show that it is supported nor that it is not: a model may be asked."""
    evidence: str = field(default="", repr=False)
    """The passages that it rests on, for that question."""
    notes: tuple[str, ...] = ()
    """What could not be checked."""
    remark: bool = False
    """It says that the passages do not say something, which no quote can show: it may stand beside an answer, not in it."""

    @property
    def wrong(self) -> bool:
        """Whether a number, a negation or an equation is not that of the evidence."""
        return any(problem.kind in HARD for problem in self.problems)

    @property
    def holds(self) -> bool:
        """Whether it may stand in an answer as supported."""
        supported = not any(one.kind == "support" for one in self.problems)
        return bool(self.citations) and supported and not self.wrong and not self.remark

    @property
    def fails(self) -> bool:
        """Whether it is neither an answer nor a remark beside one."""
        return not self.holds and (not self.remark or self.wrong)


class Verifier:
    """The passages of one question, ready to check answers against."""

    def __init__(self, passages: Sequence[Passage], evidence: Evidence | None = None) -> None:
        self.passages: Mapping[int, Passage] = {passage.n: passage for passage in passages}
        self.evidence = evidence or Evidence(passages)

    def check(self, draft: Draft) -> list[Checked]:
        """Every sentence of an answer, in order."""
        return [self.check_claim(claim) for claim in draft.claims]

    def check_claim(self, claim: Claim) -> Checked:
        """One sentence with its citations."""
        citations, problems = self._citations(claim)
        cited = {citation.n for citation in citations}
        best = self.evidence.best(claim.text, cited or None)
        support = self._support(claim, citations, best)
        if best is not None and support > UNSUPPORTED:
            citations = self._bearing(claim.text, citations, best)
            cited = {citation.n for citation in citations}
        texts = [f"{self.passages[n].title}\n{self.passages[n].text}" for n in sorted(cited)]
        formulas = equations.check(claim.text, texts)
        problems += self._contents(claim.text, texts, citations)
        problems += [Problem("equation", f"none of the evidence's equations is {one}") for one in formulas.mismatched]
        remark = silence.is_silence(claim.text) and (support < ALONE or not claim.citations or not citations)
        if not remark and (support < ALONE or not citations):
            problems.append(Problem("support", "no passage says this"))
        elif not remark and not claim.citations and support < SUPPORTED:
            problems.append(Problem("support", "it cites nothing"))
        return Checked(
            claim.text,
            tuple(citations),
            tuple(problems),
            support,
            undecided=UNSUPPORTED < support < SUPPORTED and not remark,
            evidence=self._around(citations),
            notes=_remarks(formulas),
            remark=remark,
        )

    def _citations(self, claim: Claim) -> tuple[list[Citation], list[Problem]]:
        """The citations that hold, each passage's words once, and what is wrong with the others."""
        found: dict[Citation, None] = {}
        problems = []
        for number, quote in claim.citations:
            passage = self.passages.get(number)
            if passage is None:
                problems.append(Problem("number", f"there is no passage {number}"))
            elif (citation := cite(quote, passage)) is not None:
                found[citation] = None
            elif not quotes.says_something(quote):
                problems.append(Problem("quote", f"the quote {_shown(quote)} is too short to show anything"))
            else:
                problems.append(Problem("quote", f"passage {number} does not have the words {_shown(quote)}"))
        return list(found), problems

    def _bearing(self, text: str, citations: Sequence[Citation], best: tuple[float, Place]) -> list[Citation]:
        """The citations whose quote bears on a sentence; where none does, the sentence of the evidence that does most."""
        share, stems = self.evidence.share, self.evidence.stemmer.stems
        kept = [one for one in citations if share(text, stems(one.quote)) >= BEARS * best[0]]
        place = best[1]
        return kept or [Citation(place.n, self.passages[place.n].file, place.page, place.text)]

    def _contents(self, text: str, texts: Sequence[str], citations: Sequence[Citation]) -> list[Problem]:
        """Numbers, names and negations that are not those of the evidence."""
        problems, cited = [], {citation.n for citation in citations}
        bare = silence.without(equations.without(text))
        if lacking := figures.missing(bare, texts) or self._misplaced(bare, cited):
            where = f"passage {' and '.join(map(str, sorted(cited)))} does" if len(cited) == 1 else "the cited passages do"
            problems.append(Problem("figure", f"{where} not have {', '.join(lacking)}"))
        if turn := self._turn(text, cited) or self._denial(text, citations):
            problems.append(Problem("turn", f"against the sentence it follows, it {turn}"))
        return problems

    def _misplaced(self, text: str, cited: set[int]) -> list[str]:
        """Numbers of a sentence that repeats one of the evidence, with other numbers in the places of its own.

        The passage may well have them elsewhere, of something else.
        """
        words = _NUMBER.sub(" ", text)
        repeated = [
            place.text
            for place in self.evidence.places
            if place.n in cited and self.evidence.share(words, place.stems) >= REPEATS
        ]
        count = len(figures.numbers(text))
        lacking = [figures.missing(text, [one]) for one in repeated if len(figures.numbers(one)) == count]
        return lacking[0] if lacking and all(figures.missing(text, [one]) for one in repeated) else []

    def _turn(self, text: str, cited: set[int]) -> str:
        """How the sentence turns the one it follows, unless it may as well follow another that it does not turn."""
        best = self.evidence.best(text, cited)
        if best is None or best[0] < SUPPORTED:
            return ""
        stemmer, said = self.evidence.stemmer, ""
        for place in self.evidence.places:
            if place.n in cited and self.evidence.share(text, place.stems) >= NEARLY * best[0]:
                said = turned(text, place.text, stemmer)
                if not said:
                    return ""
        return said

    def _denial(self, text: str, citations: Sequence[Citation]) -> str:
        """How the sentence denies the quote that it is most like: most of one stands in the other."""
        share, stems = self.evidence.share, self.evidence.stemmer.stems
        own = stems(text)
        alike = [(max(share(text, stems(one.quote)), share(one.quote, own)), one.quote) for one in citations]
        most, quote = max(alike, key=lambda pair: pair[0], default=(0.0, ""))
        return denied(text, quote, self.evidence.stemmer) if most >= SUPPORTED else ""

    def _support(self, claim: Claim, citations: Sequence[Citation], best: tuple[float, Place] | None) -> float:
        """By the words of the cited passages, or of the best sentence where none is cited."""
        if citations:
            return self.evidence.containment(claim.text, {citation.n for citation in citations})
        return best[0] if best else 0.0

    def _around(self, citations: Sequence[Citation]) -> str:
        """The passages that are cited, whole: a sentence alone often says less than it means."""
        return "\n".join(self.passages[n].text for n in dict.fromkeys(citation.n for citation in citations))


def cite(quote: str, passage: Passage) -> Citation | None:
    """A quote as the file has it, and the page; None where it is not there, or too short to show anything."""
    span = quotes.find(quote, passage.text)
    if span is None or not (quotes.says_something(quote) or _is_sentence(span, passage)):
        return None
    page = next((page for _, end, page in passage.sentences if end > span[0]), passage.page)
    return Citation(passage.n, passage.file, page, passage.text[span[0] : span[1]])


def _remarks(found: equations.Findings) -> tuple[str, ...]:
    """What could not be checked of a sentence's equations."""
    remarks = [f"not checked, its passages have no LaTeX: {one}" for one in found.unchecked]
    if found.by_text:
        remarks.append("equations were compared as texts only: sympy is not installed")
    return tuple(remarks)


def _is_sentence(span: tuple[int, int], passage: Passage) -> bool:
    """Whether a span holds a sentence of two words or more; ``(7)`` and ``Table 2.`` say nothing."""
    words = sum(word.strip(".,;:!?").isalpha() for word in passage.text[slice(*span)].split())
    return words > 1 and any(start >= span[0] and end <= span[1] + 2 for start, end, _ in passage.sentences)


def _shown(quote: str) -> str:
    return f"“{quote[:80]}{'…' if len(quote) > 80 else ''}”"
