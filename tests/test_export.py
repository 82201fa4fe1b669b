"""The whole way from an adapter to a candidate, its faults, and publishing to a hub that is not there."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft", reason="needs the finetune extra")
pytest.importorskip("xllamacpp")

from ollama_server import OllamaServer
from test_merge import train
from test_modelfile import parse
from tiny_hf import make_folder, make_tokenizer

from finetune import export, publish
from finetune.export import Plan
from harness import registry
from harness.config import ROOT
from harness.errors import InputError, ModelUnavailable, UsageError
from harness.registry import Entry, Gate
from skills.expand.prompt import TEMPLATE

SHAPE = {"max_position_embeddings": 4096, "hidden_size": 256, "num_hidden_layers": 2}
PAPERS = [
    f"{number},A title,We show that number {number} holds. It is 12% better. However it is small." for number in range(3)
]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base/``, ``run/`` (adapter of a chat contract) and ``papers.csv``; read it, do not write into it."""
    root = tmp_path_factory.mktemp("export")
    tokenizer = make_tokenizer()
    make_folder(root / "base", "Qwen2", tokenizer, tied=True, shape=SHAPE)
    (root / "base/README.md").write_text("---\nlicense: apache-2.0\n---\n# base\n")
    train(root / "base", root / "run", tokenizer, tokens=False)
    (root / "run/config.yaml").write_text("contract: annotate/quote@1\n")
    # random weights of this size make chaos: eight bits change what they say, sixteen must not
    (root / "limits.yaml").write_text(
        "near_tie: 0.02\ntypes: {f16: {top1: 0.99, greedy: 0.9, kl: 0.01}, q8_0: {top1: 0.5, greedy: 0, kl: 0.5}}\n"
    )
    (root / "papers.csv").write_text("\n".join(["id,title,abstract", *PAPERS]) + "\n")
    return root


def plan(ready: Path, tmp_path: Path, **more: Any) -> Plan:
    values: dict[str, Any] = {
        "types": ("f16", "q8_0"),
        "registry": tmp_path / "registry",
        "papers": ready / "papers.csv",
        "limits": ready / "limits.yaml",
        "count": 2,
        **more,
    }
    return Plan(ready / "run", ready / "base", tmp_path / "out", "nanda-annotator:mine", **values)


@pytest.fixture(scope="module")
def done(ready: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("done")
    export.export(plan(ready, root))
    return root


def test_what_an_export_leaves(done: Path) -> None:
    out = done / "out"
    names = sorted(path.name for path in out.iterdir())
    assert names == [
        "Modelfile",
        "export.json",
        "merged",
        "nanda-annotator-q8_0.gguf",
        "nanda-annotator.gguf",
        "parity.json",
    ]
    report = json.loads((out / "export.json").read_text())
    assert report["contract"] == "annotate/quote@1"
    assert report["served"] == "q8_0"
    assert report["licence"] == "apache-2.0"
    assert set(report["lineage"]) == {"base", "data", "config", "adapter", "merged"}
    assert {file["type"] for file in report["files"]} == {"f16", "q8_0"}
    assert report["seconds"]["all"] >= report["seconds"]["merge"]
    assert report["peak_rss_mb"] > 50
    assert json.loads((out / "parity.json").read_text())["passed"] is True


def test_the_candidate_and_the_file_tell_the_same_lineage(done: Path) -> None:
    import gguf

    (entry,) = registry.load(done / "registry")
    report = json.loads((done / "out/export.json").read_text())
    assert (entry.name, entry.status, entry.contract) == ("nanda-annotator:mine", "candidate", "annotate/quote@1")
    assert entry.lineage == report["lineage"]
    assert entry.licence == "apache-2.0"
    assert entry.gate == export.GATE
    assert registry.verify(entry) == []
    assert entry.gguf_path is not None
    fields = gguf.GGUFReader(entry.gguf_path).fields
    for key, value in entry.lineage.items():
        assert fields[f"marginalia.lineage.{key}"].contents() == value
    assert fields["marginalia.contract"].contents() == "annotate/quote@1"
    with pytest.raises(InputError, match="no score macro_f1"):
        registry.promote("nanda-annotator:mine", [done / "registry"])


def test_the_modelfile_is_the_contracts(done: Path) -> None:
    commands = parse((done / "out/Modelfile").read_text())
    assert commands[0] == ("FROM", "./nanda-annotator-q8_0.gguf")
    assert dict(commands)["TEMPLATE"].endswith("<|im_start|>assistant\n")
    assert [value for name, value in commands if name == "PARAMETER stop"] == ["<|im_end|>", "</annotation>"]
    assert dict(commands)["PARAMETER num_ctx"] == "4096"
    assert dict(commands)["PARAMETER temperature"] == "0.1"
    assert dict(commands)["LICENSE"] == "apache-2.0"


def test_again_the_same_bytes(ready: Path, done: Path, tmp_path: Path) -> None:
    export.export(plan(ready, tmp_path, types=("q8_0",), threads=2))
    name = "nanda-annotator-q8_0.gguf"
    assert (tmp_path / "out" / name).read_bytes() == (done / "out" / name).read_bytes()


def test_a_marker_gets_thresholds_and_the_template_of_its_contract(tmp_path: Path) -> None:
    import csv

    from finetune_smoke import MOVES, gold_row, write_rows

    from finetune.mark_data import Labels
    from skills.annotate import mark
    from skills.annotate.calibration import Calibration

    with (ROOT / "data/sample_papers.csv").open(encoding="utf-8", newline="") as handle:
        gold = [paper for paper in map(gold_row, csv.DictReader(handle)) if len(paper["sentences"]) >= 4][:8]
    labels = Labels.of(gold, MOVES, 2)
    tokenizer = make_tokenizer()
    shape = {"vocab_size": len(tokenizer), "max_position_embeddings": 2048}
    make_folder(tmp_path / "base", "Qwen3", tokenizer, tied=True, shape=shape)
    tokenizer.add_tokens([mark.MARK], special_tokens=True)
    train(tmp_path / "base", tmp_path / "run", tokenizer, new=[mark.MARK, *labels.tokens])
    (tmp_path / "run/adapter/labels.json").write_text(json.dumps({"moves": labels.moves, "sets": labels.sets}))
    asked = Plan(
        tmp_path / "run",
        tmp_path / "base",
        tmp_path / "out",
        "nanda-annotator:mine",
        types=("f16",),
        count=2,
        held_back=write_rows(tmp_path / "gold.jsonl", gold),
        registry=tmp_path / "registry",
    )
    report = export.export(asked)
    assert report["contract"] == mark.CONTRACT
    (entry,) = registry.load(tmp_path / "registry")
    assert set(Calibration.load(entry.serving).thresholds) == set(MOVES)
    assert json.loads((tmp_path / "out/serving.json").read_text()) == entry.serving
    assert set(entry.scores) == {"held_back"}
    assert entry.template.endswith("{{ .Prompt }}<|mark|>")
    assert entry.parameters == {"num_ctx": 2048, "num_predict": 1, "temperature": 0}
    found = json.loads((tmp_path / "out/parity.json").read_text())["types"]["f16"]
    assert found["positions"] + found["near_ties"] >= 8  # one a sentence
    asked.held_back.write_text('{"title": "no sentences"}\n')  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"gold\.jsonl: cannot be used to fit thresholds"):
        export.export(replace(asked, name="nanda-annotator:other"))
    assert len(registry.load(tmp_path / "registry")) == 1


@pytest.fixture
def ollama() -> Iterator[OllamaServer]:
    with OllamaServer() as server:
        yield server


@pytest.mark.parametrize("contract", ["ask@1", "expand@1"])
def test_models_of_the_other_skills(ready: Path, tmp_path: Path, contract: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(ready / "run", run)
    (run / "config.yaml").write_text(f"contract: {contract}\n")
    name = "research-qa:q8_0" if contract == "ask@1" else "qmd-expand:mine"
    export.export(replace(plan(ready, tmp_path, types=("q8_0",)), run=run, name=name))
    (entry,) = registry.load(tmp_path / "registry")
    assert (entry.name, entry.task, entry.contract, entry.status) == (name, contract[:-2], contract, "candidate")
    commands = parse((tmp_path / "out/Modelfile").read_text())
    stops = [value for key, value in commands if key == "PARAMETER stop"]
    if contract == "ask@1":
        assert (dict(commands)["PARAMETER num_ctx"], stops) == ("4096", ["<|im_end|>"])
        assert entry.gate == Gate("qa_test", "factual_accuracy", 0.6)
    else:
        assert dict(commands)["TEMPLATE"] == TEMPLATE
        assert "<|im_end|>" in stops
        assert entry.gate == Gate("expand_queries", "percentage", 90.0)


def test_a_contract_without_prompts_is_told_before_any_work(ready: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no prompts are known"):
        export.export(plan(ready, tmp_path, contract="annotate/other@1"))
    assert not (tmp_path / "out").exists()


def test_gates_are_those_of_the_contract_but_for_what_is_said(ready: Path, tmp_path: Path) -> None:
    options = ["--base", str(ready / "base"), "--contract", "ask@1", "--gate-minimum", "0.7"]
    args = export.parser().parse_args([str(ready / "run"), *options])
    assert export.plan_of(args).gate == Gate("qa_test", "factual_accuracy", 0.7)


def test_ollama_create_through_the_api(ready: Path, tmp_path: Path, ollama: OllamaServer) -> None:
    said: list[str] = []
    export.export(plan(ready, tmp_path, types=("f16",), ollama=ollama.url), said.append)
    (body,) = ollama.bodies("/api/create")
    assert body["model"] == "nanda-annotator:mine"
    assert body["parameters"] == {"num_ctx": 4096, "temperature": 0.1, "stop": ["<|im_end|>", "</annotation>"]}
    assert body["license"] == "apache-2.0"
    assert "  success" in said


def test_ollama_down_registers_nothing(ready: Path, tmp_path: Path) -> None:
    with OllamaServer() as server:
        url = server.url
    with pytest.raises(ModelUnavailable, match="no Ollama daemon answers"):
        export.export(plan(ready, tmp_path, types=("f16",), ollama=url))
    assert not (tmp_path / "registry").exists()


def test_a_failed_parity_gate_registers_nothing(ready: Path, tmp_path: Path) -> None:
    strict = tmp_path / "limits.yaml"
    strict.write_text("near_tie: 0.0\ntypes: {q4_0: {top1: 1.0, greedy: 1.0, kl: 0.0}}\n")
    with pytest.raises(InputError, match=r"parity gate: q4_0: .*nothing was registered"):
        export.export(plan(ready, tmp_path, types=("q4_0",), limits=strict))
    assert not (tmp_path / "registry").exists()
    assert json.loads((tmp_path / "out/parity.json").read_text())["passed"] is False
    assert not (tmp_path / "out/Modelfile").exists()


def test_wrong_use_is_told_before_any_work(ready: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="annotate/mark@1 needs papers that were not trained on"):
        export.export(plan(ready, tmp_path, contract="mark@1"))
    with pytest.raises(UsageError, match="without q4_0"):
        export.export(plan(ready, tmp_path, serve="q4_0"))
    active = Entry("nanda-annotator:mine", "annotate", ollama="x", status="active", gate=Gate("s", "m", 0))
    registry.write(active, tmp_path / "registry")
    with pytest.raises(UsageError, match="is served now; export under another tag"):
        export.export(plan(ready, tmp_path))
    assert not (tmp_path / "out").exists()


def test_an_unknown_tokenizer_and_a_truncated_base(ready: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(ready / "run", run)
    path = run / "adapter/tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match="tokenizer not recognised: its pre-tokenizer"):
        export.export(replace(plan(ready, tmp_path), run=run))
    base = tmp_path / "base"
    shutil.copytree(ready / "base", base)
    (base / "model.safetensors").write_bytes((ready / "base/model.safetensors").read_bytes()[:-9])
    (run / "lineage.json").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: cut short"):
        export.export(replace(plan(ready, tmp_path), base=base))
    assert not (tmp_path / "registry").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(ready: Path, tmp_path: Path) -> None:
    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    command = [sys.executable, "-m", "finetune.export", str(ready / "run"), "--base", str(ready / "base")]
    command += ["--out", str(tmp_path / "out"), "--registry", str(tmp_path / "registry")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, preexec_fn=small, capture_output=True, text=True, timeout=200)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert "merged: could not be written" in last
    assert "Traceback" not in run.stderr
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "registry").exists()


def test_a_registry_that_cannot_be_written_keeps_the_old_candidate(
    ready: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune import candidate

    shelf = tmp_path / "registry"
    shutil.copytree(done / "registry", shelf)
    before = {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()}
    (entry,) = registry.load(shelf)

    def fails(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(candidate, "write", fails)
    with pytest.raises(InputError, match="No space left"):
        candidate.add_candidate(entry, done / "out/nanda-annotator.gguf", shelf)
    assert {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()} == before


class FakeHub:
    """Keeps what it was sent."""

    def __init__(self) -> None:
        self.sent: dict[str, bytes] = {}
        self.made: list[tuple[str, bool]] = []

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        self.made.append((repo_id, private))

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        folder = Path(folder_path)
        self.sent = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_publishing_sends_adapter_merged_ggufs_and_card(ready: Path, done: Path) -> None:
    hub = FakeHub()
    names = publish.publish(done / "out", ready / "run", "me/model", hub)
    assert hub.made == [("me/model", True)]
    assert set(names) == set(hub.sent)
    for name in ("adapter/adapter_model.safetensors", "merged/config.json", "nanda-annotator-q8_0.gguf", "Modelfile"):
        assert name in hub.sent
    card = hub.sent["README.md"].decode()
    assert card.startswith('---\nlicense: "apache-2.0"\n')
    assert "| q8_0 |" in card
    report = json.loads((done / "out/export.json").read_text())
    assert report["lineage"]["adapter"] in card
    assert not [path for path in (done / "out").iterdir() if path.name.startswith("tmp")]


def test_a_dry_run_lists_and_sends_nothing(
    ready: Path, done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", None)
    where = [str(done / "out"), "--run", str(ready / "run"), "--repo"]
    assert publish.main([*where, "me/model", "--dry-run"]) == 0
    assert "merged/model.safetensors" in capsys.readouterr().out
    assert publish.main([*where, "model"]) == 2
    assert publish.main([str(ready), "--run", str(ready / "run"), "--repo", "me/model", "--dry-run"]) == 1
    assert "export.json: missing; name the --out folder of python -m finetune.export" in capsys.readouterr().err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert publish.main([*where, "me/model"]) == 1
    assert "needs the network" in capsys.readouterr().err


def test_a_hub_that_refuses(ready: Path, done: Path) -> None:
    class Refuses(FakeHub):
        def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
            raise OSError("401 Client Error\nsecond line")

    with pytest.raises(InputError, match=r"me/model: the hub did not take it \(401 Client Error\)"):
        publish.publish(done / "out", ready / "run", "me/model", Refuses())


def test_command_line_without_a_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main([str(tmp_path), "--base", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert "no such base folder" in capsys.readouterr().err


def test_a_base_of_the_hub_keeps_its_name_and_its_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the commit hash that its folder in the cache is called after; the model card comes along when it is fetched."""
    import fnmatch

    import huggingface_hub

    from finetune.sft import base as bases

    folder = (
        tmp_path / "hub" / "models--Qwen--Qwen2.5-7B-Instruct" / "snapshots" / "a09a35458c702b33eeacc393d103063234e8bc28"
    )
    asked: list[str] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    fetched = bases.fetch(bases.Base("Qwen/Qwen2.5-7B-Instruct", None, None), is_offline=False)
    assert fetched.folder == folder
    assert all(any(fnmatch.fnmatch(name, pattern) for pattern in asked) for name in ("README.md", "LICENSE", "merges.txt"))
    assert export._base_name(folder) == "Qwen/Qwen2.5-7B-Instruct"
    assert export.licence_of(folder) == "apache-2.0"
