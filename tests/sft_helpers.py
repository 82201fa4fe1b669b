"""A base of a few thousand random parameters and invented data, for the tests of the trainer. Needs the finetune extra."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from finetune.sft.config import SftConfig, parse
from skills.annotate import mark
from skills.annotate.prompt import END

MOVES = ("claim", "evidence", "limitation")
SETS: tuple[tuple[str, ...], ...] = ((), ("claim",), ("evidence",), ("limitation",), ("claim", "evidence"))
CUES = {(): "Rivers carry sand", ("claim",): "We claim a bound", ("evidence",): "It gains 12 points"}
CUES |= {("limitation",): "It fails on fog", ("claim", "evidence"): "We claim it gains 12"}
OPENERS = (
    "in calm water",
    "on ninety maps",
    "for small boats",
    "at night",
    "under load, as two harbours report each spring",
)


def papers(count: int, seed: int = 1) -> list[tuple[str, list[str], list[tuple[str, ...]]]]:
    """(id, sentences, set of each sentence): the words of a sentence tell its set."""
    rng = random.Random(seed)
    result = []
    for number in range(count):
        stated = [rng.choice(SETS) for _ in range(rng.randint(2, 7))]
        result.append((f"{seed}-{number}", [f"{CUES[s]} {rng.choice(OPENERS)}." for s in stated], stated))
    return result


def make_base(folder: Path, seed: int = 0) -> Path:
    """A random Qwen3 with tied heads, width 64, two layers, and a tokenizer of 400 tokens."""
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    from finetune.dataset.abstracts import END as END_OF_TEXT
    from finetune.dataset.abstracts import train_tokenizer

    texts = [" ".join(sentences) for _, sentences, _ in papers(40)]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(texts, 400), eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )
    torch.manual_seed(seed)
    shape = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def mark_row(name: str, sentences: list[str], stated: list[tuple[str, ...]]) -> dict[str, Any]:
    """A row of contract ``annotate/mark@1``."""
    prompt = mark.first_pass("", sentences) + "".join(mark.steps(sentences))
    return {"id": name, "source": "gold", "prompt": prompt, "completion": [mark.label(s) for s in stated]}


def chat_row(name: str, sentences: list[str], stated: list[tuple[str, ...]]) -> dict[str, Any]:
    """A row of contract ``annotate/quote@1``, shortened."""
    answer = {move: [n for n, s in enumerate(stated, 1) if move in s] for move in MOVES}
    messages = [{"role": "system", "content": "Annotate."}, {"role": "user", "content": " ".join(sentences)}]
    return {"id": name, "source": "gold", "prompt": messages, "completion": f"{json.dumps(answer)}\n{END}"}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_data(folder: Path, contract: str = mark.CONTRACT, count: int = 24, valid: int = 8) -> Path:
    """A data folder of either kind of rows."""
    folder.mkdir(parents=True)
    row = mark_row if contract == mark.CONTRACT else chat_row
    for split, size, seed in (("train", count, 1), ("valid", valid, 2)):
        write_rows(folder / f"{split}.jsonl", [row(*paper) for paper in papers(size, seed)])
    (folder / "card.json").write_text(json.dumps({"contract": contract}))
    if contract == mark.CONTRACT:
        (folder / "labels.json").write_text(json.dumps({"moves": MOVES, "sets": SETS}))
    return folder


def values(base: Path, data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """A run of a few steps that is the same bits on every machine of one kind."""
    few: dict[str, Any] = {"base": str(base), "data": str(data), "out": str(out), "device": "cpu", "precision": "fp32"}
    few |= {"threads": 1, "quantize": "none", "batch": 4, "micro_batch": 2, "max_length": 400, "epochs": 2, "lora_r": 4}
    few |= {"lora_targets": ["all-linear"], "learning_rate": 0.01, "save_steps": 2, "logging_steps": 1, "lora_dropout": 0.1}
    return {**few, **changes}


def config(base: Path, data: Path, out: Path, **changes: Any) -> SftConfig:
    """``values`` as a configuration."""
    return parse(values(base, data, out, **changes), "test")
