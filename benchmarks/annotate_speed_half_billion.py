"""Quote style against a plain loop where generation dominates: a model of the shape of Qwen2.5-0.5B, f16, random weights.

    python benchmarks/annotate_speed_half_billion.py [--papers FILE] [--count 16] [--plain 3] [--runs 2]

The model is made for the run (1 GB in the temporary folder) with the tokenizer of the bundled one, so that tokens are words
as in real use. It writes noise, but the schema holds it to an annotation, and noise fills more lists than a sensible model
would. Ours is the skill's own batch: quote@1, journal, as many slots as it takes by itself, an empty journal each time; the
first prompts of the batch, in which the definitions of the moves are computed once for each slot, count in full. Loading
the model does not count, on either side; the peer is warmed up, too, before its clock runs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from annotate_runs import PlainLoop, median, span
from common import DATA, need, report

from harness.config import Settings
from harness.console import stderr_console
from harness.context import Context
from harness.models.base import Options, Reply
from harness.models.embedded import EmbeddedModel
from harness.readers import open_papers
from harness.readers.paper import Paper
from harness.registry import find
from skills.annotate.annotator import make_annotator
from skills.annotate.batch import annotate_all
from skills.annotate.moves import load_framework
from tests.tiny_gguf import QWEN25_HALF_BILLION, Words, byte_letters, write_tiny_gguf


class Watched(EmbeddedModel):
    """The embedded model, its replies kept."""

    replies: list[Reply]

    def generate(self, *args: Any, **keywords: Any) -> Reply:
        """As the model's own."""
        reply = super().generate(*args, **keywords)
        self.replies.append(reply)
        return reply


def words_of(gguf: Path) -> Words:
    """Ordinary tokens, bytes first, and merges of a GGUF with byte-level BPE."""
    from gguf import GGUFReader, TokenType

    fields = GGUFReader(gguf).fields
    tokens, types, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type", "merges"))
    letters = byte_letters()
    ordinary = [token for token, kind in zip(tokens, types, strict=True) if kind == TokenType.NORMAL]
    return [*letters, *(token for token in ordinary if token not in set(letters))], merges


def quote_batch(gguf: Path, papers: list[Paper], folder: Path) -> tuple[float, list[Reply]]:
    """Papers per second of the skill's batch once the model is loaded, and the replies."""

    def unused(*_: Any, **__: Any) -> Any:
        raise SystemExit("the batch asked for another model or skill")

    model = Watched(gguf, name="half-billion:random")
    model.replies = []
    framework = load_framework()
    annotator = make_annotator(model, framework, prose=False, serving={}, options=Options())
    context = Context(Settings(), stderr_console(), folder, unused, unused)
    try:
        batch = annotate_all(papers, annotator, model, framework, context, style="quote")
    finally:
        model.close()
    if batch.failed:
        raise SystemExit(f"{batch.failed} papers failed: {dict(batch.summary.reasons)}")
    return batch.summary.rate, model.replies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--papers", type=Path, default=DATA / "papers" / "agentic_598.csv")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--plain", type=int, default=3, help="papers of the plain loop in each run")
    parser.add_argument("--runs", type=int, default=2)
    args = parser.parse_args()

    bundled = find("nanda-annotator:mini")
    if bundled is None or bundled.gguf_path is None:
        raise SystemExit("nanda-annotator:mini, whose tokenizer is needed, is not in the registry")
    papers = list(open_papers(str(need(args.papers)), limit=args.count).papers)
    rows = [{"title": paper.title, "abstract": paper.abstract} for paper in papers[: args.plain]]
    ours: list[float] = []
    plain: list[float] = []
    replies: list[Reply] = []
    with tempfile.TemporaryDirectory() as name:
        gguf = Path(name) / "half-billion.gguf"
        write_tiny_gguf(gguf, QWEN25_HALF_BILLION, words=words_of(need(bundled.gguf_path)))
        for number in range(args.runs):
            rate, replies = quote_batch(gguf, papers, Path(name) / str(number))
            ours.append(rate)
            loop = PlainLoop(gguf, 1024, chat=True)
            plain.append(loop.rate(rows))
            loop.close()

    ratios = [a / b for a, b in zip(ours, plain, strict=True)]
    read = sum(reply.prompt_tokens - reply.cached_tokens for reply in replies) / len(papers)
    reused = sum(reply.cached_tokens for reply in replies) / len(papers)
    written = sum(reply.completion_tokens for reply in replies) / len(papers)
    table = [
        ["papers/min", span([60 * rate for rate in ours]), span([60 * rate for rate in plain]), ""],
        ["against the plain loop", f"{span(ratios, 2)}×", "1×", "5× or more"],
        ["tokens written a paper", f"{written:.0f}", "300", ""],
        ["prompt tokens computed a paper", f"{read:.0f} ({reused:.0f} more were kept)", "", ""],
    ]
    result = {
        "papers_per_minute": round(60 * median(ours), 2),
        "plain_papers_per_minute": round(60 * median(plain), 2),
        "ratio": round(median(ratios), 2),
        "tokens_written": round(written),
        "prompt_tokens_computed": round(read),
        "prompt_tokens_kept": round(reused),
        "papers": len(papers),
        "runs": args.runs,
    }
    title = f"annotate speed, {len(papers)} papers with a random model of 0.5 billion parameters"
    report(title, ["", "quote style, batch", "plain loop, 300 tokens", "promised"], table, result)


if __name__ == "__main__":
    main()
