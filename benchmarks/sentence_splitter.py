"""The sentence splitter beside the usual regular expression, on abstracts whose sentences are known.

    python benchmarks/sentence_splitter.py [--gold FILE] [--runs 3]

An abstract counts as right when all its sentences are those of the gold, white space aside. The gold was split by a
program as well, and where the two differ it is not always the gold that is right: this is agreement, not truth.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path

from annotate_runs import median, span
from common import DATA, read_jsonl, report

from harness.sentences import split

Splitter = Callable[[str], list[str]]
_BREAK = re.compile(r"(?<=[.!?])\s+")


def ours(text: str) -> list[str]:
    """The sentences of the harness's splitter."""
    return [sentence.text for sentence in split(text)]


def plain(text: str) -> list[str]:
    """A sentence ends after a full stop, a question or an exclamation mark that white space follows."""
    return [part for part in _BREAK.split(text.strip()) if part]


def words(sentences: list[str]) -> list[list[str]]:
    """Sentences without the white space inside them."""
    return [sentence.split() for sentence in sentences]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gold", type=Path, default=DATA / "gold" / "moves_train.jsonl")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()

    papers = read_jsonl(args.gold)
    gold = [words(paper["sentences"]) for paper in papers]
    right: dict[str, float] = {}
    speed: dict[str, list[float]] = {}
    splitters: dict[str, Splitter] = {"ours": ours, "plain": plain}
    for _ in range(args.runs):
        for name, splitter in splitters.items():
            started = time.process_time()
            found = [splitter(paper["abstract"]) for paper in papers]
            seconds = time.process_time() - started
            speed.setdefault(name, []).append(sum(map(len, found)) / seconds / 1000)
            right[name] = sum(words(a) == b for a, b in zip(found, gold, strict=True)) / len(papers)
    rows = [
        ["abstracts split as in the gold", f"{right['ours']:.1%}", f"{right['plain']:.1%}"],
        ["thousand sentences a CPU second", span(speed["ours"], 0), span(speed["plain"], 0)],
    ]
    result = {name: {"right": round(right[name], 4), "ksentences_s": round(median(speed[name]))} for name in splitters}
    report(f"sentence splitter, {len(papers)} abstracts", ["", "harness.sentences", "regular expression"], rows, result)


if __name__ == "__main__":
    main()
