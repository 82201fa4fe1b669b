"""The annotator's road: its configuration, the wiring of its steps, the loop, the registry's gate."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from finetune import road as command
from finetune.evaluation.baseline import LINEAR
from finetune.roads import annotator, gate, held_back, loop
from finetune.roads.config import RoadConfig, parse
from finetune.roads.steps import Plan, Step
from harness.config import ROOT
from harness.errors import InputError, UsageError
from harness.registry import Entry, Gguf, find, write
from skills.annotate.moves import load_framework

MOVES = load_framework().names


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a data folder of its own."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- the annotator's road ----


def config(place: Path, **changes: Any) -> RoadConfig:
    for name in ("gold.jsonl", "dev.jsonl", "agent.csv", "abstracts.jsonl"):
        (place / name).write_text("x")
    (place / "train.yaml").write_text(yaml.safe_dump({"base": str(ROOT / "registry" / "marginalia-base" / "mini")}))
    values = {
        "name": "nanda-annotator:mine",
        "out": "out",
        "train": "train.yaml",
        "gold": ["gold.jsonl"],
        "held_out": "dev.jsonl",
        "unlabelled": "abstracts.jsonl",
    }
    return parse({**values, **changes}, "test")


needs_base = pytest.mark.skipif(
    not (ROOT / "registry" / "marginalia-base" / "mini").exists(), reason="the bundled base is not in this checkout"
)


@needs_base
def test_each_step_takes_what_an_earlier_one_makes(place: Path) -> None:
    steps = annotator.road(config(place, agent=["agent.csv"]), loop=100)
    names = [step.name for step in steps]
    once = ["build", "hold-back", "train", "export", "evaluate", "gate"]
    second = ["pick", "annotate", "loop-curate", *(f"loop-{name}" for name in once), "helped"]
    assert names == ["curate", *once, *second]
    assert len(set(names)) == len(names)
    made: set[Path] = set()
    for step in steps:
        for path in step.inputs:
            there = path.exists() or any(path == done or path.is_relative_to(done) for done in made)
            # a folder of which an earlier step makes every file counts as made
            assert there or any(done.is_relative_to(path) for done in made), (step.name, path)
        made |= set(step.outputs)
        for name in step.code:
            assert (ROOT / name).exists(), (step.name, name)
    build = next(step for step in steps if step.name == "loop-build")
    assert f"--curated={Path('out/loop/curated.csv')}" in build.command


@needs_base
def test_the_commands_are_those_of_the_tools(place: Path) -> None:
    """Every step's arguments are accepted by the parser of the program that it calls."""
    from finetune import build_finetune_from_annotations as builder
    from finetune import eval as evaluation
    from finetune import export as exporter
    from finetune import train

    steps = {step.name: step for step in annotator.road(config(place, settings={"epochs": 1}, limit=9, minimum=0.5))}
    built = builder.parser().parse_args(list(steps["build"].command[2:]))
    assert (built.limit, built.held_out, built.contract) == (9, ["dev.jsonl"], "mark")
    trained = train.build_parser().parse_args([*steps["train"].command[2:], *steps["train"].resume])
    assert trained.resume == "auto"
    from finetune.sft.config import load

    loaded = load(trained.config, trained.set)
    assert (loaded.epochs, loaded.data, loaded.out, loaded.contract) == (1, "out/data", "out/model", "annotate/mark@1")
    scored = evaluation.parser().parse_args(list(steps["evaluate"].command[1:]))
    ggufs = [f"out/nanda-annotator{end}.gguf" for end in ("", "-q8_0", "-q4_K_M")]
    assert scored.models.split(",") == ["out/model/adapter", "out/merged", *ggufs]
    assert str(scored.linear) == "gold.jsonl"
    planned = exporter.plan_of(exporter.parser().parse_args(list(steps["export"].command[2:])))
    assert (planned.serve, planned.held_back, planned.out) == ("q4_K_M", Path("out/held_back.jsonl"), Path("out"))
    assert (planned.gate.set, planned.gate.minimum) == ("dev", 0.5)
    assert {planned.out / exporter.file_name(planned.name, kind) for kind in planned.types} <= set(steps["export"].outputs)


@needs_base
def test_chat_contracts_need_no_thresholds(place: Path) -> None:
    names = [step.name for step in annotator.road(config(place, contract="quote"))]
    assert names == ["build", "train", "export", "evaluate", "gate"]


def test_a_base_of_the_hub_is_the_same_before_and_after_it_was_fetched(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else a road that is given again would train its 7B model again, from the start."""
    from finetune.sft import base as bases

    (place / "train.yaml").write_text("base: Qwen/Qwen2.5-7B-Instruct\n")
    monkeypatch.setattr(bases, "_cached", lambda name: None)
    before = annotator.road(config(place, contract="quote"))
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "config.json").write_text("{}")
    monkeypatch.setattr(bases, "_cached", lambda name: cache)
    assert annotator.road(config(place, contract="quote")) == before


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"goldd": ["x"]}, "unknown key 'goldd'; did you mean gold?"),
        ({"contract": "poem"}, "contract: 'poem' is none"),
        ({"valid": 1}, "valid: 1 is no share"),
        ({"limit": -1}, "limit: -1 is below 0"),
        ({"minimum": 74}, "minimum: 74 is no macro-F1"),
        ({"limit": "many"}, "limit: 'many' is not a whole number"),
        ({"gold": []}, "gold is missing"),
        ({"gold": 5}, "gold: 5 is not a list of texts"),
        ({"promote": "yes"}, "promote: 'yes' is not true or false"),
        ({"settings": {"out": "x"}}, "settings: out is chosen by the road"),
        ({"score": ["paper"]}, "score: paper is not known"),
        ({"name": "no name"}, "is not a model name"),
    ],
)
def test_a_wrong_configuration_is_one_line(place: Path, change: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError, match=line.replace("?", r"\?")):
        config(place, **change)


def test_the_shipped_configuration_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    found = command.configured(command.DEFAULT, ["limit=800", "out=elsewhere", "compare=[a, b]"])
    assert (found.limit, found.out, found.compare) == (800, "elsewhere", ("a", "b"))
    large = command.configured(ROOT / "finetune" / "configs" / "road-annotator-7b.yaml", [])
    assert (large.contract, large.types[-1], large.held_out) == ("quote", "q4_K_M", found.held_out)
    assert (ROOT / large.train).is_file()
    assert command.main(["annotator", "--set", "limit"]) == 2
    assert "has no '='" in capsys.readouterr().err


@needs_base
def test_a_dry_run_of_the_command_shows_the_plan(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = config(place)
    values = {"name": made.name, "out": "out", "train": "train.yaml", "gold": "gold.jsonl", "held_out": "dev.jsonl"}
    (place / "road.yaml").write_text(yaml.safe_dump(values))
    assert command.main(["annotator", "--config", "road.yaml", "--dry-run", "--json"]) == 0
    out, err = capfd.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["step"] for row in rows] == ["build", "hold-back", "train", "export", "evaluate", "gate"]
    assert {row["state"] for row in rows} == {"run"}
    assert "make the data set" in err
    assert command.main(["annotator", "--config", "road.yaml", "--loop", "5"]) == 1
    assert "names no unlabelled abstracts" in capfd.readouterr().err


# ---- the loop's own steps, and the gate ----


def test_the_loop_takes_no_paper_that_is_labelled() -> None:
    sentences = "One is here. Two is there. Three is near. Four is far."
    rows = [{"id": str(n), "title": f"Paper {n}", "abstract": f"Number {n} counts. {sentences}"} for n in range(20)]
    known = [{"id": "3", "title": "", "abstract": ""}, {"id": "", "title": "Paper 4", "abstract": ""}]
    chosen = loop.choose(rows, known, 18, seed=1)
    assert {row["id"] for row in chosen} == {str(n) for n in range(20)} - {"3", "4"}
    assert chosen == loop.choose(rows, known, 18, seed=1)
    with pytest.raises(InputError, match="only 18 abstracts"):
        loop.choose(rows, known, 19, seed=1)


@pytest.mark.skipif(not (ROOT / "registry/nanda-annotator/mini.gguf").exists(), reason="the bundled model is not here")
def test_the_loop_annotates_without_touching_the_corpus(place: Path) -> None:
    pytest.importorskip("xllamacpp")
    with (place / "papers.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "title", "abstract"])
        writer.writerow(
            ["a", "Caches", "Long texts do not fit. We present PocketCache, a new cache. It is four times smaller."]
        )
        writer.writerow(["b", "Nothing", "Too short."])
    gguf = ROOT / "registry" / "nanda-annotator" / "mini.gguf"
    arguments = [
        "annotate",
        "papers.csv",
        "--model",
        str(gguf.with_name("mini*.GGUF")),
        "--home",
        "out",
        "--out",
        "out/a.csv",
    ]
    assert loop.main(arguments) == 1  # one row has no abstract
    with (place / "out" / "a.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["annotation_status"] for row in rows] == ["ok", "error"]
    assert rows[0]["claim_sentences"] == "2"
    assert not list((place / "home").glob("corpus*"))


def row(model: str, digest: str, right: float, seed: int) -> dict[str, Any]:
    """Scores of a model that finds a share of what gold states, on 60 papers."""
    from finetune.evaluation.report import quality

    rng = np.random.default_rng(seed)
    hits = rng.binomial(4, right, (60, 8))
    table = np.stack([hits, np.zeros_like(hits), 4 - hits], -1)
    return {"model": model, "digest": digest, "failed": 0, **quality(table, MOVES, rounds=200, seed=0)}


def scores(*rows: dict[str, Any]) -> dict[str, Any]:
    papers = [str(n) for n in range(60)]
    return {"set": "dev", "papers": papers, "rounds": 200, "seed": 0, "models": list(rows)}


def entry(place: Path, name: str, digest: str, **more: Any) -> Entry:
    """An entry in the user's registry with a file whose hash is that of its contents."""
    import hashlib

    tag = name.rpartition(":")[2]
    data = digest.encode()
    folder = place / "home" / "registry" / name.rpartition(":")[0]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{tag}.gguf").write_bytes(data)
    gguf = Gguf(f"{tag}.gguf", hashlib.sha256(data).hexdigest(), len(data))
    return write(Entry(name=name, task="annotate", contract="annotate/mark@1", gguf=gguf, **more))


def digest_of(found: Entry) -> str:
    assert found.gguf is not None
    return f"sha256:{found.gguf.sha256}"


@pytest.fixture
def served(place: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Entry, Entry]:
    """A model that is served, and a candidate of its family; the shipped registry is out of sight."""
    from harness import registry
    from harness.registry import Gate

    own = place / "home" / "registry"
    monkeypatch.setattr(registry, "folders", lambda: (own, place / "none"))
    old = entry(
        place, "mine:old", "old", status="active", scores={"dev": {"macro_f1": 0.6}}, gate=Gate("dev", "macro_f1", 0.1)
    )
    return old, entry(place, "mine:new", "new", gate=Gate("dev", "macro_f1", 0.1))


@pytest.mark.parametrize(
    ("share", "linear", "status", "line"),
    [
        (0.75, 0.5, "active", ""),
        (0.59, 0.5, "active", ""),
        (0.4, 0.2, "candidate", "worse beyond noise: mine:new minus mine:old"),
        (0.6, 0.9, "candidate", "is not above the linear baseline's"),
    ],
)
def test_the_gate_serves_what_is_not_worse_beyond_noise(
    place: Path, served: tuple[Entry, Entry], share: float, linear: float, status: str, line: str
) -> None:
    old, new = served
    rows = [("out/new.gguf", digest_of(new), share, 1), ("mine:old", digest_of(old), 0.6, 2), (LINEAR, "", linear, 3)]
    found = scores(*(row(*values) for values in rows))
    (place / "scores.json").write_text(json.dumps(found))
    assert gate.main(["mine:new", "--scores", "scores.json", "--promote", "--out", "gate.json"]) == 0
    verdict = json.loads((place / "gate.json").read_text())
    assert verdict["status"] == status
    assert line in verdict["held_back"]
    after, previous = find("mine:new"), find("mine:old")
    assert after is not None
    assert previous is not None
    assert (after.status, previous.status) == (status, "retired" if status == "active" else "active")
    assert after.score == found["models"][0]["macro_f1"][0]


def test_the_gate_only_judges_what_was_scored(
    place: Path, served: tuple[Entry, Entry], capsys: pytest.CaptureFixture[str]
) -> None:
    old, _ = served
    (place / "scores.json").write_text(json.dumps(scores(row("mine:old", digest_of(old), 0.9, 1))))
    arguments = ["--scores", "scores.json", "--promote", "--out", "gate.json"]
    assert gate.main(["mine:new", *arguments]) == 1
    assert "mine:new: its GGUF was not scored" in capsys.readouterr().err
    assert gate.main(["mine:none", *arguments]) == 1
    assert "the registry has no candidate mine:none" in capsys.readouterr().err
    assert not (place / "gate.json").exists()


def test_what_is_served_is_not_exported_over(place: Path, served: tuple[Entry, Entry]) -> None:
    plans = [Plan(Step("export", "", ()), "run", "", None)]
    assert command.may_export(plans, replace(RoadConfig(), name="mine:new"))
    with pytest.raises(UsageError, match="mine:old is served now"):
        command.may_export(plans, replace(RoadConfig(), name="mine:old"))
    assert command.may_export([replace(plans[0], state="skip")], replace(RoadConfig(), name="mine:old"))


def test_held_back_papers_are_the_gold_of_the_validation_rows() -> None:
    rows = [
        {"id": "2402.11651v2", "source": "gold"},
        {"id": "b#2", "source": "gold"},
        {"id": "c", "source": "curated"},
        {"id": "", "source": "gold"},
    ]
    gold = [{"id": name} for name in ("c", "b", "d", "arXiv:2402.11651", "row-4")]
    assert [paper["id"] for paper in held_back.select(rows, gold)] == ["b", "arXiv:2402.11651"]


def test_whether_the_second_lap_helped_is_a_paired_difference(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, share in (("out", 0.5), ("out/loop", 0.7)):
        (place / folder).mkdir(parents=True, exist_ok=True)
        rows = [row(f"{folder}/a-{kind}.gguf", kind, share, 1) for kind in ("f16", "q4_K_M")]
        (place / folder / "scores.json").write_text(json.dumps(scores(*rows, row("mine:old", "old", 0.9, 2))))
    assert loop.main(["helped", "out/scores.json", "out/loop/scores.json", "--out", "helped.json"]) == 0
    found = json.loads((place / "helped.json").read_text())
    assert found["verdict"] == "better"
    assert found["second"]["model"] == "out/loop/a-q4_K_M.gguf"
    assert found["difference"][0] == pytest.approx(found["second"]["macro_f1"][0] - found["first"]["macro_f1"][0], abs=2e-4)
    assert "better" in capsys.readouterr().err
