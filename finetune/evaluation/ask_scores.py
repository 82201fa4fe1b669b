"""Scores of answers: what each question counts, and the figures of a model with their intervals.

Every figure follows from sums over questions, so a row of whole numbers a question is all that the bootstrap needs, and two
models that answered the same questions are compared in pairs. What is counted:

- BLEU-4 (Papineni et al. 2002, sacrebleu's tokens and smoothing) and ROUGE-L (Lin 2004, F1, stemmed), of the answer without
  its marks, over the questions that have one; an abstention is an empty answer.
- Factual accuracy: of the sentences of answers to such questions, those that the gold evidence supports, by the checks that
  /ask itself makes of a sentence (``skills/ask/verify.py``): its words, numbers, negations and equations.
- Abstention: precision, recall and F1 of saying that the papers do not answer.
- Citation precision: of the quotes of these answers, those that share a sentence with the gold evidence.
- Perplexity of the reference answer, and depth by a judge, where they were measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune.dataset.qa_rows import Pair, passage, pieces
from finetune.evaluation.counts import Estimate
from finetune.metrics import Floats
from harness.bootstrap import ROUNDS
from harness.sentences import split
from skills.ask.prompt import Claim
from skills.ask.quotes import find
from skills.ask.verify import Verifier

ORDERS = 4
"""Longest n-grams of BLEU."""
_BLEU = (*(f"{kind}_{n}" for kind in ("hit", "ngram") for n in range(1, ORDERS + 1)), "words", "reference_words")
COLUMNS = (
    *_BLEU,
    *("rouge", "rouged", "supported", "sentences", "on_gold", "cited"),
    *("rightly_none", "wrongly_none", "wrongly_some", "surprise", "tokens", "depth", "judged"),
)
"""What is summed over questions."""
METRICS = (
    *("bleu_4", "rouge_l", "factual_accuracy", "citation_precision"),
    *("abstention_precision", "abstention_recall", "abstention_f1", "perplexity", "depth"),
)
LOWER_IS_BETTER = frozenset({"perplexity"})
_AT_ONCE = 256
"""Resamples computed together: what bounds memory."""
_MARKS = re.compile(r"\s*(?:\[\d{1,3}\])+")
Counts = dict[str, float]


def unmarked(answer: str) -> str:
    """An answer as one line without its marks.

    >>> unmarked("Rye grows.[1][2]\\nOats do not. [3]")
    'Rye grows. Oats do not.'
    """
    return " ".join(_MARKS.sub("", answer).split())


def counts_of(pair: Pair, record: Mapping[str, Any]) -> Counts:
    """What one answer counts; ``record`` is /ask's, with ``error`` where there is none. Perplexity and depth come later."""
    abstained, failed = bool(record["abstained"]), bool(record.get("error"))
    found: Counts = dict.fromkeys(COLUMNS, 0.0)
    found["rightly_none"] = float(abstained and not pair.answered)
    found["wrongly_none"] = float(abstained and pair.answered)
    found["wrongly_some"] = float(not abstained and not pair.answered)
    if not pair.answered:
        return found
    answer = "" if abstained or failed else unmarked(str(record["answer"]))
    found |= _likeness(answer, pair.answer)
    if answer:
        found |= supported(answer, pair.contexts)
        quotes = [str(one["quote"]) for one in record["citations"]]
        found["cited"], found["on_gold"] = len(quotes), sum(on_gold(quote, pair.contexts) for quote in quotes)
    return found


def supported(answer: str, contexts: Sequence[str]) -> Counts:
    """How many sentences an answer has, and how many of them pass /ask's checks against the gold evidence.

    Each is checked as one that cites of every context the sentence that is nearest to it.
    """
    texts = [piece for context in contexts for piece in pieces(context)]
    verifier = Verifier([passage(text, number, "") for number, text in enumerate(texts, 1)])
    sentences = [one.text for one in split(answer)]
    right = 0
    for text in sentences:
        nearest = [verifier.evidence.best(text, [number]) for number in verifier.passages]
        cited = tuple((best[1].n, best[1].text) for best in nearest if best is not None and best[0] > 0)
        right += bool(cited) and verifier.check_claim(Claim(text, cited)).holds
    return {"sentences": float(len(sentences)), "supported": float(right)}


def on_gold(quote: str, contexts: Sequence[str]) -> bool:
    """Whether a quote has a sentence of the evidence, or the evidence one of the quote's."""
    return any(
        find(inner.text, outer)
        for context in contexts
        for inside, outer in ((quote, context), (context, quote))
        for inner in split(inside)
    )


def _likeness(answer: str, reference: str) -> Counts:
    """The n-grams of BLEU and the F1 of ROUGE-L."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(effective_order=True).sentence_score(answer, [reference])
    rouge = RougeScorer(["rougeL"], use_stemmer=True).score(reference, answer)["rougeL"].fmeasure
    values = [*bleu.counts, *bleu.totals, bleu.sys_len, bleu.ref_len]
    return {**dict(zip(_BLEU, map(float, values), strict=True)), "rouge": float(rouge), "rouged": 1.0}


# ---- figures of many questions ----


def matrix(rows: Sequence[Mapping[str, float]]) -> Floats:
    """``[questions, columns]``."""
    return np.array([[row[name] for name in COLUMNS] for row in rows], dtype=np.float64).reshape(-1, len(COLUMNS))


def figures(sums: Floats) -> dict[str, Floats]:
    """Every metric from ``[..., columns]`` of summed counts; not a number where nothing was counted for it."""
    at = {name: sums[..., place] for place, name in enumerate(COLUMNS)}

    def share(part: str, whole: Floats) -> Floats:
        return np.where(whole > 0, at[part] / np.maximum(whole, 1e-12), np.nan)

    right = at["rightly_none"]
    unanswerable, abstained = right + at["wrongly_some"], right + at["wrongly_none"]
    surprise = share("surprise", at["tokens"])
    return {
        "bleu_4": _bleu(at),
        "rouge_l": share("rouge", at["rouged"]),
        "factual_accuracy": share("supported", at["sentences"]),
        "citation_precision": share("on_gold", at["cited"]),
        "abstention_precision": share("rightly_none", abstained),
        "abstention_recall": share("rightly_none", unanswerable),
        "abstention_f1": np.where(unanswerable > 0, 2 * right / np.maximum(unanswerable + abstained, 1e-12), np.nan),
        "perplexity": np.exp(surprise),
        "depth": share("depth", at["judged"]),
    }


def _bleu(at: Mapping[str, Floats]) -> Floats:
    """BLEU from 0 to 100 with exponential smoothing (Chen and Cherry 2014, method 3), as sacrebleu computes it."""
    halved = np.ones_like(at["words"])
    logs, possible = np.zeros_like(halved), at["words"] > 0
    for n in range(1, ORDERS + 1):
        hits, all_ = at[f"hit_{n}"], at[f"ngram_{n}"]
        possible = possible & (all_ > 0)
        halved = np.where(hits == 0, halved * 2, halved)
        precision = np.where(hits > 0, hits, 1 / halved) / np.maximum(all_, 1)
        logs = logs + np.log(precision) / ORDERS
    possible = possible & (at["hit_1"] > 0)
    short = np.exp(np.minimum(0.0, 1 - at["reference_words"] / np.maximum(at["words"], 1)))
    score = np.where(possible, 100 * short * np.exp(logs), 0.0)
    return np.where(at["rouged"] > 0, score, np.nan)


def resampled(counts: Floats, *, rounds: int = ROUNDS, seed: int = 0) -> dict[str, Floats]:
    """Every metric of ``rounds`` draws of questions with replacement; one seed draws alike for every model."""
    rng, size = np.random.default_rng(seed), len(counts)
    parts = []
    for start in range(0, rounds, _AT_ONCE):
        drawn = [rng.integers(0, size, size) for _ in range(min(_AT_ONCE, rounds - start))]
        parts.append(np.stack([np.bincount(one, minlength=size) for one in drawn]).astype(np.float64) @ counts)
    return figures(np.concatenate(parts))


def estimates(counts: Floats, *, rounds: int = ROUNDS, seed: int = 0) -> dict[str, Estimate | None]:
    """Every metric with its 95% interval; None where it was not measured."""
    values, samples = figures(counts.sum(0)), resampled(counts, rounds=rounds, seed=seed)
    return {name: _estimate(float(values[name]), samples[name]) for name in METRICS}


def differences(first: Floats, second: Floats, *, rounds: int = ROUNDS, seed: int = 0) -> dict[str, Estimate | None]:
    """Every metric of ``first`` minus that of ``second`` on the same questions, with its paired 95% interval.

    Raises ValueError for other numbers of questions.
    """
    if first.shape != second.shape:
        raise ValueError(f"counts of {first.shape} and {second.shape} are not of the same questions")
    ones, others = (resampled(counts, rounds=rounds, seed=seed) for counts in (first, second))
    one, other = figures(first.sum(0)), figures(second.sum(0))
    return {name: _estimate(float(one[name] - other[name]), ones[name] - others[name]) for name in METRICS}


def _estimate(value: float, samples: Floats) -> Estimate | None:
    """None where the value is none; draws in which nothing was counted take no part."""
    known = samples[np.isfinite(samples)]
    if not np.isfinite(value) or not len(known):
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def verdict(name: str, found: Estimate) -> str:
    """``better``, ``worse`` or ``no difference beyond noise``."""
    sign = -1 if name in LOWER_IS_BETTER else 1
    low, high = sorted((sign * found.low, sign * found.high))
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no difference beyond noise"
