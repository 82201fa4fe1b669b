"""Release a trained marker: thresholds and calibration from held-out training gold, GGUF, registry entry.

    python -m finetune.mark_release finetune_output/mini --gold ../shared/data/gold/moves_train.jsonl \
        --name nanda-annotator:mini
    python benchmarks/annotator_quality.py --json finetune_output/mini/scores.json
    python -m finetune.mark_release finetune_output/mini --scores finetune_output/mini/scores.json

The first call writes a candidate. Scores are measured elsewhere, through the serving code, and reach the entry as data; the
second call writes them and promotes the entry if it passes its gate.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune import metrics
from finetune.candidate import GATE, add_candidate, gguf_metadata, ollama_values
from finetune.convert_gguf import convert
from finetune.dataset.abstracts import read_jsonl
from finetune.mark_model import Marker, load_marker
from finetune.mark_train import MarkConfig, arrays, digest, split
from finetune.quantise import OutType, as_outtype
from harness.arguments import guarded
from harness.config import ROOT
from harness.registry import Entry, find, normalise, promote, write
from skills.annotate import mark
from skills.annotate.calibration import logit


def cells(
    gold: metrics.Bools, probabilities: metrics.Floats, groups: metrics.Ints, floors: metrics.Floats
) -> dict[str, Any]:
    """Every (paper, move) cell: its best probability, whether it counts as stated, and whether that is right."""
    best, stated, correct, move_index = [], [], [], []
    for paper in np.unique(groups):
        rows = groups == paper
        truth, chances = gold[rows], probabilities[rows]
        for move in range(gold.shape[1]):
            top = int(chances[:, move].argmax())
            says = bool(chances[top, move] >= floors[move])
            best.append(float(chances[top, move]))
            stated.append(says)
            correct.append(bool(truth[top, move]) if says else not truth[:, move].any())
            move_index.append(move)
    columns = {"best": best, "stated": stated, "correct": correct, "move": move_index}
    return {name: np.array(values) for name, values in columns.items()}


def fit_curve(best: Any, correct: Any, move_index: Any, moves: Sequence[str]) -> dict[str, float]:
    """Platt scaling with one slope and shrunken intercepts per move; a constant where all outcomes are alike."""
    from sklearn.linear_model import LogisticRegression

    if len(set(correct.tolist())) < 2:
        return {"slope": 0.0, **dict.fromkeys(moves, 4.0 if correct.all() else -4.0)}
    scores = np.array([logit(value) for value in best])
    features = np.column_stack([scores, np.eye(len(moves))[move_index]])
    model = LogisticRegression(C=1.0, max_iter=500).fit(features, correct)
    slope, *own = model.coef_[0].tolist()
    base = float(model.intercept_[0])
    intercepts = {move: round(base + value, 3) for move, value in zip(moves, own, strict=True)}
    return {"slope": round(slope, 3), **intercepts}


def serving_values(folder: Path, gold_path: Path) -> dict[str, Any]:
    """Thresholds and calibration curves from the papers that the run held back, and how good they are there."""
    config = MarkConfig(**json.loads((folder / "config.json").read_text()))
    _, papers = split(list(read_jsonl(gold_path)), config.valid, config.split_seed)
    return fitted_values(load_marker(folder / "model"), papers)


def fitted_values(marker: Marker, papers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """``serving`` (thresholds, floors, calibration curves) fitted to papers that were not trained on, and the ``scores`` of
    the marker with them on the same papers."""
    predictions = marker.predict([marker.encoder.gold(paper) for paper in papers], bf16=False)  # as it is served
    gold, probabilities, groups = arrays(papers, predictions, marker.labels)
    thresholds = metrics.shrunk(metrics.best_thresholds(gold, probabilities))
    floors = metrics.best_floors(gold, probabilities, groups, thresholds)
    table = cells(gold, probabilities, groups, floors)
    moves = marker.labels.moves
    curves = {}
    for name, chosen in (("stated", table["stated"]), ("absent", ~table["stated"])):
        curves[name] = fit_curve(table["best"][chosen], table["correct"][chosen], table["move"][chosen], moves)
    per_move = metrics.f1_per_move(gold, metrics.decide(probabilities, groups, thresholds, floors))
    return {
        "serving": {
            "thresholds": {m: round(float(t), 3) for m, t in zip(moves, thresholds, strict=True)},
            "floors": {m: round(float(f), 3) for m, f in zip(moves, floors, strict=True)},
            **curves,
        },
        "scores": {
            "macro_f1": round(float(per_move.mean()), 4),
            **dict(zip(moves, per_move.round(4).tolist(), strict=True)),
        },
    }


def release(folder: Path, gold_path: Path, name: str, registry: Path, outtype: OutType = "q8_0") -> Entry:
    """Write the GGUF and a candidate entry into a registry folder. InputError for a name or a model that cannot be.

    q8_0 is read 1.37 times as fast as f16 on a CPU, and marks 99.4% of the cells alike (benchmarks/RESULTS.md).
    """
    name = normalise(name)
    lineage = {
        **json.loads((folder / "lineage.json").read_text()),
        "config": digest(folder / "config.json"),
        "weights": digest(folder / "model" / "model.safetensors"),
    }
    if lineage["gold"] != digest(gold_path):  # another split would choose thresholds on papers that were trained on
        raise SystemExit(f"{gold_path}: not the gold that {folder} was trained on")
    values = serving_values(folder, gold_path)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        gguf = convert(
            folder / "model", Path(scratch) / "model.gguf", outtype, metadata=gguf_metadata(lineage, mark.CONTRACT)
        )
        entry = Entry(
            name=name,
            task="annotate",
            contract=mark.CONTRACT,
            base="marginalia-base:mini",
            licence="MIT",
            description="Marks the sentences of an abstract with the moves that they state",
            ollama=name,
            lineage=lineage,
            scores={"moves_train_held_back": values["scores"]},
            gate=GATE,
            serving=values["serving"],
            **ollama_values(mark.CONTRACT, None, 2048),
        )
        return add_candidate(entry, gguf, registry)


def add_scores(name: str, path: Path, registry: Path) -> Entry:
    """Write measured scores into the entry and promote it. Raises InputError where the gate is not met."""
    entry = find(name, [registry])
    if entry is None:
        raise SystemExit(f"{name}: not in {registry}")
    scores = {**entry.scores, **json.loads(path.read_text())}
    write(replace(entry, scores=scores), registry)
    return promote(name, [registry]).active


@guarded
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="output folder of finetune.mark_train")
    parser.add_argument("--gold", type=Path)
    parser.add_argument("--name", default="nanda-annotator:mini")
    parser.add_argument("--scores", type=Path, help="JSON of measured scores: write them and promote")
    parser.add_argument("--type", type=as_outtype, default="q8_0", help="of the weights (default: q8_0)")
    parser.add_argument("--registry", type=Path, default=ROOT / "registry")
    args = parser.parse_args(argv)
    if not (args.scores or args.gold):
        parser.error("give --gold to release, or --scores to promote")
    if args.scores:
        entry = add_scores(args.name, args.scores, args.registry)
    else:
        entry = release(args.run, args.gold, args.name, args.registry, args.type)
    print(f"{entry.name} is {entry.status}: {json.dumps(entry.scores)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
