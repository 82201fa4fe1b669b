"""QASA and QASPER as training data for /ask."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from finetune.dataset import qa_rows, qasa
from finetune.dataset.qa_records import read
from finetune.dataset.qa_rows import Pair
from finetune.sft.data import open_folder, read_rows
from skills.ask import prompt
from skills.ask.verify import cite

RYE = (
    "Rye was sown on twenty fields. It grew faster than oats on sandy soil, by twelve percent. The fields lie at the coast."
)
BEES = "Bees were counted at noon on warm days. They prefer lavender to clover by a wide margin in every garden."
CROWS = "Crows were marked with coloured rings. Nine of ten came back to the same tree in the second spring."


def record(number: int, contexts: list[str], composition: str, paper: str = "2201.00001", **more: Any) -> dict[str, Any]:
    """A record as QASA documents it."""
    return {
        "paper_id": f"paper_{paper}",
        "title": "Fields and gardens",
        "question_id": number,
        "question": f"What did study {number} of {paper} find?",
        "question_section": "Introduction",
        "question_trigger_sentence": "We study fields.",
        "question_type": "Shallow question",
        "evidential_info": [
            {"context": text, "rationale": f"The passage says so ({at})."} for at, text in enumerate(contexts, 1)
        ],
        "composition": composition,
        "arxiv_id": paper,
        "s2orc_url": "https://example.org",
        "arxiv_url": "https://example.org",
        **more,
    }


def qasa_file(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({str(number): one for number, one in enumerate(records)}))
    return path


@pytest.fixture
def answerable(tmp_path: Path) -> Path:
    records = [
        record(1, [RYE], "On sandy soil rye grew faster than oats, by twelve percent. Zebras sing."),
        record(2, [BEES, RYE], "Bees prefer lavender to clover in every garden."),
        record(3, [CROWS], "Nine of ten crows came back to the same tree.", paper="2201.00002"),
    ]
    return qasa_file(tmp_path / "qasa.json", records)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_qasa_becomes_questions_with_reasoning_and_answer(answerable: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert qasa.main([str(answerable), "-o", str(out)]) == 0
    first, second, third = rows(out)
    assert second["text"] == (
        "Q: What did study 2 of 2201.00001 find?\n"
        "A: The passage says so (1). The passage says so (2). ##### Bees prefer lavender to clover in every garden."
    )
    assert first["contexts"] == [RYE]
    assert (third["paper"], third["title"], third["answered"]) == ("2201.00002", "Fields and gardens", True)
    assert qasa.main([str(answerable), "-o", str(out), "--yes", "--reasoning", "context"]) == 0
    assert rows(out)[0]["text"].startswith(f"Q: What did study 1 of 2201.00001 find?\nA: {RYE} ##### On sandy")


def test_a_chat_folder_is_what_the_trainer_reads_and_its_quotes_hold(answerable: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    assert qasa.main([str(answerable), "--chat", str(folder), "--valid", "0.5"]) == 0
    opened = open_folder(folder, prompt.CONTRACT)
    found = [row for split in ("train", "valid") for _, row in read_rows(opened.file(split))]
    assert len(found) == 3
    assert opened.card["rows"]["train"] + opened.card["rows"]["valid"] == 3
    for row in found:
        system, user = row["prompt"]
        passages = [json.loads(line) for line in user["content"].splitlines() if line.startswith("{")]
        draft = prompt.parse(row["completion"])
        assert system["content"] == prompt.messages("x", [])[0].content
        assert [one["n"] for one in passages] == list(range(1, len(passages) + 1))
        assert draft.answered
        assert all(len(claim.citations) == 1 for claim in draft.claims)
        for claim in draft.claims:
            number, quote = claim.citations[0]
            assert cite(quote, qa_rows.passage(passages[number - 1]["text"], number, "")) is not None
    first = next(prompt.parse(row["completion"]) for row in found if "study 1" in row["prompt"][1]["content"])
    assert [claim.text for claim in first.claims] == ["On sandy soil rye grew faster than oats, by twelve percent."]
    assert "It grew faster than oats" in first.claims[0].citations[0][1]


def test_papers_stay_on_one_side_and_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    records = [
        record(n, [f"{RYE} Field {n} of farm {p} was the best."], "Rye grew faster than oats.", paper=f"22{p:02}.1")
        for p in range(30)
        for n in range(3)
    ]
    file = qasa_file(tmp_path / "many.json", records)
    for name in ("a", "b"):
        assert (
            qasa.main([str(file), "--chat", str(tmp_path / name), "-o", str(tmp_path / f"{name}.jsonl"), "--valid", "0.3"])
            == 0
        )
    for name in ("train.jsonl", "valid.jsonl", "card.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    sides = [{row["id"].split("-")[1] for row in rows(tmp_path / "a" / f"{side}.jsonl")} for side in ("train", "valid")]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_500_are_chosen_by_their_ids_whatever_else_there_is() -> None:
    pairs = [Pair(str(n), "Q?", "r", "a", (), "p") for n in range(600)]
    assert len(qa_rows.chosen(pairs, qasa.COUNT, 1)) == 500
    few = {pair.id for pair in qa_rows.chosen(pairs, 100, 1)}
    assert few >= {pair.id for pair in qa_rows.chosen(pairs, 50, 1)}
    assert few != {pair.id for pair in qa_rows.chosen(pairs, 100, 2)}
    assert few & {pair.id for pair in pairs[:300]} == {pair.id for pair in qa_rows.chosen(pairs[:300], 300, 1)} & few
    assert qa_rows.chosen(pairs, 0, 1) == pairs


def test_a_question_without_an_answer_is_trained_as_such(tmp_path: Path) -> None:
    records = [
        record(1, [RYE], "Rye grew faster than oats on sandy soil."),
        record(2, [], "This paper does not say what bees like."),
        record(3, [], "Nothing is said.", paper="2201.7"),
        record(4, [CROWS], "The rings are mentioned, their colours are not.", paper="2201.8", answerable=False),
    ]
    file = qasa_file(tmp_path / "qasa.json", records)
    folder = tmp_path / "chat"
    assert qasa.main([str(file), "--chat", str(folder), "--valid", "0", "--unanswerable"]) == 0
    found = {row["id"]: prompt.parse(row["completion"]) for row in rows(folder / "train.jsonl")}
    assert [draft.answered for draft in found.values()] == [True, False, False]
    assert (
        next(draft for draft in found.values() if not draft.answered).reasoning == "This paper does not say what bees like."
    )
    card = json.loads((folder / "card.json").read_text())
    assert card["dropped"] == {"its paper has no passages": 1}
    assert card["unanswered"] == {"train": 2, "valid": 0}


def test_qasper_is_read_too(tmp_path: Path) -> None:
    def asked(question: str, **answer: Any) -> dict[str, Any]:
        empty = {"unanswerable": False, "extractive_spans": [], "yes_no": None, "free_form_answer": "", "evidence": [RYE]}
        return {
            "question": question,
            "question_id": question,
            "answers": [{"answer": {**empty, "highlighted_evidence": [], **answer}}],
        }

    paper = {
        "title": "Fields",
        "full_text": [{"section_name": "Results", "paragraphs": [RYE]}],
        "qas": [
            asked("what grew", free_form_answer="Rye.", highlighted_evidence=["It grew faster than oats."]),
            asked("which crops?", extractive_spans=["rye", "oats"]),
            asked("did it rain?", yes_no=False),
            asked("why?", unanswerable=True, evidence=[]),
            asked("how much?", free_form_answer="3", evidence=["FLOAT SELECTED: Table 1"]),
        ],
    }
    file = tmp_path / "qasper.json"
    file.write_text(json.dumps({"1909.1": paper}))
    left: Counter[str] = Counter()
    pairs = list(read(file, by_context=False, skip_bad=False, left_out=left))
    assert [(pair.question, pair.reasoning, pair.answer, pair.answered) for pair in pairs] == [
        ("what grew?", "It grew faster than oats.", "Rye.", True),
        ("which crops?", RYE, "rye; oats", True),
        ("did it rain?", RYE, "No.", True),
        ("why?", "The paper does not say.", "The paper does not answer this.", False),
    ]
    assert left == {"its evidence is a table or a figure": 1}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"evidential_info": "none"}, "record 0: 'evidential_info' is no list of objects"),
        ({"evidential_info": [{"context": 3}]}, "record 0: 'context' is no text"),
        ({"question": ""}, "record 0: 'question' is empty"),
        ({"composition": None}, "record 0: 'composition' is empty"),
        ({"title": ["x"]}, "record 0: 'title' is no text"),
    ],
)
def test_a_bad_record_is_named_or_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], says: str
) -> None:
    file = qasa_file(
        tmp_path / "q.json", [record(1, [RYE], "It grew.") | change, record(2, [BEES], "Bees prefer lavender.")]
    )
    out = str(tmp_path / "o.jsonl")
    assert qasa.main([str(file), "-o", out]) == 1
    assert says in capsys.readouterr().err
    assert qasa.main([str(file), "-o", out, "--skip-bad"]) == 0
    assert len(rows(tmp_path / "o.jsonl")) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no question with an answer"),
        (b"{", "line 1 is no JSON"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"3", "holds no records"),
    ],
)
def test_a_file_that_is_neither_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    (tmp_path / "q.json").write_bytes(content)
    assert qasa.main([str(tmp_path / "q.json"), "-o", str(tmp_path / "o.jsonl")]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_nothing_is_overwritten_unasked(answerable: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    assert qasa.main([str(answerable)]) == 2
    assert qasa.main([str(answerable), "-o", str(tmp_path / "o.txt")]) == 2
    assert qasa.main([str(answerable), "-o", str(out)]) == 0
    assert qasa.main([str(answerable), "-o", str(out)]) == 2
    assert qasa.main([str(answerable), "-o", str(answerable), "--yes"]) == 2
    assert qasa.main([str(answerable), "-o", str(out), "--yes"]) == 0


def test_the_published_record_shape_is_read() -> None:
    file = Path(__file__).resolve().parents[2] / "shared" / "data" / "qa" / "qasa_unanswerable.jsonl"
    if not file.is_file():
        pytest.skip("needs ../shared/data/qa, which is not part of the repository")
    pairs = list(read(file, by_context=False, skip_bad=False, left_out=Counter()))
    assert len(pairs) == 124
    assert not any(pair.answered for pair in pairs)
    assert all(pair.question and pair.paper and pair.answer for pair in pairs)


def test_long_evidence_is_cut_between_sentences() -> None:
    long = " ".join(f"Sentence number {n} says that rye grows on field {n}." for n in range(200))
    found = qa_rows.pieces(long)
    assert len(found) > 3
    assert " ".join(found) == long
    assert max(map(len, found)) <= qa_rows.LONGEST_PASSAGE
