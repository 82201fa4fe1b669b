"""The converter against its two judges: transformers (what the model computes) and llama.cpp (what the file does)."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune.convert_gguf import convert, main, tensor_names
from finetune.dataset.abstracts import END, train_tokenizer
from finetune.gguf_vocab import tokenizer_problems
from finetune.hf_checkpoint import read_tensors
from harness.errors import InputError

torch = pytest.importorskip("torch", reason="needs the finetune extra")
transformers = pytest.importorskip("transformers", reason="needs the finetune extra")

TEXTS = [
    "We show that a small model can mark each sentence of an abstract. It's 12.5% better than the baseline.",
    "Naïve Bayes, 漢字かな交じり文 and Ελληνικά: what's measured isn't always what's meant — 1,234 times.",
    "Line one\r\nline two\n\n\ttabbed\t\ttext   with   blanks  \r\n  end. $\\alpha_{i}$ → x² + y² 🙂👩‍🔬",
]
ODD = [
    *TEXTS,
    " lead",
    "trail  ",
    "\t",
    "\r\n\r\n",
    "a\u00a0b\u2003c",
    "🧪🧪 ǅ ﬁ İi",
    "<think>x</think> I'LL don't",
    "𝔘𝔫𝔦",
    "0123 4.5e-6",
]
PROMPTS = ["We show that", "A baseline of 12", "<|im_start|>user\nIt's", "Line one\r\n\t", "漢字", " 🙂"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"

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


def make_tokenizer() -> Any:
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(TEXTS * 4, 400), eos_token=END, pad_token=END
    )
    fast.add_tokens(["<think>", "</think>"])
    fast.chat_template = TEMPLATE
    return fast


def make_folder(folder: Path, kind: str, tokenizer: Any, *, tied: bool, **extra: Any) -> Any:
    """A random model of some 100,000 parameters with clear preferences (large weights), saved as Hugging Face does."""
    shape = {
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
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.15,
        **({"head_dim": 32} if kind == "Qwen3" else {}),
    }
    torch.manual_seed(7)
    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**shape))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # norms of 1 and biases of 0 would hide a swapped or forgotten tensor
                parameter.add_(0.3 * torch.randn_like(parameter))
            assert parameter.isfinite().all(), name
    model.save_pretrained(folder, **extra)
    tokenizer.save_pretrained(folder)
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("hf") / "qwen3"
    return folder, make_folder(folder, "Qwen3", tokenizer, tied=True)


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


@pytest.mark.parametrize(("kind", "tied"), [("Qwen3", True), ("Qwen2", False)])
def test_llama_computes_and_tokenises_as_transformers(tmp_path: Path, tokenizer: Any, kind: str, tied: bool) -> None:
    model = make_folder(tmp_path / "hf", kind, tokenizer, tied=tied, max_shard_size="100KB")
    assert (tmp_path / "hf/model.safetensors.index.json").exists()
    path = convert(tmp_path / "hf", tmp_path / "model.gguf", "f32")
    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS]
    answer = ask_llama(path, ODD, prompts)
    assert answer["tokens"] == [tokenizer(text)["input_ids"] for text in ODD]
    expected = [greedy(model, ids) for ids in prompts]
    assert [tokens[: len(due)] for tokens, due in zip(answer["greedy"], expected, strict=True)] == expected
    assert len({token for tokens in expected for token in tokens}) > 20, "a model that always says the same proves nothing"


@pytest.mark.parametrize("outtype", ["f16", "bf16", "q8_0", "q5_0", "q4_0"])
def test_every_outtype_loads(tmp_path: Path, qwen3: tuple[Path, Any], tokenizer: Any, outtype: Any) -> None:
    folder, model = qwen3
    path = convert(folder, tmp_path / "model.gguf", outtype)
    prompt = tokenizer(PROMPTS[0])["input_ids"]
    tokens = ask_llama(path, [], [prompt])["greedy"][0]
    assert tokens
    if outtype == "f16":
        due = greedy(model, prompt, margin=0.03)
        assert tokens[: len(due)] == due
    kept = fields(path)
    assert kept["blk.1.ffn_down.weight"][0] == outtype.upper()
    assert kept["blk.1.attn_norm.weight"][0] == "F32"
    assert kept["token_embd.weight"][0] == ("Q8_0" if outtype[0] == "q" else outtype.upper())


def test_what_the_file_says(tmp_path: Path, qwen3: tuple[Path, Any], tokenizer: Any) -> None:
    path = convert(
        qwen3[0],
        tmp_path / "m.gguf",
        "f32",
        metadata={"data": "sha256:ab", "marginalia.x": "1", "general.license": "mit"},
    )
    said = fields(path)
    assert said["general.architecture"] == "qwen3"
    assert said["qwen3.rope.freq_base"] == 5000.0
    assert said["qwen3.attention.key_length"] == 32
    assert said["tokenizer.ggml.pre"] == "qwen2"
    assert said["tokenizer.ggml.eos_token_id"] == said["tokenizer.ggml.padding_token_id"] == tokenizer.eos_token_id
    assert said["tokenizer.chat_template"] == TEMPLATE
    assert "output.weight" not in said
    assert (said["marginalia.data"], said["marginalia.x"], said["general.license"]) == ("sha256:ab", "1", "mit")
    types, tokens = said["tokenizer.ggml.token_type"], said["tokenizer.ggml.tokens"]
    assert len(tokens) == len(tokenizer) + 5
    assert tokens[-1] == f"[PAD{len(tokens) - 1}]"
    assert types[-1] == 5
    assert types[tokens.index("<think>")] == 4
    assert types[tokens.index("<|im_end|>")] == 3
    assert types[tokens.index("a")] == 1


def test_same_folder_same_bytes_and_nothing_left_beside(tmp_path: Path, qwen3: tuple[Path, Any]) -> None:
    paths = [convert(qwen3[0], tmp_path / name, "q8_0") for name in ("a.gguf", "b.gguf")]
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "b.gguf"]


def edited(source: Path, folder: Path, file: str, edit: Any) -> Path:
    """A copy of a model folder in which one JSON file was changed."""
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    content = json.loads((folder / file).read_text())
    edit(content)
    (folder / file).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("file", "edit", "says"),
    [
        ("config.json", lambda c: c.update(architectures=["LlamaForCausalLM"]), "LlamaForCausalLM cannot"),
        ("config.json", lambda c: c.update(use_sliding_window=True), "use_sliding_window"),
        ("config.json", lambda c: c["rope_parameters"].update(rope_type="longrope"), "longrope"),
        ("config.json", lambda c: c.update(vocab_size=10), "does not fit vocab_size 10"),
        ("config.json", lambda c: c.pop("hidden_size"), "hidden_size"),
        ("config.json", lambda c: c.update(num_hidden_layers=3), "model.layers.2"),
        ("config.json", lambda c: c.update(num_hidden_layers=1), "unknown tensor model.layers.1"),
        ("tokenizer.json", lambda t: t["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex="\\w+"), "regex"),
        ("tokenizer.json", lambda t: t["model"].update(byte_fallback=True), "byte_fallback"),
        ("tokenizer.json", lambda t: t["post_processor"]["single"].append({"SpecialToken": {}}), "post-processor"),
        ("tokenizer.json", lambda t: t.pop("added_tokens"), "shape of a fast tokenizer"),
    ],
)
def test_what_would_compute_something_else_is_refused(
    tmp_path: Path, qwen3: tuple[Path, Any], file: str, edit: Any, says: str
) -> None:
    folder = edited(qwen3[0], tmp_path / "hf", file, edit)
    out = tmp_path / "old.gguf"
    out.write_bytes(b"the old file")
    with pytest.raises(InputError, match=says):
        convert(folder, out)
    assert out.read_bytes() == b"the old file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "old.gguf"]


def write_safetensors(path: Path, tensors: dict[str, tuple[str, Any]]) -> None:
    """A small file by hand: the format's own description is the judge."""
    header, blob = {}, b""
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(blob), len(blob) + len(raw)]}
        blob += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + blob)


def test_safetensors_are_read_exactly(tmp_path: Path) -> None:
    values = np.array([[1.0, -2.5], [0.15625, 3e4]], np.float32)
    bf16 = (values.view(np.uint32) >> 16).astype(np.uint16)
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"a": ("F32", values), "b": ("F16", values.astype(np.float16)), "c": ("BF16", bf16)})
    found = read_tensors(tmp_path)
    assert np.array_equal(found["a"].load(), values)
    assert np.array_equal(found["b"].load(), values)
    assert np.array_equal(found["c"].load()[0], values[0])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="cut short"):
        read_tensors(tmp_path)
    path.write_bytes(b"\xff" * 20)
    with pytest.raises(InputError, match="damaged"):
        read_tensors(tmp_path)
    write_safetensors(path, {"a": ("U8", np.zeros(4, np.uint8))})
    with pytest.raises(InputError, match="stored as U8"):
        read_tensors(tmp_path)


def test_overflow_and_a_drifted_head_are_refused(tmp_path: Path, tokenizer: Any) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "hf"
    make_folder(folder, "Qwen3", tokenizer, tied=True)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folder / "model.safetensors")
    assert "output.weight" not in fields(convert(folder, tmp_path / "tied.gguf"))
    weights["lm_head.weight"][3, 3] += 1
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match="drifted"):
        convert(folder, tmp_path / "x.gguf")
    del weights["lm_head.weight"]
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match="F16 cannot"):
        convert(folder, tmp_path / "x.gguf", "f16")
    convert(folder, tmp_path / "x.gguf", "bf16")


def test_tokenizer_as_trained_is_accepted_and_added_blanks_are_not(tokenizer: Any) -> None:
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    assert tokenizer_problems(content) == []
    content["added_tokens"][0]["lstrip"] = True
    content["normalizer"] = {"type": "Lowercase"}
    assert len(tokenizer_problems(content)) == 2


def test_names_of_both_architectures() -> None:
    assert tensor_names("qwen2", 1, tied=False)["model.layers.0.self_attn.k_proj.bias"] == "blk.0.attn_k.bias"
    assert tensor_names("qwen3", 1, tied=True)["model.layers.0.self_attn.k_norm.weight"] == "blk.0.attn_k_norm.weight"
    assert "lm_head.weight" not in tensor_names("qwen3", 1, tied=True)


def test_command_line(tmp_path: Path, qwen3: tuple[Path, Any], capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.gguf"
    assert main([str(qwen3[0]), "--out", str(out), "--outtype", "q8_0"]) == 0
    assert out.read_bytes()[:4] == b"GGUF"
    assert main([str(tmp_path), "--out", str(out)]) == 1
    assert "config.json: missing" in capsys.readouterr().err
