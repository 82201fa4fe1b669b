"""The commands of the expansion data road, from raw data to a data folder, their figures and their errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from expansion_samples import EXAMPLES, GOOD, example, write_lines

from finetune.dataset import analyze_data, clean_data, prepare_data, score_data
from finetune.dataset.expansion_schema import write_examples
from finetune.rewards.adversaries import ADVERSARIES

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = (
    "generate_data",
    "generate_offline",
    "generate_data_offline",
    "clean_data",
    "prepare_data",
    "score_data",
    "analyze_data",
)


def test_the_road_from_raw_to_a_data_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, cleaned, folder = tmp_path / "raw.jsonl", tmp_path / "clean.jsonl", tmp_path / "train"
    write_examples(raw, [*EXAMPLES, EXAMPLES[0]], overwrite=False)
    held = write_lines(tmp_path / "eval.jsonl", [{"query": "tuning of a harpsichord"}])
    text = write_lines(tmp_path / "eval.txt", ["# ours", "Moon phases on a calendar"])
    assert clean_data.main([str(raw), "-o", str(cleaned), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dropped"] == {"the query stands before": 1}
    command = [str(cleaned), "-o", str(folder), "--held-out", str(held), "--held-out", str(text), "--valid", "0.3"]
    assert prepare_data.main(command) == 0
    card = json.loads((folder / "card.json").read_text())
    rows = {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "valid")
    }
    assert card["contract"] == "expand@1"
    assert card["rows"] == {name: len(found) for name, found in rows.items()}
    assert card["dropped"] == {"the question stands in an evaluation set": 2}
    assert len({one["id"] for found in rows.values() for one in found}) == sum(card["rows"].values())
    assert not any("harpsichord" in one["query"] for found in rows.values() for one in found)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert prepare_data.main(command) == 2
    assert "repeat with --yes" in capsys.readouterr().err
    assert prepare_data.main([*command, "--yes"]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_folder_is_one_that_the_trainer_reads(tmp_path: Path) -> None:
    data = pytest.importorskip("finetune.sft.data", reason="the trainer is not in this checkout")
    write_examples(tmp_path / "clean.jsonl", EXAMPLES, overwrite=False)
    assert prepare_data.main([str(tmp_path / "clean.jsonl"), "-o", str(tmp_path / "train"), "--valid", "0.3"]) == 0
    folder = data.open_folder(tmp_path / "train", "expand@1")
    found = list(data.read_rows(folder.file("train")))
    assert found
    assert all(isinstance(row["prompt"], list) and row["completion"].startswith("hyde: ") for _, row in found)


def test_scores_and_adversaries_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_examples(tmp_path / "clean.jsonl", EXAMPLES, overwrite=False)
    assert score_data.main([str(tmp_path / "clean.jsonl"), "--worst", "2", "--adversaries", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [group["source"] for group in found["groups"]] == ["invented", "all"]
    assert found["groups"][0]["examples"] == len(EXAMPLES)
    assert found["groups"][0]["strict"] > 0.9
    assert len(found["worst"]) == 2
    assert set(found["adversaries"]) == set(ADVERSARIES)
    assert score_data.main([str(tmp_path / "clean.jsonl"), "--worst", "1"]) == 0
    assert "fixed template" not in capsys.readouterr().out


def test_analysis_counts_and_advises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        *EXAMPLES,
        EXAMPLES[0],
        example("tables, tide", ("lex", "x"), ("vec", "y")),
        example("tide table", ("lex", "z")),
    ]
    found = analyze_data.analyse(rows)
    assert found["examples"] == len(rows)
    assert found["repeated_queries"] == 1
    assert found["largest_stem"] == 2
    assert sum(found["query_length"].values()) == len(rows)
    assert found["lines"]["lex"]["characters"]["0%"] == 1
    assert any("ask what another one asks" in sentence for sentence in analyze_data.advice(found))
    write_examples(tmp_path / "rows.jsonl", rows, overwrite=False)
    plot = tmp_path / "data.svg"
    assert analyze_data.main([str(tmp_path / "rows.jsonl"), "--plot", str(plot)]) == 0
    assert plot.read_text().startswith("<svg")
    assert "1 repeated queries" in capsys.readouterr().out
    assert analyze_data.main([str(tmp_path / "rows.jsonl"), "--plot", str(tmp_path / "data.png")]) == 2


@pytest.mark.parametrize(
    ("main", "argv", "status", "message"),
    [
        (clean_data.main, ["missing.jsonl", "-o", "out.jsonl"], 1, "missing.jsonl: cannot be read"),
        (clean_data.main, ["good.jsonl", "-o", "good.jsonl", "--yes"], 2, "is also an input"),
        (clean_data.main, ["good.jsonl", "-o", "out.csv"], 2, "written as .jsonl"),
        (clean_data.main, ["good.jsonl", "-o", "out.jsonl", "--repeats", "1"], 2, "is no template"),
        (prepare_data.main, ["good.jsonl", "--valid", "1"], 2, "not a share"),
        (prepare_data.main, ["good.jsonl", "-o", "folder", "--held-out", "bad.jsonl"], 1, "bad.jsonl: line 1 has no query"),
        (prepare_data.main, ["good.jsonl", "-o", "folder"], 1, "a side of the split is empty"),
        (score_data.main, ["good.jsonl", "--worst", "-1"], 2, "too few"),
        (score_data.main, ["good.jsonl", "--adversaries"], 1, "too few to test a reward"),
        (score_data.main, ["bad.jsonl"], 1, "bad.jsonl: line 1: query: Field required"),
    ],
)
def test_wrong_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    main: Any, argv: list[str], status: int, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "good.jsonl", [GOOD])
    write_lines(tmp_path / "bad.jsonl", [{"text": "x"}])
    assert main(argv) == status
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_comes_without_anything_heavy(script: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.argv = ['{script}.py', '--help']\n"
        f"from finetune.dataset import {script} as command\n"
        "code = command.main()\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'litellm', 'numpy'} & set(sys.modules)\n"
        "sys.exit(code or len(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert f"python finetune/dataset/{script.replace('generate_data_offline', 'generate_offline')}.py" in done.stdout


def test_a_script_runs_as_a_file_from_anywhere(tmp_path: Path) -> None:
    write_examples(tmp_path / "rows.jsonl", EXAMPLES[:2], overwrite=False)
    command = [sys.executable, str(ROOT / "finetune" / "dataset" / "analyze_data.py"), "rows.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 examples")
