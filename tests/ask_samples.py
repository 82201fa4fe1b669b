"""Passages for the tests of written answers: two invented papers, with line breaks and ligatures as PDFs have them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ollama_replies import Body

from harness.sentences import split
from skills.ask.record import Passage

RYE = (
    "We sowed rye on 24 ﬁelds near the coast. Rye grew 12.5% faster than oats on sandy soil (p < 0.05). "
    "The early sow-\ning did not raise the yield of oats. Each field was watered for 3 weeks with 1,200 litres."
)
LOSS = (
    "We train GPT-4 class models for two days. The loss is $L = -\\sum_{i=1}^{n} y_i \\log p_i$, where $p_i$ is the "
    "predicted chance. Training took 5 h on eight cards. With the larger batch the error falls to 3.2 percent."
)


def passage(text: str, n: int = 1, *, file: str = "rye.pdf", title: str = "Rye by the sea", page: int = 4) -> Passage:
    """A passage of whole sentences; the last one stands on the next page."""
    spans = [(one.start, one.end, page) for one in split(text)]
    spans[-1] = (*spans[-1][:2], page + 1)
    return Passage(n, file, title, page, f"p. {page}", f"{title} › Results › p. {page}", text, tuple(spans), 1.0)


def passages() -> list[Passage]:
    """Both papers."""
    return [passage(RYE), passage(LOSS, 2, file="loss.md", title="Losses", page=0)]


def said(*claims: tuple[str, Sequence[tuple[int, str]]], reasoning: str = "It follows.", answered: bool = True) -> str:
    """An ``ask@1`` answer as a model writes it."""
    answer = [{"text": text, "citations": [{"n": n, "quote": quote} for n, quote in cited]} for text, cited in claims]
    return json.dumps({"reasoning": reasoning, "answered": answered, "answer": answer})


class Script:
    """Answers of a loopback Ollama, one after the other, the last one again and again; ``asked`` has the requests."""

    def __init__(self, *answers: str) -> None:
        self._answers = answers
        self.asked: list[Body] = []

    def __call__(self, body: Body) -> Iterator[str]:
        """The next answer in pieces of four characters."""
        answer = self._answers[min(len(self.asked), len(self._answers) - 1)]
        self.asked.append(body)
        yield from (answer[at : at + 4] for at in range(0, len(answer), 4))

    def turns(self, request: int) -> list[dict[str, Any]]:
        """The messages of a request."""
        return list(self.asked[request]["messages"])
