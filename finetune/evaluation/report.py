"""The comparison of several models on one gold: as plain data for files and programs, and as tables for people.

``scores.json`` holds everything that the tables and the plot show, and each model's confusion counts ``[papers, moves, (tp,
fp, fn)]``, so that a later run (the registry's gate) can compare with it in pairs without running the model again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.evaluation import consistency, counts
from finetune.evaluation.runs import Run
from finetune.metrics import Ints

if TYPE_CHECKING:
    from rich.table import Table

VERSION = 1
MB = 1_000_000


def header(path: Path, name: str, papers: Sequence[Mapping[str, Any]], moves: Sequence[str]) -> dict[str, Any]:
    """What was measured on: the gold file, its papers, and gold's own figures of consistency."""
    answers = [
        consistency.answered({m: paper["moves"].get(m, []) for m in moves}, paper["sentences"], moves) for paper in papers
    ]
    return {
        "version": VERSION,
        "task": "annotate",
        "set": name,
        "gold": str(path),
        "gold_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "moves": list(moves),
        "papers": [paper["id"] for paper in papers],
        "sentences": sum(len(paper["sentences"]) for paper in papers),
        "gold_consistency": consistency.measure(answers, moves).record(),
    }


def row_of(
    run: Run, papers: Sequence[Mapping[str, Any]], moves: Sequence[str], *, rounds: int, seed: int
) -> dict[str, Any]:
    """All figures of one model."""
    table = counts.confusion(papers, run.found(), moves)
    return {
        "model": run.name,
        "place": run.place,
        "digest": run.info.digest,
        "contract": run.info.contract,
        **quality(table, moves, rounds=rounds, seed=seed),
        "failed": sum(cells is None for cells in run.cells),
        "errors": run.errors,
        "consistency": consistency.measure(run.answers(papers), moves).record(),
        "papers_per_minute": run.papers_per_minute,
        "peak_bytes": run.peak_bytes,
    }


def quality(table: Ints, moves: Sequence[str], *, rounds: int, seed: int) -> dict[str, Any]:
    """Scores with intervals, and the counts that they come from."""
    estimates = counts.scores(table, moves, rounds=rounds, seed=seed)
    return {
        "macro_f1": estimates["macro_f1"].rounded(),
        "f1": {move: estimates[move].rounded() for move in moves},
        "counts": table.tolist(),
    }


def compared(rows: Sequence[Mapping[str, Any]], *, rounds: int, seed: int) -> list[dict[str, Any]]:
    """Every model against the first one (the paired difference of macro-F1, theirs minus the first's)."""
    if not rows:
        return []
    first = np.array(rows[0]["counts"], dtype=np.int64)
    found = []
    for row in rows[1:]:
        estimate = counts.difference(np.array(row["counts"], dtype=np.int64), first, rounds=rounds, seed=seed)
        found.append(
            {
                "model": row["model"],
                "against": rows[0]["model"],
                "difference": estimate.rounded(),
                "verdict": counts.verdict(estimate),
            }
        )
    return found


def labels(report: Mapping[str, Any]) -> dict[str, str]:
    """What to call each model in a table or picture: paths without the folder that all of them lie in."""
    names = [str(row["model"]) for row in report["models"]]
    paths = [name for name in names if os.sep in name]
    alike = len({os.path.isabs(name) for name in paths}) == 1  # no folder holds an absolute and a relative path
    common = os.path.commonpath([os.path.dirname(name) for name in paths]) if len(paths) > 1 and alike else ""
    return {name: os.path.relpath(name, common) if common and name in paths else name for name in names}


# ---- tables ----


def tables(report: Mapping[str, Any]) -> list[Table]:
    """The comparison, the F1 of each move and the depth of each move."""
    return [_summary(report), _per_move(report), _depth(report)]


def _summary(report: Mapping[str, Any]) -> Table:
    columns = ("model", "macro-F1 [95%]", "against the first", "complete", "in order", "moves", "words a move")
    table = _table(f"{report['set']}: {len(report['papers'])} papers", *columns, "papers/min", "peak MB", "failed")
    differences = {row["model"]: row["difference"] for row in report["differences"]}
    called = labels(report)
    for row in report["models"]:
        table.add_row(
            called[row["model"]],
            _interval(row["macro_f1"]),
            _interval(differences[row["model"]], sign=True) if row["model"] in differences else "",
            *_evenness(row["consistency"]),
            _or_dash(row["papers_per_minute"], ".0f"),
            _or_dash(row["peak_bytes"] and row["peak_bytes"] / MB, ".0f"),
            str(row["failed"]),
        )
    table.add_row("gold", "", "", *_evenness(report["gold_consistency"]), "", "", "", style="dim")
    return table


def _evenness(found: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    if found is None:  # the linear baseline writes no answers
        return ("", "", "", "")
    overall = found["overall"]
    return (
        f"{found['complete']:.0%}",
        f"{found['in_order']:.0%}",
        f"{found['stated']:.1f} ± {found['stated_spread']:.1f}",
        f"{overall['words']:.0f} ± {overall['words_sd']:.0f}",
    )


def _per_move(report: Mapping[str, Any]) -> Table:
    table = _table("F1 of each move", "move", *labels(report).values())
    for move in report["moves"]:
        table.add_row(move, *(_interval(row["f1"][move]) for row in report["models"]))
    return table


def _depth(report: Mapping[str, Any]) -> Table:
    called = labels(report)
    found = [(called[row["model"]], row["consistency"]) for row in report["models"] if row["consistency"]]
    columns = [*found, ("gold", report["gold_consistency"])]
    table = _table("Depth: papers that state the move, its sentences and its words", "move", *(name for name, _ in columns))
    for move in report["moves"]:
        depths = [values["depth"][move] for _, values in columns]
        cells = [
            f"{d['papers']}: {d['sentences']:.1f} ± {d['sentences_sd']:.1f}, {d['words']:.0f} ± {d['words_sd']:.0f}"
            for d in depths
        ]
        table.add_row(move, *cells)
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _interval(estimate: Sequence[float], *, sign: bool = False) -> str:
    value, low, high = estimate
    plus = "+" if sign else ""
    return f"{value:{plus}.3f} [{low:{plus}.3f}, {high:{plus}.3f}]"


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"
