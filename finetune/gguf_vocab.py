"""The vocabulary of a Hugging Face folder as a GGUF file wants it: tokens, types, merges, special ids, chat template.

llama.cpp splits text by a pre-tokenizer that it knows by name. Which name a ``tokenizer.json`` may bear is decided by a
hash over the steps that shape its tokens; an unknown hash is refused, for under a wrong name llama.cpp would give other
tokens without a word. One difference cannot be expressed in a GGUF: the tokenizer's NFC normalisation, which llama.cpp
leaves to whoever sends the text.
"""

from __future__ import annotations

import hashlib
import json
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
    """``bos``, ``eos``, ``pad``, ``unk`` → id; those that are not set are absent."""
    chat_template: str | None
    pre: str
    """llama.cpp's name of the pre-tokenizer."""
    add_bos: bool
    """Whether every text begins with the ``bos`` token."""


ALONE = {"Sequence": {"id": "A", "type_id": 0}}
"""The one element of a template that puts nothing before or after a text."""
LLAMA3_SPLIT = SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _hash(steps: list[dict[str, Any]], *, ignore_merges: bool) -> str:
    text = json.dumps([steps, ignore_merges], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


PRE_TOKENIZERS = {
    _hash([_split(SPLIT), _BYTES], ignore_merges=False): "qwen2",  # Qwen2, Qwen2.5, Qwen3 and our own
    _hash([_split(LLAMA3_SPLIT), _BYTES], ignore_merges=True): "llama-bpe",  # Llama 3 to 3.3
    _hash([{"type": "Digits", "individual_digits": True}, {**_BYTES, "use_regex": True}], ignore_merges=False): "smollm",
}
"""Hash of the steps that split a text → llama.cpp's name."""
_NORMALIZERS = {"qwen2": {"NFC"}}
"""What may normalise a text beforehand."""
_IRRELEVANT = {"trim_offsets"}
"""Options of a step that change no token."""


def _steps(stage: Mapping[str, Any] | None, plural: str) -> list[Mapping[str, Any]]:
    """The steps of a stage that may be absent, one step, or a Sequence of them."""
    if not stage:
        return []
    return list(stage[plural]) if stage["type"] == "Sequence" else [stage]


def fingerprint(tokenizer: Mapping[str, Any]) -> str:
    """Hash over what splits a text into the pieces that BPE works on (see ``PRE_TOKENIZERS``)."""
    steps = _steps(tokenizer["pre_tokenizer"], "pretokenizers")
    kept = [{key: value for key, value in step.items() if key not in _IRRELEVANT} for step in steps]
    return _hash(kept, ignore_merges=bool(tokenizer["model"].get("ignore_merges")))


def _adds_bos(tokenizer: Mapping[str, Any]) -> bool | None:
    """Whether the post-processor puts one token before every text; None where it does anything else."""
    found = False
    for step in _steps(tokenizer["post_processor"], "processors"):
        if step["type"] == "ByteLevel" or step.get("single") == [ALONE]:
            continue
        first, *rest = step.get("single") or [{}]
        if found or "SpecialToken" not in first or rest != [ALONE]:
            return None
        found = True
    return found


def tokenizer_problems(tokenizer: Mapping[str, Any]) -> list[str]:
    """What in a ``tokenizer.json`` llama.cpp would do differently; empty when nothing."""
    problems = []
    model = tokenizer["model"]
    if model.get("type") != "BPE":
        return [f"model is {model.get('type')}, not byte-level BPE"]
    for option in ("byte_fallback", "continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(option):
            problems.append(f"model option {option} is set")
    mark = fingerprint(tokenizer)
    if (pre := PRE_TOKENIZERS.get(mark)) is None:
        known = ", ".join(f"{name} ({key[:12]})" for key, name in PRE_TOKENIZERS.items())
        problems.append(f"its pre-tokenizer ({mark[:12]}) is none of {known}")
    allowed = _NORMALIZERS.get(pre or "", set())
    normalizers = _steps(tokenizer["normalizer"], "normalizers")
    if strange := [step["type"] for step in normalizers if step["type"] not in allowed]:
        problems.append(f"normalizer {strange[0]} is not known to llama.cpp")
    if _adds_bos(tokenizer) is None:
        problems.append("post-processor does more than to put one token before a text")
    for token in tokenizer["added_tokens"]:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            problems.append(f"added token {token['content']!r} strips blanks or stands for whole words only")
    return problems


def _special_ids(folder: Path, config: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, int]:
    """Special ids of config.json, else generation_config.json, else named in tokenizer_config.json.

    Of several end tokens the one that the tokenizer names counts, else the first; llama.cpp knows the other chat ends
    by their text.
    """
    generation = folder / "generation_config.json"
    sources = [config, read_json(generation) if generation.is_file() else {}]
    named = folder / "tokenizer_config.json"
    names = read_json(named) if named.is_file() else {}
    found = {}
    for kind in ("bos", "eos", "pad", "unk"):
        text = names.get(f"{kind}_token")
        text = text.get("content") if isinstance(text, dict) else text
        by_name = ids.get(str(text))
        values = [source.get(f"{kind}_token_id") for source in sources]
        value = next((v for v in (*values, by_name) if v is not None), None)
        if isinstance(value, list):
            value = by_name if by_name in value else value[0]
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
            remedy = "only byte-level BPE that llama.cpp splits alike can be converted"
            raise InputError(f"{path}: tokenizer not recognised: {'; '.join(problems)}", remedy)
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
        control = text in added and (added[text]["special"] or (text.startswith("<|") and text.endswith("|>")))
        kind = TokenType.CONTROL if control else TokenType.USER_DEFINED
        types[number] = kind if text in added else TokenType.NORMAL
    special = _special_ids(folder, config, ids)
    if wrong := [kind for kind, number in special.items() if not 0 <= number < size]:
        raise InputError(f"{folder / 'config.json'}: {wrong[0]}_token_id is outside the vocabulary", "correct it")
    return Vocabulary(
        tuple(tokens),
        tuple(types),
        tuple(merges),
        special,
        _chat_template(folder),
        PRE_TOKENIZERS[fingerprint(tokenizer)],
        bool(_adds_bos(tokenizer)),
    )
