"""The summary of a batch: what was done, what failed and why, what holds in part."""

from __future__ import annotations

from collections import Counter

from harness.jobs.runner import BatchSummary
from skills.annotate.batch import Batch
from skills.annotate.summary import summary_lines

MOVES = ("claim", "limitation")
CELL = {"text": "We do.", "sentences": [1], "spans": [[0, 6]]}


def record(status: str = "ok", **moves: object) -> dict[str, object]:
    return {"id": "p", "status": status, "moves": {"claim": CELL, "limitation": None} | moves}


def test_counts_speed_tokens_shares_and_files() -> None:
    summary = BatchSummary(done=4, cached=1, failed=1, reasons=Counter({"too short": 1}), seconds=2.0)
    records = [
        record(),
        record(),
        record(limitation=CELL),
        record("partial") | {"error": "not English"},
        record("error", claim=None),
    ]
    batch = Batch(records, summary, prompt_tokens=2000, completion_tokens=30)
    assert summary_lines(batch, MOVES, ["out.csv"]) == [
        "4 of 5 papers annotated, 1 of them known already, 1 failed, 1 marked as partial in 2 s, 120 papers/min, "
        "2,000 tokens read, 30 written",
        "  1 × too short",
        "  1 × not English",
        "stated: claim 100%, limitation 25%",
        "saved out.csv",
    ]


def test_reasons_beyond_the_commonest_are_counted() -> None:
    reasons = Counter({f"reason {number}": 10 - number for number in range(8)})
    batch = Batch([record("error")] * reasons.total(), BatchSummary(failed=reasons.total(), reasons=reasons))
    lines = summary_lines(batch, MOVES, [])
    assert lines[1] == "  10 × reason 0"
    assert lines[5:] == ["  6 × reason 4", "  12 × other reasons"]
