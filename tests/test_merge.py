"""Merging against PEFT's own merge as the judge, and everything that must not be merged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peft", reason="needs the finetune extra")

import peft
from tiny_hf import greedy, make_folder, make_tokenizer, torch, transformers

from finetune.evaluation.expansion_adapters import merged_after
from finetune.hf_checkpoint import read_tensors
from finetune.merge import main, merge
from finetune.sft.base import weights_digest
from harness.errors import InputError

NEW = ["<a>", "<b>", "<c>"]


def train(base: Path, run: Path, tokenizer: Any, *, tokens: bool = True, new: Sequence[str] = NEW, **config: Any) -> Any:
    """Write an adapter with random values as a trainer would, with rows for the ``new`` tokens where it has ``tokens``; the
    model that PEFT itself merges, in float32."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    extra: dict[str, Any] = {}
    if tokens:
        tokenizer.add_tokens([*new])
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        extra["trainable_token_indices"] = tokenizer.convert_tokens_to_ids([*new])
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **extra, **config}
    tuned = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(parameter + 0.2 * torch.randn_like(parameter))
            assert parameter.isfinite().all(), name
    tuned.save_pretrained(run / "adapter")
    tokenizer.save_pretrained(run / "adapter")
    (run / "lineage.json").write_text(json.dumps({"base": weights_digest(base), "data": "sha256:1"}))
    return tuned.merge_and_unload().eval()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    tokenizer = make_tokenizer()
    make_folder(folder, "Qwen3", tokenizer, tied=True, shape={"vocab_size": len(tokenizer)})
    return folder


@pytest.mark.parametrize(
    ("kind", "tied", "tokens", "settings"),
    [
        ("Qwen3", True, True, {}),
        ("Qwen2", False, False, {"use_rslora": True, "bias": "lora_only"}),
        ("Llama", False, False, {"alpha_pattern": {"v_proj": 32}, "rank_pattern": {"q_proj": 2}}),
        ("Qwen3", False, False, {"target_modules": "all-linear", "modules_to_save": ["lm_head"]}),
    ],
)
def test_the_merged_model_is_pefts(tmp_path: Path, kind: str, tied: bool, tokens: bool, settings: dict[str, Any]) -> None:
    tokenizer = make_tokenizer()
    shape = {"vocab_size": len(tokenizer)} if tokens else {}
    make_folder(tmp_path / "base", kind, tokenizer, tied=tied, shape=shape, max_shard_size="100KB")
    expected = train(tmp_path / "base", tmp_path / "run", tokenizer, tokens=tokens, **settings)
    out = merge(tmp_path / "run", tmp_path / "base", tmp_path / "merged", width="f32")
    found = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    due = expected.state_dict()
    assert set(found.state_dict()) == set(due)
    for name, value in found.state_dict().items():
        assert torch.allclose(value, due[name], atol=1e-6), name
    ids = transformers.AutoTokenizer.from_pretrained(out)("We show that <a>")["input_ids"]
    assert greedy(found, ids) == greedy(expected, ids)


def test_what_goes_along(tmp_path: Path, base: Path) -> None:
    tokenizer = make_tokenizer()
    train(base, tmp_path / "run", tokenizer)
    (tmp_path / "run/adapter/labels.json").write_text("{}")
    (base / "LICENSE").write_text("MIT")
    out = merge(tmp_path / "run", base, tmp_path / "merged")
    config = json.loads((out / "config.json").read_text())
    assert config["vocab_size"] == len(tokenizer)
    assert config["dtype"] == "float16"
    stored = read_tensors(out)
    assert "lm_head.weight" not in stored
    assert {tensor.dtype for tensor in stored.values()} == {"F16"}
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json", "labels.json", "LICENSE"):
        assert (out / name).is_file(), name
    merged = transformers.AutoTokenizer.from_pretrained(out)
    assert merged.convert_tokens_to_ids(NEW) == tokenizer.convert_tokens_to_ids(NEW)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    merge(tmp_path / "run", base, out)  # again, over what is there: the same bytes
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "merged", "run"]


def tamper(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def retrained(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    from safetensors.numpy import load_file, save_file

    values = dict(load_file(path))
    edit(values)
    save_file(values, path)


Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("file", "edit", "says"),
    [
        ("lineage.json", lambda v: v.update(base="sha256:" + "0" * 64), "was trained on another base"),
        ("adapter/adapter_config.json", lambda v: v.update(use_dora=True), "use_dora = True cannot be merged"),
        ("adapter/adapter_config.json", lambda v: v.update(init_lora_weights="pissa"), "init_lora_weights = 'pissa'"),
        ("adapter/adapter_config.json", lambda v: v.update(peft_type="IA3"), "IA3 cannot be merged"),
        ("adapter/adapter_config.json", lambda v: v.update(trainable_token_indices=[1]), "another base: .*embed_tokens"),
        ("adapter/adapter_model.safetensors", lambda v: v.pop(f"{Q}.lora_A.weight"), "half a LoRA"),
        (
            "adapter/adapter_model.safetensors",
            lambda v: v.update({f"{Q}.lora_B.weight": np.zeros((8, 4), np.float32)}),
            r"belongs to another base: .*lora_B.weight of shape \[8, 4\], the base asks for \[128, 4\]",
        ),
        (
            "adapter/adapter_model.safetensors",
            lambda v: v.update({f"{Q}.lora_magnitude_vector.weight": np.zeros(4, np.float32)}),
            "lora_magnitude_vector.weight cannot be merged",
        ),
        (
            "adapter/adapter_model.safetensors",
            lambda v: v[f"{Q}.lora_B.weight"].fill(np.nan),
            "q_proj.weight: merged, it holds values that are no finite",
        ),
        (
            "adapter/adapter_model.safetensors",
            lambda v: v[f"{Q}.lora_B.weight"].fill(1e6),
            "values that f16 cannot; repeat with --width bf16",
        ),
        (
            "adapter/adapter_model.safetensors",
            lambda v: v["base_model.model.lm_head.token_adapter.trainable_tokens_delta"].__iadd__(1),
            "head was trained apart",
        ),
    ],
)
def test_what_must_not_be_merged(tmp_path: Path, base: Path, file: str, edit: Any, says: str) -> None:
    train(base, tmp_path / "run", make_tokenizer())
    (retrained if file.endswith("safetensors") else tamper)(tmp_path / "run" / file, edit)
    with pytest.raises(InputError, match=says):
        merge(tmp_path / "run", base, tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "run"]


def test_a_quantised_base_a_new_token_without_a_row_and_a_truncated_checkpoint(tmp_path: Path, base: Path) -> None:
    tokenizer = make_tokenizer()
    train(base, tmp_path / "run", tokenizer, tokens=False)
    tokenizer.add_tokens(["<z>"])
    tokenizer.save_pretrained(tmp_path / "run/adapter")
    with pytest.raises(InputError, match=r"token \d+ was added but model.embed_tokens has no row"):
        merge(tmp_path / "run", base, tmp_path / "merged")
    four_bit = tmp_path / "four"
    shutil.copytree(base, four_bit)
    tamper(four_bit / "config.json", lambda v: v.update(quantization_config={"load_in_4bit": True}))
    with pytest.raises(InputError, match="its weights are quantised"):
        merge(tmp_path / "run", four_bit, tmp_path / "merged")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (tmp_path / "run/lineage.json").unlink()
    with pytest.raises(InputError, match="cut short before the end of tensor"):
        merge(tmp_path / "run", base, tmp_path / "merged")


def test_a_folder_that_is_no_model_is_not_replaced(tmp_path: Path, base: Path) -> None:
    train(base, tmp_path / "run", make_tokenizer())
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("keep")
    with pytest.raises(InputError, match="is no model folder"):
        merge(tmp_path / "run", base, tmp_path / "notes")
    assert (tmp_path / "notes/mine.txt").read_text() == "keep"


def test_command_line(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(base, tmp_path / "run", make_tokenizer())
    arguments = ["--base", str(base), "--out", str(tmp_path / "merged")]
    assert main([str(tmp_path / "run"), *arguments]) == 0
    assert main([str(tmp_path / "nothing"), *arguments]) == 1
    assert "adapter_config.json: missing; name the output folder of finetune/train.py" in capsys.readouterr().err


def test_an_adapter_on_merged_weights_is_measured_on_them(base: Path, tmp_path: Path) -> None:
    """Where GRPO's adapter names the base of SFT's, SFT is merged in first; where it names the merged folder, it is not."""
    tokenizer = make_tokenizer()
    train(base, tmp_path / "sft", tokenizer, tokens=False)
    merged = merge(tmp_path / "sft", base, tmp_path / "merged")
    train(merged, tmp_path / "grpo", tokenizer, tokens=False, r=2)
    wanted = merge(tmp_path / "grpo", merged, tmp_path / "whole") / "model.safetensors"
    sft, grpo = (str(tmp_path / name / "adapter") for name in ("sft", "grpo"))
    with merged_after(grpo, sft) as opened:
        assert opened == grpo
    described = Path(grpo) / "adapter_config.json"
    described.write_text(json.dumps({**json.loads(described.read_text()), "base_model_name_or_path": str(base)}))
    with merged_after(grpo, sft) as opened:
        assert (Path(opened) / "model.safetensors").read_bytes() == wanted.read_bytes()
    assert not Path(opened).exists()
    with merged_after(grpo, "") as alone, merged_after("qmd-expand:mini", sft) as named:
        assert (alone, named) == (grpo, "qmd-expand:mini")
    for adapter in (grpo, sft):
        described = Path(adapter) / "adapter_config.json"
        described.write_text(json.dumps({**json.loads(described.read_text()), "base_model_name_or_path": "Qwen/none-here"}))
    with pytest.raises(InputError, match="Qwen/none-here: the base of both adapters"), merged_after(grpo, sft):
        pass
