"""How well the bundled annotator finds the moves of the evaluation set, beside the linear baseline.

    python benchmarks/annotator_quality.py [--model nanda-annotator:mini] [--json scores.json]

The annotator runs through the code that serves /annotate (embedded llama.cpp, the registry's thresholds); the baseline is
TF-IDF and logistic regression trained on the 2,400 training papers in the same run. Both are scored by F1 per move over
sentences and compared by paired bootstrap over papers. The confidences are scored too: calibration, and how many cells
are right when only the most confident are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import DATA, need, report

from finetune import metrics
from finetune.evaluation.baseline import as_array, check_leaks, linear
from finetune.evaluation.gold import read_gold
from finetune.evaluation.runs import Evaluator
from finetune.linear import gold_of
from harness.config import load_settings
from harness.console import stderr_console
from skills.annotate.annotator import Cell
from skills.annotate.moves import load_framework


def annotate(papers: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Cell]]:
    """The cells of every paper, through the serving code; a paper without an annotation ends the benchmark."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(environment={})
        run = Evaluator(load_framework(), settings, stderr_console(), Path(folder) / "journal.db").run(name, papers)
    if run.errors:
        raise SystemExit(f"{len(run.errors)} papers without an annotation, first {run.errors[0]}")
    return [cells for cells in run.cells if cells is not None]


def confidences(
    papers: Sequence[Mapping[str, Any]], cells: Sequence[Mapping[str, Cell]], moves: Sequence[str]
) -> tuple[metrics.Bools, metrics.Floats]:
    """For every (paper, move) cell: is it right (first quote in gold, or rightly not stated), and its confidence."""
    right, sure = [], []
    for paper, row in zip(papers, cells, strict=True):
        for move in moves:
            cell, truth = row[move], paper["moves"][move]
            right.append(cell.sentences[0] in truth if cell.sentences else not truth)
            sure.append(0.5 if cell.confidence is None else cell.confidence)
    return np.array(right, dtype=bool), np.array(sure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nanda-annotator:mini")
    parser.add_argument("--json", type=Path, help="write the scores for finetune.mark_release")
    args = parser.parse_args()

    framework = load_framework()
    moves = framework.names
    sets = [need(DATA / "gold" / f"moves_{name}.jsonl") for name in ("train", "dev")]
    train, papers = (read_gold(path, framework)[0] for path in sets)
    check_leaks(train, papers, str(sets[0]))
    gold = gold_of(papers, moves)
    groups = np.repeat(np.arange(len(papers)), [len(paper["sentences"]) for paper in papers])
    cells = annotate(papers, args.model)
    found = [{move: cell.sentences for move, cell in row.items()} for row in cells]
    ours, baseline = as_array(found, papers, moves), linear(train, papers, moves)
    f1, f1_linear = metrics.f1_per_move(gold, ours), metrics.f1_per_move(gold, baseline)
    difference, low, high = metrics.bootstrap_difference(gold, ours, baseline, groups)
    right, sure = confidences(papers, cells, moves)
    shares = (0.25, 0.5, 0.75, 0.9, 1.0)
    coverage = metrics.precision_at_coverage(right, sure, shares)
    f1_kept = metrics.f1_at_coverage(gold, ours, sure.reshape(len(papers), len(moves)), groups, shares)
    calibration = metrics.expected_calibration_error(right, sure)

    rows: list[list[Any]] = [[m, f"{a:.3f}", f"{b:.3f}"] for m, a, b in zip(moves, f1, f1_linear, strict=True)]
    rows.append(["macro-F1", f"{f1.mean():.3f}", f"{f1_linear.mean():.3f}"])
    rows += [[f"macro-F1, surest {share:.0%} of cells", f"{value:.3f}", ""] for share, value in f1_kept]
    rows += [[f"cells right, surest {share:.0%}", f"{value:.3f}", ""] for share, value in coverage]
    rows.append(["calibration error", f"{calibration:.3f}", ""])
    scores = {"macro_f1": round(float(f1.mean()), 4), **dict(zip(moves, f1.round(4).tolist(), strict=True))}
    result = {
        "model": args.model,
        **scores,
        "linear": round(float(f1_linear.mean()), 4),
        "difference": [round(value, 4) for value in (difference, low, high)],
        "f1_at_coverage": {f"{share:.2f}": round(value, 4) for share, value in f1_kept},
        "right_at_coverage": {f"{share:.2f}": round(value, 4) for share, value in coverage},
        "calibration_error": round(calibration, 4),
    }
    report(f"annotator quality on {len(papers)} papers", ["", args.model, "linear baseline"], rows, result)
    if args.json:
        args.json.write_text(json.dumps({"moves_dev": {**scores, "calibration_error": round(calibration, 4)}}) + "\n")


if __name__ == "__main__":
    main()
