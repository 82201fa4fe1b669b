"""Supervised fine-tuning of /expand's model in the cloud, by TRL, with the values of finetune/configs/qmd-sft.yaml.

    hf jobs uv run --flavor a10g-large --secrets HF_TOKEN --timeout 2h finetune/jobs/sft.py

Data is a data set on the hub made of what finetune/dataset/prepare_data.py wrote; the adapter goes to a private
repository. Both are found by the name of whoever HF_TOKEN belongs to, unless --data and --push say otherwise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from finetune.jobs.files import text_of
from finetune.jobs.source.cloud import AUTO, data_folder, push
from finetune.jobs.source.eval_common import prompt_of, read_rows, trained

DEPENDENCIES = (
    "accelerate>=1.15",
    "datasets>=4",
    "peft>=0.21",
    "pyyaml>=6",
    "torch>=2.6",
    "transformers>=5",
    "trl>=1.16,<2",
)
FILES = ("finetune/configs/qmd-sft.yaml",)


def values(changes: Sequence[str], path: str = FILES[0]) -> dict[str, Any]:
    """The configuration with ``key=value`` changes. SystemExit for a key that it does not have."""
    config: dict[str, Any] = yaml.safe_load(text_of(path))
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or key not in config:
            raise SystemExit(f"error: --set {change}: the configuration has {', '.join(config)}")
        config[key] = yaml.safe_load(value)
    return config


def arguments(config: Mapping[str, Any], out: str, cuda: bool) -> dict[str, Any]:
    """The configuration as TRL's SFTConfig takes it."""
    return {
        "output_dir": out,
        "num_train_epochs": config["epochs"],
        "per_device_train_batch_size": config["micro_batch"],
        "gradient_accumulation_steps": max(1, config["batch"] // config["micro_batch"]),
        "learning_rate": float(config["learning_rate"]),
        "lr_scheduler_type": config["scheduler"],
        "warmup_steps": config["warmup_steps"],
        "max_length": config["max_length"],
        "completion_only_loss": True,
        "eval_strategy": "steps",
        "eval_steps": config["eval_steps"],
        "save_steps": config["save_steps"],
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "logging_steps": config["logging_steps"],
        "report_to": config["report_to"],
        "seed": config["seed"],
        "bf16": cuda,
        "use_cpu": not cuda,
    }


def lora(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as PEFT's LoraConfig takes it."""
    return {
        "task_type": "CAUSAL_LM",
        "r": config["lora_r"],
        "lora_alpha": config["lora_alpha"],
        "lora_dropout": config.get("lora_dropout", 0.0),
        "target_modules": config["lora_targets"],
        "bias": config.get("lora_bias", "none"),
    }


def train(config: Mapping[str, Any], data: str, out: str, limit: int) -> None:
    """Train, and write adapter and tokenizer to ``out``."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found]

    folder = data_folder(data)
    sets = {
        name: Dataset.from_list([trained(row) for row in read_rows(folder / f"{name}.jsonl")][: limit or None])
        for name in ("train", "valid")
    }
    tokenizer = AutoTokenizer.from_pretrained(config["base"])
    trainer = SFTTrainer(
        model=config["base"],
        args=SFTConfig(**arguments(config, out, torch.cuda.is_available())),
        train_dataset=sets["train"],
        eval_dataset=sets["valid"],
        processing_class=tokenizer,
        peft_config=LoraConfig(**lora(config)),
    )
    trainer.train()
    print(json.dumps({"eval": trainer.evaluate()}))
    trainer.save_model(out)
    tokenizer.save_pretrained(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Train and upload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=AUTO, metavar="REF", help="data set on the hub, or a folder (default: yours)")
    parser.add_argument(
        "--push", default=AUTO, metavar="REPO", help="where the adapter goes (default: yours); none keeps it"
    )
    parser.add_argument("--out", default="sft", metavar="FOLDER", help="where it is written first")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value; repeatable")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="the first N rows only")
    parser.add_argument("--dry-run", action="store_true", help="show values and a prompt, and stop")
    args = parser.parse_args(argv)
    config = values(args.set)
    if args.dry_run:
        shown = {
            "config": config,
            "trl": arguments(config, args.out, True),
            "peft": lora(config),
            "prompt": prompt_of("auth config"),
        }
        print(json.dumps(shown, indent=1))
        return 0
    train(config, args.data, args.out, args.limit)
    from pathlib import Path

    push(Path(args.out), args.push, "qmd-query-expansion-1.7B-sft")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
