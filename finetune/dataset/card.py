"""The data card: what a data set holds, where it comes from, what was left out, and hashes of everything."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from finetune.dataset.contracts import Example, Labelled
from finetune.dataset.inputs import ORDER, Source

Split = Literal["train", "valid"]
SPLITS: tuple[Split, ...] = ("train", "valid")
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def quantiles(counts: Mapping[int, int]) -> dict[str, int]:
    """Quantiles of whole numbers that are given with how often each occurs: the least value that so many do not exceed.

    >>> quantiles({10: 1, 20: 2, 30: 1})["50%"]
    20
    """
    total = sum(counts.values())
    ordered = sorted(counts.items())
    found: dict[str, int] = {}
    for share in QUANTILES if total else ():
        passed = 0
        for value, count in ordered:
            passed += count
            if passed >= share * total:
                found[f"{share:.0%}"] = value
                break
    return found


class Statistics:
    """Counts over the papers and examples of a data set, in memory that does not grow with them."""

    def __init__(self, moves: Sequence[str]) -> None:
        self.moves = moves
        self.papers: dict[Split, Counter[Source]] = {split: Counter() for split in SPLITS}
        self.rows: Counter[Split] = Counter()
        self.notes: Counter[str] = Counter()
        self._lengths: dict[str, Counter[int]] = defaultdict(Counter)
        self._stated: dict[Split, Counter[str]] = {split: Counter() for split in SPLITS}
        self._sentences: dict[Split, Counter[str]] = {split: Counter() for split in SPLITS}
        self._all_sentences: Counter[Split] = Counter()

    def paper(self, split: Split, source: Source, paper: Labelled) -> None:
        """Count a paper."""
        self.papers[split][source] += 1
        self.notes.update(paper.notes)
        self._lengths["abstract_characters"][sum(map(len, paper.sentences)) + len(paper.sentences) - 1] += 1
        self._lengths["sentences"][len(paper.sentences)] += 1
        self._all_sentences[split] += len(paper.sentences)
        for move, (_, numbers) in paper.answer.items():
            self._stated[split][move] += 1
            self._sentences[split][move] += len(numbers)

    def example(self, split: Split, example: Example) -> None:
        """Count an example."""
        self.rows[split] += 1
        asked, answer = example["prompt"], example["completion"]
        size = len(asked) if isinstance(asked, str) else sum(len(message["content"]) for message in asked)
        self._lengths["prompt_characters"][size] += 1
        if isinstance(answer, str):
            self._lengths["completion_characters"][len(answer)] += 1
        else:
            self._lengths["completion_labels"][len(answer)] += 1

    def counts(self) -> dict[str, Any]:
        """Papers by split and source, and examples by split."""
        papers = {split: {source: self.papers[split][source] for source in ORDER} for split in SPLITS}
        return {"papers": papers, "examples": {split: self.rows[split] for split in SPLITS}}

    def lengths(self) -> dict[str, dict[str, int]]:
        """Quantiles of every length, over both splits."""
        return {name: quantiles(self._lengths[name]) for name in sorted(self._lengths)}

    def balance(self) -> dict[str, Any]:
        """For each split and move: papers that state it, their share, and the share of sentences that carry it."""
        return {split: {move: self._move(split, move) for move in self.moves} for split in SPLITS}

    def _move(self, split: Split, move: str) -> dict[str, float]:
        papers, sentences = self.papers[split].total(), self._all_sentences[split]
        stated, carrying = self._stated[split][move], self._sentences[split][move]
        return {
            "papers": stated,
            "papers_share": round(stated / papers, 4) if papers else 0.0,
            "sentences": carrying,
            "sentences_share": round(carrying / sentences, 4) if sentences else 0.0,
        }


def by_source(counts: Mapping[tuple[Source, str], int]) -> dict[str, dict[str, int]]:
    """Counts by source and reason, in a fixed order."""
    return {source: {r: n for (s, r), n in sorted(counts.items()) if s == source and n} for source in ORDER}


def lines(card: Mapping[str, Any]) -> Iterable[str]:
    """The card for people, a few lines."""
    for split in SPLITS:
        parts = ", ".join(f"{count} {source}" for source, count in card["papers"][split].items() if count) or "none"
        yield f"{split}: {card['examples'][split]} examples ({parts})"
    for source, reasons in card["dropped"].items():
        for reason, count in reasons.items():
            yield f"left out: {count} {source} rows: {reason}"
    for note, count in card["notes"].items():
        yield f"{count} papers {note}"
    for entry in card["held_out"]:
        found = ", ".join(f"{count} by {reason}" for reason, count in entry["rows_found"].items()) or "none"
        yield f"rows of {entry['file']} ({entry['papers']} papers) found: {found}"
    if not card["held_out"]:
        yield "leaks were not looked for: name the evaluation sets with --held-out"
