"""One GRPO run from its configuration to the output folder, and what ``--dry-run`` tells of it.

Writes ``checkpoint-N/``, ``metrics.jsonl``, ``best.pt``, ``adapter/`` or ``model/`` (the weights of the best evaluation on
held-out queries), ``config.yaml``, ``lineage.json`` and, last, ``train.json``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.grpo.config import GrpoConfig, check_beta
from finetune.run_config import plain
from finetune.sft import base as bases
from finetune.sft import checkpoints, preflight
from finetune.sft.data import open_folder
from finetune.sft.run import Run, config_text, save_adapter, save_model, write_json
from harness.errors import InputError, UsageError
from harness.outputs import atomic_write

if TYPE_CHECKING:
    from finetune.grpo.rewards import Asked


def dry_run(config: GrpoConfig, *, force: bool = False, offline: bool = True) -> dict[str, Any]:
    """What a run would train on and need, without a step: the guard's table, the queries, an example of a prompt.

    Base and data may still be to come (SFT makes the one, a maker of data the other): then ``missing`` says so. Raises
    UsageError for beta 0, InputError for data that are there and wrong, an adversary that beats gold among them.
    """
    from finetune.sft.memory import estimate, measure

    os.environ["HF_HUB_OFFLINE"] = "1"  # a plan never downloads
    check_beta(config, force)
    missing: list[str] = []
    try:
        base = bases.find(config.base)
    except InputError as error:
        base = bases.Base(config.base, None, None)
        missing.append(str(error))
    found: dict[str, Any] = {
        "base": base.name,
        "out": config.out,
        "answers": config.steps * config.prompts * config.generations,
        "missing": missing,
    }
    try:
        open_folder(Path(config.data), config.contract)
    except InputError as error:
        if Path(config.data).exists():
            raise
        missing.append(str(error))
    else:
        found |= _asked(config)
    if base.shape:
        sizes, loading = measure(base.shape, config.loading), config.loading
        tokens = config.micro_batch * loading.max_length
        trained = config.micro_batch * config.completion_tokens
        needed = estimate(sizes, loading, "cpu", "bf16", tokens, trained)
        found |= {"trained_parameters": sizes.adapter, "memory_bytes": int(sum(needed.values()))}
    return found


def _asked(config: GrpoConfig) -> dict[str, Any]:
    """What is asked, and what gold and the adversaries get for it."""
    from finetune.grpo.rewards import read_task

    task = read_task(config)
    return {
        "queries": {"train": len(task.train), "valid": len(task.valid)},
        "gold": task.guard.gold._asdict(),
        "adversaries": {name: spread._asdict() for name, spread in task.guard.adversaries.items()},
        "table": task.guard.table(),
        "prompt": _shown(task.train[0]),
    }


def _shown(asked: Asked) -> str:
    """A prompt for people: a chat without the marks of any template."""
    if isinstance(asked.prompt, str):
        return asked.prompt
    return "\n".join(f"[{one['role']}] {one['content']}" for one in asked.prompt)


def render(found: dict[str, Any]) -> str:
    """A dry run for people."""
    lines = [f"GRPO of {found['base']} into {found['out']}: {found['answers']:,} answers"]
    lines += [f"  still to come: {line}" for line in found["missing"]]
    if "trained_parameters" in found:
        memory = found["memory_bytes"] / 1e9
        lines.append(f"  {found['trained_parameters']:,} trained parameters, about {memory:.1f} GB of memory at most")
    if queries := found.get("queries"):
        lines.append(f"  {queries['train']:,} queries for training, {queries['valid']:,} for validation")
        lines += ["  the reward against its adversaries:", found["table"], "  a prompt:", found["prompt"]]
    return "\n".join(lines)


def grpo(config: GrpoConfig, run: Run, console: Any) -> dict[str, Any]:
    """Train as configured; returns what ``train.json`` says. Raises MarginaliaError with one clear line."""
    check_beta(config, run.force)
    if bases.offline(run.offline):
        os.environ["HF_HUB_OFFLINE"] = "1"  # the libraries below ask the hub about files that are on disk
    found = bases.find(config.base)
    preflight.check(config.loading, found, run.force)
    base = bases.fetch(found, is_offline=bases.offline(run.offline))
    assert base.folder is not None
    if (base.folder / "adapter_config.json").is_file():
        raise InputError(f"{base.folder}: is an adapter", "merge it first: python -m finetune.merge --help")
    text = config_text(config)
    lineage = {
        "base": bases.weights_digest(base.folder),
        "data": bases.digest(Path(config.data) / "train.jsonl"),
        "config": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}",
    }
    out = Path(config.out)
    start = checkpoints.choose(out, run.resume, config, lineage, console.print)
    if not run.resume:
        preflight.check_fresh(out)
    with atomic_write(out / "config.yaml") as handle:
        handle.write(text)
    return _train(config, base, lineage, start, console)


def _train(
    config: GrpoConfig, base: bases.Base, lineage: dict[str, str], start: Path | None, console: Any
) -> dict[str, Any]:
    import torch

    from finetune.grpo.policy import Policy
    from finetune.grpo.rewards import read_task
    from finetune.grpo.rollout import Writer
    from finetune.grpo.trainer import Trainer
    from finetune.sft.data import give_template
    from finetune.sft.model import load_tokenizer
    from finetune.sft.trainer import clear_failures
    from harness.jobs.progress import Progress

    assert base.folder is not None
    if config.threads:
        torch.set_num_threads(config.threads)
    task = read_task(config)
    console.print(task.guard.table(), highlight=False)
    tokenizer = load_tokenizer(base.folder, None)
    give_template(tokenizer, config.contract)
    writer = Writer(tokenizer, config.completion_tokens, config.temperature)
    trainer: Trainer | None = None
    with clear_failures(config.loading, lambda: trainer.state.step if trainer else 0):
        trainer = Trainer(config, task, Policy(base, tokenizer, config), writer, lineage)
        if not trainer.asked:
            raise UsageError(f"prompt_tokens {config.prompt_tokens}: every prompt is longer", "raise it")
        if start:
            trainer.restore(start)
        with Progress(console, config.steps, "steps") as bar:
            for _ in range(trainer.state.step):
                bar.advance(cached=True)

            def show(entry: dict[str, Any]) -> None:
                if "eval_reward" in entry:
                    told = ", ".join(f"{name} {value}" for name, value in entry.items() if name != "step")
                    console.print(f"step {entry['step']}: {told}")
                else:
                    bar.advance()

            trainer.run(show)
        trainer.load_best()
        _save(config, trainer, lineage)
    return _finish(config, trainer, lineage, start)


def _save(config: GrpoConfig, trainer: Any, lineage: dict[str, str]) -> None:
    from finetune.sft.data import DataFolder

    out, tokenizer, model = Path(config.out), trainer.writer.tokenizer, trainer.policy.model
    if config.tuning == "full":
        save_model(model, tokenizer, trainer.writer.end, out / config.product, lineage)
    else:
        save_adapter(model, tokenizer, DataFolder(Path(config.data), "", None, {}), out / config.product, lineage)


def _finish(config: GrpoConfig, trainer: Any, lineage: dict[str, str], start: Path | None) -> dict[str, Any]:
    from finetune.hf_checkpoint import read_json

    out, state = Path(config.out), trainer.state
    product = read_json(out / config.product / "lineage.json")
    write_json(out / "lineage.json", {**lineage, config.product: product[config.product]})
    evaluations = [entry for entry in state.history if "eval_reward" in entry]
    steps = [entry for entry in state.history if "kl" in entry]
    summary = {
        "base": config.base,
        "steps": state.step,
        "best_step": state.best_step,
        "eval_reward": state.best,
        "eval_reward_before": evaluations[0]["eval_reward"],
        "reward": steps[-1]["reward"],
        "kl": steps[-1]["kl"],
        "tokens_an_answer": steps[-1]["tokens"],
        "seconds": state.seconds,
        "resumed_from": start.name if start else None,
        "config": plain(config),
    }
    write_json(out / "train.json", summary)
    return summary


def restart(out: Path) -> None:
    """Remove what an earlier run left in its folder, and nothing else."""
    preflight.restart(out)
    (out / "best.pt").unlink(missing_ok=True)
    shutil.rmtree(out / "adapter", ignore_errors=True)
