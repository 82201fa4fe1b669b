"""Runs of the trainer on a tiny random base: what they learn, leave behind and refuse."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bitsandbytes", reason="needs the finetune extra")
torch = pytest.importorskip("torch", reason="needs the finetune extra")

from sft_helpers import SETS, config, make_base, make_data, values  # noqa: E402

from finetune.sft import checkpoints, memory, preflight  # noqa: E402
from finetune.sft import run as runs  # noqa: E402
from finetune.sft.config import SftConfig, load  # noqa: E402
from finetune.sft.trainer import TrainingFailed, stale  # noqa: E402
from harness.console import stderr_console  # noqa: E402
from harness.errors import InputError, MarginaliaError, Offline  # noqa: E402
from skills.annotate.prompt import QUOTE  # noqa: E402

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
LEARNS = {"quantize": "nf4", "lora_r": 16, "lora_alpha": 16, "label_learning_rate": 0.03, "epochs": 6, "save_steps": 20}
"""Enough for the tiny base to tell the five kinds of sentences apart."""


def train(chosen: SftConfig, **options: Any) -> dict[str, Any]:
    return runs.sft(chosen, runs.Run(offline=True, **options), stderr_console())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sha256(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, data of both kinds, and one NF4 run of the mark contract."""
    folder = tmp_path_factory.mktemp("sft")
    make_base(folder / "base")
    make_data(folder / "mark", count=40)
    make_data(folder / "chat", QUOTE)
    train(config(folder / "base", folder / "mark", folder / "run", **LEARNS))
    return folder


# What a run leaves behind.


def test_the_run_learns_and_says_so(root: Path) -> None:
    history, summary = lines(root / "run" / "metrics.jsonl"), json.loads((root / "run" / "train.json").read_text())
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert min(losses) < 0.5
    assert summary["eval_loss"] == pytest.approx(min(losses), abs=1e-6)
    assert summary["steps"] == summary["of"] == 60
    assert summary["token_accuracy"] > 0.8
    assert [entry["step"] for entry in history if "loss" in entry] == list(range(1, 61))
    assert all(0 <= entry["token_accuracy"] <= 1 for entry in history if "loss" in entry)
    assert (root / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_training_goes_on_after_an_evaluation_of_an_nf4_base(root: Path) -> None:
    norms = [
        entry["grad_norm"] for entry in lines(root / "run" / "metrics.jsonl") if entry["step"] > 20 and "loss" in entry
    ]
    assert min(norms) > 0


def test_lineage_holds_the_hashes_of_what_went_in(root: Path) -> None:
    lineage = json.loads((root / "run" / "lineage.json").read_text())
    assert lineage == {
        "base": sha256(root / "base" / "model.safetensors"),
        "data": sha256(root / "mark" / "train.jsonl"),
        "config": sha256(root / "run" / "config.yaml"),
        "adapter": sha256(root / "run" / "adapter" / "adapter_model.safetensors"),
    }
    assert json.loads((root / "run" / "adapter" / "lineage.json").read_text()) == lineage
    assert (root / "run" / "adapter" / "labels.json").read_bytes() == (root / "mark" / "labels.json").read_bytes()


def test_the_adapter_holds_the_new_rows_and_no_copy_of_the_embedding(root: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(root / "run" / "adapter" / "adapter_model.safetensors")
    rows = [value for name, value in tensors.items() if "lora_" not in name]
    assert [tuple(value.shape) for value in rows] == [(1 + len(SETS), 64)]
    adapter = json.loads((root / "run" / "adapter" / "adapter_config.json").read_text())
    assert adapter["target_modules"] == sorted(adapter["target_modules"])


def test_a_merged_adapter_has_tied_heads_and_the_same_loss(root: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from finetune.sft.batches import collate
    from finetune.sft.data import Encoder, load_split, open_folder
    from finetune.sft.model import TrainedPositions

    train(config(root / "base", root / "mark", root / "plain", max_steps=6))
    adapter = root / "plain" / "adapter"
    tokenizer, data = AutoTokenizer.from_pretrained(adapter), open_folder(root / "mark")
    base = AutoModelForCausalLM.from_pretrained(root / "base", dtype=torch.float32)
    base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    merged = PeftModel.from_pretrained(base, adapter).merge_and_unload().eval()
    assert merged.lm_head.weight.data_ptr() == merged.get_input_embeddings().weight.data_ptr()
    valid = load_split(data.file("valid"), Encoder(tokenizer, data.labels, 400), "drop").examples
    batch, positions = collate(valid, tokenizer.pad_token_id), TrainedPositions(merged)
    positions.where = batch["where"]
    loss = torch.nn.functional.cross_entropy(merged(input_ids=batch["input_ids"]).logits[0], batch["targets"]).item()
    assert loss == pytest.approx(json.loads((root / "plain" / "train.json").read_text())["eval_loss"], rel=1e-4)


def test_chat_rows_train_the_same_way(root: Path) -> None:
    summary = train(config(root / "base", root / "chat", root / "quote", lora_targets=["q_proj", "v_proj"], max_steps=6))
    losses = [entry["eval_loss"] for entry in lines(root / "quote" / "metrics.jsonl") if "eval_loss" in entry]
    assert summary["contract"] == QUOTE
    assert losses[-1] < losses[0]
    assert not (root / "quote" / "adapter" / "labels.json").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"gradient_checkpointing": True},
        {"micro_batch": 4},
        {"micro_batch": 4, "micro_tokens": 150},
        {"attention": "blocks"},
    ],
)
def test_how_a_step_is_computed_does_not_change_it(root: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    steady = {"max_steps": 2, "lora_dropout": 0.0, "input_noise": 0.0}
    if not (root / "steady").exists():
        train(config(root / "base", root / "mark", root / "steady", **steady))
    train(config(root / "base", root / "mark", tmp_path / "out", **steady, **change))
    for one, other in zip(lines(root / "steady" / "metrics.jsonl"), lines(tmp_path / "out" / "metrics.jsonl"), strict=True):
        assert one.get("loss", one.get("eval_loss")) == pytest.approx(other.get("loss", other.get("eval_loss")), rel=1e-4)


@pytest.mark.skipif(sys.platform == "win32", reason="no gloo launcher")
def test_two_processes_take_the_steps_of_one(root: Path, tmp_path: Path) -> None:
    steady = {"max_steps": 3, "save_steps": 3, "lora_dropout": 0.0}
    for name in ("one", "two"):
        text = json.dumps(values(root / "base", root / "mark", tmp_path / name, **steady))
        (tmp_path / f"{name}.yaml").write_text(text)
    train(load(tmp_path / "one.yaml"))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, "-m", "finetune.train", "sft", str(tmp_path / "two.yaml"), "--offline"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (lines(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert [e["loss"] for e in one if "loss" in e] == pytest.approx([e["loss"] for e in two if "loss" in e], rel=1e-5)
    tokens = [json.loads((tmp_path / name / "train.json").read_text())["tokens"] for name in ("one", "two")]
    assert tokens[0] == tokens[1]


def test_a_run_goes_on_from_an_adapter_of_its_base_only(root: Path, tmp_path: Path) -> None:
    adapter = str(root / "run" / "adapter")
    start = {"adapter": adapter, "quantize": "nf4", "max_steps": 1, "learning_rate": 1e-6}
    assert train(config(root / "base", root / "mark", tmp_path / "more", **start))["eval_loss"] < 0.5  # a new one: 6
    make_base(tmp_path / "other", seed=5)
    with pytest.raises(InputError, match=r"adapter: is an adapter of another base"):
        train(config(tmp_path / "other", root / "mark", tmp_path / "x", adapter=adapter))


# What stops it.


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(root: Path, tmp_path: Path) -> None:
    wild = config(root / "base", root / "mark", tmp_path / "out", learning_rate=1e30, warmup_steps=0, max_grad_norm=0)
    with pytest.raises(TrainingFailed, match=r"step [23]: the loss is (nan|inf).*lower learning_rate \(now 1e\+30\)"):
        train(wild)
    assert not (tmp_path / "out" / "adapter").exists()


def test_it_stops_early_and_keeps_the_best(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    worse = config(
        root / "base", root / "mark", out, learning_rate=0.3, warmup_steps=0, scheduler="constant", patience=2, epochs=9
    )
    summary = train(worse)
    losses = [entry["eval_loss"] for entry in lines(out / "metrics.jsonl") if "eval_loss" in entry]
    assert summary["steps"] < summary["of"]
    assert stale(losses) == 2
    assert (out / f"checkpoint-{summary['best_step']}").is_dir()
    best = out / f"checkpoint-{summary['best_step']}" / "adapter_model.safetensors"
    assert best.read_bytes() == (out / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": "no/such/folder"}, r"no/such/folder: no such base folder"),
        ({"base": "nobody/nothing-7b"}, r"nobody/nothing-7b: is not on this machine; run once without --offline"),
        ({"data": "no-data"}, r"no-data: no such data folder"),
        ({"precision": "fp16"}, r"precision fp16 needs a CUDA device"),
        ({"use_unsloth": True}, r"use_unsloth: Unsloth needs a CUDA device"),
        ({"lora_targets": ["q_proj", "wq"]}, r"lora_targets: the base has no layer wq"),
    ],
)
def test_what_cannot_run_is_said_before(root: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(MarginaliaError, match=message):
        train(config(**({"base": root / "base", "data": root / "mark", "out": tmp_path / "out"} | change)))
    assert not (tmp_path / "out" / "adapter").exists()


def test_nothing_is_downloaded_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune.sft import base

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert base.offline()
    with pytest.raises(Offline):
        base.fetch(base.find("Qwen/Qwen2.5-7B-Instruct"), is_offline=base.offline())


def test_a_damaged_base_is_named(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(root / "base", folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"base: has no \*\.safetensors"):
        train(config(folder, root / "mark", tmp_path / "out"))


def test_a_folder_with_another_run_is_not_mixed_up(root: Path) -> None:
    with pytest.raises(InputError, match=r"run: holds checkpoint-60 of an earlier run; go on with --resume auto"):
        train(config(root / "base", root / "mark", root / "run", **LEARNS))


def test_too_little_memory_or_disk_is_said_with_what_would_help(root: Path) -> None:
    chosen = config(root / "base", root / "mark", root / "x")
    with pytest.raises(
        InputError,
        match=r"needs about 9\.0 GB of memory, this machine has 2\.0 GB free; try gradient_checkpointing=true or",
    ):
        preflight.check_memory(9e9, 2_000_000_000, "cpu", chosen, force=False)
    preflight.check_memory(9e9, 2_000_000_000, "cpu", chosen, force=True)
    sizes = memory.measure(json.loads((root / "base" / "config.json").read_text()), chosen)
    with pytest.raises(InputError, match=r"x: checkpoints need about \d+ MB, the disk has 1 MB free"):
        preflight.check_disk(sizes, chosen, 1_000_000, force=False)


def test_a_full_disk_is_one_line(root: Path) -> None:
    from finetune.sft.trainer import clear_failures

    chosen = config(root / "base", root / "mark", root / "x")
    with pytest.raises(TrainingFailed, match=r"step 7: .*no space left.*--resume auto"), clear_failures(chosen, lambda: 7):
        raise RuntimeError("[enforce fail at inline_container.cc:783] . PytorchStreamWriter failed writing file data/3")
    with pytest.raises(TrainingFailed, match="step 7: out of memory; lower micro_batch"), clear_failures(chosen, lambda: 7):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
    assert checkpoints.newest_sound(root / "x") is None
