"""The promotion gate: counts that arrive as data, noise told by a paired bootstrap, and what the commands say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import registry
from harness.bootstrap import ROUNDS, difference
from harness.config import Settings
from harness.errors import InputError, UsageError
from harness.registry import Entry, Gate, Gguf
from harness.registry_cli import main
from harness.registry_gate import Scored, counts_file, promotion

PAPERS = [f"p{number}" for number in range(60)]
MOVES = ("claim", "method")


def counts(share: float, seed: int = 0) -> Any:
    """Of two sentences a paper and move that state it, about ``share`` are found."""
    found = np.random.default_rng(seed).binomial(2, share, (len(PAPERS), len(MOVES)))
    return np.stack([found, np.zeros_like(found), 2 - found], axis=-1)


def f1(table: Any) -> float:
    hits, wrong, missed = table.sum(0).T
    return float((2 * hits / (2 * hits + wrong + missed)).mean())


def model(name: str, table: Any) -> dict[str, Any]:
    value = f1(table)
    return {
        "model": name,
        "macro_f1": [value, value - 0.1, value + 0.1],
        "f1": {move: [value, 0, 1] for move in MOVES},
        "counts": table.tolist(),
    }


def write_report(path: Path, *models: dict[str, Any], papers: list[str] = PAPERS) -> Path:
    path.write_text(json.dumps({"set": "moves_dev", "papers": papers, "models": list(models)}))
    return path


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(registry, "ROOT", tmp_path / "root")
    return list(registry.folders())


def make(folder: Path, tag: str, **more: Any) -> Entry:
    values: dict[str, Any] = {"status": "candidate", "scores": {}, "gate": Gate("moves_dev", "macro_f1", 0.5), **more}
    gguf = Gguf(f"{tag}.gguf", hashlib.sha256(tag.encode()).hexdigest(), len(tag))
    entry = registry.write(Entry(f"nanda-annotator:{tag}", "annotate", gguf=gguf, **values), folder)
    (entry.folder / f"{tag}.gguf").write_bytes(tag.encode())
    return entry


def scored(name: str, table: Any, papers: list[str] = PAPERS) -> Scored:
    return Scored(name, f1(table), tuple(papers), table)


def test_worse_beyond_noise_is_refused_and_noise_is_not() -> None:
    good, bad = counts(0.9), counts(0.6, seed=1)
    close = good.copy()
    close[0, 0] = 0, 0, 2  # one paper of sixty got worse
    decision = promotion(scored("new", bad), scored("old", good))
    assert not decision.allowed
    assert decision.reason.startswith("worse beyond noise: new minus old: -0.")
    assert decision.interval is not None
    assert decision.interval[1] < 0
    assert promotion(scored("new", close), scored("old", good)).allowed
    assert promotion(scored("new", good), scored("old", bad)).allowed
    assert f1(close) < f1(good)


def test_the_interval_is_that_of_drawing_papers_one_resample_at_a_time() -> None:
    first, second = counts(0.8), counts(0.75, seed=2)
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(ROUNDS):
        drawn = rng.integers(0, len(first), len(first))
        gaps.append(f1(first[drawn]) - f1(second[drawn]))
    value, low, high = difference(first, second)
    assert value == pytest.approx(f1(first) - f1(second))
    assert (low, high) == pytest.approx(tuple(np.quantile(gaps, [0.025, 0.975])), abs=1e-12)
    assert difference(first, second, seed=1) != (value, low, high)


def test_pairs_tell_less_noise_than_two_samples_would() -> None:
    first = counts(0.6)
    second = first.copy()
    second[:, :, 0], second[:, :, 2] = np.minimum(first[:, :, 0] + 1, 2), 2 - np.minimum(first[:, :, 0] + 1, 2)
    _, low, high = difference(first, second)
    assert high < 0
    assert high - low < 0.2


def test_without_counts_of_the_same_papers_a_lower_score_is_refused() -> None:
    table = counts(0.8)
    assert promotion(Scored("new", 0.8), Scored("old", 0.8)).allowed
    decision = promotion(Scored("new", 0.79), scored("old", table))
    assert "scores 0.0" in decision.reason
    assert "no counts" in decision.reason
    other = scored("old", counts(0.9), [f"q{number}" for number in range(60)])
    assert not promotion(scored("new", table), other).allowed
    assert "old has no score" in promotion(Scored("new", 0.8), Scored("old", None)).reason


def test_promotion_through_the_registry(where: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user, shipped = where
    good, poor = counts(0.9), counts(0.6, seed=1)
    make(shipped, "old", status="active", scores={"moves_dev": {"macro_f1": f1(good)}})
    make(user, "new")
    report = write_report(tmp_path / "scores.json", model("nanda-annotator:old", good), model("/models/new.gguf", poor))
    with pytest.raises(InputError, match="has no score macro_f1 on moves_dev"):
        registry.promote("nanda-annotator:new")
    with pytest.raises(UsageError, match=r"name one with --model: nanda-annotator:old, /models/new\.gguf"):
        registry.score("nanda-annotator:new", report)
    score = ["score", "nanda-annotator:new", str(report), "--model", "/models/new.gguf"]
    assert main(score, Settings()) == 0
    assert "moves_dev" in capsys.readouterr().out
    with pytest.raises(InputError, match="worse beyond noise: nanda-annotator:new minus nanda-annotator:old"):
        main(["promote", "nanda-annotator:new"], Settings())
    assert {entry.status for entry in registry.load(user)} == {"candidate"}
    assert not (user / "history.jsonl").exists()
    write_report(report, model("nanda-annotator:old", good), model("/models/new.gguf", good))
    main(score, Settings())
    assert main(["promote", "nanda-annotator:new"], Settings()) == 0
    make(user, "newer", scores={"moves_dev": {"macro_f1": 0.95}})
    main(["promote", "nanda-annotator:newer"], Settings())
    main(["rollback", "annotate"], Settings())
    capsys.readouterr()
    assert main(["history"], Settings(json=True)) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["did"], line["active"]) for line in lines] == [
        ("promote", "nanda-annotator:new"),
        ("promote", "nanda-annotator:newer"),
        ("rollback", "nanda-annotator:new"),
    ]
    assert lines[1]["retired"] == ["nanda-annotator:new"]
    for name, count in (("nanda-annotator:newer", 2), ("nanda-annotator", 3), ("qmd-expand", 0)):
        assert main(["history", name], Settings(json=True)) == 0
        assert len(capsys.readouterr().out.splitlines()) == count, name
    with (user / "history.jsonl").open("a") as handle:
        handle.write('{"time": "20')  # killed while writing
    assert main(["history"], Settings()) == 0
    assert "served since" in capsys.readouterr().out


def test_counts_of_both_entries_are_enough(where: list[Path], tmp_path: Path) -> None:
    good, poor = counts(0.9), counts(0.6, seed=1)
    for tag, table in (("old", good), ("new", poor)):
        make(where[0], tag)
        registry.score(f"nanda-annotator:{tag}", write_report(tmp_path / "s.json", model(f"nanda-annotator:{tag}", table)))
    registry.promote("nanda-annotator:old")
    with pytest.raises(InputError, match="worse beyond noise"):
        registry.promote("nanda-annotator:new")
    entry = registry.find("nanda-annotator:new")
    assert entry is not None
    counts_file(entry).write_text("{")
    with pytest.raises(InputError, match=r"new\.counts\.json: cannot be read"):
        registry.promote("nanda-annotator:new")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r.pop("set"),
        lambda r: r["papers"].pop(),
        lambda r: r["models"][0].update(counts=[[1, 2]]),
        lambda r: r["models"][0].update(macro_f1=[]),
        lambda r: r.update(models=[1]),
    ],
)
def test_a_file_of_no_scores(where: list[Path], tmp_path: Path, spoil: Any) -> None:
    make(where[0], "x")
    path = write_report(tmp_path / "scores.json", model("nanda-annotator:x", counts(0.9)))
    report = json.loads(path.read_text())
    spoil(report)
    path.write_text(json.dumps(report))
    with pytest.raises(InputError, match=r"scores\.json: is no scores file"):
        registry.score("nanda-annotator:x", path)
    assert registry.load(where[0])[0].scores == {}


def test_scores_of_answers_and_two_quantisations_side_by_side(where: list[Path], tmp_path: Path) -> None:
    gate = {"gate": Gate("qa_test", "factual_accuracy", 0.6)}
    models = [
        {"model": f"nanda-annotator:{tag}", "scores": {"factual_accuracy": [value, 0, 1], "perplexity": None}}
        for tag, value in (("q8_0", 0.8), ("q4_0", 0.7), ("2-q4_0", 0.75))
    ]
    report = tmp_path / "scores.json"
    report.write_text(json.dumps({"task": "ask", "set": "qa_test", "models": models}))
    for tag in ("q8_0", "q4_0", "2-q4_0"):
        make(where[0], tag, **gate)
        entry = registry.score(f"nanda-annotator:{tag}", report)
        assert set(entry.scores["qa_test"]) == {"factual_accuracy"}
        assert not counts_file(entry).exists()
        registry.promote(entry.name)
    served = {entry.name.partition(":")[2]: entry.status for entry in registry.load(where[0])}
    assert served == {"q8_0": "active", "q4_0": "retired", "2-q4_0": "active"}
    report.write_text(json.dumps({"task": "ask", "set": "qa_test", "models": [{"model": "x", "scores": {"f1": []}}]}))
    with pytest.raises(InputError, match="is no scores file"):
        registry.score("nanda-annotator:q8_0", report)
