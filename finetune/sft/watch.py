"""Follows a run: progress with ETA, metrics, sealed checkpoints, time and tokens spent (those before a resume included)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from finetune.sft import checkpoints, report
from finetune.sft.config import SftConfig
from finetune.sft.trainer import CompletionTrainer, Materials
from harness.jobs.progress import Progress


class Watch(TrainerCallback):  # type: ignore[misc]
    """The run's only observer. ``say`` takes a line for people."""

    def __init__(
        self, config: SftConfig, materials: Materials, console: Any, say: Callable[[str], None], earlier: dict[str, float]
    ) -> None:
        self.config, self.materials, self.console, self.say, self.earlier = config, materials, console, say, earlier
        self.metrics = Path(config.out) / "metrics.jsonl"
        self.trainer: CompletionTrainer | None = None
        self.progress: Progress | None = None
        self.started = time.monotonic()

    @property
    def spent(self) -> dict[str, float]:
        """Seconds and real tokens of the whole run so far, evaluations and checkpoints included."""
        tokens = self.trainer.tokens if self.trainer else 0
        seconds = time.monotonic() - self.started
        now = {"seconds": seconds, "tokens": tokens}
        return {name: round(self.earlier.get(name, 0.0) + value, 3) for name, value in now.items()}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show where the run stands."""
        self.started = time.monotonic()
        if not state.is_world_process_zero:
            return
        report.rewrite_metrics(self.metrics, state.log_history)
        self.progress = Progress(self.console, state.max_steps, "steps")
        self.progress.__enter__()
        for _ in range(state.global_step):
            self.progress.advance(cached=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One more step."""
        if self.progress:
            self.progress.advance()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the line; evaluations are told to people too."""
        if not state.is_world_process_zero:
            return
        entry = state.log_history[-1]
        report.append_metric(self.metrics, entry)
        if "eval_loss" in entry:
            losses = [e["loss"] for e in state.log_history if "loss" in e]
            train = f"loss {losses[-1]:.4f}, " if losses else ""
            accuracy = entry["eval_token_accuracy"]
            self.say(f"step {state.global_step}: {train}eval loss {entry['eval_loss']:.4f}, token accuracy {accuracy:.4f}")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Seal the checkpoint once every process has written its part."""
        assert self.trainer is not None
        self.trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            checkpoints.seal(folder, self.config, self.materials.lineage, self.spent)

    def close(self) -> None:
        """End the progress bar, however the run ended."""
        if self.progress:
            self.progress.__exit__(None, None, None)
            self.progress = None
