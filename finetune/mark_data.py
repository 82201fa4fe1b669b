"""Examples for contract ``annotate/mark@1``: token ids, where the marks stand, and what each mark should be.

Gold papers, pseudo-labelled papers (soft targets) and papers with sentence roles (an auxiliary task on the same hidden
states, not part of the shipped model) become the same ``Example``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skills.annotate import mark

ROLES = ("background", "objective", "method", "result", "other")


@dataclass(frozen=True)
class Labels:
    """The label vocabulary: ``sets[i]`` is the set of moves that label token i names."""

    moves: tuple[str, ...]
    sets: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, papers: Iterable[Mapping[str, Any]], moves: Sequence[str], least: int) -> Labels:
        """Nothing, every single move, and every set that at least ``least`` sentences of the papers carry."""
        counts = Counter(stated for paper in papers for stated in sentence_sets(paper, moves))
        sets = {(), *((move,) for move in moves), *(stated for stated, count in counts.items() if count >= least)}
        return cls(tuple(moves), tuple(sorted(sets, key=lambda s: (len(s), [list(moves).index(m) for m in s]))))

    @property
    def tokens(self) -> list[str]:
        """The label tokens in order."""
        return [mark.label(stated) for stated in self.sets]

    @property
    def matrix(self) -> NDArray[np.float32]:
        """``[labels, moves]``, 1 where the label names the move."""
        return np.array([[move in stated for move in self.moves] for stated in self.sets], dtype=np.float32)

    def nearest(self, stated: Sequence[str]) -> int:
        """The label of a set, or of the most similar set (Jaccard) where it has no token of its own."""
        wanted = set(stated)

        def similarity(index: int) -> float:
            own = set(self.sets[index])
            return len(wanted & own) / len(wanted | own) if wanted | own else 1.0

        return max(range(len(self.sets)), key=similarity)


@dataclass(frozen=True)
class Example:
    """One abstract: token ids, positions of its mark tokens, and targets.

    ``targets`` is ``[marks, labels]`` (a distribution a sentence); ``roles`` is ``[marks]`` with -1 for no role. One of
    the two is None.
    """

    ids: NDArray[np.int32]
    marks: NDArray[np.int32]
    targets: NDArray[np.float32] | None = None
    roles: NDArray[np.int32] | None = None


def sentence_sets(paper: Mapping[str, Any], moves: Sequence[str]) -> list[tuple[str, ...]]:
    """The set of moves of each sentence of a gold paper."""
    stated = paper["moves"]
    return [
        tuple(move for move in moves if number in (stated.get(move) or ()))
        for number in range(1, len(paper["sentences"]) + 1)
    ]


class Encoder:
    """Turns papers into examples with one tokenizer."""

    def __init__(self, tokenizer: Any, labels: Labels) -> None:
        self.tokenizer, self.labels = tokenizer, labels
        self.mark_id = tokenizer.convert_tokens_to_ids(mark.MARK)

    def encode(self, title: str, sentences: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Ids of the whole transcript and the positions of its marks."""
        text = mark.first_pass(title, sentences) + "".join(mark.steps(sentences))
        ids = np.array(self.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int32)
        marks = np.flatnonzero(ids == self.mark_id).astype(np.int32)
        if len(marks) != len(sentences):
            raise ValueError(f"{len(marks)} marks for {len(sentences)} sentences")
        return ids, marks

    def gold(self, paper: Mapping[str, Any], *, title: bool = True) -> Example:
        """A paper with hard labels."""
        ids, marks = self.encode(str(paper.get("title") or "") if title else "", paper["sentences"])
        targets = np.zeros((len(marks), len(self.labels.sets)), dtype=np.float32)
        for row, stated in enumerate(sentence_sets(paper, self.labels.moves)):
            targets[row, self.labels.nearest(stated)] = 1
        return Example(ids, marks, targets)

    def soft(self, title: str, sentences: Sequence[str], targets: NDArray[np.float32]) -> Example:
        """A paper with a teacher's distribution for each sentence."""
        ids, marks = self.encode(title, sentences)
        return Example(ids, marks, targets)

    def roles(self, document: Mapping[str, Any]) -> Example:
        """A document whose sentences carry rhetorical roles instead of moves."""
        ids, marks = self.encode("", document["sentences"])
        roles = [ROLES.index(role) if role in ROLES else -1 for role in document["labels"]]
        return Example(ids, marks, roles=np.array(roles, dtype=np.int32))


def batches(
    examples: Sequence[Example], papers: int, rng: random.Random, multiple: int = 64
) -> Iterator[tuple[NDArray[np.int64], list[Example]]]:
    """Shuffled batches of about equal length, padded on the right to a multiple (causal attention needs no mask)."""
    order = list(range(len(examples)))
    rng.shuffle(order)
    pool = papers * 8
    groups = []
    for start in range(0, len(order), pool):
        part = sorted(order[start : start + pool], key=lambda index: len(examples[index].ids))
        groups += [part[i : i + papers] for i in range(0, len(part), papers)]
    rng.shuffle(groups)
    for group in groups:
        chosen = [examples[index] for index in group]
        yield pad(chosen, multiple), chosen


def pad(examples: Sequence[Example], multiple: int = 64) -> NDArray[np.int64]:
    """Id rows of equal length; the padding is token 0, which no real position ever attends to."""
    longest = max(len(example.ids) for example in examples)
    width = -(-longest // multiple) * multiple
    rows = np.zeros((len(examples), width), dtype=np.int64)
    for row, example in enumerate(examples):
        rows[row, : len(example.ids)] = example.ids
    return rows


def noisy(rows: NDArray[np.int64], rate: float, vocabulary: int, keep: int, rng: np.random.Generator) -> None:
    """Replace a share of the ids by random words, in place; specials and the ``keep`` token stay (word dropout)."""
    chosen = (rng.random(rows.shape) < rate) & (rows > 2) & (rows != keep)
    rows[chosen] = rng.integers(259, vocabulary, size=int(chosen.sum()))
