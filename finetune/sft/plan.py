"""What a run will need and train on, in seconds and without a GPU: memory, steps, time, cuts, three examples."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.sft import base as bases
from finetune.sft import preflight
from finetune.sft.batches import StepSampler, collate, padded, padding_share, split_step
from finetune.sft.config import SftConfig
from finetune.sft.data import DataFolder, Example, Split, open_folder, read_rows, trained_share
from finetune.sft.memory import checkpoint_bytes, estimate, measure, readable
from finetune.sft.run import prepare
from harness.console import clean
from harness.errors import InputError

CHARACTERS_A_TOKEN = 4.2
"""Of English scientific prose under tokenizers of 150,000 tokens, where the base's own is not on disk."""
SHOWN = 3
PROBED_PARAMETERS = 100_000_000
"""Bases above are not probed: loading them would take longer than a plan may."""
PROBE_BATCHES = 2
FORWARD_SHARE = 0.4
"""Of a training pass's time that an evaluation takes."""
OPEN, CLOSE = "⟦", "⟧"


def plan(config: SftConfig, *, offline: bool = False) -> dict[str, Any]:
    """Everything that ``render`` shows, as plain values. Loads no weights but for the probe of a small base on disk."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # a plan never downloads
    base = bases.find(config.base)
    try:
        data = open_folder(Path(config.data), config.contract)
    except InputError as error:
        data, missing = None, str(error)
    result: dict[str, Any] = {"base": base.name, "out": config.out, "data": config.data}
    if data is None:
        result["no_data"] = missing
        tokens, trained = (size * config.micro_batch for size in preflight.TYPICAL)
    elif base.folder:
        ready = prepare(base.folder, data, config)
        result |= describe(ready.train, ready.valid, ready.tokenizer, data, config)
        tokens, trained = largest_batch(ready.train.examples, config)
        result["probe"] = probe(base, ready, data, config, result["tokens_an_epoch"])
    else:
        result |= guess(data, config)
        tokens, trained = result.pop("largest")
    if base.shape:
        result |= needs(base.shape, config, data, tokens, trained)
    return result


def steps_of(rows: int, config: SftConfig) -> int:
    """Optimizer steps of a run over so many examples."""
    steps = math.ceil(math.ceil(rows / config.batch) * config.epochs)
    return min(steps, config.max_steps) if config.max_steps else steps


def largest_batch(examples: Sequence[Example], config: SftConfig) -> tuple[int, int]:
    """Padded tokens of the largest micro-batch of the first epoch, and the most trained positions of any."""
    sampler = StepSampler([len(e.ids) for e in examples], config.batch, config.group, config.seed)
    tokens = trained = 0
    for step in sampler.steps():
        lengths = [sampler.lengths[index] for index in step]
        for part in split_step(lengths, config.micro_batch, config.micro_tokens):
            tokens = max(tokens, padded(max(lengths[part])) * len(lengths[part]))
            trained = max(trained, sum(len(examples[index].positions) for index in step[part]))
    return tokens, trained


def describe(train: Split, valid: Split, tokenizer: Any, data: DataFolder, config: SftConfig) -> dict[str, Any]:
    """Counts and shares of tokenized data, and the first examples with their trained parts marked."""
    lengths = [len(example.ids) for example in train.examples]
    sampler = StepSampler(lengths, config.batch, config.group, config.seed)
    return {
        "contract": data.contract,
        "examples": len(lengths),
        "valid_examples": len(valid.examples),
        "steps": steps_of(len(lengths), config),
        "tokens_an_epoch": sum(lengths),
        "longest": max(lengths),
        "share_too_long": round(train.too_long / train.rows, 4),
        "share_trained": round(trained_share(train.examples), 4),
        "share_padding": round(padding_share(sampler, config.micro_batch, config.micro_tokens), 4),
        "shown": [{"id": e.name, "text": marked(e, tokenizer)} for e in train.examples[:SHOWN]],
        "estimated": False,
    }


def marked(example: Example, tokenizer: Any) -> str:
    """The example as text, what is trained on between ⟦ and ⟧. A target that is not the next input follows its position."""
    pieces: list[str] = []
    ids, targets = example.ids.tolist(), dict(zip(example.positions.tolist(), example.targets.tolist(), strict=True))
    fed_back = all(p + 1 >= len(ids) or ids[p + 1] == target for p, target in targets.items())
    start = 0
    for position, target in targets.items():
        if fed_back:
            continue
        pieces += [tokenizer.decode(ids[start : position + 1]), OPEN, tokenizer.decode([target]), CLOSE]
        start = position + 1
    if fed_back and targets:
        first = min(targets) + 1
        return f"{tokenizer.decode(ids[:first])}{OPEN}{tokenizer.decode(ids[first:])}{CLOSE}"
    return "".join([*pieces, tokenizer.decode(ids[start:])])


def _row_text(prompt: Any) -> str:
    if isinstance(prompt, list):
        return "\n".join(
            f"{message.get('role')}: {message.get('content')}" for message in prompt if isinstance(message, dict)
        )
    return str(prompt)


def guess(data: DataFolder, config: SftConfig) -> dict[str, Any]:
    """As ``describe``, from characters: the base's tokenizer is not on this machine."""
    lengths: list[int] = []
    trained: list[int] = []
    shown: list[dict[str, str]] = []
    for _, row in read_rows(data.file("train")):
        prompt, completion = _row_text(row["prompt"]), row["completion"]
        after = len(completion) if isinstance(completion, list) else math.ceil(len(completion) / CHARACTERS_A_TOKEN) + 1
        before = math.ceil(len(prompt) / CHARACTERS_A_TOKEN)
        lengths.append(before if data.is_mark else before + after)
        trained.append(after)
        if len(shown) < SHOWN:
            text = " ".join(completion) if isinstance(completion, list) else completion
            shown.append({"id": str(row.get("id", "")), "text": f"{prompt}\n{OPEN}{text}{CLOSE}"})
    if not lengths:
        raise InputError(f"{data.file('train')}: has no rows", "build the folder again")
    kept = [length for length in lengths if length <= config.max_length]
    longest = max(kept, default=config.max_length)
    return {
        "contract": data.contract,
        "examples": len(kept),
        "steps": steps_of(len(kept), config),
        "tokens_an_epoch": sum(kept),
        "longest": longest,
        "share_too_long": round(1 - len(kept) / len(lengths), 4),
        "share_trained": round(sum(trained) / sum(lengths), 4),
        "shown": shown,
        "estimated": True,
        "largest": (longest * config.micro_batch, max(trained) * config.micro_batch),
    }


def needs(
    shape: Mapping[str, Any], config: SftConfig, data: DataFolder | None, tokens: int, trained: int
) -> dict[str, Any]:
    """Memory by part on the device that the configuration means, disk, and what of it this machine has."""
    from finetune.sft.model import choose_device

    new_tokens = 1 + len(data.labels.sets) if data and data.labels else 0
    sizes = measure(shape, config, new_tokens)
    try:
        device = choose_device(config)
        kind, precision, problem = device.kind, device.precision, ""
    except InputError as error:  # a plan is for the machine that will train, which need not be this one
        precision = "bf16" if config.precision == "auto" else config.precision
        kind, problem = "cuda", str(error)
    parts = estimate(sizes, config, kind, precision, tokens, trained)
    return {
        "parameters": sizes.parameters,
        "trained_parameters": sizes.adapter + sizes.rows,
        "device": kind,
        "precision": precision,
        "memory": {name: int(value) for name, value in parts.items()},
        "memory_total": int(sum(parts.values())),
        "memory_free": 0 if problem else preflight.free_memory(kind),
        "disk": checkpoint_bytes(sizes) * ((config.keep_checkpoints or 10) + 2),
        "disk_free": preflight.free_disk(Path(config.out)),
        "problem": problem,
    }


def probe(
    base: bases.Base, ready: Any, data: DataFolder, config: SftConfig, tokens_an_epoch: int
) -> dict[str, float] | None:
    """Seconds of the whole run, from forward and backward passes of a few micro-batches; None where that takes too long."""
    from finetune.sft.model import choose_device

    assert base.folder is not None
    if measure(base.shape or {}, config).parameters > PROBED_PARAMETERS:
        return None
    try:
        device = choose_device(config)
    except InputError:
        return None
    rate = tokens_a_second(base, ready, data, config, device)
    steps = steps_of(len(ready.train.examples), config)
    passes = steps / math.ceil(len(ready.train.examples) / config.batch)
    evaluations = math.ceil(steps / config.evaluate_every) * sum(len(e.ids) for e in ready.valid.examples)
    seconds = (tokens_an_epoch * passes + evaluations * FORWARD_SHARE) / rate
    return {"tokens_per_second": round(rate, 1), "seconds": round(seconds, 1)}


def tokens_a_second(base: bases.Base, ready: Any, data: DataFolder, config: SftConfig, device: Any) -> float:
    """Real tokens through forward and backward in a second, after one micro-batch that warms up."""
    import torch

    from finetune.sft.model import TrainedPositions, build

    if config.threads:
        torch.set_num_threads(config.threads)
    model = build(base, ready.tokenizer, data.labels, config, device)
    model.train()
    positions = TrainedPositions(model)
    sampler = StepSampler([len(e.ids) for e in ready.train.examples], config.batch, config.group, config.seed)
    parts = (
        [ready.train.examples[index] for index in step[part]]
        for step in sampler
        for part in split_step([sampler.lengths[index] for index in step], config.micro_batch, config.micro_tokens)
    )
    batches = [collate(part, ready.tokenizer.pad_token_id) for part in itertools.islice(parts, PROBE_BATCHES)]
    seconds, tokens = 0.0, 0
    for number, batch in enumerate([batches[0], *batches]):
        started = time.perf_counter()
        positions.where = batch["where"].to(model.device)
        with torch.autocast(device.kind, dtype=device.dtype, enabled=device.precision != "fp32"):
            logits = model(input_ids=batch["input_ids"].to(model.device), use_cache=False).logits[0]
        loss = torch.nn.functional.cross_entropy(logits.float(), batch["targets"].to(model.device))
        loss.backward()
        loss.item()  # waits for a GPU
        if number:
            seconds, tokens = seconds + time.perf_counter() - started, tokens + batch["tokens"]
    return tokens / max(seconds, 1e-9)


def render(result: Mapping[str, Any]) -> str:
    """The plan for people."""
    lines = [f"{result['base']} → {result['out']}"]
    if "parameters" in result:
        lines += _need_lines(result)
    else:
        lines.append("memory: unknown, for want of the base's config.json (hf download the base, or its config.json alone)")
    if "no_data" in result:
        return "\n".join([*lines, f"data: {result['no_data']}"])
    about = "about " if result["estimated"] else ""
    lines.append(f"data: {result['data']}, {result['contract']}: {about}{result['examples']} examples")
    if result["estimated"]:
        lines.append("  (tokens estimated from characters: the base's tokenizer is not on this machine)")
    too_long = f"{about}{result['share_too_long']:.1%} of the examples are longer than max_length"
    lines.append(f"  longest: {about}{result['longest']} tokens; {too_long}")
    lines.append(f"  trained on: {about}{result['share_trained']:.1%} of the tokens")
    if "share_padding" in result:
        lines.append(f"  padding: {result['share_padding']:.1%} of what is computed")
    lines.append(f"steps: {result['steps']}")
    if found := result.get("probe"):
        from harness.jobs.progress import duration

        lines.append(
            f"time: about {duration(found['seconds'])} at {found['tokens_per_second']:.0f} tokens/s, as probed just now"
        )
    else:
        lines.append("time: not probed (the base is not on this machine, or too large to load for a plan)")
    for number, example in enumerate(result["shown"], 1):
        lines += ["", f"— example {number}: {clean(example['id'])}", clean(example["text"])]
    return "\n".join(lines)


def _need_lines(result: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{result['parameters'] / 1e6:,.1f} M parameters, {result['trained_parameters'] / 1e6:,.2f} M trained; "
        f"{result['device']}, {result['precision']}"
    ]
    lines += [f"  {name:<24}{readable(size):>9}" for name, size in result["memory"].items() if size]
    free = f" ({readable(result['memory_free'])} free)" if result["memory_free"] else ""
    lines.append(f"  {'memory in all, about':<24}{readable(result['memory_total']):>9}{free}")
    lines.append(f"  {'disk for checkpoints':<24}{readable(result['disk']):>9} ({readable(result['disk_free'])} free)")
    if result["problem"]:
        lines.append(f"  here: {result['problem']}")
    return lines
