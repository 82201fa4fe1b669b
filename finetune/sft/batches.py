"""The order of the examples: steps of about equal length, micro-batches within a step, all from (seed, epoch) alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from finetune.sft.data import Example

MULTIPLE = 32
"""Batches are padded to a multiple of so many tokens: oneDNN compiles, and keeps, kernels for every shape that it meets."""


def padded(length: int) -> int:
    """A length with its padding."""
    return -(-length // MULTIPLE) * MULTIPLE


class StepSampler:
    """Yields the example indices of each optimizer step of an epoch, longest first within a step.

    ``group`` steps are sorted by length together and then shuffled, so that a step pads little and the order stays random;
    0 leaves the random order. The order depends on ``seed`` and epoch only, which is what a resumed run relies on. With
    several processes each takes every ``world``-th example of a step and an incomplete last step is left out.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch: int,
        group: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        *,
        shuffle: bool = True,
    ) -> None:
        self.lengths, self.batch, self.group, self.seed = lengths, batch, group, seed
        self.rank, self.world, self.shuffle, self.epoch = rank, world, shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration is of."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole = len(self.lengths) // self.batch
        return whole if self.world > 1 else -(-len(self.lengths) // self.batch)

    def steps(self) -> list[list[int]]:
        """All steps of the epoch, for all processes."""
        order = list(range(len(self.lengths)))
        rng = random.Random(f"{self.seed}/{self.epoch}")
        if self.shuffle:
            rng.shuffle(order)
        pool = self.batch * self.group or self.batch
        steps = []
        for start in range(0, len(order), pool):
            part = order[start : start + pool]
            if self.group:
                part.sort(key=lambda index: -self.lengths[index])
            steps += [part[i : i + self.batch] for i in range(0, len(part), self.batch)]
        if self.shuffle and self.group > 1:
            rng.shuffle(steps)
        return steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps():
            if self.world == 1:
                yield step
            elif len(step) == self.batch:
                yield step[self.rank :: self.world]


def split_step(lengths: Sequence[int], most: int, tokens: int = 0) -> list[slice]:
    """Cut a step into micro-batches of at most ``most`` examples and ``tokens`` padded tokens (0: no limit).

    An example that alone has more tokens is a micro-batch of its own.

    >>> [len(range(8)[part]) for part in split_step([90, 80, 40, 40, 30, 30, 9, 9], most=4, tokens=160)]
    [1, 1, 2, 4]
    """
    parts, start, widest = [], 0, 0
    for index, length in enumerate(lengths):
        widest_now = max(widest, padded(length))
        full = index - start >= most or (tokens and widest_now * (index - start + 1) > tokens)
        if index > start and full:
            parts.append(slice(start, index))
            start, widest_now = index, padded(length)
        widest = widest_now
    return [*parts, slice(start, len(lengths))]


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, Any]:
    """One micro-batch: ``input_ids`` ``[n, width]``, ``where`` the flat indices of the trained positions, ``targets``.

    Padding stands on the right, where causal attention never looks from a real token, so no attention mask is needed.
    """
    import torch

    width = padded(max(len(example.ids) for example in examples))
    rows = np.full((len(examples), width), pad_id, dtype=np.int64)
    for row, example in enumerate(examples):
        rows[row, : len(example.ids)] = example.ids
    where = np.concatenate([row * width + example.positions for row, example in enumerate(examples)])
    targets = np.concatenate([example.targets for example in examples])
    return {
        "input_ids": torch.from_numpy(rows),
        "where": torch.from_numpy(where),
        "targets": torch.from_numpy(targets),
        "tokens": sum(len(example.ids) for example in examples),
    }


def padding_share(sampler: StepSampler, most: int, tokens: int) -> float:
    """Padding over all positions of an epoch's micro-batches."""
    real = total = 0
    for step in sampler.steps():
        lengths = [sampler.lengths[index] for index in step]
        for part in split_step(lengths, most, tokens):
            real += sum(lengths[part])
            total += padded(max(lengths[part])) * len(lengths[part])
    return 1 - real / total if total else 0.0
