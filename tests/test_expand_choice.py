"""Drafts: what is wrong with one is counted, another is asked for as long as something is, and the best one is served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness.models.base import ModelInfo, Options, Reply, Request
from skills.expand.choice import GOOD_ENOUGH, faults, lost_keywords
from skills.expand.expander import LinesExpander
from skills.expand.expansion import parse_expansion
from skills.expand.filters import filter_lines
from skills.expand.prompt import Query

QUERY = Query("tune GPT-4 adapters")
GOOD = """hyde: Adapters of GPT-4 are tuned on a few thousand examples of the task.
lex: tune GPT-4 adapters rank choice
lex: GPT-4 adapters low-rank training
vec: how are adapters of GPT-4 tuned on few examples
vec: which rank do GPT-4 adapters need for a new task"""


def counted(text: str, query: Query = QUERY) -> int:
    lines, unread = parse_expansion(text)
    return faults(query, filter_lines(query, lines), len(unread))


def test_a_good_answer_has_no_faults() -> None:
    assert counted(GOOD) == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("vec: how are adapters of GPT-4 tuned on few examples\n", ""),
        ("lex: GPT-4 adapters low-rank training", "lex: adapters low-rank training"),
        ("lex: GPT-4 adapters low-rank training", "lex: GPT-4 adapters rank tune"),
        ("on a few thousand examples of the task", "on task after task after task of tasks, task by task"),
        ("lex: GPT-4", "so here are GPT-4"),
        ("which rank do GPT-4 adapters need", "which rank do they need"),
    ],
)
def test_each_fault_counts(old: str, new: str) -> None:
    assert old in GOOD
    assert counted(GOOD.replace(old, new)) > 0


def test_a_lost_keyword_is_no_fault_for_it_is_brought_back() -> None:
    assert counted(GOOD.replace("tune GPT-4 adapters rank", "GPT-4 adapters rank")) == 0


def test_a_lost_type_is_worse_than_a_lost_line() -> None:
    without_lex = "\n".join(line for line in GOOD.split("\n") if not line.startswith("lex"))
    one_lex = GOOD.replace("lex: GPT-4 adapters low-rank training\n", "")
    assert counted(without_lex) > counted(one_lex) > 0


def test_one_type_is_judged_by_itself() -> None:
    lines = "\n".join(line for line in GOOD.split("\n") if line.startswith("lex"))
    assert counted(lines, Query(QUERY.text, only=("lex",))) == 0
    assert counted(lines.split("\n")[0], Query(QUERY.text, only=("lex",))) > 0


def test_lost_keywords_are_named() -> None:
    lines, _ = parse_expansion(GOOD.replace("tune GPT-4 adapters rank", "GPT-4 adapters rank"))
    assert lost_keywords(QUERY, filter_lines(QUERY, lines)) == ["tune"]


class Scripted:
    """A model that answers with one text after the other."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.asked = list(texts), list[Request]()
        self.info: Any = ModelInfo("scripted", "embedded", "", 2048)

    def generate(self, request: Request, **_: Any) -> Reply:
        self.asked.append(request)
        return Reply(self.texts.pop(0), "stop", 1, 1, 0.0)


def expander(texts: Sequence[str], drafts: int) -> tuple[LinesExpander, Scripted]:
    model = Scripted(texts)
    return LinesExpander(model, Options(), drafts), model  # type: ignore[arg-type]


LOOP = "hyde: the the the the\nlex: GPT-4\nvec: tune"


def test_a_good_first_answer_is_the_only_one() -> None:
    tool, model = expander([GOOD], 4)
    assert [str(line) for line in tool.expand(QUERY).lines] == GOOD.split("\n")
    assert len(model.asked) == 1
    assert model.asked[0].options.temperature == 0


def test_another_draft_is_sampled_and_the_best_is_served() -> None:
    tool, model = expander([LOOP, GOOD.replace("vec: which", "xyz: which"), LOOP], 3)
    lines = tool.expand(QUERY).lines
    assert [line.type for line in lines] == ["hyde", "lex", "lex", "vec"]
    assert len(model.asked) == 3
    assert [request.options.seed for request in model.asked] == [0, 1, 2]
    assert [request.options.temperature > 0 for request in model.asked] == [False, True, True]


class BySeed(Scripted):
    """A model whose answer hangs on the seed, not on when it is asked."""

    def generate(self, request: Request, **_: Any) -> Reply:
        self.asked.append(request)
        return Reply(self.texts[request.options.seed], "stop", 1, request.options.seed, 0.0)


@pytest.mark.parametrize("good", [0, 1, 3])
def test_drafts_that_are_begun_together_give_what_they_give_one_by_one(good: int) -> None:
    texts = [LOOP] * 4
    texts[good] = GOOD
    found = [LinesExpander(BySeed(texts), Options(), 4).expand(QUERY, ahead=ahead) for ahead in (1, 2, 4)]  # type: ignore[arg-type]
    assert [str(line) for line in found[0].lines] == GOOD.split("\n")
    assert found[0] == found[1] == found[2]


def test_a_draft_with_two_small_faults_is_good_enough() -> None:
    nearly = GOOD.replace("vec: how are adapters of GPT-4 tuned on few examples\n", "")
    assert 0 < counted(nearly) <= GOOD_ENOUGH
    tool, model = expander([nearly], 4)
    assert tool.expand(QUERY).lines
    assert len(model.asked) == 1


def test_a_keyword_that_every_lex_line_lost_comes_back() -> None:
    tool, model = expander([GOOD.replace("tune GPT-4 adapters rank", "GPT-4 adapters rank"), " epochs batches"], 1)
    lines = [line.text for line in tool.expand(QUERY).lines if line.type == "lex"]
    assert lines[-1] == "tune GPT-4 adapters epochs batches"
    assert (model.asked[1].prompt or "").endswith("\nlex: tune GPT-4 adapters")
