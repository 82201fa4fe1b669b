"""GRPO of /expand's model in the cloud, by TRL, on the merged SFT weights, by finetune/configs/qmd-grpo.yaml.

    hf jobs uv run --flavor a10g-large --secrets HF_TOKEN --timeout 4h finetune/jobs/grpo.py

The reward is the product of those that the configuration names (strict: finetune/rewards/strict.py with the training rows
as its background; qmd: the published rubric). Training does not start where an adversary beats gold, nor with beta 0,
which lets the model run into whatever the reward forgot (--force does it all the same).
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.jobs.source.cloud import AUTO, data_folder, load, model_folder, push
from finetune.jobs.source.eval_common import prompt_of, read_rows, trained
from finetune.jobs.source.sft import lora, values
from finetune.rewards.adversaries import Gold
from finetune.rewards.background import Background
from finetune.rewards.guard import assert_no_adversary_beats_gold
from finetune.rewards.qmd_score import reward as qmd_reward
from finetune.rewards.strict import StrictReward
from harness.errors import MarginaliaError

DEPENDENCIES = (
    "accelerate>=1.15",
    "datasets>=4",
    "peft>=0.21",
    "pyyaml>=6",
    "torch>=2.6",
    "transformers>=5",
    "trl>=1.16,<2",
)
FILES = ("finetune/configs/qmd-grpo.yaml",)
BASE = "Qwen/Qwen3-1.7B"
Reward = Callable[[str, str], float]


def arguments(config: Mapping[str, Any], out: str, cuda: bool) -> dict[str, Any]:
    """The configuration as TRL's GRPOConfig takes it. TRL counts answers in a batch, not queries."""
    answers = config["prompts"] * config["generations"]
    at_once = min(answers, 4 * config["generations"])
    return {
        "output_dir": out,
        "beta": config["beta"],
        "num_generations": config["generations"],
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": max(1, answers // at_once),
        "max_completion_length": config["completion_tokens"],
        "temperature": config["temperature"],
        "max_steps": config["steps"],
        "learning_rate": float(config["learning_rate"]),
        "lr_scheduler_type": config["scheduler"],
        "warmup_steps": config["warmup_steps"],
        "max_grad_norm": config["max_grad_norm"],
        "save_steps": config["save_steps"],
        "save_total_limit": 2,
        "logging_steps": 5,
        "report_to": "none",
        "seed": config["seed"],
        "bf16": cuda,
        "use_cpu": not cuda,
    }


def golden(rows: Sequence[Mapping[str, Any]]) -> list[Gold]:
    """The training rows as queries with good expansions, each query once."""
    found: dict[str, Gold] = {}
    for row in rows:
        lines = [line.split(": ", 1) for line in row["completion"].splitlines()]
        found.setdefault(row["query"].casefold(), Gold(row["query"], tuple((kind, text) for kind, text in lines)))
    return list(found.values())


def reward_of(names: Sequence[str], gold: Sequence[Gold]) -> Reward:
    """The product of the rewards, after the check that no adversary beats gold. SystemExit where one does."""
    background = Background.fit((one.query, one.lines) for one in gold)
    known: dict[str, Reward] = {"strict": StrictReward(background), "qmd": qmd_reward}
    parts = [known[name] for name in names]

    def product(query: str, text: str) -> float:
        return math.prod(part(query, text) for part in parts)

    try:
        print(assert_no_adversary_beats_gold(product, gold, most=200).table())
    except MarginaliaError as error:
        raise SystemExit(f"error: {error}") from None
    return product


def as_trl(reward: Reward) -> Callable[..., list[float]]:
    """The reward as GRPOTrainer calls it: the column ``query`` comes along with the answers."""

    def expansion_reward(completions: Sequence[str], query: Sequence[str], **columns: object) -> list[float]:
        return [reward(asked, text) for asked, text in zip(query, completions, strict=True)]

    return expansion_reward


def train(config: Mapping[str, Any], base: str, sft: str, data: str, out: str, limit: int) -> None:
    """Merge SFT into the base, train an adapter on that, write it to ``out``."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found]

    rows = list(read_rows(data_folder(data) / "train.jsonl"))
    gold = golden(rows)
    reward = reward_of(config["rewards"], gold)
    known = {row["query"].casefold(): trained(row)["prompt"] for row in rows}
    asked = [{"prompt": known[one.query.casefold()], "query": one.query} for one in gold][: limit or None]
    model, tokenizer = load(base, *([str(model_folder(sft, "qmd-query-expansion-1.7B-sft"))] if sft != "none" else []))
    trainer = GRPOTrainer(
        model=model,
        args=GRPOConfig(**arguments(config, out, torch.cuda.is_available())),
        train_dataset=Dataset.from_list(asked).shuffle(seed=config["seed"]),
        reward_funcs=[as_trl(reward)],
        processing_class=tokenizer,
        peft_config=LoraConfig(**lora(config)),
    )
    trainer.train()
    trainer.save_model(out)
    tokenizer.save_pretrained(out)


def main(argv: Sequence[str] | None = None) -> int:
    """Train and upload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=BASE, metavar="REF", help=f"what SFT was trained on (default: {BASE})")
    parser.add_argument(
        "--sft", default=AUTO, metavar="REF", help="adapter of SFT (default: yours); none: it is in the base"
    )
    parser.add_argument("--data", default=AUTO, metavar="REF", help="data set on the hub, or a folder (default: yours)")
    parser.add_argument(
        "--push", default=AUTO, metavar="REPO", help="where the adapter goes (default: yours); none keeps it"
    )
    parser.add_argument("--out", default="grpo", metavar="FOLDER", help="where it is written first")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value; repeatable")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="the first N queries only")
    parser.add_argument("--force", action="store_true", help="train with beta 0")
    parser.add_argument("--dry-run", action="store_true", help="show values, a prompt and rewards, and stop")
    args = parser.parse_args(argv)
    config = values(args.set, FILES[0])
    if config["beta"] == 0 and not args.force:
        raise SystemExit("error: beta 0: nothing holds the model to what it was; give --set beta=0.04, or --force")
    if args.dry_run:
        sample = "hyde: AUTH_SECRET is set in the environment.\nlex: authentication settings\nvec: how to configure login"
        shown: dict[str, Any] = {"config": config, "trl": arguments(config, args.out, True), "peft": lora(config)}
        shown |= {"prompt": prompt_of("auth config"), "qmd_reward": qmd_reward("auth config", sample)}
        print(json.dumps(shown, indent=1))
        return 0
    train(config, args.base, args.sft, args.data, args.out, args.limit)
    push(Path(args.out), args.push, "qmd-query-expansion-1.7B-grpo")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
