"""The road of the bundled model in seconds, for tests: the scripts and their order are those of docs/training.md.

Only the configurations (``smoke-*.yaml``) and the data are small: the invented abstracts of ``data/sample_papers.csv``
with labels from cue words. Needs the finetune extra.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import mark_release, mark_teacher, mark_train, pretrain
from finetune.dataset import abstracts
from finetune.mark_model import Marker, load_marker
from harness.registry import Entry, find
from harness.sentences import split
from skills.annotate.moves import load_framework

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "finetune" / "configs"
BASE_CONFIG, MARK_CONFIG = CONFIGS / "smoke-base.yaml", CONFIGS / "smoke-mini.yaml"
NAME = "smoke-annotator:mini"
MOVES = load_framework().names
CUES = {
    "claim": r"\bwe (introduce|present|propose|study|prove|show|ask|report)\b",
    "evidence": r"\d",
    "method": r"\b(by|from|with)\b",
    "scope": r"\b(on|for|in) (two|three|five|large|small|english)\b",
    "limitation": r"\b(however|only|disappears|may not|lowers|cannot)\b",
    "comparison": r"\b(than|against|existing|unlike)\b",
    "implication": r"\b(suggests?|implies|should|could)\b",
    "novelty": r"\b(first|new|novel|introduce)\b",
}


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def gold_row(row: Mapping[str, str]) -> dict[str, Any]:
    """A gold paper whose moves are what the cue words say."""
    sentences = [sentence.text for sentence in split(row["abstract"])]
    moves = {
        move: [number for number, sentence in enumerate(sentences, 1) if re.search(cue, sentence, re.IGNORECASE)]
        for move, cue in CUES.items()
    }
    return {
        "arxiv_id": row["id"],
        "title": row["title"],
        "abstract": row["abstract"],
        "sentences": sentences,
        "moves": moves,
    }


@dataclass(frozen=True)
class Road:
    """The folder of one run of the whole road."""

    root: Path

    @property
    def gold(self) -> list[dict[str, Any]]:
        """The papers that it trained on and validated with."""
        return list(abstracts.read_jsonl(self.root / "gold.jsonl"))

    @property
    def held_back(self) -> list[dict[str, Any]]:
        """The gold papers that no step trained on."""
        config = mark_train.MarkConfig.load(MARK_CONFIG)
        return mark_train.split(self.gold, config.valid, config.split_seed)[1]

    @property
    def entry(self) -> Entry:
        """What was released."""
        entry = find(NAME, [self.root / "registry"])
        assert entry is not None
        return entry

    def marker(self, name: str) -> Marker:
        """The saved model of ``teacher`` or ``mini``."""
        return load_marker(self.root / name / "model")

    def mark_arguments(self, out: Path, *extra: str | Path, config: Path = MARK_CONFIG) -> list[str]:
        """Command line of finetune.mark_train on this base and gold."""
        paths = ["--base", self.root / "base" / "model", "--gold", self.root / "gold.jsonl", *extra]
        return [str(config), *map(str, paths), "--out", str(out)]


def build(root: Path) -> Road:
    """Go the whole road below ``root``; one paper of the corpus is held out."""
    with (ROOT / "data" / "sample_papers.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    held_out, *gold = [paper for paper in map(gold_row, rows) if len(paper["sentences"]) >= 4]
    corpus = str(
        write_rows(root / "corpus.jsonl", ({key: row[key] for key in ("id", "title", "abstract")} for row in rows))
    )
    write_rows(root / "gold.jsonl", gold)
    roles = ["background", *["method"] * 20]
    write_rows(root / "roles.jsonl", ({"sentences": p["sentences"], "labels": roles[: len(p["sentences"])]} for p in gold))
    guard = ["--held-out", str(write_rows(root / "held_out.jsonl", [held_out]))]

    road, base, pseudo = Road(root), str(root / "base"), str(root / "pseudo")
    abstracts.main([corpus, "--out", base, "--vocab", "500", "--valid", "6", *guard])
    pretrain.main([str(BASE_CONFIG), "--out", base])
    mark_train.main(road.mark_arguments(root / "teacher", "--roles", root / "roles.jsonl", *guard))
    teacher = ["--teacher", str(root / "teacher" / "model")]
    mark_teacher.main([corpus, *teacher, "--papers", "12", "--threads", "1", "--out", pseudo, *guard])
    mark_train.main(road.mark_arguments(root / "mini", "--pseudo", pseudo, *guard))
    registry = ["--registry", str(root / "registry")]
    mark_release.main([str(root / "mini"), "--gold", str(root / "gold.jsonl"), "--name", NAME, "--type", "f16", *registry])
    return road
