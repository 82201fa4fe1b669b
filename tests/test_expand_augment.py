"""Training rows made of others and of abstracts: what is copied stays copied, nothing crosses the split, seeds decide."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from expansion_samples import EXAMPLES, example, write_lines

from finetune.dataset import expansion_augment as augment
from finetune.dataset import expansion_split
from finetune.dataset.expansion_abstracts import Paper, Terms, core, definitions, make, phrases
from finetune.dataset.expansion_schema import stem_of
from finetune.rewards.qmd_score import score
from skills.expand.prompt import CONTRACT

TOPICS = tuple(
    tuple(term.strip() for term in line.split(","))
    for line in """
    tidal turbine, blade erosion, sand load, flow channel
    nest box, feeding rate, clutch size, breeding season
    sourdough starter, lactic acid, wild yeast, rise time
    canal lock, gate leakage, barge traffic, water budget
    violin varnish, resin blend, drying crack, maple plate
    night train, berth booking, border delay, coach heating
    peat bog, moss cover, carbon store, drain blocking
    clay oven, dome cracking, fire brick, heat loss
    sheep dog, whistle command, flock stress, gather trial
    paper kite, spar bending, tail drag, wind gust
    stone arch, mortar joint, frost damage, load test
    honey bee, swarm season, brood frame, mite count
    """.strip().splitlines()
)


def papers(count: int = 120) -> list[Paper]:
    """Invented abstracts on a dozen subjects, each with terms of its own and a name."""
    dice, found = random.Random(3), []
    for number in range(count):
        one, two, three, four = TOPICS[number % len(TOPICS)]
        depth = dice.randint(3, 90)
        found.append(
            Paper.of(
                f"Zorbik{number}: {one} and {two} under {three}",
                f"The {one} is known for its {two}, which grows with the {three} of each month in site {depth}. "
                f"We measured {two} against {four} in {depth} harbours and report what the {one} had lost by then. "
                f"A Fast Tide Model (FTM) of the {one} explains most of the {three} near the {four}.",
            )
        )
    return found


def test_terms_go_with_the_words_of_their_subject() -> None:
    terms = Terms.fit(papers())
    assert ("blade", "erosion") in terms.good
    related = terms.related("tidal turbine", 8)
    assert "blade erosion" in related
    assert not {"clutch size", "wild yeast"} & set(related)
    assert not any("tidal" in term for term in related)
    assert terms.related("zebra crossing", 5) == []


def test_examples_of_abstracts_are_sound_and_the_seed_decides() -> None:
    some = papers()
    found = list(make(some, 30, seed=4))
    assert [one.json_line() for one in found] == [one.json_line() for one in make(some, 30, seed=4)]
    assert len(found) >= 20
    said = " ".join(" ".join(paper.sentences) for paper in some)
    for one in found:
        assert {kind for kind, _ in one.output} == {"hyde", "lex", "vec"}
        assert one.texts("hyde")[0][1:] in said
        assert 60 <= len(one.texts("hyde")[0]) <= 200
    good = [score(one.full_query, one.text).percentage for one in found]
    assert sum(good) / len(good) > 85


def test_an_acronym_is_known_with_its_full_form() -> None:
    assert definitions("A Fast Tide Model (FTM) and a Big Cat (XY).") == {"FTM": "Fast Tide Model"}
    assert list(phrases("of the tide")) == []
    assert core("how does FTM handle sand load") == "FTM sand load"


def test_swapped_words_are_swapped_all_through() -> None:
    one = example(
        "Kestrel nest boxes", ("hyde", "A Kestrel needs a box, and kestrels breed in May."), ("lex", "kestrel box size"),
        ("vec", "how large is a box for a Kestrel"),
    )  # fmt: skip
    for seed in range(20):
        other = augment.swapped(one, ["Vormak"], [], random.Random(seed))
        assert other is not None
        if "Kestrel" not in other.query:
            name = other.query.split()[0]
            assert "kestrel" not in other.text.lower()
            assert other.text.lower().count(name.lower()) == one.text.lower().count("kestrel")
            return
    raise AssertionError("the name was never swapped")


def test_nothing_is_swapped_where_no_line_copies() -> None:
    one = example("tea", ("lex", "cup kettle"), ("vec", "how is it brewed in a pot"), ("hyde", "Brew it with hot water."))
    assert augment.swapped(one, [], ["word"], random.Random(1)) is None


def test_passages_end_with_a_sentence_at_two_hundred_characters() -> None:
    sentences = ["The harbour fills twice a day and empties in between, as every sailor of the bay knows well. "] * 4
    one = example(
        "tides", ("hyde", "".join(sentences).strip()), ("lex", "tides harbour"), ("vec", "when does the harbour fill")
    )
    (text,) = augment.trimmed(one).texts("hyde")
    assert len(text) <= 200
    assert text.endswith("knows well.")
    assert augment.trimmed(EXAMPLES[0]).output == EXAMPLES[0].output


def test_one_line_gets_the_phrase() -> None:
    one = example(
        "read tide tables",
        ("lex", "tide tables harbour"),
        ("lex", "tide tables height"),
        ("vec", "how are tide tables read"),
    )
    found = augment.quoted(one, random.Random(1), 1.0).texts("lex")
    assert found == ['"tide tables" harbour', "tide tables height"]
    assert augment.quoted(one, random.Random(1), 0.0) == one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder of prepare_data.py."""
    path = tmp_path / "data"
    path.mkdir()
    for name, some in (("train", EXAMPLES[4:]), ("valid", EXAMPLES[:4])):
        write_lines(path / f"{name}.jsonl", [expansion_split.row(one, intent=True) for one in some])
    (path / "card.json").write_text(json.dumps({"contract": CONTRACT}))
    return path


def test_the_folder_keeps_its_split(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    away = write_lines(tmp_path / "away.jsonl", [{"query": EXAMPLES[5].query}])
    rows = [{"title": p.title, "abstract": " ".join(p.sentences)} for p in papers()]
    abstracts = write_lines(tmp_path / "abstracts.jsonl", rows)
    argv = [str(folder), "--abstracts", str(abstracts), "--held-out", str(away), "--swaps", "2", "--valid", "0.2"]
    assert augment.main([*argv, "-o", str(tmp_path / "one")]) == 0
    assert augment.main([*argv, "-o", str(tmp_path / "two")]) == 0
    one, two = ((tmp_path / name / "train.jsonl").read_bytes() for name in ("one", "two"))
    assert one == two
    train, valid = (augment.read_folder(tmp_path / "one" / f"{name}.jsonl") for name in ("train", "valid"))
    assert not {row.stem for row in train} & {row.stem for row in valid}
    assert stem_of(EXAMPLES[5].query) not in {row.stem for row in train}
    assert {row.source for row in train} == {"invented", "swapped", "abstract"}
    card = json.loads((tmp_path / "one" / "card.json").read_text())
    assert card["rows"] == {"train": len(train), "valid": len(valid)}
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == card["rows"]


def test_what_is_no_folder_is_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "train.jsonl").write_text('{"query": "a"}\n')
    assert augment.main([str(folder), "-o", str(tmp_path / "x")]) != 0
    assert "train.jsonl:1: no row of prepare_data.py" in capsys.readouterr().err
