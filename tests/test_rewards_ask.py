"""The reward of answers: what it takes off for which fault, its adversaries, and GRPO of a tiny model on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from finetune.dataset.qa_rows import Pair, write_chat
from finetune.grpo import config as configs
from finetune.rewards.ask import Ask, Gold, in_form, read_turn, user_turn
from finetune.rewards.ask_adversaries import ADVERSARIES
from finetune.rewards.guard import face_adversaries
from harness.errors import InputError, UsageError
from skills.ask.prompt import CONTRACT

SMALL = ["eval_prompts=1", "prompts=1", "generations=2", "save_steps=2"]
CONFIGS = Path(__file__).resolve().parent.parent / "finetune" / "configs"
_CROPS = "rye oats barley wheat millet maize spelt sorghum rice teff".split()
_TOWNS = "Brent Selby Hexham Alnwick Ripon Thirsk Malton Whitby Redcar Yarm".split()


def pairs() -> list[Pair]:
    """Two questions that its paper answers and one that it does not, of each of ten invented papers."""
    found = []
    for place, (crop, town) in enumerate(zip(_CROPS, _TOWNS, strict=True)):
        grew = f"An early harvest raised the yield of {crop} near {town} by {11 + place} kg."
        cause = f"The loss of {crop} to mould was halved because the barns of {town} were aired at night."
        more = f"Straw was not weighed. The summer in {town} was dry. Two farms left the trial in its second year."
        rows = (
            (f"How much did an early harvest raise the yield of {crop}?", f"The trial of {town} measured {crop}.", grew),
            (f"Why did less {crop} rot?", f"The passage on storage says why {crop} was lost less.", cause),
            (f"Which robots weeded {crop} in winter?", "No passage names any robots.", ""),
        )
        for number, (question, reasoning, answer) in enumerate(rows):
            contexts = (f"We watched {crop} for a year. {answer} {more}",) if answer else ()
            title, name = f"{crop.title()} in {town}", f"{crop}-{number}"
            found.append(Pair(name, question, reasoning, answer, contexts, crop, title, answered=bool(answer)))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as qasa.py --chat writes it."""
    place = tmp_path_factory.mktemp("ask") / "data"
    place.mkdir()
    write_chat(place, pairs(), valid=0.1, seed=1, facts={})
    return place


@pytest.fixture(scope="module")
def gold(folder: Path) -> list[Gold]:
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    return [Gold(user_turn(row), row["completion"]) for row in rows]


@pytest.fixture(scope="module")
def reward(gold: Sequence[Gold]) -> Ask:
    return Ask(gold)


def one_with(gold: Sequence[Gold], *, answered: bool) -> Gold:
    return next(one for one in gold if one.draft.answered == answered)


def test_good_answers_get_all_of_it(gold: list[Gold], reward: Ask) -> None:
    assert {round(reward(one.query, one.text), 6) for one in gold} == {1.0}
    question, passages = read_turn(gold[0].query)
    assert question.endswith("?")
    assert [one.n for one in passages] == list(range(1, len(passages) + 1))


def test_every_adversary_stays_below_the_worst_decile_of_gold(gold: list[Gold], reward: Ask) -> None:
    report = face_adversaries(reward, cast(Any, gold), adversaries=cast(Any, ADVERSARIES))
    assert report.winners == []
    worst = {name: spread.mean for name, spread in report.adversaries.items() if spread.mean > 0.4}
    assert worst == {}
    for name in ("empty", "without marks", "marks of no passage", "made-up quotes", "without reasoning", "plain text"):
        assert report.adversaries[name].mean == 0
    share = sum(not one.draft.answered for one in gold) / len(gold)
    assert report.adversaries["always abstaining"].mean == pytest.approx(share)


def changed(one: Gold, **values: Any) -> str:
    return json.dumps({**json.loads(one.text), **values}, ensure_ascii=False)


def test_each_fault_costs(gold: list[Gold], reward: Ask) -> None:
    one = one_with(gold, answered=True)
    claim = json.loads(one.text)["answer"][0]
    other = {**claim, "text": claim["text"].replace("raised", "did not raise").replace("was halved", "was not halved")}
    assert reward(one.query, changed(one, answer=[other])) == 0
    both = changed(one, answer=[claim, {**claim, "citations": [{"n": 9, "quote": "no such words stand anywhere"}]}])
    assert reward.parts(one.query, both)["sound"] == 0.5
    assert reward(one.query, changed(one, reasoning="A survey of 913 farms in Peru says so.")) == 0.5
    assert reward(one.query, changed(one, reasoning="Cats sleep in warm boxes all day.")) == 0.5
    assert reward(one.query, changed(one, answered=False, answer=[])) == 0
    none = one_with(gold, answered=False)
    assert reward(none.query, changed(none, answered=True, answer=[claim])) == 0


@pytest.mark.parametrize(
    "text",
    [
        "Rye grew. ##### Rye.",
        '```json\n{"reasoning": "It says so here.", "answered": false, "answer": []}\n```',
        '{"answered": false, "answer": [], "reasoning": "It says so here."}',
        '{"reasoning": "It says so here.", "answered": true, "answer": []}',
        '{"reasoning": "It says so here.", "answered": false, "answer": [], "more": 1}',
        '{"reasoning": "It says so here.", "answered": true, "answer": ["Rye."]}',
        '{"reasoning": "It says so here.", "answered": true, "answer": [{"text": "Rye.", "citations": []}]}',
        '{"reasoning": "So.", "answered": false, "answer": []}',
        "[" * 100_000,
    ],
)
def test_what_is_not_exactly_the_contracts_object_gets_nothing(text: str) -> None:
    assert in_form(text) is None


# ---- the run ----


def test_the_configuration_has_the_reports_figures() -> None:
    config = configs.load(CONFIGS / "research-qa-grpo.yaml")
    assert (config.lora_r, config.learning_rate, config.steps) == (64, 5e-6, 200)
    assert config.prompts * config.generations == 64
    assert config.completion_tokens == 1024
    assert (config.rewards, config.contract) == (("ask",), CONTRACT)
    with pytest.raises(UsageError, match="ask judges answers"):
        configs.load(CONFIGS / "research-qa-grpo.yaml", ["rewards=ask,strict"])


def test_the_task_asks_what_its_rows_ask(folder: Path, gold: list[Gold], tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the finetune extra")
    from finetune.grpo.rewards import read_task

    place = tmp_path / "data"
    shutil.copytree(folder, place)
    rows = [json.loads(line) for line in (place / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    wrong = next(at for at, one in enumerate(gold) if "An early harvest raised" in one.text)
    answer = json.loads(rows[wrong]["completion"])
    answer["answer"][0]["text"] = answer["answer"][0]["text"].replace(" kg", "0 kg")
    rows[wrong]["completion"] = json.dumps(answer)
    (place / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = read_task(configs.load(CONFIGS / "research-qa-grpo.yaml", [f"data={place}"]))
    good = [one for at, one in enumerate(gold) if at != wrong]  # what the checks refuse is not asked
    assert [one.query for one in task.train] == [one.query for one in good]
    assert all(isinstance(one.prompt, tuple) and one.prompt[0]["role"] == "system" for one in task.train)
    assert set(task.guard.adversaries) == set(ADVERSARIES)
    assert task.parts["ask"](good[0].query, good[0].text) == 1


def test_a_tiny_model_takes_a_step_on_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft", reason="needs the finetune extra")
    some = {"empty": ADVERSARIES["empty"]}  # all of them are faced above
    monkeypatch.setattr("finetune.rewards.ask_adversaries.ADVERSARIES", some)
    from sft_helpers import make_base

    from finetune.grpo import run as runs
    from finetune.sft.run import Run
    from harness.console import stderr_console

    make_base(tmp_path / "base")
    places = [f"base={tmp_path / 'base'}", f"data={folder}", f"out={tmp_path / 'out'}", "rewards=ask", "steps=1"]
    config = configs.load(CONFIGS / "smoke-qmd-grpo.yaml", [*places, "prompt_tokens=4000", "tuning=lora", *SMALL])
    runs.grpo(config, Run(offline=True), stderr_console())
    entries = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [entry["ask"] for entry in entries if "kl" in entry] == [0]  # noise is no answer
    assert "eval_ask" in entries[0]
    with pytest.raises(InputError, match="its rows are of ask@1"):
        runs.dry_run(configs.load(CONFIGS / "smoke-qmd-grpo.yaml", [*places[:3]]))
