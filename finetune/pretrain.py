"""Pre-train the small base model on abstracts, on a CPU, in stages that can be killed and resumed.

    python -m finetune.pretrain finetune/configs/base.yaml --out finetune_output/base
    python -m finetune.pretrain finetune/configs/base-2.yaml --start finetune_output/base/model --out finetune_output/base-2

Needs ``tokenizer/``, ``train.npy`` and ``valid.npy`` of ``finetune.dataset.abstracts`` in the output folder. Matrices are
trained with Muon (Jordan et al. 2024; RMS-matched step as in Moonlight, Liu et al. 2025, section 2.2), embeddings and
norms with AdamW. Writes ``checkpoint.pt`` every few minutes, ``metrics.jsonl``, and at the end ``model/`` (Hugging Face).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning OpenMP threads starve each other on busy cores


@dataclass(frozen=True)
class PretrainConfig:
    """Every value of the run. Tokens a step = micro_batch * sequence * accumulate of the stage in force."""

    layers: int = 6
    hidden: int = 256
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    ffn: int = 768
    positions: int = 2048
    rope_theta: float = 10000.0
    steps: int = 1800
    tokens_per_step: int = 8192
    # (sequence length, micro-batch, share of the steps): short sequences first, they are cheaper per token
    stages: tuple[tuple[int, int, float], ...] = ((256, 8, 0.8), (1024, 2, 0.2))
    muon_lr: float = 5e-3
    adam_lr: float = 3e-3
    weight_decay: float = 0.05
    warmup: int = 50
    final_lr: float = 0.03
    seen: int = 0
    """Tokens of the corpus to begin after: what the weights of ``--start`` have read."""
    clip: float = 1.0
    seed: int = 1
    threads: int = 2
    compile: bool = True
    bf16: bool = True
    checkpoint_minutes: float = 5.0
    log_every: int = 20
    valid_every: int = 300

    @classmethod
    def load(cls, path: Path) -> PretrainConfig:
        """Read YAML; an unknown key is an error."""
        import yaml

        values = yaml.safe_load(path.read_text()) or {}
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise SystemExit(f"{path}: unknown keys: {', '.join(sorted(unknown))}")
        if "stages" in values:
            values["stages"] = tuple((int(s), int(b), float(share)) for s, b, share in values["stages"])
        return cls(**values)

    def lr_scale(self, step: int) -> float:
        """Linear warm-up, then linear decay to ``final_lr`` (Bergsma et al. 2025: linear to near zero is best)."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 1 - done * (1 - self.final_lr)

    def stage(self, step: int) -> tuple[int, int]:
        """Sequence length and micro-batch at a step."""
        edge = 0.0
        for sequence, batch, share in self.stages:
            edge += share * self.steps
            if step < edge:
                return sequence, batch
        return self.stages[-1][0], self.stages[-1][1]


def build_model(config: PretrainConfig, vocab: int, end: int) -> Any:
    """A randomly initialised Qwen3 decoder with tied embeddings."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(config.seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocab,
            hidden_size=config.hidden,
            intermediate_size=config.ffn,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_dim,
            max_position_embeddings=config.positions,
            rope_theta=config.rope_theta,
            tie_word_embeddings=True,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def load_weights(model: Any, folder: Path) -> None:
    """Take the weights of a model folder of the same shape and vocabulary. SystemExit for another shape."""
    from transformers import Qwen3ForCausalLM

    given = Qwen3ForCausalLM.from_pretrained(folder)
    if [(name, p.shape) for name, p in given.named_parameters()] != [(n, p.shape) for n, p in model.named_parameters()]:
        raise SystemExit(f"{folder}: is of another shape than the configuration: give the one that it was made with")
    model.load_state_dict(given.float().state_dict())


def build_optimizers(
    parameters: Iterable[tuple[str, Any]], muon_lr: float, adam_lr: float, weight_decay: float
) -> list[Any]:
    """Muon for the matrices inside the blocks, AdamW for the rest, from (name, parameter) pairs."""
    import torch

    matrices: list[Any] = []
    others: list[Any] = []
    for name, parameter in parameters:
        inside = parameter.ndim == 2 and name.startswith("model.layers.")
        (matrices if inside else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=muon_lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def next_token_loss(model: Any) -> Callable[[Any], Any]:
    """Mean cross-entropy in nats of every next token of a batch of id rows."""
    import torch

    def loss(batch: Any) -> Any:
        hidden = model.model(input_ids=batch, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1]).float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    return loss


class Pretraining:
    """One run: owns the model, the optimizers and the place in the data, and can save and load them."""

    def __init__(self, config: PretrainConfig, out: Path, start: Path | None = None) -> None:
        import numpy as np
        import torch
        from transformers import PreTrainedTokenizerFast

        if missing := [name for name in ("tokenizer", "train.npy", "valid.npy") if not (out / name).exists()]:
            raise SystemExit(f"{out / missing[0]}: not there; make it with finetune.dataset.abstracts --out {out}")
        self.config, self.out = config, out
        torch.set_num_threads(config.threads)
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(out / "tokenizer")
        self.data = np.load(out / "train.npy", mmap_mode="r")
        self.valid = np.load(out / "valid.npy")
        self.model = build_model(config, len(self.tokenizer), self.tokenizer.eos_token_id)
        if start:
            load_weights(self.model, start)
        self.optimizers = build_optimizers(
            self.model.named_parameters(), config.muon_lr, config.adam_lr, config.weight_decay
        )
        loss = next_token_loss(self.model)
        self.loss = torch.compile(loss, dynamic=False) if config.compile else loss
        self.step, self.position = 0, config.seen

    def batch(self) -> Any:
        """The next micro-batch, read on from the last one; the corpus is taken round and round."""
        import numpy as np
        import torch

        sequence, rows = self.config.stage(self.step)
        need = sequence * rows
        if self.position + need > len(self.data):
            self.position = 0
        piece = np.asarray(self.data[self.position : self.position + need], dtype=np.int64)
        self.position += need
        return torch.from_numpy(piece).view(rows, sequence)

    def autocast(self) -> Any:
        import torch

        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.bf16)

    def train_step(self) -> float:
        """One optimizer step over ``tokens_per_step`` tokens; the mean loss."""
        import torch

        sequence, rows = self.config.stage(self.step)
        accumulate = max(1, self.config.tokens_per_step // (sequence * rows))
        scale = self.config.lr_scale(self.step)
        for optimizer, lr in zip(self.optimizers, (self.config.muon_lr, self.config.adam_lr), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr * scale
        total = 0.0
        for _ in range(accumulate):
            with self.autocast():
                loss = self.loss(self.batch())
            (loss / accumulate).backward()
            total += loss.item() / accumulate
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return total

    def valid_loss(self) -> float:
        """Loss on the held-out documents, in rows of the longest stage."""
        import numpy as np
        import torch

        sequence = 512
        rows = len(self.valid) // sequence
        ids = torch.from_numpy(np.asarray(self.valid[: rows * sequence], dtype=np.int64)).view(rows, sequence)
        loss = next_token_loss(self.model)
        with torch.no_grad(), self.autocast():
            return float(np.mean([loss(part).item() for part in ids.split(4)]))

    def save(self) -> None:
        import torch

        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "position": self.position,
            "config": asdict(self.config),
        }
        partial = self.out / "checkpoint.pt.part"
        torch.save(state, partial)
        partial.replace(self.out / "checkpoint.pt")

    def resume(self) -> bool:
        """Go on from the checkpoint of the same configuration, if there is one."""
        import torch

        path = self.out / "checkpoint.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        if state["config"] != asdict(self.config):
            raise SystemExit(f"{path} belongs to another configuration: move it away or use its configuration")
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.position = state["step"], state["position"]
        return True


def log(out: Path, record: dict[str, Any]) -> None:
    with (out / "metrics.jsonl").open("a") as handle:
        handle.write(json.dumps(record) + "\n")
    print(json.dumps(record), file=sys.stderr, flush=True)


def run(config: PretrainConfig, out: Path, start: Path | None = None) -> None:
    """Train to the last step, from the checkpoint where there is one, else from ``start`` or at random; save the model."""
    import torch

    training = Pretraining(config, out, start)
    if training.resume():
        print(f"resumed at step {training.step} of {config.steps}", file=sys.stderr)
    started = saved = time.monotonic()
    first = training.step
    running = math.nan
    while training.step < config.steps:
        loss = training.train_step()
        running = loss if math.isnan(running) else 0.9 * running + 0.1 * loss
        now = time.monotonic()
        rate = (training.step - first) / (now - started)
        if training.step % config.log_every == 0:
            eta = (config.steps - training.step) / rate / 60
            tokens = round(rate * config.tokens_per_step)
            log(out, {"step": training.step, "loss": round(running, 4), "tokens_s": tokens, "eta_min": round(eta, 1)})
        if training.step % config.valid_every == 0:
            log(out, {"step": training.step, "valid_loss": round(training.valid_loss(), 4)})
        if now - saved > config.checkpoint_minutes * 60:
            training.save()
            saved = now
    training.save()
    log(out, {"step": training.step, "valid_loss": round(training.valid_loss(), 4)})
    training.model.to(torch.float16).save_pretrained(out / "model")  # half the size; what is tuned later starts from these
    training.tokenizer.save_pretrained(out / "model")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--start", type=Path, help="model folder of an earlier run to go on from (default: random weights)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    run(PretrainConfig.load(args.config), args.out, args.start)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
