"""What a run will hold in memory, part by part, from the base's ``config.json`` alone: no weights, no GPU.

Parameters are counted on a model of shapes only (torch's meta device). Activations are what the backward pass of one
micro-batch keeps, after Korthikanti et al. (2022, section 4.1) with the tensors of a SwiGLU block, attention that keeps no
score matrix (Dao et al. 2022), and the input of every adapted layer once more for its dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune.sft.config import SftConfig

NF4_BLOCK = 64
"""Weights that share a scale (bitsandbytes)."""
NF4_SCALES = 256
"""Scales that share a scale under double quantisation."""
RUNTIME = {"cpu": 750e6, "cuda": 600e6}
"""Bytes of Python with torch and transformers; of a CUDA context with its libraries' work space."""
LOGIT_BYTES = 2 + 4 + 4 + 4
"""Of one logit: in 16 bits, as float32, its log-softmax and its gradient."""


@dataclass(frozen=True)
class Sizes:
    """Counts of parameters, and the widths that activations follow."""

    linear: int
    """In the linear layers that are quantised (all but the output layer)."""
    other: int
    """Embeddings, output layer, norms."""
    adapter: int
    """Trained values, new tokens apart: those of the adapter, or all."""
    rows: int
    """Trained values in the rows of new tokens."""
    largest: int
    """Parameters of the largest linear layer: dequantised as a whole when it is used."""
    layers: int
    hidden: int
    heads: int
    """Width of all queries together."""
    kv: int
    """Width of all keys together."""
    ffn: int
    vocab: int
    adapted_inputs: int
    """Widths of the inputs of the adapted layers of one block, summed."""

    @property
    def parameters(self) -> int:
        """Of the base."""
        return self.linear + self.other


def measure(shape: Mapping[str, Any], config: SftConfig, new_tokens: int = 0) -> Sizes:
    """Counts for a base of this ``config.json`` under a configuration's adapter."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {
        key: value for key, value in shape.items() if key not in {"model_type", "architectures", "transformers_version"}
    }
    described = AutoConfig.for_model(shape["model_type"], **values)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(described)
    head = model.get_output_embeddings()
    linears = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head}
    everything = config.lora_targets == ("all-linear",)
    adapted = [m for name, m in linears.items() if everything or name.rpartition(".")[2] in config.lora_targets]
    linear = sum(m.weight.numel() for m in linears.values())
    layers = described.num_hidden_layers
    head_dim = getattr(described, "head_dim", None) or described.hidden_size // described.num_attention_heads
    total = sum(p.numel() for p in model.parameters())
    adapter = sum(config.lora_r * (m.in_features + m.out_features) for m in adapted)
    return Sizes(
        linear=linear,
        other=total - linear + new_tokens * described.hidden_size,
        adapter=total if config.tuning == "full" else adapter,
        rows=new_tokens * described.hidden_size * (1 if described.tie_word_embeddings else 2),
        largest=max(m.weight.numel() for m in linears.values()),
        layers=layers,
        hidden=described.hidden_size,
        heads=described.num_attention_heads * head_dim,
        kv=described.num_key_value_heads * head_dim,
        ffn=described.intermediate_size,
        vocab=described.vocab_size + new_tokens,
        adapted_inputs=sum(m.in_features for m in adapted) // layers,
    )


def block_bytes(sizes: Sizes, width: int, dropout: bool) -> int:
    """What the backward pass of one block keeps for each token; ``width`` is bytes of a 16- or 32-bit value."""
    norms = 2 * sizes.hidden * (2 * width + 4)  # input, float32 copy and result of both norms
    attention = width * (4 * sizes.heads + 4 * sizes.kv)  # queries and keys before and after rotation, values, result
    mlp = width * 4 * sizes.ffn  # gate, its SiLU, up, their product
    adapters = sizes.adapted_inputs * (width + (width + 1 if dropout else 0))
    return norms + attention + mlp + adapters


def estimate(sizes: Sizes, config: SftConfig, device: str, precision: str, tokens: int, trained: int) -> dict[str, float]:
    """Bytes by part for a micro-batch of ``tokens`` (padding included) of which ``trained`` carry loss."""
    width = 4 if precision == "fp32" else 2
    scale = 1 / NF4_BLOCK + 4 / (NF4_BLOCK * NF4_SCALES) if config.double_quant else 4 / NF4_BLOCK
    quantised = config.quantize == "nf4"
    trainable = sizes.adapter + sizes.rows
    blocks = block_bytes(sizes, width, config.lora_dropout > 0)
    kept = sizes.layers * sizes.hidden * width + blocks if config.gradient_checkpointing else sizes.layers * blocks
    base = 0.0 if config.tuning == "full" else sizes.linear * ((0.5 + scale) if quantised else width) + sizes.other * width
    return {
        "base weights": base,
        "one layer, dequantised": sizes.largest * width if quantised else 0.0,
        config.product: trainable * 4.0,
        "gradients": trainable * 4.0,
        "optimizer": trainable * 8.0,
        "activations": float(tokens * kept),
        "logits": float(trained * sizes.vocab * LOGIT_BYTES),
        "runtime": RUNTIME[device],
    }


def checkpoint_bytes(sizes: Sizes) -> int:
    """One checkpoint on disk: adapter and two moments of the optimizer in float32, and the tokenizer."""
    return (sizes.adapter + sizes.rows) * 12 + 12_000_000


def readable(size: float) -> str:
    """``640 MB``, ``6.1 GB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
