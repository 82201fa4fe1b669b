"""/ask with a chat model against /ask without one, on questions whose answer is known to be in the corpus, or not to be.

    python benchmarks/ask_model.py --model FILE.gguf [--each 16]          # or an Ollama tag, or provider/model
    python benchmarks/ask_model.py --replies FOLDER [--each 8]            # replies that were written by hand

Half of the questions of each set are asked over all of it, the other half over all but the papers that answer them.
SciFact's validation claims and the half of PubMedQA that nothing was fitted on. With ``--replies`` every prompt that has no
reply yet is written to the folder as ``NAME.prompt.txt``; put the JSON that a model gives to it beside it as
``NAME.reply.json`` and run the command again: the skill's own path, checks and repair included, then plays them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from ask_cases import Case, Set, judged, pubmedqa, scifact
from common import report

from harness.config import Settings
from harness.errors import ModelError
from harness.models.base import Model, ModelInfo, OnText, Reply, Request
from harness.models.resolve import open_choice, resolve
from harness.search.search import Found
from skills.ask.abstain import judge
from skills.ask.answering import Meter, answer, threshold_for
from skills.ask.look_up import LookedUp
from skills.ask.options import PASSAGES
from skills.ask.record import Answer


class Recorded:
    """A model whose replies lie in a folder; a prompt without one is written there."""

    def __init__(self, folder: Path, name: str) -> None:
        self.info = ModelInfo(name, "remote", "", 32_768)
        self.slots = 1
        self.open: list[Path] = []
        """Prompts that wait for a reply."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def reserve(self, tokens: int) -> None:
        """Nothing to do."""

    def count_tokens(self, text: str) -> int:
        """A safe estimate."""
        return len(text.encode()) // 3 + 1

    def close(self) -> None:
        """Nothing to do."""

    def generate(self, request: Request, *, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Reply:
        """The reply to a prompt; ModelError where there is none yet. It gives no log-probabilities."""
        chat = "\n\n".join(f"=== {message.role}\n{message.content}" for message in request.messages)
        if request.options.top_logprobs:
            return Reply("", "length", 0, 0, 0.0)
        name = hashlib.sha256(chat.encode()).hexdigest()[:12]
        reply = self._folder / f"{name}.reply.json"
        if not reply.exists():
            prompt = self._folder / f"{name}.prompt.txt"
            prompt.write_text(chat, encoding="utf-8")
            self.open.append(prompt)
            raise ModelError(f"no reply to {prompt}")
        text = reply.read_text(encoding="utf-8")
        return Reply(text, "stop", self.count_tokens(chat), self.count_tokens(text), 0.0)


@dataclass
class Tally:
    """What came of the answers to some cases."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    answered: dict[bool, list[bool]] = field(default_factory=lambda: {True: [], False: []})
    """By whether the question can be answered."""
    tried: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    """Those that went to the model."""
    cited: list[bool] = field(default_factory=list)
    """Of the citations of answerable questions, whether the paper is a right one."""
    broken: int = 0
    """Citations of a passage that there is not, or with a quote that it does not have."""
    sentences: int = 0
    unsupported: int = 0
    repaired: int = 0

    def add(self, case: Case, looked: LookedUp, found: Answer, seconds: float) -> None:
        """Count one answer."""
        self.seconds.append(seconds)
        self.tried[case.answerable] += looked.verdict.enough
        self.answered[case.answerable].append(not found.abstained)
        papers = {passage.n: passage for passage in looked.passages}
        for one in found.citations:
            self.broken += one.n not in papers or one.quote not in papers[one.n].text
            if case.answerable:
                self.cited.append(one.n in papers and papers[one.n].where in case.question.gold)
        self.sentences += len(found.citations and found.answer.split("] ")) + len(found.unsupported)
        self.unsupported += len(found.unsupported)
        self.repaired += any("repaired once" in note for note in found.notes)

    def row(self) -> list[Any]:
        """The figures in the order of ``HEADER``."""
        can, cannot = self.answered[True], self.answered[False]
        return [
            f"{sum(can)} of {len(can)}",
            f"{len(cannot) - sum(cannot)} of {len(cannot)}",
            f"{sum(self.cited)} of {len(self.cited)}",
            self.broken,
            f"{self.unsupported} of {self.sentences}",
            self.repaired,
            self.failed,
            f"{median(self.seconds):.1f}" if self.seconds else "",
        ]


HEADER = ["answered of answerable", "abstained of unanswerable", "citations of a right paper", "broken", "unsupported"]
HEADER += ["repaired", "failed", "seconds (median)"]


def chosen(whole: Set, each: int, seed: int, folder: Path, tried: bool) -> list[Case]:
    """``each`` questions with their papers and as many others without; of those only that reach a model, if ``tried``."""
    questions = list(whole.questions)
    random.Random(seed).shuffle(questions)
    can = {question.id for question in questions[::2]}
    cases: dict[bool, list[Case]] = {True: [], False: []}
    for case in judged(replace(whole, questions=tuple(questions)), folder):
        kind = cases[case.answerable]
        wanted = case.answerable == (case.question.id in can) and len(kind) < each
        if wanted and (not tried or looked_up(case, with_model=True).verdict.enough):
            kind.append(case)
        if all(len(kind) == each for kind in cases.values()):
            break
    return [*cases[True], *cases[False]]


def looked_up(case: Case, with_model: bool, passages: int = PASSAGES) -> LookedUp:
    """A case as the skill sees it."""
    verdict = judge(case.evidence, case.terms, threshold_for(None, with_model))
    return LookedUp(case.question.text, Found(()), tuple(case.evidence), case.terms, verdict, passages)


def run(cases: Sequence[Case], model: Model | None, passages: int, shown: bool) -> tuple[Tally, list[dict[str, Any]]]:
    """Ask every case."""
    tally, records = Tally(), []
    for case in cases:
        looked = looked_up(case, model is not None, passages)
        started = time.perf_counter()
        try:
            found = answer(looked, model)
        except ModelError as error:
            tally.failed += 1
            records.append({"id": case.question.id, "question": looked.question, "error": str(error)})
            continue
        seconds = time.perf_counter() - started
        tally.add(case, looked, found, seconds)
        places = [passage.where for passage in looked.passages]
        gold = [n for n, place in enumerate(places, 1) if place in case.question.gold]
        own: dict[str, Any] = {"id": case.question.id, "answerable": case.answerable, "gold": gold}
        own |= {"tried": looked.verdict.enough, "seconds": round(seconds, 1)}
        records.append(own | found.record())
        if shown:
            print(json.dumps(records[-1], ensure_ascii=False), flush=True)
    return tally, records


def models(args: argparse.Namespace, stack: ExitStack) -> Iterator[tuple[str, Model | None]]:
    """No model, then the one that is named."""
    yield "extractive", None
    if args.replies:
        yield args.name, Recorded(args.replies, args.name)
    elif args.model:
        settings = Settings(model=args.model, workers=1, threads=args.threads)
        opened = Meter(open_choice(resolve("ask", settings, allow_general=True), settings))
        stack.callback(opened.model.close)
        yield opened.info.name, opened


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a chat model: an Ollama tag, a .gguf file, provider/model")
    parser.add_argument("--replies", type=Path, metavar="FOLDER", help="replies to the prompts instead of a model")
    parser.add_argument("--name", default="recorded", help="what wrote the replies")
    parser.add_argument("--each", type=int, default=8, help="questions of each set and kind (default 8)")
    parser.add_argument("--tried", action="store_true", help="only questions whose evidence is enough to ask a model")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of questions (default 0)")
    parser.add_argument("--threads", type=int, default=0, help="of the embedded runtime; 0 takes the cores (default)")
    parser.add_argument("--passages", type=int, default=PASSAGES, help=f"that are read (default {PASSAGES})")
    parser.add_argument("--json", type=Path, help="write every answer, one a line")
    args = parser.parse_args()
    rows, result, records = list[list[Any]](), dict[str, Any](), list[str]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sets = [
            (one.name, chosen(one, args.each, args.seed, folder, args.tried))
            for one in (scifact("validation"), pubmedqa(1))
        ]
        for name, model in models(args, stack):
            for title, cases in sets:
                tally, found = run(cases, model, args.passages, model is not None and not args.replies)
                rows.append([title, name, *tally.row()])
                result[f"{title}, {name}"] = dict(zip(HEADER, tally.row(), strict=True))
                records += [json.dumps({"system": name, "set": title, **one}, ensure_ascii=False) for one in found]
            if isinstance(model, Recorded) and model.open:
                print(f"{len(model.open)} prompts in {args.replies} wait for a reply")
    report("ask: a chat model against none", ["set", "system", *HEADER], rows, result)
    if args.json:
        args.json.write_text("\n".join(records) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
