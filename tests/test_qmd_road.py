"""The road of /expand's bundled model in seconds: SFT of all weights, GRPO, GGUF, registry entry, Modelfile, gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft", reason="needs the finetune extra")
torch = pytest.importorskip("torch", reason="needs the finetune extra")

from expansion_samples import EXAMPLES, write_lines  # noqa: E402
from sft_helpers import make_base  # noqa: E402

from finetune import expand_release, train  # noqa: E402
from finetune.dataset.expansion_split import row  # noqa: E402
from finetune.sft import config as sft_config  # noqa: E402
from harness.errors import InputError, UsageError  # noqa: E402
from harness.models import modelfile  # noqa: E402
from harness.registry import find  # noqa: E402
from skills.expand.prompt import CHAT_TEMPLATE, CONTRACT, Query, render_prompt  # noqa: E402

CONFIGS = Path(__file__).resolve().parent.parent / "finetune" / "configs"
NAME = "smoke-expand:mini"
QUERIES = ("auth config", "ünïcode “quotes” </think> <|im_end|>", "C++ vs Rust")


def run(verb: str, **values: Any) -> None:
    changes = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    assert train.main([verb, "--config", str(CONFIGS / f"smoke-qmd-{verb}.yaml"), "--offline", *changes]) == 0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both runs, and the release of their model as a candidate."""
    folder = tmp_path_factory.mktemp("road")
    make_base(folder / "base")
    (folder / "data").mkdir()
    for name, some in (("train", EXAMPLES[:-4]), ("valid", EXAMPLES[-4:])):
        write_lines(folder / "data" / f"{name}.jsonl", [row(one, intent=True) for one in some])
    (folder / "data" / "card.json").write_text(json.dumps({"contract": CONTRACT}))
    run("sft", base=folder / "base", data=folder / "data", out=folder / "sft")
    run("grpo", base=folder / "sft" / "model", data=folder / "data", out=folder / "grpo", steps=2)
    expand_release.release(folder / "grpo", folder / "sft", NAME, folder / "registry")
    return folder


def test_all_weights_are_trained_in_float32(root: Path) -> None:
    from safetensors.torch import load_file

    before, after = (load_file(root / name / "model.safetensors") for name in ("base", "sft/model"))
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert {value.dtype for value in after.values()} == {torch.float32}
    assert not (root / "sft" / "adapter").exists()


def test_training_renders_what_serving_renders(root: Path) -> None:
    from transformers import AutoTokenizer

    for name in ("sft", "grpo"):
        tokenizer = AutoTokenizer.from_pretrained(root / name / "model")
        for query in QUERIES:
            asked = row(EXAMPLES[0].model_copy(update={"query": query}), intent=True)["prompt"]
            text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
            assert text == render_prompt(Query(query))


def test_the_entry_says_where_the_model_comes_from(root: Path) -> None:
    entry = find(NAME, [root / "registry"])
    assert entry is not None
    assert (entry.task, entry.contract, entry.status) == ("expand", CONTRACT, "candidate")
    assert set(entry.lineage) == {"base", "sft_data", "sft_config", "sft_weights", "data", "config", "weights"}
    sft = json.loads((root / "sft" / "lineage.json").read_text())
    assert entry.lineage["sft_weights"] == sft["model"]
    assert entry.serving == {"drafts": expand_release.DRAFTS, "lexicon": True}


def test_the_gguf_carries_contract_and_template(root: Path) -> None:
    from gguf import GGUFReader

    entry = find(NAME, [root / "registry"])
    assert entry is not None
    assert entry.gguf_path is not None
    fields = GGUFReader(entry.gguf_path).fields
    assert fields["tokenizer.chat_template"].contents() == CHAT_TEMPLATE
    assert fields["marginalia.contract"].contents() == CONTRACT
    tokens = fields["tokenizer.ggml.tokens"].contents()
    assert tokens[fields["tokenizer.ggml.eos_token_id"].contents()] == "<|im_end|>"


def test_a_bare_ollama_run_gets_the_same_prompt(root: Path) -> None:
    entry = find(NAME, [root / "registry"])
    assert entry is not None
    text = modelfile.render(entry, root)
    template = text.partition('TEMPLATE """')[2].partition('"""')[0]
    assert template.replace("{{ .Prompt }}", "auth config").removesuffix("{{ .Response }}") == render_prompt(
        Query("auth config")
    )
    assert 'PARAMETER stop <|im_end|>' in text  # fmt: skip


def test_the_gate_decides_and_scores_belong_to_the_file(root: Path) -> None:
    entry = find(NAME, [root / "registry"])
    assert entry is not None
    assert entry.gguf is not None
    figures = {"queries": 4, "percentage": [91.0, 88.0, 94.0], "excellent": 3, "parseable": 4}
    figures |= {"entities_kept": None, "strict": None}
    report = {"models": [{"digest": f"sha256:{entry.gguf.sha256}", "all": figures}]}
    path = write_lines(root / "scores.json", [report])
    assert expand_release.scores_of(report) == {
        "expand_queries": {"queries": 4.0, "percentage": 91.0, "excellent": 0.75, "parseable": 1.0}
    }
    other = write_lines(root / "other.json", [{"models": [{"digest": "sha256:beef", "all": figures}]}])
    with pytest.raises(InputError, match="measured on another file"):
        expand_release.add_scores(NAME, other, root / "registry")
    assert expand_release.add_scores(NAME, path, root / "registry").status == "active"


def test_a_model_that_did_not_go_on_from_the_other_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="did not go on from"):
        expand_release.lineage_of(root / "sft", root / "grpo")
    with pytest.raises(InputError, match="no model"):
        expand_release.product_of(root)


@pytest.mark.parametrize("change", [{"quantize": "nf4"}, {"adapter": "x"}, {"use_unsloth": True}])
def test_full_tuning_takes_a_plain_base(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="tuning full trains the base's own weights"):
        sft_config.parse({"tuning": "full", "quantize": "none", **change}, "x.yaml")


@pytest.mark.parametrize("name", ["qmd-sft", "qmd-mini-sft"])
def test_the_configurations_are_sound(name: str) -> None:
    config = sft_config.load(CONFIGS / f"{name}.yaml")
    assert config.contract == CONTRACT
    if name == "qmd-sft":  # the spec's table
        assert (config.base, config.lora_r, config.lora_alpha, config.epochs) == ("Qwen/Qwen3-1.7B", 16, 32, 5)
        assert (config.batch, config.micro_batch, config.learning_rate, config.max_length) == (16, 4, 2e-4, 512)
        assert len(config.lora_targets) == 7


@pytest.mark.parametrize("name", ["qmd-grpo", "qmd-mini-grpo"])
def test_the_configurations_of_grpo_are_sound(name: str) -> None:
    from finetune.grpo import config as grpo_config

    config = grpo_config.load(CONFIGS / f"{name}.yaml")
    assert config.beta == 0.04
    assert "strict" in config.rewards
    if name == "qmd-grpo":
        assert (config.lora_r, config.lora_alpha, config.lora_targets) == (4, 8, ("q_proj", "v_proj"))
        assert (config.generations, config.steps, config.learning_rate) == (4, 200, 5e-7)
