"""The builder's merging, splitting, leak check and card: one example per paper, and the same bytes every time."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from build_samples import MOVES, abstract, arxiv_id, gold, record, write_csv, write_jsonl

from finetune.build_finetune_from_annotations import build_dataset, main
from finetune.dataset.builder import Dataset
from harness.errors import InputError, UsageError
from skills.annotate.decisions import GoldFile

OTHER = {move: [1] if move == "scope" else [] for move in MOVES}
"""Labels that differ from those of every sample."""


def answers(dataset: Dataset) -> dict[str, dict[str, list[int]]]:
    """The sentence numbers of each example of contract quote, by id."""
    return {row["id"]: json.loads(row["completion"].split("\n</annotation>")[0]) for row in dataset}


def sources(dataset: Dataset) -> dict[str, str]:
    return {row["id"]: row["source"] for row in dataset}


def test_gold_wins_over_curated_and_curated_replaces_the_unfiltered_agent_rows(tmp_path: Path) -> None:
    gold_file = write_jsonl(tmp_path / "gold.jsonl", [gold(1), gold(2)])
    agent = write_csv(tmp_path / "agent.csv", [record(n, OTHER) for n in (2, 3, 4, 5)])
    curated = write_csv(tmp_path / "curated.csv", [record(n) for n in (1, 3, 4)])
    dataset = build_dataset(gold_file, agent, curated, valid=0)
    assert sources(dataset) == {
        arxiv_id(1): "gold",
        arxiv_id(2): "gold",
        arxiv_id(3): "curated",
        arxiv_id(4): "curated",
    }
    assert answers(dataset) == {arxiv_id(n): gold(n)["moves"] for n in (1, 2, 3, 4)}
    assert dataset.card["dropped"]["curated"] == {"replaced by gold": 1}
    assert dataset.card["dropped"]["agent"] == {
        "not among the curated rows": 1,  # paper 5: the curator has refused it
        "replaced by curated": 2,
        "replaced by gold": 1,
    }


def test_agent_rows_that_the_curator_did_not_keep_can_be_used_beside_the_others(tmp_path: Path) -> None:
    agent = write_csv(tmp_path / "agent.csv", [record(n, OTHER) for n in (3, 5)])
    curated = write_csv(tmp_path / "curated.csv", [record(3)])
    dataset = build_dataset(None, agent, curated, keep_unfiltered=True, valid=0)
    assert sources(dataset) == {arxiv_id(3): "curated", arxiv_id(5): "agent"}
    assert answers(dataset)[arxiv_id(3)] == gold(3)["moves"]
    assert sources(build_dataset(None, agent, valid=0)) == {arxiv_id(3): "agent", arxiv_id(5): "agent"}


@pytest.mark.parametrize(
    "again",
    [
        {"id": arxiv_id(1, 2)},
        {"id": f"https://arxiv.org/abs/{arxiv_id(1)}v3"},
        {"id": "other-9", "title": gold(1)["title"].upper() + "!", "abstract": abstract(8)},
        {"id": "other-9", "title": "", "abstract": abstract(1).replace(" ", "\n ").upper()},
    ],
)
def test_versions_titles_and_abstracts_make_one_paper(tmp_path: Path, again: dict[str, str]) -> None:
    gold_file = write_jsonl(tmp_path / "gold.jsonl", [gold(1)])
    agent = write_jsonl(tmp_path / "agent.jsonl", [record(1, **again), record(2)])
    assert sources(build_dataset(gold_file, agent, valid=0)) == {arxiv_id(1): "gold", arxiv_id(2): "agent"}


def test_what_is_the_same_paper_as_a_dropped_row_is_the_same_paper(tmp_path: Path) -> None:
    rows = [record(1), record(1, id="other-9", abstract=abstract(8)), record(2, id="other-9", title="Another name for it")]
    dataset = build_dataset(None, write_jsonl(tmp_path / "agent.jsonl", rows), valid=0)
    assert list(sources(dataset)) == [arxiv_id(1)]
    assert dataset.card["dropped"]["agent"] == {"another paper of the source has its title or abstract": 2}


def test_short_titles_and_ids_that_readers_make_up_do_not_make_papers_one(tmp_path: Path) -> None:
    first = write_jsonl(tmp_path / "a.jsonl", [record(1, id="row-1", title="Editorial"), record(2, id="x-v1")])
    second = write_jsonl(tmp_path / "b.jsonl", [record(3, id="row-1", title="Editorial"), record(4, id="x-v2")])
    assert len(build_dataset(None, [first, second], valid=0)) == 4


def test_within_a_source_the_newer_version_is_used_wherever_it_stands(tmp_path: Path) -> None:
    old, new = record(1, OTHER, id=arxiv_id(1, 1)), record(1, id=arxiv_id(1, 2))
    for rows in ([old, new], [new, old]):
        dataset = build_dataset(None, write_jsonl(tmp_path / "agent.jsonl", rows), valid=0)
        assert answers(dataset) == {arxiv_id(1, 2): gold(1)["moves"]}
        assert dataset.card["dropped"]["agent"] == {"another version of the paper is used": 1}


def test_the_same_row_twice_is_counted_and_a_contradiction_is_an_error(tmp_path: Path) -> None:
    same = write_jsonl(tmp_path / "same.jsonl", [gold(1), gold(1)])
    assert build_dataset(same, None, valid=0).card["dropped"]["gold"] == {"the same paper and labels stand twice": 1}
    twice = write_jsonl(tmp_path / "twice.jsonl", [gold(2), gold(1), gold(1, moves=OTHER)])
    with pytest.raises(
        InputError, match=r"twice.jsonl line 3: 2401.00001 has other labels in row 2 of .*twice.jsonl; keep"
    ):
        build_dataset(twice, None)
    dataset = build_dataset(twice, None, skip_bad=True, valid=0)
    assert answers(dataset)[arxiv_id(1)] == gold(1)["moves"]
    assert dataset.card["dropped"]["gold"] == {"cannot be read": 1}


def test_decided_moves_of_an_unfinished_review_are_laid_over_another_row(tmp_path: Path) -> None:
    review = tmp_path / "agent.gold.jsonl"
    decisions = GoldFile(review)
    for number in (1, 2):
        decisions.decide(record(number), "claim", [5, 2])
        decisions.decide(record(number), "novelty", [])
    for move in MOVES:
        decisions.decide(record(3), move, [1] if move == "claim" else [])
    agent = write_jsonl(tmp_path / "agent.jsonl", [record(1), record(3)])
    dataset = build_dataset(review, agent, valid=0)
    assert sources(dataset) == {arxiv_id(3): "gold", arxiv_id(1): "agent"}
    assert answers(dataset)[arxiv_id(1)] == gold(1)["moves"] | {"claim": [5, 2], "novelty": []}
    assert answers(dataset)[arxiv_id(3)] == {move: [1] if move == "claim" else [] for move in MOVES}
    assert dataset.card["notes"] == {"reviewed in part": 1}
    assert list(dataset.card["dropped"]["gold"].values()) == [1]  # paper 2: its other moves are nowhere


def test_two_unfinished_reviews_can_decide_a_paper_together(tmp_path: Path) -> None:
    half = len(MOVES) // 2
    parts = []
    for name, moves in (("first", MOVES[:half]), ("second", MOVES[half:])):
        decisions = GoldFile(tmp_path / f"{name}.jsonl")
        for move in moves:
            decisions.decide(record(1), move, [3] if move in ("claim", "novelty") else [])
        parts.append(tmp_path / f"{name}.jsonl")
    dataset = build_dataset(parts, None, valid=0)
    assert sources(dataset) == {arxiv_id(1): "gold"}
    assert answers(dataset)[arxiv_id(1)] == {move: [3] if move in ("claim", "novelty") else [] for move in MOVES}


def split_of(dataset: Dataset) -> dict[str, str]:
    return {row["id"]: split for split in ("train", "valid") for row in dataset.split(split)}  # type: ignore[arg-type]


def test_papers_stay_in_their_split_when_others_join(tmp_path: Path) -> None:
    few = write_jsonl(tmp_path / "few.jsonl", [gold(n) for n in range(60)])
    curated = write_jsonl(tmp_path / "curated.jsonl", [record(n) for n in range(200, 300)])
    alone = split_of(build_dataset(few, None, valid=0.3))
    joined = split_of(build_dataset(few, None, curated, valid=0.3))
    assert {identity: joined[identity] for identity in alone} == alone
    assert 0.15 < Counter(joined.values())["valid"] / len(joined) < 0.45
    assert split_of(build_dataset(few, None, valid=0.3, seed=2)) != alone
    more = split_of(build_dataset(few, None, valid=0.5))
    assert all(more[identity] == "valid" for identity, split in alone.items() if split == "valid")


def test_limit_takes_so_many_gold_papers_as_if_there_were_no_others(tmp_path: Path) -> None:
    gold_file = write_jsonl(tmp_path / "gold.jsonl", [gold(n) for n in range(20)])
    agent = write_jsonl(tmp_path / "agent.jsonl", [record(n, OTHER) for n in range(20)])
    few, more = (build_dataset(gold_file, agent, limit=limit, valid=0) for limit in (5, 10))
    assert Counter(sources(few).values()) == {"gold": 5, "agent": 15}
    five, ten = ({i for i, source in sources(d).items() if source == "gold"} for d in (few, more))
    assert five < ten
    assert few.card["dropped"]["gold"] == {"beyond --limit": 15}


@pytest.mark.parametrize(
    ("held_out", "reason"),
    [
        ({"id": arxiv_id(2, 4), "title": "x", "abstract": abstract(9)}, "id"),
        ({"id": "", "title": gold(2)["title"], "abstract": abstract(9)}, "title"),
        ({"id": "z", "title": "x", "abstract": abstract(2).replace("weighted votes", "a lottery")}, "text"),
    ],
)
def test_papers_of_an_evaluation_set_are_left_out_or_an_error(
    tmp_path: Path, held_out: dict[str, str], reason: str
) -> None:
    gold_file = write_jsonl(tmp_path / "gold.jsonl", [gold(1), gold(2)])
    agent = write_jsonl(tmp_path / "agent.jsonl", [record(2, title="", abstract=abstract(10))])  # it leaks by its id
    clean = write_jsonl(tmp_path / "clean set.jsonl", [{"id": "y", "title": "y", "abstract": abstract(11)}])
    dev = write_jsonl(tmp_path / "dev set.jsonl", [held_out])
    dataset = build_dataset(gold_file, agent, held_out=[clean, dev], valid=0)
    assert sources(dataset) == {arxiv_id(1): "gold"}
    assert dataset.card["dropped"]["gold"] == {"stands in an evaluation set": 1}
    assert dataset.card["dropped"]["agent"] == {"stands in an evaluation set": 1}
    found = {entry["file"]: entry["rows_found"] for entry in dataset.card["held_out"]}
    assert found["clean set.jsonl"] == {}
    assert found["dev set.jsonl"][reason] >= 1
    with pytest.raises(InputError, match=rf"gold.jsonl line 2: 2401.00002 stands in dev set.jsonl \(same {reason}\)"):
        build_dataset(gold_file, agent, held_out=[clean, dev], strict=True, skip_bad=True)


def test_a_paper_leaks_when_a_lesser_row_of_it_does(tmp_path: Path) -> None:
    gold_file = write_jsonl(tmp_path / "gold.jsonl", [gold(1), gold(2, title="")])
    agent = write_jsonl(tmp_path / "agent.jsonl", [record(2, title="A title of the evaluation set")])
    dev = write_jsonl(tmp_path / "dev.jsonl", [{"title": "A Title of the Evaluation Set", "abstract": abstract(9)}])
    assert sources(build_dataset(gold_file, agent, held_out=dev, valid=0)) == {arxiv_id(1): "gold"}


def test_rows_of_failed_annotations_and_empty_rows_are_counted(tmp_path: Path) -> None:
    rows = [
        record(1),
        {**record(2), "status": "error", "moves": dict.fromkeys(MOVES)},
        record(3, status="partial"),
        record(4, {move: [] for move in MOVES}),
        record(5, abstract="Too short."),
        record(6, abstract=abstract(6) + " <|im_end|> is no text."),
    ]
    reasons = {
        "holds marks of a chat template or contract": 1,
        "no abstract, or one too short or too long to annotate": 1,
        "states no move": 1,
        "the annotation failed": 1,
        "the annotation holds only in part": 1,
    }
    for path in (write_jsonl(tmp_path / "agent.jsonl", rows), write_csv(tmp_path / "agent.csv", rows)):
        dataset = build_dataset(None, path, valid=0)
        assert dataset.card["dropped"]["agent"] == reasons
        assert list(sources(dataset)) == [arxiv_id(1)]


def test_the_same_inputs_give_the_same_bytes_and_the_card_has_their_hashes(tmp_path: Path) -> None:
    gold_file = write_jsonl(tmp_path / "gold.jsonl", [gold(n) for n in range(12)])
    agent = write_csv(tmp_path / "agent.csv", [record(n) for n in range(6, 30)])
    dev = write_jsonl(tmp_path / "dev.jsonl", [gold(3)])
    written: list[dict[str, bytes]] = []
    for name in ("one", "two"):
        build_dataset(gold_file, agent, out=tmp_path / name, contract="mark", held_out=[dev], least=2, valid=0.3)
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert sorted(written[0]) == ["card.json", "labels.json", "train.jsonl", "valid.jsonl"]
    card = json.loads(written[0]["card.json"])
    for name, digest in card["files"].items():
        assert digest == f"sha256:{hashlib.sha256(written[0][name]).hexdigest()}"
    for entry, path in zip(card["inputs"], (gold_file, agent), strict=True):
        assert entry["sha256"] == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    lines = {split: written[0][f"{split}.jsonl"].count(b"\n") for split in ("train", "valid")}
    assert card["examples"] == lines
    assert {split: sum(counts.values()) for split, counts in card["papers"].items()} == lines
    assert sum(lines.values()) == 29
    for split in ("train", "valid"):
        assert card["balance"][split]["claim"]["papers_share"] == 1.0
        assert card["balance"][split]["scope"]["papers"] == 0


def test_a_failed_build_leaves_the_last_one_whole(tmp_path: Path) -> None:
    good = write_jsonl(tmp_path / "good.jsonl", [gold(n) for n in range(4)])
    out = tmp_path / "out"
    build_dataset(good, None, out=out, contract="mark", least=1)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    bad = write_jsonl(tmp_path / "bad.jsonl", [gold(1), gold(2, moves={move: [9] for move in MOVES})])
    with pytest.raises(InputError, match=r"bad.jsonl line 2: claim rests on sentence 9 of 5"):
        build_dataset(bad, None, out=out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    build_dataset(good, None, out=out, contract="quote")
    assert not (out / "labels.json").exists()  # it would be that of another data set


def test_a_data_set_without_a_folder_can_be_read_again_and_goes_with_its_object(tmp_path: Path) -> None:
    dataset = build_dataset(write_jsonl(tmp_path / "gold.jsonl", [gold(1), gold(2)]), None)
    assert len(list(dataset)) == len(list(dataset)) == len(dataset) == 2
    folder = dataset.folder
    del dataset
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"contract": "verse"}, "no contract 'verse'"), ({"valid": 1.0}, "--valid 1.0"), ({"limit": 0}, "--limit 0")],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_dataset("gold.jsonl", None, **options)


def test_command_line_writes_shows_and_fails_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gold_file = write_jsonl(tmp_path / "gold.jsonl", [gold(n) for n in range(12)])
    out = tmp_path / "out"
    assert main(["--gold", str(gold_file), "--out", str(out), "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads((out / "card.json").read_text())
    assert "leaks were not looked for" in shown.err
    assert main(["--gold", str(tmp_path / "none.jsonl"), "--out", str(out)]) == 1
    assert "none.jsonl" in capsys.readouterr().err
    assert main(["--out", str(out)]) == 2
    assert main(["--gold", str(gold_file), "--held-out", str(gold_file), "--out", str(out)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error == "error: no paper is left to train on; 12 gold rows: stands in an evaluation set"
