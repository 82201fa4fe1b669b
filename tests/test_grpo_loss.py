"""The numbers of GRPO: advantages within a group, the divergence, and the gradient that a batch gives."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the finetune extra")

from finetune.grpo.loss import advantages, answer_means, divergence, losses  # noqa: E402


def test_advantages_are_standardised_within_their_group() -> None:
    found = advantages(torch.tensor([[0.2, 0.4, 0.6, 0.8], [10.0, 10.0, 10.0, 10.0]]))
    assert found.mean(1).abs().max() < 1e-6
    assert found[0].std(correction=0).item() == pytest.approx(1.0, abs=1e-3)
    assert found[1].tolist() == [0.0] * 4  # worth the same: nothing to learn


def test_the_divergence_is_zero_for_equals_and_never_negative() -> None:
    logp = torch.log(torch.tensor([0.1, 0.5, 0.9]))
    assert divergence(logp, logp).tolist() == [0.0] * 3
    assert (divergence(logp, torch.log(torch.tensor([0.3, 0.2, 0.89]))) > 0).all()


def test_the_divergence_is_kl_in_the_mean() -> None:
    policy, reference = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    kl = (policy * (policy / reference).log()).sum()
    mean = (policy * divergence(policy.log(), reference.log())).sum()
    assert mean.item() == pytest.approx(kl.item(), abs=1e-6)


def test_each_answer_counts_once_whatever_its_length() -> None:
    values, lengths = torch.tensor([1.0, 1.0, 4.0]), torch.tensor([2, 1])
    assert answer_means(values, lengths).tolist() == [1.0, 4.0]


def test_the_gradient_is_that_of_the_policy_gradient_with_its_penalty() -> None:
    """By hand: d/dlogp of -(ratio A - beta (e^(ref-logp) - (ref-logp) - 1)) at ratio 1 is -A + beta (1 - e^(ref-logp))."""
    logp = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    reference = torch.tensor([-1.5, -1.0, -0.5])
    advantage, lengths, beta = torch.tensor([2.0, -1.0]), torch.tensor([2, 1]), 0.1
    loss, apart = losses(logp, reference, advantage, lengths, beta)
    loss.sum().backward()
    by_hand = [
        (-2.0 + beta * (1 - math.exp(-0.5))) / 2,
        (-2.0 + beta * (1 - math.exp(1.0))) / 2,
        1.0,
    ]
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx(by_hand, abs=1e-6)
    assert not apart.requires_grad


def test_what_is_better_than_its_group_becomes_likelier() -> None:
    scores = torch.zeros(3, requires_grad=True)
    rewards = torch.tensor([[1.0, 0.0, 0.0]])
    logp = torch.log_softmax(scores, 0)
    loss, _ = losses(logp, logp.detach(), advantages(rewards).flatten(), torch.ones(3, dtype=torch.int64), 0.04)
    loss.sum().backward()
    assert scores.grad is not None
    assert scores.grad[0] < 0 < scores.grad[1]
