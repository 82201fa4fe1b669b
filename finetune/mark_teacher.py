"""Pseudo-labels: a trained marker (or several, averaged) marks unlabelled abstracts with soft targets.

    python -m finetune.mark_teacher ../shared/data/papers/arxiv_abstracts.jsonl.gz --teacher finetune_output/teacher/model \
        --held-out ../shared/data/gold/moves_dev.jsonl --papers 6000 --out finetune_output/pseudo

Writes ``pseudo.npz`` (probabilities of each move set, float16) and ``papers.jsonl`` (title and sentences). Papers of
evaluation sets never enter.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from finetune.dataset.abstracts import read_jsonl
from finetune.dataset.leaks import LeakCheck
from finetune.mark_data import Example, Labels
from finetune.mark_model import Marker, load_marker
from harness.sentences import split


def choose(rows: list[dict[str, Any]], papers: int, seed: int, prefer: str = "cs.") -> list[tuple[str, list[str]]]:
    """Title and sentences of so many abstracts, computer science first, of ordinary length."""
    random.Random(seed).shuffle(rows)
    rows.sort(key=lambda row: not any(str(c).startswith(prefer) for c in row.get("categories") or ()))
    chosen = []
    for row in rows:
        sentences = [sentence.text for sentence in split(row["abstract"])]
        if 4 <= len(sentences) <= 14 and len(row["abstract"]) < 2200:
            chosen.append((str(row.get("title") or ""), sentences))
        if len(chosen) == papers:
            break
    return chosen


def load_pseudo(folder: Path, labels: Labels) -> list[tuple[str, list[str], NDArray[np.float32]]]:
    """(title, sentences, targets) of a folder; its label sets must be those of the run."""
    with np.load(folder / "pseudo.npz") as stored:
        sets, targets = json.loads(str(stored["sets"])), stored["targets"].astype(np.float32)
    if [tuple(stated) for stated in sets] != list(labels.sets):
        raise SystemExit(f"{folder}: made with other label sets: run finetune.mark_teacher again with this split")
    result, position = [], 0
    for row in read_jsonl(folder / "papers.jsonl"):
        end = position + len(row["sentences"])
        result.append((row["title"], row["sentences"], targets[position:end]))
        position = end
    if position != len(targets):
        raise SystemExit(f"{folder}: {position} sentences but {len(targets)} marks: run finetune.mark_teacher again")
    return result


def targets_of(teacher: Marker, papers: Sequence[tuple[str, list[str]]]) -> NDArray[np.float32]:
    """``[sentences, labels]``: the teacher's distribution for every sentence of (title, sentences) pairs."""
    started = time.monotonic()
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(papers), 512):
        piece = [Example(*teacher.encoder.encode(*paper)) for paper in papers[start : start + 512]]
        parts += teacher.predict(piece)
        rate = (start + len(piece)) / (time.monotonic() - started)
        print(f"{start + len(piece)}/{len(papers)} papers, {rate:.1f}/s", file=sys.stderr, flush=True)
    return np.concatenate(parts)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--teacher", type=Path, action="append", required=True)
    parser.add_argument("--held-out", type=Path, action="append", default=[])
    parser.add_argument("--papers", type=int, default=6000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)

    torch.set_num_threads(args.threads)
    check = LeakCheck(row for path in args.held_out for row in read_jsonl(path))
    chosen = choose([row for row in read_jsonl(args.corpus) if not check.reason(row)], args.papers, args.seed)
    if not chosen:
        raise SystemExit(f"{args.corpus}: no abstract of ordinary length that stands in no evaluation set")
    teachers = [load_marker(folder) for folder in args.teacher]
    if any(teacher.labels != teachers[0].labels for teacher in teachers):
        raise SystemExit("the teachers have different label sets: train them on the same split of the same gold")
    targets = sum((targets_of(teacher, chosen) for teacher in teachers[1:]), targets_of(teachers[0], chosen))
    args.out.mkdir(parents=True, exist_ok=True)
    sets = json.dumps(teachers[0].labels.sets)
    np.savez(args.out / "pseudo.npz", targets=(targets / len(teachers)).astype(np.float16), sets=sets)
    with (args.out / "papers.jsonl").open("w", encoding="utf-8") as handle:
        for title, sentences in chosen:
            handle.write(json.dumps({"title": title, "sentences": sentences}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
