"""Configurations of the trainer: what is taken, what is refused, and what the shipped ones say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from finetune.sft.config import SftConfig, changed, load, parse, plain
from harness.errors import InputError, UsageError

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "finetune" / "configs"


def test_the_7b_configuration_is_the_specification() -> None:
    config = load(CONFIGS / "nanda-annotator-7b.yaml")
    assert config.base == "Qwen/Qwen2.5-7B-Instruct"
    assert (config.quantize, config.double_quant, config.device_map) == ("nf4", True, "auto")
    assert (config.lora_r, config.lora_alpha, config.lora_dropout) == (16, 32, 0.1)
    assert config.lora_targets == ("q_proj", "v_proj")
    assert (config.batch, config.micro_batch, config.learning_rate, config.epochs) == (16, 4, 2e-4, 3)
    assert (config.save_steps, config.logging_steps, config.report_to) == (100, 10, "none")


def test_the_mini_configuration_needs_no_gpu() -> None:
    config = load(CONFIGS / "nanda-annotator-mini.yaml")
    assert (ROOT / config.base / "model.safetensors").is_file()
    assert (config.contract, config.device, config.quantize) == ("annotate/mark@1", "cpu", "nf4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate: 1", r"x\.yaml: unknown key 'lerning_rate'; did you mean learning_rate\?"),
        ("zzz: 1", r"unknown key 'zzz'; known: base"),
        ("batch: 2.5", r"batch: 2.5 is not a whole number"),
        ("batch: true", r"batch: True is not a whole number"),
        ("batch: 0", r"batch: 0 is too small"),
        ("learning_rate: fast", r"learning_rate: 'fast' is not a number"),
        ("learning_rate: .nan", r"learning_rate: nan is not a number"),
        ("quantize: int8", r"quantize: 'int8' is not one of nf4, none"),
        ("double_quant: 3", r"double_quant: 3 is not true or false"),
        ("lora_targets: []", r"lora_targets: \[\] is not a list of names"),
        ("lora_dropout: 1", r"lora_dropout: 1.0 is no share"),
        ("save_steps: 100\neval_steps: 30", r"save_steps 100 is no multiple of eval_steps 30"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load(path)


@pytest.mark.parametrize(("text", "message"), [("a: [", "is no YAML"), ("- a", "holds no key"), (None, "cannot be read")])
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=rf"x\.yaml: {message}"):
        load(path)


def test_values_are_typed_however_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("learning_rate: 2e-4\nbatch: '8'\nreport_to:\n")
    config = load(path, ["lora_targets=q_proj,k_proj", "double_quant=false", "epochs=1e0", "batch=4", "adapter="])
    assert (config.learning_rate, config.batch, config.report_to) == (2e-4, 4, "none")
    assert (config.lora_targets, config.double_quant, config.epochs) == (("q_proj", "k_proj"), False, 1.0)
    assert config.adapter == ""
    with pytest.raises(UsageError, match="--set: unknown key 'bach'; did you mean batch"):
        load(path, ["bach=1"])
    with pytest.raises(UsageError, match="--set batch: has no '='"):
        load(path, ["batch"])


def test_what_was_written_reads_back_the_same() -> None:
    config = parse({"lora_targets": "all-linear", "seed": 7}, "here")
    assert parse(plain(config), "there") == config


def test_only_values_that_matter_to_a_step_count_as_changed() -> None:
    earlier = plain(SftConfig())
    assert changed(parse({"out": "elsewhere", "report_to": "wandb", "save_steps": 5}, "x"), earlier) == []
    assert changed(parse({"lora_r": 8, "seed": 2}, "x"), earlier) == ["lora_r", "seed"]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_and_refusals_load_no_torch() -> None:
    code = (
        "import sys\nfrom finetune import train, finetune_annotate\n"
        "assert train.main(['orpo', 'x.yaml']) == 2\n"
        "assert train.main(['sft', 'no.yaml']) == 1\n"
        "assert finetune_annotate.main(['--config', 'no.yaml', '--set', 'a']) == 1\n"
        "assert train.main(['sfx']) == 2\n"
        "assert not {'torch', 'transformers', 'pandas'} & set(sys.modules)\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert "train orpo: is not there yet" in done.stderr
    assert "no.yaml: cannot be read" in done.stderr


@pytest.mark.parametrize(
    "command", [["-m", "finetune.train", "sft"], ["finetune/finetune_annotate.py"], ["finetune/train.py"]]
)
def test_help_shows_an_example(command: list[str]) -> None:
    done = subprocess.run([sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "finetune/configs/nanda-annotator" in done.stdout
