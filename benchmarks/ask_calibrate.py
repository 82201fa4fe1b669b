"""Fit when /ask says "not answered by these papers": three measures, one threshold (skills/ask/abstain.json).

    python benchmarks/ask_calibrate.py [--out skills/ask/abstain.json]

Fitted on SciFact's training claims and one half of PubMedQA, over their whole corpora and over small ones of passages of
1,000 characters (about a single paper, about a folder); each of these weighs the same. The threshold is where the lowest
F1 of abstaining among them is highest: the hardest set decides. ``ask_quality.py`` reports on the other halves, which
this script never reads.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ask_cases import Set, judged, pubmedqa, sample, scifact
from common import ROOT, report

from harness.outputs import atomic_write
from skills.ask.abstain import MEASURES

SIZES = (25, 100)
"""Papers of the small corpora."""
MOST_SMALL = 200
"""Questions of each set that are asked over small corpora of one size."""
TOLERANCE = 0.01
"""Of F1: the lowest threshold that comes as near to the best one is taken, for an answer can be judged, silence cannot."""
KEPT = 0.95
"""Share of the answerable questions that must reach a chat model, which can still abstain itself."""
Cases = tuple[np.ndarray, np.ndarray]
"""Measures, a row a case, and whether the answer was there."""


def cases(sets: list[Set], folder: Path, *, abstracts: bool) -> Cases:
    """All cases of some sets."""
    found = [case for one in sets for case in judged(one, folder, abstracts=abstracts)]
    values = np.array([[case.verdict.measures[name] for name in MEASURES] for case in found])
    return values, np.array([case.answerable for case in found])


def f1_of_abstaining(answerable: np.ndarray, abstained: np.ndarray) -> float:
    """F1 where the class that counts is "not answerable"."""
    from sklearn.metrics import f1_score

    return float(f1_score(~answerable, abstained))


def fit(groups: dict[str, Cases]) -> dict[str, Any]:
    """Intercept, weights and threshold; each group weighs the same."""
    from sklearn.linear_model import LogisticRegression

    values = np.concatenate([group[0] for group in groups.values()])
    answerable = np.concatenate([group[1] for group in groups.values()])
    weights = np.concatenate([np.full(len(group[1]), 1000 / len(group[1])) for group in groups.values()])
    model = LogisticRegression(C=1.0).fit(values, answerable, sample_weight=weights)
    likely = {name: model.predict_proba(group[0])[:, 1] for name, group in groups.items()}

    def lowest_f1(threshold: float) -> float:
        return min(f1_of_abstaining(groups[name][1], p < threshold) for name, p in likely.items())

    scores = {float(threshold): lowest_f1(threshold) for threshold in np.arange(0.2, 0.8, 0.01)}
    threshold = min(one for one, score in scores.items() if score >= max(scores.values()) - TOLERANCE)
    least = np.mean([np.quantile(p[groups[name][1]], 1 - KEPT) for name, p in likely.items()])
    kept = {name: round(float(value), 3) for name, value in zip(MEASURES, model.coef_[0], strict=True)}
    thresholds = {"threshold": round(threshold, 2), "with_model": round(float(least), 2)}
    return {"intercept": round(float(model.intercept_[0]), 3), "weights": kept, **thresholds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the small corpora (default 1)")
    parser.add_argument("--out", type=Path, help="write the calibration there")
    args = parser.parse_args()

    groups: dict[str, Cases] = {}
    with tempfile.TemporaryDirectory() as folder:
        for whole in (scifact("train"), pubmedqa(0)):
            groups[whole.name] = cases([whole], Path(folder), abstracts=True)
            for size in SIZES:
                few = replace(whole, questions=whole.questions[:MOST_SMALL])
                groups[f"{whole.name}, {size} papers"] = cases(sample(few, size, args.seed), Path(folder), abstracts=False)
    model = fit(groups)
    rows = []
    for name, (values, answerable) in groups.items():
        logit = model["intercept"] + values @ np.array([model["weights"][key] for key in MEASURES])
        abstained = 1 / (1 + np.exp(-logit)) < model["threshold"]
        rows.append([name, len(answerable), f"{f1_of_abstaining(answerable, abstained):.3f}"])
    report(
        "abstention: calibration (fitted on these)",
        ["set", "cases", "F1"],
        rows,
        {**model, "f1": {r[0]: r[2] for r in rows}},
    )
    if args.out:
        lineage = {"command": f"benchmarks/ask_calibrate.py --seed {args.seed}", "fitted_on": {r[0]: r[1] for r in rows}}
        with atomic_write((ROOT / args.out).resolve()) as handle:
            handle.write(json.dumps({"lineage": lineage, **model}, indent=1) + "\n")


if __name__ == "__main__":
    main()
