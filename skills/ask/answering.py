"""From a question to its record: look up, judge, write or extract; one question at a time, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.models.base import Delegate
from skills.ask.abstain import CLOSEST, abstained, calibration
from skills.ask.extract import extractive_answer, ranked
from skills.ask.look_up import LookedUp
from skills.ask.record import Answer

if TYPE_CHECKING:
    from harness.models.base import Model, OnText, Reply, Request


class Meter(Delegate):
    """A model that counts what its requests take; safe from several threads."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._lock = threading.Lock()
        self.prompt_tokens = self.completion_tokens = self.largest = 0

    def generate(self, request: Request, *, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Reply:
        """As in ``Model``."""
        reply = super().generate(request, on_text=on_text, cancel=cancel)
        with self._lock:
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens
            self.largest = max(self.largest, reply.prompt_tokens + reply.completion_tokens)
        return reply

    def close(self) -> None:
        """The session closes the model."""


def threshold_for(asked: float | None, with_model: bool) -> float:
    """The evidence that an answer needs: what the user asked for, else the calibrated value.

    A chat model can still say that the passages do not answer: it only spares itself the hopeless questions.
    """
    return asked if asked is not None else float(calibration()["with_model" if with_model else "threshold"])


def answer(
    looked: LookedUp, model: Model | None, *, on_text: OnText | None = None, cancel: threading.Event | None = None
) -> Answer:
    """The answer to a question from what was found: none, written by ``model``, or extractive. Raises ModelError."""
    if not looked.verdict.enough or not any(one.sentences for one in looked.evidence):
        return abstained(looked.question, looked.verdict)
    if model is None:
        found = extractive_answer(looked.question, looked.evidence, looked.terms, looked.focus)
        absent = looked.terms.lacking(stem for one in looked.evidence for stem in (*one.stems, *one.header))
        return replace(found, notes=(f"none of the passages has: {', '.join(absent)}",)) if absent else found
    from skills.ask.answer import write_answer

    return write_answer(model, looked.question, looked.passages, on_text=on_text, cancel=cancel)


def record_of(found: Answer, looked: LookedUp, *, explain: bool = False) -> dict[str, Any]:
    """The record of an answer: the design's, with the places of its sources, and for none the closest passages."""
    record = found.record()
    places = {one.passage.n: one.passage.where for one in looked.evidence}
    for citation in record["citations"]:
        if not citation["page"] and places.get(citation["n"]):
            citation["where"] = places[citation["n"]]
    if found.abstained:
        record["closest"] = closest(looked)
    if explain:
        from harness.search.search import record as hit_record

        verdict = looked.verdict
        record["explain"] = {
            "evidence": round(verdict.probability, 4),
            "threshold": verdict.threshold,
            "measures": {name: round(value, 4) for name, value in verdict.measures.items()},
            "idf": {looked.terms.words[stem]: round(value, 3) for stem, value in looked.terms.idf.items()},
            "notes": list(looked.found.notes),
            "passages": [hit_record(hit, n, True) for n, hit in enumerate(looked.found.hits[: looked.count], 1)],
        }
    return record


def closest(looked: LookedUp) -> list[Mapping[str, Any]]:
    """The passages that come closest, by the sentence of each that has most of the question, for the reader to judge."""
    by_number = {one.passage.n: one.passage for one in looked.evidence}
    found: dict[int, Mapping[str, Any]] = {}
    bearing = [one for one in ranked(looked.question, looked.evidence, looked.terms, looked.focus) if one.parts["own"]]
    for one in sorted(bearing, key=lambda one: -one.parts["own"]):
        passage, sentence = by_number[one.sentence.n], one.sentence
        place = {"n": passage.n, "file": passage.file, "page": sentence.page or None, "quote": sentence.text}
        found.setdefault(passage.n, place if sentence.page or not passage.where else {**place, "where": passage.where})
        if len(found) == CLOSEST:
            break
    return list(found.values())
