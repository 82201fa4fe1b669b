"""Fit what /ask knows of how findings read, and measure it on a field that it was not fitted on.

    python benchmarks/ask_findings.py [--strength 0.05] [--out skills/ask/findings.json]

Fitted on sentence roles of computer science abstracts (CSAbstruct) and on the authors' own headings of biomedical ones,
both fields weighing the same; abstracts of PubMedQA, which benchmark /ask, are left out. A cue must occur in both. Measured
on full papers of materials science (MuLMS), no sentence of which took part.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import DATA, ROOT, need, read_jsonl, report

from harness.outputs import atomic_write
from skills.ask.findings import cues

LEAST = 20
"""Sentences of each field that must have a cue."""
IS_FINDING = {"result", "RESULTS", "RESULT", "FINDINGS", "PRINCIPAL FINDINGS", "CONCLUSIONS*", "Results", "Conclusion"}
UNCLEAR = {"other", "METHODS AND RESULTS", "MEASUREMENTS AND MAIN RESULTS", "None", "Explanation"}
"""Roles that say neither."""
Rows = list[tuple[str, bool]]


def sentences(name: str, without: frozenset[str] = frozenset()) -> Rows:
    """Sentences of a labelled set, and whether each reports a finding."""
    return list(_sentences(name, without))


def _sentences(name: str, without: frozenset[str]) -> Iterator[tuple[str, bool]]:
    for row in read_jsonl(DATA / "moves" / f"{name}.jsonl"):
        if row["doc_id"] not in without:
            for text, label in zip(row["sentences"], row["labels"], strict=True):
                if label not in UNCLEAR:
                    yield text, label in IS_FINDING


def shared_cues(fields: Sequence[Rows]) -> list[str]:
    """The cues that occur often enough in every field, in order of the alphabet."""
    counts = [Counter(cue for text, _ in rows for cue in cues(text)) for rows in fields]
    return sorted(cue for cue in counts[0] if all(count[cue] >= LEAST for count in counts))


def matrix(rows: Rows, names: Sequence[str]) -> Any:
    """Which sentence has which cue, as a sparse matrix of 0 and 1."""
    from scipy.sparse import csr_matrix

    place = {name: at for at, name in enumerate(names)}
    pairs = [(row, place[cue]) for row, (text, _) in enumerate(rows) for cue in sorted(cues(text)) if cue in place]
    return csr_matrix((np.ones(len(pairs)), tuple(zip(*pairs, strict=True))), shape=(len(rows), len(names)))


def fit(fields: Sequence[Rows], strength: float) -> dict[str, Any]:
    """The model: an intercept and the weights of those cues that the L1 penalty leaves."""
    from sklearn.linear_model import LogisticRegression

    names = shared_cues(fields)
    rows = [row for field in fields for row in field]
    weights = np.concatenate([np.full(len(field), 1 / len(field)) for field in fields]) * len(rows) / len(fields)
    model = LogisticRegression(C=strength, l1_ratio=1, solver="liblinear", random_state=0)
    model.fit(matrix(rows, names), [finding for _, finding in rows], sample_weight=weights)
    kept = {name: round(float(value), 3) for name, value in zip(names, model.coef_[0], strict=True) if abs(value) >= 0.01}
    return {"intercept": round(float(model.intercept_[0]), 3), "weights": kept}


def auc(model: dict[str, Any], rows: Rows) -> float:
    """How often a finding scores above what is none."""
    from sklearn.metrics import roc_auc_score

    scores = [sum(model["weights"].get(cue, 0.0) for cue in cues(text)) for text, _ in rows]
    return float(roc_auc_score([finding for _, finding in rows], scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strength", type=float, default=0.05, help="inverse of the L1 penalty (default 0.05)")
    parser.add_argument("--out", type=Path, help="write the model there")
    args = parser.parse_args()

    need(DATA)
    asked = frozenset(row["id"].removeprefix("pubmedqa-") for row in read_jsonl(DATA / "qa" / "pubmedqa.jsonl"))
    science = {"csabstruct": sentences("csabstruct"), "pubmed_structured": sentences("pubmed_structured", asked)}
    unseen = sentences("mulms_az")
    model = fit(list(science.values()), args.strength)
    rows: list[list[Any]] = [[name, len(some), f"{auc(model, some):.3f}", "fitted on"] for name, some in science.items()]
    for name in science:
        other = fit([science[name], science[name]], args.strength)
        rest = next(key for key in science if key != name)
        rows.append([rest, len(science[rest]), f"{auc(other, science[rest]):.3f}", f"fitted on {name} alone"])
    rows.append(["mulms_az", len(unseen), f"{auc(model, unseen):.3f}", "not seen"])
    result: dict[str, Any] = {"cues": len(model["weights"]), "auc": {f"{row[0]}, {row[3]}": float(row[2]) for row in rows}}
    report("findings: which sentences report one", ["set", "sentences", "AUC", ""], rows, result)
    if args.out:
        lineage: dict[str, Any] = {"command": f"benchmarks/ask_findings.py --strength {args.strength:g}"}
        lineage |= {"fitted_on": sorted(science), "sentences": sum(map(len, science.values())), "auc": result["auc"]}
        with atomic_write((ROOT / args.out).resolve()) as handle:
            handle.write(json.dumps({"lineage": lineage, **model}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
