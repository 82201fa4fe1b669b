"""The loop of GRPO (Shao et al. 2024, section 4.1): ask, judge, compare, learn; it can be killed and goes on.

A step asks ``prompts`` queries for ``generations`` answers each, scores them, and makes one gradient step on what each
answer is better or worse than the others to its query. Groups whose answers are all worth the same teach nothing, so only
their divergence counts. Everything that happens by chance in a step follows from the seed and the step's number.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from finetune.grpo.config import GrpoConfig
from finetune.grpo.loss import advantages, losses
from finetune.grpo.policy import Policy
from finetune.grpo.rewards import Asked, Task
from finetune.grpo.rollout import Answer, Ids, Writer, learned
from finetune.sft import checkpoints
from finetune.sft.trainer import TrainingFailed
from harness.outputs import atomic_write

BEST = "best.pt"
STATE = "state.pt"


@dataclass
class Progress:
    """How far a run is, and what was measured so far."""

    step: int = 0
    best_step: int = -1
    best: float = -math.inf
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Trainer:
    """One run. ``out`` gets metrics.jsonl, checkpoints and the best weights."""

    config: GrpoConfig
    task: Task
    policy: Policy
    writer: Writer
    lineage: Mapping[str, str]
    state: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        config = self.config
        self.out = Path(config.out)
        self.optimizer = torch.optim.AdamW(
            list(self.policy.trained.values()), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        prompts = ((one, self.writer.prompt(one)) for one in self.task.train)
        self.asked = [(one, prompt) for one, prompt in prompts if len(prompt) <= config.prompt_tokens]
        self.started = time.monotonic()

    # Steps

    def chosen(self, step: int) -> list[tuple[Asked, Ids]]:
        """The queries of a step: passes over all, each in an order of its own."""
        found = []
        for place in range(step * self.config.prompts, (step + 1) * self.config.prompts):
            turn, index = divmod(place, len(self.asked))
            order = random.Random(f"{self.config.seed}/{turn}").sample(range(len(self.asked)), len(self.asked))
            found.append(self.asked[order[index]])
        return found

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        config = self.config
        if step < config.warmup_steps:
            return config.learning_rate * (step + 1) / config.warmup_steps
        if config.scheduler == "constant":
            return config.learning_rate
        done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    def step(self) -> dict[str, Any]:
        """One optimizer step; returns its figures. Raises TrainingFailed where the loss is no number."""
        config, number = self.config, self.state.step
        some = self.chosen(number)
        answers = self.write([prompt for _, prompt in some], config.generations, seed=config.seed * 1_000_003 + number)
        worth = self.judge([one for one, _ in some], answers)
        rewards = torch.tensor([value["reward"] for value in worth]).view(len(some), config.generations)
        advantage = advantages(rewards).flatten()
        loss, apart = self.learn([(some[one.of][1], one) for one in answers], advantage)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(number)
        trained = list(self.policy.trained.values())
        norm = torch.nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
        if not math.isfinite(loss) or not torch.isfinite(norm):
            raise TrainingFailed(f"step {number + 1}: the loss is no number", "lower learning_rate, or use precision fp32")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        return {
            "step": self.state.step,
            **mean_of(worth),
            "reward_spread": round(float(rewards.std(1, correction=0).mean()), 5),
            "equal_groups": int((rewards.std(1, correction=0) == 0).sum()),
            "tokens": round(sum(len(one.ids) for one in answers) / len(answers), 1),
            "kl": round(apart, 6),
            "loss": round(loss, 6),
            "grad_norm": round(float(norm), 4),
            "learning_rate": self.rate(number),
        }

    def write(self, prompts: Sequence[Ids], count: int, *, seed: int | None) -> list[Answer]:
        """Answers of the policy as it is."""
        with self.policy.precision():
            found: list[Answer] = self.writer.answers(self.policy.model, prompts, count, seed=seed)
        return found

    def judge(self, asked: Sequence[Asked], answers: Sequence[Answer]) -> list[dict[str, float]]:
        """For each answer its rewards by name and their product; nothing for one that did not end."""
        found = []
        for one in answers:
            query = asked[one.of].query
            parts = {name: part(query, one.text) if one.ended else 0.0 for name, part in self.task.parts.items()}
            found.append({"reward": math.prod(parts.values()), **parts, "ended": float(one.ended)})
        return found

    def learn(self, pairs: Sequence[tuple[Ids, Answer]], advantage: Any) -> tuple[float, float]:
        """Gradients of the mean loss over all answers; returns it and the mean divergence."""
        config = self.config
        examples = [learned(prompt, answer) for prompt, answer in pairs]
        order = sorted(range(len(examples)), key=lambda place: len(examples[place].ids))
        total = apart = 0.0
        for start in range(0, len(order), config.micro_batch):
            places = order[start : start + config.micro_batch]
            part = [examples[place] for place in places]
            reference = self.policy.reference(part)
            logp, lengths = self.policy.logp(part)
            found, away = losses(logp, reference, advantage[places].to(logp.device), lengths.to(logp.device), config.beta)
            loss = found.sum() / len(examples)
            loss.backward()
            total, apart = total + float(loss.detach()), apart + float(away.sum()) / len(examples)
        return total, apart

    # Evaluation

    def evaluate(self) -> dict[str, Any]:
        """Greedy answers to queries of the validation rows; the weights of the best evaluation are kept."""
        config, state = self.config, self.state
        dice = random.Random(config.seed)
        some = dice.sample(self.task.valid, min(config.eval_prompts, len(self.task.valid)))
        worth: list[dict[str, float]] = []
        batch = config.prompts * config.generations
        for start in range(0, len(some), batch):
            part = some[start : start + batch]
            answers = self.write([self.writer.prompt(one) for one in part], 1, seed=None)
            worth += self.judge(part, answers)
        figures = {f"eval_{name}": value for name, value in mean_of(worth).items()}
        if figures["eval_reward"] >= state.best:  # of equals the later one: it was trained for longer
            state.best, state.best_step = figures["eval_reward"], state.step
            self.save_tensors(self.out / BEST, self.weights())
        return {"step": state.step, **figures}

    # The whole run

    def run(self, show: Any) -> None:
        """All steps that are left; ``show`` is called after each with what there is to tell."""
        config, state = self.config, self.state
        self.started = time.monotonic() - state.seconds
        self.rewrite_metrics()
        if not state.step:
            self.note(self.evaluate(), show)
        while state.step < config.steps:
            self.note(self.step(), show)
            if state.step % config.eval_steps == 0 or state.step == config.steps:
                self.note(self.evaluate(), show)
            if state.step % config.save_steps == 0 and state.step < config.steps:
                self.save()

    def note(self, entry: dict[str, Any], show: Any) -> None:
        """Keep an entry of the metrics, and tell it."""
        self.state.seconds = round(time.monotonic() - self.started, 3)
        self.state.history.append(entry)
        with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(entry) + "\n")
        show(entry)

    def rewrite_metrics(self) -> None:
        """Make the file say what a resumed run knows."""
        with atomic_write(self.out / "metrics.jsonl") as handle:
            handle.writelines(json.dumps(entry) + "\n" for entry in self.state.history)

    # Weights

    def weights(self) -> dict[str, Any]:
        """The values that are trained."""
        return {name: value.detach().cpu().clone() for name, value in self.policy.trained.items()}

    def load_weights(self, weights: Mapping[str, Any]) -> None:
        """Put them back."""
        with torch.no_grad():
            for name, value in self.policy.trained.items():
                value.copy_(weights[name])

    def load_best(self) -> None:
        """The weights of the best evaluation."""
        self.load_weights(torch.load(self.out / BEST, weights_only=True))

    def save_tensors(self, path: Path, values: Mapping[str, Any]) -> None:
        """Write a file of tensors, whole or not at all."""
        with atomic_write(path, binary=True) as handle:
            torch.save(dict(values), handle)

    def save(self) -> None:
        """A sealed checkpoint; older ones beyond ``keep_checkpoints`` go."""
        import shutil

        state = self.state
        folder = self.out / f"checkpoint-{state.step}"
        folder.mkdir(exist_ok=True)
        best = torch.load(self.out / BEST, weights_only=True)
        values = {"weights": self.weights(), "optimizer": self.optimizer.state_dict(), "best": best}
        self.save_tensors(folder / STATE, values)
        with atomic_write(folder / "progress.json") as handle:
            handle.write(json.dumps(vars(state)) + "\n")
        checkpoints.seal(folder, self.config, self.lineage, {"seconds": state.seconds})
        for old in checkpoints.all_in(self.out)[max(1, self.config.keep_checkpoints) :]:
            shutil.rmtree(old, ignore_errors=True)

    def restore(self, folder: Path) -> None:
        """Go on from a sealed checkpoint."""
        self.state = Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))
        values = torch.load(folder / STATE, weights_only=True)
        self.load_weights(values["weights"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.save_tensors(self.out / BEST, values["best"])


def mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure.

    >>> mean_of([{"a": 1.0}, {"a": 2.0}])
    {'a': 1.5}
    """
    return {name: round(sum(row[name] for row in rows) / len(rows), 6) for name in rows[0]} if rows else {}
