"""What is shipped: the registry's models and the base are whole, small, documented, and do what their entries say."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from embedded_helpers import child_pid

from harness.cli import main
from harness.config import ROOT
from harness.models.base import Options, Request
from harness.models.embedded import EmbeddedModel
from harness.registry import Entry, check_gate, find, scan, verify
from harness.sentences import split
from skills.annotate import mark
from skills.annotate.annotator import Draft, MarkAnnotator
from skills.annotate.calibration import Calibration
from skills.annotate.moves import load_framework

REGISTRY = ROOT / "registry"
NAME = "nanda-annotator:mini"
BASE = REGISTRY / "marginalia-base" / "mini"
SAMPLE = ROOT / "data" / "sample_papers.csv"
MEGABYTE = 1_000_000
PROMPTS = ("We propose", "Large language models", "The results show that", "In this paper, we", "A graph is")
CLAIM = "We introduce LapseStore, a memory in which every entry carries an expiry"
"""How the sentence of sample-01 begins that says what the paper proposes."""

needs_model = pytest.mark.skipif(
    not (REGISTRY / "nanda-annotator" / "mini.gguf").exists(), reason="the bundled model is not in this checkout"
)
needs_base = pytest.mark.skipif(not BASE.exists(), reason="the bundled base is not in this checkout")


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data folder of its own, and no daemon."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.chdir(tmp_path)


def bundled() -> Entry:
    entry = find(NAME, [REGISTRY])
    assert entry is not None
    return entry


def gguf_of(entry: Entry) -> Path:
    assert entry.gguf_path is not None
    return entry.gguf_path


def test_every_entry_is_usable_and_its_file_is_the_promised_one() -> None:
    entries, problems = scan([REGISTRY])
    assert problems == []
    assert [line for entry in entries for line in verify(entry)] == []


@needs_model
def test_the_entry_says_what_the_model_is() -> None:
    entry = bundled()
    assert (entry.status, entry.task, entry.contract) == ("active", "annotate", mark.CONTRACT)
    assert entry.licence == "MIT"
    assert check_gate(entry) == ""
    assert entry.gate is not None
    assert entry.score is not None
    assert entry.score >= entry.gate.minimum
    moves = load_framework().names
    assert all(0 < entry.scores[entry.gate.set][move] <= 1 for move in moves)
    assert set(entry.serving["thresholds"]) == set(moves)
    assert {"base", "gold", "config", "weights"} <= set(entry.lineage)
    assert gguf_of(entry).stat().st_size <= 25 * MEGABYTE


@needs_model
def test_the_file_carries_the_lineage_of_the_entry() -> None:
    import gguf

    entry = bundled()
    fields = gguf.GGUFReader(gguf_of(entry)).fields
    prefix = "marginalia.lineage."
    said = {key.removeprefix(prefix): field.contents() for key, field in fields.items() if key.startswith(prefix)}
    assert said == dict(entry.lineage)


@needs_model
def test_the_model_card_names_data_licence_and_every_score() -> None:
    entry = bundled()
    card = (entry.folder / "README.md").read_text(encoding="utf-8")
    for word in ("MIT", "arXiv", "CC0", "agent_labels.csv", mark.CONTRACT):
        assert word in card
    assert entry.gate is not None
    for name, value in entry.scores[entry.gate.set].items():
        if name in (*load_framework().names, "macro_f1"):
            assert f"{value:.2f}" in card or f"{value:.3f}" in card, f"{name} {value}"


@needs_model
def test_a_clear_claim_is_a_claim_and_the_child_stays_small() -> None:
    entry = bundled()
    model = EmbeddedModel(gguf_of(entry), name=NAME, sha256=entry.gguf.sha256 if entry.gguf else "", threads=2)
    annotator = MarkAnnotator(model, load_framework(), Calibration.load(entry.serving), Options())
    with SAMPLE.open(newline="", encoding="utf-8") as handle:
        paper = next(csv.DictReader(handle))
    sentences = [sentence.text for sentence in split(paper["abstract"])]
    due = next(number for number, sentence in enumerate(sentences, 1) if sentence.startswith(CLAIM))
    try:
        drafts: list[Draft] = [annotator.annotate(paper["title"], sentences) for _ in range(2)]
        memory = peak_memory(child_pid(model))
    finally:
        model.close()
    assert drafts[0].cells["claim"].sentences[0] == due
    assert drafts[0].cells == drafts[1].cells
    assert memory is None or memory < 600 * MEGABYTE


def peak_memory(pid: int) -> int | None:
    """Largest resident size so far in bytes, mapped file included; None where the system does not tell."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@needs_model
def test_the_same_records_every_time_and_the_same_sentences_with_any_workers(capsys: pytest.CaptureFixture[str]) -> None:
    def run(workers: int) -> str:
        assert main(["--json", "--workers", str(workers), f"/annotate {SAMPLE} --limit 6 --fresh"]) == 0
        return capsys.readouterr().out

    def numbers(out: str) -> list[dict[str, list[int] | None]]:
        records = [json.loads(line) for line in out.splitlines()]
        return [{name: move and move["sentences"] for name, move in record["moves"].items()} for record in records]

    once = run(1)
    assert run(1) == once
    assert numbers(run(4)) == numbers(once)


@needs_base
def test_the_base_loads_and_its_conversion_says_the_same(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the finetune extra")
    transformers = pytest.importorskip("transformers", reason="needs the finetune extra")
    from finetune.convert_gguf import convert

    assert sum(path.stat().st_size for path in BASE.rglob("*") if path.is_file()) <= 35 * MEGABYTE
    tokenizer = transformers.AutoTokenizer.from_pretrained(BASE)
    checkpoint = transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    model = EmbeddedModel(convert(BASE, tmp_path / "base.gguf"), name="base", threads=2, slots=1)
    try:
        for prompt in PROMPTS:
            inputs = tokenizer(prompt, return_tensors="pt")
            ids = checkpoint.generate(**inputs, max_new_tokens=16, do_sample=False)[0, inputs["input_ids"].shape[1] :]
            reply = model.generate(Request(prompt=prompt, options=Options(max_tokens=16)))
            assert reply.text == tokenizer.decode(ids, skip_special_tokens=True)
    finally:
        model.close()
