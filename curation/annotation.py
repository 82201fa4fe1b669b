"""One annotation as the curator judges it: its cells, taken apart into quotes and words of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from curation.text import content, plain
from harness.sentences import locate, split

SHORTEST_QUOTE = 4
"""Words; a shorter run that stands in the abstract may stand there by chance."""


@dataclass(frozen=True)
class Part:
    """A piece of a cell: about a sentence long, quoted from the abstract or in words of its own."""

    text: str
    sentence: int | None
    """The sentence of the abstract (from 1) that it quotes or is nearest to; None where it is near none."""
    coverage: float
    """Share of its content stems that stand in that sentence, 0-1; a quote has 1."""
    verbatim: bool


@dataclass(frozen=True)
class Cell:
    """One stated move of an annotation."""

    move: str
    text: str
    """As given."""
    parts: tuple[Part, ...]
    numbers: tuple[int, ...] = ()
    """The sentences it says it rests on; empty where it does not say."""

    @property
    def verbatim(self) -> bool:
        """Whether all of it is quoted from the abstract."""
        return all(part.verbatim for part in self.parts)

    @property
    def own(self) -> str:
        """What of it is not quoted."""
        return " ".join(part.text for part in self.parts if not part.verbatim)

    @property
    def rests_on(self) -> tuple[int, ...]:
        """The sentences it quotes or is near to; the numbers it gives where it is near none."""
        near = dict.fromkeys(part.sentence for part in self.parts if part.sentence is not None)
        return tuple(near) or self.numbers


@dataclass(frozen=True)
class Annotation:
    """The whole abstract and the whole annotation. Sentences and cells are derived once."""

    abstract: str
    title: str
    texts: Mapping[str, str]
    """Move → text, for stated moves only."""
    numbers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    own_sentences: tuple[str, ...] = ()
    style: str = ""
    """``quote`` or ``prose`` where the record says so, else empty."""

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """The abstract's sentences in plain form: the input's own where they stand in it, else split."""
        found = locate(self.abstract, self.own_sentences) if self.own_sentences else None
        return tuple(plain(sentence.text) for sentence in found or split(self.abstract))

    @cached_property
    def source(self) -> str:
        """The abstract in plain form."""
        return plain(self.abstract)

    @cached_property
    def stems(self) -> frozenset[str]:
        """Content stems of abstract and title."""
        return frozenset(content(f"{self.title} {self.source}"))

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The stated moves in the order given."""
        return tuple(
            Cell(move, text, parts_of(text, self.sentences, self.source), self.numbers.get(move, ()))
            for move, text in self.texts.items()
        )


NEAR = 0.4
"""A part with a smaller share of its content stems in any one sentence is near none of them."""


def parts_of(text: str, sentences: Sequence[str], source: str) -> tuple[Part, ...]:
    """A cell's text as parts: whole sentences of the abstract, then shorter quotes, then words of its own.

    ``sentences`` and ``source`` are plain.
    """
    rest, found = plain(text), []
    for number in sorted(range(len(sentences)), key=lambda i: -len(sentences[i])):
        sentence = sentences[number]
        if len(sentence.split()) >= 2 and sentence in rest:
            found.append((rest.index(sentence), Part(sentence, number + 1, 1.0, True)))
            rest = rest.replace(sentence, " " * len(sentence), 1)  # positions stay
    own = []
    for start, piece in _pieces(rest):
        own.append((start, _part(piece, sentences, source)))
    return tuple(part for _, part in sorted(found + own, key=lambda pair: pair[0]))


def _pieces(rest: str) -> list[tuple[int, str]]:
    """The runs that no sentence covered, split into sentences, with where they start. Bare punctuation is dropped."""
    pieces, start = [], 0
    for run in rest.split("  "):
        for sentence in split(run):
            at = start + sentence.start
            for clause in sentence.text.split("; "):  # two sentences of the abstract are often joined so
                if any(character.isalnum() for character in clause) or len(clause) > 2:
                    pieces.append((at, clause))
                at += len(clause) + 2
        start += len(run) + 2
    return pieces


def _part(piece: str, sentences: Sequence[str], source: str) -> Part:
    wanted = set(content(piece))
    best, coverage = None, 0.0
    for number, sentence in enumerate(sentences, 1):
        share = len(wanted & set(content(sentence))) / len(wanted) if wanted else 0.0
        if share > coverage:
            best, coverage = number, share
    verbatim = len(piece.split()) >= SHORTEST_QUOTE and piece.rstrip(".") in source
    return Part(piece, best if coverage >= NEAR else None, 1.0 if verbatim else coverage, verbatim)
