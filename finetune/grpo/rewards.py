"""The reward of a run, with the check that nobody can game it: it stands before the first step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.dataset.expansion_augment import read_folder
from finetune.dataset.expansion_schema import Example
from finetune.grpo.config import GrpoConfig
from finetune.rewards import qmd
from finetune.rewards.adversaries import Gold
from finetune.rewards.background import Background
from finetune.rewards.guard import Report, Reward, assert_no_adversary_beats_gold
from finetune.rewards.strict import StrictReward
from finetune.sft.data import open_folder
from harness.errors import InputError
from skills.expand.prompt import CONTRACT


@dataclass(frozen=True)
class Task:
    """What is asked, and how answers are judged."""

    train: tuple[Example, ...]
    valid: tuple[Example, ...]
    parts: dict[str, Reward]
    """The rewards by name; their product counts."""
    guard: Report
    """What gold and the adversaries get of the product."""

    def reward(self, query: str, text: str) -> float:
        """0 to 1: the product."""
        return product(self.parts)(query, text)


def product(parts: dict[str, Reward]) -> Reward:
    """One reward out of several: who fails one fails."""
    return lambda query, text: math.prod(part(query, text) for part in parts.values())


def read_task(config: GrpoConfig) -> Task:
    """The task of a data folder. Raises InputError where an adversary beats gold, or a split has no query."""
    folder = open_folder(Path(config.data), CONTRACT)
    train, valid = (_once(read_folder(folder.file(name)), config.left_out) for name in ("train", "valid"))
    if not train or not valid:
        raise InputError(f"{config.data}: has no queries for {'validation' if train else 'training'}", "build it again")
    background = Background.fit((one.full_query, one.output) for one in train)
    known: dict[str, Callable[[str, str], float]] = {"strict": StrictReward(background), "qmd": qmd.score_expansion}
    parts = {name: known[name] for name in config.rewards}
    gold = [Gold(one.full_query, one.output) for one in train]
    guard = assert_no_adversary_beats_gold(product(parts), gold, most=200, seed=config.seed)
    return Task(tuple(train), tuple(valid), parts, guard)


def _once(examples: Sequence[Example], left_out: Sequence[str]) -> list[Example]:
    """The first example of each query, but for those of some sources."""
    found: dict[str, Example] = {}
    for one in examples:
        if one.source not in left_out:
            found.setdefault(one.full_query.casefold(), one)
    return list(found.values())
