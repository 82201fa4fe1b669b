"""finetune/eval.py annotate: gold in, scores out, by real models: the bundled one, one of Ollama, folders of training."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from eval_samples import PAPERS, gold_row
from ollama_server import OllamaServer

from finetune import eval as command
from finetune import metrics
from finetune.evaluation import baseline, consistency, counts, report, svg
from finetune.evaluation.gold import read_gold
from finetune.evaluation.runs import names_in
from harness import bootstrap
from harness.config import ROOT
from harness.errors import InputError
from harness.outputs import write_records
from skills.annotate.moves import load_framework

MOVES = load_framework()
BASE = ROOT / "registry" / "marginalia-base" / "mini"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a data folder of its own, and no daemon."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_gold(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# ---- counts ----


def random_gold(seed: int) -> tuple[list[dict[str, Any]], metrics.Bools, metrics.Bools, metrics.Bools, metrics.Ints]:
    """Papers of uneven length with gold, and what two annotators found, as arrays over sentences."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 12, 30)
    gold, first, second = (rng.random((sizes.sum(), 8)) < share for share in (0.3, 0.35, 0.5))
    first |= gold & (rng.random(gold.shape) < 0.6)
    papers = [
        {
            "sentences": ["s"] * int(size),
            "moves": {m: (np.flatnonzero(part[:, i]) + 1).tolist() for i, m in enumerate(MOVES.names)},
        }
        for size, part in zip(sizes, np.split(gold, np.cumsum(sizes)[:-1]), strict=True)
    ]
    return papers, gold, first, second, np.repeat(np.arange(30), sizes)


def test_counts_give_the_scores_and_intervals_of_the_arrays() -> None:
    papers, gold, first, second, groups = random_gold(1)
    one, other = (
        counts.confusion(papers, baseline.as_found(said, papers, MOVES.names), MOVES.names) for said in (first, second)
    )
    assert one.shape == (30, 8, 3)
    assert counts.f1(one.sum(0)) == pytest.approx(metrics.f1_per_move(gold, first))
    expected = metrics.bootstrap_difference(gold, first, second, groups, rounds=300, seed=5)
    found = counts.difference(one, other, rounds=300, seed=5)
    assert (found.value, found.low, found.high) == pytest.approx(expected)
    assert counts.verdict(found) == "better"
    same = counts.difference(one, one, rounds=100)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert counts.verdict(same) == "no difference beyond noise"


def test_an_interval_holds_its_value_and_does_not_depend_on_how_resamples_are_grouped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    papers, _, first, _, _ = random_gold(2)
    table = counts.confusion(papers, baseline.as_found(first, papers, MOVES.names), MOVES.names)
    before = counts.scores(table, MOVES.names, rounds=200, seed=3)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 7)
    assert counts.scores(table, MOVES.names, rounds=200, seed=3) == before
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in before.values())


def test_a_move_that_nobody_judged_counts_nothing_and_a_failed_paper_misses_everything() -> None:
    paper = {**gold_row(0, claim=[2], evidence=[3]), "judged": ["claim"]}
    table = counts.confusion([paper, paper], [{"claim": [2, 1], "evidence": [1]}, {}], MOVES.names)
    assert table[0, 0].tolist() == [1, 1, 0]
    assert table[1, 0].tolist() == [0, 0, 1]
    assert not table[:, 1:].any()


# ---- consistency ----


def test_consistency_counts_what_is_named_in_which_order_and_how_deep() -> None:
    moves = ("claim", "evidence")
    sentences = ["one two", "three four five six"]
    there = [
        consistency.answered({"claim": [1], "evidence": [1, 2]}, sentences, ("claim", "evidence")),
        consistency.answered({"claim": [2], "evidence": []}, sentences, ("evidence", "claim")),
        consistency.answered({"claim": [], "evidence": []}, sentences, ("claim",)),
        None,
    ]
    found = consistency.measure(there, moves)
    assert (found.complete, found.in_order, found.all_stated) == (0.5, 0.25, 0.25)
    assert found.stated == 1
    claim = found.depth["claim"]
    assert (claim.papers, claim.sentences, claim.words, claim.words_spread) == (2, 1, 3, 1)
    assert claim.variation == pytest.approx(1 / 3)
    assert found.depth["evidence"].words_spread == 0
    assert found.overall.papers == 3


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('```json\n{"evidence": [1], "claim": [2], "mood": []}\n```', ("evidence", "claim")),
        ('Sure! {"claim": [1]}\n</annotation> {"evidence": [2]}', ("claim",)),
        ("claim: 1", ()),
        ("[1, 2]", ()),
    ],
)
def test_the_order_of_an_answer_is_read_from_what_was_written(text: str, named: tuple[str, ...]) -> None:
    assert names_in(text, MOVES.names) == named


# ---- gold ----


def test_a_corrected_csv_of_annotate_is_gold(place: Path) -> None:
    rows = [gold_row(0, claim=[2], evidence=[3, 2]), gold_row(1, method=[2])]
    records = [
        {
            **row,
            "status": "ok",
            "moves": {
                m: {"text": " ".join(row["sentences"][n - 1] for n in numbers), "sentences": numbers} if numbers else None
                for m, numbers in row["moves"].items()
            },
        }
        for row in rows
    ]
    inputs = [{"id": row["id"], "title": row["title"], "abstract": row["abstract"]} for row in rows]
    write_records(place / "out.csv", records, moves=MOVES.names, rows=inputs, fieldnames=["id", "title", "abstract"])
    papers, notes = read_gold(place / "out.csv", MOVES)
    assert [(paper["id"], paper["moves"]) for paper in papers] == [(row["id"], row["moves"]) for row in rows]
    assert notes == []
    assert all(paper["judged"] == list(MOVES.names) for paper in papers)


def test_decisions_of_a_review_are_gold_for_the_moves_that_were_reviewed(place: Path) -> None:
    row = {**gold_row(0, claim=[2], evidence=[1]), "reviewed": ["claim"], "annotators": 1}
    (paper,), _ = read_gold(write_gold(place / "gold.jsonl", row), MOVES)
    assert paper["judged"] == ["claim"]


def test_texts_without_numbers_are_found_again_and_what_is_not_is_not_scored(place: Path) -> None:
    with (place / "mine.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["id", "title", "abstract", *MOVES.names])
        writer.writeheader()
        texts = {"claim": PAPERS[0][2][1], "evidence": "Purple elephants dance quietly."}
        abstract = " ".join(PAPERS[0][2])
        writer.writerow({"id": "a", "title": "t", "abstract": abstract, **dict.fromkeys(MOVES.names, ""), **texts})
    (paper,), notes = read_gold(place / "mine.csv", MOVES)
    assert paper["moves"]["claim"] == [2]
    assert paper["judged"] == [name for name in MOVES.names if name != "evidence"]
    assert "1 cells not scored" in notes[0]


def test_wrong_gold_is_one_line(place: Path) -> None:
    row = gold_row(0, claim=[7])
    with pytest.raises(InputError, match=r"gold\.jsonl line 1: claim rests on sentence 7 of 3"):
        read_gold(write_gold(place / "gold.jsonl", row), MOVES)
    with pytest.raises(InputError, match="no such file"):
        read_gold(place / "none.csv", MOVES)
    failed = {"id": "a", "status": "error", "abstract": "x", "moves": dict.fromkeys(MOVES.names)}
    with pytest.raises(InputError, match="holds no gold papers"):
        read_gold(write_gold(place / "gold.jsonl", failed), MOVES)


# ---- the picture ----


def test_the_picture_is_well_formed_xml_whatever_a_model_is_called() -> None:
    rows = [("a <b> & \x00", [svg.Mark(0, 0.5, 0.4, 0.6)]), ("x" * 99, [svg.Mark(1, 1.2, -1, 2)])]
    picture = svg.page(
        [svg.legend(["<&>"]), svg.forest("f", rows), svg.bars("b", [("m", None, 0), ("n", 12.0, 1)], "MB")], "t"
    )
    root = ElementTree.fromstring(picture)
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<&>" in texts
    assert "not measured" in texts
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")
    inside = [float(x) for x in re.findall(r'cx="([\d.]+)"', picture)]
    assert all(svg.LABEL <= x <= svg.WIDTH for x in inside)


def test_models_in_one_folder_are_called_by_what_differs() -> None:
    names = ["/far/away/out/model/adapter", "/far/away/out/a.gguf", "nanda-annotator:mini"]
    assert list(report.labels({"models": [{"model": name} for name in names]}).values()) == [
        "model/adapter",
        "a.gguf",
        "nanda-annotator:mini",
    ]
    for others in (["out/a.gguf"], ["out/a.gguf", "/out/b.gguf"]):
        assert report.labels({"models": [{"model": name} for name in others]}) == dict(zip(others, others, strict=True))


# ---- the command ----


@pytest.mark.skipif(not (ROOT / "registry/nanda-annotator/mini.gguf").exists(), reason="the bundled model is not here")
def test_a_model_scored_on_its_own_annotations_is_right_and_a_second_run_asks_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xllamacpp")
    from harness.cli import main

    with (place / "papers.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "title", "abstract"])
        writer.writerows([identity, title, " ".join(sentences)] for identity, title, sentences in PAPERS)
    assert main(["/annotate papers.csv save to mine.csv"]) == 0
    arguments = ["annotate", "--models", "nanda-annotator:mini", "--gold", "mine.csv", "--rounds", "100"]
    assert command.main([*arguments, "-o", "scores.json", "--plot", "scores.svg"]) == 0
    out = capsys.readouterr().out
    assert "1.000 [1.000, 1.000]" in out
    found = json.loads((place / "scores.json").read_text())
    (row,) = found["models"]
    assert row["macro_f1"] == [1, 1, 1]
    assert (np.array(row["counts"])[:, :, 1:] == 0).all()
    assert row["consistency"]["depth"] == found["gold_consistency"]["depth"]
    assert row["papers_per_minute"] > 0
    assert row["peak_bytes"] is None or row["peak_bytes"] > 10_000_000
    ElementTree.parse(place / "scores.svg")
    assert found["set"] == "mine"
    assert (len(found["papers"]), np.array(row["counts"]).shape) == (3, (3, 8, 3))

    from harness.models.embedded import EmbeddedModel

    monkeypatch.setattr(EmbeddedModel, "generate", lambda *_, **__: pytest.fail("asked again"))
    assert command.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"] == found["models"]  # speed and memory were kept, too


@pytest.fixture
def shuffled() -> Iterator[OllamaServer]:
    """A daemon whose model names the moves in another order, leaves some out, and once writes no JSON at all."""

    def answer(body: dict[str, Any]) -> Iterator[str]:
        asked = body["messages"][-1]["content"] if "messages" in body else ""
        names = MOVES.names if body.get("format") else ("evidence", "claim")
        yield "no idea" if "Plain tables" in asked else json.dumps({name: [2] if name == "claim" else [] for name in names})

    with OllamaServer(answer) as server:
        server.add("chatty", context=4096)
        yield server


def test_two_ways_of_asking_one_model_differ_in_consistency(
    place: Path, shuffled: OllamaServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", shuffled.url)
    write_gold(place / "gold.jsonl", *(gold_row(n, claim=[2]) for n in range(3)))
    arguments = ["annotate", "--models", "chatty", "--gold", "gold.jsonl", "--rounds", "100", "--json"]
    results = {}
    for way in ("--offline", "--unconstrained"):
        assert command.main([*arguments, way]) == 1
        out, err = capsys.readouterr()
        assert "1 of 3 papers without an annotation, first p-3: the model's answer is no JSON" in err
        (results[way],) = json.loads(out)["models"]
    forced, free = results["--offline"], results["--unconstrained"]
    assert forced["macro_f1"] == free["macro_f1"]
    assert forced["f1"]["claim"][0] == pytest.approx(2 * 2 / (2 * 2 + 1), abs=1e-4)
    assert (forced["consistency"]["in_order"], free["consistency"]["in_order"]) == (pytest.approx(2 / 3, abs=1e-3), 0)
    assert free["consistency"]["complete"] == 0
    assert forced["failed"] == 1


@pytest.mark.parametrize(
    ("arguments", "line", "code"),
    [
        (["--models", "a,a", "--gold", "gold.jsonl"], "names no model, or one twice", 2),
        (["--models", "a", "--gold", "gold.jsonl", "--plot", "x.png"], "the plot is an SVG", 2),
        (["--models", "a", "--gold", "gold.jsonl", "--rounds", "3"], "--rounds 3 is too few", 2),
        (["--models", "a", "--gold", "none.jsonl"], "no such file", 1),
        (["--models", "nosuchmodel", "--gold", "gold.jsonl"], "the registry has no model nosuchmodel", 3),
        (["--models", "folder", "--gold", "gold.jsonl"], "neither config.json nor adapter_config.json", 1),
        (["--models", "a", "--gold", "gold.jsonl", "--contract", "x@9"], "is no prompt contract", 1),
    ],
)
def test_wrong_usage_is_one_line(
    place: Path, arguments: list[str], line: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write_gold(place / "gold.jsonl", gold_row(0, claim=[2]))
    (place / "folder").mkdir()
    assert command.main(["annotate", *arguments]) == code
    err = capsys.readouterr().err.splitlines()
    assert line in err[-1]
