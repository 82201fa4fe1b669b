"""Three invented papers with gold, for the tests of finetune/eval.py."""

from __future__ import annotations

from typing import Any

from skills.annotate.moves import load_framework

MOVES = load_framework()
PAPERS = [
    (
        "p-1",
        "Small caches",
        ["Long texts do not fit on phones.", "We present PocketCache, a new cache.", "It is four times smaller."],
    ),
    (
        "p-2",
        "Slow graphs",
        ["Graphs are slow to read.", "We propose a walk over twelve graphs.", "Accuracy rises by 3 points."],
    ),
    ("p-3", "Plain tables", ["Tables are hard for models.", "We study two hundred tables.", "No model reads all of them."]),
]


def gold_row(number: int, **moves: list[int]) -> dict[str, Any]:
    identity, title, sentences = PAPERS[number]
    stated = {name: moves.get(name, []) for name in MOVES.names}
    return {"id": identity, "title": title, "abstract": " ".join(sentences), "sentences": sentences, "moves": stated}
