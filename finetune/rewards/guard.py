"""The check before training: no adversary may reach what the worst tenth of gold gets. See ``adversaries.py``."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from finetune.rewards.adversaries import ADVERSARIES, Adversary, Gold
from harness.errors import InputError

Reward = Callable[[str, str], float]
"""From a query and a model's output to a number."""
LEAST_GOLD = 20
"""Examples below which a decile means nothing."""


class Spread(NamedTuple):
    """How the rewards of many outputs are distributed."""

    mean: float
    low: float
    """The first decile."""
    middle: float
    high: float
    """The ninth decile."""

    @classmethod
    def of(cls, rewards: Sequence[float]) -> Spread:
        """Of at least one reward; deciles are those of the nearest rank."""
        ordered = sorted(rewards)
        low, middle, high = (ordered[round((len(ordered) - 1) * share)] for share in (0.1, 0.5, 0.9))
        return cls(sum(ordered) / len(ordered), low, middle, high)


class Report(NamedTuple):
    """What gold and each adversary got."""

    gold: Spread
    adversaries: dict[str, Spread]

    @property
    def winners(self) -> list[str]:
        """The adversaries whose mean reaches the first decile of gold."""
        return [name for name, spread in self.adversaries.items() if spread.mean >= self.gold.low]

    def table(self) -> str:
        """The distributions for people."""
        head = f"{'':24}{'mean':>7}{'10%':>7}{'50%':>7}{'90%':>7}"
        rows = [("gold", self.gold), *self.adversaries.items()]
        lines = [f"{name:24}" + "".join(f"{value:7.3f}" for value in spread) for name, spread in rows]
        return "\n".join([head, *lines])


def face_adversaries(
    reward: Reward,
    gold: Sequence[Gold],
    *,
    adversaries: Mapping[str, Adversary] = ADVERSARIES,
    most: int = 300,
    seed: int = 0,
) -> Report:
    """Score gold and what each adversary makes of it; of more than ``most`` examples a seeded sample.

    Raises InputError where there are too few examples to say anything.
    """
    if len(gold) < LEAST_GOLD:
        raise InputError(f"{len(gold)} gold expansions are too few to test a reward", f"give {LEAST_GOLD} or more")
    dice = random.Random(seed)
    some = dice.sample(gold, most) if len(gold) > most else gold
    faced = {
        name: Spread.of([reward(one.query, adversary(one, some, dice)) for one in some])
        for name, adversary in adversaries.items()
    }
    return Report(Spread.of([reward(one.query, one.text) for one in some]), faced)


def assert_no_adversary_beats_gold(
    reward: Reward,
    gold: Sequence[Gold],
    *,
    adversaries: Mapping[str, Adversary] = ADVERSARIES,
    most: int = 300,
    seed: int = 0,
) -> Report:
    """The report where every adversary's mean reward stays below the first decile of gold.

    Raises InputError, naming the adversaries that do not: training on this reward would learn them.
    """
    report = face_adversaries(reward, gold, adversaries=adversaries, most=most, seed=seed)
    if winners := report.winners:
        told = ", ".join(f"{name} ({report.adversaries[name].mean:.3f})" for name in winners)
        raise InputError(
            f"the reward can be gamed: gold's worst decile gets {report.gold.low:.3f}, and so does {told}",
            "train on finetune/rewards/strict.py with clean gold (finetune/dataset/clean_data.py)",
        )
    return report
