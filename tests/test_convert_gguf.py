"""The converter against its two judges: transformers (what the model computes) and llama.cpp (what the file does)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the finetune extra")
pytest.importorskip("transformers", reason="needs the finetune extra")

from tiny_hf import LLAMA3_SCALING, TEMPLATE, TEXTS, ask_llama, fields, greedy, make_folder, make_tokenizer

from finetune.convert_gguf import convert, main
from finetune.gguf_arch import rope_factors, tensor_names
from finetune.gguf_vocab import tokenizer_problems
from finetune.hf_checkpoint import read_tensors
from harness.errors import InputError

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


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("hf") / "qwen3"
    return folder, make_folder(folder, "Qwen3", tokenizer, tied=True)


@pytest.mark.parametrize(
    ("kind", "split", "tied", "shape"),
    [
        ("Qwen3", "qwen2", True, {}),
        ("Qwen2", "qwen2", False, {}),
        ("Llama", "llama3", True, {}),
        ("Llama", "llama3", False, {"rope_parameters": LLAMA3_SCALING}),
        ("Llama", "smollm", True, {"num_key_value_heads": 4}),
    ],
)
def test_llama_computes_and_tokenises_as_transformers(
    tmp_path: Path, kind: str, split: str, tied: bool, shape: dict[str, Any]
) -> None:
    tokenizer = make_tokenizer(split)
    model = make_folder(tmp_path / "hf", kind, tokenizer, tied=tied, shape=shape, max_shard_size="100KB")
    assert (tmp_path / "hf/model.safetensors.index.json").exists()
    path = convert(tmp_path / "hf", tmp_path / "model.gguf", "f32")
    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS]
    answer = ask_llama(path, ODD, prompts)
    begin = [tokenizer.bos_token_id] if split == "llama3" else []  # the probe asks for tokens without it
    assert [begin + tokens for tokens in answer["tokens"]] == [tokenizer(text)["input_ids"] for text in ODD]
    expected = [greedy(model, ids) for ids in prompts]
    assert [tokens[: len(due)] for tokens, due in zip(answer["greedy"], expected, strict=True)] == expected
    assert len({token for tokens in expected for token in tokens}) > 20, "a model that always says the same proves nothing"


def test_llama3_scaling_keeps_short_wavelengths_and_stretches_long_ones() -> None:
    config = {"num_attention_heads": 4, "hidden_size": 64, "rope_parameters": LLAMA3_SCALING}
    factors = rope_factors(config, Path("config.json"))
    assert factors is not None
    assert factors[0] == 1
    assert factors[-1] == 4
    assert (np.diff(factors) >= 0).all()
    assert rope_factors({**config, "rope_parameters": {"rope_theta": 1e4}}, Path("config.json")) is None


@pytest.mark.parametrize("outtype", ["f16", "bf16", "q8_0", "q6_K", "q5_K_M", "q5_0", "q4_K_M", "q4_0"])
def test_every_outtype_loads(tmp_path: Path, qwen3: tuple[Path, Any], tokenizer: Any, outtype: Any) -> None:
    folder, model = qwen3
    path = convert(folder, tmp_path / "model.gguf", outtype)
    prompt = tokenizer(PROMPTS[0])["input_ids"]
    tokens = ask_llama(path, [], [prompt])["greedy"][0]
    assert tokens
    if outtype == "f16":
        due = greedy(model, prompt, margin=0.03)
        assert tokens[: len(due)] == due
    kept = {name: value[0] for name, value in fields(path).items() if name.endswith(".weight")}
    # rows of 64 and 96 are too short for a K-quant's 256: all of them fall back, to what llama.cpp takes
    narrow = {"q6_K": "Q8_0", "q5_K_M": "Q5_1", "q4_K_M": "Q5_0"}.get(outtype, outtype.upper())
    assert kept["blk.0.ffn_up.weight"] == kept["blk.1.attn_q.weight"] == narrow
    assert kept["blk.1.attn_norm.weight"] == "F32"
    assert kept["token_embd.weight"] == ("Q8_0" if outtype[0] == "q" else outtype.upper())


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
    assert said["general.type"] == "model"
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
        ("config.json", lambda c: c.update(architectures=["MistralForCausalLM"]), "MistralForCausalLM cannot"),
        ("config.json", lambda c: c.update(use_sliding_window=True), "use_sliding_window"),
        ("config.json", lambda c: c["rope_parameters"].update(rope_type="longrope"), "longrope"),
        ("config.json", lambda c: c.update(vocab_size=10), "does not fit vocab_size 10"),
        ("config.json", lambda c: c.pop("hidden_size"), "hidden_size"),
        ("config.json", lambda c: c.update(num_hidden_layers=3), "model.layers.2"),
        ("config.json", lambda c: c.update(num_hidden_layers=1), "unknown tensor model.layers.1"),
        (
            "tokenizer.json",
            lambda t: t["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex="\\w+"),
            "pre-tokenizer",
        ),
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
