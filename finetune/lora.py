"""A PEFT adapter as it lies on disk: which parts it has for which module, whether they fit a base, and merged tensors.

PEFT's own names are kept: ``lora_A``/``lora_B`` (Hu et al. 2021: W + α/r · B·A), ``trainable_tokens_delta`` (the rows
of trained tokens; they replace, in spite of the name), and whole tensors of ``modules_to_save``, of resized embeddings and
of trained biases. What is not known here is refused: it would be lost in the merge.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.gguf_arch import EMBEDDING, HEAD
from finetune.hf_checkpoint import StoredTensor, read_json, read_tensors
from harness.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

A, B, TOKENS, WEIGHT, BIAS = "lora_A.weight", "lora_B.weight", "trainable_tokens_delta", "weight", "bias"
_PREFIX = "base_model.model."
_PARTS = {
    A: A,
    B: B,
    "token_adapter.trainable_tokens_delta": TOKENS,
    "token_adapter.base_layer.weight": WEIGHT,
    "base_layer.weight": WEIGHT,
    "base_layer.bias": BIAS,
    "weight": WEIGHT,
    "bias": BIAS,
}
"""How a key of the file ends → which part of its module it is; longer endings are tried first."""
_TRAINING_ONLY = {
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "target_modules",
    "task_type",
}
"""Settings that have done their work when the adapter is saved."""
_MERGED = {"alpha_pattern", "lora_alpha", "rank_pattern", "trainable_token_indices", "use_rslora"}
"""Settings that the merge takes into account."""
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Ways to initialise an adapter that leave the base's weights alone; PiSSA, CorDA, OLoRA and LoftQ change them."""


@dataclass
class Adapter:
    """An adapter on disk."""

    folder: Path
    config: Mapping[str, Any]
    modules: dict[str, dict[str, StoredTensor]]
    """Module, such as ``model.layers.0.self_attn.q_proj`` → part → tensor."""

    def parts(self, module: str) -> list[str]:
        """What the adapter has for a module."""
        return list(self.modules.get(module, {}))

    def load(self, module: str, part: str) -> NDArray[np.float32] | None:
        """A part's values, or None where the adapter has none."""
        tensor = self.modules.get(module, {}).get(part)
        return None if tensor is None else tensor.load()

    def drop(self, module: str) -> None:
        """Forget a module."""
        self.modules.pop(module, None)

    def tokens(self, module: str) -> list[int]:
        """Ids of the rows that ``trainable_tokens_delta`` of a module holds."""
        setting = self.config.get("trainable_token_indices") or []
        if isinstance(setting, Mapping):
            setting = next((ids for name, ids in setting.items() if module.split(".")[-1] == name.split(".")[-1]), [])
        return [int(number) for number in setting]

    def scale(self, module: str) -> float:
        """α/r of a module, or α/√r where the adapter was trained so (rsLoRA)."""
        alpha = _of_pattern(self.config.get("alpha_pattern") or {}, module, self.config["lora_alpha"])
        rank = self.modules[module][A].shape[0]
        return float(alpha) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def check(self, base: Mapping[str, StoredTensor], rows: int) -> None:
        """Every part fits the base, whose merged vocabulary has ``rows``. InputError names the first that does not."""
        for module, parts in self.modules.items():
            if (A in parts) != (B in parts):
                raise InputError(f"{self.folder}: {module} has half a LoRA", "save the adapter again")
            for part in parts:
                name = f"{module}.{BIAS if part == BIAS else WEIGHT}"
                if name not in base:
                    self._misfit(module, "is not in the base")
                shape = (rows, *base[name].shape[1:]) if name in {EMBEDDING, HEAD} else base[name].shape
                if (due := self._due(module, part, shape)) != parts[part].shape:
                    self._misfit(module, f"has {part} of shape {list(parts[part].shape)}, the base asks for {list(due)}")
        self._check_new_rows(base, rows)

    def _due(self, module: str, part: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        parts = self.modules[module]
        rank = parts[A].shape[0] if A in parts else 0
        shapes = {A: (rank, shape[-1]), B: (shape[0], rank), TOKENS: (len(self.tokens(module)), shape[-1])}
        return shapes.get(part, shape)

    def _check_new_rows(self, base: Mapping[str, StoredTensor], rows: int) -> None:
        """A token that the tokenizer added has a row in embeddings and head."""
        for name in (EMBEDDING, HEAD):
            if name in base and rows > base[name].shape[0]:
                module = name.removesuffix(".weight")
                have = set(self.tokens(module)) if TOKENS in self.parts(module) else set()
                missing = [number for number in range(base[name].shape[0], rows) if number not in have]
                if missing and WEIGHT not in self.parts(module):
                    remedy = "train the new tokens (trainable_token_indices)"
                    raise InputError(f"{self.folder}: token {missing[0]} was added but {module} has no row for it", remedy)

    def _misfit(self, module: str, why: str) -> None:
        raise InputError(f"{self.folder}: belongs to another base: {module} {why}", "give the base it was trained on")

    def merged(self, tensor: StoredTensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A tensor of the base with everything that the adapter has for it, in float32."""
        import numpy as np

        module, _, kind = tensor.name.rpartition(".")
        parts = self.modules.get(module, {})
        whole = parts.get(BIAS if kind == BIAS else WEIGHT)
        values = (whole or tensor).load()
        if kind == BIAS:
            return values
        if values.shape != shape:
            grown = np.zeros(shape, np.float32)
            grown[: len(values)] = values
            values = grown
        if A in parts:
            values += (parts[B].load() @ parts[A].load()) * np.float32(self.scale(module))
        if TOKENS in parts:
            values[self.tokens(module)] = parts[TOKENS].load()
        return values


def _of_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value whose pattern a module's name ends in, as PEFT looks it up."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def read_adapter(folder: Path) -> Adapter:
    """Read ``adapter_config.json`` and the header of ``adapter_model.safetensors``. Raises InputError."""
    where = folder / "adapter_config.json"
    config = read_json(where, "name the output folder of finetune/train.py, or an adapter")
    if config.get("peft_type") != "LORA":
        raise InputError(f"{where}: {config.get('peft_type')} cannot be merged", "train a LoRA adapter")
    odd = [key for key, value in config.items() if value and key not in _TRAINING_ONLY | _MERGED]
    if config.get("init_lora_weights", True) not in _PLAIN_STARTS:
        odd.append("init_lora_weights")
    if odd:
        raise InputError(f"{where}: {odd[0]} = {config[odd[0]]!r} cannot be merged here", "merge it with PEFT itself")
    modules: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in read_tensors(folder, "adapter_model").items():
        plain = name.removeprefix(_PREFIX)
        ending = next((end for end in sorted(_PARTS, key=len, reverse=True) if plain.endswith(f".{end}")), None)
        if ending is None or any(word in plain for word in ("lora_embedding", "lora_magnitude", "lora_B.bias")):
            raise InputError(f"{tensor.path}: {name} cannot be merged here", "merge it with PEFT itself")
        modules.setdefault(plain.removesuffix(f".{ending}"), {})[_PARTS[ending]] = tensor
    if not modules:
        raise InputError(f"{folder}: the adapter holds no tensors", "save it again")
    return Adapter(folder, config, modules)
