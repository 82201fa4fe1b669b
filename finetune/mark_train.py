"""Tune a base to mark sentences (contract ``annotate/mark@1``), on a CPU, in minutes.

    python -m finetune.mark_train finetune/configs/mini.yaml --base finetune_output/base/model \
        --gold ../shared/data/gold/moves_train.jsonl --more finetune_output/agent.jsonl --out finetune_output/mini

Only the mark positions carry loss. Papers of the split ``valid`` (by seed) choose thresholds and calibration; the
evaluation set given by ``--held-out`` is only used to refuse leaks. Writes ``checkpoint.pt`` every few minutes,
``metrics.jsonl``, and at the end ``model/``, ``config.json``, ``lineage.json`` (hashes of what went in) and ``valid.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from numpy.typing import NDArray

from finetune import metrics
from finetune.dataset.abstracts import read_jsonl
from finetune.dataset.leaks import LeakCheck
from finetune.dataset.section_heads import without_head
from finetune.mark_data import Example, Labels, batches, noisy, sentence_sets
from finetune.mark_model import Marker, start_marker
from finetune.pretrain import build_optimizers, log
from skills.annotate.moves import load_framework


@dataclass(frozen=True)
class MarkConfig:
    """Every value of the run."""

    epochs: float = 4.0
    papers_per_step: int = 16
    muon_lr: float = 1.5e-3
    adam_lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 20
    noise: float = 0.08
    """Share of input tokens replaced at random (word dropout)."""
    drop_title: float = 0.15
    drop_heads: float = 0.5
    """Share of the papers that lose their section heads (``METHODS: …``), where they have some."""
    smoothing: float = 0.02
    least: int = 4
    """A set of moves gets a token of its own when so many training sentences carry it."""
    valid: float = 0.1
    split_seed: int = 1
    """Of the validation split and the first label vectors: runs that are averaged or ensembled must share both."""
    gold_repeats: int = 1
    """How often every gold paper stands in one epoch, beside pseudo-labelled papers that stand in it once."""
    rare_repeats: int = 0
    """How often more a paper stands in it that states a move which fewer than a fifth of the papers state."""
    pseudo_weight: float = 0.6
    pseudo_papers: int = 0
    role_weight: float = 0.3
    role_papers: int = 0
    average: float = 0.35
    """The weights of this last share of the steps are averaged."""
    micro: int = 8
    seed: int = 1
    threads: int = 2
    bf16: bool = True
    checkpoint_minutes: float = 5.0

    @classmethod
    def load(cls, path: Path) -> MarkConfig:
        """Read YAML; an unknown key or a value that is no number is an error."""
        import yaml

        values = yaml.safe_load(path.read_text()) or {}
        if unknown := set(values) - {field.name for field in fields(cls)}:
            raise SystemExit(f"{path}: unknown keys: {', '.join(sorted(unknown))}")
        if wrong := [key for key, value in values.items() if not isinstance(value, int | float)]:
            raise SystemExit(f"{path}: {wrong[0]}: {values[wrong[0]]!r} is not a number (YAML wants 1.0e-3, not 1e-3)")
        return cls(**values)


def split(papers: Sequence[dict[str, Any]], share: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Train and validation papers; the same split for the same seed whatever else changes."""
    order = list(range(len(papers)))
    random.Random(seed).shuffle(order)
    cut = round(len(papers) * share)
    return [papers[i] for i in order[cut:]], [papers[i] for i in order[:cut]]


class Training:
    """One run over (example, weight) pairs; can be killed at any moment and resumed from its checkpoint.

    All randomness comes from (seed, epoch) or (seed, step), so a resumed run sees what an uninterrupted one does. The
    weights of the last steps are averaged (Izmailov et al. 2018).
    """

    def __init__(self, marker: Marker, pool: Sequence[tuple[Example, float]], config: MarkConfig, out: Path) -> None:
        self.marker, self.config, self.out = marker, config, out
        self.examples = [example for example, _ in pool]
        self.weight_of = {id(example): weight for example, weight in pool}
        self.optimizers = build_optimizers(marker.parameters, config.muon_lr, config.adam_lr, config.weight_decay)
        self.steps = max(1, round(len(pool) * config.epochs / config.papers_per_step))
        self.identity = identity(marker, pool)
        self.step, self.averaged = 0, 0
        self.mean = [torch.zeros_like(p) for _, p in marker.parameters]
        self.micro = max(1, config.papers_per_step // config.micro)

    def micro_batches(self) -> Iterator[tuple[NDArray[np.int64], list[Example]]]:
        """Endless micro-batches from the present step on."""
        number, skip = 0, self.step * self.micro
        for epoch in count():
            for batch in batches(self.examples, self.config.micro, random.Random(f"{self.config.seed}/{epoch}")):
                if number >= skip:
                    yield batch
                number += 1

    def train_step(self, source: Iterator[tuple[NDArray[np.int64], list[Example]]]) -> float:
        """One optimizer step; the mean loss a sentence."""
        config, marker = self.config, self.marker
        scale = min((self.step + 1) / config.warmup, 1.0) * max(0.05, 1 - self.step / self.steps)
        for optimizer, lr in zip(self.optimizers, (config.muon_lr, config.adam_lr), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr * scale
        noise = np.random.default_rng([config.seed, self.step])
        total = 0.0
        for _ in range(self.micro):
            rows, chosen = next(source)
            noisy(rows, config.noise, marker.plain_size, marker.mark_id, noise)
            loss = batch_loss(marker, rows, chosen, self.weight_of, config) / self.micro
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_([p for _, p in marker.parameters], 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.step >= self.steps * (1 - config.average):
            self.averaged += 1
            with torch.no_grad():
                for mean, (_, p) in zip(self.mean, marker.parameters, strict=True):
                    mean += (p - mean) / self.averaged
        return total

    def run(self) -> None:
        """Train to the last step and put the averaged weights into the marker."""
        self.resume()
        self.marker.model.train()
        source = self.micro_batches()
        started = saved = time.monotonic()
        first, running = self.step, 0.0
        while self.step < self.steps:
            loss = self.train_step(source)
            running = loss if not running else 0.95 * running + 0.05 * loss
            now = time.monotonic()
            if self.step % 20 == 0 or self.step == self.steps:
                eta = (now - started) / (self.step - first) * (self.steps - self.step) / 60
                log(self.out, {"step": self.step, "of": self.steps, "loss": round(running, 4), "eta_min": round(eta, 1)})
            if now - saved > self.config.checkpoint_minutes * 60:
                self.save()
                saved = now
        with torch.no_grad():
            for mean, (_, p) in zip(self.mean, self.marker.parameters, strict=True):
                p.copy_(mean)

    def save(self) -> None:
        state = {
            "config": asdict(self.config),
            "identity": self.identity,
            "step": self.step,
            "averaged": self.averaged,
            "mean": self.mean,
            "parameters": [p.detach() for _, p in self.marker.parameters],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        partial = self.out / "checkpoint.pt.part"
        torch.save(state, partial)
        partial.replace(self.out / "checkpoint.pt")

    def resume(self) -> None:
        """Load the checkpoint of the same run, if there is one."""
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        if state["config"] != asdict(self.config) or state["identity"] != self.identity:
            raise SystemExit(f"{path} belongs to another run: move it away or use its configuration, base and data")
        with torch.no_grad():
            for saved, (_, p) in zip(state["parameters"], self.marker.parameters, strict=True):
                p.copy_(saved)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.averaged, self.mean = state["step"], state["averaged"], state["mean"]
        print(f"resumed at step {self.step} of {self.steps}", file=sys.stderr)


def identity(marker: Marker, pool: Sequence[tuple[Example, float]]) -> str:
    """Hash of all that a run starts from, beside its configuration: the examples, their weights, the first parameters."""
    found = hashlib.sha256()
    for example, weight in pool:
        found.update(repr(weight).encode())
        for values in (example.ids, example.targets, example.roles):
            found.update(b"" if values is None else values.tobytes())
    for _, parameter in marker.parameters:
        found.update(parameter.detach().numpy().tobytes())
    return found.hexdigest()


def batch_loss(
    marker: Marker, rows: NDArray[np.int64], chosen: Sequence[Example], weight_of: dict[int, float], config: MarkConfig
) -> Any:
    """Mean weighted cross-entropy over the marks of a batch: label sets where known, roles otherwise."""
    from torch.nn.functional import cross_entropy, log_softmax

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.bf16):
        hidden = marker.hidden(torch.from_numpy(rows), chosen)
    edges = [len(example.marks) for example in chosen]
    loss = torch.zeros(())
    for example, part in zip(chosen, hidden.split(edges), strict=True):
        weight = weight_of[id(example)]
        if example.targets is not None:
            scores = log_softmax(marker.logits(part), dim=1)[:, marker.plain_size + 1 :]
            target = torch.from_numpy(example.targets)
            target = (1 - config.smoothing) * target + config.smoothing / target.shape[1]
            loss = loss - weight * (target * scores).sum()
        elif example.roles is not None:
            roles = torch.from_numpy(example.roles.astype(np.int64))
            if (roles >= 0).any():
                scores = part @ marker.role_vectors.T
                loss = loss + weight * cross_entropy(scores, roles, ignore_index=-1, reduction="sum")
    return loss / sum(edges)


def arrays(
    papers: Sequence[dict[str, Any]], predictions: Sequence[NDArray[np.float32]], labels: Labels
) -> tuple[metrics.Bools, metrics.Floats, metrics.Ints]:
    """Gold ``[sentences, moves]``, probabilities of the same shape, and the paper of each sentence."""
    gold = [[m in stated for m in labels.moves] for paper in papers for stated in sentence_sets(paper, labels.moves)]
    probabilities = np.concatenate([p @ labels.matrix for p in predictions]).astype(np.float64)
    groups = np.repeat(np.arange(len(papers)), [len(paper["sentences"]) for paper in papers])
    return np.array(gold, dtype=bool), probabilities, groups


def scores(marker: Marker, papers: Sequence[dict[str, Any]], thresholds: metrics.Floats | None = None) -> dict[str, Any]:
    """F1 per move, macro-F1 and log-loss (nats a sentence and move) on gold papers.

    Thresholds are chosen on these papers when none are given.
    """
    predictions = marker.predict([marker.encoder.gold(paper) for paper in papers])
    gold, probabilities, _ = arrays(papers, predictions, marker.labels)
    if thresholds is None:
        thresholds = metrics.best_thresholds(gold, probabilities)
    per_move = metrics.f1_per_move(gold, probabilities >= thresholds)
    return {
        "macro_f1": round(float(per_move.mean()), 4),
        "log_loss": round(metrics.log_loss(gold, probabilities), 5),
        "f1": {move: round(float(f1), 3) for move, f1 in zip(marker.labels.moves, per_move, strict=True)},
        "thresholds": {move: round(float(t), 3) for move, t in zip(marker.labels.moves, thresholds, strict=True)},
    }


def refuse_leaks(
    path: Path, papers: Iterable[Mapping[str, Any]], check: LeakCheck, why: str = "stand in an evaluation set"
) -> None:
    """Exit where papers to train on stand in an evaluation set."""
    if leaks := [paper for paper in papers if check.reason(paper)]:
        first = leaks[0].get("arxiv_id") or leaks[0].get("title") or str(leaks[0].get("abstract"))[:60]
        raise SystemExit(f"{path}: {len(leaks)} papers {why}, first {first}")


def more_papers(paths: Sequence[Path], check: LeakCheck, held_back: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Gold papers of further files; SystemExit where one stands in an evaluation set or among the papers held back."""
    papers: list[dict[str, Any]] = []
    for path in paths:
        rows = list(read_jsonl(path))
        refuse_leaks(path, rows, check)
        refuse_leaks(path, rows, LeakCheck(held_back), "are held back to choose thresholds")
        papers += rows
    return papers


def gold_pool(marker: Marker, papers: Sequence[dict[str, Any]], config: MarkConfig) -> list[tuple[Example, float]]:
    """The gold papers, each as often as the configuration says, some of them without their title or section heads."""
    rng = random.Random(config.seed)
    stating = Counter(move for paper in papers for move, numbers in paper["moves"].items() if numbers)
    rare = [move for move in marker.labels.moves if stating[move] < 0.2 * len(papers)]
    repeated = [
        paper
        for paper in papers
        for _ in range(config.gold_repeats + config.rare_repeats * any(paper["moves"].get(move) for move in rare))
    ]

    def varied(paper: dict[str, Any]) -> Example:
        title = rng.random() >= config.drop_title
        sentences = [without_head(sentence) for sentence in paper["sentences"]]
        heads = sentences == paper["sentences"] or rng.random() >= config.drop_heads
        return marker.encoder.gold(paper if heads else {**paper, "sentences": sentences}, title=title)

    return [(varied(paper), 1.0) for paper in repeated]


def role_pool(marker: Marker, path: Path, check: LeakCheck, config: MarkConfig) -> list[tuple[Example, float]]:
    """Documents whose sentences have rhetorical roles."""
    documents = [row for row in read_jsonl(path) if row.get("split") != "test"][: config.role_papers]
    refuse_leaks(path, ({"abstract": " ".join(row["sentences"])} for row in documents), check)
    return [(marker.encoder.roles(document), config.role_weight) for document in documents]


def pseudo_pool(marker: Marker, folder: Path, check: LeakCheck, config: MarkConfig) -> list[tuple[Example, float]]:
    """Papers with a teacher's marks."""
    from finetune.mark_teacher import load_pseudo

    rows = load_pseudo(folder, marker.labels)[: config.pseudo_papers]
    refuse_leaks(folder, ({"title": title, "abstract": " ".join(sentences)} for title, sentences, _ in rows), check)
    return [(marker.encoder.soft(*row), config.pseudo_weight) for row in rows]


def digest(path: Path) -> str:
    """``sha256:…`` of a file."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def origin(model: Path) -> dict[str, str]:
    """Hash of the base of a model folder; of the model itself, too, as ``start``, where an earlier run of this made it."""
    weights = digest(model / "model.safetensors")
    earlier = model.parent / "lineage.json"
    if not earlier.exists():
        return {"base": weights}
    return {"base": json.loads(earlier.read_text())["base"], "start": weights}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="model folder of finetune.pretrain, or of an earlier run")
    parser.add_argument("--gold", type=Path, required=True)
    parser.add_argument("--more", type=Path, action="append", default=[], help="further gold, none of it held back")
    parser.add_argument("--held-out", type=Path, action="append", default=[])
    parser.add_argument("--roles", type=Path, help="JSONL with sentences and role labels (CSAbstruct)")
    parser.add_argument("--pseudo", type=Path, help="NPZ + JSONL of finetune.mark_teacher")
    parser.add_argument("--seed", type=int, help="of the order and the noise, instead of the configuration's")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)

    config = MarkConfig.load(args.config)
    config = config if args.seed is None else replace(config, seed=args.seed)
    torch.set_num_threads(config.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    papers = list(read_jsonl(args.gold))
    check = LeakCheck(row for path in args.held_out for row in read_jsonl(path))
    refuse_leaks(args.gold, papers, check)
    train_papers, valid_papers = split(papers, config.valid, config.split_seed)
    if not valid_papers:
        raise SystemExit(f"{args.gold}: {len(papers)} papers leave none to validate with: raise `valid` or give more")
    train_papers += more_papers(args.more, check, valid_papers)
    marker = start_marker(args.base, Labels.of(train_papers, load_framework().names, config.least), config.split_seed)
    pool = gold_pool(marker, train_papers, config)
    if args.roles and config.role_papers:
        pool += role_pool(marker, args.roles, check, config)
    if args.pseudo and config.pseudo_papers:
        pool += pseudo_pool(marker, args.pseudo, check, config)
    print(json.dumps({"examples": len(pool), "labels": len(marker.labels.sets), **asdict(config)}), file=sys.stderr)
    Training(marker, pool, config, args.out).run()
    marker.save(args.out / "model")
    (args.out / "config.json").write_text(json.dumps(asdict(config)) + "\n")
    inputs = {"gold": args.gold, "roles": args.roles, "pseudo": args.pseudo and args.pseudo / "pseudo.npz"}
    inputs |= {f"more_{number}": path for number, path in enumerate(args.more, 1)}
    lineage = origin(args.base) | {name: digest(path) for name, path in inputs.items() if path}
    (args.out / "lineage.json").write_text(json.dumps(lineage, indent=1) + "\n")
    result = scores(marker, valid_papers)
    (args.out / "valid.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result), file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
