"""The reward of a run, with the check that nobody can game it: it stands before the first step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from finetune.dataset.expansion_augment import read_folder
from finetune.dataset.expansion_schema import Example
from finetune.grpo.config import GrpoConfig
from finetune.rewards import ask, ask_adversaries, qmd
from finetune.rewards.adversaries import Gold
from finetune.rewards.background import Background
from finetune.rewards.guard import Report, Reward, assert_no_adversary_beats_gold
from finetune.rewards.strict import StrictReward
from finetune.sft.data import DataFolder, open_folder, read_rows
from harness.errors import InputError
from skills.ask import prompt as ask_prompt
from skills.expand.prompt import Query, render_prompt

LEAST = 0.5
"""What a row's own answer must get of the reward for answers; rows that the checks refuse are not asked."""


@dataclass(frozen=True)
class Asked:
    """What the model is asked."""

    query: str
    """As the rewards know it."""
    prompt: str | tuple[dict[str, str], ...]
    """The text before the answer, or the chat that the tokenizer's template renders."""


@dataclass(frozen=True)
class Task:
    """What is asked, and how answers are judged."""

    train: tuple[Asked, ...]
    valid: tuple[Asked, ...]
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
    folder = open_folder(Path(config.data), config.contract)
    return _answers(config, folder) if config.contract == ask_prompt.CONTRACT else _expansions(config, folder)


def _expansions(config: GrpoConfig, folder: DataFolder) -> Task:
    train, valid = (_once(read_folder(folder.file(name)), config.left_out) for name in ("train", "valid"))
    _check(config, train, valid)
    background = Background.fit((one.full_query, one.output) for one in train)
    known: dict[str, Callable[[str, str], float]] = {"strict": StrictReward(background), "qmd": qmd.score_expansion}
    parts = {name: known[name] for name in config.rewards}
    gold = [Gold(one.full_query, one.output) for one in train]
    guard = assert_no_adversary_beats_gold(product(parts), gold, most=200, seed=config.seed)
    return Task(tuple(map(_expansion, train)), tuple(map(_expansion, valid)), parts, guard)


def _expansion(example: Example) -> Asked:
    query = Query(example.bare_query, example.intent or "", (example.asked,) if example.asked else ())
    return Asked(example.full_query, render_prompt(query))


def _answers(config: GrpoConfig, folder: DataFolder) -> Task:
    """Rows whose own answer gets less than ``LEAST`` are not asked: what the checks refuse cannot be reached."""
    sides = [[(_chat(row), row["completion"]) for _, row in read_rows(folder.file(name))] for name in ("train", "valid")]
    reward = ask.Ask([ask.Gold(asked.query, text) for side in sides for asked, text in side])
    kept = [[(asked, text) for asked, text in side if reward(asked.query, text) >= LEAST] for side in sides]
    _check(config, *kept)
    gold = [ask.Gold(asked.query, text) for asked, text in kept[0]]
    guard = assert_no_adversary_beats_gold(
        reward, cast(Any, gold), adversaries=cast(Any, ask_adversaries.ADVERSARIES), most=200, seed=config.seed
    )
    train, valid = (tuple(asked for asked, _ in side) for side in kept)
    return Task(train, valid, {"ask": reward}, guard)


def _chat(row: dict[str, Any]) -> Asked:
    messages = tuple({"role": str(one["role"]), "content": str(one["content"])} for one in row["prompt"])
    return Asked(ask.user_turn(row), messages)


def _check(config: GrpoConfig, train: Sequence[object], valid: Sequence[object]) -> None:
    if not train or not valid:
        raise InputError(f"{config.data}: has no queries for {'validation' if train else 'training'}", "build it again")


def _once(examples: Sequence[Example], left_out: Sequence[str]) -> list[Example]:
    """The first example of each query, but for those of some sources."""
    found: dict[str, Example] = {}
    for one in examples:
        if one.source not in left_out:
            found.setdefault(one.full_query.casefold(), one)
    return list(found.values())
