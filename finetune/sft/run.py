"""One run from its configuration to the output folder.

Writes ``checkpoint-N/``, ``adapter/`` (the best one: PEFT, tokenizer, ``labels.json`` of a mark contract) or, of a full
tuning, ``model/``, ``metrics.jsonl``, ``loss.png``, ``config.yaml``, ``lineage.json`` and, last, ``train.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.run_config import RunConfig, plain
from finetune.sft import base as bases
from finetune.sft import checkpoints, preflight, report
from finetune.sft.config import SftConfig
from finetune.sft.data import DataFolder, Encoder, Split, load_split, open_folder, trained_share
from harness.errors import InputError
from harness.outputs import atomic_write

Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """How a run is started, beside its configuration."""

    resume: str = ""
    """A checkpoint folder, ``auto`` for the newest sound one, or nothing."""
    offline: bool = False
    force: bool = False
    """Start although the estimate says that memory or disk will not do."""


@dataclass(frozen=True)
class Prepared:
    """Tokenizer and examples."""

    tokenizer: Any
    encoder: Encoder
    train: Split
    valid: Split


def prepare(folder: Path, data: DataFolder, config: SftConfig) -> Prepared:
    """Tokenize the rows with the tokenizer of the base in ``folder``."""
    from finetune.sft.model import load_tokenizer

    tokenizer = load_tokenizer(folder, data.labels)
    encoder = Encoder(tokenizer, data.labels, config.max_length, data.contract)
    splits = [load_split(data.file(name), encoder, config.too_long) for name in ("train", "valid")]
    return Prepared(tokenizer, encoder, *splits)


def config_text(config: RunConfig) -> str:
    """The configuration as YAML, every value in it."""
    import yaml

    return str(yaml.safe_dump(plain(config), sort_keys=False))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """One object, readable."""
    with atomic_write(path) as handle:
        handle.write(json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def lineage_of(base: bases.Base, data: DataFolder, config: SftConfig) -> dict[str, str]:
    """Hashes of what goes into a run."""
    assert base.folder is not None
    return {
        "base": bases.weights_digest(base.folder),
        "data": bases.digest(data.file("train")),
        "config": f"sha256:{hashlib.sha256(config_text(config).encode()).hexdigest()}",
    }


def sft(config: SftConfig, run: Run, console: Any) -> dict[str, Any]:
    """Train as configured; returns what ``train.json`` says. Raises MarginaliaError with one clear line."""
    if bases.offline(run.offline):
        os.environ["HF_HUB_OFFLINE"] = "1"  # the libraries below ask the hub about files that are on disk
    data = open_folder(Path(config.data), config.contract)
    found = bases.find(config.base)
    preflight.check(config, found, run.force)
    base = bases.fetch(found, is_offline=bases.offline(run.offline))
    lineage = lineage_of(base, data, config)
    out = Path(config.out)
    start = checkpoints.choose(out, run.resume, config, lineage, console.print)
    if not run.resume:
        preflight.check_fresh(out)
    if config.adapter:
        from finetune.sft.model import check_adapter

        check_adapter(Path(config.adapter), lineage["base"])
    return _train(config, data, base, lineage, start, console)


def _train(
    config: SftConfig, data: DataFolder, base: bases.Base, lineage: dict[str, str], start: Path | None, console: Any
) -> dict[str, Any]:
    import torch

    from finetune.sft import model as models
    from finetune.sft.trainer import CompletionTrainer, Materials, clear_failures
    from finetune.sft.watch import Watch

    assert base.folder is not None
    if config.threads:
        torch.set_num_threads(config.threads)
    device = models.choose_device(config)
    if models.processes() > 1 and config.device_map:
        console.print("device_map: left aside, for the run has several processes")
    ready = prepare(base.folder, data, config)
    out = Path(config.out)
    with atomic_write(out / "config.yaml") as handle:
        handle.write(config_text(config))
    words = models.plain_ids(ready.tokenizer, (base.shape or {}).get("vocab_size", len(ready.tokenizer)))
    examples = ready.train.examples, ready.valid.examples
    materials = Materials(*examples, ready.tokenizer.pad_token_id, words, lineage)
    trainer: CompletionTrainer | None = None

    with clear_failures(config, lambda: trainer.state.global_step if trainer else 0):
        tuned = models.build(base, ready.tokenizer, data.labels, config, device)
        watch = Watch(config, materials, console, console.print, checkpoints.spent(start) if start else {})
        watch.trainer = trainer = CompletionTrainer(tuned, config, device, materials, watch)
        _announce(console.print, trainer, ready, device, start)
        try:
            trainer.train(resume_from_checkpoint=str(start) if start else None)
        finally:
            watch.close()
        weights = trainer.gathered()  # by all processes together
        if trainer.is_world_process_zero():
            tuned = trainer.accelerator.unwrap_model(trainer.model)
            if config.tuning == "full":
                save_model(tuned, ready.tokenizer, ready.encoder.end_id, out / config.product, lineage, weights)
            else:
                save_adapter(tuned, ready.tokenizer, data, out / config.product, lineage, weights)
    if not trainer.is_world_process_zero():
        return {}
    return _finish(config, data, trainer, watch, ready, lineage, start)


def _announce(say: Say, trainer: Any, ready: Prepared, device: Any, start: Path | None) -> None:
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    for name, split in (("train", ready.train), ("valid", ready.valid)):
        if split.too_long:
            say(f"{name}: {split.too_long} of {split.rows} rows have more than {ready.encoder.max_length} tokens")
    say(
        f"{len(ready.train.examples)} examples, loss on {trained_share(ready.train.examples):.1%} of their tokens; "
        f"{trained:,} trained parameters; {device.kind}, {device.precision}" + (f"; on from {start.name}" if start else "")
    )


def save_adapter(
    tuned: Any,
    tokenizer: Any,
    data: DataFolder,
    folder: Path,
    lineage: Mapping[str, str],
    weights: Mapping[str, Any] | None = None,
) -> None:
    """Write the adapter folder beside its place, then put it there; ``weights`` are given where FSDP has scattered them."""
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    tuned.save_pretrained(partial, state_dict=weights)
    adapter = json.loads((partial / "adapter_config.json").read_text(encoding="utf-8"))
    if isinstance(adapter["target_modules"], list):  # PEFT writes a set, in another order every time
        adapter["target_modules"].sort()
    write_json(partial / "adapter_config.json", adapter)
    tokenizer.save_pretrained(partial)
    if data.labels:
        shutil.copyfile(data.folder / "labels.json", partial / "labels.json")
    hashes = {name: lineage[name] for name in ("base", "data", "config")}
    write_json(partial / "lineage.json", {**hashes, "adapter": bases.digest(partial / "adapter_model.safetensors")})
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def save_model(
    tuned: Any,
    tokenizer: Any,
    end_id: int,
    folder: Path,
    lineage: Mapping[str, str],
    weights: Mapping[str, Any] | None = None,
) -> None:
    """Write the folder of a model whose every weight was trained; it ends its answers where the training rows end."""
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    tuned.config.use_cache = True
    tuned.config.eos_token_id = tuned.generation_config.eos_token_id = end_id
    tuned.save_pretrained(partial, state_dict=weights)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end_id)
    tokenizer.save_pretrained(partial)
    hashes = {name: lineage[name] for name in ("base", "data", "config")}
    write_json(partial / "lineage.json", {**hashes, "model": bases.weights_digest(partial)})
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _finish(
    config: SftConfig,
    data: DataFolder,
    trainer: Any,
    watch: Any,
    ready: Prepared,
    lineage: Mapping[str, str],
    start: Path | None,
) -> dict[str, Any]:
    """Curves and summary; returns the summary."""
    from finetune.sft.trainer import peak_memory

    out, history, spent = Path(config.out), trainer.state.log_history, watch.spent
    evaluations = [entry for entry in history if "eval_loss" in entry]
    if not evaluations:
        raise InputError(f"{out}: the run ended before an evaluation", "give it at least one step")
    best = min(evaluations, key=lambda entry: float(entry["eval_loss"]))
    losses = report.curve(history, "loss")
    summary = {
        "contract": data.contract,
        "base": config.base,
        "steps": trainer.state.global_step,
        "of": trainer.state.max_steps,
        "best_step": best["step"],
        "eval_loss": round(best["eval_loss"], 6),
        "token_accuracy": round(best["eval_token_accuracy"], 6),
        "train_loss": round(losses[-1][1], 6) if losses else None,
        "seconds": round(spent["seconds"], 1),
        "tokens": int(spent["tokens"]),
        "tokens_per_second": round(spent["tokens"] / max(spent["seconds"], 1e-9), 1),
        "peak_memory_bytes": peak_memory(),
        "examples": len(ready.train.examples),
        "too_long": ready.train.too_long,
        "resumed_from": start.name if start else None,
    }
    product = json.loads((out / config.product / "lineage.json").read_text(encoding="utf-8"))
    write_json(out / "lineage.json", {**lineage, config.product: product[config.product]})
    for line in report.summary_lines(history):
        watch.console.print(line)
    if not report.write_png(out / "loss.png", history, f"{out.name}: best at step {best['step']}"):
        watch.console.print("no loss.png: matplotlib is not installed (pip install 'marginalia[finetune]')")
    write_json(out / "train.json", summary)
    return summary
