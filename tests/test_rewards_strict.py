"""The strict reward: honest expansions beat every adversary, and training is refused on a reward that can be gamed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from expansion_samples import gold

from finetune.rewards import guard
from finetune.rewards.adversaries import ADVERSARIES, Gold
from finetune.rewards.background import UNKNOWN, Background
from finetune.rewards.guard import Spread, assert_no_adversary_beats_gold, face_adversaries
from finetune.rewards.qmd import score_expansion
from finetune.rewards.strict import StrictReward
from finetune.rewards.words import content_stems, stem
from harness.errors import InputError

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "expansion" / "qmd.jsonl"
GOLD = gold()
REWARD = StrictReward(Background.fit(GOLD))
ASKED = ("fixed template", "empty", "echo", "shuffled", "keyword stuffing", "repetition")


def of_type(kind: str) -> list[Gold]:
    """The gold rows, asked for one type."""
    rows = [(one.query, tuple(line for line in one.lines if line[0] == kind)) for one in GOLD]
    return [Gold(f"{query} /only:{kind}", lines) for query, lines in rows]


# ---- adversaries ----


@pytest.mark.parametrize("name", ADVERSARIES)
def test_every_adversary_stays_below_the_worst_decile_of_gold(name: str) -> None:
    report = face_adversaries(REWARD, GOLD)
    assert report.gold.low > 0.6
    assert report.adversaries[name].mean < report.gold.low
    assert report.adversaries[name].mean < 0.4


@pytest.mark.parametrize("name", ASKED)
def test_the_plain_adversaries_stay_there_on_queries_that_the_background_does_not_know(name: str) -> None:
    report = face_adversaries(StrictReward(Background.fit(GOLD[::2])), GOLD)
    assert report.gold.low > 0.5
    assert report.adversaries[name].mean < report.gold.low


@pytest.mark.parametrize("kind", ["lex", "vec", "hyde"])
def test_so_it_is_where_one_type_is_asked_for(kind: str) -> None:
    rows = of_type(kind)
    report = assert_no_adversary_beats_gold(StrictReward(Background.fit(rows)), rows)
    assert report.gold.low > 0.3


@pytest.mark.parametrize("name", ADVERSARIES)
@pytest.mark.parametrize("query", ["KLM", "the", "C++ C++", "?", "a b /only:vec"])
def test_adversaries_and_reward_take_odd_queries(name: str, query: str) -> None:
    odd = Gold(query, (("lex", "x"), ("vec", "y")))
    assert 0 <= REWARD(query, ADVERSARIES[name](odd, [odd, GOLD[0]], random.Random(0))) <= 1


def test_on_the_real_data_each_adversary_stays_below_the_worst_decile() -> None:
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there")
    from finetune.dataset.expansion_clean import clean
    from finetune.dataset.expansion_schema import load_examples
    from finetune.dataset.score_data import background_of, gold_of

    examples = clean(load_examples([DATA])).kept
    reward, rows = StrictReward(background_of(examples)), [gold_of(example) for example in examples]
    report = assert_no_adversary_beats_gold(reward, rows, most=100)
    assert report.gold.low > 0.35
    for name in ASKED:
        assert report.adversaries[name].high < report.gold.low


# ---- the guard ----


def test_training_is_refused_on_the_published_rubric() -> None:
    # Most passages of QMD's own gold are longer than its rubric likes, as these are.
    more = " All of this is told at length, with figures and tables, in the chapter that follows the introduction."
    rows = [Gold(query, (("hyde", lines[0][1] + more), *lines[1:])) for query, lines in GOLD]
    with pytest.raises(InputError, match=r"can be gamed: gold's worst decile gets 0\.\d+, and so does .*template"):
        assert_no_adversary_beats_gold(score_expansion, rows)
    assert not face_adversaries(StrictReward(Background.fit(rows)), rows).winners


def test_training_is_refused_where_a_single_adversary_wins() -> None:
    def fond_of_nothing(query: str, text: str) -> float:
        return REWARD(query, text) if text.strip("\n:lexvchyd") else 0.9

    with pytest.raises(InputError, match=r"so does empty \(0\.\d+\); train on"):
        assert_no_adversary_beats_gold(fond_of_nothing, GOLD)


def test_a_constant_reward_is_refused() -> None:
    assert len(face_adversaries(lambda query, text: 0.5, GOLD).winners) == len(ADVERSARIES)


def test_the_report_is_the_same_for_the_same_seed_and_samples_large_gold() -> None:
    first, second = (face_adversaries(REWARD, GOLD * 3, most=30, seed=4) for _ in range(2))
    assert first == second != face_adversaries(REWARD, GOLD * 3, most=30, seed=5)
    calls: list[str] = []
    face_adversaries(lambda query, text: float(len(calls.append(text) or "")), GOLD * 3, most=30, adversaries={})  # type: ignore[func-returns-value]
    assert len(calls) == 30


def test_too_little_gold_says_nothing() -> None:
    with pytest.raises(InputError, match="19 gold expansions are too few"):
        face_adversaries(REWARD, GOLD[: guard.LEAST_GOLD - 1])


def test_spread_takes_the_nearest_rank() -> None:
    assert Spread.of([float(n) for n in range(11)]) == (5.0, 1.0, 5.0, 9.0)
    assert Spread.of([2.0]) == (2.0, 2.0, 2.0, 2.0)


def test_the_report_has_a_line_for_each() -> None:
    lines = face_adversaries(REWARD, GOLD).table().splitlines()
    assert [line[:24].strip() for line in lines] == ["", "gold", *ADVERSARIES]


# ---- the factors, one by one ----

ONE = GOLD[0]


def changed(*pairs: tuple[str, str]) -> str:
    """The first gold row with parts of its text replaced."""
    text = ONE.text
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def test_gold_loses_next_to_nothing() -> None:
    assert REWARD(ONE.query, ONE.text) > 0.85


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lex: sourdough starter acetone",
        "vec: why does a sourdough starter smell of acetone",
        f"Here it is:\n{ONE.text}",
        f"<think>yeast</think>\n{ONE.text}",
        f"<think>yeast\n{ONE.text}",
        f"{ONE.text}<|im_start|>user",
        ONE.text.replace("lex:", "LEX:"),
    ],
)
def test_what_breaks_the_form_gets_nothing(text: str) -> None:
    assert REWARD(ONE.query, text) == 0


def test_the_end_of_the_turn_is_no_fault() -> None:
    assert REWARD(ONE.query, f"{ONE.text}<|im_end|>\n") == REWARD(ONE.query, ONE.text)


def test_a_type_that_was_not_asked_for_gets_nothing() -> None:
    lex = "lex: starter acetone smell feeding\nlex: sourdough hooch dark liquid yeast"
    assert REWARD(f"{ONE.query} /only:lex", lex) > 0.7
    assert REWARD(f"{ONE.query} /only:lex", f"{lex}\nvec: why does it smell") == 0
    assert REWARD(f"{ONE.query} /only:hyde", lex) == 0


def test_each_fault_costs_its_factor() -> None:
    whole = REWARD.factors(ONE.query, ONE.text)
    faults = {
        "form": changed(("lex: starter acetone smell feeding", "lex: " + "starter acetone smell feeding " * 4)),
        "anchor": changed(("starter acetone smell feeding", "acetone feeding"), ("sourdough hooch", "hooch")),
        "news": changed(("starter acetone smell feeding", "starter smells"), ("hooch dark liquid yeast", "starter smell")),
        "agree": changed(("acetone smell feeding", "smells barometer"), ("hooch dark liquid yeast", "pendulum glacier")),
        "variety": changed(("sourdough hooch dark liquid yeast", "starter acetone smell feeding")),
    }
    for name, text in faults.items():
        assert getattr(REWARD.factors(ONE.query, text), name) < getattr(whole, name), name


def test_words_of_another_subject_cost_support_most_of_all_for_a_known_query() -> None:
    text = ADVERSARIES["template of rare words"](ONE, GOLD, random.Random(0))
    known, new = (StrictReward(Background.fit(rows)).factors(ONE.query, text) for rows in (GOLD, GOLD[1:]))
    assert known.support < 0.1 < new.support


def test_a_name_that_no_lex_line_keeps_costs_half() -> None:
    query = "why does KLM smell sourdough starter"
    kept = REWARD.factors(query, changed(("lex: starter acetone", "lex: KLM starter acetone"))).anchor
    assert REWARD.factors(query, ONE.text).anchor == kept / 2


def test_the_query_may_be_written_in_other_forms() -> None:
    assert REWARD.factors("smelling sourdough starters", ONE.text).anchor == 1
    assert REWARD("smelling sourdough starters", ONE.text) == REWARD(ONE.query, ONE.text)


def test_the_reward_depends_on_nothing_but_its_arguments() -> None:
    again = StrictReward(Background.fit(gold()))
    assert [again(one.query, one.text) for one in reversed(GOLD)] == [REWARD(one.query, one.text) for one in reversed(GOLD)]


# ---- the background ----


def test_weight_falls_with_the_share_of_rows() -> None:
    rows = [
        (f"query{n}", [("lex", f"rare{n} common" + (" seldom" if n < 2 else "") + (" often" if n < 3 else ""))])
        for n in range(100)
    ]
    background = Background.fit(rows)
    weights = [background.weight(word) for word in ("rare5", "seldom", "often", "common")]
    assert weights[0] == weights[1] == 1
    assert 0 < weights[2] < 1
    assert weights[3] == 0
    assert background.weight("never") == UNKNOWN


def test_support_is_the_share_that_goes_with_the_query() -> None:
    background = Background.fit([(f"topic{n}", [("lex", f"friend{n} shared")]) for n in range(30)])
    assert background.support({"topic3"}, {"friend3", "friend4"}) == 0.5
    assert background.support({"topic3"}, {"shared"}) == 0
    assert background.support({"unheard"}, {"friend3"}) is None
    assert background.support({"topic3"}, set()) is None


def test_a_background_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Background.fit([])


def test_stems_join_forms_and_keep_words_apart() -> None:
    assert len({stem(word) for word in ("optimize", "optimizing", "optimization", "optimized")}) == 1
    assert len({stem(word) for word in ("run", "runs", "running")}) == 1
    assert len({stem(word) for word in ("port", "part", "c", "c++", "c#", "java", "javascript")}) == 7
    assert content_stems("How to use the C++ compiler's errors") == [stem(word) for word in ("c++", "compilers", "error")]
