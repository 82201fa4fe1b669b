"""Fit the cue weights (``curation/cues.json``) on the design half of the training gold.

    python -m curation.fit_cues --gold ../shared/data/gold/moves_train.jsonl

Needs scikit-learn (extra ``finetune``). The same file gives the same bytes. The other half is never seen, so that
``benchmarks/curator_defects.py`` can report on it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curation.annotation import Annotation
from curation.cues import PATH, features
from curation.text import content
from harness.outputs import atomic_write

LEAST = 6
"""A feature must stand in so many sentences."""
STRENGTH, STRENGTHS = 0.15, {"limitation": 0.3}
"""Inverse of the L1 penalty (C of liblinear); rare and varied, limitations need more words."""
GENERIC = 0.025
"""A stem that stands in this share of the abstracts tells nothing of one of them."""

Paper = Mapping[str, Any]


def in_design(paper: Paper) -> bool:
    """Whether a paper belongs to the half that checks are designed and fitted on; by its id's hash alone."""
    return hashlib.sha256(str(paper["arxiv_id"]).encode()).digest()[0] % 2 == 0


def generic_stems(papers: Sequence[Paper], share: float = GENERIC) -> list[str]:
    """Content stems that at least ``share`` of the abstracts hold, sorted."""
    counts = Counter(stem for paper in papers for stem in set(content(paper["abstract"])))
    return sorted(stem for stem, count in counts.items() if count >= share * len(papers))


def fit(papers: Sequence[Paper]) -> dict[str, Any]:
    """Intercepts and non-zero weights (two decimals) of one L1-penalised logistic regression a move."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    rows, stated = [], []
    for paper in papers:
        sentences = Annotation(paper["abstract"], "", {}, own_sentences=tuple(paper["sentences"])).sentences
        for index in range(len(sentences)):
            rows.append(features(sentences, index))
            stated.append({move for move, numbers in paper["moves"].items() if index + 1 in numbers})
    vectorizer = CountVectorizer(analyzer=lambda row: row, binary=True, min_df=LEAST)
    matrix = vectorizer.fit_transform(rows)
    names = vectorizer.get_feature_names_out()
    intercepts: dict[str, float] = {}
    weights: dict[str, dict[str, float]] = {}
    for move in papers[0]["moves"]:
        gold = np.array([move in moves for moves in stated])
        model = LogisticRegression(
            C=STRENGTHS.get(move, STRENGTH), l1_ratio=1.0, solver="liblinear", max_iter=300, random_state=0
        )
        model.fit(matrix, gold)
        intercepts[move] = round(float(model.intercept_[0]), 2)
        for column in np.flatnonzero(np.abs(model.coef_[0]) >= 0.005):
            weights.setdefault(str(names[column]), {})[move] = round(float(model.coef_[0][column]), 2)
    return {"intercepts": intercepts, "weights": dict(sorted(weights.items()))}


def main() -> None:
    """Write ``cues.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gold", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=PATH)
    args = parser.parse_args()
    papers = [json.loads(line) for line in args.gold.read_text(encoding="utf-8").splitlines() if line.strip()]
    design = [paper for paper in papers if in_design(paper)]
    found = fit(design) | {"generic": generic_stems(design)}
    with atomic_write(args.out) as handle:
        lines = (f"  {json.dumps(name)}: {json.dumps(weights)}" for name, weights in found["weights"].items())
        handle.write('{\n"intercepts": ' + json.dumps(found["intercepts"]) + ',\n"weights": {\n' + ",\n".join(lines))
        handle.write('\n},\n"generic": ' + json.dumps(found["generic"]) + "\n}\n")


if __name__ == "__main__":
    main()
