"""What the tests of /ask share: a small invented library, and passages made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pdf_maker import block, make_pdf

from harness.sentences import split
from skills.ask.passages import Evidence, read
from skills.ask.record import Passage
from skills.ask.terms import Stemmer, Terms, terms_of

RYE_AIM = "We aimed to determine whether an early harvest improves the yield of rye."
RYE_FOUND = "An early harvest reduced the yield of rye by 14 kg on every field."
OATS = "Oats were stored in dry barns, and mould was found in two of forty samples."
BARLEY = "Barley malted for five days was sweeter than barley malted for three."


def write_library(folder: Path) -> Path:
    """A PDF of two pages on rye, a Markdown file on oats, a table with one abstract on barley."""
    folder.mkdir(parents=True, exist_ok=True)
    make_pdf(folder / "rye.pdf", block(60, 700, [RYE_AIM]), block(60, 700, [RYE_FOUND, "Straw was not weighed at all."]))
    (folder / "oats.md").write_text(f"# Keeping oats\n\n## Results\n\n{OATS} The barns were built of larch.\n")
    (folder / "table.csv").write_text(f'id,title,abstract\n7,Malting,"Malting is old. {BARLEY}"\n')
    return folder


def passage(n: int, text: str, *, file: str = "", title: str = "", page: int = 0) -> Passage:
    """A passage of whole sentences."""
    spans = tuple((one.start, one.end, page) for one in split(text))
    return Passage(n, file or f"{n}.md", title, page, f"p. {page}" if page else "", title, text, spans, 1.0 / n)


class Counts:
    """Frequencies of words as an index of 1,000 chunks might have them: those given, and 3 for every other."""

    def __init__(self, **counts: int) -> None:
        self._counts = counts

    def frequencies(self, words: Sequence[str]) -> tuple[int, list[int]]:
        return 1000, [self._counts.get(word, 3) for word in words]


def evidence_for(question: str, passages: Sequence[Passage], **counts: int) -> tuple[list[Evidence], Terms]:
    """Passages read for a question."""
    stemmer = Stemmer()
    return read(passages, stemmer), terms_of(question, Counts(**counts), stemmer)
