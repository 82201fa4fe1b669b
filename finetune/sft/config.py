"""Every value of a fine-tuning run: one dataclass, from YAML and ``--set key=value``, checked before anything loads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import run_config
from finetune.run_config import one_of, plain
from harness.errors import UsageError

__all__ = ["MAY_CHANGE", "SftConfig", "changed", "load", "parse", "plain"]


@dataclass(frozen=True)
class SftConfig:
    """One run. Paths are relative to the working folder; sizes are in examples or tokens, rates per optimizer step."""

    base: str = "registry/marginalia-base/mini"
    """A model folder, or the name of one on the Hugging Face hub (taken from its cache when it is there)."""
    data: str = "finetune_output/dataset"
    """A folder with ``train.jsonl``, ``valid.jsonl`` and ``card.json``."""
    out: str = "finetune_output/annotator"
    contract: str = ""
    """The prompt contract that the data must be of; empty takes the one that its card names."""
    tuning: str = one_of("lora", "full")
    """``lora``: an adapter of the frozen base, into adapter/; ``full``: all weights of a small base, into model/."""
    adapter: str = ""
    """An adapter of the same base to go on from; empty starts a new one."""

    quantize: str = one_of("nf4", "none")
    """How the frozen base is held: NF4 (Dettmers et al. 2023), or as it is."""
    double_quant: bool = True
    precision: str = one_of("auto", "bf16", "fp16", "fp32")
    """Of computation. ``auto``: bf16 where the device multiplies it natively, else fp16 on CUDA and fp32 on a CPU."""
    device: str = one_of("auto", "cpu", "cuda")
    device_map: str = one_of("", "auto", "balanced", "sequential")
    """Accelerate's placement of a base that does not fit one device; empty puts it on the device whole. Several processes
    (``accelerate launch``) do without it: each has the whole base, or FSDP's share."""
    attention: str = one_of("auto", "sdpa", "eager", "flash_attention_2", "blocks")
    """``auto``: our own blocks for bf16 on a CPU, else torch's."""
    use_unsloth: bool = False
    threads: int = 0
    """CPU threads; 0 leaves it to torch."""

    lora_r: int = 16
    lora_alpha: float = 32
    lora_dropout: float = 0.1
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Names of linear layers, or ``all-linear``."""
    lora_bias: str = one_of("none", "all", "lora_only")

    batch: int = 16
    """Examples of one optimizer step, over all devices."""
    micro_batch: int = 4
    """At most so many of them go through the model at once on one device …"""
    micro_tokens: int = 0
    """… and at most so many tokens, padding included (0: no limit; one process only)."""
    group: int = 8
    """Examples of so many steps are sorted by length together; 0 keeps them in random order and pads more."""
    max_length: int = 2048
    too_long: str = one_of("drop", "cut")
    """What becomes of an example of more tokens: left out and counted, or cut at the end."""
    epochs: float = 3.0
    max_steps: int = 0
    """Ends the run sooner; 0 does not."""

    learning_rate: float = 2e-4
    label_learning_rate: float = 0.0
    """Of the rows of new tokens; 0 takes ``learning_rate``."""
    share_labels: bool = True
    """A label token's gradient also moves those that name the same moves, so that rare sets learn from common ones."""
    scheduler: str = one_of("linear", "cosine", "constant")
    min_learning_rate: float = 0.0
    """Where a cosine ends."""
    warmup_steps: float = 0.03
    """Steps, or below 1 a share of them."""
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    max_grad_norm: float = 1.0
    input_noise: float = 0.0
    """Share of input tokens that training replaces by others at random (word dropout); the trained positions stay."""
    gradient_checkpointing: bool = False

    save_steps: int = 100
    eval_steps: int = 0
    """0: as often as checkpoints are saved, which must be a multiple of it."""
    patience: int = 0
    """Stop after so many evaluations without a better loss; 0 never does."""
    keep: str = one_of("best", "last")
    """Which weights become the result: those of the least evaluation loss, or the last ones."""
    keep_checkpoints: int = 3
    logging_steps: int = 10
    report_to: str = one_of("none", "wandb", "trackio")
    seed: int = 1

    @property
    def may_change(self) -> frozenset[str]:
        """Values that may differ between a checkpoint and the run that goes on from it."""
        return MAY_CHANGE

    @property
    def product(self) -> str:
        """The folder of the output folder that a run writes its result to."""
        return "model" if self.tuning == "full" else "adapter"

    @property
    def evaluate_every(self) -> int:
        """Steps between evaluations."""
        return self.eval_steps or self.save_steps

    @property
    def label_rate(self) -> float:
        """Learning rate of the rows of new tokens."""
        return self.label_learning_rate or self.learning_rate


_POSITIVE = ("lora_r", "batch", "micro_batch", "max_length", "epochs", "learning_rate", "save_steps", "logging_steps")
_SHARES = ("lora_dropout", "input_noise", "adam_beta1", "adam_beta2")
# Values that may differ between a checkpoint and the run that goes on from it: none of them
# changes what a step computes, but for rounding.
MAY_CHANGE = frozenset(
    "data out device device_map attention use_unsloth threads micro_batch micro_tokens save_steps eval_steps "
    "patience keep_checkpoints logging_steps report_to gradient_checkpointing".split()
)


def parse(values: Mapping[str, Any], where: str) -> SftConfig:
    """A configuration from plain values; ``where`` names their source in messages. Raises UsageError."""
    config = run_config.build(SftConfig, values, where, positive=_POSITIVE, shares=_SHARES)
    if config.tuning == "full" and (config.quantize != "none" or config.adapter or config.use_unsloth):
        message = f"{where}: tuning full trains the base's own weights: it takes no quantised base, adapter or Unsloth"
        raise UsageError(message, "--set quantize=none, and leave adapter and use_unsloth out")
    if config.use_unsloth and config.adapter:
        message = f"{where}: Unsloth starts an adapter of its own: it cannot go on from {config.adapter}"
        raise UsageError(message, "--set use_unsloth=false, or leave adapter out")
    if config.save_steps % config.evaluate_every:
        message = f"{where}: save_steps {config.save_steps} is no multiple of eval_steps {config.evaluate_every}"
        raise UsageError(message, "the best checkpoint can only be one that was evaluated: change either")
    return config


def load(path: Path, overrides: Iterable[str] = ()) -> SftConfig:
    """Read YAML; each override is ``key=value`` and wins over the file. Raises InputError for the file, UsageError else."""
    return run_config.load(SftConfig, parse, path, overrides)


def changed(config: SftConfig, earlier: Mapping[str, Any]) -> list[str]:
    """Names of the values that matter to a step and differ from those of an earlier run."""
    return run_config.changed(config, earlier, MAY_CHANGE)
