"""Average annotators that were tuned from the same base with different seeds (model soup, Wortsman et al. 2022, section 3).

    python -m finetune.mark_soup finetune_output/a finetune_output/b --gold ../shared/data/gold/moves_train.jsonl \
        --out finetune_output/mini

The runs must share base, gold, split and label sets; one may go on from another. Each run and the average are scored on the
papers that all of them held back; that of the least log-loss (less noisy than F1 on a few hundred papers) is written to
``--out`` in the layout of ``finetune.mark_train``, ready for ``mark_release``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from finetune.dataset.abstracts import read_jsonl
from finetune.mark_model import Marker, load_marker
from finetune.mark_train import MarkConfig, digest, scores, split


def check_alike(runs: Sequence[Path]) -> None:
    """SystemExit where the runs have not the same split, gold and label sets."""
    configs = [MarkConfig(**json.loads((run / "config.json").read_text())) for run in runs]
    lineages = [json.loads((run / "lineage.json").read_text()) for run in runs]
    labels = [(run / "model" / "labels.json").read_text() for run in runs]
    for run, config, lineage, own in zip(runs, configs, lineages, labels, strict=True):
        if (config.valid, config.split_seed) != (configs[0].valid, configs[0].split_seed) or own != labels[0]:
            raise SystemExit(f"{run}: another split or other labels than {runs[0]}: train both with the same split_seed")
        if lineage["gold"] != lineages[0]["gold"]:
            raise SystemExit(f"{run}: trained on other gold than {runs[0]}")


def averaged(markers: Sequence[Marker]) -> dict[str, Any]:
    """The mean of every tensor of the models."""
    states = [marker.model.state_dict() for marker in markers]
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def soup(runs: Sequence[Path], gold: Path, out: Path) -> dict[str, Any]:
    """Write the best of the runs and their average into ``out``; the held-back scores of all."""
    check_alike(runs)
    config = MarkConfig(**json.loads((runs[0] / "config.json").read_text()))
    _, papers = split(list(read_jsonl(gold)), config.valid, config.split_seed)
    markers = [load_marker(run / "model") for run in runs]
    result = {str(run): scores(marker, papers) for run, marker in zip(runs, markers, strict=True)}
    mean = markers[0]
    mean.model.load_state_dict(averaged(markers))
    with torch.no_grad():  # the label vectors stand in the embeddings of the averaged model
        mean.own_vectors.copy_(mean.model.get_input_embeddings().weight[mean.mark_id + 1 :])
    result["average"] = scores(mean, papers)
    best = min(result, key=lambda name: result[name]["log_loss"])
    out.mkdir(parents=True, exist_ok=True)
    if best == "average":
        mean.save(out / "model")
    else:
        shutil.copytree(Path(best) / "model", out / "model", dirs_exist_ok=True)
    (out / "lineage.json").write_text(json.dumps(lineage(runs), indent=1) + "\n")
    shutil.copyfile(runs[0] / "config.json", out / "config.json")
    (out / "valid.json").write_text(json.dumps({"best": best, **result}, indent=1) + "\n")
    return {"best": best, **{name: values["log_loss"] for name, values in result.items()}}


def lineage(runs: Sequence[Path]) -> dict[str, str]:
    """The first run's lineage, the weights of all, and what else the others were made from."""
    found: dict[str, str] = json.loads((runs[0] / "lineage.json").read_text())
    for number, run in enumerate(runs, 1):
        found[f"run_{number}"] = digest(run / "model" / "model.safetensors")
        own = json.loads((run / "lineage.json").read_text())
        found |= {f"run_{number}_{name}": value for name, value in own.items() if value not in found.values()}
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="output folders of finetune.mark_train")
    parser.add_argument("--gold", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    print(json.dumps(soup(args.runs, args.gold, args.out)), file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
