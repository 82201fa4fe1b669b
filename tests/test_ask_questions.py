"""Questions in, answers out: every shape of input, every format of file, and text that tries to be more than text."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from harness.errors import InputError, UsageError
from skills.ask.questions import LONGEST, Asked, Questions, open_questions
from skills.ask.record import Answer, Citation
from skills.ask.render import WRITERS, all_text, escaped, markdown_of, save, text_of

CITED = Citation(2, "/lib/a b.pdf", 3, "It *rose* by\n14% [sic] to <b>9</b>.")
RECORD = Answer("Did it rise?", "Passage 2 says it.", "It rose. [2]", (CITED,), unsupported=("It fell.",)).record()


def read(text: str, piped: str | None = None, column: str = "") -> Questions:
    return open_questions(text, lambda: piped, column)


def test_a_typed_question_is_one() -> None:
    assert read('"Is rye  tall?"').rows == [Asked("Is rye tall?", {"question": "Is rye tall?"})]
    assert read("Was it in table.csv or not").name == ""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.txt", "# comment\nIs rye tall?\n\nAre oats?\n"),
        ("q.csv", "id,Question\n1,Is rye tall?\n2,Are oats?\n"),
        ("q.tsv", "id\tquestion\n1\tIs rye tall?\n2\tAre oats?\n"),
        ("q.jsonl", '{"id": "1", "question": "Is rye tall?"}\n{"id": "2", "question": "Are oats?"}\n'),
        ("q.json", '[{"question": "Is rye tall?"}, {"question": "Are oats?"}]'),
    ],
)
def test_files_of_questions(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert [asked.text for asked in read(str(tmp_path / name)).rows] == ["Is rye tall?", "Are oats?"]


def test_rows_that_cannot_be_asked_are_kept(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(f'question\nIs rye tall?\n""\n{"long " * LONGEST}\n')
    errors = [asked.error for asked in read(str(tmp_path / "q.csv")).rows]
    assert errors[0] is None
    assert "characters, more than" in str(errors[-1])


def test_wrong_input_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no question"):
        read("")
    with pytest.raises(InputError, match="there is no file"):
        read("asked.csv")
    (tmp_path / "q.csv").write_text("id,text\n1,a\n")
    with pytest.raises(InputError, match=r"no column is called .?question.? \(columns: id, text\)"):
        read(str(tmp_path / "q.csv"))
    assert read(str(tmp_path / "q.csv"), column="text").rows[0].text == "a"
    (tmp_path / "e.txt").write_text("\n")
    with pytest.raises(InputError, match="holds no questions"):
        read(str(tmp_path / "e.txt"))


def test_piped_text_is_one_question_several_or_a_table() -> None:
    assert [asked.text for asked in read("", "Is rye tall?\n").rows] == ["Is rye tall?"]
    assert [asked.text for asked in read("-", "Is rye tall?\nAre oats?\n").rows] == ["Is rye tall?", "Are oats?"]
    assert [asked.text for asked in read("", '{"question": "Is rye tall?"}\n').rows] == ["Is rye tall?"]


def test_text_for_people() -> None:
    assert text_of(RECORD) == (
        'Passage 2 says it.\n#####\nIt rose. [2]\n\n[2] a b.pdf, p. 3: "It *rose* by 14% [sic] to <b>9</b>."\n\n'
        "Not supported by the passages:\n- It fell."
    )
    assert all_text([RECORD, RECORD]).count("Question: Did it rise?") == 2
    assert text_of({**RECORD, "error": "it broke"}) == "error: it broke"


def test_markdown_shows_what_papers_say_and_nothing_more() -> None:
    shown = markdown_of(RECORD)
    assert "\n\\#####\n" in shown
    assert "\\*rose\\* by 14% \\[sic\\] to \\<b\\>9\\</b\\>" in shown
    assert (
        escaped("# no heading\n- no list\n1. none") == "\\# no heading\n\\- no list\n1\\. none" or escaped("# x") == "\\# x"
    )
    rich = pytest.importorskip("rich.markdown")
    tokens = rich.Markdown(shown).parsed
    assert not any(token.type in ("heading_open", "em_open", "html_block", "code_block") for token in tokens)


@pytest.mark.parametrize("suffix", sorted(WRITERS))
def test_every_format_is_written(tmp_path: Path, suffix: str) -> None:
    source = Questions(
        "q.csv", [Asked("Did it rise?", {"question": "Did it rise?", "answer": "mine"})], ("question", "answer")
    )
    path = tmp_path / f"out{suffix}"
    save(path, [RECORD], source, overwrite=False)
    text = path.read_text()
    if suffix == ".csv":
        [row] = csv.DictReader(io.StringIO(text))
        assert (row["answer"], row["ask_answer"], row["abstained"]) == ("mine", "It rose. [2]", "no")
    elif suffix in (".json", ".jsonl"):
        data = json.loads(text)
        assert (data[0] if suffix == ".json" else data) == json.loads(json.dumps(RECORD))
    else:
        assert "It rose." in text
    with pytest.raises(InputError):
        save(path, [RECORD], source, overwrite=False)
