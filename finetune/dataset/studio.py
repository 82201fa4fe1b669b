"""A chat model that writes training data: many requests at once, each answer in the journal, the cost counted."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.errors import MarginaliaError

if TYPE_CHECKING:
    from harness.jobs.journal import Journal
    from harness.jobs.runner import Item
    from harness.models.base import Message, Model, Reply, Request


@dataclass
class Cost:
    """What was asked and what it took."""

    requests: int = 0
    cached: int = 0
    prompt: int = 0
    completion: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    """Requests without a usable answer, by reason."""

    def fail(self, reason: str) -> None:
        """Count one."""
        self.failed[reason] = self.failed.get(reason, 0) + 1

    def line(self, price: Sequence[float] | None) -> str:
        """For people; ``price`` is dollars for a million prompt and completion tokens."""
        said = f"{self.requests} requests: {self.prompt:,} prompt and {self.completion:,} completion tokens"
        if price:
            said += f", ${(self.prompt * price[0] + self.completion * price[1]) / 1e6:.4f}"
        return f"{said}; {self.cached} answers from the journal"


@dataclass
class Studio:
    """A model at work: asks in batches, through the journal."""

    model: Model
    journal: Journal
    workers: int
    seed: int
    console: Any
    kind: str
    """What the journal calls this sort of work."""
    temperature: float
    top_p: float
    cost: Cost = field(default_factory=Cost)

    def ask(self, requests: Sequence[tuple[str, Request]], noun: str) -> list[str | None]:
        """The text of each request's answer (with what names it in the journal), None where there is none."""
        from harness.jobs.journal import key_of
        from harness.jobs.progress import Progress
        from harness.jobs.runner import Item, run_batch

        info = self.model.info
        found: list[str | None] = [None] * len(requests)
        items = [
            Item(
                number,
                key_of(self.kind, name, info.name, info.digest, request.messages, request.options, request.schema),
                request,
            )
            for number, (name, request) in enumerate(requests)
        ]

        def on_done(number: int, outcome: dict[str, Any] | MarginaliaError, cached: bool) -> None:
            progress.advance(failed=not isinstance(outcome, dict), cached=cached)
            if not isinstance(outcome, dict):
                self.cost.fail(outcome.message)
                return
            found[number] = outcome["text"]
            self.cost.cached += cached
            if not cached:
                self.cost.requests += 1
                self.cost.prompt += outcome["prompt_tokens"]
                self.cost.completion += outcome["completion_tokens"]

        with Progress(self.console, len(items), noun) as progress:
            run_batch(items, self._work, journal=self.journal, workers=self.workers, on_done=on_done, kind=self.kind)
        return found

    def _work(self, item: Item, cancel: threading.Event) -> dict[str, Any]:
        from harness.jobs.runner import Cancelled

        reply: Reply = self.model.generate(item.payload, cancel=cancel)
        if reply.finish == "cancelled":
            raise Cancelled
        return {"text": reply.text, "prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}

    def request(self, messages: Sequence[Message], schema: dict[str, Any], tokens: int, number: int) -> Request:
        """One request; its seed is its number's."""
        from harness.models.base import Options, Request

        options = Options(tokens, temperature=self.temperature, top_p=self.top_p, seed=self.seed + number, think=False)
        return Request(messages=tuple(messages), schema=schema, options=options)
