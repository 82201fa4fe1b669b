"""A random-weights chat model in GGUF, made in a fraction of a second: for tests and for benchmarks of the runtime.

It has everything a real one has (Qwen architecture, byte-level BPE, special tokens, a ChatML template), so llama.cpp
takes it as such; what it writes is noise, but the same noise for the same seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter

    Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
COMMON_WORDS = (
    "the of and to in a is we for that with on as this are by model method results data paper show learning using "
    "from an our language based which models can it large however training propose performance task new approach"
)

Words = tuple[list[str], list[str]]
"""Tokens and merges of a byte-level BPE."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. The default has 0.2 million parameters."""

    architecture: Literal["qwen3", "qwen2"] = "qwen3"
    """qwen3 normalises queries and keys; qwen2 has biases on them instead."""
    vocabulary: int = 0
    """At least the tokens of ``bpe()`` and the special ones; unused ones fill the rest. 0 takes what is needed."""
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 128
    context: int = 2048

    @property
    def head(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


QWEN25_HALF_BILLION = Shape(
    architecture="qwen2", vocabulary=151_936, hidden=896, layers=24, heads=14, kv_heads=2, feed_forward=4864
)
"""As Qwen2.5-0.5B: 494 million parameters, about 1 GB in f16."""


def byte_letters() -> list[str]:
    """The printable letter that stands for each byte in byte-level BPE."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]


def bpe() -> tuple[list[str], list[str]]:
    """Tokens (bytes first, then ever longer beginnings of the words) and the merges that lead to them."""
    letters = byte_letters()
    tokens, merges, space = list(letters), [], letters[ord(" ")]
    for word in COMMON_WORDS.split():
        whole = space + word
        for end in range(1, len(whole)):
            if (longer := whole[: end + 1]) not in tokens:
                tokens.append(longer)
                merges.append(f"{whole[:end]} {whole[end]}")
    return tokens, merges


def write_tiny_gguf(
    path: Path,
    shape: Shape = Shape(),
    *,
    seed: int = 0,
    spread: float = 0.3,
    words: Words | None = None,
    pooling: int | None = None,
) -> Path:
    """Write the model to ``path`` and return the path.

    ``spread`` is the standard deviation of the weights; the larger, the surer the model is of its noise. ``words`` are
    tokens, bytes first, and merges to take instead of ``bpe()``. With ``pooling`` (llama.cpp's number) the file says that
    it embeds text.
    """
    from gguf import GGUFWriter

    words = words or bpe()
    writer = GGUFWriter(path, shape.architecture)
    _add_shape(writer, shape)
    if pooling is not None:
        writer.add_uint32(f"{shape.architecture}.pooling_type", pooling)
    _add_tokenizer(writer, shape, words)
    for name, tensor in _tensors(shape, seed, spread, len(words[0])):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_shape(writer: GGUFWriter, shape: Shape) -> None:
    writer.add_name("tiny random model")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)


def _vocabulary(shape: Shape, words: int) -> int:
    needed = words + len(SPECIAL)
    if shape.vocabulary and shape.vocabulary < needed:
        raise ValueError(f"the vocabulary must be at least {needed}")
    return shape.vocabulary or needed


def _add_tokenizer(writer: GGUFWriter, shape: Shape, words: Words) -> None:
    from gguf import TokenType

    tokens, merges = words
    filler = _vocabulary(shape, len(tokens)) - len(tokens) - len(SPECIAL)
    types = [TokenType.NORMAL] * len(tokens) + [TokenType.CONTROL] * len(SPECIAL) + [TokenType.UNUSED] * filler
    end_of_text, end_of_turn = len(tokens), len(tokens) + 2
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*tokens, *SPECIAL, *(f"[PAD{i}]" for i in range(filler))])
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(end_of_turn)
    writer.add_pad_token_id(end_of_text)
    writer.add_bos_token_id(end_of_text)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)


def _tensors(shape: Shape, seed: int, spread: float, words: int) -> Iterator[tuple[str, Array]]:
    """Weights by llama.cpp's names: matrices in f16, vectors in f32. The embedding is the output layer too."""
    import numpy as np

    numbers = np.random.default_rng(seed)
    width, keys = shape.heads * shape.head, shape.kv_heads * shape.head

    def matrix(rows: int, columns: int) -> Array:
        return (numbers.standard_normal((rows, columns), dtype=np.float32) * spread).astype(np.float16)  # type: ignore[return-value]

    def ones(size: int) -> Array:
        return np.ones(size, dtype=np.float32)

    embedding = matrix(_vocabulary(shape, words), shape.hidden)
    for rare in (slice(0x80, 0x100), slice(words, None)):  # halves of characters and special tokens: likely noise is text
        embedding[rare] *= np.float16(0.05)
    yield "token_embd.weight", embedding
    yield "output_norm.weight", ones(shape.hidden)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        for name, rows, columns in (
            ("attn_q", width, shape.hidden),
            ("attn_k", keys, shape.hidden),
            ("attn_v", keys, shape.hidden),
            ("attn_output", shape.hidden, width),
            ("ffn_gate", shape.feed_forward, shape.hidden),
            ("ffn_up", shape.feed_forward, shape.hidden),
            ("ffn_down", shape.hidden, shape.feed_forward),
        ):
            yield f"{block}{name}.weight", matrix(rows, columns)
        yield f"{block}attn_norm.weight", ones(shape.hidden)
        yield f"{block}ffn_norm.weight", ones(shape.hidden)
        if shape.architecture == "qwen3":
            yield f"{block}attn_q_norm.weight", ones(shape.head)
            yield f"{block}attn_k_norm.weight", ones(shape.head)
        else:
            for name, size in (("attn_q", width), ("attn_k", keys), ("attn_v", keys)):
                yield f"{block}{name}.bias", np.zeros(size, dtype=np.float32)
