"""What a chat model's yes and no are worth: as the judge of support, and as a reranker.

    python benchmarks/ask_model_judge.py --model FILE.gguf [--claims 20] [--questions 12]

Support: sentences of PubMedQA's conclusions (odd rows) against their own abstract and against the most similar of a hundred
others, asked as ``skills/ask/support.py`` asks, beside the same sentences judged by their words alone. Reranking: the best
passages of BM25 (SciFact validation, PubMedQA) put in order by ``harness/search/rerank.py``, against the order as it was.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from ask_cases import Set, judged, pubmedqa, scifact
from ask_checks import OTHERS, SHORTEST, passage
from common import DATA, read_jsonl, report

from harness.config import Settings
from harness.models.base import Model
from harness.models.resolve import open_choice, resolve
from harness.search.evaluate import interval
from harness.search.rerank import judge, reordered
from harness.sentences import split
from skills.ask.support import ENTAILED, Evidence, entailment
from skills.ask.terms import Stemmer

TOP = 5
"""Passages that are put in order."""
BUDGET = 3600.0
"""Seconds a question: here all passages are to be judged."""


def pairs(count: int) -> list[tuple[str, str, str, float, float]]:
    """A sentence of a conclusion, its own abstract and the most similar other one, and the support by words of each."""
    rows, stemmer, found = read_jsonl(DATA / "qa" / "pubmedqa.jsonl"), Stemmer(), []
    stems = [set(stemmer.stems(" ".join([row["question"], *row["contexts"]]))) for row in rows]
    for at in range(1, len(rows), 2):
        others = [one for k in range(OTHERS) if (one := (at + 1 + k * 3) % len(rows)) != at]
        near = max(others, key=lambda one: len(stems[at] & stems[one]) / len(stems[one]) ** 0.5)
        evidence = Evidence([passage(rows[at], 1), passage(rows[near], 2)], stemmer)
        claim = next((said.text for said in split(rows[at]["long_answer"]) if len(said.text) >= SHORTEST), "")
        if claim:
            own, other = passage(rows[at], 1).text, passage(rows[near], 2).text
            found.append((claim, own, other, evidence.containment(claim, {1}), evidence.containment(claim, {2})))
    random.Random(0).shuffle(found)
    return found[:count]


def auc(own: Sequence[float], other: Sequence[float]) -> float:
    """The chance that an own abstract scores above another one."""
    return float(np.mean([(a > b) + 0.5 * (a == b) for a in own for b in other]))


def support(model: Model, count: int) -> tuple[list[list[Any]], dict[str, Any]]:
    """How well words and model tell an own abstract from another."""
    chosen = pairs(count)
    started = time.perf_counter()
    asked = [[entailment(model, text, claim) for text in (own, other)] for claim, own, other, _, _ in chosen]
    seconds = (time.perf_counter() - started) / (2 * len(chosen))
    known = [(a, b) for a, b in asked if a is not None and b is not None]
    sides = [("by words", [one[3] for one in chosen], [one[4] for one in chosen], 0.3, 0.0)]
    sides.append(("by the model", [a for a, _ in known], [b for _, b in known], ENTAILED, seconds))
    rows: list[list[Any]] = [
        [
            name,
            f"{np.mean([value >= least for value in own]):.0%}",
            f"{np.mean([value >= least for value in other]):.0%}",
            f"{auc(own, other):.3f}",
            f"{cost:.1f}",
            len(own),
        ]
        for name, own, other, least, cost in sides
    ]
    result: dict[str, Any] = {row[0]: row[1:] for row in rows}
    return rows, result | {"probabilities": [[round(a, 3), round(b, 3)] for a, b in known]}


def reranking(model: Model, whole: Set, count: int, folder: Path) -> tuple[list[Any], dict[str, Any]]:
    """Right paper first, before and after, over the questions whose right paper is among the best."""
    before, after, seconds = list[float](), list[float](), list[float]()
    cases = [case for case in judged(whole, folder, passages=TOP) if case.answerable]
    random.Random(0).shuffle(cases)
    for case in cases:
        right = [one.passage.where in case.question.gold for one in case.evidence]
        if not any(right) or len(right) < TOP:
            continue
        texts = [f"{one.passage.header}\n{one.passage.text}" for one in case.evidence]
        started = time.perf_counter()
        scores, _ = judge(model, case.question.text, texts, BUDGET)
        seconds.append(time.perf_counter() - started)
        before.append(float(right[0]))
        after.append(float(right[reordered(len(right), scores)[0]]))
        if len(before) == count:
            break
    row = [whole.name, str(interval(np.array(before))), str(interval(np.array(after)))]
    result = {"bm25": float(np.mean(before)), "reranked": float(np.mean(after)), "seconds": float(np.mean(seconds))}
    return [*row, f"{np.mean(seconds):.1f}", len(before)], result


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a chat model: an Ollama tag, a .gguf file, provider/model")
    parser.add_argument("--claims", type=int, default=20, help="sentences whose support is asked for (default 20)")
    parser.add_argument("--threads", type=int, default=0, help="of the embedded runtime; 0 takes the cores (default)")
    parser.add_argument("--questions", type=int, default=12, help="questions of each set to rerank for (default 12)")
    args = parser.parse_args()
    settings = Settings(model=args.model, workers=1, threads=args.threads)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = open_choice(resolve("ask", settings, allow_general=True), settings)
        stack.callback(model.close)
        if args.claims:
            rows, result = support(model, args.claims)
            report(f"support by {model.info.name}", ["", "own abstract", "other", "AUC", "seconds", "n"], rows, result)
        if args.questions:
            found = [reranking(model, one, args.questions, folder) for one in (scifact("validation"), pubmedqa(1))]
            header = ["set", "right paper first, BM25", "reranked", "seconds a question", "n"]
            rows, result = [row for row, _ in found], {row[0]: scores for row, scores in found}
            report(f"reranking {TOP} by {model.info.name}", header, rows, result)


if __name__ == "__main__":
    main()
