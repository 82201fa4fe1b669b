"""What a batch came to, in a few lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.jobs.progress import duration
from harness.jobs.runner import BatchSummary
from skills.annotate.batch import Batch

REASONS = 5
"""How many reasons of failures and partial rows are named."""


def shares(records: Sequence[Mapping[str, Any]], moves: Sequence[str]) -> dict[str, float]:
    """Share of the annotated papers that state each move, 0 to 1."""
    annotated = [record for record in records if record["status"] != "error"]
    return {
        move: sum(record["moves"].get(move) is not None for record in annotated) / max(1, len(annotated)) for move in moves
    }


def summary_lines(batch: Batch, moves: Sequence[str], saved: Sequence[str]) -> list[str]:
    """Counts with reasons, speed, tokens, and how often each move is stated."""
    summary: BatchSummary = batch.summary
    total = len(batch.records)
    counts = [f"{total - batch.failed} of {total} papers annotated"]
    if summary.cached:
        counts.append(f"{summary.cached} of them known already")
    if batch.failed:
        counts.append(f"{batch.failed} failed")
    if batch.partial:
        counts.append(f"{batch.partial} marked as partial")
    speed = [duration(summary.seconds)]
    if summary.rate and batch.completion_tokens:  # rows that fail at once say nothing about speed
        speed.append(f"{summary.rate * 60:.0f} papers/min")
    if batch.prompt_tokens:
        speed.append(f"{batch.prompt_tokens:,} tokens read, {batch.completion_tokens:,} written")
    lines = [f"{', '.join(counts)} in {', '.join(speed)}"]
    partial = Counter(str(record["error"]) for record in batch.records if record["status"] == "partial")
    reasons = (summary.reasons + partial).most_common()
    lines += [f"  {count} × {reason}" for reason, count in reasons[:REASONS]]
    if others := sum(count for _, count in reasons[REASONS:]):
        lines.append(f"  {others} × other reasons")
    if total - batch.failed > 1:
        stated = shares(batch.records, moves)
        lines.append("stated: " + ", ".join(f"{move} {share:.0%}" for move, share in stated.items()))
    lines += [f"saved {path}" for path in saved]
    return lines
