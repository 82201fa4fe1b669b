"""Tiny random Hugging Face models with a trained tokenizer, and llama.cpp as the judge of their GGUFs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from finetune.dataset.abstracts import END, SPECIAL, SPLIT, train_tokenizer
from finetune.gguf_vocab import LLAMA3_SPLIT

torch: Any = pytest.importorskip("torch", reason="needs the finetune extra")
transformers: Any = pytest.importorskip("transformers", reason="needs the finetune extra")

TEXTS = [
    "We show that a small model can mark each sentence of an abstract. It's 12.5% better than the baseline.",
    "Naïve Bayes, 漢字かな交じり文 and Ελληνικά: what's measured isn't always what's meant — 1,234 times.",
    "Line one\r\nline two\n\n\ttabbed\t\ttext   with   blanks  \r\n  end. $\\alpha_{i}$ → x² + y² 🙂👩‍🔬",
]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3_SCALING = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

PROBE = """
import json, sys, urllib.request
import xllamacpp as x
job = json.load(sys.stdin)
p = x.CommonParams()
p.model.path = job["path"]
p.n_ctx, p.n_parallel, p.verbosity, p.warmup, p.fit_params = 256, 1, -1, False, False
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
server = x.Server(p)
def post(route, body):
    data, kind = json.dumps(body).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(server.listening_address + route, data, kind)) as reply:
        return json.load(reply)["tokens"]
def tokens(text):
    return post("/tokenize", {"content": text, "parse_special": True})
def greedy(ids):
    return post("/completion", {"prompt": ids, "n_predict": 16, "temperature": 0, "return_tokens": True})
print(json.dumps({"tokens": [tokens(t) for t in job["texts"]], "greedy": [greedy(i) for i in job["prompts"]]}))
"""


def ask_llama(path: Path, texts: list[str], prompts: list[list[int]]) -> dict[str, Any]:
    """Tokens of the texts and greedy continuations of the prompts, from llama.cpp in a process of its own."""
    pytest.importorskip("xllamacpp")
    job = json.dumps({"path": str(path), "texts": texts, "prompts": prompts})
    done = subprocess.run([sys.executable, "-c", PROBE], input=job, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def make_tokenizer(kind: str = "qwen2") -> Any:
    """A byte-level BPE of 400 tokens that splits like ``qwen2``, ``llama3`` (begin token before a text) or ``smollm``."""
    made = train_tokenizer(TEXTS * 4, 400)
    if kind != "qwen2":
        made = _split_otherwise(made, kind)
    extra = {"bos_token": "<|im_start|>"} if kind == "llama3" else {}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=END, **extra)
    fast.add_tokens(["<think>", "</think>"])
    fast.chat_template = TEMPLATE
    return fast


def _split_otherwise(made: Any, kind: str) -> Any:
    from tokenizers import Regex, Tokenizer, pre_tokenizers

    data = json.loads(made.to_str())
    data["normalizer"] = None
    if kind == "llama3":
        data["model"]["ignore_merges"] = True
        begin = {"id": "<|im_start|>", "ids": [SPECIAL.index("<|im_start|>")], "tokens": ["<|im_start|>"]}
        alone = {"Sequence": {"id": "A", "type_id": 0}}
        other = {"Sequence": {"id": "B", "type_id": 1}}
        first = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
        data["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [first, alone],
            "pair": [first, alone, other],
            "special_tokens": {"<|im_start|>": begin},
        }
    tokenizer = Tokenizer.from_str(json.dumps(data))
    if kind == "llama3":
        steps = [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    else:
        steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    assert SPLIT != LLAMA3_SPLIT
    return tokenizer


def make_folder(
    folder: Path, kind: str, tokenizer: Any, *, tied: bool, shape: Mapping[str, Any] | None = None, **extra: Any
) -> Any:
    """A random model of some 100,000 parameters with clear preferences (large weights), saved as Hugging Face does.

    ``shape`` replaces values of its configuration; ``extra`` goes to ``save_pretrained``.
    """
    values = {
        "vocab_size": len(tokenizer) + 5,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "rope_theta": 5000.0,
        "tie_word_embeddings": tied,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.15,
        **({"head_dim": 32} if kind == "Qwen3" else {}),
        **(shape or {}),
    }
    torch.manual_seed(7)
    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**values))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # norms of 1 and biases of 0 would hide a swapped or forgotten tensor
                parameter.add_(0.3 * torch.randn_like(parameter))
            assert parameter.isfinite().all(), name
    model.save_pretrained(folder, **extra)
    tokenizer.save_pretrained(folder)
    return model.eval()


def greedy(model: Any, ids: list[int], margin: float = 0.01) -> list[int]:
    """What transformers would go on with, up to an end token or a near-tie (random weights have some)."""
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + 16 and (len(ids) == start or ids[-1] != model.config.eos_token_id):
            best = model(torch.tensor([ids])).logits[0, -1].topk(2)
            if float(best.values[0] - best.values[1]) < margin:
                break
            ids = [*ids, int(best.indices[0])]
    return ids[start:]


def fields(path: Path) -> dict[str, Any]:
    import gguf

    reader = gguf.GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items()} | {
        tensor.name: (tensor.tensor_type.name, [int(n) for n in tensor.shape]) for tensor in reader.tensors
    }
