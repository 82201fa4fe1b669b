"""GRPO's numbers (Shao et al. 2024, "DeepSeekMath", section 4.1): advantages within a group, and the loss of a batch.

One gradient step is made on each set of answers (their mu = 1), so the policy that wrote them is the one that learns: the
ratio of both is 1 and its clipping never acts. What remains of their equation 3 is, for each token,

    - (ratio * advantage - beta * divergence)

averaged over the tokens of an answer and then over the answers. Pure functions of tensors.
"""

from __future__ import annotations

from typing import Any

import torch

SPREAD = 1e-4
"""Added to a group's standard deviation: answers that are worth the same differ by rounding only."""


def advantages(rewards: Any) -> Any:
    """``[queries, generations]`` rewards as deviations from their group's mean, in its standard deviations.

    >>> advantages(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).round(decimals=2).tolist()
    [[1.0, -1.0], [0.0, 0.0]]
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (rewards.std(1, correction=0, keepdim=True) + SPREAD)


def divergence(logp: Any, reference: Any) -> Any:
    """Of the policy from the reference, for each token: ``r - log r - 1`` with ``r`` the reference's probability over the
    policy's (Schulman 2020): never negative, and KL(policy | reference) in the mean."""
    log_ratio = reference - logp
    return torch.exp(log_ratio) - log_ratio - 1


def answer_means(values: Any, lengths: Any) -> Any:
    """The mean of each answer's tokens. ``values`` are those of all answers in a row, ``lengths`` how many each has."""
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=values.device), lengths)
    return torch.zeros(len(lengths), dtype=values.dtype, device=values.device).index_add(0, owner, values) / lengths


def losses(logp: Any, reference: Any, advantage: Any, lengths: Any, beta: float) -> tuple[Any, Any]:
    """The loss of each answer, and its divergence (detached).

    ``logp`` and ``reference`` are log-probabilities of all answers' tokens in a row, ``advantage`` and ``lengths`` have one
    value an answer.
    """
    ratio = torch.exp(logp - logp.detach())
    away = divergence(logp, reference)
    surrogate = answer_means(ratio * torch.repeat_interleave(advantage, lengths), lengths)
    apart = answer_means(away, lengths)
    return beta * apart - surrogate, apart.detach()
