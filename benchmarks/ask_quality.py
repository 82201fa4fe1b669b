"""How well /ask answers without a chat model: whether it knows when to, and whether what it cites is evidence.

    python benchmarks/ask_quality.py [--sets scifact pubmedqa] [--embed minilm-f16.gguf] [--limit N] [--json scores.json]

With ``--embed`` the passages are found by meaning, too (a model of Ollama or a .gguf file; ``minilm.py`` makes one). The
verdict's weights and threshold stay those that were fitted without. The small libraries are left out then.

Abstention. Each answerable question is asked twice: over the whole corpus, and without the papers that answer it; QASA's
questions are not answered by their own papers. F1 is that of abstaining; "always" abstains from everything. SciFact's
validation claims and one half of PubMedQA: ``ask_calibrate.py`` fitted on the other ones and never reads these. "25 near"
asks each over the 25 papers that BM25 finds nearest to it. Cranfield's and CISI's questions took no part in fitting
either; there most papers are about the question's topic. "Off the subject" are questions of everyday knowledge over papers
on language agents.

Citations, on the answerable questions. ``first``: the first cited sentence is gold evidence; ``all``: the mean over all
that an answer cites; ``answered``: as ``first``, on the questions that are answered. Gold evidence is a sentence of a
paper that annotators marked as evidence (SciFact; this copy of it does not say which sentences), and for PubMedQA a
sentence of the results section of the abstract that the question was made from. "first sentence" cites that of the best
passage, "random" a random one of the passages read. Every quote is looked up in the corpus as it was read.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ask_cases import Case, Paper, Question, Set, classic, judged, near, off_topic, pubmedqa, qasa, scifact
from common import report
from kept_vectors import open_kept

from harness.search.evaluate import interval
from skills.ask.extract import extractive_answer
from skills.ask.options import PASSAGES
from skills.ask.passages import Evidence

NEAR = 25
"""Papers of a small library on the subject of a question."""
KNOWN: dict[str, Callable[[], Set]] = {"scifact": lambda: scifact("validation"), "pubmedqa": lambda: pubmedqa(1)}
"""The sets that say what is evidence."""
OTHERS: dict[str, Callable[[], Set]] = {
    "qasa": lambda: qasa(own_sentences=False),
    "qasa-own": lambda: qasa(own_sentences=True),
    "cranfield": lambda: classic("cranfield"),
    "cisi": lambda: classic("cisi"),
    "off-topic": off_topic,
}
Cited = tuple[int, str]
"""Number of the passage, text of the sentence."""


def f1(true: np.ndarray, said: np.ndarray) -> float:
    """F1 of the class that both arrays mark; 0 where nothing is right."""
    both = float((true & said).sum())
    return 2 * both / float(true.sum() + said.sum()) if both else 0.0


def abstention(whole: Set, cases: Sequence[Case]) -> tuple[list[Any], dict[str, Any]]:
    """The row and the result of one set."""
    answerable = np.array([case.answerable for case in cases])
    abstained = np.array([not case.verdict.enough for case in cases])
    likely = np.array([case.verdict.probability for case in cases])
    scores: dict[str, Any] = {"cases": len(cases), "abstained": round(float(abstained[~answerable].mean()), 3)}
    if answerable.any():
        from sklearn.metrics import roc_auc_score

        always = f1(~answerable, np.ones_like(answerable))
        scores |= {"f1": f1(~answerable, abstained), "f1_answering": f1(answerable, ~abstained), "always": always}
        scores |= {"answered": float((~abstained[answerable]).mean()), "auc": float(roc_auc_score(answerable, likely))}
        scores = {key: round(value, 3) for key, value in scores.items()}
    columns = ("cases", "f1", "always", "f1_answering", "abstained", "answered", "auc")
    return [whole.name, *(scores.get(key, "") for key in columns)], scores


def on_their_subject(whole: Set) -> list[Case]:
    """The same questions, each over the papers nearest to it, cut into passages: the hardest kind of small library."""
    with tempfile.TemporaryDirectory() as folder:
        sets = near(whole, NEAR, Path(folder))
        return [case for one in sets for case in judged(one, Path(folder), abstracts=False)]


def is_gold(question: Question, paper: Paper, sentence: str) -> bool:
    """Whether a cited sentence is gold evidence; in PubMedQA it must report results."""
    if paper.id not in question.gold:
        return False
    parts = zip(paper.parts, paper.results, strict=True) if paper.results else ((part, True) for part in paper.parts)
    return any(result and sentence in part for part, result in parts)


def random_sentence(evidence: Sequence[Evidence], chance: random.Random) -> list[Cited]:
    """One sentence of the passages, any."""
    return [chance.choice([(one.passage.n, sentence.text) for one in evidence for sentence in one.sentences])]


def citations(whole: Set, cases: Sequence[Case], seed: int) -> tuple[list[list[Any]], dict[str, Any]]:
    """Rows and result of one set: ours and the baselines."""
    papers = {paper.id: paper for paper in whole.papers}
    chance = random.Random(seed)
    asked = [case for case in cases if case.answerable and case.evidence]
    broken = 0

    def ours(case: Case) -> list[Cited]:
        nonlocal broken
        found = extractive_answer(case.question.text, case.evidence[:PASSAGES], case.terms)
        for one in found.citations:
            place = case.evidence[one.n - 1].passage.where
            broken += not any(one.quote in part for part in papers[place].parts)
        return [(one.n, one.quote) for one in found.citations]

    systems: dict[str, Callable[[Case], list[Cited]]] = {
        "ours": ours,
        "first sentence": lambda case: [(1, case.evidence[0].sentences[0].text)],
        "random": lambda case: random_sentence(case.evidence[:PASSAGES], chance),
    }
    rows, result = [], dict[str, Any]()
    for name, cite in systems.items():
        right = []
        for case in asked:
            places = {one.passage.n: papers[one.passage.where] for one in case.evidence}
            right.append([is_gold(case.question, places[n], text) for n, text in cite(case)])
        first = np.array([float(some[0]) for some in right])
        every = np.array([float(np.mean(some)) for some in right])
        sure = first[np.array([case.verdict.enough for case in asked])]
        rows.append([whole.name, name, str(interval(first)), str(interval(every)), f"{sure.mean():.3f}", len(first)])
        result[name] = {"first": float(first.mean()), "all": float(every.mean()), "answered": float(sure.mean())}
        result[name] = {key: round(value, 3) for key, value in result[name].items()}
    return rows, {**result, "quotes not in the file": broken}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=[*KNOWN, *OTHERS], default=[*KNOWN, *OTHERS])
    parser.add_argument("--embed", metavar="NAME", help="an embedding model of Ollama, or a .gguf file")
    parser.add_argument("--limit", type=int, default=0, help="the first N questions of each set only")
    parser.add_argument("--seed", type=int, default=0, help="of the random sentences (default 0)")
    parser.add_argument("--json", type=Path, help="write the scores")
    args = parser.parse_args()

    embedder = open_kept(args.embed) if args.embed else None
    rows, cited = list[list[Any]](), list[list[Any]]()
    result: dict[str, Any] = {"abstention": {}, "citations": {}}
    everything: list[Case] = []
    asked = [name for name in args.sets if name in (*KNOWN, "qasa")]
    for name in args.sets:
        whole = {**KNOWN, **OTHERS}[name]()
        some = replace(whole, questions=whole.questions[: args.limit or None])
        with tempfile.TemporaryDirectory() as folder:
            cases = list(judged(some, Path(folder), embedder=embedder))
        row, result["abstention"][whole.name] = abstention(some, cases)
        rows.append(row)
        if name in KNOWN and embedder is None:
            small = replace(some, name=f"{whole.name}, {NEAR} near")
            row, result["abstention"][small.name] = abstention(small, on_their_subject(some))
            rows.append(row)
        if name in asked:
            everything += cases
        if name in KNOWN:
            more, result["citations"][whole.name] = citations(some, cases, args.seed)
            cited += more
    if asked:
        row, result["abstention"]["all of the asked"] = abstention(Set(", ".join(asked), (), ()), everything)
        rows.append(row)
    header = ["set", "cases", "F1", "always", "F1 answering", "abstained of unanswerable", "answered of answerable", "AUC"]
    report("ask: abstention without a chat model", header, rows, result["abstention"])
    header = ["set", "system", "first is gold", "all are gold", "first, where answered", "questions"]
    report("ask: extractive citations", header, cited, result["citations"])
    if args.json:
        args.json.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
