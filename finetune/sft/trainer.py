"""The loop: transformers' Trainer, given our batches, a loss at the trained positions only, and our evaluation.

One item of the loader is one optimizer step, as a list of micro-batches, so that the loss is the mean over all trained
tokens of the step however it is cut. Checkpoints, schedules, mixed precision, DDP and FSDP are the Trainer's.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from finetune.sft import checkpoints
from finetune.sft.batches import StepSampler, collate, split_step
from finetune.sft.config import SftConfig
from finetune.sft.data import Example
from finetune.sft.model import Device, TrainedPositions, label_rows
from harness.errors import InputError, MarginaliaError

Step = list[dict[str, Any]]
"""The micro-batches of one optimizer step on this process."""


class TrainingFailed(MarginaliaError):
    """The run cannot go on: the loss is no number, memory or disk is at its end."""


@dataclass(frozen=True)
class Materials:
    """What a run is made of, beside the model."""

    train: Sequence[Example]
    valid: Sequence[Example]
    pad_id: int
    words: Any
    """Ids that word dropout may use and replace."""
    lineage: Mapping[str, str]


def peak_memory() -> int:
    """The most bytes that this process has held: on the GPU where it used one, else in main memory."""
    if torch.cuda.is_available() and (used := torch.cuda.max_memory_allocated()):
        return int(used)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def arguments(config: SftConfig, device: Device) -> TrainingArguments:
    """The Trainer's own settings."""
    scheduler, extra = config.scheduler, {}
    if scheduler == "constant":
        scheduler = "constant_with_warmup"
    elif scheduler == "cosine" and config.min_learning_rate:
        scheduler, extra = "cosine_with_min_lr", {"min_lr": config.min_learning_rate}
    return TrainingArguments(
        output_dir=config.out,
        use_cpu=device.kind == "cpu",
        bf16=device.precision == "bf16",
        fp16=device.precision == "fp16",
        per_device_train_batch_size=config.batch,
        gradient_accumulation_steps=1,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=scheduler,
        lr_scheduler_kwargs=extra,
        warmup_steps=config.warmup_steps,
        max_grad_norm=config.max_grad_norm,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=config.evaluate_every,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=max(2, config.keep_checkpoints) if config.keep_checkpoints else None,
        load_best_model_at_end=config.keep == "best",
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        report_to=config.report_to,
        seed=config.seed,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        log_level="error",
    )


class StepLoader(DataLoader[Any]):  # type: ignore[misc]
    """A loader whose batch sampler learns of the epoch (the Trainer tells the loader only)."""

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration is of."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


class CompletionTrainer(Trainer):  # type: ignore[misc]
    """Trains and evaluates at the trained positions of each example."""

    optimizer: Any
    control: Any

    def __init__(self, model: Any, config: SftConfig, device: Device, materials: Materials, watch: TrainerCallback) -> None:
        self.settings, self.materials = config, materials
        self.positions = TrainedPositions(model)
        super().__init__(
            model=model, args=arguments(config, device), train_dataset=materials.train, eval_dataset=materials.valid
        )
        self.remove_callback(PrinterCallback)
        self.add_callback(watch)
        self.add_callback(EarlyStop(config.patience))
        world = self.accelerator.num_processes
        if config.batch % world:
            raise InputError(f"batch {config.batch} cannot be shared by {world} processes", "give a multiple")
        self.args._n_gpu = min(1, self.args.n_gpu)  # torch's DataParallel would cut batches apart from their targets
        self.tokens, self.trained = 0, 0
        self.correct: Any = 0

    def gathered(self) -> Any:
        """All weights, on the first process, where FSDP has scattered them; else None. Every process must ask."""
        return self.accelerator.get_state_dict(self.model) if self.is_fsdp_enabled else None

    # Batches

    def loader(self, examples: Sequence[Example], *, shuffle: bool) -> StepLoader:
        """Steps of the examples for this process, in training order or longest first."""
        config, world = self.settings, self.accelerator.num_processes if shuffle else 1
        sampler = StepSampler(
            [len(example.ids) for example in examples],
            config.batch,
            config.group if shuffle else len(examples),
            config.seed,
            self.accelerator.process_index if shuffle else 0,
            world,
            shuffle=shuffle,
        )

        def cut(chosen: list[Example]) -> Step:
            lengths = [len(example.ids) for example in chosen]
            parts = split_step(lengths, config.micro_batch, config.micro_tokens if world == 1 else 0)
            return [collate(chosen[part], self.materials.pad_id) for part in parts]

        dataset: Any = examples
        return StepLoader(dataset, batch_sampler=sampler, collate_fn=cut)  # type: ignore[arg-type]

    def get_train_dataloader(self) -> StepLoader:
        """The Trainer's way of asking."""
        return self.loader(self.materials.train, shuffle=True)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    # Loss

    def forward_loss(self, model: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
        """Summed cross-entropy and the number of right tokens over the trained positions of a micro-batch."""
        self.positions.where = batch["where"]
        try:
            logits = model(input_ids=batch["input_ids"], use_cache=False).logits[0]
        finally:
            self.positions.where = None
        targets = batch["targets"]
        return cross_entropy(logits.float(), targets, reduction="sum"), (logits.detach().argmax(-1) == targets).sum()

    def training_step(self, model: Any, inputs: Step, num_items_in_batch: Any = None) -> Any:
        """Gradients of one whole optimizer step; returns its mean loss. Raises TrainingFailed when that is no number."""
        model.train()
        count = sum(len(batch["targets"]) for batch in inputs)
        tokens = sum(batch.pop("tokens") for batch in inputs)
        if self.settings.input_noise:
            self.add_noise(inputs)
        world = self.accelerator.num_processes
        over_all = count
        if world > 1:  # DDP averages gradients: each process divides by its share of all trained tokens
            over_all, tokens = self.accelerator.reduce(
                torch.tensor([count, tokens], device=self.args.device), "sum"
            ).tolist()
        total = torch.zeros((), device=self.args.device)
        for index, raw in enumerate(inputs):
            batch = self._prepare_inputs(raw)
            last = index == len(inputs) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                loss, correct = self.forward_loss(model, batch)
                loss = loss * (world / over_all)
                self.accelerator.backward(loss)
            total += loss.detach()
            self.correct += correct
        if not torch.isfinite(total):
            raise self.no_number(float(total))
        self.tokens += tokens
        self.trained += count
        return total

    def add_noise(self, inputs: Step) -> None:
        """Word dropout: replace a share of the words by others, never at a trained position. The step seeds it."""
        noise = np.random.default_rng([self.settings.seed, self.state.global_step, self.accelerator.process_index])
        words = self.materials.words
        for batch in inputs:
            ids = batch["input_ids"].numpy().reshape(-1)
            chosen = (noise.random(len(ids)) < self.settings.input_noise) & np.isin(ids, words)
            chosen[batch["where"].numpy()] = False
            ids[chosen] = noise.choice(words, int(chosen.sum()))

    def no_number(self, loss: float) -> TrainingFailed:
        """The error for a loss that is no number."""
        sound = checkpoints.newest_sound(Path(self.settings.out))
        keep = f"; {sound} is sound" if sound else ""
        return TrainingFailed(
            f"step {self.state.global_step + 1}: the loss is {loss}{keep}",
            f"lower learning_rate (now {self.settings.learning_rate:g}), or use precision bf16 or fp32",
        )

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW; the rows of new tokens have a rate of their own and no weight decay."""
        if self.optimizer is None:
            config, owner = self.settings, model or self.model
            rows = {id(row) for row in label_rows(owner)}
            trained = [p for p in owner.parameters() if p.requires_grad]
            groups = [
                {"params": [p for p in trained if id(p) not in rows], "weight_decay": config.weight_decay},
                {"params": [p for p in trained if id(p) in rows], "weight_decay": 0.0, "lr": config.label_rate},
            ]
            self.optimizer = torch.optim.AdamW(
                [group for group in groups if group["params"]],
                lr=config.learning_rate,
                betas=(config.adam_beta1, config.adam_beta2),
                fused=True,
            )
        return self.optimizer

    # Evaluation and logs

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss and token accuracy over the trained positions of the validation rows."""
        self.model_wrapped.eval()
        totals = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        count, started = 0, time.monotonic()
        with torch.no_grad():
            for step in self.loader(eval_dataset or self.materials.valid, shuffle=False):
                for raw in step:
                    raw.pop("tokens")
                    batch = self._prepare_inputs(raw)
                    loss, correct = self.forward_loss(self.model_wrapped, batch)
                    totals += torch.stack([loss, correct]).double()
                    count += len(batch["targets"])
        loss, correct = (totals / count).tolist()
        seconds = time.monotonic() - started
        metrics = {"eval_loss": loss, "eval_token_accuracy": correct, "eval_seconds": round(seconds, 3)}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The Trainer's, with the accuracy over the tokens trained on since the last line."""
        if "loss" in logs and self.trained:
            logs["token_accuracy"] = float(self.correct) / self.trained
            self.correct, self.trained = 0, 0
        super().log(logs, start_time)


class EarlyStop(TrainerCallback):  # type: ignore[misc]
    """Stops after ``patience`` evaluations without a better loss (0: never). The log tells, so a resumed run agrees."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Asked after each evaluation."""
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        if self.patience and stale(losses) >= self.patience:
            control.should_training_stop = True


def stale(losses: Sequence[float]) -> int:
    """Evaluations since the best one.

    >>> stale([0.9, 0.5, 0.6, 0.5])
    2
    """
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


@contextlib.contextmanager
def clear_failures(config: SftConfig, step: Callable[[], int]) -> Any:
    """Turn memory and disk at their end into one line each."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _memory(step(), config) from error
    except OSError as error:
        raise TrainingFailed(
            f"step {step()}: {error.filename or config.out} could not be written ({error.strerror or error})",
            "free some space, then repeat the command with --resume auto",
        ) from error
    except Exception as error:
        text = str(error)
        if "can't allocate memory" in text or "out of memory" in text.lower():
            raise _memory(step(), config) from error
        if "No space left" in text or "PytorchStreamWriter" in text or "unexpected pos" in text:
            message = f"step {step()}: a checkpoint in {config.out} could not be written (no space left)"
            raise TrainingFailed(message, "free some space, then repeat the command with --resume auto") from error
        raise


def _memory(step: int, config: SftConfig) -> TrainingFailed:
    return TrainingFailed(
        f"step {step}: out of memory",
        f"lower micro_batch (now {config.micro_batch}) or max_length, set gradient_checkpointing=true; then --resume auto",
    )
