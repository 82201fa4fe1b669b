"""Expansion data from models and from other people's data sets: what is asked, kept, left out, resumed and counted."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ollama_server import OllamaServer

from finetune.dataset import generate_data, generate_data_offline, generate_offline, invent
from finetune.dataset.expansion_schema import Example, load_examples, write_examples
from finetune.dataset.offline import columns, typed_lines
from harness.errors import ModelError

TOPICS = (
    "tide tables", "swift nests", "harpsichord tuning", "canoe yokes", "glacier melt", "violin rosin", "beehive lids",
    "tomato rot", "kayak rudders", "bread knives", "rook endgames", "moon phases", "carbon dating", "map projections",
)  # fmt: skip


class Writer:
    """What the loopback daemon writes: queries of TOPICS in turn, and an expansion of whatever is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.spoil = ""
        """Expansions of queries that hold this word are no JSON."""
        self.die_after = 10**6
        self.topics = list(TOPICS)

    def __call__(self, body: dict[str, Any]) -> Iterator[str]:
        text = body["messages"][-1]["content"]
        self.asked.append(text)
        if len(self.asked) > self.die_after:
            raise KeyboardInterrupt
        query = text.removeprefix("Expand this search query: ")
        if query == text:
            number = body["options"]["seed"]
            yield json.dumps({"queries": [f"{topic} {number // 3}" for topic in self.topics[number % 3 :: 3]] + ["", 7]})
        elif self.spoil and self.spoil in query:
            yield "no JSON"
        else:
            first = query.split()[0]
            yield json.dumps(
                {
                    "hyde": [f"A page on {query} says what to do first, and what may go wrong with {first} later on."],
                    "lex": [f"{query} manual chapters", f"{first} mistakes repair"],
                    "vec": [
                        f"what should be known about {query} before one begins",
                        f"what goes wrong with {first} at first",
                    ],
                }
            )


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def daemon_url(writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A working folder, a data folder, and a daemon with one chat model."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with OllamaServer(writer) as server:
        server.add("tiny", context=4096)
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        yield server.url


def generate(*argv: str) -> int:
    return generate_data.main(["-o", "out.jsonl", "--workers", "1", *argv])


# ---- by a model ----


@pytest.mark.usefixtures("daemon_url")
def test_so_many_examples_as_asked_for_each_on_its_own_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--count", "9", "--price", "1000", "2000") == 0
    rows = load_examples([Path("out.jsonl")])
    out, err = capsys.readouterr()
    assert len(rows) == len({row.stem for row in rows}) == 9
    assert {row.source for row in rows} == {"tiny:latest"}
    assert {row.category for row in rows} <= set(invent.CATEGORIES)
    assert all({kind for kind, _ in row.output} == {"hyde", "lex", "vec"} for row in rows)
    assert out == "out.jsonl: 9 examples\n"
    assert "12 requests:" in err  # three lists of queries and nine expansions
    assert "prompt and" in err
    assert "$" in err


@pytest.mark.usefixtures("daemon_url")
def test_the_same_command_asks_nothing_twice_and_gives_the_same_bytes(
    writer: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("--count", "7") == 0
    first, asked = Path("out.jsonl").read_bytes(), len(writer.asked)
    assert generate("--count", "7", "--yes") == 0
    assert Path("out.jsonl").read_bytes() == first
    assert len(writer.asked) == asked
    assert f"0 requests: 0 prompt and 0 completion tokens; {asked} answers from the journal" in capsys.readouterr().err
    assert generate("--count", "7", "--yes", "--seed", "300") == 0
    assert len(writer.asked) > asked


@pytest.mark.usefixtures("daemon_url")
def test_a_run_that_was_stopped_goes_on_to_what_one_run_gives(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work, calls, stopping = generate_data.Studio._work, 0, True

    def dies(studio: generate_data.Studio, item: Any, cancel: Any) -> Any:
        nonlocal calls
        calls += 1
        if stopping and calls >= 5:  # whatever a worker takes up after the interrupt is not asked either
            raise KeyboardInterrupt
        return work(studio, item, cancel)

    monkeypatch.setattr(generate_data.Studio, "_work", dies)
    assert generate("--count", "6") == 130
    stopping = False
    assert not Path("out.jsonl").exists()
    assert "goes on from there" in capsys.readouterr().err
    assert generate("--count", "6") == 0
    resumed, asked = Path("out.jsonl").read_bytes(), list(writer.asked)
    assert len(asked) == len(set(asked))
    monkeypatch.setenv("MARGINALIA_HOME", str(Path("other").absolute()))
    assert generate("--count", "6", "--yes") == 0
    assert Path("out.jsonl").read_bytes() == resumed


@pytest.mark.usefixtures("daemon_url")
def test_known_questions_are_left_out() -> None:
    known = [Example(query=f"on {topic} 0", output=(("lex", "x"), ("vec", "y"))) for topic in TOPICS[:6]]
    write_examples(Path("known.jsonl"), known, overwrite=False)
    assert generate("--count", "5", "--known", "known.jsonl") == 0
    assert not {row.stem for row in load_examples([Path("out.jsonl")])} & {row.stem for row in known}


@pytest.mark.usefixtures("daemon_url")
def test_queries_of_a_file_are_expanded_in_their_order(writer: Writer) -> None:
    Path("mine.txt").write_text("# mine\nslate roof repair\n\nrepairing slate roofs\nbell casting\n")
    assert generate("--queries", "mine.txt") == 0
    assert [row.query for row in load_examples([Path("out.jsonl")])] == ["slate roof repair", "bell casting"]
    assert all(text.startswith("Expand this") for text in writer.asked)


@pytest.mark.usefixtures("daemon_url")
def test_what_the_model_spoils_is_counted_and_made_up_for(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    writer.spoil = "tide"
    assert generate("--count", "6") == 0
    assert "tide tables" not in Path("out.jsonl").read_text()
    assert "not used: the model's answer is no JSON: " in capsys.readouterr().err


@pytest.mark.usefixtures("daemon_url")
def test_a_model_without_new_ideas_is_left_alone(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    class Same(Writer):
        def __call__(self, body: dict[str, Any]) -> Iterator[str]:
            body["options"]["seed"] = 0
            return super().__call__(body)

    writer.__class__ = Same
    writer.topics = list(TOPICS[:3])
    assert generate("--count", "30") == 1
    assert len(load_examples([Path("out.jsonl")])) == 1
    assert "29 of 30 are missing" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon_url")
def test_a_model_that_writes_nothing_usable_is_an_error_and_no_file(
    writer: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    writer.spoil = " "
    assert generate("--count", "2") == 1
    assert "the model gave no example; take another model" in capsys.readouterr().err
    assert not Path("out.jsonl").exists()


@pytest.mark.usefixtures("daemon_url")
@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["--model", "absent"], 3, "absent"),
        (["--count", "-1"], 2, "numbers of 1 or more"),
        (["--workers", "0"], 2, "numbers of 1 or more"),
        (["--queries", "none.txt"], 1, "none.txt: cannot be read"),
        (["--known", "none.jsonl"], 1, "none.jsonl: cannot be read"),
        (["--model", "openai/gpt-x", "--offline"], 1, "--offline is in force"),
    ],
)
def test_wrong_arguments_are_one_line(
    argv: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(*argv) == status
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_an_existing_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out.jsonl").touch()
    assert generate_data.main(["-o", str(tmp_path / "out.jsonl")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_every_combination_is_asked_for_once() -> None:
    total = len(invent.CATEGORIES) * len(invent.SUBJECTS) * len(invent.SEARCHERS)
    assert len({invent.task(number) for number in range(total)}) == total
    assert len({invent.task(number)[1] for number in range(0, 640, 10)}) == len(invent.SUBJECTS)


def test_queries_are_read_from_fences_and_odd_ones_left_out() -> None:
    text = '```json\n{"queries": ["tide  tables", "", "7", "x /only:lex", "<|im_end|>", "a\\nb"]}\n```'
    assert invent.parse(text) == ["tide tables", "a b"]
    for bad in ("[]", "{}", "no", '{"queries": '):
        with pytest.raises(ModelError, match="no JSON with queries"):
            invent.parse(bad)
    assert invent.parse('{"queries": 7}') == []


# ---- from data sets ----

ROWS = [
    {"query": "tide tables", "expansions": ["harbour water heights", "when is the water high in the harbour today"]},
    {"query": "Tables of the tide", "expansions": ["tide heights", "when is the water high in the harbour"]},
    {"query": "", "expansions": ["x"]},
    {"query": "swift nests", "expansions": ["nest box eaves"]},
    {"query": "bell casting", "expansions": ["lex: bronze bell mould", "vec: how is a bell cast in bronze"]},
]


def in_a_cell(value: object) -> str:
    """Expansions as a table holds them."""
    return value if isinstance(value, str) else json.dumps(value)


def offline(*argv: str) -> int:
    return generate_offline.main([*argv, "-o", "out.jsonl"])


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_files_of_all_kinds_give_the_same_examples(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(f"rows.{kind}")
    rows = [*ROWS[:-1], {"query": ROWS[-1]["query"], "expansions": "\n".join(ROWS[-1]["expansions"])}]
    written = [row | {"expansions": in_a_cell(row["expansions"])} for row in rows]
    if kind == "jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs the tables extra")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(written), path)
    else:
        with path.open("w", newline="") as handle:
            table = csv.DictWriter(handle, ["query", "expansions"], delimiter="\t" if kind == "tsv" else ",")
            table.writeheader()
            table.writerows(written)
    assert offline(str(path)) == 0
    found = load_examples([Path("out.jsonl")])
    assert [(row.query, row.output) for row in found] == [
        ("tide tables", (("lex", "harbour water heights"), ("vec", "when is the water high in the harbour today"))),
        ("bell casting", (("lex", "bronze bell mould"), ("vec", "how is a bell cast in bronze"))),
    ]
    out = capsys.readouterr().out
    for line in ("the question stands before: 1", "no query: 1", "no vec among its expansions: 1"):
        assert line in out


def test_lines_are_typed_from_whatever_holds_them() -> None:
    expected = [
        ("hyde", "High water comes an hour later each day."),
        ("lex", "tide height"),
        ("vec", "when is high water today"),
    ]
    pairs = [list(pair) for pair in expected]
    for value in (
        "\n".join(f"{kind}: {text}" for kind, text in expected),
        pairs,
        str(pairs),
        json.dumps(pairs),
        [{"type": kind, "text": text} for kind, text in expected],
        [text for _, text in expected],
        "\n".join(text for _, text in expected[::-1]),
    ):
        assert list(typed_lines(value)) == expected
    assert list(typed_lines(None)) == list(typed_lines(7)) == list(typed_lines([["lex"], 3])) == []
    assert len(list(typed_lines([["lex", f"line {number}"] for number in range(9)]))) == 3


def test_columns_are_found_or_asked_for() -> None:
    assert columns(["id", "input", "output"]) == ("input", "output")
    assert columns(["id", "a", "b"], "a", "b") == ("a", "b")
    for names, query in ((["output"], ""), (["query"], ""), (["query", "output"], "q")):
        with pytest.raises(LookupError):
            columns(names, query)


def test_count_and_known_bound_what_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    assert generate_data_offline.main(["rows.jsonl", "-o", "out.jsonl", "--count", "1"]) == 0
    assert offline("rows.jsonl", "--known", "out.jsonl", "--yes") == 0
    assert [row.query for row in load_examples([Path("out.jsonl")])] == ["bell casting"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", '{"a": 1}\n', "no column holds the query; its columns are a"),
        ("rows.jsonl", '{"query": "x", "output": []}\nno\n', "rows.jsonl: line 2 is no JSON"),
        ("rows.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("rows.csv", "", "has no rows"),
        ("rows.jsonl", '{"query": "x", "output": []}\n', "no row gives an example: no lex and no vec"),
        ("rows.parquet", "x", "is no Parquet file"),
        ("rows.jsonl", None, "cannot be read"),
        ("someone/data", None, "are not fetched: offline"),
    ],
)
def test_wrong_data_is_one_line(
    name: str, content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_text(content)
    assert offline(name, "--offline") == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
