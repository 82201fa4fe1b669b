"""The model of a run: a frozen base (NF4 or plain), its adapter, and rows for the tokens that a mark contract adds.

Logits are computed at the trained positions only: ``TrainedPositions`` picks their hidden states before the output layer.
That layer is a third of a small model's arithmetic, and its ``[tokens, vocabulary]`` result the largest tensor of any.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finetune.hf_checkpoint import read_json
from finetune.sft.base import Base
from finetune.sft.config import SftConfig
from finetune.sft.data import Labels
from harness.errors import InputError
from skills.annotate import mark

EMBEDDINGS = "embed_tokens"
LABEL_SPREAD = 0.02
"""Standard deviation of the first vector of a move (as the bases' own initialisation)."""


@dataclass(frozen=True)
class Device:
    """Where a run computes, and in what."""

    kind: str
    """``cpu`` or ``cuda``."""
    precision: str
    """``bf16``, ``fp16`` or ``fp32``."""

    @property
    def dtype(self) -> Any:
        """Torch's name of the precision."""
        import torch

        return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[self.precision]


def processes() -> int:
    """How many processes share this run (torchrun and accelerate say so)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_sharded() -> bool:
    """Whether accelerate was asked to shard the model over them (``accelerate launch --use_fsdp``)."""
    return processes() > 1 and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def choose_device(config: SftConfig) -> Device:
    """The device and precision of a configuration on this machine. Raises InputError where they are not to be had."""
    import torch

    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise InputError("no CUDA device here", "use a machine with one, or --set device=cpu with a small base")
    kind = "cuda" if cuda and config.device != "cpu" else "cpu"
    if config.precision == "fp16" and kind == "cpu":
        raise InputError("precision fp16 needs a CUDA device", "use bf16, fp32 or auto")
    precision = config.precision
    if precision == "auto" and kind == "cuda":
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    elif precision == "auto":
        able = torch.cpu.get_capabilities()
        precision = "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"
    return Device(kind, precision)


def load_tokenizer(folder: Path, labels: Labels | None) -> Any:
    """The base's tokenizer, with the mark and label tokens added for a mark contract. Raises InputError."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if labels is not None:
        if mark.MARK in tokenizer.get_vocab():
            raise InputError(f"{folder}: has marks of an earlier run", "give the base it was made from")
        tokenizer.add_tokens([mark.MARK], special_tokens=True)
        tokenizer.add_tokens(labels.tokens, special_tokens=False)
    return tokenizer


def choose_attention(config: SftConfig, device: Device) -> str:
    """The attention in transformers' words."""
    wanted = config.attention
    if wanted == "auto":
        wanted = "blocks" if device == Device("cpu", "bf16") else "sdpa"
    if wanted != "blocks":
        return wanted
    from finetune.sft import attention

    return attention.register()


def placement(config: SftConfig, device: Device) -> Any:
    """``device_map`` of the base. One of several processes has the whole base, or FSDP its shard of it: none is spread."""
    if device.kind == "cpu":
        return {"": "cpu"}
    if config.device_map and processes() == 1:
        return config.device_map
    return {"": f"cuda:{os.environ.get('LOCAL_RANK', '0')}"}


def does_not_fit(config: SftConfig) -> InputError:
    """The error for a base that ``device_map`` could not place on the GPUs: what lies elsewhere cannot be trained."""
    savers = "more or larger GPUs, or a smaller base"
    return InputError(
        f"{config.base}: does not fit the memory of the GPUs here",
        savers if config.quantize == "nf4" else f"--set quantize=nf4, {savers}",
    )


def load_base(folder: Path, config: SftConfig, device: Device) -> Any:
    """The base's weights, frozen; quantised where the configuration says so."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Weights that are trained themselves are float32; autocast multiplies them in the precision of the run.
    dtype = torch.float32 if config.tuning == "full" else device.dtype
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True}
    options["attn_implementation"] = choose_attention(config, device)
    if config.quantize == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=config.double_quant,
            bnb_4bit_compute_dtype=device.dtype,
            # FSDP shards floating point only: the same bits, held under that name
            bnb_4bit_quant_storage=device.dtype if is_sharded() else torch.uint8,
        )
    options["device_map"] = placement(config, device)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, **options)
    except ValueError as error:
        if "dispatched on the CPU" not in str(error):  # transformers' refusal to quantise what has no place on a GPU
            raise
        raise does_not_fit(config) from None
    except ImportError as error:  # of what the attention needs
        lines = str(error).strip().splitlines() or ["a package is missing"]
        raise InputError(f"attention {config.attention}: {lines[0]}", "install it, or --set attention=sdpa") from None
    if device.kind == "cuda" and {"cpu", "disk"} & {str(at) for at in getattr(model, "hf_device_map", {}).values()}:
        raise does_not_fit(config)
    model.config.use_cache = False
    for module in model.modules():
        # bitsandbytes 0.50 repacks weights for fast inference when it first evaluates on such a CPU, and then has no
        # gradient: training would end after the first evaluation.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def add_label_rows(model: Any, tokenizer: Any, labels: Labels, seed: int) -> list[int]:
    """Give the new tokens rows of the embedding: the mean of all for the mark, the sum of its moves' vectors for a label.

    Returns their token ids. Tied heads stay tied. The sums follow ``mark_model.Marker``: rare sets start from common parts.
    """
    import torch

    first = tokenizer.convert_tokens_to_ids(mark.MARK)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    generator = torch.Generator().manual_seed(seed)
    heads = {id(layer.weight): layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())}
    with torch.no_grad():
        moves = LABEL_SPREAD * torch.randn(len(labels.moves), model.config.hidden_size, generator=generator)
        sums = torch.from_numpy(labels.matrix) @ moves
        for weight in heads.values():
            weight[first] = weight[:first].float().mean(0).to(weight.dtype)
            weight[first + 1 : len(tokenizer)] = sums.to(weight)
    return list(range(first, len(tokenizer)))


def add_adapter(model: Any, config: SftConfig, rows: list[int]) -> Any:
    """The model with a trainable adapter: a new one, or that of ``config.adapter``. Trained values are float32."""
    from peft import LoraConfig, PeftModel, get_peft_model

    if config.adapter:
        tuned = PeftModel.from_pretrained(model, config.adapter, is_trainable=True)
    else:
        targets = _targets(model, config)
        lora = LoraConfig(
            r=config.lora_r,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=targets,
            bias=config.lora_bias,
            task_type="CAUSAL_LM",
            # Rows of the new tokens only: a copy of the whole embedding would drift apart from its tied head.
            trainable_token_indices=_row_modules(model, rows) if rows else None,
        )
        tuned = get_peft_model(model, lora)
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for module in tuned.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False  # autocast would cast the float32 copy straight back to 16 bits
    return portable(tuned, config)


def portable(tuned: Any, config: SftConfig) -> Any:
    """The same adapter, saved as it can be used anywhere."""
    tuned.peft_config["default"].base_model_name_or_path = config.base  # not the folder of one machine
    # Left to itself PEFT would save the whole embedding, for having more rows than the base's.
    tuned.save_pretrained = functools.partial(tuned.save_pretrained, save_embedding_layers=False)
    return tuned


def _targets(model: Any, config: SftConfig) -> Any:
    """The layers to adapt as PEFT wants them; it would pass over a name that the base lacks. Raises InputError."""
    if config.lora_targets == ("all-linear",):
        return "all-linear"
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if missing := [name for name in config.lora_targets if name not in there]:
        raise InputError(
            f"lora_targets: the base has no layer {missing[0]}", "name linear layers of this base, or all-linear"
        )
    return list(config.lora_targets)


def _linear_names(model: Any) -> list[str]:
    """The names that ``all-linear`` stands for, for a library that wants them one by one."""
    import torch

    head = model.get_output_embeddings()
    linear = (name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head)
    return sorted({name.rpartition(".")[2] for name in linear})


def _row_modules(model: Any, rows: list[int]) -> dict[str, list[int]]:
    """Which modules hold rows of tokens: the embedding and, where it is a matrix of its own, the output layer."""
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    return {EMBEDDINGS: rows} if tied else {EMBEDDINGS: rows, "lm_head": rows}


def load_unsloth(folder: Path, config: SftConfig, device: Device) -> Any:
    """Base and adapter through Unsloth (CUDA only), which brings its own kernels. Raises InputError where it is missing."""
    try:
        from unsloth import FastLanguageModel  # type: ignore[import-not-found]
    except ImportError:
        raise InputError(
            "use_unsloth: Unsloth is not installed", "pip install unsloth, or --set use_unsloth=false"
        ) from None
    model, _ = FastLanguageModel.from_pretrained(
        model_name=str(folder),
        max_seq_length=config.max_length,
        load_in_4bit=config.quantize == "nf4",
        dtype=device.dtype,
    )
    targets = _targets(model, config)
    tuned = FastLanguageModel.get_peft_model(
        model,
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=_linear_names(model) if targets == "all-linear" else targets,
        bias=config.lora_bias,
        use_gradient_checkpointing="unsloth" if config.gradient_checkpointing else False,
        random_state=config.seed,
    )
    return portable(tuned, config)


class TrainedPositions:
    """Cuts what enters the output layer down to the trained positions of the batch: ``[1, positions, hidden]``.

    Hooked on the layer, so it holds for every architecture and inside every wrapper (PEFT, DDP, FSDP, autocast).
    """

    def __init__(self, model: Any) -> None:
        self.where: Any = None
        model.get_output_embeddings().register_forward_pre_hook(self)

    def __call__(self, module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Torch's hook: the inputs of the layer, or None to leave them."""
        if self.where is None:
            return None
        hidden = inputs[0]
        return (hidden.reshape(-1, hidden.shape[-1])[self.where].unsqueeze(0), *inputs[1:])


def share_gradients(model: Any, labels: Labels) -> None:
    """Let each label row's gradient move the rows of labels with the same moves too.

    The step is that of rows made of shared move vectors plus a part of their own (``rows = M @ moves + own``): the
    gradient of such rows is ``(M Mᵀ + I) g``. The row of the mark itself, the first, keeps its own.
    """
    import torch

    matrix = torch.from_numpy(labels.matrix)
    mixing = torch.eye(1 + len(labels.sets))
    mixing[1:, 1:] += matrix @ matrix.T
    for parameter in label_rows(model):
        parameter.register_hook(lambda gradient, mixing=mixing: mixing.to(gradient) @ gradient)


def label_rows(model: Any) -> list[Any]:
    """The trained rows of new tokens (none for a chat contract)."""
    return [p for name, p in model.named_parameters() if "trainable_tokens_delta" in name and p.requires_grad]


def plain_ids(tokenizer: Any, vocabulary: int) -> Any:
    """Ids that stand for words: neither special nor added."""
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return np.array([i for i in range(min(vocabulary, len(tokenizer))) if i not in special], dtype=np.int64)


def check_adapter(folder: Path, base_digest: str) -> None:
    """Refuse an adapter that was trained on another base. Raises InputError."""
    if not (folder / "adapter_config.json").is_file():
        raise InputError(f"{folder}: no adapter (adapter_config.json is missing)", "give the adapter/ folder of a run")
    places = [path for path in (folder / "lineage.json", folder.parent / "lineage.json") if path.is_file()]
    lineage: Mapping[str, Any] = read_json(places[0]) if places else {}
    if lineage.get("base", base_digest) != base_digest:
        raise InputError(
            f"{folder}: is an adapter of another base ({lineage['base'][:19]}…)", "give the base it was trained on"
        )


def build(base: Base, tokenizer: Any, labels: Labels | None, config: SftConfig, device: Device) -> Any:
    """Base with adapter, ready to train. The base's files must be on disk."""
    import torch

    assert base.folder is not None
    torch.manual_seed(config.seed)
    if config.use_unsloth:
        if device.kind != "cuda":
            raise InputError("use_unsloth: Unsloth needs a CUDA device", "--set use_unsloth=false")
        if labels:  # it would not train their rows
            raise InputError("use_unsloth: Unsloth cannot tune a mark contract", "--set use_unsloth=false")
        return load_unsloth(base.folder, config, device)
    if labels and is_sharded():
        message = "a mark contract trains rows of the tied embedding, which FSDP cannot shard"
        raise InputError(message, "launch without --use_fsdp: a base for marks is small, each process can have the whole")
    model = load_base(base.folder, config, device)
    if config.tuning == "full" and labels:
        raise InputError("tuning full: a mark contract is tuned by lora or by finetune/mark_train.py", "--set tuning=lora")
    rows = add_label_rows(model, tokenizer, labels, config.seed) if labels else []
    if config.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    if config.tuning == "full":
        return model
    tuned = add_adapter(model, config, rows)
    if labels and config.share_labels:
        share_gradients(tuned, labels)
    return tuned
