"""Every value of a fine-tuning run: one dataclass, from YAML and ``--set key=value``, checked before anything loads."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.errors import InputError, UsageError

_CHOICES = "choices"


def _one_of(default: str, *others: str) -> Any:
    """A text field that takes ``default`` or one of ``others``."""
    return field(default=default, metadata={_CHOICES: (default, *others)})


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
    adapter: str = ""
    """An adapter of the same base to go on from; empty starts a new one."""

    quantize: str = _one_of("nf4", "none")
    """How the frozen base is held: NF4 (Dettmers et al. 2023), or as it is."""
    double_quant: bool = True
    precision: str = _one_of("auto", "bf16", "fp16", "fp32")
    """Of computation. ``auto``: bf16 where the device multiplies it natively, else fp16 on CUDA and fp32 on a CPU."""
    device: str = _one_of("auto", "cpu", "cuda")
    device_map: str = _one_of("", "auto", "balanced", "sequential")
    """Accelerate's placement of a base that does not fit one device; empty puts it on the device whole."""
    attention: str = _one_of("auto", "sdpa", "eager", "flash_attention_2", "blocks")
    """``auto``: our own blocks for bf16 on a CPU, else torch's."""
    use_unsloth: bool = False
    threads: int = 0
    """CPU threads; 0 leaves it to torch."""

    lora_r: int = 16
    lora_alpha: float = 32
    lora_dropout: float = 0.1
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Names of linear layers, or ``all-linear``."""
    lora_bias: str = _one_of("none", "all", "lora_only")

    batch: int = 16
    """Examples of one optimizer step, over all devices."""
    micro_batch: int = 4
    """At most so many of them go through the model at once on one device …"""
    micro_tokens: int = 0
    """… and at most so many tokens, padding included (0: no limit; one process only)."""
    group: int = 8
    """Examples of so many steps are sorted by length together; 0 keeps them in random order and pads more."""
    max_length: int = 2048
    too_long: str = _one_of("drop", "cut")
    """What becomes of an example of more tokens: left out and counted, or cut at the end."""
    epochs: float = 3.0
    max_steps: int = 0
    """Ends the run sooner; 0 does not."""

    learning_rate: float = 2e-4
    label_learning_rate: float = 0.0
    """Of the rows of new tokens; 0 takes ``learning_rate``."""
    share_labels: bool = True
    """A label token's gradient also moves those that name the same moves, so that rare sets learn from common ones."""
    scheduler: str = _one_of("linear", "cosine", "constant")
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
    keep_checkpoints: int = 3
    logging_steps: int = 10
    report_to: str = _one_of("none", "wandb", "trackio")
    seed: int = 1

    @property
    def evaluate_every(self) -> int:
        """Steps between evaluations."""
        return self.eval_steps or self.save_steps

    @property
    def label_rate(self) -> float:
        """Learning rate of the rows of new tokens."""
        return self.label_learning_rate or self.learning_rate


_KNOWN = {f.name: f for f in fields(SftConfig)}
_POSITIVE = ("lora_r", "batch", "micro_batch", "max_length", "epochs", "learning_rate", "save_steps", "logging_steps")
_SHARES = ("lora_dropout", "input_noise", "adam_beta1", "adam_beta2")
# Values that may differ between a checkpoint and the run that goes on from it: none of them
# changes what a step computes, but for rounding.
MAY_CHANGE = frozenset(
    "data out device device_map attention use_unsloth threads micro_batch micro_tokens save_steps eval_steps "
    "patience keep_checkpoints logging_steps report_to gradient_checkpointing".split()
)


def _number(value: Any) -> float:
    """YAML reads ``2e-4`` as text, so a text that is a number counts as one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _coerce(name: str, value: Any, where: str) -> Any:
    """A value as the type of its field. Raises UsageError that says what the field takes."""
    kind = str(_KNOWN[name].type)
    wants = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}.get(
        kind, "a list of names"
    )
    choices = _KNOWN[name].metadata.get(_CHOICES, ())
    try:
        if kind == "bool":
            return {"true": True, "false": False}[str(value).lower()]
        if kind == "float":
            return _number(value)
        if kind == "int":
            if not (number := _number(value)).is_integer():
                raise ValueError
            return int(number)
        if kind == "str":
            text = "none" if value is None and "none" in choices else str("" if value is None else value)
            if isinstance(value, list | dict) or (choices and text not in choices):
                raise ValueError
            return text
        names = value.replace(",", " ").split() if isinstance(value, str) else value
        if not names or not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
            raise ValueError
        return tuple(names)
    except (KeyError, ValueError):
        wants = f"one of {', '.join(choice or 'nothing' for choice in choices)}" if choices else wants
        raise UsageError(f"{where}: {name}: {value!r} is not {wants}", "correct it") from None


def _check_names(names: Iterable[Any], where: str) -> None:
    for name in names:
        if name not in _KNOWN:
            near = difflib.get_close_matches(str(name), _KNOWN, 1, 0.5)
            raise UsageError(
                f"{where}: unknown key {name!r}", f"did you mean {near[0]}?" if near else f"known: {', '.join(_KNOWN)}"
            )


def parse(values: Mapping[str, Any], where: str) -> SftConfig:
    """A configuration from plain values; ``where`` names their source in messages. Raises UsageError."""
    _check_names(values, where)
    config = SftConfig(**{name: _coerce(name, value, where) for name, value in values.items()})
    for f in fields(config):
        value = getattr(config, f.name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if value < 0 or (f.name in _POSITIVE and value == 0):
            raise UsageError(f"{where}: {f.name}: {value} is too small", "give a number above 0")
        if f.name in _SHARES and value >= 1:
            raise UsageError(f"{where}: {f.name}: {value} is no share", "give a number from 0 to below 1")
    if config.save_steps % config.evaluate_every:
        message = f"{where}: save_steps {config.save_steps} is no multiple of eval_steps {config.evaluate_every}"
        raise UsageError(message, "the best checkpoint can only be one that was evaluated: change either")
    return config


def load(path: Path, overrides: Iterable[str] = ()) -> SftConfig:
    """Read YAML; each override is ``key=value`` and wins over the file. Raises InputError for the file, UsageError else."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", "give a file of finetune/configs") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: is no YAML ({' '.join(str(error).split())})", "correct it") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no key: value lines", "see finetune/configs")
    changes: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"--set {override}: has no '='", "write --set key=value")
        _check_names([name], "--set")
        changes[name] = _coerce(name, text, "--set")
    parse(values, str(path))  # the file must be right on its own, and is named where it is not
    return parse({**values, **changes}, str(path))


def plain(config: SftConfig) -> dict[str, Any]:
    """The values as YAML and JSON know them."""
    values = {name: getattr(config, name) for name in _KNOWN}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def changed(config: SftConfig, earlier: Mapping[str, Any]) -> list[str]:
    """Names of the values that matter to a step and differ from those of an earlier run."""
    now = plain(config)
    return [name for name in now if name not in MAY_CHANGE and name in earlier and earlier[name] != now[name]]
