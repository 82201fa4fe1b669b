"""Plans: memory by part without weights, shares and steps from the data, examples with their trained part marked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("peft", reason="needs the finetune extra")
pytest.importorskip("torch", reason="needs the finetune extra")

from sft_helpers import MOVES, SETS, config, make_base, make_data

from finetune.sft import memory, plan, report
from finetune.sft.base import KNOWN
from finetune.sft.config import load, parse
from skills.annotate.prompt import QUOTE

CONFIGS = Path(__file__).resolve().parent.parent / "finetune" / "configs"
SEVEN = "Qwen/Qwen2.5-7B-Instruct"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def test_parameters_of_the_7b_base_are_those_of_its_model_card() -> None:
    sizes = memory.measure(KNOWN[SEVEN], load(CONFIGS / "nanda-annotator-7b.yaml"))
    assert sizes.parameters == 7_615_616_512
    assert sizes.parameters - 2 * 152064 * 3584 == pytest.approx(6.53e9, rel=0.001)  # "non-embedding" there
    assert sizes.adapter == 28 * 16 * (3584 + 3584 + 3584 + 512)


def test_qlora_brings_7b_from_14_to_about_6_gigabytes() -> None:
    qlora = load(CONFIGS / "nanda-annotator-7b.yaml")
    whole = parse({"quantize": "none", "gradient_checkpointing": True}, "x")
    held, plainly = (
        memory.estimate(memory.measure(KNOWN[SEVEN], c), c, "cuda", "bf16", tokens=4 * 1024, trained=4 * 80)
        for c in (qlora, whole)
    )
    assert plainly["base weights"] == pytest.approx(15.2e9, rel=0.01)
    assert held["base weights"] == pytest.approx(5.55e9, rel=0.02)  # NF4 with double quantisation: 4.127 bits a weight
    assert 6e9 < sum(held.values()) < 10e9


def test_each_saving_saves() -> None:
    def total(**changes: object) -> float:
        config = parse({"lora_targets": "all-linear", **changes}, "x")
        return sum(memory.estimate(memory.measure(KNOWN[SEVEN], config), config, "cuda", "bf16", 4096, 400).values())

    usual = total()
    assert total(gradient_checkpointing=True) < usual
    assert total(double_quant=False) > usual
    assert total(quantize="none") > usual
    assert total(lora_r=64) > usual
    assert total(lora_targets="q_proj") < usual


def test_a_plan_of_a_base_that_is_not_here_loads_nothing(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", QUOTE)
    config = load(CONFIGS / "nanda-annotator-7b.yaml", [f"data={data}", f"out={tmp_path / 'out'}"])
    result = plan.plan(config)
    assert result["estimated"]
    assert result["steps"] == 2 * 3  # 24 examples, 16 a step, three epochs
    assert result["device"] == "cuda"
    text = plan.render(result)
    assert "7,615.6 M parameters" in text
    assert "tokens estimated from characters" in text
    assert "⟦" in text
    assert not (tmp_path / "out").exists()


def test_a_plan_without_data_says_so(tmp_path: Path) -> None:
    config = load(CONFIGS / "nanda-annotator-7b.yaml", [f"data={tmp_path / 'none'}"])
    text = plan.render(plan.plan(config))
    assert "memory in all, about" in text
    assert "no such data folder; make it with" in text


def test_a_plan_of_a_small_base_is_exact(tmp_path: Path, base: Path) -> None:
    result = plan.plan(config(base, make_data(tmp_path / "data"), tmp_path / "out"))
    assert (result["examples"], result["valid_examples"], result["steps"]) == (24, 8, 12)
    assert not result["estimated"]
    assert result["share_too_long"] == 0
    assert 0 < result["share_trained"] < 0.2
    assert 0 <= result["share_padding"] < 0.3
    assert result["probe"]["tokens_per_second"] > 0
    assert (
        result["trained_parameters"]
        == (1 + len(SETS)) * 64
        + memory.measure(json.loads((base / "config.json").read_text()), config(base, tmp_path, tmp_path)).adapter
    )
    assert len(result["shown"]) == 3
    assert f"<|mark|>⟦<{MOVES[0]}" in plan.render(result)


def test_a_chat_example_is_shown_with_its_completion_marked(tmp_path: Path, base: Path) -> None:
    result = plan.plan(config(base, make_data(tmp_path / "data", QUOTE), tmp_path / "out"))
    shown = result["shown"][0]["text"]
    assert shown.startswith("<|im_start|>system\nAnnotate.")
    assert shown.split("⟦")[0].endswith("<|im_start|>assistant\n")
    assert shown.endswith("</annotation><|im_end|>⟧")


def test_curves_are_drawn_for_people(tmp_path: Path) -> None:
    history = [{"step": n, "loss": 3 / n} for n in range(1, 200)] + [
        {"step": 100, "eval_loss": 0.5, "eval_token_accuracy": 0.8}
    ]
    first, second = report.summary_lines(history)
    assert first.split()[1][0] == "█"
    assert first.split()[1][-1] == "▁"
    assert len(first.split()[1]) == 60
    assert second.endswith("0.500 → 0.500")
    pytest.importorskip("matplotlib")
    assert report.write_png(tmp_path / "loss.png", history, "test")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_is_no_picture_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not report.write_png(tmp_path / "loss.png", [], "test")


@pytest.mark.parametrize(
    ("file", "name", "millions", "maker"),
    [
        ("qmd-sft.yaml", "Qwen/Qwen3-1.7B", 1720.6, "prepare_data.py"),
        ("qmd-sft.yaml", "Qwen/Qwen3-4B", 4022.5, "prepare_data.py"),
        ("research-qa-sft.yaml", "Qwen/Qwen2.5-3B-Instruct", 3085.9, "qasa.py"),
    ],
)
def test_bases_of_the_other_models_are_known_and_their_data_has_a_maker(
    tmp_path: Path, file: str, name: str, millions: float, maker: str
) -> None:
    assert memory.measure(KNOWN[name], load(CONFIGS / file)).parameters / 1e6 == pytest.approx(millions, abs=0.1)
    text = plan.render(plan.plan(load(CONFIGS / file, [f"base={name}", f"data={tmp_path / 'none'}"])))
    assert maker in text
    assert "memory in all, about" in text
