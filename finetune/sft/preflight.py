"""What would end a run hours from now is said before it starts: no GPU, too little memory, no room for checkpoints."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import warnings
from pathlib import Path

from finetune.sft.base import Base
from finetune.sft.checkpoints import all_in
from finetune.sft.config import SftConfig
from finetune.sft.memory import Sizes, checkpoint_bytes, estimate, measure, readable
from harness.errors import InputError

LARGE = 1_500_000_000
"""Parameters from which training on a CPU takes days, not hours."""
TYPICAL = (1024, 120)
"""Tokens of an example and those of its completion, where the data has not been read yet."""


def free_memory(device: str) -> int:
    """Bytes that can still be taken: of the GPU, or of main memory (0 where the system does not say)."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    info = Path("/proc/meminfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def free_disk(folder: Path) -> int:
    """Bytes free where ``folder`` lies or will lie."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check(config: SftConfig, base: Base, force: bool) -> None:
    """Refuse what cannot end well on this machine (InputError); ``force`` lets estimates pass, not missing devices."""
    from finetune.sft.model import choose_device

    check_installed(config)
    if base.shape is None:
        choose_device(config)
        return
    sizes = measure(base.shape, config)
    try:
        device = choose_device(config)
    except InputError as error:
        if config.device != "cuda" or config.precision == "fp16":
            raise
        needed = estimate(sizes, config, "cuda", "bf16", config.micro_batch * TYPICAL[0], config.micro_batch * TYPICAL[1])
        raise InputError(
            f"{error.message}; {base.name} needs one of about {readable(sum(needed.values()))}", error.remedy
        ) from None
    if device.kind == "cpu" and sizes.parameters > LARGE and not force:
        raise InputError(
            f"{base.name}: {sizes.parameters / 1e9:.1f}B parameters on a CPU would take days",
            "use a machine with a CUDA device, a smaller base, or --force",
        )
    parts = estimate(
        sizes, config, device.kind, device.precision, config.micro_batch * TYPICAL[0], config.micro_batch * TYPICAL[1]
    )
    check_memory(sum(parts.values()), free_memory(device.kind), device.kind, config, force)
    check_disk(sizes, config, free_disk(Path(config.out)), force)


def check_installed(config: SftConfig) -> None:
    """Refuse a run that asks for a package which is not here."""
    wanted = {config.report_to: "report_to"} if config.report_to != "none" else {}
    wanted |= {"bitsandbytes": "quantize"} if config.quantize == "nf4" else {}
    for package, key in wanted.items():
        if importlib.util.find_spec(package) is None:
            raise InputError(f"{key}: {package} is not installed", f"pip install {package}, or --set {key}=none")


def check_memory(needed: float, free: int, device: str, config: SftConfig, force: bool) -> None:
    """Refuse a run whose estimate is above what is free. A device map spreads it, so nothing is said then."""
    if force or not free or needed <= free or (config.device_map and device == "cuda"):
        return
    savers = [] if config.gradient_checkpointing else ["gradient_checkpointing=true"]
    savers += [] if config.micro_batch == 1 else ["a lower micro_batch"]
    savers += [] if config.quantize == "nf4" else ["quantize=nf4"]
    where = "the GPU" if device == "cuda" else "this machine"
    raise InputError(
        f"the run needs about {readable(needed)} of memory, {where} has {readable(free)} free",
        f"try {' or '.join(savers) or 'a smaller base'}, or --force",
    )


def check_disk(sizes: Sizes, config: SftConfig, free: int, force: bool) -> None:
    """Refuse a run whose checkpoints would not fit. One more than is kept lies there while the oldest is removed."""
    needed = checkpoint_bytes(sizes) * ((config.keep_checkpoints or 10) + 2)
    if needed > free and not force:
        message = f"{config.out}: checkpoints need about {readable(needed)}, the disk has {readable(free)} free"
        raise InputError(message, "free some space, lower keep_checkpoints, or --force")


def check_fresh(out: Path) -> None:
    """Refuse to mix two runs in one folder. Raises InputError."""
    if found := all_in(out):
        raise InputError(
            f"{out}: holds {found[0].name} of an earlier run",
            "go on with --resume auto, start over with --restart, or choose another folder with --set out=…",
        )


def restart(out: Path) -> None:
    """Remove what an earlier run left in its folder, and nothing else."""
    for folder in [*all_in(out), out / "adapter", out / "model"]:
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("metrics.jsonl", "train.json", "lineage.json", "config.yaml", "loss.png"):
        (out / name).unlink(missing_ok=True)


def is_busy() -> bool:
    """Whether others compute here now: a load average above the number of cores; False where the system does not say."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return load > (os.cpu_count() or 1)


def quiet() -> None:
    """Before torch loads: no advice of libraries on stderr (what matters is said by us), no hoarding, on a busy machine no
    spinning.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if is_busy():
        # Threads that spin on cores that others want starve each other; on idle ones those that sleep halve the speed.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Kernels compiled for one shape keep buffers: oneDNN's own limit of 1,024 of them came to 200 MB on the small base.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "200")
    warnings.filterwarnings("ignore", module=r"(transformers|peft|torch|bitsandbytes)\b")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
