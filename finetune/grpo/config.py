"""Every value of a GRPO run: one dataclass, from YAML and ``--set key=value``, checked before anything loads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import run_config
from finetune.run_config import one_of
from finetune.sft.config import SftConfig
from harness.errors import UsageError
from skills.ask import prompt as ask_prompt
from skills.expand import prompt as expand_prompt

REWARDS = ("strict", "qmd", "ask")


@dataclass(frozen=True)
class GrpoConfig:
    """One run. Paths are relative to the working folder; sizes are in queries or tokens, rates per optimizer step."""

    base: str = "finetune_output/qmd/sft/model"
    """The model to begin with, and the reference it is held to: SFT's, with its adapter merged in (finetune/merge.py)."""
    data: str = "finetune_output/qmd/augmented"
    """The folder that SFT was trained on: its queries are asked, its rows are the reward's background and gold."""
    out: str = "finetune_output/qmd/grpo"
    rewards: tuple[str, ...] = ("strict",)
    """Their product is the reward. Of expansions: ``strict`` (rewards/strict.py), ``qmd`` (the published rubric, which is
    never alone). Of answers: ``ask`` (rewards/ask.py)."""
    left_out: tuple[str, ...] = ("swapped",)
    """Sources of rows that are neither asked nor gold: words swapped by dice mean nothing."""

    tuning: str = one_of("lora", "full")
    """``lora``: an adapter of the frozen base, into adapter/; ``full``: all weights of a small base, into model/."""
    quantize: str = one_of("none", "nf4")
    lora_r: int = 4
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    precision: str = one_of("auto", "bf16", "fp16", "fp32")
    device: str = one_of("auto", "cpu", "cuda")
    device_map: str = one_of("", "auto", "balanced", "sequential")
    attention: str = one_of("auto", "sdpa", "eager", "flash_attention_2", "blocks")
    threads: int = 0
    """CPU threads; 0 leaves it to torch."""

    beta: float = 0.04
    """Weight of the divergence from the reference. 0 lets the model run into whatever the reward forgot."""
    generations: int = 4
    """Answers to a query, which are compared with one another."""
    prompts: int = 4
    """Queries of an optimizer step."""
    prompt_tokens: int = 256
    """Longer prompts are not asked."""
    completion_tokens: int = 256
    """An answer that has not ended by then gets nothing."""
    temperature: float = 1.0
    micro_batch: int = 16
    """At most so many answers go through the model at once while it learns."""

    steps: int = 200
    learning_rate: float = 5e-7
    scheduler: str = one_of("cosine", "constant")
    warmup_steps: int = 10
    max_grad_norm: float = 0.5
    weight_decay: float = 0.0

    save_steps: int = 50
    eval_steps: int = 50
    """Steps between evaluations; one stands before the first step."""
    eval_prompts: int = 64
    """Queries of the validation rows that an evaluation asks, greedily."""
    keep_checkpoints: int = 2
    seed: int = 1

    @property
    def may_change(self) -> frozenset[str]:
        """Values that may differ between a checkpoint and the run that goes on from it."""
        return frozenset("out device device_map attention threads micro_batch save_steps keep_checkpoints".split())

    @property
    def contract(self) -> str:
        """The prompt contract of what is asked, which the rewards are for."""
        return ask_prompt.CONTRACT if "ask" in self.rewards else expand_prompt.CONTRACT

    @property
    def product(self) -> str:
        """The folder of the output folder that a run writes its result to."""
        return self.loading.product

    @property
    def loading(self) -> SftConfig:
        """What loading the model asks: the trainer of SFT does it."""
        return SftConfig(
            base=self.base,
            out=self.out,
            tuning=self.tuning,
            quantize=self.quantize,
            precision=self.precision,
            device=self.device,
            device_map=self.device_map,
            attention=self.attention,
            lora_r=self.lora_r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            lora_targets=self.lora_targets,
            micro_batch=self.micro_batch,
            max_length=self.prompt_tokens + self.completion_tokens,
            keep_checkpoints=self.keep_checkpoints,
            seed=self.seed,
        )


_POSITIVE = (
    "lora_r generations prompts prompt_tokens completion_tokens temperature micro_batch steps learning_rate max_grad_norm "
    "save_steps eval_steps eval_prompts"
).split()


def parse(values: Mapping[str, Any], where: str) -> GrpoConfig:
    """A configuration from plain values; ``where`` names their source in messages. Raises UsageError."""
    config = run_config.build(GrpoConfig, values, where, positive=_POSITIVE, shares=("lora_dropout",))
    if config.generations < 2:
        raise UsageError(f"{where}: generations {config.generations}: an answer needs others to be compared with", "give 2")
    if unknown := set(config.rewards) - set(REWARDS):
        raise UsageError(f"{where}: rewards: there is no {min(unknown)!r}", f"take of {', '.join(REWARDS)}")
    if "ask" in config.rewards and len(config.rewards) > 1:
        raise UsageError(f"{where}: rewards: ask judges answers, the others expansions", "give rewards: [ask]")
    if config.tuning == "full" and config.quantize != "none":
        raise UsageError(f"{where}: tuning full trains the base's own weights, which cannot be quantised", "quantize: none")
    if config.save_steps % config.eval_steps:
        message = f"{where}: save_steps {config.save_steps} is no multiple of eval_steps {config.eval_steps}"
        raise UsageError(message, "the best weights are those of an evaluation: change either")
    return config


def load(path: Path, overrides: Iterable[str] = ()) -> GrpoConfig:
    """Read YAML; each override is ``key=value`` and wins over the file. Raises InputError for the file, UsageError else."""
    return run_config.load(GrpoConfig, parse, path, overrides)


def check_beta(config: GrpoConfig, force: bool) -> None:
    """Refuse a run that nothing holds to its reference. Raises UsageError."""
    if config.beta == 0 and not force:
        raise UsageError(
            "beta 0: nothing holds the model to what it was, and it collapses into what the reward forgot",
            "give beta 0.04, or --force to see it happen",
        )
