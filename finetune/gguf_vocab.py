"""The vocabulary of a Hugging Face folder as a GGUF file wants it: tokens, types, merges, special ids, chat template.

Only tokenizers that llama.cpp splits alike under the name ``qwen2`` are accepted: with any other it would give other
tokens without a word. One difference cannot be expressed in a GGUF: the tokenizer's NFC normalisation, which llama.cpp
leaves to whoever sends the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from finetune.dataset.abstracts import SPLIT
from finetune.hf_checkpoint import read_json
from harness.errors import InputError


class TokenType(IntEnum):
    """llama.cpp's token types, the four in use here."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


@dataclass(frozen=True)
class Vocabulary:
    """All that the tokenizer part of a GGUF holds."""

    tokens: tuple[str, ...]
    types: tuple[TokenType, ...]
    merges: tuple[str, ...]
    """Each pair as ``left right``."""
    special: Mapping[str, int]
    """``bos``, ``eos``, ``pad`` → id; those that are not set are absent."""
    chat_template: str | None


ALONE = {"Sequence": {"id": "A", "type_id": 0}}
"""The one element of a template that puts nothing before or after a text."""


def _steps(stage: Mapping[str, Any] | None, plural: str) -> list[Mapping[str, Any]]:
    """The steps of a stage that may be absent, one step, or a Sequence of them."""
    if not stage:
        return []
    return list(stage[plural]) if stage["type"] == "Sequence" else [stage]


def tokenizer_problems(tokenizer: Mapping[str, Any]) -> list[str]:
    """What in a ``tokenizer.json`` llama.cpp's ``qwen2`` pre-tokenizer would do differently; empty when nothing."""
    problems = []
    model = tokenizer["model"]
    if model.get("type") != "BPE":
        return [f"model is {model.get('type')}, not BPE"]
    for option in ("byte_fallback", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(option):
            problems.append(f"model option {option} is set")
    if strange := [n["type"] for n in _steps(tokenizer["normalizer"], "normalizers") if n["type"] != "NFC"]:
        problems.append(f"normalizer {strange[0]} is not NFC")
    steps = _steps(tokenizer["pre_tokenizer"], "pretokenizers")
    if [step["type"] for step in steps] != ["Split", "ByteLevel"]:
        problems.append("pre-tokenizer is not Split, then ByteLevel")
    else:
        split, level = steps
        if split["pattern"].get("Regex") != SPLIT or split["behavior"] != "Isolated" or split.get("invert"):
            problems.append("pre-tokenizer regex is not qwen2's")
        if level["add_prefix_space"] or level.get("use_regex", True):
            problems.append("ByteLevel adds a space or splits by its own regex")
    post = _steps(tokenizer["post_processor"], "processors")
    if any(step["type"] != "ByteLevel" and [*step.get("single", ("?",))] != [ALONE] for step in post):
        problems.append("post-processor adds tokens to every text")
    for token in tokenizer["added_tokens"]:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            problems.append(f"added token {token['content']!r} strips blanks or stands for whole words only")
    return problems


def _special_ids(folder: Path, config: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, int]:
    """``bos``, ``eos`` and ``pad`` of config.json, else generation_config.json, else named in tokenizer_config."""
    generation = folder / "generation_config.json"
    sources = [config, read_json(generation) if generation.is_file() else {}]
    named = folder / "tokenizer_config.json"
    names = read_json(named) if named.is_file() else {}
    found = {}
    for kind in ("bos", "eos", "pad"):
        values = [source.get(f"{kind}_token_id") for source in sources]
        text = names.get(f"{kind}_token")
        text = text.get("content") if isinstance(text, dict) else text
        value = next((v for v in (*values, ids.get(str(text))) if v is not None), None)
        if isinstance(value, list):  # several end tokens: llama.cpp takes one and knows the chat ends by name
            value = value[0]
        if value is not None:
            found[kind] = int(value)
    if "eos" not in found:
        raise InputError(f"{folder}: no end token is named", "set eos_token_id in config.json")
    return found


def _chat_template(folder: Path) -> str | None:
    """``chat_template.jinja`` (transformers 5), else the template inside tokenizer_config.json."""
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    config = folder / "tokenizer_config.json"
    template = read_json(config).get("chat_template") if config.is_file() else None
    if isinstance(template, list):
        template = next((item["template"] for item in template if item["name"] == "default"), None)
    return template if isinstance(template, str) else None


def read_vocabulary(folder: Path, config: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary, padded with unused ``[PADn]`` tokens to ``vocab_size`` of the model's configuration.

    Raises InputError where llama.cpp would tokenise differently or the ids do not fit the embeddings.
    """
    path = folder / "tokenizer.json"
    tokenizer = read_json(path)
    try:
        if problems := tokenizer_problems(tokenizer):
            remedy = "only byte-level BPE split as Qwen2's can be converted"
            raise InputError(f"{path}: not a qwen2 tokenizer: {'; '.join(problems)}", remedy)
        added = {token["content"]: token for token in tokenizer["added_tokens"]}
        ids = {**tokenizer["model"]["vocab"], **{text: token["id"] for text, token in added.items()}}
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not in the shape of a fast tokenizer ({error})", "write it again") from None
    size = int(config["vocab_size"])
    if (largest := max(ids.values())) >= size:
        remedy = "resize the model's embeddings to the tokenizer"
        raise InputError(f"{path}: token id {largest} does not fit vocab_size {size}", remedy)
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [TokenType.UNUSED] * size
    for text, number in ids.items():
        tokens[number] = text
        kind = TokenType.CONTROL if text in added and added[text]["special"] else TokenType.USER_DEFINED
        types[number] = kind if text in added else TokenType.NORMAL
    special = _special_ids(folder, config, ids)
    if wrong := [kind for kind, number in special.items() if not 0 <= number < size]:
        raise InputError(f"{folder / 'config.json'}: {wrong[0]}_token_id is outside the vocabulary", "correct it")
    return Vocabulary(tuple(tokens), tuple(types), tuple(merges), special, _chat_template(folder))
