"""The trainer against the plain script of the specification, on the bundled base: tokens a second, memory, loss.

    python benchmarks/trainer_throughput.py [--contract mark] [--steps 20] [--examples 480] [--repeats 3]

Plain: transformers' Trainer with loss on the whole sequence, batches of 4 in random order padded to their longest, four
of them a step. Ours: ``finetune.sft``. Base (NF4, bf16 computation where the machine has it), adapter (r 16, alpha 32,
dropout 0.1, q and v), optimizer, schedule, seed, rows and steps are the same. Every run is a process of its own; tokens
are real ones, without padding; seconds are those of the training steps,
without the first, by the clock and (which a busy machine disturbs less) of the processor. Both are scored by the loss of
the completion's tokens on rows that neither has seen.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import DATA, ROOT, read_jsonl, report

from finetune.sft import preflight

if TYPE_CHECKING:
    from finetune.sft.config import SftConfig
    from finetune.sft.data import Example

GOLD = DATA / "gold" / "moves_train.jsonl"
BASE = ROOT / "registry" / "marginalia-base" / "mini"
VARIANTS = ("plain", "ours")
# What our command line sets for itself; the plain script has the library's default.
ENVIRONMENT: dict[str, dict[str, str]] = {"plain": {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024"}, "ours": {}}
VALID = 48
MOST_TOKENS = 1024


def write_data(folder: Path, contract: str, count: int, seed: int) -> None:
    """A data folder of gold papers in a seeded order: the first ``VALID`` validate, the next ``count`` train."""
    from finetune.mark_data import Labels, sentence_sets
    from skills.annotate import mark, prompt
    from skills.annotate.moves import load_framework

    framework = load_framework()
    rows = read_jsonl(GOLD)
    random.Random(seed).shuffle(rows)
    splits = {"valid": rows[:VALID], "train": rows[VALID : VALID + count]}
    labels = Labels.of(splits["train"], framework.names, 4)

    def marks(paper: dict[str, Any]) -> dict[str, Any]:
        text = mark.first_pass(paper["title"], paper["sentences"]) + "".join(mark.steps(paper["sentences"]))
        tokens = [labels.tokens[labels.nearest(stated)] for stated in sentence_sets(paper, framework.names)]
        return {"id": paper["arxiv_id"], "prompt": text, "completion": tokens}

    def quotes(paper: dict[str, Any]) -> dict[str, Any]:
        chat = [
            {"role": m.role, "content": m.content} for m in prompt.messages(framework, paper["title"], paper["sentences"])
        ]
        answer = {move: ("", list(paper["moves"].get(move) or ())) for move in framework.names}
        return {"id": paper["arxiv_id"], "prompt": chat, "completion": prompt.completion(framework, answer)}

    folder.mkdir()
    for name, papers in splits.items():
        lines = (json.dumps(marks(paper) if contract == "mark" else quotes(paper)) + "\n" for paper in papers)
        (folder / f"{name}.jsonl").write_text("".join(lines))
    (folder / "card.json").write_text(json.dumps({"contract": mark.CONTRACT if contract == "mark" else prompt.QUOTE}))
    if contract == "mark":
        (folder / "labels.json").write_text(json.dumps({"moves": labels.moves, "sets": labels.sets}))


def settings(variant: str, data: Path, out: Path, steps: int, seed: int) -> SftConfig:
    """The specification's values, for so many steps; ours has micro-batches by tokens and attention of its own besides."""
    from finetune.sft.config import parse

    values = {"base": str(BASE), "data": str(data), "out": str(out), "device": "cpu", "max_steps": steps, "seed": seed}
    values |= {"max_length": MOST_TOKENS, "epochs": 1000, "save_steps": 10**6, "logging_steps": 1}
    values |= {"micro_batch": 4, "micro_tokens": 1280, "attention": "auto" if variant == "ours" else "sdpa"}
    return parse(values, "benchmark")


class Whole:
    """The plain script's collator: every token predicts the next, the prompt's too; counts real and padded tokens."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id, self.real, self.padded = pad_id, 0, 0

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        import numpy as np
        import torch

        width = max(len(example.ids) for example in examples)
        ids = np.full((len(examples), width), self.pad_id, dtype=np.int64)
        targets = np.full((len(examples), width), -100, dtype=np.int64)
        mask = np.zeros((len(examples), width), dtype=np.int64)
        for row, example in enumerate(examples):
            length = len(example.ids)
            ids[row, :length], mask[row, :length] = example.ids, 1
            targets[row, : length - 1] = example.ids[1:]
            targets[row, example.positions] = example.targets
        self.real, self.padded = self.real + int(mask.sum()), self.padded + mask.size
        tensors = {"input_ids": ids, "attention_mask": mask, "labels": ids, "shift_labels": targets}
        return {name: torch.from_numpy(value) for name, value in tensors.items()}


def run_child(variant: str, data: Path, steps: int, seed: int) -> dict[str, Any]:
    """One run in this process."""
    preflight.quiet()
    from transformers import TrainerCallback

    from finetune.sft import base as bases
    from finetune.sft import model as models
    from finetune.sft.data import open_folder
    from finetune.sft.run import prepare
    from finetune.sft.trainer import peak_memory

    with tempfile.TemporaryDirectory() as name:
        config = settings(variant, data, Path(name), steps, seed)
        folder, base = open_folder(data), bases.find(str(BASE))
        device = models.choose_device(config)
        ready = prepare(BASE, folder, config)
        tuned = models.build(base, ready.tokenizer, folder.labels, config, device)
        loaded = peak_memory()
        collator = Whole(ready.tokenizer.pad_token_id)
        trainer: Any
        positions: Any = None
        seen: list[tuple[float, float, int]] = []
        losses: dict[int, float] = {}
        peaks: list[int] = []

        class Clock(TrainerCallback):  # type: ignore[misc]
            """Time and tokens after every step; the score of the completion at the middle and the end."""

            spent = busy = 0.0

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                now, used = time.perf_counter(), time.process_time()
                tokens = trainer.tokens if variant == "ours" else collator.real
                seen.append((now - self.spent, used - self.busy, tokens))
                if state.global_step in {steps // 2, steps}:
                    peaks.append(peak_memory())
                    losses[state.global_step] = score(tuned, ready.valid.examples, collator.pad_id, device, positions)
                    self.spent += time.perf_counter() - now
                    self.busy += time.process_time() - used

        trainer = (ours if variant == "ours" else plain)(tuned, ready, config, device, collator, Clock())
        positions = getattr(trainer, "positions", None)
        trainer.train()
        seconds, processor, tokens = (last - first for first, last in zip(seen[0], seen[-1], strict=True))
        padding = 1 - collator.real / collator.padded if variant == "plain" else our_padding(config, ready.train.examples)
    return {
        "tokens_per_second": tokens / seconds,
        "tokens_per_cpu_second": tokens / processor,
        "peak": peaks[-1],
        "loaded": loaded,
        "padding": padding,
        "losses": losses,
        "precision": device.precision,
    }


def ours(tuned: Any, ready: Any, config: SftConfig, device: Any, collator: Whole, clock: Any) -> Any:
    """The trainer of ``train.py sft``."""
    from finetune.sft.trainer import CompletionTrainer, Materials

    materials = Materials(ready.train.examples, ready.valid.examples[:1], collator.pad_id, None, {})
    return CompletionTrainer(tuned, config, device, materials, clock)


def plain(tuned: Any, ready: Any, config: SftConfig, device: Any, collator: Whole, clock: Any) -> Any:
    """The plain script's: transformers' own, four examples at a time in any order, PEFT as it comes."""
    from transformers import Trainer

    from finetune.sft.trainer import arguments

    for module in tuned.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = True  # as PEFT has it
    given = arguments(config, device)
    given.per_device_train_batch_size, given.gradient_accumulation_steps = 4, 4
    given.eval_strategy, given.save_strategy, given.load_best_model_at_end = "no", "no", False
    return Trainer(model=tuned, args=given, train_dataset=ready.train.examples, data_collator=collator, callbacks=[clock])


def our_padding(config: SftConfig, examples: Sequence[Example]) -> float:
    """Share of padding in our batches."""
    from finetune.sft.batches import StepSampler, padding_share

    sampler = StepSampler([len(example.ids) for example in examples], config.batch, config.group, config.seed)
    return padding_share(sampler, config.micro_batch, config.micro_tokens)


def score(model: Any, examples: Sequence[Example], pad_id: int, device: Any, positions: Any) -> float:
    """Mean loss of the completion's tokens; ``positions`` is our trainer's hook, or None."""
    import torch

    from finetune.sft.batches import collate

    training, total, count = model.training, 0.0, 0
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=device.dtype, enabled=device.precision != "fp32"):
        for start in range(0, len(examples), 2):
            batch = collate(examples[start : start + 2], pad_id)
            if positions:
                positions.where = batch["where"]
            logits = model(input_ids=batch["input_ids"], use_cache=False).logits.flatten(0, 1)
            logits = logits if positions else logits[batch["where"]]
            total += torch.nn.functional.cross_entropy(logits.float(), batch["targets"], reduction="sum").item()
            count += len(batch["targets"])
    if positions:
        positions.where = None
    model.train(training)
    return total / count


def run_all(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Every run in a process of its own, the variants in turn."""
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        write_data(data, args.contract, args.examples, args.seed)
        for repeat in range(args.repeats):
            for variant in VARIANTS:
                command = [sys.executable, __file__, "--child", variant, "--data", str(data), "--steps", str(args.steps)]
                command += ["--seed", str(args.seed + repeat)]
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, env={**os.environ, **ENVIRONMENT[variant]}
                )
                if done.returncode:
                    raise SystemExit(done.stderr[-3000:])
                found[variant].append(json.loads(done.stdout.splitlines()[-1]))
                print(f"  {variant}: {found[variant][-1]['tokens_per_second']:.0f} tokens/s", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contract", choices=("mark", "quote"), default="mark")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--examples", type=int, default=480)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.steps < 2:
        parser.error("--steps: at least 2, the first is not timed")
    if args.child:
        print(json.dumps(run_child(args.child, args.data, args.steps, args.seed)))
        return
    runs = run_all(args)

    def median(variant: str, key: str) -> float:
        return statistics.median(float(run[key]) for run in runs[variant])

    def loss(variant: str, step: int) -> float:
        return statistics.median(float(run["losses"][str(step)]) for run in runs[variant])

    speed, processor = (
        median("ours", key) / median("plain", key) for key in ("tokens_per_second", "tokens_per_cpu_second")
    )
    memory = median("ours", "peak") / median("plain", "peak")
    above = {v: statistics.median(run["peak"] - run["loaded"] for run in runs[v]) for v in VARIANTS}
    half, end = args.steps // 2, args.steps
    rows = [
        ["real tokens/s", *(f"{median(v, 'tokens_per_second'):.0f}" for v in VARIANTS), f"{speed:.2f}×", "≥ 2×"],
        ["of a CPU second", *(f"{median(v, 'tokens_per_cpu_second'):.0f}" for v in VARIANTS), f"{processor:.2f}×", ""],
        ["padding", *(f"{median(v, 'padding'):.1%}" for v in VARIANTS), "", ""],
        ["peak memory, MB", *(f"{median(v, 'peak') / 1e6:.0f}" for v in VARIANTS), f"{memory:.2f}×", "≤ 0.7×"],
        [
            "of it above the loaded model",
            *(f"{above[v] / 1e6:.0f}" for v in VARIANTS),
            f"{above['ours'] / above['plain']:.2f}×",
            "",
        ],
        [f"completion loss, step {half}", *(f"{loss(v, half):.4f}" for v in VARIANTS), "", "no worse"],
        [f"completion loss, step {end}", *(f"{loss(v, end):.4f}" for v in VARIANTS), "", "no worse"],
    ]
    title = f"Trainer against the plain script ({args.contract}, {runs['ours'][0]['precision']}, {args.repeats} runs)"
    result = {
        "speed": round(speed, 3),
        "speed_cpu": round(processor, 3),
        "memory": round(memory, 3),
        "memory_above": round(above["ours"] / above["plain"], 3),
    }
    result |= {f"loss_{v}": round(loss(v, end), 4) for v in VARIANTS}
    report(title, ["", *VARIANTS, "ours / plain", "goal"], rows, {**result, "runs": runs})


if __name__ == "__main__":
    main()
