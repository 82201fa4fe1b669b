"""What a Hugging Face configuration means in GGUF: architecture, tensor names, shape and RoPE keys, Llama's row order.

Anything that llama.cpp would compute differently from transformers is refused rather than left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter
    from numpy.typing import NDArray

ARCHITECTURES = {"Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3", "LlamaForCausalLM": "llama"}
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
ROPE_FACTORS = "rope_freqs.weight"
"""GGUF's name of the vector that Llama 3's RoPE scaling becomes."""
OUTER = {EMBEDDING: "token_embd.weight", "model.norm.weight": "output_norm.weight", HEAD: "output.weight"}
MATRICES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
QUERY_KEY_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}


def tensor_names(architecture: str, layers: int, *, tied: bool) -> dict[str, str]:
    """Hugging Face name → GGUF name of every tensor that a model of this shape has, in the order of the file."""
    inside = {f"{name}.weight": f"{short}.weight" for name, short in {**NORMS, **MATRICES}.items()}
    if architecture == "qwen2":
        inside |= {f"self_attn.{x}_proj.bias": f"attn_{x}.bias" for x in "qkv"}
    elif architecture == "qwen3":
        inside |= {f"{name}.weight": f"{short}.weight" for name, short in QUERY_KEY_NORMS.items()}
    names = {name: short for name, short in OUTER.items() if not (tied and name == HEAD)}
    for layer in range(layers):
        names |= {f"model.layers.{layer}.{name}": f"blk.{layer}.{short}" for name, short in inside.items()}
    return names


def architecture_of(config: Mapping[str, Any], where: Path) -> str:
    """The GGUF architecture; InputError for anything that llama.cpp would compute differently."""
    names = config.get("architectures") or ["none"]
    if names[0] not in ARCHITECTURES:
        raise InputError(f"{where}: architecture {names[0]} cannot be converted", f"known: {', '.join(ARCHITECTURES)}")
    odd = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "use_sliding_window": bool(config.get("use_sliding_window")),
        "attention_bias": bool(config.get("attention_bias")),  # Qwen2's own biases are not an option of its config
        "mlp_bias": bool(config.get("mlp_bias")),
        "quantization_config": bool(config.get("quantization_config")),
    }
    if strange := [key for key, wrong in odd.items() if wrong]:
        raise InputError(f"{where}: {strange[0]} = {config[strange[0]]!r} cannot be converted", "use a plain model")
    return ARCHITECTURES[names[0]]


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether the output head is the embedding matrix."""
    return bool(config.get("tie_word_embeddings"))


def head_width(config: Mapping[str, Any]) -> int:
    """Width of one attention head."""
    return int(config.get("head_dim") or int(config["hidden_size"]) // int(config["num_attention_heads"]))


def _rope(config: Mapping[str, Any], where: Path) -> tuple[str, dict[str, Any]]:
    """Kind and values of RoPE; transformers 5 keeps all in ``rope_parameters``, older ones in two keys."""
    rope = config.get("rope_parameters") or {
        "rope_theta": config.get("rope_theta", 10000.0),
        **(config.get("rope_scaling") or {}),
    }
    kind = rope.get("rope_type", rope.get("type", "default"))
    known = ("default", "linear", "yarn", "llama3")
    if kind not in known:
        raise InputError(f"{where}: RoPE scaling {kind!r} cannot be converted", f"known: {', '.join(known)}")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(f"{where}: partial_rotary_factor cannot be converted", "use a model that rotates whole heads")
    return kind, rope


def _add_rope(writer: GGUFWriter, config: Mapping[str, Any], where: Path) -> None:
    import gguf

    kind, rope = _rope(config, where)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    if kind not in {"linear", "yarn"}:  # llama3's scaling is a tensor of its own
        return
    writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
    writer.add_rope_scaling_factor(float(rope["factor"]))
    if kind == "linear":
        return
    writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
    for key, add in (
        ("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
        ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
        ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
    ):
        if rope.get(key) is not None:
            add(float(rope[key]))


def rope_factors(config: Mapping[str, Any], where: Path) -> NDArray[np.float32] | None:
    """What llama.cpp divides each RoPE frequency by, for Llama 3's scaling; None for every other.

    Long wavelengths are divided by ``factor``, short ones kept, those between interpolated (Llama 3.1; the formula is that
    of transformers' ``_compute_llama3_parameters``). Float32 throughout, and a quotient of a number and a tensor is the
    number times the reciprocal, as torch computes it: the bits are those of llama.cpp's converter.
    """
    import numpy as np

    kind, rope = _rope(config, where)
    if kind != "llama3":
        return None
    f32 = np.float32
    width = head_width(config)
    factor, low, high, context = (
        float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    frequencies = f32(1) / np.power(f32(rope["rope_theta"]), np.arange(0, width, 2, dtype=f32) / f32(width))
    wavelengths = (f32(1) / frequencies) * f32(2 * math.pi)
    smooth = ((f32(1) / wavelengths) * f32(context) - f32(low)) / f32(high - low)
    between = f32(1) / ((f32(1) - smooth) / f32(factor) + smooth)
    long = np.where(wavelengths > f32(context / low), f32(factor), between)
    return np.where(wavelengths < f32(context / high), f32(1), long).astype(f32)


def add_shape(writer: GGUFWriter, config: Mapping[str, Any], where: Path) -> None:
    """Every key of the model's shape that llama.cpp reads. KeyError names one that the configuration lacks."""
    heads = int(config["num_attention_heads"])
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    if head_dim := config.get("head_dim"):
        writer.add_key_length(int(head_dim))
        writer.add_value_length(int(head_dim))
    if writer.arch == "llama":
        writer.add_vocab_size(int(config["vocab_size"]))
        writer.add_rope_dimension_count(head_width(config))
    _add_rope(writer, config, where)


def heads_to_permute(architecture: str, name: str, config: Mapping[str, Any]) -> int:
    """How many heads a tensor's rows must be reordered in: Llama's queries and keys; 0 for every other tensor.

    transformers rotates the halves of a head against each other, llama.cpp's Llama neighbouring rows.
    """
    heads = int(config["num_attention_heads"])
    if architecture != "llama":
        return 0
    if name.endswith("self_attn.q_proj.weight"):
        return heads
    return int(config.get("num_key_value_heads") or heads) if name.endswith("self_attn.k_proj.weight") else 0


def permuted(weights: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of each head from halves to neighbours: 0, n/2, 1, n/2 + 1 …"""
    rows, columns = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
