"""Fit when /ask says "not answered by these papers": three measures, one threshold (skills/ask/abstain.json).

    python benchmarks/ask_calibrate.py [--out skills/ask/abstain.json]

Fitted on SciFact's training claims and one half of PubMedQA, each over its whole corpus, over the 25 papers that BM25 finds
nearest to a question (a library on its subject) and over 100 random ones, the small corpora cut into passages of 1,000
characters; each of these weighs the same. The threshold is where the mean F1 of abstaining and of answering is highest, for
both mistakes count; that mean is nearly flat there, and among what is as good the best F1 of abstaining decides. ``known``,
the share of a question that anything in the index must have, is the highest that costs next to nothing of that mean: these
sets have no questions about other things altogether, which it is for.
``ask_quality.py`` reports on the other halves, which this script never reads.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ask_cases import Set, judged, near, pubmedqa, sample, scifact
from common import ROOT, report

from harness.outputs import atomic_write
from skills.ask.abstain import MEASURES

NEAR, RANDOM = 25, 100
"""Papers of the small corpora."""
MOST_SMALL = 200
"""Questions of each set that are asked over small corpora of one kind."""
TOLERANCE = 0.005
"""Of F1: what counts as as good."""
KEPT = 0.95
"""Share of the answerable questions that must reach a chat model, which can still abstain itself."""
KNOWN_COST = 0.002
"""Of F1: what the rule on words that nothing has may cost."""
Cases = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Measures, a row a case; whether the answer was there; the share of the question that anything in the index has."""


def cases(sets: list[Set], folder: Path, *, abstracts: bool) -> Cases:
    """All cases of some sets."""
    found = [case for one in sets for case in judged(one, folder, abstracts=abstracts)]
    values = np.array([[case.verdict.measures[name] for name in MEASURES] for case in found])
    return values, np.array([case.answerable for case in found]), np.array([case.terms.known for case in found])


def f1(true: np.ndarray, said: np.ndarray) -> float:
    """F1 of the class that both arrays mark."""
    from sklearn.metrics import f1_score

    return float(f1_score(true, said, zero_division=0))


def fit(groups: dict[str, Cases]) -> dict[str, Any]:
    """Intercept, weights and threshold; each group weighs the same."""
    from sklearn.linear_model import LogisticRegression

    values = np.concatenate([group[0] for group in groups.values()])
    answerable = np.concatenate([group[1] for group in groups.values()])
    weights = np.concatenate([np.full(len(group[1]), 1000 / len(group[1])) for group in groups.values()])
    model = LogisticRegression(C=1.0).fit(values, answerable, sample_weight=weights)
    likely = {name: model.predict_proba(group[0])[:, 1] for name, group in groups.items()}

    def mean_f1(threshold: float, answering: bool, known: float = 0.0) -> float:
        pairs = [(groups[name][1], (p < threshold) | (groups[name][2] < known)) for name, p in likely.items()]
        return float(np.mean([f1(there, ~said) if answering else f1(~there, said) for there, said in pairs]))

    tried = {float(one): (mean_f1(one, False), mean_f1(one, True)) for one in np.arange(0.2, 0.8, 0.01)}
    best = max(map(sum, tried.values())) / 2
    threshold = max(
        (one for one, pair in tried.items() if sum(pair) / 2 >= best - TOLERANCE), key=lambda one: tried[one][0]
    )
    without = sum(tried[threshold]) / 2
    shares = [float(one) for one in np.arange(0.0, 1.0, 0.05)]
    cost = {one: without - (mean_f1(threshold, False, one) + mean_f1(threshold, True, one)) / 2 for one in shares}
    known = max(one for one in shares if cost[one] <= KNOWN_COST)
    least = np.mean([np.quantile(p[groups[name][1]], 1 - KEPT) for name, p in likely.items()])
    kept = {name: round(float(value), 3) for name, value in zip(MEASURES, model.coef_[0], strict=True)}
    thresholds = {"threshold": round(threshold, 2), "with_model": round(float(least), 2), "known": round(known, 2)}
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
            few = replace(whole, questions=whole.questions[:MOST_SMALL])
            nearest, others = near(few, NEAR, Path(folder)), sample(few, RANDOM, args.seed)
            groups[f"{whole.name}, {NEAR} near"] = cases(nearest, Path(folder), abstracts=False)
            groups[f"{whole.name}, {RANDOM} random"] = cases(others, Path(folder), abstracts=False)
    model = fit(groups)
    rows = []
    for name, (values, answerable, known) in groups.items():
        logit = model["intercept"] + values @ np.array([model["weights"][key] for key in MEASURES])
        abstained = (1 / (1 + np.exp(-logit)) < model["threshold"]) | (known < model["known"])
        rows.append([name, len(answerable), f"{f1(~answerable, abstained):.3f}", f"{f1(answerable, ~abstained):.3f}"])
    report(
        "abstention: calibration (fitted on these)",
        ["set", "cases", "F1 abstaining", "F1 answering"],
        rows,
        {**model, "f1": {r[0]: r[2] for r in rows}},
    )
    if args.out:
        lineage = {"command": f"benchmarks/ask_calibrate.py --seed {args.seed}", "fitted_on": {r[0]: r[1] for r in rows}}
        with atomic_write((ROOT / args.out).resolve()) as handle:
            handle.write(json.dumps({"lineage": lineage, **model}, indent=1) + "\n")


if __name__ == "__main__":
    main()
