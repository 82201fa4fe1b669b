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
from pathlib import Path
from typing import Any

import numpy as np
from common import DATA, read_jsonl, report

from finetune import metrics
from finetune.dataset.leaks import LeakCheck
from finetune.linear import LinearAnnotator, gold_of
from finetune.mark_train import split
from harness.config import load_settings
from harness.models.base import Options
from harness.models.resolve import open_choice, resolve
from harness.registry import find
from skills.annotate.annotator import Cell, make_annotator
from skills.annotate.moves import load_framework


def annotate(papers: list[dict[str, Any]], name: str) -> list[dict[str, Cell]]:
    """The cells of every paper, through the serving code."""
    settings = load_settings({"model": name}, environment={})
    model = open_choice(resolve("annotate", settings, allow_general=False), settings)
    entry = find(name)
    serving = entry.serving if entry else {}
    annotator = make_annotator(model, load_framework(), prose=False, serving=serving, options=Options())
    try:
        return [annotator.annotate(paper["title"], paper["sentences"]).cells for paper in papers]
    finally:
        model.close()


def as_array(papers: list[dict[str, Any]], cells: list[dict[str, Cell]], moves: tuple[str, ...]) -> metrics.Bools:
    """``[sentences, moves]``, true where the annotation rests on the sentence."""
    return np.array(
        [
            [number in cell[move].sentences for move in moves]
            for paper, cell in zip(papers, cells, strict=True)
            for number in range(1, len(paper["sentences"]) + 1)
        ],
        dtype=bool,
    )


def linear(train: list[dict[str, Any]], papers: list[dict[str, Any]], moves: tuple[str, ...]) -> metrics.Bools:
    """The baseline: thresholds from a tenth of the training gold, then fitted on all of it."""
    fit, held = split(train, 0.1, 1)
    probabilities = LinearAnnotator(moves).fit(fit).predict(held)
    thresholds = metrics.best_thresholds(gold_of(held, moves), probabilities)
    return np.asarray(LinearAnnotator(moves).fit(train).predict(papers) >= thresholds)


def confidences(
    papers: list[dict[str, Any]], cells: list[dict[str, Cell]], moves: tuple[str, ...]
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

    moves = load_framework().names
    train, papers = read_jsonl(DATA / "gold/moves_train.jsonl"), read_jsonl(DATA / "gold/moves_dev.jsonl")
    check = LeakCheck(papers)
    if any(check.reason(paper) for paper in train):
        raise SystemExit("training papers stand in the evaluation set")
    gold = gold_of(papers, moves)
    groups = np.repeat(np.arange(len(papers)), [len(paper["sentences"]) for paper in papers])
    cells = annotate(papers, args.model)
    ours, baseline = as_array(papers, cells, moves), linear(train, papers, moves)
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
