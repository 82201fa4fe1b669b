"""The training road at smoke size: what each step leaves behind, what it refuses, and that kill -9 changes no bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the finetune extra")
pytest.importorskip("transformers", reason="needs the finetune extra")
pytest.importorskip("sklearn", reason="needs the finetune extra")

from finetune_smoke import BASE_CONFIG, CONFIGS, MARK_CONFIG, MOVES, ROOT, write_rows  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from finetune import mark_teacher, mark_train, parity, pretrain  # noqa: E402
from finetune.dataset import abstracts  # noqa: E402
from finetune.dataset.leaks import LeakCheck  # noqa: E402
from finetune.grpo import config as grpo_config  # noqa: E402
from finetune.mark_data import Labels  # noqa: E402
from finetune.mark_model import Marker, load_marker  # noqa: E402
from finetune.roads import config as road_config  # noqa: E402
from finetune.sft import config as sft_config  # noqa: E402

if TYPE_CHECKING:
    from finetune_smoke import Road

pytestmark = pytest.mark.slow


# What each step leaves behind.


def test_the_corpus_leaves_the_evaluation_paper_out(road: Road) -> None:
    card = json.loads((road.root / "base" / "corpus.json").read_text())
    assert card["leaks"] == {"id": 1}
    assert card["valid"]["documents"] + card["train"]["documents"] == 23
    ids = np.load(road.root / "base" / "train.npy")
    assert len(ids) == card["train"]["tokens"]
    assert (ids == 0).sum() == card["train"]["documents"]  # every document ends with the end token


def test_the_base_learns_and_keeps_its_losses(road: Road) -> None:
    records = [json.loads(line) for line in (road.root / "base" / "metrics.jsonl").read_text().splitlines()]
    losses = [record["valid_loss"] for record in records if "valid_loss" in record]
    assert losses[-1] < losses[0] < np.log(500)


def test_the_teacher_marks_with_distributions(road: Road) -> None:
    labels = road.marker("teacher").labels
    rows = mark_teacher.load_pseudo(road.root / "pseudo", labels)
    assert len(rows) == 12
    for title, sentences, targets in rows:
        assert title
        assert targets.shape == (len(sentences), len(labels.sets))
        assert targets.sum(1) == pytest.approx(1, abs=0.01)
    with pytest.raises(SystemExit, match="other label sets"):
        mark_teacher.load_pseudo(road.root / "pseudo", Labels(labels.moves, labels.sets[:-1]))


def test_a_second_pass_names_its_base_and_what_it_started_from(road: Road) -> None:
    base, teacher = (road.root / name / "model" for name in ("base", "teacher"))
    assert mark_train.origin(base) == {"base": mark_train.digest(base / "model.safetensors")}
    assert mark_train.origin(teacher) == {
        **mark_train.origin(base),
        "start": mark_train.digest(teacher / "model.safetensors"),
    }


def test_several_teachers_are_averaged_and_must_agree_on_labels(road: Road, tmp_path: Path) -> None:
    teacher = road.root / "teacher" / "model"
    arguments = [str(road.root / "corpus.jsonl"), "--papers", "12", "--threads", "1", "--teacher", str(teacher)]
    arguments += ["--held-out", str(road.root / "held_out.jsonl"), "--out", str(tmp_path / "pseudo")]
    mark_teacher.main([*arguments, "--teacher", str(teacher)])
    with np.load(tmp_path / "pseudo" / "pseudo.npz") as twice, np.load(road.root / "pseudo" / "pseudo.npz") as once:
        assert np.array_equal(twice["targets"], once["targets"])
    labels = road.marker("teacher").labels
    Marker(road.root / "base" / "model", Labels(labels.moves, labels.sets[:-1]), 1).save(tmp_path / "other")
    with pytest.raises(SystemExit, match="different label sets"):
        mark_teacher.main([*arguments, "--teacher", str(tmp_path / "other")])


def test_the_annotator_learns_its_training_papers(road: Road) -> None:
    marker = road.marker("mini")
    papers, _ = mark_train.split(road.gold, 0.2, 1)
    predictions = marker.predict([marker.encoder.gold(paper) for paper in papers], bf16=False)
    gold, probabilities, groups = mark_train.arrays(papers, predictions, marker.labels)
    assert len(np.unique(groups)) == len(papers)
    assert probabilities[gold].mean() > 2 * probabilities[~gold].mean()
    assert set(json.loads((road.root / "mini" / "valid.json").read_text())["thresholds"]) == set(MOVES)


def test_a_saved_marker_predicts_the_same(road: Road, tmp_path: Path) -> None:
    marker = road.marker("mini")
    example = marker.encoder.gold(road.gold[0])
    (before,) = marker.predict([example], bf16=False)
    marker.save(tmp_path / "model")
    (after,) = load_marker(tmp_path / "model").predict([example], bf16=False)
    assert np.array_equal(before, after)


def test_prediction_does_not_depend_on_the_batch(road: Road) -> None:
    marker = road.marker("mini")
    examples = [marker.encoder.gold(paper) for paper in road.gold[:6]]
    together = marker.predict(examples, papers=6, bf16=False)
    for example, rows in zip(examples, together, strict=True):
        (alone,) = marker.predict([example], bf16=False)
        assert alone == pytest.approx(rows, abs=1e-4)


# What is refused.


def test_training_papers_of_an_evaluation_set_are_refused(road: Road, tmp_path: Path) -> None:
    paper = road.gold[3]
    held_out = write_rows(tmp_path / "held_out.jsonl", [{**paper, "arxiv_id": "9999.00001", "title": "Another"}])
    with pytest.raises(SystemExit, match=rf"gold\.jsonl: 1 papers stand in an evaluation set, first {paper['arxiv_id']}"):
        mark_train.main(road.mark_arguments(tmp_path / "out", "--held-out", held_out))
    assert not (tmp_path / "out" / "model").exists()


def test_further_gold_is_trained_on_unless_it_is_held_back_or_in_an_evaluation_set(road: Road, tmp_path: Path) -> None:
    none, held_back = LeakCheck([]), road.held_back
    others = [paper for paper in road.gold if paper not in held_back]
    more = write_rows(tmp_path / "more.jsonl", others)
    assert mark_train.more_papers([more, more], none, held_back) == [*others, *others]
    with pytest.raises(SystemExit, match=f"{len(others)} papers stand in an evaluation set"):
        mark_train.more_papers([more], LeakCheck(others), held_back)
    wrong = write_rows(tmp_path / "wrong.jsonl", [*others, held_back[0]])
    with pytest.raises(SystemExit, match=r"wrong\.jsonl: 1 papers are held back"):
        mark_train.more_papers([wrong], none, held_back)


def test_roles_and_pseudo_labels_of_an_evaluation_set_are_refused(road: Road) -> None:
    marker, config = road.marker("mini"), mark_train.MarkConfig.load(MARK_CONFIG)
    roles, pseudo = road.root / "roles.jsonl", road.root / "pseudo"
    with pytest.raises(SystemExit, match=r"roles\.jsonl: 1 papers stand in an evaluation set, first "):
        mark_train.role_pool(marker, roles, LeakCheck(road.gold[:1]), config)
    title = next(abstracts.read_jsonl(pseudo / "papers.jsonl"))["title"]
    with pytest.raises(SystemExit, match=r"pseudo: 1 papers stand in an evaluation set, first "):
        mark_train.pseudo_pool(marker, pseudo, LeakCheck([{"title": title}]), config)
    assert len(mark_train.role_pool(marker, roles, LeakCheck([]), config)) == config.role_papers
    assert len(mark_train.pseudo_pool(marker, pseudo, LeakCheck([]), config)) == 12


def test_pseudo_labels_that_do_not_belong_to_their_papers_are_refused(road: Road, tmp_path: Path) -> None:
    shutil.copytree(road.root / "pseudo", tmp_path / "pseudo")
    lines = (tmp_path / "pseudo" / "papers.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "pseudo" / "papers.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(SystemExit, match=r"run finetune\.mark_teacher again"):
        mark_teacher.load_pseudo(tmp_path / "pseudo", road.marker("teacher").labels)


def test_pre_training_goes_on_from_given_weights_and_place(road: Road, tmp_path: Path) -> None:
    base = road.root / "base"
    for name in ("train.npy", "valid.npy"):
        shutil.copy(base / name, tmp_path)
    shutil.copytree(base / "tokenizer", tmp_path / "tokenizer")
    config = replace(pretrain.PretrainConfig.load(BASE_CONFIG), seen=256)
    training = pretrain.Pretraining(config, tmp_path, base / "model")
    assert training.position == 256
    saved = load_file(base / "model" / "model.safetensors")
    assert all(torch.equal(p, saved[name].float()) for name, p in training.model.named_parameters())
    with pytest.raises(SystemExit, match="of another shape"):
        pretrain.Pretraining(replace(config, ffn=2 * config.ffn), tmp_path, base / "model")


@pytest.mark.parametrize("load", [pretrain.PretrainConfig.load, mark_train.MarkConfig.load])
def test_unknown_keys_of_a_configuration_are_refused(tmp_path: Path, load: Any) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("seed: 2\nsteps_: 3\nlearning_rate: 0.1\n")
    with pytest.raises(SystemExit, match=r"x\.yaml: unknown keys: learning_rate, steps_"):
        load(path)
    path.write_text("seed: 2\n")
    assert load(path).seed == 2
    path.write_text("")
    assert load(path).seed == 1


def test_a_value_that_yaml_reads_as_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("muon_lr: 1e-3\n")
    with pytest.raises(SystemExit, match=r"x\.yaml: muon_lr: '1e-3' is not a number"):
        mark_train.MarkConfig.load(path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_of_the_repository_loads(path: Path) -> None:
    loaders: dict[str, Any] = {
        "*base": pretrain.PretrainConfig.load,
        "base-*": pretrain.PretrainConfig.load,
        "*mini*": mark_train.MarkConfig.load,
        "nanda-*": sft_config.load,
        "*-sft*": sft_config.load,
        "*-grpo": grpo_config.load,
        "road-*": road_config.load,
        "parity": parity.load_limits,
    }
    pattern = [pattern for pattern in loaders if path.match(f"{pattern}.yaml")][-1]
    loaded = loaders[pattern](path)
    assert pattern == "parity" or loaded.seed > 0


def test_too_few_papers_to_validate_are_refused_before_the_training(road: Road, tmp_path: Path) -> None:
    config = tmp_path / "x.yaml"
    config.write_text(MARK_CONFIG.read_text().replace("valid: 0.2", "valid: 0.0"))
    with pytest.raises(SystemExit, match="none to validate with"):
        mark_train.main(road.mark_arguments(tmp_path / "out", config=config))


def test_a_marker_is_no_base_for_other_labels(road: Road) -> None:
    labels = road.marker("mini").labels
    with pytest.raises(SystemExit, match="give a base model"):
        Marker(road.root / "mini" / "model", Labels(labels.moves, labels.sets[:-1]), 1)


def test_a_checkpoint_of_other_data_or_configuration_is_refused(road: Road, tmp_path: Path) -> None:
    out = tmp_path / "mini"
    shutil.copytree(road.root / "mini", out)
    before = (out / "config.json").read_bytes()
    with pytest.raises(SystemExit, match="belongs to another run"):
        mark_train.main(road.mark_arguments(out))  # without the pseudo-labels
    config = tmp_path / "x.yaml"
    config.write_text(MARK_CONFIG.read_text() + "smoothing: 0.1\n")
    with pytest.raises(SystemExit, match="belongs to another run"):
        mark_train.main(road.mark_arguments(out, "--pseudo", road.root / "pseudo", config=config))
    assert (out / "config.json").read_bytes() == before


# Kill -9.


def kill_at_first_checkpoint(out: Path, *command: str) -> None:
    """Start a training script and kill it with SIGKILL as soon as its first checkpoint lies in ``out``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        until = time.monotonic() + 120
        while not (out / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
    finally:
        process.kill()
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors[-2000:]
    assert not (out / "model").exists()


def checkpoint(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return state


def tensors(value: Any) -> list[Any]:
    """All tensors inside a checkpoint, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors(item)]
    return [value] if isinstance(value, torch.Tensor) else []


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_pretraining_ends_with_the_same_bits(road: Road, tmp_path: Path) -> None:
    whole, out = road.root / "base", tmp_path / "base"
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("model", "checkpoint.pt", "metrics.jsonl"))
    command = [str(BASE_CONFIG), "--out", str(out)]
    kill_at_first_checkpoint(out, "finetune.pretrain", *command)
    assert 0 < checkpoint(out)["step"] < checkpoint(whole)["step"]
    pretrain.main(command)
    one, other = checkpoint(out), checkpoint(whole)
    assert one["step"] == other["step"]
    assert len(tensors(one)) == len(tensors(other)) > 40
    assert all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))
    saved = "model/model.safetensors"
    assert (out / saved).read_bytes() == (whole / saved).read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_mark_training_ends_with_the_same_bits(road: Road, tmp_path: Path) -> None:
    whole, out = road.root / "mini", tmp_path / "mini"
    command = road.mark_arguments(out, "--pseudo", road.root / "pseudo")
    kill_at_first_checkpoint(out, "finetune.mark_train", *command)
    stopped = checkpoint(out)["step"]
    mark_train.main(command)
    assert 0 < stopped < checkpoint(out)["step"] == checkpoint(whole)["step"]
    for name in ("model/model.safetensors", "config.json", "lineage.json", "valid.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
