"""Averaging annotators: what is written is the best on the held-back papers, and only like may be averaged with like."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="needs the finetune extra")
pytest.importorskip("transformers", reason="needs the finetune extra")
pytest.importorskip("sklearn", reason="needs the finetune extra")

from finetune import mark_soup  # noqa: E402
from finetune.mark_model import load_marker  # noqa: E402

if TYPE_CHECKING:
    from finetune_smoke import Road

pytestmark = pytest.mark.slow


def test_the_best_of_runs_and_average_is_written(road: Road, tmp_path: Path) -> None:
    runs = [road.root / "teacher", road.root / "mini"]
    result = mark_soup.soup(runs, road.root / "gold.jsonl", tmp_path / "soup")
    scores = {name: score for name, score in result.items() if name != "best"}
    assert set(scores) == {*map(str, runs), "average"}
    assert scores[result["best"]] == min(scores.values())
    written = mark_soup.scores(load_marker(tmp_path / "soup" / "model"), road.held_back)
    assert written["log_loss"] == scores[result["best"]]
    lineage = json.loads((tmp_path / "soup" / "lineage.json").read_text())
    assert lineage["run_2"] == mark_soup.digest(road.root / "mini" / "model" / "model.safetensors")


def test_an_average_is_the_mean_of_every_weight_and_of_the_label_vectors(road: Road) -> None:
    markers = [road.marker("teacher"), road.marker("mini")]
    first, second = (marker.model.get_input_embeddings().weight.detach().clone() for marker in markers)
    mean = mark_soup.averaged(markers)["model.embed_tokens.weight"]
    assert torch.equal(mean, (first + second) / 2)
    assert not torch.equal(first, second)


def test_runs_of_another_split_are_refused(road: Road, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(road.root / "mini", other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "split_seed": 7}))
    with pytest.raises(SystemExit, match="another split"):
        mark_soup.soup([road.root / "mini", other], road.root / "gold.jsonl", tmp_path / "soup")
    assert not (tmp_path / "soup").exists()
