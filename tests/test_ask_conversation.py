"""Follow-up questions: which they are, how they are rewritten, and what a model's rewriting must not do; routing."""

from __future__ import annotations

import json
import threading

import pytest

from harness.errors import ModelError
from harness.models.base import ModelInfo, OnText, Reply, Request
from skills.ask.conversation import Conversation, conversation
from skills.ask.follow_up import TURNS, Turn, carried_over, is_follow_up, rewritten
from skills.ask.routing import needed, route
from skills.ask.terms import Stemmer

STEMMER = Stemmer()
BEFORE = [Turn("Does dropout help small transformers?", "Dropout of 0.1 helped on CIFAR. [1]")]


class Says:
    """A model that says one thing."""

    slots = 1
    info = ModelInfo("says", "ollama", "", 4096)

    def __init__(self, text: str | ModelError) -> None:
        self.text = text
        self.asked: list[Request] = []

    def reserve(self, tokens: int) -> None:
        pass

    def generate(self, request: Request, *, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Reply:
        self.asked.append(request)
        if isinstance(self.text, ModelError):
            raise self.text
        return Reply(self.text, "stop", 1, 1, 0.0)

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("And what about weight decay?", True),
        ("What about larger ones?", True),
        ("Why?", True),
        ("Does it also help large models?", True),
        ("What are their limits?", True),
        ("Is that significant?", True),
        ("Which optimizers were compared on ImageNet?", False),
        ("Do agents that plan ahead fail less often than agents that do not?", False),
        ("Is it possible to train a transformer without warm-up?", False),
    ],
)
def test_which_questions_lean_on_the_one_before(question: str, expected: bool) -> None:
    assert is_follow_up(question, STEMMER) is expected


def test_without_a_model_the_telling_words_are_carried_over() -> None:
    assert rewritten("And weight decay?", BEFORE, STEMMER, None) == "And weight decay? (dropout help small transformers)"
    assert carried_over("Does dropout of small transformers help?", BEFORE, STEMMER).endswith("?")
    assert rewritten("And weight decay?", [], STEMMER, None) == "And weight decay?"


def test_a_models_rewriting_is_taken_where_it_keeps_to_what_was_said() -> None:
    good = Says(json.dumps({"question": "Does weight decay help small transformers?"}))
    assert rewritten("And weight decay?", BEFORE, STEMMER, good) == "Does weight decay help small transformers?"
    assert "Dropout of 0.1" in good.asked[0].messages[1].content


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps({"question": "Does weight decay help small transformers on protein folding?"}),
        json.dumps({"question": "Does dropout help small transformers?"}),
        json.dumps({"question": ""}),
        json.dumps(["no object"]),
        "no JSON",
        ModelError("it broke"),
    ],
)
def test_a_models_rewriting_that_adds_or_loses_words_is_not_taken(reply: str | ModelError) -> None:
    assert rewritten("And weight decay?", BEFORE, STEMMER, Says(reply)).startswith("And weight decay? (")


def test_a_conversation_keeps_the_last_turns_in_the_skills_memory() -> None:
    memory: dict[str, object] = {}
    for number in range(TURNS + 2):
        conversation(memory).add(f"Question {number}?", "", ["/papers"] if number else None)
    kept = conversation(memory)
    assert isinstance(kept, Conversation)
    assert [turn.question for turn in kept.turns] == [f"Question {n}?" for n in range(2, TURNS + 2)]
    assert kept.files == ("/papers",)


@pytest.mark.parametrize(
    ("question", "variant"),
    [
        ("Why does the loss rise?", "q8_0"),
        ("How do the two methods differ?", "q8_0"),
        ("Compare A and B.", "q8_0"),
        ("Which data set was used?", "q4"),
        ("How many papers were read?", "q4"),
        ("Was the whyte paper cited?", "q4"),
    ],
)
def test_questions_that_ask_for_reasoning_want_the_finer_variant(question: str, variant: str) -> None:
    assert needed(question).variant == variant


def test_a_route_is_only_taken_where_the_registry_has_it() -> None:
    assert route("Why?", ["3b-q8_0", "3b-q4_0"]).variant == "q8_0"
    assert route("When?", ["q8_0", "q4_K_M"]).variant == "q4"
    assert route("Why?", ["q4_0"]) == route("Why?", ["q4_0", "latest"])
    assert route("Why?", []).variant == ""
