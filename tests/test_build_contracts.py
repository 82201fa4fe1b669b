"""Training examples are what serving asks and reads: the same prompts, and answers that its parsers take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from build_samples import MOVES, abstract, arxiv_id, gold, record, write_jsonl

from finetune.build_finetune_from_annotations import build_dataset, format_annotation_output, format_annotation_prompt
from harness.errors import InputError
from harness.readers.paper import Paper
from harness.sentences import split
from skills.annotate import mark, prompt
from skills.annotate.moves import load_framework
from skills.annotate.record import sentences_of

FRAMEWORK = load_framework()


def only(path: Path, **options: Any) -> dict[str, Any]:
    [example] = build_dataset(path, None, valid=0, **options)
    return example


def served(number: int) -> tuple[str, list[str]]:
    """Title and sentences as /annotate takes them from a paper."""
    row = gold(number)
    paper = Paper(row["arxiv_id"], row["title"], row["abstract"], "x", 1)
    return paper.title, [sentence.text for sentence in sentences_of(paper)]


def test_quote_examples_are_the_served_chat_and_parse_back(tmp_path: Path) -> None:
    example = only(write_jsonl(tmp_path / "gold.jsonl", [gold(1)]))
    title, sentences = served(1)
    asked = prompt.messages(FRAMEWORK, title, sentences)
    assert example["prompt"] == [{"role": m.role, "content": m.content} for m in asked]
    assert example["completion"].endswith("\n</annotation>")
    parsed = prompt.parse(FRAMEWORK, example["completion"], len(sentences))
    assert {move: numbers for move, (_, numbers) in parsed.items()} == gold(1)["moves"]
    assert sorted(example) == ["completion", "id", "prompt", "source"]


def test_prose_examples_keep_written_texts_and_quote_where_there_is_none(tmp_path: Path) -> None:
    written = record(1, style="prose")
    written["moves"]["claim"] = {"text": "A procedure named Method1 is proposed.", "sentences": [2]}
    example = only(write_jsonl(tmp_path / "agent.jsonl", [written]), contract="prose")
    title, sentences = served(1)
    asked = prompt.messages(FRAMEWORK, title, sentences, prose=True)
    assert example["prompt"] == [{"role": m.role, "content": m.content} for m in asked]
    parsed = prompt.parse(FRAMEWORK, example["completion"], len(sentences), prose=True)
    assert parsed["claim"] == ("A procedure named Method1 is proposed.", [2])
    assert parsed["comparison"] == (f"{sentences[3]} {sentences[0]}", [4, 1])
    assert parsed["scope"] == ("", [])


def test_prose_that_serving_would_refuse_is_left_out(tmp_path: Path) -> None:
    invented = record(1)
    invented["moves"]["claim"]["text"] = "It reaches 99.9% on ImageNet."
    path = write_jsonl(tmp_path / "agent.jsonl", [invented, record(2)])
    dataset = build_dataset(path, None, contract="prose", valid=0)
    assert dataset.card["dropped"]["gold"] == {"prose that names what the abstract does not": 1}
    assert len(build_dataset(path, None, contract="quote", valid=0)) == 2


def test_a_text_that_quotes_nothing_goes_to_prose_alone(tmp_path: Path) -> None:
    told = record(1)
    told["moves"]["claim"] = {"text": "New ways of grading pebbles out of robots, with votes"}
    path = write_jsonl(tmp_path / "gold.jsonl", [told, record(2)])
    for contract in ("quote", "mark"):
        dataset = build_dataset(path, None, contract=contract, valid=0)
        assert list(dataset.card["dropped"]["gold"]) == [
            "a move's text rests on no sentence (it could be used with --contract prose)"
        ]
    assert len(build_dataset(path, None, contract="prose", valid=0)) == 2


def test_mark_examples_are_the_served_transcript_with_a_label_for_each_mark(tmp_path: Path) -> None:
    example = only(write_jsonl(tmp_path / "gold.jsonl", [gold(1)]), contract="mark", least=1)
    title, sentences = served(1)
    assert example["prompt"] == mark.prompts(title, sentences)[-1]
    assert example["prompt"].count(mark.MARK) == len(example["completion"]) == len(sentences)
    assert example["completion"] == [
        "<comparison>",
        "<claim+method+novelty>",
        "<method>",
        "<evidence+comparison>",
        "<limitation>",
    ]


def test_labels_are_those_of_the_training_papers_or_of_a_model(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "gold.jsonl", [gold(n) for n in range(8)])
    dataset = build_dataset(path, None, contract="mark", least=3, valid=0)
    labels = json.loads((dataset.folder / "labels.json").read_text())
    known = {mark.label(stated) for stated in labels["sets"]}
    assert labels["moves"] == list(MOVES)
    assert {"<none>", "<claim>", "<claim+novelty>", "<claim+method+novelty>"} <= known
    assert {token for row in dataset for token in row["completion"]} <= known
    small = tmp_path / "labels.json"
    small.write_text(json.dumps({"moves": MOVES, "sets": [[], *([move] for move in MOVES)]}))
    tokens = {token for row in build_dataset(path, None, contract="mark", labels=small) for token in row["completion"]}
    assert tokens <= {"<none>", *(f"<{move}>" for move in MOVES)}
    small.write_text(json.dumps({"moves": ["claim"], "sets": [[]]}))
    with pytest.raises(InputError, match=r"labels.json: its moves are claim; the framework's are claim, evidence"):
        build_dataset(path, None, contract="mark", labels=small)


def test_a_long_text_is_marked_in_the_windows_that_serving_uses(tmp_path: Path) -> None:
    text = " ".join(abstract(n) for n in range(8))
    sentences = [sentence.text for sentence in split(text)]
    moves = {move: [] for move in MOVES} | {"claim": [2], "evidence": [39]}
    path = write_jsonl(tmp_path / "gold.jsonl", [gold(1, abstract=text, sentences=sentences, moves=moves)])
    dataset = build_dataset(path, None, contract="mark", least=1, valid=0)
    windows = mark.windows(sentences)
    assert len(windows) > 1
    rows = list(dataset)
    assert [row["id"] for row in rows] == [arxiv_id(1), *(f"{arxiv_id(1)}#{n}" for n in range(2, len(windows) + 1))]
    assert [len(row["completion"]) for row in rows] == [end - start for start, end in windows]
    assert [token for row in rows for token in row["completion"]].index("<evidence>") == 38
    assert dataset.card["papers"]["train"]["gold"] == 1


def test_more_sentences_than_a_move_takes_are_cut_in_lists_and_kept_in_marks(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "gold.jsonl", [gold(1, moves={m: [5, 4, 3, 2, 1] if m == "method" else [] for m in MOVES})]
    )
    dataset = build_dataset(path, None, valid=0)
    assert json.loads(next(iter(dataset))["completion"].split("\n<")[0])["method"] == [5, 4, 3, 2]
    assert dataset.card["notes"] == {"shortened": 1}
    assert only(path, contract="mark", least=1)["completion"] == ["<method>"] * 5


def test_the_two_halves_can_be_made_alone() -> None:
    row, title = record(1), gold(1)["title"]
    chat = format_annotation_prompt(row["abstract"], title)
    assert isinstance(chat, list)
    assert chat[1]["content"].startswith(f"Title: {title}\nAbstract:\n[1] Much has")
    assert format_annotation_prompt(row["abstract"], title, contract="mark") == mark.prompts(*served(1))[-1]
    answer = format_annotation_output(row)
    assert isinstance(answer, str)
    assert json.loads(answer.removesuffix("\n</annotation>")) == gold(1)["moves"]
    columns = {"abstract": row["abstract"]} | {move: (cell or {}).get("text", "") for move, cell in row["moves"].items()}
    assert format_annotation_output(columns) == answer
    assert format_annotation_output(gold(1), contract="mark")[1] == "<claim+method+novelty>"
    with pytest.raises(InputError, match="too short"):
        format_annotation_prompt("No abstract.")
    with pytest.raises(InputError, match="the row gives no example: states no move"):
        format_annotation_output(gold(1, moves={move: [] for move in MOVES}))
