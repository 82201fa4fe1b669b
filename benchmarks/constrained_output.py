"""Whether what the bundled model writes can always be read: both output contracts over all papers.

    python benchmarks/constrained_output.py [--papers 598] [--gguf FILE]

The GGUF is used as a plain model for ``annotate/quote@1``, with the JSON schema and, as the peer, without it: the answer
must parse and hold only numbers of sentences that exist. For ``annotate/mark@1`` each mark must be a set of moves. A paper
that does not fit into the model's context is counted by itself: there is no answer to judge.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from common import DATA, ROOT, need, report

from harness.errors import ContextOverflow, InputError, ModelError
from harness.models.base import Options, Reply, Request
from harness.models.embedded import EmbeddedModel
from harness.readers import open_papers
from skills.annotate import mark
from skills.annotate.annotator import ListAnnotator, MarkAnnotator, check_readable
from skills.annotate.calibration import Calibration
from skills.annotate.moves import load_framework
from skills.annotate.record import sentences_of

GGUF = ROOT / "registry/nanda-annotator/mini.gguf"
GOOD, TOO_LONG = "as the contract says", "does not fit into the context"
Paper = tuple[str, list[str]]
"""Title and sentences."""


class Unconstrained(EmbeddedModel):
    """The peer: the same model and request, but for the schema."""

    def generate(self, request: Request, **how: Any) -> Reply:
        """As the embedded model, without constraint."""
        return super().generate(replace(request, schema=None), **how)


class Marks(EmbeddedModel):
    """An embedded model that counts what it writes."""

    texts: Counter[str]

    def generate(self, request: Request, **how: Any) -> Reply:
        """As the embedded model."""
        reply = super().generate(request, **how)
        self.texts[reply.text] += 1
        return reply


def read(count: int) -> list[Paper]:
    """The first papers that have an abstract, split into sentences."""
    source = open_papers(str(need(DATA / "papers/agentic_598.csv")), offline=True)
    papers = []
    for paper in islice(source.papers, count):
        sentences = [sentence.text for sentence in sentences_of(paper)]
        try:
            check_readable(sentences)
        except InputError:
            continue
        papers.append((paper.title, sentences))
    return papers


def outcomes(papers: Sequence[Paper], annotate: Callable[[str, list[str]], Any], slots: int) -> Counter[str]:
    """How many papers ended in which way, as many at once as the model takes."""

    def one(paper: Paper) -> str:
        try:
            annotate(*paper)
        except ContextOverflow:
            return TOO_LONG
        except ModelError as error:
            return error.message
        return GOOD

    with ThreadPoolExecutor(slots) as pool:
        return Counter(pool.map(one, papers))


def quotes(papers: Sequence[Paper], gguf: Path, kind: type[EmbeddedModel]) -> Counter[str]:
    """quote@1 over the papers; ``ListAnnotator`` refuses what does not parse, unknown numbers, and an answer cut short."""
    model = kind(gguf, name=gguf.stem)
    model.reserve(model.info.context)
    annotator = ListAnnotator(model, load_framework(), Options())
    try:
        return outcomes(papers, annotator.annotate, model.slots)
    finally:
        model.close()


def marks(papers: Sequence[Paper], gguf: Path) -> tuple[Counter[str], Counter[str]]:
    """mark@1 over the papers: how they ended, and every text that was written at a mark."""
    model = Marks(gguf, name=gguf.stem)
    model.texts = Counter()
    annotator = MarkAnnotator(model, load_framework(), Calibration.load({}), Options())
    try:
        return outcomes(papers, annotator.annotate, model.slots), model.texts
    finally:
        model.close()


def share(good: int, found: Counter[str]) -> tuple[str, float]:
    """A table cell, and the number: the share among what could be asked."""
    asked = found.total() - found[TOO_LONG]
    return f"{good} of {asked} ({good / max(asked, 1):.1%})", round(good / max(asked, 1), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--papers", type=int, default=598)
    parser.add_argument("--gguf", type=Path, default=GGUF)
    args = parser.parse_args()

    need(args.gguf)
    papers = read(args.papers)
    with_schema, without = quotes(papers, args.gguf, EmbeddedModel), quotes(papers, args.gguf, Unconstrained)
    ended, texts = marks(papers, args.gguf)
    labels = sum(count for text, count in texts.items() if mark.label_moves(text) is not None)

    rows, result = [], {}
    for what, good, found in (
        ("quote@1 with the schema", with_schema[GOOD], with_schema),
        ("quote@1 without (peer)", without[GOOD], without),
        ("mark@1, papers", ended[GOOD], ended),
        ("mark@1, marks", labels, texts),
    ):
        cell, number = share(good, found)
        worst = next((f"{count} x {text}" for text, count in found.most_common() if text not in (GOOD, TOO_LONG)), "")
        rows.append([what, cell, found[TOO_LONG] or "", "" if good == found.total() - found[TOO_LONG] else worst[:90]])
        result[what] = number
    title = f"output that can be read, {len(papers)} papers, {args.gguf.name}"
    report(title, ["", "good", "too long", "most frequent fault"], rows, result)
    if not result["quote@1 with the schema"] == result["mark@1, marks"] == 1.0:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
