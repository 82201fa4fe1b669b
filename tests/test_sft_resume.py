"""kill -9 and resume: the weights of an uninterrupted run, bit for bit; and which checkpoints are gone on from."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft", reason="needs the finetune extra")
pytest.importorskip("torch", reason="needs the finetune extra")

from sft_helpers import config, make_base, make_data, values

from finetune.sft import checkpoints
from finetune.sft import run as runs
from finetune.sft.config import SftConfig
from harness.console import stderr_console
from harness.errors import InputError

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
NOISY = {"input_noise": 0.1, "epochs": 3, "keep_checkpoints": 0, "save_steps": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, data, and one uninterrupted run with dropout and word dropout."""
    folder = tmp_path_factory.mktemp("resume")
    make_base(folder / "base")
    make_data(folder / "data", count=42)
    runs.sft(settings(folder, folder / "whole"), runs.Run(offline=True), stderr_console())
    return folder


def settings(root: Path, out: Path, **changes: Any) -> SftConfig:
    return config(root / "base", root / "data", out, **{**NOISY, **changes})


def lineage(root: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((root / "whole" / "lineage.json").read_text())
    return found


def kill_at_first_checkpoint(root: Path, out: Path) -> None:
    """Start the command line and SIGKILL it as soon as its first checkpoint is sealed."""
    path = root / "killed.yaml"
    path.write_text(json.dumps(values(root / "base", root / "data", out, **NOISY)))
    command = [sys.executable, "-m", "finetune.train", "sft", str(path), "--offline"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ}, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 280
        while process.poll() is None and time.monotonic() < until and checkpoints.newest_sound(out) is None:
            time.sleep(0.005)
    finally:
        process.kill()
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors[-2000:]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_run_ends_with_the_same_bits(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    kill_at_first_checkpoint(root, out)
    stopped = checkpoints.newest_sound(out)
    assert stopped is not None
    assert not (out / "adapter").exists()
    summary = runs.sft(settings(root, out), runs.Run("auto", offline=True), stderr_console())
    assert 0 < int(stopped.name.split("-")[1]) < summary["steps"] == summary["of"]
    for name in (
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        f"checkpoint-{summary['steps']}/optimizer.pt",
    ):
        assert (out / name).read_bytes() == (root / "whole" / name).read_bytes(), name
    ours, theirs = (
        [json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (out, root / "whole")
    )
    for entry in (*ours, *theirs):
        entry.pop("eval_seconds", None)
    assert ours == theirs
    assert summary["tokens"] == json.loads((root / "whole" / "train.json").read_text())["tokens"]


def test_a_finished_run_resumed_changes_nothing(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "done"
    shutil.copytree(root / "whole", out)
    summary = runs.sft(settings(root, out), runs.Run("auto", offline=True), stderr_console())
    assert summary["steps"] == summary["of"]
    name = "adapter/adapter_model.safetensors"
    assert (out / name).read_bytes() == (root / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: os.truncate(folder / "optimizer.pt", 100), "has a truncated or changed optimizer.pt: passed over"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "lacks adapter_model.safetensors: passed over"),
        (lambda folder: (folder / "manifest.json").unlink(), "was not finished: passed over"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "has a damaged manifest.json: passed over"),
    ],
)
def test_auto_passes_over_a_damaged_checkpoint(root: Path, tmp_path: Path, damage: Any, message: str) -> None:
    out = tmp_path / "run"
    shutil.copytree(root / "whole", out)
    newest, before, *_ = checkpoints.all_in(out)
    damage(newest)
    said: list[str] = []
    assert checkpoints.choose(out, "auto", settings(root, out), lineage(root), said.append) == before
    assert said == [f"{newest} {message}"]
    with pytest.raises(InputError, match="use --resume auto, which takes the one before"):
        checkpoints.choose(out, str(newest), settings(root, out), lineage(root), said.append)


def test_auto_without_a_checkpoint_starts_at_the_beginning(root: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert checkpoints.choose(tmp_path, "auto", settings(root, tmp_path), lineage(root), said.append) is None
    assert said == [f"{tmp_path}: no checkpoint to go on from, starting at step 0"]
    with pytest.raises(InputError, match="checkpoint-3: no such checkpoint"):
        checkpoints.choose(tmp_path, str(tmp_path / "checkpoint-3"), settings(root, tmp_path), lineage(root), said.append)


def test_a_checkpoint_of_another_run_is_refused(root: Path) -> None:
    out = root / "whole"
    for name, message in (("base", "an adapter of another base"), ("data", "a run on other data")):
        with pytest.raises(InputError, match=f"belongs to {message}"):
            checkpoints.choose(out, "auto", settings(root, out), lineage(root) | {name: "sha256:0"}, print)
    with pytest.raises(InputError, match=r"belongs to another configuration \(lora_r was 4\)"):
        checkpoints.choose(out, "auto", settings(root, out, lora_r=8), lineage(root), print)
    assert checkpoints.choose(out, "auto", settings(root, out, logging_steps=7), lineage(root), print) is not None
