"""finetune/convert_gguf.py --size and --base: adapters merged in order, named files, the template inside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("peft", reason="needs the finetune extra")

from test_merge import train
from tiny_hf import fields, make_folder, make_tokenizer

from finetune.convert_gguf import convert, main
from finetune.gguf_release import PRESETS, file_name
from finetune.merge import merge
from skills.expand.prompt import CHAT_TEMPLATE, CONTRACT


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a base, an SFT run on it and a GRPO run on what the two make."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tokenizer = make_tokenizer()
    make_folder(tmp_path / "base", "Qwen3", tokenizer, tied=True, shape={"hidden_size": 256, "vocab_size": len(tokenizer)})
    train(tmp_path / "base", tmp_path / "sft", tokenizer, tokens=False)
    merge(tmp_path / "sft", tmp_path / "base", tmp_path / "merged")
    train(tmp_path / "merged", tmp_path / "grpo", tokenizer, tokens=False, r=2)
    return tmp_path


def test_adapters_are_merged_in_order_and_every_type_is_written(place: Path) -> None:
    argv = ["--base", "base", "--sft", "sft", "--grpo", "grpo", "--output", "out", "--threads", "1"]
    assert main(argv) == 0
    names = [file_name("", kind) for kind in ("f16", "q4_K_M", "q5_K_M", "q8_0")]
    assert sorted(path.name for path in (place / "out").iterdir()) == sorted(names)
    merge(place / "grpo", place / "merged", place / "both")
    due = convert(place / "both", place / "due.gguf", "f16")
    found = place / "out" / names[0]
    assert fields(found)["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert fields(found)["marginalia.contract"] == CONTRACT
    assert weights(found) == weights(due)
    kinds = {name: fields(place / "out" / name)["blk.0.attn_q.weight"][0] for name in names}
    assert list(kinds.values()) == ["F16", "Q4_K", "Q5_K", "Q8_0"]


def weights(path: Path) -> dict[str, bytes]:
    import gguf

    return {tensor.name: np.asarray(tensor.data).tobytes() for tensor in gguf.GGUFReader(path).tensors}


def test_the_order_matters_and_is_checked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--base", "base", "--sft", "grpo", "--grpo", "sft", "--output", "out"]) == 1
    assert "was trained on another base" in capsys.readouterr().err
    assert list((place / "out").iterdir()) == []


def test_an_adapter_folder_will_do_and_types_can_be_chosen(place: Path) -> None:
    assert main(["--base", "base", "--sft", "sft/adapter", "--output", "out", "--types", "q8_0"]) == 0
    assert [path.name for path in (place / "out").iterdir()] == ["qmd-query-expansion-q8_0.gguf"]


def test_presets_are_what_the_training_configurations_make(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--size", "1.7B", "--dry-run"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "finetune_output/qmd-1.7B/gguf/qmd-query-expansion-1.7B-q4_k_m.gguf" in found["files"]
    assert (found["base"], found["sft"]) == ("Qwen/Qwen3-1.7B", PRESETS["1.7B"].sft)
    assert main(["--size", "4B", "--sft", "mine", "--types", "q8_0", "--dry-run"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["base"], found["sft"], found["types"]) == ("Qwen/Qwen3-4B", "mine", ["q8_0"])


@pytest.mark.parametrize(
    ("argv", "problem", "status"),
    [
        ([], "nothing to convert", 2),
        (["--base", "base"], "--output is missing", 2),
        (["base", "--size", "4B", "--out", "x.gguf"], "converted as it is", 2),
        (["base"], "--out is missing", 2),
        (["--size", "2B"], "invalid choice", 2),
        (["--base", "base", "--sft", "nowhere", "--output", "out"], "no such adapter", 1),
        (["--base", "base", "--sft", "base", "--output", "out"], "holds no adapter", 1),
        (["--base", "base", "--sft", "someone/adapter", "--output", "out"], "not on this machine", 1),
        (["--base", "base", "--types", "q9", "--output", "out"], "q9", 1),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    problem: str,
    status: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / "base" / "model.safetensors").write_bytes(b"")
    assert main(argv) == status
    assert problem in capsys.readouterr().err
