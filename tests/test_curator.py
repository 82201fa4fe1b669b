"""curator.py end to end without a model: files in, kept rows and a log out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from curator import main
from skills.annotate.moves import load_framework
from tests.test_curator_checks import ABSTRACT, PROSE, QUOTES, SENTENCES, TITLE

MOVES = load_framework().names
BAD = {**QUOTES, "evidence": QUOTES["evidence"].replace("38.5", "83.5")}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a data folder of its own, and no daemon."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_csv(
    path: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = ("id", "title", "abstract", *MOVES)
) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def read_log(path: Path = Path("curation_log.jsonl")) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def row(name: str, texts: dict[str, str], **more: str) -> dict[str, str]:
    return {"id": name, "title": TITLE, "abstract": ABSTRACT, **texts, **more}


def record(name: str, texts: dict[str, str], **more: Any) -> dict[str, Any]:
    moves = {move: {"text": texts[move], "sentences": []} if move in texts else None for move in MOVES}
    return {"id": name, "title": TITLE, "status": "ok", "moves": moves, "error": None, "abstract": ABSTRACT, **more}


def test_a_table_keeps_its_columns_and_loses_its_bad_rows(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = ("note", "id", "title", "abstract", *MOVES, "annotation_status", "annotation_error")
    rows = [
        row("good", QUOTES, note="=1+1, kept; as it is", annotation_status="ok"),
        row("bad", BAD, annotation_status="ok"),
        row("failed", {}, annotation_status="error", annotation_error="too long for an abstract"),
        row("prose", PROSE, annotation_status="ok"),
    ]
    write_csv(place / "a.csv", rows, columns)
    assert main(["a.csv", "--out", "kept.csv", "--log", "log.jsonl"]) == 0
    kept = read_csv(place / "kept.csv")
    assert [one["id"] for one in kept] == ["good", "prose"]
    assert kept[0] == {**dict.fromkeys(columns, ""), **rows[0]}
    log = read_log(place / "log.jsonl")
    assert [entry["verdict"] for entry in log] == ["kept", "rejected", "failed", "kept"]
    assert "too long for an abstract" in log[2]["error"]
    assert log[1]["votes"][0]["persona"] == "fact-checker"
    assert len(log[1]["votes"]) == 5
    assert {vote["source"] for vote in log[1]["votes"]} == {"checks"}
    assert all(vote["reason"] and 1 <= vote["score"] <= 5 for vote in log[1]["votes"])
    assert "83.5" in log[1]["votes"][0]["reason"]
    err = capsys.readouterr().err
    assert "no chat model is here, the deterministic checks decide alone" in err
    assert "2 of 3 annotations kept (67%), 1 rejected" in err
    assert "1 rows not judged" in err


def test_records_are_written_as_they_were(place: Path) -> None:
    good = record("good", QUOTES, style="quote", own_key={"deep": ["ä", 1.5, None]})
    lines = [
        json.dumps(good, ensure_ascii=False),
        json.dumps(record("bad", BAD)),
        json.dumps(record("error", {}, status="error")),
    ]
    (place / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert main(["a.jsonl", "--out", "kept.jsonl"]) == 0
    assert (place / "kept.jsonl").read_text(encoding="utf-8") == lines[0] + "\n"
    (place / "a.json").write_text(f"[{','.join(lines)}]", encoding="utf-8")
    assert main(["a.json", "--out", "kept.json", "--log", "again.jsonl"]) == 0
    assert json.loads((place / "kept.json").read_text(encoding="utf-8")) == [good]
    assert [e["verdict"] for e in read_log()] == [e["verdict"] for e in read_log(place / "again.jsonl")]


def test_gold_rows_and_flat_rows_can_be_curated(place: Path) -> None:
    gold = {
        "arxiv_id": "1",
        "title": TITLE,
        "abstract": ABSTRACT,
        "sentences": list(SENTENCES),
        "moves": {"claim": [3], "method": [4]},
    }
    flat = {"arxiv_id": "2", "abstract": ABSTRACT, **PROSE}
    broken = {"arxiv_id": "3", "abstract": ABSTRACT, "moves": {"claim": [30]}}
    (place / "a.jsonl").write_text("".join(json.dumps(value) + "\n" for value in (gold, flat, broken)), encoding="utf-8")
    assert main(["a.jsonl"]) == 0
    log = read_log()
    assert [(entry["id"], entry["verdict"]) for entry in log] == [("1", "kept"), ("2", "kept"), ("3", "failed")]
    assert log[2]["error"] == "move claim names sentence 30 of 8"
    assert (place / "a_curated.jsonl").exists()


def test_not_stated_in_words_is_not_stated(place: Path) -> None:
    write_csv(place / "a.csv", [row("1", {**QUOTES, "limitation": "Not stated.", "scope": "N/A", "implication": "-"})])
    assert main(["a.csv"]) == 0
    assert read_log()[0]["verdict"] == "kept"


def test_quorum_and_threshold_decide(place: Path) -> None:
    write_csv(place / "a.csv", [row("1", {key: text for key, text in QUOTES.items() if key != "claim"}), row("2", BAD)])
    for quorum, threshold, verdicts in (
        (5, 4, ["kept", "rejected"]),
        (5, 5, ["rejected", "rejected"]),
        (1, 1, ["kept", "kept"]),
    ):
        assert main(["a.csv", "--quorum", str(quorum), "--threshold", str(threshold), "--yes"]) == 0
        log = read_log()
        assert [entry["verdict"] for entry in log] == verdicts
        assert {(entry["quorum"], entry["threshold"]) for entry in log} == {(quorum, threshold)}
        assert len(read_csv(place / "a_curated.csv")) == verdicts.count("kept")
    keys = set()
    for quorum in (2, 3):
        main(["a.csv", "--quorum", str(quorum), "--yes"])
        keys.add(read_log()[0]["key"])
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("argv", "text", "said"),
    [
        (["none.csv"], None, "none.csv: no such file"),
        (["a.csv"], "", "a.csv is empty"),
        (["a.csv"], "id,abstract,claim\n", "has no column evidence, method"),
        (["a.csv"], "id,title\n1,x\n", "has no column claim"),
        (["a.csv"], ",".join(("id", "abstract", *MOVES)) + "\n", "has no rows"),
        (["a.csv"], ",".join(("id", *MOVES)) + "\n1" + ",x" * 8 + "\n", "no column holds the abstract"),
        (["a.jsonl"], '{"id": "1", "abstract": "x"}\n', "no row has any of the moves"),
        (["a.jsonl"], '{"id": "1", "moves": {}}\n[]\n', "a.jsonl line 2: is no JSON object"),
        (["a.jsonl"], "{nonsense\n", "a.jsonl line 1: is no JSON"),
        (["a.parquet"], "PAR1", "cannot curate .parquet"),
        ([], None, "nothing to curate"),
        (["a.csv", "--quorum", "6"], None, "--quorum 6: there are 5 personas"),
        (["a.csv", "--threshold", "9"], None, "scores go from 1 to 5"),
        (["a.csv", "--workers", "0"], None, "--workers 0"),
        (["a.csv", "--plot", "x.png"], None, "plots are written as .html"),
        (["a.csv", "--model", "m", "--checks-only"], None, "exclude each other"),
        (["a.csv", "--personas", "none.toml"], None, "no such personas file"),
    ],
)
def test_wrong_input_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], argv: list[str], text: str | None, said: str
) -> None:
    if text is not None:
        (place / argv[0]).write_text(text, encoding="utf-8")
    assert main([*argv]) in (1, 2)
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
    assert not list(place.glob("*curated*"))


def test_nothing_is_overwritten_unasked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(place / "a.csv", [row("1", QUOTES)])
    assert main(["a.csv", "--out", "a.csv", "--yes"]) == 2
    assert main(["a.csv", "--out", "b.jsonl"]) == 2
    assert main(["a.csv", "--out", "../b.csv"]) == 2
    assert main(["a.csv"]) == 0
    assert main(["a.csv"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["a.csv", "--yes"]) == 0


def test_the_same_input_gives_the_same_bytes(place: Path) -> None:
    write_csv(place / "a.csv", [row(str(number), texts) for number, texts in enumerate((QUOTES, BAD, PROSE))])
    main(["a.csv", "--workers", "3"])
    first = (place / "curation_log.jsonl").read_bytes(), (place / "a_curated.csv").read_bytes()
    main(["a.csv", "--yes", "--fresh"])
    again = [json.loads(line) for line in (place / "curation_log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [e["votes"] for e in again] == [json.loads(line)["votes"] for line in first[0].decode().splitlines()]
    main(["a.csv", "--yes"])
    assert first == ((place / "curation_log.jsonl").read_bytes(), (place / "a_curated.csv").read_bytes())


def test_an_empty_result_has_its_header(place: Path) -> None:
    write_csv(place / "a.csv", [row("1", BAD)])
    assert main(["a.csv"]) == 0
    assert (place / "a_curated.csv").read_text(encoding="utf-8").splitlines() == [
        ",".join(("id", "title", "abstract", *MOVES))
    ]


def test_statistics_plot_and_json_of_a_run_and_of_a_log(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(place / "a.csv", [row("1", QUOTES), row("2", BAD), row("<script>", BAD)])
    assert main(["a.csv", "--stats", "--plot", "p.html"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split("\t") == ["fact-checker", "3", "0", "0", "33%", "2.33", "2", "0", "0", "0", "1"]
    assert "invented-number\t2" in lines
    page = (place / "p.html").read_text(encoding="utf-8")
    assert page.count("<rect") >= 5
    assert "fact-checker" in page
    assert "<script>" not in page
    assert main(["--log", "curation_log.jsonl", "--stats", "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert stats["verdicts"] == {"kept": 1, "rejected": 2}
    assert stats["rejected_by_check"] == {"invented-number": 2}
    counts = {"name": "cataloguer", "votes": 3, "by_model": 0, "unreadable": 0, "passed": 3, "mean": 5.0}
    assert stats["personas"][3] == counts | {"scores": {"1": 0, "2": 0, "3": 0, "4": 0, "5": 3}}
    assert main(["a.csv", "--json", "--yes"]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["1", "2", "<script>"]
    (place / "no.jsonl").write_text('{"id": "1"}\n', encoding="utf-8")
    assert main(["--log", "no.jsonl", "--stats"]) == 1
    assert "no.jsonl line 1: is no line of a curation log" in capsys.readouterr().err


def test_control_characters_never_reach_the_terminal(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = record("\x1b]0;title\x07", {**BAD, "claim": "\x1b[31mTideNet\ud800 is 99.9% red"})
    (place / "a.jsonl").write_text(json.dumps(value) + "\n", encoding="utf-8")
    assert main(["a.jsonl", "-v", "--json", "--stats"]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\x1b" not in (place / "curation_log.jsonl").read_text(encoding="utf-8")
    assert main(["--log", "curation_log.jsonl", "--stats"]) == 0


def test_other_personas_are_another_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "one.toml").write_text('[[personas]]\nname = "counter"\nlens = "Numbers."\nbreaks = ["invented-number"]\n')
    write_csv(place / "a.csv", [row("1", BAD), row("2", {**QUOTES, "claim": TITLE})])
    assert main(["a.csv", "--personas", "one.toml", "--quorum", "1"]) == 0
    assert [entry["verdict"] for entry in read_log()] == ["rejected", "kept"]
    for text, said in (
        ("personas = 3", "needs 1 to 15"),
        ('[[personas]]\nname = "A B"\nlens = "x"', "must be lower-case"),
        ('[[personas]]\nname = "a"\n', "has no lens"),
        ('[[personas]]\nname = "a"\nlens = "x"\nbreaks = ["nonsense"]', "there is no check 'nonsense'"),
        ('[[personas]]\nname = "a"\nlens = "x"\nrubric = "x"', "rubric is no list"),
    ):
        path = place / f"{said[:6].strip()}.toml"
        path.write_text(text)
        assert main(["a.csv", "--personas", path.name]) == 1
        assert said in capsys.readouterr().err


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "python curator.py annotated.csv --out annotated_curated.csv" in capsys.readouterr().out
