"""Causal attention for training on a CPU, in bf16: blocks of queries against the keys before them, as matrix products.

On a CPU with bf16 instructions torch 2.13's own kernel spends most of its time outside them: it was 46% of a training
step of the small base, more than twice what these products take. Blocks of queries see only the keys up to their end, which
saves the upper half of the scores (as in Dao et al. 2022, section 3.1); probabilities are kept for the backward pass in
16 bits. Padding stands on the right, where no real query looks, so there is no other mask.
"""

from __future__ import annotations

from typing import Any

import torch

NAME = "marginalia_blocks"
BLOCK = 128
"""Queries of a block: the scores of one example's block stay in the processor's cache."""


def _blocks(length: int) -> list[tuple[int, int]]:
    """``(start, end)`` of the blocks of queries.

    >>> _blocks(300)
    [(0, 128), (128, 256), (256, 300)]
    """
    return [(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]


class BlockAttention(torch.autograd.Function):  # type: ignore[misc]
    """``softmax(q kᵀ · scale) v`` with a causal mask. ``q`` is ``[n, group, length, width]``, ``k`` and ``v`` are
    ``[n, length, width]``: ``n`` pairs of example and key head, ``group`` query heads that share it."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, scale: float) -> Any:
        """The attended values, shaped as ``q``."""
        n, group, length, width = q.shape
        q = q * scale
        out, kept = torch.empty_like(q), []
        for start, end in _blocks(length):
            rows = end - start
            scores = torch.bmm(q[:, :, start:end].reshape(n, group * rows, width), k[:, :end].transpose(1, 2))
            later = torch.ones(rows, rows, dtype=torch.bool).triu(1)
            scores.view(n, group, rows, end)[..., start:].masked_fill_(later, float("-inf"))
            probabilities = torch._softmax(scores, -1, False)  # in 32 bits inside; autocast would keep it so outside too
            out[:, :, start:end] = torch.bmm(probabilities, v[:, :end]).view(n, group, rows, width)
            kept.append(probabilities)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        """Gradients of ``q``, ``k`` and ``v``; sums over blocks are taken in 32 bits."""
        q, k, v, *kept = ctx.saved_tensors
        n, group, length, width = q.shape
        grad = grad.to(q.dtype)
        wide = torch.promote_types(q.dtype, torch.float32)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
        for (start, end), probabilities in zip(_blocks(length), kept, strict=True):
            rows = group * (end - start)
            above = grad[:, :, start:end].reshape(n, rows, width)
            dv[:, :end] += torch.bmm(probabilities.transpose(1, 2), above)
            scores = torch.bmm(above, v[:, :end].transpose(1, 2))
            scores = torch._softmax_backward_data(scores, probabilities, -1, q.dtype)
            dq[:, :, start:end] = torch.bmm(scores, k[:, :end]).view(n, group, end - start, width)
            dk[:, :end] += torch.bmm(scores.transpose(1, 2), q[:, :, start:end].reshape(n, rows, width))
        return dq.mul_(ctx.scale), dk.to(k.dtype), dv.to(v.dtype), None


def attend(q: Any, k: Any, v: Any, scale: float) -> Any:
    """Causal attention of ``q`` ``[batch, heads, length, width]`` to as many or fewer heads of ``k`` and ``v``."""
    batch, heads, length, width = q.shape
    shared = batch * k.shape[1]
    keys, values = (x.reshape(shared, length, width) for x in (k, v))
    return BlockAttention.apply(q.reshape(shared, -1, length, width), keys, values, scale).view(batch, heads, length, width)


def _forward(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> tuple[Any, None]:
    """Transformers' interface: the result is ``[batch, length, heads, width]``."""
    if (
        attention_mask is not None
        or options.get("dropout")
        or options.get("sliding_window")
        or query.shape[2] != key.shape[2]
    ):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        attended: tuple[Any, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return attended
    query, key = query.to(value.dtype), key.to(value.dtype)  # a norm with 32-bit weights leaves 32 bits under autocast
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    return attend(query, key, value, scale).transpose(1, 2).contiguous(), None


def register() -> str:
    """Make it known to transformers; returns the name for ``attn_implementation``."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
