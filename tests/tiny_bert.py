"""A random-weights embedding model (BERT) in GGUF, and the same model in numpy: what llama.cpp makes of it can be checked.

Real embedding models mostly are of this kind: attention in both directions, positions learnt, vectors pooled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

WORDS = (
    "caches evict tokens graphs have nodes wheat grows in fields rye is cut when dry attention heads of memory query"
    " document . ?"
).split()
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN, START, END = 1, 2, 3
WIDTH, LAYERS, HEADS, INNER, CONTEXT, EPSILON = 64, 2, 4, 96, 64, 1e-12
MEAN, CLS = 1, 2
"""Poolings, as llama.cpp counts them."""

Array = np.ndarray[Any, np.dtype[np.float32]]


def weights(seed: int = 0) -> dict[str, Array]:
    """All tensors by llama.cpp's names, matrices as [out, in]."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return random.normal(0, 0.3, shape).astype(np.float32)

    tensors = {
        "token_embd.weight": normal(len(SPECIAL) + len(WORDS), WIDTH),
        "token_types.weight": normal(2, WIDTH),
        "position_embd.weight": normal(CONTEXT, WIDTH),
    }
    names = ["token_embd_norm"]
    for layer in range(LAYERS):
        for name, out, into in (
            *((f"attn_{part}", WIDTH, WIDTH) for part in ("q", "k", "v", "output")),
            ("ffn_up", INNER, WIDTH),
            ("ffn_down", WIDTH, INNER),
        ):
            tensors[f"blk.{layer}.{name}.weight"], tensors[f"blk.{layer}.{name}.bias"] = normal(out, into), normal(out)
        names += [f"blk.{layer}.attn_output_norm", f"blk.{layer}.layer_output_norm"]
    for name in names:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = 1 + normal(WIDTH), normal(WIDTH)
    return tensors


def write_tiny_bert(path: Path, *, pooling: int | None = MEAN, name: str = "tiny bert", seed: int = 0) -> Path:
    """Write the model to ``path`` and return the path. Without a ``pooling`` the file names none."""
    from gguf import GGUFWriter, TokenType

    writer = GGUFWriter(path, "bert")
    writer.add_name(name)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(EPSILON)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_uint32("bert.pooling_type", pooling)
    writer.add_tokenizer_model("bert")
    writer.add_token_list([*SPECIAL, *(f"▁{word}" for word in WORDS)])
    writer.add_token_types([TokenType.CONTROL] * len(SPECIAL) + [TokenType.NORMAL] * len(WORDS))
    writer.add_token_type_count(2)
    for key, number in (("unknown", UNKNOWN), ("bos", START), ("cls", START), ("seperator", END), ("eos", END)):
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", number)
    for key, tensor in weights(seed).items():
        writer.add_tensor(key, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def embed(text: str, *, pooling: int = MEAN, seed: int = 0) -> Array:
    """The unit vector of a text by the same weights, computed here."""
    tensors = weights(seed)
    known = [WORDS.index(word) + len(SPECIAL) if word in WORDS else UNKNOWN for word in text.split()]
    tokens = [START, *known, END]
    rows = tensors["token_embd.weight"][tokens] + tensors["token_types.weight"][0]
    rows = _normed(rows + tensors["position_embd.weight"][: len(tokens)], tensors, "token_embd_norm")
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        q, k, v = (
            _linear(rows, tensors, f"{block}attn_{part}").reshape(len(tokens), HEADS, -1).swapaxes(0, 1) for part in "qkv"
        )
        scores = q @ k.swapaxes(1, 2) / np.sqrt(WIDTH / HEADS)
        chances = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (chances / chances.sum(axis=-1, keepdims=True) @ v).swapaxes(0, 1).reshape(len(tokens), WIDTH)
        rows = _normed(rows + _linear(mixed, tensors, f"{block}attn_output"), tensors, f"{block}attn_output_norm")
        inner = _linear(rows, tensors, f"{block}ffn_up")
        inner = inner / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))  # GELU
        rows = _normed(rows + _linear(inner, tensors, f"{block}ffn_down"), tensors, f"{block}layer_output_norm")
    vector = rows[0] if pooling == CLS else rows.mean(axis=0)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def _linear(rows: Array, tensors: dict[str, Array], name: str) -> Array:
    return rows @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def _normed(rows: Array, tensors: dict[str, Array], name: str) -> Array:
    centred = rows - rows.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)
    return centred / spread * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]
