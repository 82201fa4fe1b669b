"""What passes between the parts of /ask: numbered passages in, one answer with citations out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.search.chunks import Span

Style = Literal["written", "extractive"]
"""``written`` by a chat model, or ``extractive``: sentences of the papers themselves."""


@dataclass(frozen=True)
class Passage:
    """One piece of evidence: a chunk of a file under the number by which answers cite it."""

    n: int
    """Counts from 1, the best passage first."""
    file: str
    """The file's path as the index has it, or what stands for one (the id of an abstract)."""
    title: str
    page: int
    """Of its first sentence, from 1; 0 where the file has no pages."""
    where: str
    """Where in the file, for people: ``p. 3``, ``p. 3-4``, ``row 12``; empty where there is nothing to say."""
    header: str
    """``title › section › page``, as it was indexed with the text."""
    text: str
    """Verbatim."""
    sentences: tuple[Span, ...]
    """Start and end in ``text``, and page, of each sentence."""
    score: float
    """Of the search that found it; larger is better, and only comparable within one search."""


@dataclass(frozen=True)
class Citation:
    """What a mark ``[n]`` in an answer rests on."""

    n: int
    """The number of the passage."""
    file: str
    page: int
    """Of the quote's first sentence; 0 where the file has no pages."""
    quote: str
    """Verbatim in the passage with that number."""


@dataclass(frozen=True)
class Answer:
    """An answer, or the honest lack of one."""

    question: str
    """As asked; how a follow-up question was understood is in ``notes``."""
    reasoning: str
    """How the evidence leads to the answer; may be empty."""
    answer: str
    """With marks ``[n]`` that ``citations`` explain; when ``abstained``, the sentence that says so."""
    citations: tuple[Citation, ...] = ()
    abstained: bool = False
    unsupported: tuple[str, ...] = ()
    """Sentences of the answer that no evidence was found to support."""
    style: Style = "written"
    notes: tuple[str, ...] = ()
    """What the reader should know of how the answer was made."""
    model: Mapping[str, str] = field(default_factory=dict)
    """Name, backend and digest of what wrote it; empty where no model did."""

    def record(self) -> dict[str, Any]:
        """The answer for machines: the Answer object of the design, then ``style`` and ``notes``."""
        citations = [{"n": one.n, "file": one.file, "page": one.page or None, "quote": one.quote} for one in self.citations]
        return {
            "question": self.question,
            "reasoning": self.reasoning,
            "answer": self.answer,
            "citations": citations,
            "abstained": self.abstained,
            "unsupported": list(self.unsupported),
            "model": dict(self.model),
            "style": self.style,
            "notes": list(self.notes),
        }
